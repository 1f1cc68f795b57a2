"""Measures units in this process or in several; only the parent writes records."""

import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import as_completed
from multiprocessing.queues import Queue
from pathlib import Path
from threading import Thread
from typing import Any

from mvtokenflow.eval.engine.local import WorkerDiedError, set_threads, start_worker, submit, worker_pool
from mvtokenflow.eval.records.rows import FeatureRow, Row, feature_log, row_log
from mvtokenflow.eval.score.units import Settings, Unit, UnitScorer

Message = tuple[str, Any, Any]
_scorer: UnitScorer | None = None
_messages: "Queue[Message] | None" = None


def _start(settings: Settings, messages: "Queue[Message]") -> None:
    global _scorer, _messages
    start_worker()
    _scorer, _messages = UnitScorer(settings), messages


def _measure(unit: Unit, done: Mapping[str, frozenset[str]]) -> dict[str, set[str]]:
    assert _scorer is not None
    assert _messages is not None
    messages = _messages
    return _scorer.score(
        unit,
        done,
        emit=lambda label, records: messages.put(("records", label, list(records))),
        step=lambda frames: messages.put(("step", None, frames)),
    )


def finished_keys(folder: Path) -> frozenset[str]:
    """Return the keys of the records that a folder already holds."""
    rows = [row.key for row in row_log(folder).read()]
    return frozenset(rows + [row.key for row in feature_log(folder).read()])


def write_records(folder: Path, records: Sequence[Row] | Sequence[FeatureRow]) -> None:
    """Append records to the logs of a folder."""
    rows = [record for record in records if isinstance(record, Row)]
    features = [record for record in records if isinstance(record, FeatureRow)]
    if rows:
        row_log(folder).append(rows)
    if features:
        feature_log(folder).append(features)


def measure(
    units: Sequence[Unit],
    settings: Settings,
    *,
    jobs: int,
    step: Callable[[int], None],
) -> dict[str, set[str]]:
    """Measure units and append their records; finished values are never computed again.

    The labels of a unit are the folders its records are written to.

    Args:
        units: what to measure.
        settings: how.
        jobs: worker processes; 1 measures in this process.
        step: called with the number of frames just measured.

    Returns:
        By label, the keys of all records the units consist of, old and new.

    Raises:
        UserError: of the first unit that failed; what was measured by then is kept.
    """
    wanted: dict[str, set[str]] = {}
    if not units:
        return wanted
    labels = {label for unit in units for label in unit.views}
    done = {label: finished_keys(Path(label)) for label in sorted(labels)}
    if jobs == 1 or len(units) == 1:
        set_threads()
        scorer = UnitScorer(settings)
        for unit in units:
            keys = scorer.score(unit, done, lambda label, records: write_records(Path(label), records), step)
            _merge(wanted, keys)
        return wanted
    messages: Queue[Message] = multiprocessing.get_context("spawn").Queue()
    writer = _RecordWriter(messages, step)
    writer.start()
    try:
        with worker_pool(min(jobs, len(units)), _start, (settings, messages)) as pool:
            ordered = sorted(units, key=lambda unit: -unit.steps())  # long ones first
            futures = [submit(pool, _measure, u, {label: done[label] for label in u.views}) for u in ordered]
            for future in as_completed(futures):
                _merge(wanted, future.result())
    except (WorkerDiedError, KeyboardInterrupt):  # either may have ended a worker in the middle of a message
        writer.give_up()
        raise
    except BaseException:
        writer.finish()
        raise
    writer.finish()  # after the workers are gone, so that nothing they sent is lost
    return wanted


class _RecordWriter(Thread):
    """A thread that writes the workers' records; it reads to the end so that no worker blocks on a pipe."""

    def __init__(self, messages: "Queue[Message]", step: Callable[[int], None]) -> None:
        super().__init__(daemon=True)
        self._messages, self._step = messages, step
        self._failure: Exception | None = None

    def run(self) -> None:
        while True:
            kind, label, payload = self._messages.get()
            if kind == "end":
                return
            if self._failure is not None:
                continue
            try:
                if kind == "records":
                    write_records(Path(label), payload)
                else:
                    self._step(payload)
            except Exception as failure:  # for example a full disk; finish() raises it
                self._failure = failure

    def give_up(self) -> None:
        """Write what can still be read; a worker killed while sending may have left half a message."""
        self._messages.put(("end", "", None))
        self.join(timeout=5)
        self._messages.cancel_join_thread()

    def finish(self) -> None:
        """Wait until everything sent is written. Raises what writing raised."""
        self._messages.put(("end", "", None))
        self.join()
        if self._failure is not None:
            raise self._failure


def _merge(wanted: dict[str, set[str]], keys: Mapping[str, set[str]]) -> None:
    for label, more in keys.items():
        wanted.setdefault(label, set()).update(more)
