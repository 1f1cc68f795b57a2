"""Examines what this machine has and lacks for the method, by preset."""

from collections.abc import Mapping
from types import MappingProxyType

from mvtokenflow.base import machine
from mvtokenflow.base.files import choose
from mvtokenflow.base.machine import Check
from mvtokenflow.method.config import PRESETS
from mvtokenflow.weights import ledger
from mvtokenflow.weights.needs import checks_of

_MINI = "about 3 minutes a scene of 32 frames on two CPU cores, 1.6 GiB of memory a process; no GPU"
# docs/method.md, "What it costs"
COSTS: Mapping[str, str] = MappingProxyType(
    {
        "mini": _MINI,
        "mini-independent": _MINI,
        "paper": "GPU memory: not measured; hours a scene: not measured (the paper states 2 on one GPU)",
    }
)
_DISK_GIB: Mapping[str, float] = MappingProxyType({"mini": 1.0, "mini-independent": 1.0, "paper": 20.0})


def examine(preset: str) -> list[Check]:
    """List what `mvtf run --preset PRESET` needs and whether it is here; change nothing.

    Raises:
        ConfigError: no such preset, or a variable names a folder in the home folder of nobody.
    """
    choose("preset", preset, PRESETS)
    checks = [machine.torch_here(), machine.accelerator()]
    if preset == "paper":
        checks.append(machine.cuda_compiler())
    else:
        checks.append(machine.compiled_code())
    checks.append(machine.disk(ledger.root(), _DISK_GIB[preset]))
    checks += checks_of(ledger.status(), preset)
    checks.append(machine.package("rembg", "`mvtf run --segment`", "pip install 'rembg[cpu]'"))
    checks.append(Check(name="cost", ok=True, found=COSTS[preset]))
    return checks
