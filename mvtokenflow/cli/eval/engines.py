"""Options that name a cluster, and the engine that they stand for."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mvtokenflow.base.errors import ConfigError

if TYPE_CHECKING:
    from mvtokenflow.eval.engine.engine import Engine, Function, Placement

_PANEL = "Clusters (docs/clusters.md)"
ENGINES = ("local", "slurm", "ray")
_TIME = re.compile(r"(?:(\d{1,4})d)?(?:(\d{1,5})h)?(?:(\d{1,6})m)?", re.ASCII)
_OF_SLURM = ("partition", "time_limit", "slurm", "setup", "detach")

EngineName = Annotated[
    str, typer.Option("--engine", help="local, slurm or ray: where rows are made.", rich_help_panel=_PANEL)
]
Partition = Annotated[
    str | None, typer.Option(help="SLURM: partition, its default if not given.", rich_help_panel=_PANEL)
]
Gpus = Annotated[
    int,
    typer.Option(
        "--gpus-per-task", min=0, help="Of a scene and seed; 0 computes on CPUs.", rich_help_panel=_PANEL
    ),
]
Cpus = Annotated[
    int, typer.Option("--cpus-per-task", min=1, help="Of a scene and seed.", rich_help_panel=_PANEL)
]
TimeLimit = Annotated[
    str | None,
    typer.Option(
        help="SLURM: after which a task is ended, 90m, 3h or 1d12h; the partition's limit if not given.",
        rich_help_panel=_PANEL,
    ),
]
AtOnce = Annotated[
    int | None,
    typer.Option("--at-once", min=1, help="Tasks that run at once, at most.", rich_help_panel=_PANEL),
]
Sbatch = Annotated[
    list[str] | None,
    typer.Option(
        "--slurm",
        metavar="NAME=VALUE",
        help="A further option of sbatch, such as account=vision.",
        rich_help_panel=_PANEL,
    ),
]
SetupLines = Annotated[
    list[str] | None,
    typer.Option("--setup", help="SLURM: a shell command before each task.", rich_help_panel=_PANEL),
]
Address = Annotated[
    str | None, typer.Option(metavar="HOST:PORT", help="Ray: the head of the cluster.", rich_help_panel=_PANEL)
]
Trust = Annotated[
    bool,
    typer.Option("--trust-network", help="Ray: use a cluster that has no token.", rich_help_panel=_PANEL),
]
Detach = Annotated[
    bool,
    typer.Option(
        "--detach",
        help="SLURM: submit and exit; the same command later waits and prints.",
        rich_help_panel=_PANEL,
    ),
]


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """The options of a cluster."""

    engine: EngineName = "local"
    partition: Partition = None
    gpus_per_task: Gpus = 0
    cpus_per_task: Cpus = 1
    time_limit: TimeLimit = None
    at_once: AtOnce = None
    slurm: Sbatch = None
    setup: SetupLines = None
    address: Address = None
    trust_network: Trust = False
    detach: Detach = False

    def check_engine(self, shard: str) -> None:
        """Refuse options that do not go together.

        Raises:
            ConfigError: no such engine, an option of another one, or a malformed one.
        """
        from mvtokenflow.base.files import choose

        choose("engine", self.engine, dict.fromkeys(ENGINES))
        defaults = EngineOptions()
        given = [name for name in vars(defaults) if getattr(self, name) != getattr(defaults, name)]
        others = {"slurm": ("address", "trust_network"), "ray": _OF_SLURM}
        wrong = [name for name in given if name != "engine"] if self.engine == "local" else []
        wrong = wrong or [name for name in given if name in others.get(self.engine, ())]
        if wrong:
            raise ConfigError(f"--{wrong[0].replace('_', '-')} is no option of --engine {self.engine}")
        if self.engine != "local" and shard != "0/1":
            raise ConfigError(
                f"--shard {shard}: --engine {self.engine} divides the work itself; leave out --shard"
            )
        if self.engine == "ray" and self.address is None:
            raise ConfigError("--engine ray needs --address HOST:PORT of the head of a Ray cluster")
        minutes(self.time_limit)
        sbatch_options(self.slurm)

    def placement(self) -> "Placement":
        """Return what a task needs of a node."""
        from mvtokenflow.eval.engine.engine import Placement

        return Placement(
            gpus_per_task=self.gpus_per_task,
            cpus_per_task=self.cpus_per_task,
            minutes=minutes(self.time_limit),
            partition=self.partition,
            at_once=self.at_once,
            sbatch=sbatch_options(self.slurm),
            setup=tuple(self.setup or ()),
        )

    def start(self, runs: Path, function: "Function | None" = None) -> "Engine":
        """Connect to the cluster, for rows in a folder of runs.

        Args:
            function: runs a task; None is `tasks.worker.perform`.

        Raises:
            ConfigError: it is not there, or what it needs is not installed.
        """
        from mvtokenflow.eval.tasks.delivery import tasks_folder
        from mvtokenflow.eval.tasks.worker import perform

        if self.engine == "slurm":
            from mvtokenflow.eval.engine.slurm import Slurm

            return Slurm(tasks_folder(runs), function or perform, self.placement())
        from mvtokenflow.eval.engine.ray import Ray

        assert self.address is not None  # checked
        return Ray(tasks_folder(runs), function or perform, self.placement(), self.address, self.trust_network)


def minutes(text: str | None) -> int | None:
    """Parse a time such as 90m, 3h or 1d12h; None for None.

    Raises:
        ConfigError: malformed, or no time at all.
    """
    if text is None:
        return None
    found = _TIME.fullmatch(text)
    total = (
        sum(int(part or 0) * each for part, each in zip(found.groups(), (1440, 60, 1), strict=True))
        if found
        else 0
    )
    if not total:
        raise ConfigError(f"--time-limit {text}: write a time as 90m, 3h or 1d12h")
    return total


def sbatch_options(pairs: Sequence[str] | None) -> dict[str, str]:
    """Parse `--slurm NAME=VALUE` options.

    Raises:
        ConfigError: malformed.
    """
    found = {}
    for pair in pairs or ():
        name, separator, value = pair.partition("=")
        name = name.removeprefix("--")
        if not (separator and value and re.fullmatch(r"[a-z][a-z-]*", name)):
            raise ConfigError(f"--slurm {pair}: write NAME=VALUE as for sbatch, for example account=vision")
        found[name] = value
    return found
