"""Pages on the generated views of runs, and on how much they change where nothing moves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import atan2, degrees
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mvtokenflow.base.damaged import read_json
from mvtokenflow.base.files import frame_files
from mvtokenflow.media.masks import OBJECT_ALPHA
from mvtokenflow.media.pictures import Pixels, read_rgba
from mvtokenflow.reports import colormaps
from mvtokenflow.reports.artefacts import listed, reasons, there
from mvtokenflow.reports.figure import (
    FULL,
    INPUT,
    Album,
    Block,
    Figure,
    Line,
    Sheet,
    Tile,
    heat_legend,
    read_array,
)
from mvtokenflow.reports.scene import Series
from mvtokenflow.reports.slices import CAPTION, time_slice
from mvtokenflow.workdir.artefacts import Artefact

CAMERAS = "cameras.json"  # of a multiview folder
NO_PROPAGATION, TRUE_VIEWS = "no-propagation", "true-views"
_NEIGHBOURS = 4
_FIRST_AZIMUTH = 90  # the sheet that is open: a view that the input shows nothing of
_SOLID = int(255 * OBJECT_ALPHA)  # levels of alpha above are the object
_LEAST_SIDE = 12  # of pictures whose flow can be estimated


@dataclass(frozen=True, kw_only=True)
class Pass:
    """Generated views of a run.

    Attributes:
        title: of the pass. stride: how many frames of the clip lie between two of them.
        azimuths: of the views, in whole degrees. files: by view and frame.
        normals: their folder; None if there is none.
    """

    title: str
    stride: int
    normals: Path | None
    azimuths: Sequence[int]
    files: Sequence[Sequence[Path]]

    @property
    def frames(self) -> int:
        return min(len(view) for view in self.files)


def passes_of(folder: Path, artefacts: Sequence[Artefact]) -> list[Pass]:
    """Return the passes that are listed and exist, in order.

    Args:
        folder: that the artefacts' paths are relative to.

    Raises:
        DataError: `cameras.json` or the folder of a view is damaged.
    """
    normals = {one.name: place for one, place in there(folder, artefacts, "normals")}
    return [
        _read_pass(one, place, normals.get(one.name))
        for one, place in there(folder, artefacts, "views")
        if (place / CAMERAS).is_file()
    ]


def _read_pass(artefact: Artefact, place: Path, normals: Path | None) -> Pass:
    cure = f"delete {place} to generate the views again"
    azimuths = azimuths_of(read_json(place / CAMERAS, dict, cure, check=azimuths_of))
    files = [frame_files(place / f"view_{view}") for view in range(len(azimuths))]
    return Pass(title=artefact.title, stride=artefact.stride, normals=normals, azimuths=azimuths, files=files)


def azimuths_of(cameras: Mapping[str, Any]) -> list[int]:
    """Return azimuths of the cameras in `cameras.json`, in whole degrees from 0 to 359."""
    # The viewing direction is the third row of the rotation; (0, 1, 0) looks from the front.
    ahead = [pose[2] for pose in cameras["world_to_camera"]]
    return [round(degrees(atan2(-d[0], d[1]))) % 360 for d in ahead]


def last_pass(series: Series | None) -> Pass | None:
    """Return the latest finished pass of a run."""
    if series is None or series.run is None:
        return None
    found = passes_of(series.run.folder, series.run.manifest.artefacts)
    return found[-1] if found else None


def estimated_flow(series: Series) -> tuple[NDArray[np.float32], int] | None:
    """Read the input flow (T − 1, S, S, 2) that a run estimated, and the frames that a step spans.

    Lengths are in pixels of the prior's pictures, 0 outside the object. None where the views are gone.

    Raises:
        DataError: the file is damaged.
    """
    if series.run is None:
        return None
    for artefact, path in listed(series.run, "flow"):
        found, view = (read_array(path, name) for name in ("flow", "view"))
        if found is None or view is None or not len(found):
            continue
        pairs = read_array(path, "pairs")  # files of earlier versions hold the steps alone
        if pairs is not None:
            steps = [index for index, (source, target) in enumerate(pairs) if target == source + 1]
            found = found[steps]
        same = [one for one in series.run.manifest.artefacts if one.name == artefact.name]
        made = passes_of(series.run.folder, same)
        if made:
            solid = _pictures(made[0], int(view), range(len(found)))[..., 3:] > _SOLID
            return np.where(solid, found, np.float32(0)), artefact.stride
    return None


def propagation(album: Album) -> Figure:
    """Build figure 6: neighbouring frames of generated views with and without token propagation."""
    figure = Figure(
        id="propagation",
        title="Token propagation",
        caption="Generated views at neighbouring frames, and how much each differs from the next one warped "
        "back to it: what motion does not explain (paper, figure 6).",
    )
    named = [(name, album.series(name)) for name in (FULL, NO_PROPAGATION)]
    absent = [f"`{name}`" for name, one in named if one is None]
    if absent:
        command = album.command(FULL, NO_PROPAGATION)
        needed = f"Needs a run of {' and '.join(absent)}: {command}."
        return replace(figure, missing=[needed], needs=(FULL, NO_PROPAGATION))
    rows, missing = [], []
    for name, one in named:
        found = last_pass(one)
        if one is None or found is None:
            missing.append(
                f"The run of `{name}` lists no generated views that are still there; delete the run's folder "
                "and run it again."
            )
        else:
            rows.append((one, found))
    if missing:
        return replace(figure, missing=missing)
    missing += [
        f"`{one.label}` {reason}"
        for one, _ in rows
        if one.run
        for reason in reasons(one.run.manifest.artefacts, "views")
    ]
    bound = last_pass(album.series(TRUE_VIEWS))
    fits = bound is not None and _alike([bound, *(made for _, made in rows)])
    if not fits:
        missing.append(
            "The motion is estimated on each row's own pictures, which hides flicker that looks like motion; "
            f"from true views it is taken with: {album.command(FULL, NO_PROPAGATION, TRUE_VIEWS)}."
        )
    azimuths = rows[0][1].azimuths
    if not _alike([made for _, made in rows]):
        return replace(figure, missing=["The two runs generated other views or frames; run both again."])
    order = sorted(range(len(azimuths)), key=lambda view: (azimuths[view] != _FIRST_AZIMUTH, view))
    sheets = [_sheet(album, rows, view, bound if fits else None) for view in order]
    legend = heat_legend(album, colormaps.FULL_CHANGE)
    return replace(figure, sheets=sheets, legends=[legend], missing=missing)


def _alike(passes: Sequence[Pass]) -> bool:
    return len({(tuple(one.azimuths), one.frames) for one in passes}) == 1


def _sheet(album: Album, rows: Sequence[tuple[Series, Pass]], view: int, true: Pass | None) -> Sheet:
    count = rows[0][1].frames
    first = max(0, min(count // 2 - 1, count - _NEIGHBOURS))
    frames = list(range(first, min(first + _NEIGHBOURS, count)))
    motion = None if true is None else _motion(true, view, frames)
    lines = []
    if true is not None:
        lines += _lines(
            album, "True views", "what estimated motion leaves of the truth", true, view, frames, motion
        )
    for series, made in rows:
        title = made.title.lower()
        places = (("novel views", album.novel_views), ("the input view", [INPUT]))
        kinds = [
            f"{value} on {where}" for where, views in places if (value := album.mean("warp", series, views))
        ]
        note = f"{title}; warp error of its field {', '.join(kinds)}" if kinds else title
        own = motion if motion is not None else _motion(made, view, frames)
        lines += _lines(album, series.label, note, made, view, frames, own)
    stride = rows[0][1].stride
    heads = [f"frame {min(n * stride, album.frames - 1)}" for n in frames]
    clips = [("True views", true)] if true is not None else []
    clips += [(series.label, made) for series, made in rows]
    blocks = [Block(lines=lines, heads=heads), *_slices(album, clips, view)]
    return Sheet(title=f"Azimuth {rows[0][1].azimuths[view]}°", blocks=blocks)


def _slices(album: Album, rows: Sequence[tuple[str, Pass]], view: int) -> list[Block]:
    """Build slices: the pixel column that shows most of the object, of all rows over all generated frames."""
    videos = [(label, _pictures(made, view, range(made.frames))) for label, made in rows]
    shown = (videos[0][1][..., 3] > _SOLID).sum(axis=(0, 1))
    column = (int(shown.argmax()) + 0.5) / len(shown)
    clips = [(label, list(_on_white(rgba))) for label, rgba in videos]
    lines = []
    for label, clip in clips:
        drawn = time_slice(clip, column)
        if drawn is not None:
            alt = f"{label}, azimuth {rows[0][1].azimuths[view]}, one column over time"
            lines.append(Line(label=label, tiles=[album.made(drawn, alt)]))
    return [Block(lines=lines, caption=CAPTION, kind="slices")]


_Motion = tuple[NDArray[Any], NDArray[Any]]


def _pictures(made: Pass, view: int, frames: Sequence[int]) -> NDArray[Any]:
    return np.stack([read_rgba(made.files[view][n]) for n in frames])


def _motion(made: Pass, view: int, frames: Sequence[int]) -> _Motion | None:
    """Estimate flow to the next frame (P, H, W, 2) by DIS, and where it is reliable (P, H, W)."""
    import torch  # here and below: only pages with this figure wait for it

    from mvtokenflow.flow.estimate import DisEstimator, estimate_flow
    from mvtokenflow.flow.ops import visible

    rgba = _pictures(made, view, frames)
    if len(frames) < 2 or min(rgba.shape[1:3]) < _LEAST_SIDE:
        return None
    pictures = torch.from_numpy(_on_white(rgba)).float() / 255
    steps = [(n, n + 1) for n in range(len(frames) - 1)]
    there = estimate_flow(pictures, steps, DisEstimator())
    back = estimate_flow(pictures, [(late, early) for early, late in steps], DisEstimator())
    solid = torch.from_numpy(rgba[..., 3] > _SOLID)
    return there.numpy(), visible(there, back, solid[:-1], solid[1:]).numpy()


def _lines(
    album: Album, label: str, note: str, made: Pass, view: int, frames: Sequence[int], motion: _Motion | None
) -> list[Line]:
    tiles = [
        album.copied(made.files[view][n], f"{label}, azimuth {made.azimuths[view]}, frame {n}") for n in frames
    ]
    lines = [Line(label=label, tiles=tiles, note=note)]
    if motion is not None:
        pictures = _on_white(_pictures(made, view, frames))
        maps: list[Tile] = [
            album.made(
                colormaps.heat(
                    warped_difference(pictures[n], pictures[n + 1], motion[0][n], motion[1][n]),
                    colormaps.FULL_CHANGE,
                ),
                f"{label}, warped difference of frames {frames[n]} and {frames[n + 1]}",
            )
            for n in range(len(frames) - 1)
        ]
        lines.append(Line(label="|next, warped − frame|", tiles=maps))
    return lines


def warped_difference(
    frame: Pixels, following: Pixels, flow: NDArray[Any], visible: NDArray[Any]
) -> NDArray[Any]:
    """Return |following(x + flow(x)) − frame(x)| (H, W) in [0, 1], mean over colours; 0 if hidden."""
    import torch

    from mvtokenflow.flow.ops import warp

    warped = warp(torch.from_numpy(following).float(), torch.from_numpy(flow)).numpy()
    apart: NDArray[Any] = np.abs(warped - frame).mean(axis=-1) / 255
    return np.where(visible, apart, 0.0)


def _on_white(rgba: NDArray[Any]) -> Pixels:
    rgb, alpha = rgba[..., :3].astype(np.uint32), rgba[..., 3:].astype(np.uint32)
    return ((rgb * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
