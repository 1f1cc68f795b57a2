"""Clips of pictures, read strictly: what is not understood is refused, never repaired.

A clip is a folder of frames `<n>.png` or a video file. Every DataError names the file, what was found in
it and what to do. Single pictures are read and written by `mvtokenflow.pictures`, re-exported here.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from torch import Tensor

from mvtokenflow.errors import DataError
from mvtokenflow.files import atomic_path, digest, frame_files
from mvtokenflow.pictures import (
    AGAIN,
    Pixels,
    check_file,
    composite_white,
    read_mask,
    read_on_white,
    read_png,
    read_rgb,
    read_rgba,
    to_uint8,
    write_png,
)

__all__ = [
    "LOSSY_ALPHA_SLACK",
    "MAX_CLIP_PIXELS",
    "Clip",
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

# Levels within this distance of 0 and 255 count as 0 and 255 where alpha went through a lossy codec.
# libvpx and x264 leave up to 10 levels of noise beside edges, which would be a grey veil on white.
LOSSY_ALPHA_SLACK = 15

_CONTAINERS = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "gif", "avi"}
# FFmpeg's own VP8 and VP9 decoders drop the alpha plane; these keep it.
_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
_CUT_OUT = "give frames with alpha (RGBA), a mask (--mask), or segment the object first"


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A video of one object.

    Attributes:
        rgb: (T, H, W, 3) float32 in [0, 1], straight (not premultiplied).
        alpha: (T, H, W, 1) float32 in [0, 1].
        name: what messages call it.
        clock: (T,) float32 times of the frames, increasing from 0 to 1; None spaces them evenly.
        notes: what was taken for granted while it was read, one sentence each.

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
        """(T,) float32 in [0, 1]: the clock, or n / (T - 1); a single frame is at 0."""
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
        """(T, H, W, 3) composited over a constant grey `value` in [0, 1]; 1 is white."""
        return self.rgb * self.alpha + value * (1 - self.alpha)


@dataclass(frozen=True)
class _Frames:
    """(T, H, W[, C]) pictures that were asked for, what messages call them, and how many there were in all."""

    pictures: Pixels
    labels: Sequence[str]
    total: int


def read_clip(
    source: Path,
    mask: Path | None = None,
    *,
    start: int = 0,
    stop: int | None = None,
    stride: int = 1,
    name: str | None = None,
) -> Clip:
    """Read a clip of one object with its alpha.

    Args:
        source: a folder of frames `<n>.png` (8-bit RGBA, or RGB with `mask`), or a video file: mp4, mov,
            webm, mkv, avi or gif, with an alpha channel or with `mask`. A rotation stored in the file
            is applied.
        mask: a folder of masks (see `read_mask`) or a video whose brightness is the mask, with as many
            frames of the same size; 255 is the object.
        start, stop, stride: which frames, by position from 0 in numeric order; `stop` is exclusive.
        name: what messages call the clip; the file's name by default.

    Alpha that went through a lossy codec is set to 0 or 255 within LOSSY_ALPHA_SLACK of them; nothing
    else is altered.

    Raises:
        DataError: unreadable, damaged or cut off files, unequal sizes, a range that is not in the clip,
            fewer than two frames, no object (opaque or empty alpha), two sources of alpha, a mask that
            does not fit, more than MAX_CLIP_PIXELS in all.
    """
    keep = slice(start, stop, stride)
    frames = _read_folder(source, keep) if source.is_dir() else _read_video(source, keep)
    alpha = frames.pictures[..., 3] if frames.pictures.shape[-1] == 4 else None
    if mask is not None:
        if alpha is not None and alpha.min() < 255:
            raise DataError(f"{source}: has alpha of its own and a mask ({mask}); give one of them")
        alpha = _read_masks(mask, frames, source, keep)
    if alpha is None or alpha.min() == 255:
        found = "no alpha channel" if alpha is None else "opaque everywhere"
        raise DataError(f"{source if mask is None else mask}: {found}, the object is not cut out; {_CUT_OUT}")
    empty = [label for label, picture in zip(frames.labels, alpha, strict=True) if not picture.any()]
    if empty:
        raise DataError(
            f"{', '.join(empty[:3])}{' ...' if len(empty) > 3 else ''}: alpha is 0 everywhere, no object in "
            f"{len(empty)} of {len(alpha)} frames; mend the mask or choose other frames with start and stop"
        )
    return Clip(
        rgb=torch.from_numpy(np.ascontiguousarray(frames.pictures[..., :3])).float().div_(255),
        alpha=torch.from_numpy(np.ascontiguousarray(alpha[..., None])).float().div_(255),
        name=name or source.stem,
    )


def read_opaque(source: Path, *, start: int = 0, stop: int | None = None, stride: int = 1) -> Pixels:
    """(T, H, W, 3) uint8 frames of a clip whose object is not cut out yet. Arguments as of `read_clip`.

    Raises:
        DataError: as `read_clip`, or the frames have an alpha channel that is in use.
    """
    keep = slice(start, stop, stride)
    frames = _read_folder(source, keep) if source.is_dir() else _read_video(source, keep)
    if frames.pictures.shape[-1] == 4 and frames.pictures[..., 3].min() < 255:
        raise DataError(f"{source}: has alpha of its own, the object is cut out; read it without segmenting it")
    return np.ascontiguousarray(frames.pictures[..., :3])


def count_frames(source: Path) -> int:
    """How many frames a folder or video file has; a file is decoded, since its header may not say or be wrong.

    Raises:
        DataError: as `read_clip`.
    """
    if source.is_dir():
        return len(frame_files(source))
    return sum(1 for _ in _decoded(source))


def _positions(source: Path, keep: slice, total: int) -> range:
    start, stop, stride = keep.start, total if keep.stop is None else keep.stop, keep.step
    if stride < 1 or not 0 <= start < stop <= total:
        raise DataError(
            f"{source}: frames {start} to {stop} in steps of {stride} were asked for, it has {total} "
            f"(0 to {total - 1}); choose 0 <= start < stop <= {total} and stride >= 1"
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
            "choose fewer frames (start, stop, stride) or scale them down"
        )


def _stack(pictures: Sequence[Pixels], labels: Sequence[str], total: int) -> _Frames:
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
    return _Frames(np.stack(pictures), labels, total)


def _read_folder(folder: Path, keep: slice, *, masks: bool = False) -> _Frames:
    paths = frame_files(folder)
    chosen = [paths[position] for position in _positions(folder, keep, len(paths))]
    read = read_mask if masks else _read_rgb_or_rgba
    pictures = [read(chosen[0])]
    _refuse_too_large(folder, pictures[0], len(chosen))
    pictures += [read(path) for path in chosen[1:]]
    return _stack(pictures, [str(path) for path in chosen], len(paths))


def _read_rgb_or_rgba(path: Path) -> Pixels:
    return read_png(path, ("8-bit RGBA", "8-bit RGB"))


def _read_masks(mask: Path, frames: _Frames, source: Path, keep: slice) -> Pixels:
    found = _read_folder(mask, keep, masks=True) if mask.is_dir() else _read_video(mask, keep, masks=True)
    if found.total != frames.total:
        raise DataError(f"{mask}: {found.total} masks for the {frames.total} frames of {source}; give one each")
    if found.pictures.shape != frames.pictures.shape[:3]:
        sizes = [f"{p.shape[2]}x{p.shape[1]}" for p in (found.pictures, frames.pictures)]
        raise DataError(
            f"{mask}: masks of {sizes[0]} pixels for frames of {sizes[1]} in {source}; make them equal"
        )
    if found.pictures.max() == 1:
        raise DataError(f"{mask}: the masks hold 0 and 1, expected 0 and 255; multiply them by 255")
    return found.pictures


# ---- video files ----


def _read_video(path: Path, keep: slice, *, masks: bool = False) -> _Frames:
    kept: dict[int, Pixels] = {}
    total = 0
    lossy = False
    for frame, is_lossy in _decoded(path):
        position, total, lossy = total, total + 1, is_lossy
        if position < keep.start or (position - keep.start) % max(keep.step, 1):
            continue
        if keep.stop is None or position < keep.stop:
            kept[position] = _pixels(path, frame, masks=masks)
            _refuse_too_large(path, kept[position], len(kept))
    positions = _positions(path, keep, total)
    frames = _stack([kept[p] for p in positions], [f"{path} frame {p}" for p in positions], total)
    if lossy and (masks or frames.pictures.shape[-1] == 4):
        alpha = frames.pictures if masks else frames.pictures[..., 3]
        alpha[alpha <= LOSSY_ALPHA_SLACK] = 0
        alpha[alpha >= 255 - LOSSY_ALPHA_SLACK] = 255
    return frames


def _decoded(path: Path) -> Iterator[tuple[Any, bool]]:
    """Every frame of a whole video file, and whether its codec is lossy."""
    check_file(path)
    total = 0
    try:
        with path.open("rb") as stream, av.open(stream) as container:
            video = _video_stream(path, container)
            if container.format.name == "gif":
                _check_gif_end(path)
            for frame in _decode(path, video):
                total += 1
                yield frame, video.codec_context.codec.lossy
    except av.FFmpegError as error:
        raise DataError(
            f"{path}: not a video, or damaged or cut off after {total} frames ({error.strerror}); copy or "
            "export it again (mp4, mov, webm, mkv, avi, gif, or a folder of frames <n>.png)"
        ) from error
    if not total:
        raise DataError(f"{path}: a video without frames; record or export it again")


def _video_stream(path: Path, container: Any) -> Any:
    kind = container.format
    if kind.name not in _CONTAINERS:
        raise DataError(
            f"{path}: a file of type '{kind.long_name or kind.name}'; give an mp4, mov, webm, mkv, avi or gif "
            "video, or a folder of frames <n>.png"
        )
    if not container.streams.video:
        raise DataError(f"{path}: holds no video stream; give a video file")
    video = container.streams.video[0]
    if video.sample_aspect_ratio not in (None, 0, 1):
        raise DataError(
            f"{path}: pixels are not square ({video.sample_aspect_ratio}); re-encode it with square pixels"
        )
    return video


def _check_gif_end(path: Path) -> None:
    """A GIF states neither its length nor its frame count, only its end."""
    if not path.read_bytes().rstrip(b"\0").endswith(b";"):
        raise DataError(f"{path}: a GIF that ends early (no end mark); {AGAIN}")


def _decode(path: Path, video: Any) -> Iterator[Any]:
    """All frames, with alpha where the codec has it; refuses damaged frames and an early end."""
    context = video.codec_context
    if video.metadata.get("alpha_mode") == "1" and context.name in _ALPHA_DECODERS:
        context = av.CodecContext.create(_ALPHA_DECODERS[context.name], "r")
        context.extradata = video.codec_context.extradata
    times: list[float] = []
    duration = 0.0
    for packet in video.container.demux(video):
        for frame in context.decode(packet):
            if frame.is_corrupt or frame.time is None:
                raise DataError(f"{path}: frame {len(times)} is damaged; {AGAIN}")
            times.append(frame.time)
            duration = float(frame.duration * frame.time_base)
            yield frame
    length = _seconds(video)
    if not times or length is None:
        return
    interval = max(duration, (times[-1] - times[0]) / max(len(times) - 1, 1))  # some files hold no durations
    missing = length - (times[-1] - float((video.start_time or 0) * video.time_base) + interval)
    if missing > 0.75 * interval:  # less than one frame, more than any rounding of time stamps
        raise DataError(
            f"{path}: ends early, after {len(times)} frames; {missing:.2f} of {length:.2f} s are missing; "
            f"{AGAIN}"
        )


def _seconds(video: Any) -> float | None:
    """How long the file says this stream lasts, after edits; None if it doesn't say."""
    if video.duration is not None:
        return float(video.duration * video.time_base)
    tag = video.metadata.get("DURATION")  # Matroska and WebM: hh:mm:ss.fraction
    if tag is not None:
        hours, minutes, seconds = tag.split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    container = video.container  # its duration is that of its longest stream
    alone = len(container.streams) == 1 and container.duration is not None
    return float(container.duration / av.time_base) if alone else None


def _pixels(path: Path, frame: Any, *, masks: bool) -> Pixels:
    colour = "rgba" if any(component.is_alpha for component in frame.format.components) else "rgb24"
    if frame.rotation % 90:
        raise DataError(f"{path}: turned by {frame.rotation} degrees; re-encode it upright")
    pixels: Pixels = frame.to_ndarray(format="gray" if masks else colour)
    return np.rot90(pixels, frame.rotation // 90)  # both counter-clockwise


def write_video(path: Path, frames: Pixels, fps: float | Fraction) -> None:
    """Atomically write an H.264 MP4 that every browser plays: yuv420p, BT.709, quality CRF 18.

    yuv420p needs even sizes: an odd last column or row is repeated once.

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
            context.colorspace, context.color_primaries, context.color_trc = 1, 1, 1  # BT.709
            context.color_range = 1  # 16..235
            for picture in frames:
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
