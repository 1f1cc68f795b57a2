"""The page of one run of `mvtf run`: input, results, and all stages between them.

A function of the files in the run's folder: the same files give the same bytes. It opens from the file system
and refers to pictures and videos by relative paths; what is not there (yet) is left out.

    run.json, environment.json          settings, prior, seed; versions
    artefacts.json                      what the stages left: views, losses, previews, costs, and where they lie
    export.json                         frames per second and size of the videos
    result.json                         how far the front view covers the input, and warnings
    progress.json                       how far a run is that has not finished
    masks.png                           the object as it was cut out
    comparison.mp4, turntable/, azimuth_*/, ply/, viewer.html, field.safetensors
"""

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mvtokenflow.base.damaged import read_json
from mvtokenflow.base.errors import DataError
from mvtokenflow.base.files import write_text
from mvtokenflow.multiview.pose import read_pose
from mvtokenflow.reports import generated
from mvtokenflow.reports.artefacts import reasons, there
from mvtokenflow.reports.curves import HEIGHT, WIDTH, charts
from mvtokenflow.reports.generated import passes_of
from mvtokenflow.reports.html import asset, environment, public
from mvtokenflow.reports.html import duration as duration  # also imported from here
from mvtokenflow.reports.training import last_preview
from mvtokenflow.workdir.artefacts import ARTEFACTS_FILE, Artefact, read_artefacts
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
    """Build the page of the run in `folder`. Raises as `write_page`."""
    settings = public(_json(folder / "run.json", dict))
    if settings is None:
        raise DataError(f"{folder}: holds no run.json; give the folder of an `mvtf run`")
    made = read_artefacts(folder / ARTEFACTS_FILE)
    rows = {one.name: read_losses(path) for one, path in there(folder, made, "losses")}
    costs = [asdict(cost) for _, path in there(folder, made, "costs") for cost in read_costs(path)]
    passes = [_pass(folder, one, settings["video"]["frames"]) for one in passes_of(folder, made)]
    return (
        environment()
        .get_template("run.html")
        .render(
            title=folder.resolve().name,
            style=[asset(name) for name in _STYLES],
            script=asset("run.js"),
            facts=_facts(settings, rows, costs) + _result(folder) + _pose(folder, made),
            comparison=_link(folder, "comparison.mp4"),
            turntable=_link(folder, "turntable/turntable.mp4"),
            viewer=_link(folder, "viewer.html"),
            masks=_link(folder, "masks.png"),
            going=_going(folder),
            caveats=[*_limits(settings), *map(_sentence, _found(folder).get("warnings", []))],
            commands=_commands(folder),
            fixed=_fixed(folder),
            files=_files(folder),
            passes=passes,
            notes=_notes(folder, made),
            charts=charts(list(rows.items())),
            chart_size=(WIDTH, HEIGHT),
            previews=_previews(folder, made),
            costs=_shares(costs),
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
    """Return `name` as a relative URL if the file exists."""
    return quote(name) if (folder / name).is_file() else None


def _facts(
    settings: Mapping[str, Any], rows: Mapping[str, Sequence[Mapping[str, float]]], costs: Sequence[Any]
) -> list[tuple[str, str]]:
    """Return the line below the heading."""
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


def _found(folder: Path) -> Mapping[str, Any]:
    found = public(_json(folder / "result.json", dict))
    return found if isinstance(found, dict) else {}


def _result(folder: Path) -> list[tuple[str, str]]:
    """Return facts of the finished result: agreement of the front view, frames per second."""
    iou = _found(folder).get("front_iou")
    fps = (public(_json(folder / "export.json", dict)) or {}).get("fps")
    facts = [] if fps is None else [("Frames per second", f"{fps:g}")]
    if isinstance(iou, int | float):
        facts.append(("Front view covers the input (worst frame, IoU)", f"{iou:.2f}"))
    return facts


def _going(folder: Path) -> dict[str, Any] | None:
    """Return how far an unfinished run is: whether it is at work, and a sentence."""
    state = public(_json(folder / "progress.json", dict))
    if not isinstance(state, dict) or not {"stage", "stages", "title"} <= state.keys():
        return None
    place = f"stage {state['stage']} of {state['stages']}, {state['title']}"
    if not state.get("at_work"):
        sentence = f"Stopped in {place}. Run the same command again to go on."
        return {"at_work": False, "sentence": sentence, "written": None}
    left = state.get("seconds_left")
    rest = f"about {_rounded(left)} left" if isinstance(left, int | float) else "the time left is not known yet"
    sentence = f"At work: {place}; {rest}. This page loads itself again."
    written = state.get("written")
    return {"at_work": True, "sentence": sentence, "written": written if isinstance(written, int) else None}


def _sentence(words: Any) -> str:
    text = str(words)
    return f"{text[:1].upper()}{text[1:]}."


def _rounded(seconds: float) -> str:
    """Return a time as people say one that is not exact: seconds by the ten, then minutes."""
    return f"{max(10, round(seconds / 10) * 10)} s" if seconds < 90 else f"{round(seconds / 60)} min"


def _limits(settings: Mapping[str, Any]) -> list[str]:
    """Return what a viewer of the result should know about the prior."""
    config = settings.get("config", {})
    side = config.get("square", {}).get("size")
    drawn = f", at {side} × {side} pixels" if side else ""
    small = ", which was trained on toys alone" if config.get("prior") == "small" else ""
    return [
        f"The video shows one side. The others were drawn by the prior{drawn}{small}: their shape and colour "
        "are guesses."
    ]


def _commands(folder: Path) -> list[tuple[str, str]]:
    """List (what for, command) of what can be done next, from the folder above."""
    if not (folder / "field.safetensors").is_file():
        return []
    name = folder.resolve().name
    field, views = shlex.quote(f"{name}/field.safetensors"), shlex.quote(f"{name}/export")
    return [
        ("Files for other programs, one per frame", f"mvtf export {field} -o {views} --splat --glb"),
        ("One page to send to somebody", f"mvtf view {field} -o {shlex.quote(f'{name}.html')}"),
        ("A picture from any side, at any time", f"mvtf render {field} --azimuth 75 --time 0.5 -o picture.png"),
    ]


def _shares(costs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the costs with their durations, and shares of the longest one in percent."""
    longest = max((cost["seconds"] for cost in costs), default=0) or 1
    return [
        {**cost, "duration": duration(cost["seconds"]), "share": round(100 * cost["seconds"] / longest, 1)}
        for cost in costs
    ]


def _pose(folder: Path, made: Sequence[Artefact]) -> list[tuple[str, str]]:
    """Return the camera pose of the input that the prior estimates; empty if it estimates none."""
    poses = (read_pose(path) for _, path in there(folder, made, "pose"))
    pose = next((one for one in poses if one is not None), None)
    if pose is None:
        return []
    steep = " (level views cannot lie over it)" if pose.is_steep else ""
    lens = "no perspective" if pose.focal_mm is None else f"{pose.focal_mm:.0f} mm"
    return [("Input's elevation, estimated", f"{pose.elevation:.0f}°{steep}"), ("its lens", lens)]


def _short(prior: str | None) -> str | None:
    """Shorten a digest and keep a name; the whole is among the settings."""
    is_digest = prior is not None and len(prior) == 64 and "/" not in prior
    return f"sha256 {prior[:12]}" if prior is not None and is_digest else prior


def _fixed(folder: Path) -> list[tuple[str, str]]:
    """List (azimuth, relative URL) of the fixed views except the front one, which the comparison shows."""
    found = {}
    for path in folder.glob("azimuth_*/azimuth_*.mp4"):
        azimuth = float(path.stem.removeprefix("azimuth_"))
        if azimuth:
            found[azimuth] = quote(path.relative_to(folder).as_posix())
    return [(f"{azimuth:g}°", link) for azimuth, link in sorted(found.items())]


def _files(folder: Path) -> list[tuple[str, str, str]]:
    """List (name, relative URL, description) of the results for download."""
    found: list[tuple[str, str, str]] = []
    field = folder / "field.safetensors"
    if field.is_file():
        found.append((field.name, quote(field.name), f"the field, {field.stat().st_size / 2**20:.1f} MiB"))
    count = len(list((folder / "ply").glob("*.ply")))
    if count:
        found.append(("ply/", "ply/", f"{count} files of 3D Gaussian Splatting, one per frame"))
    return found


def _pass(folder: Path, made: generated.Pass, frames: int) -> Pass:
    """Return pictures of the first, middle and last frame of a finished pass."""
    last = made.frames - 1
    rows = []
    for frame in sorted({0, last // 2, last}):
        colours = [view[frame] for view in made.files]
        kinds = [("colour", colours)]
        if made.normals is not None:
            kinds.append(("normals", [made.normals / path.parent.name / path.name for path in colours]))
        for kind, paths in kinds:
            if all(path.is_file() for path in paths):
                links = [quote(path.relative_to(folder).as_posix()) for path in paths]
                rows.append((f"frame {min(frame * made.stride, frames - 1)}, {kind}", links))  # the last is one
    return Pass(title=made.title, azimuths=[f"{azimuth}°" for azimuth in made.azimuths], rows=rows)


def _notes(folder: Path, made: Sequence[Artefact]) -> str:
    """Return the notes on passes, and the reasons for passes that are left out on purpose."""
    notes = [one.note for one, _ in there(folder, made, "views") if one.note]
    return " ".join([*notes, *(f"This run {reason}" for reason in reasons(made, "views"))])


def _previews(folder: Path, made: Sequence[Artefact]) -> list[tuple[str, str, int]]:
    """List (stage, relative URL, step) of the last preview of every stage."""
    found = []
    for one, place in there(folder, made, "previews"):
        preview = last_preview(place)
        if preview is not None:
            path, step = preview
            found.append((one.name, quote(path.relative_to(folder).as_posix()), step))
    return found
