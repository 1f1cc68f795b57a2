"""Writing of H.264 videos that every browser plays."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from mvtokenflow.base.errors import DataError
from mvtokenflow.base.files import atomic_path
from mvtokenflow.media.pictures import Pixels


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
