"""How well `mvtf run --background` cuts objects out: masks of toy scenes before eight backgrounds.

    python benchmarks/background.py                       # the 24 scenes of toy4d, about a quarter of an hour
    python benchmarks/background.py --scenes bird-01 --frames 8 --pictures out

Prints a table: intersection over union of the masks (alpha of a half and more) with the true ones, as the mean
over scenes and the worst scene, the mean absolute error of alpha as a share of the object's area, and seconds a
frame. Scenes are rendered at 256 px; frames are neighbours of a clip of 32. With `--pictures` a PNG for each
background shows the frames, and below them what was cut out.
"""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mvtokenflow.datasets.toy4d.scenes import ALL_SCENES, FRAMES, SCENES, render_scene
from mvtokenflow.datasets.toy4d.stream import RADIUS
from mvtokenflow.media.background import cut_out, measure_background
from mvtokenflow.media.contact_sheet import contact_sheet
from mvtokenflow.media.pictures import Pixels, write_png
from mvtokenflow.method.plain import flow_between
from mvtokenflow.views.cameras import orbit

SIZE = 256
Colours = NDArray[np.float32]
Shown = Callable[[Colours, Colours], Pixels]


def _pixels(colours: NDArray[np.floating]) -> Pixels:
    return np.asarray(np.rint(np.clip(colours, 0, 1) * 255), np.uint8)


def plain(*colour: int) -> Shown:
    """One colour, exactly."""
    return lambda rgb, alpha: _pixels(rgb * alpha + (1 - alpha) * np.array(colour) / 255)


def uneven(rgb: Colours, alpha: Colours) -> Pixels:
    """A light grey wall that a lamp lights from the left."""
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    light = (1 - 0.35 * ((x - 0.3) ** 2 + (y - 0.6) ** 2)) * (0.9 + 0.1 * y)
    return _pixels(rgb * alpha + (1 - alpha) * light[..., None] * (0.93, 0.92, 0.9))


def noisy(rgb: Colours, alpha: Colours) -> Pixels:
    """Grey, with a sensor's noise of five levels on everything."""
    clean = rgb * alpha + (1 - alpha) * (0.62, 0.63, 0.64)
    return _pixels(clean + np.random.default_rng(0).normal(0, 0.02, clean.shape))


def compressed(rgb: Colours, alpha: Colours) -> Pixels:
    """Off-white, as JPEG of quality 60 with halved chroma."""
    out = []
    for frame in _pixels(rgb * alpha + (1 - alpha) * (0.96, 0.96, 0.95)):
        stream = BytesIO()
        Image.fromarray(frame).save(stream, "JPEG", quality=60, subsampling="4:2:0")
        out.append(np.asarray(Image.open(stream)))
    return np.stack(out)


def whitish(rgb: Colours, alpha: Colours) -> Pixels:
    """White, with the object's colours at a third of their contrast around a light grey."""
    return _pixels((0.3 * rgb + 0.7 * np.array((0.9, 0.89, 0.87))) * alpha + (1 - alpha))


BACKGROUNDS: Mapping[str, Shown] = {
    "white": plain(255, 255, 255),
    "grey": plain(128, 128, 128),
    "black": plain(0, 0, 0),
    "green": plain(0, 177, 64),
    "uneven light": uneven,
    "sensor noise": noisy,
    "JPEG, quality 60": compressed,
    "white, whitish object": whitish,
}


def measured(frames: Pixels, truth: Colours, *, lossy: bool) -> tuple[Pixels, tuple[float, float, float]]:
    """Cut out frames (T, S, S, 3); return alpha, and IoU, error of alpha, and seconds a frame."""
    began = time.process_time()
    background = measure_background(frames)
    fault = background.fault()
    if fault is not None:
        raise SystemExit(f"a background was not taken for one: {fault}")
    alpha = np.stack(list(cut_out(frames, background, lossy=lossy, flow=flow_between(frames))))
    seconds = (time.process_time() - began) / len(frames)
    one, other = alpha > 127, truth[..., 0] >= 0.5
    iou = float((one & other).sum() / (one | other).sum())
    error = float(np.abs(alpha / 255 - truth[..., 0]).sum() / truth.sum())
    return alpha, (iou, error, seconds)


def table(scenes: Sequence[str], frames: int, pictures: Path | None) -> str:
    """Measure all backgrounds; return the table in Markdown."""
    front = orbit((0.0,), size=SIZE, kind="ortho", radius=RADIUS)
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in BACKGROUNDS}
    for scene in scenes:
        seen = render_scene(scene, front, np.arange(frames) / (FRAMES - 1))
        for name, shown in BACKGROUNDS.items():
            shot = shown(seen.rgb[:, 0], seen.alpha[:, 0])
            alpha, numbers = measured(shot, seen.alpha[:, 0], lossy=shown is compressed)
            found[name].append(numbers)
            if pictures is not None:
                whole = np.full_like(alpha[:4], 255)
                sheet = np.concatenate([contact_sheet(shot[:4], kept) for kept in (whole, alpha[:4])])
                write_png(pictures / f"{scene}-{name.replace(', ', '-').replace(' ', '-')}.png", sheet)
    lines = [
        "| background | mean IoU | worst scene | error of alpha | CPU seconds a frame |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, rows in found.items():
        values = np.array(rows)
        worst = int(values[:, 0].argmin())
        lines.append(
            f"| {name} | {values[:, 0].mean():.3f} | {values[worst, 0]:.3f} ({scenes[worst]}) | "
            f"{values[:, 1].mean():.1%} | {values[:, 2].mean():.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", nargs="+", choices=sorted(ALL_SCENES), default=sorted(SCENES))
    parser.add_argument("--frames", type=int, default=3)
    parser.add_argument("--pictures", type=Path)
    given = parser.parse_args()
    print(table(given.scenes, given.frames, given.pictures))


if __name__ == "__main__":
    main()
