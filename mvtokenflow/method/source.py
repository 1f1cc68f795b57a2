"""Reads the video of a run within the limits of the method, and cuts its object out."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from mvtokenflow.base.errors import ConfigError
from mvtokenflow.base.files import digest, title
from mvtokenflow.base.progress import Progress
from mvtokenflow.media.segment import Segmentation, Segmenter, cut_out, mask_paths
from mvtokenflow.media.video import Clip, Pixels, count_frames, read_clip, read_opaque
from mvtokenflow.method.config import MAX_FRAMES

CUT_OUT = "give frames with alpha (RGBA), a mask (--mask), or add --segment"


@dataclass(frozen=True, kw_only=True)
class SourceVideo:
    """The frames of a video that a run uses, and the origin of their alpha.

    Attributes:
        digest: sha256 of the pictures, of their times, and of their alpha if it was given.
        cut_out_by: "alpha", "mask" or the name of a segmentation network.
        name: title of the video.
        clip: the frames with alpha; None until the object is segmented.
        opaque: (T, H, W, 3) uint8 frames that are to be segmented, else None.
        clock: (T,) times of the frames; None if evenly spaced.
        notes: sentences on assumptions.
    """

    digest: str
    cut_out_by: str
    name: str
    clip: Clip | None
    opaque: Pixels | None
    clock: Tensor | None
    notes: tuple[str, ...]

    def __len__(self) -> int:
        pictures = self.opaque if self.clip is None else self.clip
        assert pictures is not None
        return len(pictures)

    def cut_out(self, masks: Path, segmenter: Segmenter | None, progress: Progress | None = None) -> Clip:
        """Return the clip with its masks; masks missing in the folder `masks` are computed and kept there.

        Args:
            segmenter: None if `lacks_masks` is False.

        Raises:
            DataError: a mask without object or without background, a damaged one.
        """
        if self.clip is not None:
            return self.clip
        assert self.opaque is not None
        clip = cut_out(self.opaque, masks, segmenter, self.name, progress)
        return replace(clip, clock=self.clock, notes=(*self.notes, *clip.notes))

    def lacks_masks(self, masks: Path) -> bool:
        """Return whether a mask is missing in the folder `masks`, so that a segmentation network is needed."""
        return self.opaque is not None and not all(path.exists() for path in mask_paths(masks, len(self)))


def read_source(
    video: Path,
    mask: Path | None = None,
    segmentation: Segmentation | None = None,
    *,
    frames: int | None = None,
    stride: int = 1,
) -> SourceVideo:
    """Read the first `frames` of every `stride`-th frame of a video.

    Args:
        video: a file, or a folder of frames `<n>.png`.
        mask: of the object, a video or folder; None if the video has alpha or is to be segmented.
        segmentation: cuts the object out, of a video without alpha.
        frames: 2 to `MAX_FRAMES`; None takes all.

    Raises:
        ConfigError: a number out of range, more frames than `MAX_FRAMES`, or both a mask and a segmentation.
        DataError: a file that cannot be read, or frames without an object.
    """
    if mask is not None and segmentation is not None:
        raise ConfigError("--mask and --segment both give the object's mask; give one of them")
    stop = _stop(video, frames, stride)
    if segmentation is None:
        return _read_cut_out(video, mask, stop, stride)
    return _read_opaque(video, segmentation, stop, stride)


def _stop(video: Path, frames: int | None, stride: int) -> int:
    """Return the position behind the last frame to read."""
    if stride < 1:
        raise ConfigError(f"--stride is {stride}; choose 1 (every frame) or more")
    if frames is not None:
        if not 2 <= frames <= MAX_FRAMES:
            raise ConfigError(f"--frames is {frames}; choose 2 to {MAX_FRAMES}")
        return (frames - 1) * stride + 1
    total = count_frames(video)
    used = len(range(0, total, stride))
    if used > MAX_FRAMES:
        raise ConfigError(
            f"{video}: {used} frames, more than the {MAX_FRAMES} that are worked on at once; take the first "
            f"(--frames {MAX_FRAMES}) or fewer per second (--stride {-(-total // MAX_FRAMES)})"
        )
    return total


def _read_cut_out(video: Path, mask: Path | None, stop: int, stride: int) -> SourceVideo:
    clip = read_clip(video, mask, stop=stop, stride=stride, fix=CUT_OUT)
    parts = {f"{name} {tuple(part.shape)}": part for name, part in (("rgb", clip.rgb), ("alpha", clip.alpha))}
    if clip.clock is not None:
        parts["clock"] = clip.clock
    return SourceVideo(
        digest=digest((name, part.numpy().tobytes()) for name, part in parts.items()),
        cut_out_by="alpha" if mask is None else "mask",
        name=clip.name,
        clip=clip,
        opaque=None,
        clock=clip.clock,
        notes=clip.notes,
    )


def _read_opaque(video: Path, segmentation: Segmentation, stop: int, stride: int) -> SourceVideo:
    read = read_opaque(video, stop=stop, stride=stride)
    times, uneven = read.clock(str(video))
    parts: Sequence[tuple[str, bytes]] = [(str(read.pictures.shape), read.pictures.tobytes())]
    if times is not None:
        parts = [*parts, ("clock", times.numpy().tobytes())]
    return SourceVideo(
        digest=digest(parts),
        cut_out_by=segmentation.name,
        name=title(video),
        clip=None,
        opaque=read.pictures,
        clock=times,
        notes=(*read.notes, *uneven),
    )
