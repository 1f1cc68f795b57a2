"""Memory and operations of Era3D's network with enlarged attention over all frames, counted and measured.

    python benchmarks/all_frames.py                               # count: 32 frames, 512 px, float16
    python benchmarks/all_frames.py --part measure --frames 4,8   # run: random weights, 256 px, CPU
    python benchmarks/all_frames.py --part measure --frames 32 --size 512 --halves 2 --device cuda \
        --dtype float16

Count: the passes of one noise level run on tensors without data, so that nothing is computed and every
tensor that would be held is counted. *Held* is the peak, without the weights and without the
working memory of library kernels; operations are those of layers (dense) and of attention, whose kernel is
assumed to be a fused one that keeps no scores. *Sampling* weights the noise levels as `paper` does: half of
the 40 steps propagate, in the first pass the front view, in the second all six; minutes are these
operations at the rate that is given.

Measure: one noise level of the full-size network, one frame at a time and, where it is to fit, all at once.
The largest difference of the two is given relative to the largest output. CPU seconds, of all threads, show
what a free core would need when the machine is busy. Each run is a process of its own, whose peak is read.
"""

import argparse
import multiprocessing
import os
import resource
import sys
import tempfile
import time
import weakref
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from era3d import CONFIG, VIEWS, inputs
from rich.console import Console
from rich.table import Table
from token_flow import make_flows
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.flop_counter import flop_registry

from mvtokenflow.base.files import write_json
from mvtokenflow.multiview.passes import Step
from mvtokenflow.multiview.unet import MultiviewUNet
from mvtokenflow.tokenflow.config import Enlarged, Propagation, TokenFlowConfig
from mvtokenflow.tokenflow.controller import TokenFlow

GIB = 2**30
STEPS = 40  # `TokenFlowConfig.tau`, a half, of them propagate


@dataclass(frozen=True, kw_only=True)
class Case:
    """One noise level of a clip."""

    frames: int
    size: int
    enlarged: Enlarged
    propagation: Propagation = "none"
    chunk: int = 1
    halves: int = 2
    dtype: str = "float16"


@dataclass(frozen=True, kw_only=True)
class Count:
    """Peak bytes held, without weights, and operations of layers and of attention."""

    held: int
    dense: int
    attention: int


def run_level(unet: MultiviewUNet, case: Case, device: str) -> Tensor:
    """Run one noise level; returns outputs (frames, halves, 2 V, 4, h, w), inputs depend on the frame only."""
    views = {"none": 0, "front": 1, "all": VIEWS}[case.propagation]
    flows = make_flows(case.frames, views) if views else None
    config = TokenFlowConfig(enlarged=case.enlarged, propagation=case.propagation)
    step = Step(
        index=0,
        count=STEPS,
        timestep=501,
        frames=case.frames,
        views=VIEWS,
        halves=case.halves,
        chunk=case.chunk,
    )
    outputs: list[Tensor | None] = [None] * case.frames
    with torch.no_grad(), TokenFlow(unet, config, flows) as controller:
        for current in controller.passes(step):
            given = [frame_inputs(frame, case, device) for frame in current.frames]
            sample, text, labels = (joined(some) for some in zip(*given, strict=True))
            with controller.running(step, current):
                made = unet(
                    sample, torch.tensor(501, device=device), text, labels, parts=current.groups(case.halves)
                ).sample
            by_frame = made.view(2, case.halves, len(current.frames), VIEWS, *made.shape[1:]).movedim(2, 0)
            for frame, output in zip(current.frames, by_frame, strict=True):
                outputs[frame] = output.transpose(0, 1).flatten(1, 2)
    return torch.stack([output for output in outputs if output is not None])


def frame_inputs(frame: int, case: Case, device: str) -> tuple[Tensor, Tensor, Tensor]:
    """Draw latents, text and labels (2, halves, V, ...) of a frame."""
    if device != "meta":
        torch.manual_seed(frame)
    sample, _, text, labels = inputs(case.halves, case.size, device, getattr(torch, case.dtype))
    lead = (2, case.halves, VIEWS)
    return sample.view(*lead, *sample.shape[1:]), text.view(*lead, *text.shape[1:]), labels.view(*lead, -1)


