"""The figures of a scene page that compare renderings: over time, between views, ablations, and flow.

They follow figures 3 to 5 and 8 to 11 of the paper (figures 6 and 7 are in `reports.generated` and
`reports.gallery`) for any scene and any methods, from the files of the runs alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mvtokenflow.base.evenly import evenly
from mvtokenflow.base.files import frame_files
from mvtokenflow.media.pictures import Pixels
from mvtokenflow.reports import colormaps
from mvtokenflow.reports.artefacts import listed
from mvtokenflow.reports.figure import (
    COARSE,
    FULL,
    INPUT,
    Album,
    Block,
    Figure,
    Legend,
    Line,
    Sheet,
    Tile,
    ablations_of,
    heat_legend,
    rows_of,
    truth_of,
)
from mvtokenflow.reports.generated import estimated_flow
from mvtokenflow.reports.scene import Series
from mvtokenflow.reports.slices import CAPTION, busiest_column, time_slice

EXPORT = "work/export"  # in a run's folder, the folder named in the page's export command
STRIP = 6  # frames of a strip
_TURNS = 8  # pictures of a turntable
_TIMES = 4  # rows of the figure of more views
_CROP = 0.3  # of a picture's shorter side
_NO_FLOW_LOSS = "no-flow-loss"
_FLOW = "Flow"


def temporal_strip(album: Album) -> Figure:
    """Build figure 3: every method over time at one view, and one pixel column over all times.

    Views with a reference come first, since the first is the one that the page shows unfolded.
    """
    everyone = [truth_of(album.page), *rows_of(album.page)]
    sheets = []
    for view in sorted(album.page.views, key=lambda view: album.frame(everyone[0], view["name"], 0) is None):
        name = view["name"]
        clips = [[album.frame(one, name, n) for n in range(album.frames)] for one in everyone]
        column = next((found for clip in clips if (found := busiest_column(clip)) is not None), None)
        mark = None if column is None else (100 * column, 0.0, 0.0, 100.0)
        frames = evenly(album.frames, STRIP)
        lines = [
            Line(
                label=one.label,
                tiles=[album.tile(one, name, n, mark=mark if place == 0 else None) for n in frames],
            )
            for place, one in enumerate(everyone)
        ]
        blocks = [Block(lines=lines, heads=[f"frame {n}" for n in frames])]
        if column is not None:
            slices = [
                Line(label=one.label, tiles=[album.made(drawn, f"{one.label}, {name}, one column over time")])
                for one, clip in zip(everyone, clips, strict=True)
                if (drawn := time_slice(clip, column)) is not None
            ]
            blocks.append(Block(lines=slices, caption=f"{CAPTION} The column is marked above.", kind="slices"))
        sheets.append(Sheet(title=view_title(view), blocks=blocks))
    return Figure(
        id="strip",
        title="Over time",
        caption=f"{len(evenly(album.frames, STRIP))} evenly spaced frames of one view (paper, figure 3).",
        sheets=sheets,
        missing=_wanting_rivals(album),
    )


def viewpoints(album: Album) -> Figure:
    """Build figures 4 and 8: every method from all views at one time, and its normals."""
    frame = album.frames // 2
    views = by_azimuth(album.page.views)
    heads = [view_title(view) for view in views]
    rows, truth = rows_of(album.page), truth_of(album.page)
    lines = [Line(label=truth.label, tiles=[album.tile(truth, view["name"], frame) for view in views])]
    for one in rows:
        tiles = [
            album.tile(one, view["name"], frame, note=album.value(album.metric, one, view["name"], frame))
            for view in views
        ]
        lines.append(Line(label=one.label, tiles=tiles))
    blocks = [Block(lines=lines, heads=heads)]
    normals = [(one, [_normal(album, one, view["name"], frame) for view in views]) for one in (truth, *rows)]
    shown = [
        Line(label=one.label, tiles=[tile or _absent("no normals of this view") for tile in tiles])
        for one, tiles in normals
        if any(tiles)
    ]
    missing = _wanting_rivals(album)
    if shown:
        blocks.append(Block(lines=shown, heads=heads, caption="Normals in the world frame."))
    else:
        missing.append(f"Normals: no run here holds any; the method's own do: {album.command(FULL)}.")
    return Figure(
        id="viewpoints",
        title="Other viewpoints",
        caption=f"All views at frame {frame}, by azimuth (paper, figures 4 and 8).",
        sheets=[Sheet(title="", blocks=blocks)],
        missing=missing,
    )


def ablation(album: Album) -> Figure:
    """Build figure 5: the input, the method and its ablations at the same view and time."""
    rows = ablations_of(album.page)
    held = [one.run.manifest.method for one in rows if one.run]
    absent = [name for name in (FULL, COARSE, _NO_FLOW_LOSS) if name not in held]
    missing = []
    if absent:
        names = ", ".join(f"`{name}`" for name in absent)
        missing = [f"Needs runs of {names}: {album.command(FULL, COARSE, _NO_FLOW_LOSS)}."]
    frame = album.frames // 2
    views = [view for view in album.page.views if view["name"] in {*album.novel_views[:1], INPUT}]
    sheets = [_ablation_sheet(album, rows, view, frame) for view in views] if rows else []
    legends = [heat_legend(album)] if rows else []
    if any(line.label.startswith(_FLOW) for sheet in sheets for line in sheet.blocks[0].lines):
        legends.append(_wheel(album, "the length named in the row"))
    return Figure(
        id="ablation",
        title="Ablation",
        caption=f"The input, the method, and the method without one part, at frame {frame} (paper, figure 5). "
        "The crop is where the renderings differ most from the truth.",
        sheets=sheets,
        legends=legends,
        missing=missing,
        needs=(FULL, COARSE, _NO_FLOW_LOSS) if absent else (),
    )


def flow_maps(album: Album) -> Figure:
    """Build figures 9 and 10: optical flow of the fields, beside the exact flow."""
    everyone = [truth_of(album.page), *rows_of(album.page)]
    flows = {
        (one.id, view["name"]): found
        for one in everyone
        for view in album.page.views
        if (found := album.array(one, view["name"], "flow")) is not None and len(found)
    }
    if not flows:
        reason = f"No run here holds flow; the method's own do: {album.command(FULL)}."
        return Figure(id="flow", title="Flow", caption="", missing=[reason], needs=(FULL,))
    true = [flow for (series, _), flow in flows.items() if series == everyone[0].id]
    rim = colormaps.flow_rim(true or list(flows.values()))
    steps = min(len(flow) for flow in flows.values())
    middle, views = steps // 2, by_azimuth(album.page.views)

    moving = {series for series, _ in flows}
    still = [one.label for one in everyone if one.run and one.id not in moving]

    def strip(places: Sequence[tuple[str, int]], heads: Sequence[str], name: str) -> Sheet:
        pictured = next((one for one in everyone if one.run and one.id in moving), everyone[0])
        top = [album.tile(pictured, view, n) for view, n in places]
        lines = [Line(label=pictured.label, tiles=top)]
        for one in everyone:
            if not any((one.id, view) in flows for view, _ in places):
                continue
            tiles = [_flow(album, one, view, n, flows.get((one.id, view)), rim) for view, n in places]
            lines.append(Line(label=f"{one.label}, flow", tiles=tiles))
        return Sheet(title=name, blocks=[Block(lines=lines, heads=heads)])

    heads = [view_title(view) for view in views]
    sheets = [
        strip([(view["name"], middle) for view in views], heads, f"All views, frame {middle} to {middle + 1}")
    ]
    frames = evenly(steps, STRIP)
    heads = [f"frame {n}" for n in frames]
    sheets += [
        strip([(view, n) for n in frames], heads, f"Over time, {view}")
        for view in [*album.novel_views[:1], INPUT]
    ]
    estimated = _estimated(album, frames)
    if estimated is not None:
        (block,) = sheets[-1].blocks
        sheets[-1] = replace(sheets[-1], blocks=[replace(block, lines=[*block.lines, estimated])])
    missing = [] if true else ["The reference has no exact flow, so none is shown beside the methods'."]
    if still:
        missing.append(f"Without flow of their own: {', '.join(still)}.")
    return Figure(
        id="flow",
        title="Flow",
        caption="Motion to the next frame on the grid of the frame shown (paper, figures 9 and 10).",
        sheets=sheets,
        legends=[_wheel(album, f"{rim:.2g} pixels")],
        missing=missing,
    )


def more_viewpoints(album: Album) -> Figure:
    """Build figure 11: one method from all sides, from its turntable or from the views that exist."""
    rows = rows_of(album.page)
    native = album.series(FULL) or rows[0]
    run = native.run
    assert run is not None  # rows_of gives runs
    sheets, missing = [], []
    folder = run.folder / EXPORT / "turntable" / "frames"
    if folder.is_dir():
        files = frame_files(folder)
        chosen = [place * len(files) // _TURNS for place in range(min(_TURNS, len(files)))]
        heads = [f"{360 * n / len(files):.0f}°" for n in chosen]
        tiles = [
            album.copied(files[n], f"{native.label} from {head}") for n, head in zip(chosen, heads, strict=True)
        ]
        block = Block(lines=[Line(label=native.label, tiles=tiles)], heads=heads)
        sheets.append(Sheet(title="Turntable: the camera goes round once while time runs once", blocks=[block]))
    else:
        fields = listed(run, "field")
        place = "/".join(run.folder.parts[-4:])
        if fields and not fields[-1][0].note:
            missing.append(
                f"Turntable: `mvtf export RUNS/{place}/{fields[-1][0].path} -o RUNS/{place}/{EXPORT} "
                "--turntable`, then this report again."
            )
        else:
            why = fields[-1][0].note if fields else "lists no field"
            missing.append(
                f"Turntable: {native.label} {why}; needs a run of the method: {album.command(FULL)}."
            )
    views = by_azimuth(album.page.views)
    lines = [
        Line(label=f"frame {n}", tiles=[album.tile(native, view["name"], n) for view in views])
        for n in evenly(album.frames, _TIMES)
    ]
    block = Block(lines=lines, heads=[view_title(view) for view in views])
    sheets.append(Sheet(title="Rendered views by azimuth", blocks=[block]))
    return Figure(
        id="around",
        title="More viewpoints",
        caption=f"{native.label} from all around (paper, figure 11).",
        sheets=sheets,
        missing=missing,
    )


# ---- parts ----


def view_title(view: Mapping[str, Any]) -> str:
    """Return the title of a view, "eval_0, −75°"."""
    angles = [] if view["azimuth"] is None else [f"{view['azimuth']:g}°"]
    if view["elevation"]:
        angles.append(f"elevation {view['elevation']:g}°")
    return ", ".join([view["name"], *angles]).replace("-", "−")


def by_azimuth(views: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Sort views by azimuth, unknown azimuths last."""
    return sorted(views, key=lambda view: (view["azimuth"] is None, view["azimuth"] or 0.0))


