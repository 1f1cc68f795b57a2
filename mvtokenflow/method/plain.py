"""Cuts the object of a run out of a plain background, with optical flow between neighbouring frames."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from mvtokenflow.base.errors import ConfigError, DataError
from mvtokenflow.flow.estimate import DisEstimator
from mvtokenflow.flow.ops import resize
from mvtokenflow.media.background import (
    Background,
    Flow,
    cut_out,
    measure_background,
    parsed_colour,
    straight_colours,
)
from mvtokenflow.media.pictures import Pixels
from mvtokenflow.media.segment import Segmentation, Segmenter

AUTO = "auto"
_FLOW_SIDE = 384  # longest side in pixels at which flow is estimated
_LEAST_SIDE = 16  # of DIS


def plain_background(source: Path, frames: Pixels, word: str, cure: str) -> Background:
    """Measure the background of frames (T, H, W, 3).

    Args:
        word: "auto", which takes the border's colour, "white" or "#rrggbb".
        cure: what to do where the border has not one colour, as the end of a sentence.

    Raises:
        ConfigError: `word` is none of these.
        DataError: the border has not one colour, or not this one.
    """
    try:
        colour = None if word == AUTO else parsed_colour(word)
    except ValueError as error:
        raise ConfigError(
            f"--background is '{word}'; choose auto, white or a colour such as '#f4f4f0'"
        ) from error
    found = measure_background(frames, colour)
    fault = found.fault()
    if fault is not None:
        raise DataError(f"{source}: {fault}, so that the object cannot be told from the background; {cure}")
    return found


def plain_segmentation(background: Background, word: str, lossy: bool) -> Segmentation:
    """Return what cuts the object out of frames with this background; `word` as for `plain_background`."""

    def load() -> Segmenter:
        def segment(frames: Pixels, wanted: Sequence[int]) -> Iterator[Pixels]:
            masks, chosen = cut_out(frames, background, lossy=lossy, flow=flow_between(frames)), set(wanted)
            return (mask for n, mask in enumerate(masks) if n in chosen)

        return segment

    return Segmentation(f"background {word.lower()}", load, straight_colours)


def flow_between(frames: Pixels) -> Flow | None:
    """Return optical flow between the frames (T, H, W, 3), by DIS at a reduced size; None of tiny pictures."""
    height, width = frames.shape[1:3]
    scale = min(1.0, _FLOW_SIDE / max(height, width))
    size = (round(width * scale), round(height * scale))
    if min(size) < _LEAST_SIDE:
        return None
    estimator = DisEstimator()

    @lru_cache(maxsize=4)
    def small(n: int) -> torch.Tensor:
        picture = cv2.resize(frames[n], size, interpolation=cv2.INTER_AREA)
        return torch.from_numpy(picture)[None].float().div_(255)

    @lru_cache(maxsize=4)  # both frames of a pair ask for the same two
    def flow(source: int, target: int) -> NDArray[np.float32]:
        found = resize(estimator.estimate(small(source), small(target)), height, width)[0]
        return np.asarray(found.numpy())

    return flow
