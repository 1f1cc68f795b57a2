"""Seconds, operations and memory of one denoising step of Era3D's full-size network, with random weights.

    python benchmarks/era3d.py                                  # 1 frame, 512 px, no guidance, CPU, float32
    python benchmarks/era3d.py --guidance --frames 2 --device cuda --dtype bfloat16 --rounds 5

Weights do not change the cost. The best of the rounds counts; CPU seconds show what a free core would need when
the machine is busy, whose load is printed. Memory is the process's peak, or the peak of CUDA's allocator.
"""

import argparse
import os
import resource
import sys
import time

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from mvtokenflow.multiview.checkpoint import ERA3D_UNET
from mvtokenflow.multiview.unet import MultiviewUNet

VIEWS = 6
CONFIG = ERA3D_UNET | {"regress_elevation": True, "regress_focal_length": True}


def inputs(groups: int, size: int, device: str, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Draw random arguments of the network for pictures of `size` px."""
    count, latent = 2 * groups * VIEWS, size // 8
    return (
        torch.randn(count, 8, latent, latent, device=device, dtype=dtype),
        torch.tensor(501, device=device),
        torch.randn(count, 77, 1024, device=device, dtype=dtype),
        torch.randn(count, 2048, device=device, dtype=dtype),
    )


def operations(groups: int, size: int) -> int:
    """Count floating-point operations of one call without computing anything."""
    with torch.device("meta"):
        network = MultiviewUNet.from_config(CONFIG)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(*inputs(groups, size, "meta", torch.float32))
    total: int = counter.get_total_flops()
    return total


def peak_gigabytes(device: str) -> float:
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated() / 1e9
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def main() -> None:
    """Build, run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=1)
    parser.add_argument(
        "--size", type=int, default=512, help="side of the pictures in pixels, a multiple of 64"
    )
    parser.add_argument("--guidance", action="store_true", help="also run the unconditional half")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()

    groups = options.frames * (2 if options.guidance else 1)
    dtype = getattr(torch, options.dtype)
    flops = operations(groups, options.size)
    start = time.perf_counter()
    with torch.device(options.device):
        network = MultiviewUNet.from_config(CONFIG).to(dtype).eval()
    built, weights = time.perf_counter() - start, peak_gigabytes(options.device)
    given = inputs(groups, options.size, options.device, dtype)
    wall, cpu = [], []
    with torch.no_grad():
        for _ in range(options.rounds):
            started, used = time.perf_counter(), time.process_time()
            output = network(*given)
            finite = bool(output.sample.isfinite().all())  # also waits for a GPU
            wall.append(time.perf_counter() - started)
            cpu.append(time.process_time() - used)
    print(f"{groups * 2 * VIEWS} pictures of {options.size} px, {options.dtype} on {options.device}")
    print(f"threads {torch.get_num_threads()}, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print(f"built in {built:.1f} s, {weights:.2f} GB")
    print(f"one step {min(wall):.2f} s, {min(cpu):.1f} CPU s, {flops / 1e12:.2f} TFLOP, finite: {finite}")
    print(f"peak {peak_gigabytes(options.device):.2f} GB")


if __name__ == "__main__":
    main()
