"""What the commands that train a network share: checks of their counts, and the training itself."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mvtokenflow.base.terminal import print_json, print_message, progress

if TYPE_CHECKING:
    from mvtokenflow.small.training.sittings import PriorRun


def check_counts(
    dtype: str,
    device: str,
    processes: int,
    workers: int,
    evaluate_every: int,
    samples: int,
    cooldown: int | None,
) -> None:
    """Check the numbers that trainings share.

    Raises:
        ConfigError: one out of range, or several processes on a GPU.
    """
    from mvtokenflow.base.errors import ConfigError

    if dtype not in ("float32", "bfloat16"):
        raise ConfigError(f"--dtype {dtype}: choose float32 or bfloat16")
    if min(processes, samples, 1 if cooldown is None else cooldown) < 1 or min(workers, evaluate_every) < 0:
        raise ConfigError(
            "--processes, --samples and --cooldown must be at least 1, "
            "--workers and --evaluate-every at least 0"
        )
    if processes > 1 and device != "cpu":
        raise ConfigError("--processes: several processes share the work on a CPU only; leave it out on a GPU")


def trained(
    run: "PriorRun", processes: int, unit: str, as_json: bool, settings: Mapping[str, Any] | None = None
) -> None:
    """Train, or go on, and print how far it is.

    Args:
        unit: what samples are, in the plural, for the message.
        settings: more for the JSON document.
    """
    from mvtokenflow.small.training import sittings

    with progress() as report:
        trainer = sittings.train_prior(run, processes, report)
    state = trainer.state
    if as_json:
        last = state.curve[-1] if state.curve else {}
        print_json({"samples": state.samples, "last": last, **(settings or {})})
    done = sittings.is_done(run, trainer)
    print_message(f"{state.samples} {unit}; {'done' if done else 'run again to go on'}; wrote {run.weights}")
