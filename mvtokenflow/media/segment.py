"""The object of a clip without alpha and without masks: what segments it, and the masks that are kept.

rembg comes with this package's extra `segment`. Its network is found, or fetched, and checked by the weights
ledger; a copy in rembg's own folder does.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np
import torch

from mvtokenflow.base.errors import ConfigError, DataError, WeightsMissingError
from mvtokenflow.base.progress import Progress
from mvtokenflow.media.masks import cleaned
from mvtokenflow.media.pictures import Pixels, read_mask, write_png
from mvtokenflow.media.video import Clip
from mvtokenflow.weights import ledger

MODEL = "isnet-general-use"

Segmenter = Callable[[Pixels, Sequence[int]], Iterator[Pixels]]
"""Yields masks (H, W) uint8, 255 on the object, of the frames (T, H, W, 3) uint8 whose numbers are given."""

_LISTED = "rembg-isnet"


def load_segmenter() -> Segmenter:
    """Return rembg with `MODEL`, which works frame by frame.

    Raises:
        ConfigError: rembg, or the onnxruntime it needs, is not installed.
        WeightsMissingError: its weights are not here and cannot be downloaded.
        WeightsCorruptError: they are others.
    """
    try:
        rembg = import_module("rembg")
    except (ImportError, SystemExit) as error:  # without onnxruntime rembg ends the process
        raise ConfigError(
            "segmenting needs rembg, which is not installed; run `pip install 'rembg[cpu]'` (its network, 179 "
            "MB, code Apache-2.0, weights without a stated licence, is fetched then), or give a mask or a clip "
            "with alpha"
        ) from error
    try:
        with _home(_network().parent):
            session = rembg.new_session(MODEL)
    except (OSError, ValueError) as error:  # a damaged file that rembg, too, has a digest of
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsMissingError(
            f"rembg cannot read its weights ({reason:.120}); run `mvtf-eval weights fetch {_LISTED}`, or "
            "give a mask"
        ) from error

    def segment(frame: Pixels) -> Pixels:
        return np.asarray(rembg.remove(frame, session=session, only_mask=True), np.uint8)

    return each(segment)


def each(segment: Callable[[Pixels], Pixels]) -> Segmenter:
    """Make a segmenter of a function that segments one frame (H, W, 3)."""
    return lambda frames, wanted: (segment(frames[n]) for n in wanted)


def _network() -> Path:
    """Return the file of `MODEL`, under the name that rembg looks for.

    Raises:
        WeightsMissingError, WeightsCorruptError: as `ledger.obtain`.
    """
    try:
        path = ledger.obtain(_LISTED)
    except WeightsMissingError as error:
        raise WeightsMissingError(f"{error}; or give a mask") from error
    if path.name != f"{MODEL}.onnx":
        raise WeightsMissingError(f"{path}: rembg reads it by its name alone; name it {MODEL}.onnx")
    return path


@contextmanager
def _home(folder: Path) -> Iterator[None]:
    """Let rembg look for its networks in `folder`."""
    before = os.environ.get("U2NET_HOME")
    os.environ["U2NET_HOME"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["U2NET_HOME"]
        else:
            os.environ["U2NET_HOME"] = before


@dataclass(frozen=True)
class Segmentation:
    """What cuts objects out, loaded when it is needed.

    Attributes:
        name: identifies it in records; what gives other masks has another name.
        load: gives the segmenter.
        straight: removes the background's colour from the edges of a frame (H, W, 3) with alpha (H, W); None
            leaves the colours as they are.
    """

    name: str
    load: Callable[[], Segmenter]
    straight: Callable[[Pixels, Pixels], Pixels] | None = None


REMBG = Segmentation(MODEL, load_segmenter)


def mask_paths(folder: Path, count: int) -> list[Path]:
    """Return the paths at which `cut_out` keeps the masks of a clip of `count` frames."""
    return [folder / f"{n:04d}.png" for n in range(count)]


def cut_out(
    frames: Pixels,
    folder: Path,
    segmenter: Segmenter | None,
    name: str,
    progress: Progress | None = None,
    straight: Callable[[Pixels, Pixels], Pixels] | None = None,
) -> Clip:
    """Return the clip of `frames` with the masks in `folder`; missing masks are made and written there.

    Levels within `masks.FAINT` of 0 and 255 become these, as with alpha from lossy files: a network's
    background is rarely exactly 0.

    Args:
        frames: (T, H, W, 3) uint8.
        folder: of masks of this very clip.
        segmenter: of `Segmentation.load`; None if all masks are there.
        progress: called with ("segment", done, total).
        straight: as `Segmentation.straight`.

    Raises:
        DataError: a mask without object or without background, a damaged one.
    """
    paths = mask_paths(folder, len(frames))
    wanted = [n for n, path in enumerate(paths) if not path.exists()]
    if wanted and segmenter is None:
        raise DataError(f"{paths[wanted[0]]}: no such mask, and nothing to make it with; run the command again")
    if wanted and segmenter is not None:
        for n, mask in zip(wanted, segmenter(frames, wanted), strict=True):
            write_png(paths[n], cleaned(mask))
            if progress is not None and n + 1 < len(frames):
                progress("segment", n + 1, len(frames))
    masks = [
        _checked(path, frame, f"{name} frame {n}")
        for n, (path, frame) in enumerate(zip(paths, frames, strict=True))
    ]
    if progress is not None:
        progress("segment", len(frames), len(frames))
    if straight is not None:
        frames = np.stack([straight(frame, mask) for frame, mask in zip(frames, masks, strict=True)])
    return Clip(
        rgb=torch.from_numpy(frames).float().div_(255),
        alpha=torch.from_numpy(np.stack(masks)[..., None]).float().div_(255),
        name=name,
    )


def _checked(path: Path, frame: Pixels, label: str) -> Pixels:
    """Read a mask that fits its frame and shows an object."""
    mask = read_mask(path)
    if mask.shape != frame.shape[:2]:
        raise DataError(f"{path}: does not fit the frames; delete {path.parent} to make the masks again")
    if not (mask > 127).any() or mask.min() == 255:
        found = "nothing" if mask.min() < 255 else "everything"
        raise DataError(
            f"{label}: {found} was taken for the object ({path}); choose other frames or give masks of your own"
        )
    return mask
