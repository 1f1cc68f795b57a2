"""The page of one run of `mvtf run`: what went in, what came out, and what happened in between.

A function of the files in the run's folder: the same files give the same bytes. It opens from the file system
and refers to pictures and videos by relative paths; what is not there (yet) is left out.

    run.json, environment.json          settings, prior, seed; versions
    comparison.mp4, turntable/, azimuth_*/, ply/, field.safetensors
    method/views/, method/regenerated/  generated views of both passes, multiview folders
    method/views.json                   the estimated pose of the input
    method/coarse/, method/refined/     losses and previews of the training stages
    method/stages.json                  seconds and peak memory
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mvtokenflow.base.damaged import read_json
from mvtokenflow.base.errors import DataError
from mvtokenflow.base.files import frame_files, write_text
from mvtokenflow.multiview.pose import read_pose
from mvtokenflow.reports.curves import HEIGHT, WIDTH, charts
from mvtokenflow.reports.generated import NO_SECOND_PASS, PASSES, azimuths_of, skips_second_pass
from mvtokenflow.reports.html import asset, environment, public
from mvtokenflow.reports.html import duration as duration  # also imported from here
from mvtokenflow.reports.training import STAGES, last_preview
from mvtokenflow.workdir.cost import read_costs
from mvtokenflow.workdir.environment import check_notes
from mvtokenflow.workdir.folder import read_losses

PAGE = "index.html"
_STYLES = ("base.css", "site.css", "run.css", "curves.css")


@dataclass(frozen=True, kw_only=True)
class Pass:
    """Generated views: rows of pictures, one per view.

    Attributes:
        azimuths: column heads, degrees. rows: (label, relative paths), colour and normals of a frame in turn.
    """

    title: str
    azimuths: Sequence[str]
    rows: Sequence[tuple[str, Sequence[str]]]


def write_page(folder: Path) -> Path:
    """Write FOLDER/index.html if it would change; returns its path.

    Raises:
        DataError: FOLDER is not of `mvtf run`, or a file in it is damaged.
    """
    path, html = folder / PAGE, run_page(folder)
    if not path.exists() or path.read_bytes() != html.encode():
        write_text(path, html)
    return path


def run_page(folder: Path) -> str:
    """The page of the run in `folder`. Raises as `write_page`."""
    settings = public(_json(folder / "run.json", dict))
    if settings is None:
        raise DataError(f"{folder}: holds no run.json; give the folder of an `mvtf run`")
    rows = {stage: read_losses(folder / "method" / place / "losses.jsonl") for stage, place in STAGES.items()}
    costs = [asdict(cost) for cost in read_costs(folder / "method" / "stages.json")]
    found = [_pass(folder, name, title, settings) for name, title in PASSES.items()]
    passes = [one for one in found if one is not None]
    return (
        environment()
        .get_template("run.html")
        .render(
            title=folder.resolve().name,
            style=[asset(name) for name in _STYLES],
            script=asset("run.js"),
            facts=_facts(settings, rows, costs) + _pose(folder),
            comparison=_link(folder, "comparison.mp4"),
            turntable=_link(folder, "turntable/turntable.mp4"),
            fixed=_fixed(folder),
            files=_files(folder),
            passes=passes,
            second_pass=_second_pass(settings, passes),
            charts=charts(list(rows.items())),
            chart_size=(WIDTH, HEIGHT),
            previews=_previews(folder),
            costs=[{**cost, "duration": duration(cost["seconds"])} for cost in costs],
            total=duration(sum(cost["seconds"] for cost in costs)),
            settings=settings,
            environments=public(_json(folder / "environment.json", list, check_notes) or []),
        )
    )


# ---- the run's files ----


def _json(path: Path, form: type[Any], check: Callable[[Any], object] | None = None) -> Any:
    if not path.is_file():
        return None
    return read_json(path, form, "delete it and run `mvtf run` again", check=check)


def _link(folder: Path, name: str) -> str | None:
    """`name` as a relative URL if the file is there."""
    return quote(name) if (folder / name).is_file() else None


def _facts(
    settings: Mapping[str, Any], rows: Mapping[str, Sequence[Mapping[str, float]]], costs: Sequence[Any]
) -> list[tuple[str, str]]:
    """The line below the heading."""
    video, config = settings.get("video", {}), settings.get("config", {})
    facts = [("Frames", video.get("frames")), ("Object cut out by", video.get("cut_out_by"))]
    if "square" in config:
        facts.append(("Prior's pictures", f"{config['square']['size']} × {config['square']['size']} pixels"))
    logged = [lines[-1] for lines in rows.values() if lines]
    if logged:
        facts.append(("Gaussians", f"{logged[-1]['gaussians']:,}"))
    if costs:
        facts.append(("Computed in", duration(sum(cost["seconds"] for cost in costs))))
    facts += [("Seed", settings.get("seed")), ("Prior", _short(settings.get("prior")))]
    return [(name, str(value)) for name, value in facts if value is not None]


def _pose(folder: Path) -> list[tuple[str, str]]:
    """How the input was taken, by the prior's estimate; none where it has none."""
    report = folder / "method" / "views.json"
    pose = read_pose(report) if report.is_file() else None
    if pose is None:
        return []
    steep = " (level views cannot lie over it)" if pose.is_steep else ""
    lens = "no perspective" if pose.focal_mm is None else f"{pose.focal_mm:.0f} mm"
    return [("Input's elevation, estimated", f"{pose.elevation:.0f}°{steep}"), ("its lens", lens)]