def joined(frames: tuple[Tensor, ...]) -> Tensor:
    """Join frames of (2, halves, V, ...) to a batch."""
    return torch.stack(frames, dim=2).flatten(0, 3)


# ---- counted ----


class Meter(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's
    """Counts the peak bytes of tensors created inside, and the operations of layers."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.most = self.operations = 0
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        counted = flop_registry.get(func.overloadpacket)
        if counted is not None:
            self.operations += counted(*args, **(kwargs or {}), out_val=made)
        given = {id(leaf.untyped_storage()) for leaf in tree_iter((args, kwargs)) if isinstance(leaf, Tensor)}
        for leaf in tree_iter(made):
            if not isinstance(leaf, Tensor) or leaf.device.type != "meta":
                continue
            storage = leaf.untyped_storage()
            if id(storage) in given or storage in self._known:
                continue
            self._known.add(storage)
            self._change(storage.nbytes())
            weakref.finalize(storage, self._change, -storage.nbytes())
        return made

    def _change(self, size: int) -> None:
        self.now += size
        self.most = max(self.most, self.now)


class FusedAttention(TorchFunctionMode):
    """Replaces attention by kernels that keep no scores: only the output is created, operations are counted."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is not F.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        query, key = args[0], args[1]
        self.operations += 4 * query.numel() * key.shape[-2]  # two products, each with an addition
        return torch.empty_like(query)


def count(case: Case, unet: MultiviewUNet | None = None) -> Count:
    """Count a noise level on tensors without data.

    Args:
        unet: network on the device "meta"; None is Era3D's.
    """
    if unet is None:
        unet = full_network("meta", case.dtype)
    with Meter() as meter, FusedAttention() as fused:
        run_level(unet, case, "meta")
    return Count(held=meter.most, dense=meter.operations, attention=fused.operations)


def full_network(device: str, dtype: str) -> MultiviewUNet:
    torch.manual_seed(0)
    with torch.device(device):
        network = MultiviewUNet.from_config(CONFIG)
    return network.to(getattr(torch, dtype)).eval().requires_grad_(False)


def report_count(frames: int, size: int, rate: float, console: Console) -> dict[str, Any]:
    """Print two tables: noise levels, and the two passes of `paper`."""
    unet = full_network("meta", "float16")
    weights = sum(parameter.nbytes for parameter in unet.parameters())
    console.print(f"{frames} frames, {size} px, float16, both guidance halves; weights {weights / GIB:.1f} GiB")
    table = Table("attention", "propagated", "frames at once", "held GiB", "dense TFLOP", "attention TFLOP")
    found: dict[str, Count] = {}
    levels: list[tuple[Enlarged, Propagation, int]] = [
        ("off", "none", 1),
        ("keyframes+own", "none", 1),
        ("keyframes+own", "front", 1),
        ("keyframes+own", "all", 1),
        ("all", "none", 1),
        ("all", "front", 1),
        ("all", "all", 1),
        ("all", "none", frames),
    ]
    for enlarged, propagation, chunk in levels:
        case = Case(frames=frames, size=size, enlarged=enlarged, propagation=propagation, chunk=chunk)
        made = found[f"{enlarged}, {propagation}, {chunk}"] = count(case, unet)
        held, dense, attention = made.held / GIB, made.dense / 1e12, made.attention / 1e12
        table.add_row(enlarged, propagation, str(chunk), f"{held:.1f}", f"{dense:.0f}", f"{attention:.0f}")
    console.print(table)
    table = Table("sampling, both passes", "PFLOP", f"minutes at {rate:g} TFLOP/s")
    sums = {}
    for enlarged in ("keyframes+own", "all"):
        halves = [found[f"{enlarged}, {name}, 1"] for name in ("front", "none", "all", "none")]
        total = sums[enlarged] = STEPS // 2 * sum(level.dense + level.attention for level in halves)
        table.add_row(enlarged, f"{total / 1e15:.0f}", f"{total / (rate * 1e12) / 60:.0f}")
    console.print(table)
    return {
        "levels": {name: asdict(made) for name, made in found.items()},
        "weights": weights,
        "sampling": sums,
    }


# ---- measured ----


def measure(case: Case, device: str, keep: str | None = None) -> dict[str, float]:
    """Measure seconds, CPU seconds and peak bytes of one noise level; outputs are saved to a file."""
    unet = full_network(device, case.dtype)
    weights = peak(device)
    began, used = time.perf_counter(), time.process_time()
    made = run_level(unet, case, device)
    if not made.isfinite().all():
        raise SystemExit("the network overflowed; take another type")
    found = {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - used}
    if keep is not None:
        torch.save(made.float().cpu(), keep)
    return found | {"peak": peak(device), "weights": weights}


def peak(device: str) -> int:
    """Peak bytes so far: of CUDA's allocator, or of this process."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def separately(case: Case, device: str, keep: str) -> dict[str, float]:
    """Run `measure` in a new process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measure, (case, device, keep))


