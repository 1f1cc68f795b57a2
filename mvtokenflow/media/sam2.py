"""Segments a clip by SAM 2 from a click or a box in its first frame, as the paper does (A.2).

SAM 2: Ravi et al., "SAM 2: Segment Anything in Images and Videos" (2024), as transformers implements it. Its
weights are not in the weights ledger, since no sha256 of this layout is published: they are those that
`hf download` has put into the Hub's cache, or a folder of the same layout that MVTF_WEIGHTS_SAM2 names.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mvtokenflow.base.errors import ConfigError, WeightsMissingError
from mvtokenflow.media.pictures import Pixels
from mvtokenflow.media.segment import Segmentation, Segmenter

REPOSITORY = "facebook/sam2.1-hiera-small"
ABOUT = "about 184 MB, code and weights Apache-2.0"
VARIABLE = "MVTF_WEIGHTS_SAM2"
_OTHERWISE = "or give a mask, or a clip with alpha"


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """Where the object is in the first frame, in its pixels.

    Attributes:
        points: (x, y) on the object. box: (left, top, right, bottom) around it.
    """

    points: tuple[tuple[float, float], ...] = ()
    box: tuple[float, float, float, float] | None = None

    def check(self, frames: Pixels) -> None:
        """Refuse a prompt that names no place, or places outside the frames (T, H, W, 3).

        Raises:
            ConfigError: no point and no box, or one that is not inside.
        """
        height, width = frames.shape[1:3]
        if not self.points and self.box is None:
            raise ConfigError("SAM 2 needs to know the object; give --point X,Y or --box LEFT,TOP,RIGHT,BOTTOM")
        for x, y in self.points:
            if not (0 <= x < width and 0 <= y < height):
                raise ConfigError(f"--point {x:g},{y:g}: outside the frames, which are {width}x{height} pixels")
        if self.box is not None:
            left, top, right, bottom = self.box
            if not (0 <= left < right <= width and 0 <= top < bottom <= height):
                raise ConfigError(
                    f"--box {left:g},{top:g},{right:g},{bottom:g}: not LEFT,TOP,RIGHT,BOTTOM inside frames of "
                    f"{width}x{height} pixels"
                )

    def __str__(self) -> str:
        places = [f"point {x:g},{y:g}" for x, y in self.points]
        box = [] if self.box is None else ["box " + ",".join(f"{side:g}" for side in self.box)]
        return " ".join([*places, *box])


def numbers(option: str, word: str, count: int) -> tuple[float, ...]:
    """Read `count` numbers with commas between them.

    Raises:
        ConfigError: `word` is something else; `option` names it.
    """
    try:
        found = tuple(float(part) for part in word.split(","))
    except ValueError:
        found = ()
    if len(found) != count or not all(np.isfinite(found)):
        raise ConfigError(f"{option} is '{word}'; expected {count} numbers with commas between them")
    return found


def sam2(prompt: Prompt, device: str = "cpu") -> Segmentation:
    """Return SAM 2 as a segmentation; it is loaded when it is needed."""
    return Segmentation(f"sam2 {source().rsplit('/', 1)[-1]} {prompt}", lambda: load_sam2(prompt, device))


def source() -> str:
    """Return the folder that `VARIABLE` names, or the repository whose files are taken from the Hub's cache."""
    return os.environ.get(VARIABLE) or REPOSITORY


def load_sam2(prompt: Prompt, device: str = "cpu") -> Segmenter:
    """Load SAM 2; nothing is downloaded.

    Raises:
        ConfigError: this transformers has no SAM 2.
        WeightsMissingError: the weights are not here.
    """
    transformers: Any = import_module("transformers")
    if not hasattr(transformers, "Sam2VideoModel"):
        raise ConfigError(
            f"SAM 2 needs transformers 4.56 or newer, here is {transformers.__version__}; run `pip install -U "
            f"transformers`, {_OTHERWISE}"
        )
    named = source()
    if named != REPOSITORY and not (Path(named) / "config.json").is_file():
        raise WeightsMissingError(
            f"{VARIABLE}={named}: holds no config.json; name a folder as `hf download` makes it"
        )
    try:
        model = transformers.Sam2VideoModel.from_pretrained(named, local_files_only=True)
        processor = transformers.Sam2VideoProcessor.from_pretrained(named, local_files_only=True)
    except (OSError, ValueError) as error:
        raise WeightsMissingError(
            f"SAM 2's weights ({named}; {ABOUT}) are not here ({str(error).splitlines()[0]:.80}); run "
            f"`hf download {REPOSITORY}`, name a folder of them by {VARIABLE}, {_OTHERWISE}"
        ) from error
    model = model.eval().to(device)

    def segment(frames: Pixels, wanted: Sequence[int]) -> Iterator[Pixels]:
        prompt.check(frames)
        return (mask for n, mask in enumerate(_tracked(model, processor, frames, prompt)) if n in set(wanted))

    return segment


@torch.no_grad()
def _tracked(model: Any, processor: Any, frames: Pixels, prompt: Prompt) -> Iterator[Pixels]:
    """Yield the mask (H, W) uint8 of each frame, by the probability that a pixel is of the object."""
    session = processor.init_video_session(video=list(frames), inference_device=model.device, dtype=model.dtype)
    given: dict[str, Any] = {}
    if prompt.points:
        given["input_points"] = [[[list(point) for point in prompt.points]]]
        given["input_labels"] = [[[1] * len(prompt.points)]]
    if prompt.box is not None:
        given["input_boxes"] = [[list(prompt.box)]]
    processor.add_inputs_to_inference_session(session, frame_idx=0, obj_ids=1, **given)
    model(inference_session=session, frame_idx=0)
    size = [list(frames.shape[1:3])]
    for found in model.propagate_in_video_iterator(session):
        (levels,) = processor.post_process_masks([found.pred_masks], original_sizes=size, binarize=False)
        probable = levels[0, 0].float().sigmoid().cpu().numpy()
        yield np.asarray(np.rint(probable * 255), np.uint8)
