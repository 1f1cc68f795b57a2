"""Strict reading of clips: folders of frames, and video files.

What is not understood is refused, never repaired. A clip is a folder of frames `<n>.png` or a video file. Every
DataError names the file, what was found in it and what to do. Pictures are read and written by
`mvtokenflow.media.pictures`, videos written by `mvtokenflow.media.video_writer`; both are re-exported here.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from mvtokenflow.base.errors import DataError
from mvtokenflow.base.files import frame_files, frame_numbers, title
from mvtokenflow.media.clip import Clip, Frames
from mvtokenflow.media.masks import CUT_OUT, check_cut_out, check_mask_levels, cleaned, without_veil
from mvtokenflow.media.pictures import (
    PICTURES,
    Pixels,
    composite_white,
    is_jpeg,
    read_frame,
    read_mask,
    read_on_white,
    read_rgb,
    read_rgba,
    to_uint8,
    write_png,
)
from mvtokenflow.media.video_file import decoded
from mvtokenflow.media.video_frame import colour_note, frame_pixels
from mvtokenflow.media.video_writer import write_video

__all__ = [
    "MAX_CLIP_PIXELS",
    "Clip",
    "Frames",
    "Pixels",
    "clip_of",
    "composite_white",
    "count_frames",
    "read_clip",
    "read_frames",
    "read_mask",
    "read_on_white",
    "read_opaque",
    "read_rgb",
    "read_rgba",
    "to_uint8",
    "write_png",
    "write_video",
]

MAX_CLIP_PIXELS = 2**28  # 4 GiB as float32 RGBA


def read_clip(
    source: Path,
    mask: Path | None = None,
    *,
    start: int = 0,
    stop: int | None = None,
    stride: int = 1,
    name: str | None = None,
    fix: str = CUT_OUT,
) -> Clip:
    """Read a clip of one object with its alpha.

    Args:
        source: a folder of frames `<n>.png` (8-bit RGBA, or RGB with `mask`; see `files.frame_files` for other
            names, `.jpg` with `mask`), or a video file: mp4, mov, webm, mkv, avi or gif, with an alpha channel
            or with `mask`. Turns and mirrors stated in the file are applied; HDR and wide colours become sRGB.
        mask: a folder of masks (see `read_mask`) or a video whose brightness is the mask, of the same size, one
            for each frame under the frame's number; 255 is the object.
        start, stop, stride: selected frames, by position from 0 in numeric order; `stop` is exclusive.
        name: name of the clip in messages; the file's name by default.
        fix: advice in messages for a clip whose object is not cut out.

    The times of the frames are their time stamps or numbers, see `Clip.clock`. Alpha that went through a lossy
    codec is set to 0 or 255 within `masks.FAINT` of them, and nearly transparent pixels far from the object are
    removed; nothing else is altered.

    Raises:
        DataError: unreadable, damaged or cut off files, unequal sizes, a range that is not in the clip,
            fewer than two frames, no object (opaque, empty or inverted alpha), two sources of alpha, masks that
            do not fit, or hold numbers of objects, more than MAX_CLIP_PIXELS in all.
    """
    frames = read_frames(source, start=start, stop=stop, stride=stride)
    return clip_of(frames, source, mask, name=name, fix=fix)


def read_frames(
    source: Path, *, start: int = 0, stop: int | None = None, stride: int = 1, most: int | None = None
) -> Frames:
    """Read frames of a clip, with alpha or without; a video is decoded up to the last frame wanted.

    Args:
        most: frames to read if `stop` is None; more are left unread.

    Other arguments and errors are those of `read_clip`.
    """
    return _read(source, slice(start, stop, stride), most)


def position_at(source: Path, seconds: float) -> int:
    """Return the position of the first frame of a video at or after a time from its beginning.

    Raises:
        DataError: a folder, which has no seconds; a video that ends before; as `read_clip`.
    """
    if source.is_dir():
        raise DataError(f"{source}: a folder of frames has no seconds; name the first frame by its position")
    first, position = None, 0
    for position, item in enumerate(decoded(source)):
        first = item.stamp if first is None else first
        if (item.stamp - first) * item.tick >= seconds:
            return position
    raise DataError(f"{source}: its {position + 1} frames end before {seconds:g} s; start earlier")


def clip_of(
    frames: Frames, source: Path, mask: Path | None = None, *, name: str | None = None, fix: str = CUT_OUT
) -> Clip:
    """Make a clip of the frames that were read from `source`; arguments and errors as those of `read_clip`."""
    alpha = frames.pictures[..., 3] if frames.pictures.shape[-1] == 4 else None
    where, notes = source, list(frames.notes)
    if mask is not None:
        if alpha is not None and alpha.min() < 255:
            raise DataError(f"{source}: has alpha of its own and a mask ({mask}); give one of them")
        where = mask
        alpha, paired = _read_masks(mask, frames, source)
        notes += paired
    if alpha is None:
        raise DataError(f"{source}: no alpha channel, the object is not cut out; {fix}")
    alpha, veil = without_veil(str(where), alpha)
    notes += [veil] if veil else []
    notes += check_cut_out(str(where), frames.labels, alpha, fix=fix)
    times, uneven = frames.clock(str(source))
    return Clip(
        rgb=torch.from_numpy(np.ascontiguousarray(frames.pictures[..., :3])).float().div_(255),
        alpha=torch.from_numpy(np.ascontiguousarray(alpha[..., None])).float().div_(255),
        name=name or title(source),
        clock=times,
        notes=(*notes, *uneven),
    )


def read_opaque(source: Path, *, start: int = 0, stop: int | None = None, stride: int = 1) -> Frames:
    """Read RGB frames (T, H, W, 3) of a clip whose object is not cut out yet; arguments as for `read_clip`.

    Raises:
        DataError: as `read_clip`, or the frames have an alpha channel that is in use.
    """
    return opaque(read_frames(source, start=start, stop=stop, stride=stride), source)


def opaque(frames: Frames, source: Path) -> Frames:
    """Return the frames without their alpha channel; DataError if it is in use."""
    if frames.has_alpha:
        raise DataError(f"{source}: has alpha of its own, the object is cut out; read it without segmenting it")
    return replace(frames, pictures=np.ascontiguousarray(frames.pictures[..., :3]))


def count_frames(source: Path) -> int:
    """Count the frames of a folder or video file; a file is decoded, since its header may be missing or wrong.

    Raises:
        DataError: as `read_clip`.
    """
    if source.is_dir():
        return len(frame_files(source, PICTURES))
    return sum(1 for _ in decoded(source))


Check = Callable[[list[int], bool], None]  # raises if the frame numbers, `whole` or not, do not fit


def _read(
    source: Path,
    keep: slice,
    most: int | None = None,
    check: Check = lambda numbers, whole: None,
    *,
    masks: bool = False,
    to_the_end: bool = False,
) -> Frames:
    """Read frames of a folder or video, once its numbers have passed `check`.

    Args:
        to_the_end: decode a video beyond the last frame wanted, so that all are counted.
    """
    if source.is_dir():
        return _read_folder(source, keep, most, check, masks)
    return _read_video(source, keep, most, check, masks, to_the_end)


def _positions(source: Path, keep: slice, total: int, most: int | None) -> range:
    start, stop, stride = keep.start, total if keep.stop is None else keep.stop, keep.step
    if stride < 1 or not 0 <= start < stop <= total:
        raise DataError(
            f"{source}: frames {start} to {stop} in steps of {stride} were asked for, it has {total} "
            f"(0 to {total - 1}); ask for frames that it has"
        )
    positions = range(start, stop, stride)
    positions = positions if keep.stop is not None else positions[:most]
    if len(positions) < 2:
        raise DataError(f"{source}: {len(positions)} frame selected of {total}; a clip needs two or more")
    return positions


def _refuse_too_large(source: Path, picture: Pixels, count: int) -> None:
    height, width = picture.shape[:2]
    if height * width * count > MAX_CLIP_PIXELS:
        raise DataError(
            f"{source}: {count} frames of {width}x{height} do not fit into {MAX_CLIP_PIXELS >> 20} megapixels; "
            "take fewer frames or scale them down"
        )


def _stacked(pictures: Sequence[Pixels], labels: Sequence[str]) -> Pixels:
    first = pictures[0]
    for label, picture in zip(labels, pictures, strict=True):
        if picture.shape[:2] != first.shape[:2]:
            sizes = [f"{p.shape[1]}x{p.shape[0]}" for p in (picture, first)]
            raise DataError(
                f"{label}: {sizes[0]} pixels, but {labels[0]} has {sizes[1]}; make all frames one size"
            )
        if picture.shape != first.shape:
            raise DataError(
                f"{label}: {picture.shape[2]} channels, but {labels[0]} has {first.shape[2]}; "
                "save all frames as RGBA, or all as RGB"
            )
    return np.stack(pictures)


def _read_folder(folder: Path, keep: slice, most: int | None, check: Check, masks: bool) -> Frames:
    paths = frame_files(folder, PICTURES)
    numbers = frame_numbers(paths)
    check(numbers, True)
    positions = _positions(folder, keep, len(paths), most)
    chosen = [paths[position] for position in positions]
    read = read_mask if masks else read_frame
    pictures = [read(chosen[0])]
    _refuse_too_large(folder, pictures[0], len(chosen))
    pictures += [read(path) for path in chosen[1:]]
    labels = [str(path) for path in chosen]
    return Frames(
        pictures=_stacked(pictures, labels),
        labels=labels,
        numbers=numbers,
        whole=True,
        counted=True,
        stamps=[numbers[position] for position in positions],
        tick=Fraction(0),
        unit="numbers",
        lossy=any(is_jpeg(path) for path in chosen),
        notes=(),
        keep=keep,
    )


def _read_video(
    path: Path, keep: slice, most: int | None, check: Check, masks: bool, to_the_end: bool
) -> Frames:
    kept: dict[int, tuple[Pixels, int]] = {}
    total, lossy, tick, whole = 0, False, Fraction(0), True
    notes: dict[str, None] = {}
    end = keep.start + most * keep.step if most is not None and keep.stop is None else keep.stop
    for item in decoded(path):
        if end is not None and total >= end and not to_the_end:
            whole = False
            break
        position, total, lossy, tick = total, total + 1, item.lossy, item.tick
        if position < keep.start or (position - keep.start) % max(keep.step, 1):
            continue
        if end is not None and position >= end:
            continue
        colours = colour_note(item.frame)
        notes |= dict.fromkeys(note for note in (item.note, colours and f"{path}: {colours}") if note)
        kept[position] = frame_pixels(path, item.frame, item.matrix, masks=masks), item.stamp
        _refuse_too_large(path, kept[position][0], len(kept))
    check(list(range(total)), whole)
    positions = _positions(path, keep, total, most)
    labels = [f"{path} frame {position}" for position in positions]
    pictures = _stacked([kept[position][0] for position in positions], labels)
    if lossy and pictures.shape[-1] == 4 and not masks:
        pictures[..., 3] = cleaned(pictures[..., 3])
    return Frames(
        pictures=pictures,
        labels=labels,
        numbers=list(range(total)),
        whole=whole,
        counted=False,
        stamps=[kept[position][1] for position in positions],
        tick=tick,
        unit="s",
        lossy=lossy,
        notes=tuple(notes),
        keep=keep,
    )


def _read_masks(mask: Path, frames: Frames, source: Path) -> tuple[Pixels, list[str]]:
    """Read masks (T, H, W) of the frames, and notes."""

    def check(numbers: list[int], whole: bool) -> None:
        # Of a video that was decoded up to the last frame wanted, no more numbers are known.
        ours = numbers if frames.whole else numbers[: len(frames.numbers)]
        theirs = frames.numbers if whole else frames.numbers[: len(numbers)]
        _refuse_unpaired(mask, ours, source, theirs)

    found = _read(mask, frames.keep, len(frames.pictures), check, masks=True, to_the_end=frames.whole)
    pictures = cleaned(found.pictures) if found.lossy else found.pictures
    if pictures.shape != frames.pictures.shape[:3]:
        sizes = [f"{p.shape[2]}x{p.shape[1]}" for p in (pictures, frames.pictures)]
        raise DataError(
            f"{mask}: masks of {sizes[0]} pixels for frames of {sizes[1]} in {source}; make them equal"
        )
    check_mask_levels(str(mask), pictures)
    shift = [] if found.numbers[0] == frames.numbers[0] else [
        f"{mask}: numbered from {found.numbers[0]}, the frames of {source} from {frames.numbers[0]}; both are "
        "without a gap and paired in order"
    ]  # fmt: skip
    return pictures, [*found.notes, *shift]


def _refuse_unpaired(mask: Path, ours: list[int], source: Path, theirs: list[int]) -> None:
    """Refuse masks whose numbers differ from the frames'; accepted ones are paired by position.

    One of the two may count from 1 and the other from 0, if neither has a gap.
    """
    if ours == theirs:
        return
    gapless = all(numbers == list(range(numbers[0], numbers[0] + len(numbers))) for numbers in (ours, theirs))
    if gapless and len(ours) == len(theirs) and {ours[0], theirs[0]} == {0, 1}:
        return
    lacking, spare = sorted(set(theirs) - set(ours)), sorted(set(ours) - set(theirs))
    found = [f"frame {_listed(lacking)} has no mask"] if lacking else []
    found += [f"mask {_listed(spare)} has no frame"] if spare else []
    raise DataError(
        f"{mask}: {len(ours)} masks for the {len(theirs)} frames of {source}; give one each under the frame's "
        f"number: {' and '.join(found)}"
    )


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers[:3])) + (" ..." if len(numbers) > 3 else "")