def _short(prior: str | None) -> str | None:
    """A digest is cut for the eye; a name is kept. The whole is among the settings."""
    is_digest = prior is not None and len(prior) == 64 and "/" not in prior
    return f"sha256 {prior[:12]}" if prior is not None and is_digest else prior


def _fixed(folder: Path) -> list[tuple[str, str]]:
    """(azimuth, relative URL) of the fixed views but the front one, which the comparison shows."""
    found = {}
    for path in folder.glob("azimuth_*/azimuth_*.mp4"):
        azimuth = float(path.stem.removeprefix("azimuth_"))
        if azimuth:
            found[azimuth] = quote(path.relative_to(folder).as_posix())
    return [(f"{azimuth:g}°", link) for azimuth, link in sorted(found.items())]


def _files(folder: Path) -> list[tuple[str, str, str]]:
    """(name, relative URL, what it is) of the results to take along."""
    found = []
    field = folder / "field.safetensors"
    if field.is_file():
        found.append((field.name, quote(field.name), f"the field, {field.stat().st_size / 2**20:.1f} MiB"))
    count = len(list((folder / "ply").glob("*.ply")))
    if count:
        found.append(("ply/", "ply/", f"{count} files of 3D Gaussian Splatting, one per frame"))
    return found


def _pass(folder: Path, name: str, title: str, settings: Mapping[str, Any]) -> Pass | None:
    """Pictures of the first, middle and last frame of a finished pass."""
    root = folder / "method" / name
    cameras = _json(root / "cameras.json", dict, azimuths_of)
    if cameras is None:
        return None
    azimuths = [f"{azimuth}°" for azimuth in azimuths_of(cameras)]
    views = [frame_files(root / f"view_{view}") for view in range(len(azimuths))]
    last = len(views[0]) - 1
    chosen = sorted({0, last // 2, last})
    stride, end = settings["config"]["stride"], settings["video"]["frames"] - 1  # the last frame is one of them
    rows = []
    for frame in chosen:
        colours = [view[frame] for view in views]
        normals = [root / "normals" / path.parent.name / path.name for path in colours]
        for kind, paths in (("colour", colours), ("normals", normals)):
            if all(path.is_file() for path in paths):
                links = [quote(path.relative_to(folder).as_posix()) for path in paths]
                rows.append((f"frame {min(frame * stride, end)}, {kind}", links))
    return Pass(title=title, azimuths=azimuths, rows=rows)


def _second_pass(settings: Mapping[str, Any], passes: Sequence[Pass]) -> str:
    """What is said of it; nothing where it is not there yet."""
    if len(passes) == len(PASSES):
        return "The second pass is generated along the flow of the coarse field."
    return f"This run {NO_SECOND_PASS}" if skips_second_pass(settings.get("config", {})) else ""


def _previews(folder: Path) -> list[tuple[str, str, int]]:
    """(stage, relative URL, step) of the last preview of every stage."""
    found = []
    for stage, place in STAGES.items():
        preview = last_preview(folder / "method" / place)
        if preview is not None:
            path, step = preview
            found.append((stage, quote(path.relative_to(folder).as_posix()), step))
    return found
