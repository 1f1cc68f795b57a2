"""Lists the intermediate results in a run's folder: views of both passes, flow, training stages, the field."""

from pathlib import Path

from mvtokenflow.method.config import MethodConfig
from mvtokenflow.workdir.artefacts import Artefact

COSTS_FILE = "stages.json"
_PASSES = {
    "views": ("First pass", ""),
    "regenerated": ("Second pass", "The second pass is generated along the flow of the coarse field."),
}
_STAGES = {  # folder by training stage, in the order in which they run
    "static": ("coarse/static", "Static field"),
    "coarse": ("coarse/coarse", "Coarse field"),
    "refine": ("refined/refine", "Refined field"),
}
TITLES = {
    **{name: title for name, (title, _) in _PASSES.items()},
    **{name: title for name, (_, title) in _STAGES.items()},
}
"""Titles of passes and training stages by name."""

_REPEATED = "has no second pass: without token propagation it would draw the first one's views again."


def artefacts(workdir: Path, config: MethodConfig) -> list[Artefact]:
    """List the artefacts in the folder of `pipeline.run` that exist; paths are relative to it."""
    found = [one for name in _PASSES for one in _of_pass(workdir, name, config.stride)]
    repeats = config.refinement and config.regeneration and not config.token_propagation
    if repeats and not any(one.name == "regenerated" for one in found):
        title, _ = _PASSES["regenerated"]
        found.append(Artefact(kind="views", name="regenerated", title=title, path=None, note=_REPEATED))
    for name, (place, title) in _STAGES.items():
        found += _of_stage(workdir, name, place, title)
    if (workdir / COSTS_FILE).is_file():
        found.append(Artefact(kind="costs", name="stages", title="Stages", path=COSTS_FILE))
    return found


def _of_pass(workdir: Path, name: str, stride: int) -> list[Artefact]:
    title, note = _PASSES[name]
    found = []
    if (workdir / f"{name}.json").is_file():
        found.append(Artefact(kind="pose", name=name, title=title, path=f"{name}.json"))
    if (workdir / name / "cameras.json").is_file():
        found.append(Artefact(kind="views", name=name, title=title, path=name, stride=stride, note=note))
        if (workdir / name / "normals").is_dir():
            found.append(
                Artefact(kind="normals", name=name, title=title, path=f"{name}/normals", stride=stride)
            )
        if (workdir / name / "flow.npz").is_file():
            found.append(Artefact(kind="flow", name=name, title=title, path=f"{name}/flow.npz", stride=stride))
    return found


def _of_stage(workdir: Path, name: str, place: str, title: str) -> list[Artefact]:
    folder, found = workdir / place, []
    if (folder / "losses.jsonl").is_file():
        found.append(Artefact(kind="losses", name=name, title=title, path=f"{place}/losses.jsonl"))
    if any(folder.glob("preview_*.png")):
        found.append(Artefact(kind="previews", name=name, title=title, path=place))
    if (folder / "field.safetensors").is_file():
        found.append(Artefact(kind="field", name=name, title=title, path=f"{place}/field.safetensors"))
    return found