def _wheel(album: Album, rim: str) -> Legend:
    return Legend(
        tile=album.made(colormaps.flow_wheel(), "colour of every direction of motion"),
        kind="wheel",
        low="",
        high=f"Direction of motion as seen from the centre; at the rim {rim} a frame or more, white where "
        "nothing moves.",
    )


def _absent(why: str) -> Tile:
    return Tile(file=None, alt="", why=why)


def _wanting_rivals(album: Album) -> list[str]:
    """Return a sentence on how to add other methods to a comparison with a single method."""
    if len(rows_of(album.page)) > 1:
        return []
    return [
        f"Needs other methods to compare with: published ones are run by {album.command(FULL, 'rivals')}; "
        "renderings of theirs come in with `mvtf-eval table1 --import NAME=PATH`, and reconstruction from true "
        f"views with {album.command(FULL, 'true-views')}."
    ]


def _normal(album: Album, series: Series, view: str, frame: int) -> Tile | None:
    found = album.array(series, view, "normal")
    if found is None or frame >= len(found):
        return None
    return album.made(
        colormaps.normal_picture(found[frame]), f"normals of {series.label}, {view}, frame {frame}"
    )


def _flow(
    album: Album, series: Series, view: str, frame: int, flow: NDArray[np.float32] | None, rim: float
) -> Tile:
    if flow is None or frame >= len(flow):
        return _absent("no flow of this view")
    return album.made(
        colormaps.flow_picture(flow[frame], rim),
        f"flow of {series.label}, {view}, frame {frame}",
        note=album.value("flow_epe", series, view, frame),
    )


