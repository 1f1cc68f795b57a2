"""Strict reading of clips (frame folders and video files), and writing of videos.

What is not understood is refused, never repaired. A clip is a folder of frames `<n>.png` or a video file. Every
DataError names the file, what was found in it and what to do. Single pictures are read and written by
`mvtokenflow.media.pictures`, re-exported here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from torch import Tensor

from mvtokenflow.base.errors import DataError
from mvtokenflow.base.files import atomic_path, digest, frame_files, frame_numbers, title
from mvtokenflow.media.frame_times import clock, unevenness
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

__all__ = [
    "MAX_CLIP_PIXELS",
    "Clip",
    "Frames",
    "Pixels",
    "composite_white",
    "count_frames",
    "read_clip",
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


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A video of one object with its alpha.

    Attributes:
        rgb: (T, H, W, 3) float32 in [0, 1], straight (not premultiplied).
        alpha: (T, H, W, 1) float32 in [0, 1].
        name: name in messages.
        clock: (T,) float32 times of the frames, increasing from 0 to 1; None spaces them evenly.
        notes: assumptions made while reading, one sentence each.

    Raises:
        ValueError: shapes or times that do not fit together.
    """

    rgb: Tensor
    alpha: Tensor
    name: str
    clock: Tensor | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.rgb.ndim != 4 or self.rgb.shape[-1] != 3 or self.alpha.shape != (*self.rgb.shape[:-1], 1):
            raise ValueError(
                f"clip {self.name}: rgb must be (T, H, W, 3) and alpha (T, H, W, 1), got "
                f"{tuple(self.rgb.shape)} and {tuple(self.alpha.shape)}"
            )
        clock = self.clock
        if clock is not None and (
            clock.shape != self.rgb.shape[:1]
            or (float(clock[0]), float(clock[-1])) != (0.0, 1.0)
            or not bool((clock.diff() > 0).all())
        ):
            raise ValueError(f"clip {self.name}: clock {clock} is not {len(self)} times increasing from 0 to 1")

    def __len__(self) -> int:
        return int(self.rgb.shape[0])

    @property
    def times(self) -> Tensor:
        """Times (T,) float32 in [0, 1]: the clock, or n / (T - 1); a single frame is at 0."""
        if self.clock is not None:
            return self.clock
        return torch.arange(len(self), dtype=torch.float32) / max(len(self) - 1, 1)

    def digest(self) -> str:
        """Hex sha256 of everything a run depends on; the name and the notes do not matter."""
        parts = {"rgb": self.rgb, "alpha": self.alpha}
        if self.clock is not None:
            parts["clock"] = self.clock
        return digest((name, part.contiguous().numpy().tobytes()) for name, part in parts.items())

    def on_background(self, value: float = 1.0) -> Tensor:
        """Composite over a constant grey `value` in [0, 1], (T, H, W, 3); 1 is white."""
        return self.rgb * self.alpha + value * (1 - self.alpha)


@dataclass(frozen=True, kw_only=True)
class Frames:
    """Selected frames of a source with their numbers and time stamps.

    Attributes:
        pictures: (T, H, W[, C]) uint8.
        labels: name of each frame in messages.
        numbers: numbers of all frames of the source, in order, by which masks are paired.
        counted: the numbers are the source's own; else a video's, counted from 0.
        stamps: time stamps of the selected frames. tick: what these are rounded to, see `frame_times.clock`.
        unit: unit of the stamps.
        lossy: the pictures went through a lossy codec.
        notes: assumptions made.
    """

    pictures: Pixels
    labels: list[str]
    numbers: list[int]
    counted: bool
    stamps: list[int]
    tick: Fraction
    unit: str
    lossy: bool
    notes: tuple[str, ...]

    def clock(self, name: str) -> tuple[Tensor | None, tuple[str, ...]]:
        """Compute the frames' times as in `Clip.clock`, and a note if they are uneven."""
        stamps: list[Fraction | int] = list(self.stamps)
        if not self.counted:
            stamps = [stamp * self.tick for stamp in self.stamps]
        found = clock(name, stamps, self.tick)
        if found is None:
            return None, ()
        return found, (f"{name}: frames are {unevenness(stamps, self.unit)} and keep their own times",)


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
    keep = slice(start, stop, stride)
    frames = _read(source, keep)
    alpha = frames.pictures[..., 3] if frames.pictures.shape[-1] == 4 else None
    where, notes = source, list(frames.notes)
    if mask is not None:
        if alpha is not None and alpha.min() < 255:
            raise DataError(f"{source}: has alpha of its own and a mask ({mask}); give one of them")
        where = mask
        alpha, paired = _read_masks(mask, frames, source, keep)
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
    frames = _read(source, slice(start, stop, stride))
    if frames.pictures.shape[-1] == 4 and frames.pictures[..., 3].min() < 255:
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


Check = Callable[[list[int]], None]  # raises if the frame numbers of a source do not fit


def _read(source: Path, keep: slice, masks: bool = False, check: Check = lambda numbers: None) -> Frames:
    """Read frames of a folder or video, once its numbers have passed `check`."""
    return (_read_folder if source.is_dir() else _read_video)(source, keep, masks, check)


