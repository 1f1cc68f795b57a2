"""A SLURM cluster of two nodes on this machine, which listens on 127.0.0.1 only. It needs root and the daemons.

Debian: apt-get install --no-install-recommends slurm-wlm munge. The daemons end with the context manager.
"""

import os
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path

NODES = ("n1", "n2")
DAEMONS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "sinfo", "scancel", "scontrol", "srun")
GPUS_PER_NODE = 2

CONFIGURATION = """\
ClusterName=test
SlurmctldHost=localhost(127.0.0.1)
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock,cred_expire=10
SlurmctldPort={ports[0]}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
GresTypes=gpu
SlurmdParameters=config_overrides
ReturnToService=2
SlurmdTimeout={lost_s}
KillWait=5
MinJobAge=20
MpiDefault=none
JobRequeue=1
NodeName=DEFAULT CPUs={slots} RealMemory=4000 Gres=gpu:2 State=UNKNOWN
NodeName=n1 NodeHostname=localhost NodeAddr=127.0.0.1 Port={ports[1]}
NodeName=n2 NodeHostname=localhost NodeAddr=127.0.0.1 Port={ports[2]}
PartitionName=gpu Nodes=n[1-2] Default=YES MaxTime=INFINITE State=UP
"""


def why_not() -> str:
    """Why no cluster can be started here; "" if one can."""
    absent = [name for name in DAEMONS if _program(name) is None]
    if absent:
        return f"no {', '.join(absent)}: apt-get install slurm-wlm munge"
    if os.geteuid() != 0:
        return "a SLURM cluster for tests is started by root only"
    return ""


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


class SlurmCluster:
    """Two nodes with `slots` cores and two stand-ins of GPUs each; one that is silent for `lost_s` is lost."""

    def __init__(self, folder: Path, slots: int = 2, lost_s: int = 10) -> None:
        self.folder, self.slots, self.lost_s = folder, slots, lost_s

    @property
    def environment(self) -> Mapping[str, str]:
        """What a process needs to reach the cluster."""
        return {"SLURM_CONF": str(self.folder / "slurm.conf")}

    def __enter__(self) -> "SlurmCluster":
        for name in ("state", "log", *(f"spool/{node}" for node in NODES)):
            (self.folder / name).mkdir(parents=True)
        self.folder.chmod(0o700)
        key = self.folder / "munge.key"
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o600)
        for number in range(GPUS_PER_NODE):  # plain files are refused
            device = self.folder / f"gpu{number}"
            os.mknod(device, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        (self.folder / "gres.conf").write_text(f"NodeName=n[1-2] Name=gpu File={self.folder}/gpu[0-1]\n")
        (self.folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
        settings = CONFIGURATION.format(
            folder=self.folder, slots=self.slots, lost_s=self.lost_s, ports=_free_ports(1 + len(NODES))
        )
        (self.folder / "slurm.conf").write_text(settings)
        munge = {
            **{"key-file": "munge.key", "socket": "munge.sock", "pid-file": "munged.pid"},
            **{"log-file": "log/munged.log", "seed-file": "munge.seed"},
        }
        self._start("munged", "--force", *(f"--{name}={self.folder / file}" for name, file in munge.items()))
        self._start("slurmctld", "-f", f"{self.folder}/slurm.conf")
        for node in NODES:
            self.start_node(node)
        end = time.monotonic() + 60
        while self.ask("sinfo", "-h", "-N", "-o", "%T").split() != ["idle"] * len(NODES):
            assert time.monotonic() < end, f"the nodes do not become idle: {self.ask('sinfo', '-N')}"
            time.sleep(0.3)
        return self

    def __exit__(self, *_: object) -> None:
        names = [*(f"slurmd-{node}" for node in NODES), "slurmctld", "munged"]
        for node in NODES:
            self.kill_node(node)
        for name in names:
            with suppress(OSError, ValueError):
                os.kill(int((self.folder / f"{name}.pid").read_text()), signal.SIGKILL)

    def start_node(self, node: str, without: Path | None = None) -> None:
        """Start a node; on one `without` a folder, it is empty."""
        self._start("slurmd", "-f", f"{self.folder}/slurm.conf", "-N", node, without=without)

    def cut_off(self, node: str) -> None:
        """End the daemon of a node alone: the cluster loses it, its tasks go on."""
        os.kill(int((self.folder / f"slurmd-{node}.pid").read_text()), signal.SIGKILL)

    def kill_node(self, node: str) -> None:
        """End a node as a power cut would: its daemon, the daemons of its jobs and all below them."""
        with suppress(OSError, ValueError):
            _kill_below(int((self.folder / f"slurmd-{node}.pid").read_text()))
        parents = dict(_processes())
        for pid in self._pids(node):
            _kill_below(pid)
            if "slurmstepd" in words_of(parents.get(pid, 0)):
                _kill_below(parents[pid])

    def cpu_s(self, node: str) -> float:
        """CPU seconds of the processes of a node's jobs."""
        return sum(cpu_s_of(pid) for pid in self._pids(node))

    def ask(self, *command: str) -> str:
        """What a command of SLURM prints."""
        surroundings = {**os.environ, **self.environment}
        return subprocess.run(command, capture_output=True, text=True, env=surroundings, check=False).stdout

    def _pids(self, node: str) -> list[int]:
        """The processes of a node's jobs."""
        here = {f"SLURM_CONF={self.environment['SLURM_CONF']}", f"SLURMD_NODENAME={node}"}
        return [pid for pid, _ in _processes() if here <= _surroundings(pid)]

    def _start(self, name: str, *options: str, without: Path | None = None) -> None:
        program = _program(name)
        assert program is not None
        command = [program, *options]
        if without is not None:
            hide = 'mount -t tmpfs none "$0" && exec "$@"'
            command = ["unshare", "--mount", "sh", "-c", hide, str(without), *command]
        surroundings = {**os.environ, **self.environment}
        subprocess.run(command, check=True, env=surroundings, capture_output=True)


def _free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 on which nobody listens."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _processes() -> Iterator[tuple[int, int]]:
    """Every process: its number and its parent's."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with suppress(OSError, IndexError, ValueError):
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                yield int(folder.name), parent


def _surroundings(pid: int) -> set[str]:
    """The environment of a process; empty if it is over."""
    with suppress(OSError):
        return set(Path(f"/proc/{pid}/environ").read_text(errors="replace").split("\0"))
    return set()


def words_of(pid: int) -> str:
    """The command line of a process; empty if it is over."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    return ""


def cpu_s_of(pid: int) -> float:
    """CPU seconds of a process; 0 if it is over."""
    with suppress(OSError, IndexError, ValueError):
        ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
    return 0.0


def _kill_below(pid: int) -> None:
    """Kill a process and all below it."""
    below: dict[int, list[int]] = {}
    for child, parent in _processes():
        below.setdefault(parent, []).append(child)
    waiting = [pid]
    while waiting:
        one = waiting.pop()
        waiting += below.get(one, [])
        with suppress(ProcessLookupError):
            os.kill(one, signal.SIGKILL)
