"""`mvtf measure-video`: measure the moments of Diffusion²'s linear video denoiser on training toys."""

from pathlib import Path
from typing import Annotated

import typer

from mvtokenflow.base.terminal import print_message, progress


def measure_video(
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write, .safetensors; replaced if there.")],
    clips: Annotated[int, typer.Option(help="Training toys, 17 frames in six views of each.")] = 256,
) -> None:
    """Measure how the prior's latents of a view vary over time, for the linear video denoiser of Diffusion².

    Example: mvtf measure-video -o runs/video_linear.safetensors
    """
    from mvtokenflow.base.errors import ConfigError

    if clips < 1:
        raise ConfigError(f"--clips is {clips}; give at least 1")
    from mvtokenflow.base.files import sha256_file
    from mvtokenflow.small.prior import WEIGHTS
    from mvtokenflow.small.toys.video import measure_moments
    from mvtokenflow.small.video_linear import save_moments

    with progress() as report:
        moments = measure_moments(clips, progress=report)
    save_moments(out, moments, {"clips": str(clips), "prior_sha256": sha256_file(WEIGHTS)})
    print_message(f"{clips} toys; wrote {out}")
