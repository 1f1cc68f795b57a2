"""Tasks on a Ray cluster. Nodes share no folder with the command: files travel as values of tasks."""

import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from mvtokenflow.base.errors import ConfigError
from mvtokenflow.base.files import write_bytes
from mvtokenflow.eval.engine.engine import Function, Placement, Work

ANSWER_S = 5  # seconds in which a cluster's port answers
GREETED_S = 60  # seconds in which a process has started and greeted it
LOOK_S = 0.2
_LONGEST = 500  # characters of what Ray reports
PER_SLOT = 2  # tasks handed to Ray for each that can run: what they were given waits in its memory


_OPEN = (
    "the cluster takes work from anyone: start it, and this command, with RAY_AUTH_MODE=token, or say "
    "--trust-network"
)
# Asks the head for its name; prints the reason if it refuses. Ray reads the token's settings once a process.
_GREET = f"""
import signal, sys
from ray._raylet import GcsClient
signal.alarm({ANSWER_S})  # ends the process, in compiled code too
try:
    GcsClient(address=sys.argv[1])
except Exception as error:
    sys.exit(print("refused:", error))
print("welcome")
"""


def yielding(function: Function, words: str, given: Mapping[str, bytes]) -> Iterator[tuple[str, bytes]]:
    """Run a task on a node; yield each file's name and content as soon as it is there."""
    for name, file in function(words, given):
        yield name, file.read_bytes()


class Ray:
    """A Ray cluster as an engine.

    Args:
        folder: in which deliveries appear, of this machine.
        function: a module's function that runs one task.
        address: "host:port" of the cluster's head.
        trust_network: take a cluster that runs what anybody sends it.

    Raises:
        ConfigError: Ray is not installed, or no cluster is there.
    """

    name = "ray"
    pause_s = 1.0

    def __init__(
        self,
        folder: Path,
        function: Function,
        placement: Placement,
        address: str,
        trust_network: bool = False,
    ) -> None:
        ray = _connected(address, trust_network)
        self.folder = folder.absolute()
        self.arrived = self.folder / "arrived"
        self.arrived.mkdir(parents=True, exist_ok=True)
        self._ray = ray
        self._remote = ray.remote(yielding).options(
            num_cpus=placement.cpus_per_task,
            num_gpus=placement.gpus_per_task,
            num_returns="streaming",
            max_retries=0,  # would repeat what was delivered; the command submits what is left
        )
        self._function, self._placement = function, placement
        self._waiting: deque[tuple[str, Work]] = deque()
        self._running: dict[str, Any] = {}  # Ray's generators
        self._ends: dict[str, str] = {}

    def held(self) -> Mapping[str, str]:
        """Return nothing: tasks end with the process that submitted them."""
        return {}

    def submit(self, works: Mapping[str, Work], avoid: frozenset[str] = frozenset()) -> None:
        """Queue tasks. Ray leaves nodes that are gone by itself, so that `avoid` has no effect."""
        self._waiting.extend(works.items())
        self._start()

    def alive(self) -> Mapping[str, str]:
        """Take what has arrived, start what there is room for, and return what is not over."""
        while self._running:
            generators = {generator: key for key, generator in self._running.items()}
            ready, _ = self._ray.wait(list(generators), num_returns=1, timeout=LOOK_S, fetch_local=False)
            if not ready:
                break
            self._take(generators[ready[0]], ready[0])
        self._start()
        return {**{key: "" for key, _ in self._waiting}, **dict.fromkeys(self._running, "a node of Ray")}

    def ended(self, keys: Collection[str]) -> None:
        """Do nothing: `alive` has forgotten them."""

    def ids(self) -> list[str]:
        return list(self._running)

    def log(self, key: str) -> str:
        return self._ends.get(key, "")

    def unseen(self, key: str) -> bool:
        """Return False: nodes see no folder of the command, and need none."""
        return False

    def cancel(self, keys: Collection[str]) -> None:
        self._waiting.clear()
        for generator in self._running.values():
            self._ray.cancel(generator, force=False)
        self._running.clear()

    def close(self) -> None:
        self._ray.shutdown()

    def _take(self, key: str, generator: Any) -> None:
        """Write one file of a task, or note its end."""
        try:
            name, content = self._ray.get(next(generator))
        except StopIteration:
            del self._running[key]
        except self._ray.exceptions.RayError as error:
            del self._running[key]
            lines = str(error).strip().splitlines() or [type(error).__name__]
            self._ends[key] = f"Ray: {lines[-1].partition('. ')[0][:_LONGEST]}"
        else:
            write_bytes(self.arrived / f"{key}.{name}", content)

    def _start(self) -> None:
        """Hand tasks to Ray as long as there are few of them there."""
        while self._waiting and len(self._running) < self._room():
            key, work = self._waiting.popleft()
            given = {name: read() for name, read in work.given.items()}
            self._running[key] = self._remote.remote(self._function, work.words, given)

    def _room(self) -> int:
        if self._placement.at_once is not None:
            return self._placement.at_once
        there = self._ray.cluster_resources()
        slots = [there.get("CPU", 0) / max(1, self._placement.cpus_per_task)]
        if self._placement.gpus_per_task:
            slots.append(there.get("GPU", 0) / self._placement.gpus_per_task)
        return max(1, int(PER_SLOT * min(slots)))


def _greeting(address: str, surroundings: Mapping[str, str]) -> str | None:
    """Greet the head of a cluster as a process with these variables would.

    Returns:
        "" if it is let in; else why not, in one sentence; None if there was no answer in time.
    """
    command = [sys.executable, "-c", _GREET, address]
    try:
        answer = subprocess.run(
            command, capture_output=True, text=True, env=surroundings, timeout=GREETED_S, check=False
        )
    except subprocess.TimeoutExpired:
        return None
    lines = answer.stdout.splitlines()
    if "welcome" in lines or answer.returncode == -signal.SIGALRM:
        return "" if "welcome" in lines else None
    said = [line for line in lines if line.startswith("refused: ")] or answer.stderr.splitlines() or [""]
    return said[-1].removeprefix("refused: ").partition(". ")[0][:_LONGEST] or f"exit code {answer.returncode}"


def _connected(address: str, trust_network: bool) -> Any:
    """Connect to the cluster at an address and return the module `ray`; raises as `Ray`."""
    try:
        import ray
    except ImportError as error:
        raise ConfigError("--engine ray needs Ray: pip install 'mvtokenflow[ray]'") from error
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise ConfigError(f"--address {address}: write HOST:PORT of the head of a Ray cluster, 10.0.0.1:6379")
    if os.environ.get("RAY_AUTH_MODE") != "token" and not trust_network:
        raise ConfigError(_OPEN)
    absent = f"no Ray cluster at {address}; start one, or name another --address"
    try:
        socket.create_connection((host, int(port)), timeout=ANSWER_S).close()
    except OSError as error:
        raise ConfigError(absent) from error
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    greeting = _greeting(address, os.environ)  # `ray.init` takes half a minute to be refused
    if greeting is None:
        raise ConfigError(absent)
    if greeting:
        raise ConfigError(f"the Ray cluster at {address} refuses this command: {greeting}")
    if not trust_network and _greeting(address, {**os.environ, "RAY_AUTH_MODE": "disabled"}) == "":
        raise ConfigError(_OPEN)
    try:
        ray.init(address=address, log_to_driver=False, logging_level="error")
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConfigError(f"the Ray cluster at {address} refuses this command: {reason}") from error
    return ray
