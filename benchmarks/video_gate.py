"""May a video model of diffusion2 ship? Runs its gate (`baselines/diffusion2/gate.py`) on validation toys.

    python benchmarks/video_gate.py --video runs/video/cooldown/prior.safetensors -o runs/video/gate.json
    python benchmarks/video_gate.py --video linear --least 0.9 -o runs/linear.json

Without --video the shipped linear denoiser is judged. Exit code 1 if it does not pass.
"""

import argparse
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import torch

from mvtokenflow.base import terminal
from mvtokenflow.base.files import sha256_file, write_json
from mvtokenflow.baselines.diffusion2.gate import LEAST_CLIPS, evaluate
from mvtokenflow.baselines.diffusion2.settings import MatrixSampling
from mvtokenflow.small.prior import load_small_prior
from mvtokenflow.small.video import VideoModel, load_small_video
from mvtokenflow.small.video_linear import STATISTICS, LinearVideo, load_moments


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--video", default="linear", metavar="FILE", help="of `mvtf train-video`, or linear")
    parser.add_argument("--clips", type=int, default=LEAST_CLIPS)
    parser.add_argument("--frames", type=int, default=6)
    parser.add_argument("--least", type=float, default=0.6, help="share of the multiview model at the end")
    parser.add_argument("--bf16", action="store_true", help="networks in bfloat16: faster, a little noise")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="JSON")
    return parser.parse_args()


def _run() -> None:
    given = _arguments()
    torch.set_num_threads(1)
    file = STATISTICS if given.video == "linear" else Path(given.video)
    video: VideoModel = LinearVideo(load_moments()) if given.video == "linear" else load_small_video(file)
    settings = replace(MatrixSampling(), least=given.least)
    with terminal.progress() as report, torch.autocast("cpu", torch.bfloat16) if given.bf16 else nullcontext():
        record = evaluate(load_small_prior(), video, settings, given.clips, given.frames, report)
    write_json(given.out, {**record, "video_sha256": sha256_file(file), "bf16": given.bf16})
    for name, check in record["checks"].items():
        verdict = "passed" if check["passed"] else "FAILED"
        terminal.print_message(f"{verdict}: {name} by {check['margin']:+.5f} ± {check['standard_error']:.5f}")
    sys.exit(not record["passed"])


if __name__ == "__main__":
    terminal.run(_run)