def _estimated(album: Album, frames: Sequence[int]) -> Line | None:
    """Return the input's optical flow that the flow loss uses, at the steps nearest to `frames`."""
    for one in album.page.series:
        found = estimated_flow(one)
        if found is None:
            continue
        flow, stride = found
        rim = colormaps.flow_rim([flow])
        steps = [min(n // stride, len(flow) - 1) for n in frames]
        tiles = [
            album.made(colormaps.flow_picture(flow[n], rim), f"flow estimated on the input, frame {n * stride}")
            for n in steps
        ]
        over = "a frame" if stride == 1 else f"over {stride} frames"
        note = f"as the prior frames it, {rim:.2g} of its pixels {over} at the rim"
        return Line(label="Estimated on the input", tiles=tiles, note=note)
    return None


def _ablation_sheet(album: Album, rows: Sequence[Series], view: Mapping[str, Any], frame: int) -> Sheet:
    """Build a sheet: input, truth and methods as columns; rendering, crop, difference, flow as rows."""
    name, truth = view["name"], truth_of(album.page)
    columns = [(truth, INPUT), *([(truth, name)] if name != INPUT else []), *[(one, name) for one in rows]]
    heads = ["Input", *(["Ground truth"] if name != INPUT else []), *[one.label for one in rows]]
    pixels = [album.frame(one, at, frame) for one, at in columns]
    true = album.frame(truth, name, frame)
    box = _worst_box([p for p in pixels[-len(rows) :] if p is not None], true)
    first = [
        album.tile(
            one,
            at,
            frame,
            note=album.value(album.metric, one, at, frame),
            mark=box if at == name else None,
        )
        for one, at in columns
    ]
    lines = [Line(label="Rendering", tiles=first)]
    alts = [f"{head}, {name}, frame {frame}" for head in heads]
    if box is not None:
        crops = [
            album.made(_cut(p, box), f"crop of {alt}") if p is not None and at == name else _absent("")
            for p, alt, (_, at) in zip(pixels, alts, columns, strict=True)
        ]
        lines.append(Line(label="Crop", tiles=crops))
    if true is not None:
        maps = [
            album.made(colormaps.heat(colormaps.difference(p, true)), f"difference of {alt} to the truth")
            if p is not None and one.run
            else _absent("")
            for p, alt, (one, _) in zip(pixels, alts, columns, strict=True)
        ]
        lines.append(Line(label="|rendering − truth|", tiles=maps))
    flows = [album.array(one, at, "flow") for one, at in columns]
    known = [flow[frame] for flow in flows if flow is not None and frame < len(flow)]
    if known:
        rim = colormaps.flow_rim(known[:1])
        tiles = [
            _flow(album, one, at, frame, flow, rim) for flow, (one, at) in zip(flows, columns, strict=True)
        ]
        lines.append(Line(label=f"{_FLOW}, rim {rim:.2g} px", tiles=tiles))
    return Sheet(title=view_title(view), blocks=[Block(lines=lines, heads=heads)])


def _worst_box(pictures: Sequence[Pixels], truth: Pixels | None) -> tuple[float, float, float, float] | None:
    """Return the square, in percent of the picture, in which the pictures differ most from the truth."""
    if truth is None or not pictures:
        return None
    error = np.sum([colormaps.difference(picture, truth) for picture in pictures], axis=0)
    height, width = error.shape
    side = max(4, round(_CROP * min(height, width)))
    if side >= min(height, width):
        return None
    sums = cv2.boxFilter(error.astype(np.float32), -1, (side, side), normalize=False, anchor=(0, 0))
    sums = sums[: height - side + 1, : width - side + 1]
    top, left = np.unravel_index(int(sums.argmax()), sums.shape)
    return (100 * int(left) / width, 100 * int(top) / height, 100 * side / width, 100 * side / height)


def _cut(picture: Pixels, box: tuple[float, float, float, float]) -> Pixels:
    height, width = picture.shape[:2]
    left, top = round(box[0] / 100 * width), round(box[1] / 100 * height)
    right, bottom = left + round(box[2] / 100 * width), top + round(box[3] / 100 * height)
    return np.ascontiguousarray(picture[top:bottom, left:right])
