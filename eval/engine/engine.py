"""Defines what an engine of a cluster offers: tasks in, files out, and which tasks it still has.

A task is text. What its function yields on a node, files with names, arrives in one folder of the machine that
the command runs on, as `<key of the task>.<name>`, each by one rename. An engine repeats nothing by itself.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

# Runs a task on a node: its text, and the files it was given by name; yields names and files.
Function = Callable[[str, Mapping[str, bytes]], Iterator[tuple[str, Path]]]


@dataclass(frozen=True, kw_only=True)
class Placement:
    """What a task needs of a node, and how many tasks run at once.

    Attributes:
        gpus_per_task, cpus_per_task: counts.
        minutes: after which a task is ended; None for the cluster's own limit.
        partition: of a SLURM cluster; None for its default.
        at_once: tasks that may run at the same time; None for as many as there is room for.
        sbatch: further options of sbatch by name, without their dashes.
        setup: shell commands before a task.
    """

    gpus_per_task: int = 0
    cpus_per_task: int = 1
    minutes: int | None = None
    partition: str | None = None
    at_once: int | None = None
    sbatch: Mapping[str, str] = field(default_factory=dict)
    setup: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Work:
    """A task: its text, and files that nodes without the command's folders need, by name."""

    words: str
    given: Mapping[str, Callable[[], bytes]] = field(default_factory=dict)


class Engine(Protocol):
    """A cluster.

    Attributes:
        name: of the engine.
        arrived: folder in which files appear.
        pause_s: seconds between two looks at the tasks.
    """

    @property
    def name(self) -> str: ...

    @property
    def arrived(self) -> Path: ...

    @property
    def pause_s(self) -> float: ...

    def submit(self, works: Mapping[str, Work], avoid: frozenset[str] = frozenset()) -> None:
        """Submit tasks by key, away from the nodes named in `avoid` where the engine can choose.

        Raises:
            ConfigError: the cluster refuses them; nothing was submitted.
        """
        ...

    def held(self) -> Mapping[str, str]:
        """Return the text by key of tasks that an earlier process submitted and that are not over."""
        ...

    def alive(self) -> Mapping[str, str]:
        """Return the tasks that are not over, by key: the node one runs on, "" of one that waits."""
        ...

    def ended(self, keys: Collection[str]) -> None:
        """Note that tasks are over, so that nobody waits for them again."""
        ...

    def ids(self) -> list[str]:
        """Return the cluster's own names of what was submitted."""
        ...

    def log(self, key: str) -> str:
        """Return a clause on the log of a task, or on what is known of its end; "" if there is nothing."""
        ...

    def unseen(self, key: str) -> bool:
        """Return whether a task that is over ran on a node that does not see the command's folder."""
        ...

    def close(self) -> None:
        """Leave the cluster; tasks that outlive the command go on."""
        ...

    def cancel(self, keys: Collection[str]) -> None:
        """End tasks."""
        ...
