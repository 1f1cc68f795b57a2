"""Turn a video of one object into a 4D asset, then take a picture of it from a side of your own.

    python examples/own_video.py clip.webm out/clip

The video needs alpha. Without it, give masks (`masks=`), or have the object cut out by rembg
(`segmenter=mvtokenflow.media.segment.REMBG`). On two CPU cores this takes three minutes.
"""

import sys
from pathlib import Path

import torch

import mvtokenflow
from mvtokenflow.media.pictures import to_uint8, write_png
from mvtokenflow.method.config import mini
from mvtokenflow.reports.run_page import write_page
from mvtokenflow.views.cameras import orbit


def main(video: Path, out: Path, config: mvtokenflow.MethodConfig, size: int = 512) -> Path:
    """Make the asset in `out`, and OUT/side.png: seen from 75 degrees in the middle of the clip."""
    asset = mvtokenflow.make_asset(video, out, config, page=write_page, say=print)
    for warning in asset.warnings():
        print(warning)
    print(f"open {asset.page}")

    field = mvtokenflow.load_field(asset.field)
    camera = orbit([75.0], size=size, kind="ortho", radius=3.0)  # one camera; world -1 to 1 fills the picture
    with torch.no_grad():
        seen = field.render(camera, 0.5)  # time 0 is the first frame, 1 the last
    rgba = torch.cat((seen.rgb, seen.alpha), dim=-1)[0]
    picture = out / "side.png"
    write_png(picture, to_uint8(rgba.numpy(), "picture"))
    return picture


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), mini())
