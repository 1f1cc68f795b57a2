"""A Ray cluster of two nodes on this machine, each in a network of its own, with a token.

It needs root and Ray. Ray listens on every address of a node: here on those of two network namespaces, which
nothing else reaches. The command that uses the cluster has to be in the first one (`RayCluster.prefix`).
"""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from slurm_cluster import cpu_s_of, words_of

NODES = {"r1": "10.99.0.1", "r2": "10.99.0.2"}
PORT = 6379
ADDRESS = f"{NODES['r1']}:{PORT}"
PROGRAMS = ("ip", "nsenter", "unshare")
_RAY = "from ray.scripts.scripts import main; main()"


def why_not() -> str:
    """Why no cluster can be started here; "" if one can."""
    if find_spec("ray") is None:
        return "Ray is not installed: pip install 'mvtokenflow[ray]'"
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    if absent:
        return f"no {', '.join(absent)}: apt-get install iproute2 util-linux"
    if os.geteuid() != 0:
        return "network namespaces for tests are made by root only"
    made = subprocess.run(["unshare", "--net", "true"], capture_output=True, text=True, check=False)
    return f"no network namespaces here ({made.stderr.strip()})" if made.returncode else ""


class RayCluster:
    """Two nodes with `slots` CPUs each, and caches of their own.

    Args:
        surroundings: variables of both.
        token: refuse who has it not; else anybody in these networks is let in.
    """

    def __init__(
        self,
        folder: Path,
        slots: int = 2,
        surroundings: Mapping[str, str] | None = None,
        *,
        token: bool = True,
    ) -> None:
        self.folder, self.slots, self.token = folder, slots, token
        self.surroundings = {**os.environ, **(surroundings or {})}
        self._holders: dict[str, subprocess.Popen[bytes]] = {}  # keep the networks of nodes

    @property
    def environment(self) -> Mapping[str, str]:
        """What a process needs to reach the cluster."""
        return {
            "RAY_AUTH_MODE": "token" if self.token else "disabled",
            "RAY_AUTH_TOKEN_PATH": str(self.folder / "token"),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_worker_niceness": "0",
        }

    @property
    def prefix(self) -> list[str]:
        """What a command begins with that is to run beside the first node."""
        return self._inside("r1")

    def __enter__(self) -> "RayCluster":
        self.folder.mkdir(parents=True, exist_ok=True)
        token = self.folder / "token"
        token.write_text(secrets.token_hex(32))
        token.chmod(0o600)
        # Ray's sockets lie below it, and their paths may have 107 characters.
        self._sockets = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
        for node in NODES:
            self._holders[node] = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
        first, second = (str(holder.pid) for holder in self._holders.values())
        self._wait_for_networks()
        pair = ["veth0", "netns", first, "type", "veth", "peer", "name", "veth0", "netns", second]
        subprocess.run(["ip", "link", "add", "name", *pair], check=True)
        for node, address in NODES.items():
            for words in (f"addr add {address}/24 dev veth0", "link set veth0 up", "link set lo up"):
                subprocess.run([*self._inside(node), "ip", *words.split()], check=True)
        try:
            for node in NODES:
                self.start_node(node)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for node, holder in reversed(self._holders.items()):
            self.kill_node(node)
            holder.kill()
            holder.wait()
        shutil.rmtree(self._sockets, ignore_errors=True)

    def start_node(self, node: str) -> None:
        """Start a node; the first one is the head."""
        head = node == "r1"
        place = ["--head", f"--port={PORT}", f"--temp-dir={self._sockets}", "--include-dashboard=false"]
        words = [
            *(place if head else [f"--address={ADDRESS}"]),
            f"--node-ip-address={NODES[node]}",
            f"--num-cpus={self.slots}",
            "--disable-usage-stats",
            "--object-store-memory=200000000",
        ]
        own = {name: str(self.folder / node / name) for name in ("cache", "tmp")}
        for path in own.values():
            Path(path).mkdir(parents=True, exist_ok=True)
        subprocess.run(
            [*self._inside(node), sys.executable, "-c", _RAY, "start", *words],
            env={
                **self.surroundings,
                **self.environment,
                **{"MVTF_CACHE": own["cache"], "TMPDIR": own["tmp"], "OMP_NUM_THREADS": "1"},
            },
            check=True,
            capture_output=True,
            timeout=180,
        )

    def kill_node(self, node: str) -> None:
        """End every process of a node's network, as a power cut would."""
        holder = self._holders[node].pid
        for pid in _in_network_of(holder):
            if pid != holder:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def cpu_s(self, node: str) -> float:
        """CPU seconds of the processes of a node that run a task."""
        pids = _in_network_of(self._holders[node].pid)
        return sum(cpu_s_of(pid) for pid in pids if "ray::yielding" in words_of(pid))

    def _inside(self, node: str) -> list[str]:
        return ["nsenter", f"--net=/proc/{self._holders[node].pid}/ns/net"]

    def _wait_for_networks(self) -> None:
        ours, end = Path("/proc/self/ns/net").readlink(), time.monotonic() + 10
        while ours in {Path(f"/proc/{holder.pid}/ns/net").readlink() for holder in self._holders.values()}:
            assert time.monotonic() < end, "no network of its own"
            time.sleep(0.02)


def _in_network_of(holder: int) -> Iterator[int]:
    """The processes in the network of one."""
    network = Path(f"/proc/{holder}/ns/net").readlink()
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with suppress(OSError):
                if (folder / "ns" / "net").readlink() == network:
                    yield int(folder.name)
