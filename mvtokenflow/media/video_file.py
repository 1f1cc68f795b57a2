"""Strict decoding of video files: damaged frames, an early end and unknown codecs are refused."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from mvtokenflow.base.errors import DataError
from mvtokenflow.media.containers import ACCEPTED, opened
from mvtokenflow.media.pictures import AGAIN, MAX_PICTURE_PIXELS
from mvtokenflow.media.video_frame import display_matrix

# FFmpeg's own VP8 and VP9 decoders drop the alpha plane; these keep it.
_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
_TIME = re.compile(r"(\d+):(\d\d?):(\d\d?(?:\.\d+)?)\s*\Z")
_PICTURES_OF_OTHER_STREAMS = (
    av.stream.Disposition.attached_pic | av.stream.Disposition.still_image
    | av.stream.Disposition.timed_thumbnails | av.stream.Disposition.dependent
)  # fmt: skip


@dataclass(frozen=True)
class Decoded:
    """One decoded frame of a video file.

    Attributes:
        frame: the PyAV frame. stamp: display time in ticks. tick: unit of the stream's clock, in seconds.
        matrix: its display matrix, see `video_frame.display_matrix`.
        lossy: whether the codec is. note: note on how the stream was chosen, or None.
    """

    frame: Any
    stamp: int
    tick: Fraction
    matrix: NDArray[np.int32] | None
    lossy: bool
    note: str | None


def decoded(path: Path) -> Iterator[Decoded]:
    """Decode every frame of a whole video file, in display order.

    Raises:
        DataError: not a video of a known type, damaged, cut off, without frames, of an unknown codec, of pixels
            that are not square, or of several films between which nothing decides.
    """
    total = 0
    try:
        for item in _decoded(path):
            total += 1
            yield item
    except av.FFmpegError as error:
        raise DataError(
            f"{path}: not a video, or damaged or cut off after {total} frames ({error.strerror}); copy or "
            "export it again (mp4, mov, webm, mkv, avi, gif, or a folder of frames <n>.png)"
        ) from error
    if not total:
        raise DataError(f"{path}: a video without frames; record or export it again")


def _decoded(path: Path) -> Iterator[Decoded]:
    with opened(path) as container:
        index, note = _film(path, container)
    with opened(path) as container:
        video = container.streams[index]
        _check_stream(path, video)
        yield from _frames(path, video, note)


def _film(path: Path, container: Any) -> tuple[int, str | None]:
    """Choose the video stream: its index, and a note where there was a choice."""
    everything = container.streams.video
    streams = [stream for stream in everything if not stream.disposition & _PICTURES_OF_OTHER_STREAMS]
    if not streams:
        found = "only a cover picture" if everything else "no video stream"
        raise DataError(f"{path}: holds {found}; give a video file")
    if len(streams) == 1:
        return int(streams[0].index), None
    counts = dict.fromkeys((stream.index for stream in streams), 0)
    for packet in container.demux(streams):
        counts[packet.stream.index] += packet.size > 0
    films = [stream for stream in streams if counts[stream.index] > 1] or streams
    sizes = {s.index: (s.width * s.height if s.codec_context else 0, counts[s.index]) for s in films}
    best = max(sizes, key=sizes.__getitem__)
    if sum(size == sizes[best] for size in sizes.values()) > 1:
        raise DataError(
            f"{path}: holds {len(films)} films of one size and length; keep one of them, e.g. `ffmpeg -i IN "
            "-map 0:v:0 -c copy OUT`"
        )
    chosen = container.streams[best]
    return best, (
        f"{path}: of {len(streams)} video streams, number {best} is read "
        f"({chosen.width}x{chosen.height}, {counts[best]} frames)"
    )


def _check_stream(path: Path, video: Any) -> None:
    if video.codec_context is None:
        raise DataError(
            f"{path}: a codec that this PyAV cannot decode; convert it, e.g. `ffmpeg -i IN OUT.mp4`"
        )
    if video.sample_aspect_ratio not in (None, 0, 1):
        raise DataError(
            f"{path}: pixels are not square ({video.sample_aspect_ratio}); re-encode it with square pixels"
        )
    if (video.width or 0) * (video.height or 0) > MAX_PICTURE_PIXELS:
        raise DataError(
            f"{path}: {video.width}x{video.height} pixels, more than the {MAX_PICTURE_PIXELS} that are read; "
            f"scale it down, or {ACCEPTED}"
        )


def _frames(path: Path, video: Any, note: str | None) -> Iterator[Decoded]:
    """Decode all frames, with alpha where the codec has it; refuse damaged frames and an early end."""
    own = context = video.codec_context
    if video.metadata.get("alpha_mode") == "1" and own.name in _ALPHA_DECODERS:
        context = av.CodecContext.create(_ALPHA_DECODERS[own.name], "r")
        context.extradata = own.extradata
    matrix, known = None, context is own  # the display matrix comes with the frames of the stream's own decoder
    stamps: list[int] = []
    duration = 0
    for packet in video.container.demux(video):
        if not known:
            for frame in own.decode(packet):
                matrix, known = display_matrix(frame), True
        for frame in context.decode(packet):
            if frame.is_corrupt or frame.pts is None:
                raise DataError(f"{path}: frame {len(stamps)} is damaged; {AGAIN}")
            tick = frame.time_base or video.time_base
            stamps.append(frame.pts)
            duration = frame.duration
            turned = display_matrix(frame) if context is own else matrix
            yield Decoded(frame, frame.pts, tick, turned, context.codec.lossy, note)
    if stamps:
        _check_end(path, video, [float(stamp * tick) for stamp in stamps], float(duration * tick))


def _check_end(path: Path, video: Any, times: list[float], duration: float) -> None:
    """Refuse a video that is more than a frame shorter than its file states.

    Args:
        times: display times in seconds. duration: that of the last frame; 0 if not stated.
    """
    end = _end(video, times[0])
    if end is None:
        return
    interval = max(duration, (times[-1] - times[0]) / max(len(times) - 1, 1))
    missing = end - (times[-1] + interval)
    if missing > 0.75 * interval:  # less than one frame, more than any rounding of time stamps
        raise DataError(
            f"{path}: ends early, after {len(times)} frames; {missing:.2f} of {end - times[0]:.2f} s are "
            f"missing; {AGAIN}"
        )


def _end(video: Any, start: float) -> float | None:
    """Stated end of this stream, in seconds on the clock of its frames; None if the file states none.

    Args:
        start: time of the first frame. Matroska writers count lengths from 0 or from there.
    """
    if video.duration is not None:
        return float((video.duration + (video.start_time or 0)) * video.time_base)
    container = video.container
    longest = None if container.duration is None else _counted(float(container.duration / av.time_base), start)
    tag = _TIME.match(video.metadata.get("DURATION", ""))
    if tag is not None:
        hours, minutes, seconds = tag.groups()
        stated = _counted(int(hours) * 3600 + int(minutes) * 60 + float(seconds), start)
        return stated if longest is None else min(stated, longest)
    return longest if len(container.streams) == 1 else None  # the length of the longest stream


def _counted(length: float, start: float) -> float:
    return length if length > start else start + length
