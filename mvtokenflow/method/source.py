"""Reads the video of a run within the limits of the method, and cuts its object out."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from mvtokenflow.base.errors import ConfigError
from mvtokenflow.base.files import digest, title
from mvtokenflow.base.progress import Progress
from mvtokenflow.media.contact_sheet import contact_sheet
from mvtokenflow.media.pictures import write_png
from mvtokenflow.media.segment import Segmentation, Segmenter, cut_out, mask_paths
from mvtokenflow.media.video import (
    Clip,
    Frames,
    Pixels,
    clip_of,
    count_frames,
    opaque,
    position_at,
    read_frames,
    to_uint8,
)
from mvtokenflow.method.config import MAX_FRAMES
from mvtokenflow.method.plain import AUTO, plain_background, plain_segmentation
from mvtokenflow.workdir.folder import claim

CUT_OUT = (
    "give --background COLOUR (of a plain background), --segment (a network finds the object), --mask MASKS, "
    "or frames with alpha (RGBA)"
)


@dataclass(frozen=True, kw_only=True)
class SourceVideo:
    """The frames of a video that a run uses, and the origin of their alpha.

    Attributes:
        digest: sha256 of the pictures, of their times, and of their alpha if it was given.
        cut_out_by: "alpha", "mask", "background auto" or a colour, or the name of a segmentation network.
        name: title of the video.
        clip: the frames with alpha; None until the object is segmented.
        opaque: (T, H, W, 3) uint8 frames that are to be segmented, else None.
        segmentation: of these.
        rate: selected frames per second of the video, on average; None of a folder of frames.
        clock: (T,) times of the frames; None if evenly spaced.
        notes: sentences on assumptions.
    """

    digest: str
    cut_out_by: str
    name: str
    clip: Clip | None
    opaque: Pixels | None
    segmentation: Segmentation | None
    rate: float | None
    clock: Tensor | None
    notes: tuple[str, ...]

    def __len__(self) -> int:
        pictures = self.opaque if self.clip is None else self.clip
        assert pictures is not None
        return len(pictures)

    def segmenter(self, masks: Path) -> Segmenter | None:
        """Load what makes the masks; None if the folder `masks` holds them all, or none are needed."""
        if self.opaque is None or all(path.exists() for path in mask_paths(masks, len(self))):
            return None
        assert self.segmentation is not None
        return self.segmentation.load()

    def cut_out(self, masks: Path, segmenter: Segmenter | None, progress: Progress | None = None) -> Clip:
        """Return the clip with its masks; masks missing in the folder `masks` are computed and kept there.

        Beside the folder, a picture of its name shows them, `masks.png`.

        Args:
            segmenter: of `segmenter`.

        Raises:
            DataError: a mask without object or without background, a damaged one.
        """
        if self.clip is not None:
            return self.clip
        assert self.opaque is not None
        assert self.segmentation is not None
        straight = self.segmentation.straight
        clip = cut_out(self.opaque, masks, segmenter, self.name, progress, straight)
        sheet = masks.with_suffix(".png")
        if not sheet.exists():
            write_png(sheet, contact_sheet(self.opaque, to_uint8(clip.alpha[..., 0].numpy(), self.name)))
        return replace(clip, clock=self.clock, notes=(*self.notes, *clip.notes))


def read_source(
    video: Path,
    mask: Path | None = None,
    segmentation: Segmentation | None = None,
    *,
    background: str | None = None,
    start: str = "0",
    frames: int | None = None,
    stride: int = 1,
) -> SourceVideo:
    """Read `frames` of every `stride`-th frame of a video, from `start` on.

    A video without alpha, for which nothing else is given, is cut out of its background if the border of all
    its frames has one colour.

    Args:
        video: a file, or a folder of frames `<n>.png`.
        mask: of the object, a video or folder.
        segmentation: cuts the object out, of a video without alpha.
        background: "auto", "white" or "#rrggbb": the plain background of a video without alpha.
        start: the first frame, counted from 0, or its time, such as "2.5s".
        frames: 2 to `MAX_FRAMES`; None takes all.

    Raises:
        ConfigError: a number out of range, more frames than `MAX_FRAMES`, or two ways to the object's mask.
        DataError: a file that cannot be read, or frames without an object.
    """
    ways = {"--mask": mask, "--segment": segmentation, "--background": background}
    given = [name for name, value in ways.items() if value is not None]
    if len(given) > 1:
        raise ConfigError(f"{' and '.join(given)} both give the object's mask; give one of them")
    read = _read(video, start, frames, stride)
    if mask is not None or (read.has_alpha and not given):
        return _cut_out_source(read, video, mask)
    plain = opaque(read, video)
    if segmentation is not None:
        return _opaque_source(plain, video, segmentation, ())
    word = AUTO if background is None else background
    found = plain_background(video, plain.pictures, word, _cure(background))
    note = f"{video}: the object is cut out of its background, {found.code} along the border of all frames"
    return _opaque_source(plain, video, plain_segmentation(found, word, plain.lossy), (note,))


def write_cut_out(given: SourceVideo, out: Path, progress: Progress | None = None) -> tuple[Clip, list[Path]]:
    """Write the frames with alpha as `out`/frames/<n>.png, masks that were made beside them; return both.

    Raises:
        ConfigError: `out` holds another video's frames.
        DataError: as `SourceVideo.cut_out`.
    """
    identity = {"pictures": given.digest, "cut_out_by": given.cut_out_by, "frames": len(given)}
    claim(out, {"kind": "frames", "video": identity})
    clip = given.cut_out(out / "masks", given.segmenter(out / "masks"), progress)
    paths = [out / "frames" / f"{n}.png" for n in range(len(clip))]
    for n, path in enumerate(paths):
        rgba = torch.cat([clip.rgb[n], clip.alpha[n]], dim=-1).numpy()
        write_png(path, to_uint8(rgba, f"frame {n} of {given.name}"))
    if clip.clock is not None:
        note = "the frames are not evenly spaced in time; a folder of frames numbered one by one counts as even"
        clip = replace(clip, notes=(*clip.notes, note))
    return clip, paths


def _cure(background: str | None) -> str:
    if background is None:
        return f"there is no alpha channel either: {CUT_OUT}"
    return "give --segment (a network finds the object), --mask MASKS, or frames with alpha (RGBA)"


def _read(video: Path, start: str, frames: int | None, stride: int) -> Frames:
    """Read the frames; refuse numbers out of range."""
    if stride < 1:
        raise ConfigError(f"--stride is {stride}; choose 1 (every frame) or more")
    if frames is not None and not 2 <= frames <= MAX_FRAMES:
        raise ConfigError(f"--frames is {frames}; choose 2 to {MAX_FRAMES}")
    first = _first(video, start)
    if frames is not None:
        return read_frames(video, start=first, stop=first + (frames - 1) * stride + 1, stride=stride)
    read = read_frames(video, start=first, stride=stride, most=MAX_FRAMES + 1)
    if len(read.pictures) <= MAX_FRAMES:
        return read
    total = count_frames(video) - first
    raise ConfigError(
        f"{video}: {len(range(0, total, stride))} frames, more than the {MAX_FRAMES} that are worked on at "
        f"once; take the first (--frames {MAX_FRAMES}) or fewer per second (--stride {-(-total // MAX_FRAMES)})"
    )


def _first(video: Path, start: str) -> int:
    """Return the position of the first frame."""
    number = start.removesuffix("s")
    try:
        value = float(number)
        position = int(number) if number == start else position_at(video, value)
    except ValueError as error:
        raise ConfigError(f"--start is '{start}'; give a frame, such as 48, or a time, such as 2.5s") from error
    if value < 0:
        raise ConfigError(f"--start is '{start}'; the first frame is 0")
    return position


def _cut_out_source(read: Frames, video: Path, mask: Path | None) -> SourceVideo:
    clip = clip_of(read, video, mask, fix=CUT_OUT)
    parts = {f"{name} {tuple(part.shape)}": part for name, part in (("rgb", clip.rgb), ("alpha", clip.alpha))}
    if clip.clock is not None:
        parts["clock"] = clip.clock
    return SourceVideo(
        digest=digest((name, part.numpy().tobytes()) for name, part in parts.items()),
        cut_out_by="alpha" if mask is None else "mask",
        name=clip.name,
        clip=clip,
        opaque=None,
        segmentation=None,
        rate=read.rate,
        clock=clip.clock,
        notes=clip.notes,
    )


def _opaque_source(
    read: Frames, video: Path, segmentation: Segmentation, notes: tuple[str, ...]
) -> SourceVideo:
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
        segmentation=segmentation,
        rate=read.rate,
        clock=times,
        notes=(*read.notes, *uneven, *notes),
    )