def _positions(source: Path, keep: slice, total: int) -> range:
    start, stop, stride = keep.start, total if keep.stop is None else keep.stop, keep.step
    if stride < 1 or not 0 <= start < stop <= total:
        raise DataError(
            f"{source}: frames {start} to {stop} in steps of {stride} were asked for, it has {total} "
            f"(0 to {total - 1}); ask for frames that it has"
        )
    positions = range(start, stop, stride)
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


def _read_folder(folder: Path, keep: slice, masks: bool, check: Check) -> Frames:
    paths = frame_files(folder, PICTURES)
    numbers = frame_numbers(paths)
    check(numbers)
    positions = _positions(folder, keep, len(paths))
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
        counted=True,
        stamps=[numbers[position] for position in positions],
        tick=Fraction(0),
        unit="numbers",
        lossy=any(is_jpeg(path) for path in chosen),
        notes=(),
    )


def _read_video(path: Path, keep: slice, masks: bool, check: Check) -> Frames:
    kept: dict[int, tuple[Pixels, int]] = {}
    total, lossy, tick = 0, False, Fraction(0)
    notes: dict[str, None] = {}
    for item in decoded(path):
        position, total, lossy, tick = total, total + 1, item.lossy, item.tick
        if position < keep.start or (position - keep.start) % max(keep.step, 1):
            continue
        if keep.stop is None or position < keep.stop:
            colours = colour_note(item.frame)
            notes |= dict.fromkeys(note for note in (item.note, colours and f"{path}: {colours}") if note)
            kept[position] = frame_pixels(path, item.frame, item.matrix, masks=masks), item.stamp
            _refuse_too_large(path, kept[position][0], len(kept))
    check(list(range(total)))
    positions = _positions(path, keep, total)
    labels = [f"{path} frame {position}" for position in positions]
    pictures = _stacked([kept[position][0] for position in positions], labels)
    if lossy and pictures.shape[-1] == 4 and not masks:
        pictures[..., 3] = cleaned(pictures[..., 3])
    return Frames(
        pictures=pictures,
        labels=labels,
        numbers=list(range(total)),
        counted=False,
        stamps=[kept[position][1] for position in positions],
        tick=tick,
        unit="s",
        lossy=lossy,
        notes=tuple(notes),
    )


def _read_masks(mask: Path, frames: Frames, source: Path, keep: slice) -> tuple[Pixels, list[str]]:
    """Read masks (T, H, W) of the frames, and notes."""
    found = _read(mask, keep, True, lambda numbers: _refuse_unpaired(mask, numbers, source, frames.numbers))
    pictures = cleaned(found.pictures) if found.lossy else found.pictures
    if pictures.shape != frames.pictures.shape[:3]:
        sizes = [f"{p.shape[2]}x{p.shape[1]}" for p in (pictures, frames.pictures)]
        raise DataError(
            f"{mask}: masks of {sizes[0]} pixels for frames of {sizes[1]} in {source}; make them equal"
        )
    check_mask_levels(str(mask), pictures)
    shift = [] if found.numbers == frames.numbers else [
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


def write_video(path: Path, frames: Pixels, fps: float | Fraction) -> None:
    """Write an H.264 MP4 atomically that every browser plays: yuv420p, BT.709, quality CRF 18.

    Equal frames give equal bytes, on any number of cores. yuv420p needs even sizes: an odd last column or row
    is repeated once.

    Args:
        path: must end in .mp4.
        frames: (T, H, W, 3) uint8, T >= 1.
        fps: frames per second, > 0.

    Raises:
        DataError: another file type, shape, element type or rate; this PyAV has no H.264 encoder.
    """
    if path.suffix.lower() != ".mp4":
        raise DataError(f"{path}: videos are written as MP4; end the name in .mp4")
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or not frames.size:
        raise DataError(f"{path}: frames {frames.shape} of {frames.dtype}; expected (T, H, W, 3) of uint8")
    if not 0 < fps <= 1000:
        raise DataError(f"{path}: {fps} frames per second; choose a rate above 0 and up to 1000")
    if "libx264" not in av.codecs_available:
        raise DataError(f"{path}: this PyAV has no H.264 encoder (libx264); install the wheel 'av' from PyPI")
    frames = np.pad(frames, ((0, 0), (0, frames.shape[1] % 2), (0, frames.shape[2] % 2), (0, 0)), "edge")
    with atomic_path(path) as temporary:
        container = av.open(str(temporary), "w", format="mp4", options={"movflags": "faststart"})
        with container:
            stream = container.add_stream(
                "libx264", rate=Fraction(fps).limit_denominator(1001), options={"crf": "18"}
            )
            stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
            context = stream.codec_context
            context.thread_count = 1  # the encoded bits and the file's metadata depend on the number of threads
            context.colorspace, context.color_primaries, context.color_trc = 1, 1, 1  # BT.709
            context.color_range = 1  # 16..235
            for picture in frames:
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