def report_measure(
    cases: Sequence[Case], whole_up_to: int, device: str, folder: Path, console: Console
) -> list[dict[str, Any]]:
    """Print one line per case, in slices and in one pass."""
    console.print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, {torch.get_num_threads()} threads")
    names = ("frames", "at once", "seconds", "CPU s", "peak GiB", "weights", "difference")
    console.print(" ".join(f"{name:>10}" for name in names))
    rows = []
    for case in cases:
        chunks = (case.chunk, case.frames) if case.frames <= whole_up_to else (case.chunk,)
        kept: list[Path] = []
        for chunk in chunks:
            kept.append(folder / f"{case.frames}-{chunk}.pt")
            found = separately(replace(case, chunk=chunk), device, str(kept[-1]))
            row: dict[str, Any] = asdict(case) | {"chunk": chunk} | found
            if len(kept) == 2:
                sliced, whole = (torch.load(path) for path in kept)
                row["difference"] = float((sliced - whole).abs().max() / whole.abs().max())
            rows.append(row)
            difference = f"{row['difference']:.1e}" if "difference" in row else "-"
            console.print(
                f"{case.frames:10} {chunk:10} {row['seconds']:10.1f} {row['cpu_seconds']:10.1f} "
                f"{row['peak'] / GIB:10.2f} {row['weights'] / GIB:10.2f} {difference:>10}"
            )
    return rows


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("count", "measure"), default="count")
    parser.add_argument("--frames", help="of the clip, one number or several; 32 to count, 4,8 to measure")
    parser.add_argument("--size", type=int, help="side of the pictures in px; 512 to count, 256 to measure")
    parser.add_argument("--rate", type=float, default=70.0, help="TFLOP/s; half of an A40's peak")
    parser.add_argument("--enlarged", default="all", choices=("off", "keyframes+own", "all"), help="to measure")
    parser.add_argument("--halves", type=int, default=1, choices=(1, 2), help="2 with guidance; to measure")
    parser.add_argument("--whole-up-to", type=int, default=0, help="frames that are run in one pass as well")
    parser.add_argument("--device", default="cpu", help="to measure")
    parser.add_argument(
        "--dtype", default="float32", choices=("float32", "bfloat16", "float16"), help="to measure"
    )
    parser.add_argument("-o", "--out", type=Path, help="write the figures as JSON")
    return parser.parse_args()


def main() -> None:
    """Count or measure, print and save."""
    given = _arguments()
    console = Console(width=110)
    counted = given.part == "count"
    frames = [int(number) for number in (given.frames or ("32" if counted else "4,8")).split(",")]
    size = given.size or (512 if counted else 256)
    found: Any
    if counted:
        found = {number: report_count(number, size, given.rate, console) for number in frames}
    else:
        cases = [
            Case(frames=number, size=size, enlarged=given.enlarged, halves=given.halves, dtype=given.dtype)
            for number in frames
        ]
        with tempfile.TemporaryDirectory() as folder:
            found = report_measure(cases, given.whole_up_to, given.device, Path(folder), console)
    if given.out is not None:
        write_json(given.out, found)


if __name__ == "__main__":
    main()
