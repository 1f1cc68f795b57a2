"""An engine for tests, which runs tasks in this process."""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from mvtokenflow.base.files import write_bytes
from mvtokenflow.eval.engine.engine import Function, Work
from mvtokenflow.eval.tasks.task import Task
from mvtokenflow.eval.tasks.worker import perform


class InTurn:
    """An engine that runs a task in this process when it is asked what is alive.

    `faults` by place in the order of submission: "lost" leaves nothing, "late" loses the end of a task,
    "interrupt" is the user's while the task runs.
    """

    name = "ray"
    pause_s = 0.0

    def __init__(
        self,
        folder: Path,
        faults: Mapping[int, str] | None = None,
        function: Function = perform,
        parse: Callable[[str], Any] = Task.from_json,
    ) -> None:
        self.arrived = folder / "arrived"
        self.arrived.mkdir(parents=True)
        self.faults = dict(faults or {})
        self.function, self.parse = function, parse
        self.waiting: dict[str, Work] = {}
        self.submitted: list[Any] = []
        self.cancelled: list[str] = []
        self.carried: dict[str, str] = {}

    def held(self) -> Mapping[str, str]:
        return self.carried

    def submit(self, works: Mapping[str, Work], avoid: frozenset[str] = frozenset()) -> None:
        self.waiting |= works
        self.submitted += [self.parse(work.words) for work in works.values()]

    def alive(self) -> Mapping[str, str]:
        if self.waiting:
            key = next(iter(self.waiting))
            work = self.waiting.pop(key)
            fault = self.faults.get(len(self.submitted) - len(self.waiting) - 1, "")
            for name, file in self.function(work.words, {name: read() for name, read in work.given.items()}):
                if fault == "lost" or (fault and name == "end.json"):
                    break
                write_bytes(self.arrived / f"{key}.{name}", file.read_bytes())
            if fault == "interrupt":
                raise KeyboardInterrupt
        return dict.fromkeys(self.waiting, "")

    def ended(self, keys: Collection[str]) -> None: ...

    def ids(self) -> list[str]:
        return []

    def log(self, key: str) -> str:
        return f"its log: /logs/{key}"

    def unseen(self, key: str) -> bool:
        return False

    def close(self) -> None: ...

    def cancel(self, keys: Collection[str]) -> None:
        self.cancelled += list(keys)
