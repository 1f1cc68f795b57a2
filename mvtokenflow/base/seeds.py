"""The range of seeds that runs accept."""

from mvtokenflow.base.errors import ConfigError

MAX_SEED = 2**62  # parts of a run use about twice the seed, and generators accept less than 2**64


def check_seed(seed: int) -> None:
    """Check that all generators of a run accept a seed; raise a ConfigError if not."""
    if not 0 <= seed <= MAX_SEED:
        raise ConfigError(f"the seed is {seed}; choose a whole number from 0 to {MAX_SEED} (2**62)")
