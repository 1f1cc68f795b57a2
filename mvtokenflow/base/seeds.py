"""The seeds that runs take."""

from mvtokenflow.base.errors import ConfigError

MAX_SEED = 2**62  # parts of a run draw from about twice the seed, and generators end at 2**64


def check_seed(seed: int) -> None:
    """Refuse (ConfigError) a seed that some generator of a run would not take."""
    if not 0 <= seed <= MAX_SEED:
        raise ConfigError(f"the seed is {seed}; choose a whole number from 0 to {MAX_SEED} (2**62)")
