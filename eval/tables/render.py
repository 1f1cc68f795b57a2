"""Renders every method on every scene, each into its own run folder, never twice."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mvtokenflow.base.errors import ConfigError, DataError
from mvtokenflow.base.files import atomic_path, digest, digest_json, sha256_file
from mvtokenflow.baselines.method import (
    Costed,
    Documented,
    Method,
    PerScene,
    Progress,
    Rendering,
    Variant,
    Weighted,
)
from mvtokenflow.datasets.scene import Dataset, Scene, View
from mvtokenflow.eval.records.rows import Manifest, Stage, run_folder
from mvtokenflow.media.video import write_png
from mvtokenflow.workdir.artefacts import Artefact
from mvtokenflow.workdir.cost import Cost, measured, read_costs
from mvtokenflow.workdir.provenance import pedigree


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run: a method on a scene with a seed.

    Attributes:
        hashes: digests of settings by method, and scene if they depend on it; shared by the runs of a grid, so
            that each is computed once.
    """

    dataset: Dataset
    method: Method
    scene: str
    seed: int
    root: Path
    device: str = "cpu"
    hashes: dict[tuple[str, str], str] = field(default_factory=dict, repr=False, compare=False)

    def config(self) -> Mapping[str, Any]:
        """Return the method's settings for this scene."""
        method = self.method
        return method.scene_config(self.scene) if isinstance(method, PerScene) else method.config()

    def config_hash(self) -> str:
        """Return the digest of the method's name and settings."""
        name = self.method.name
        known = self.hashes.get((name, "")) or self.hashes.get((name, self.scene))
        if known is None:
            known = digest_json({"method": name, **self.config()})
            self.hashes[name, self.scene if isinstance(self.method, PerScene) else ""] = known
        return known

    def folder(self) -> Path:
        return run_folder(
            self.root, self.dataset.name, self.method.name, self.scene, self.seed, self.config_hash()
        )


def stages_folder(root: Path) -> Path:
    """Return where rows below a folder of runs share finished stages; it may be deleted."""
    return root / ".stages"


def imports_folder(root: Path) -> Path:
    """Return the folder of pictures made from results of other programs, by content; it may be deleted."""
    return root / ".imports"


def render(job: Job, progress: Progress, weights_sha: Mapping[str, str]) -> Path:
    """Render `job` unless it is finished, and return its run folder.

    The manifest is written last: a folder without one is unfinished and is resumed.

    Raises:
        DataError: the finished run was rendered from other pictures.
        UserError: any that the method or the scene raises.
    """
    folder = job.folder()
    scene = job.dataset.scene(job.scene)
    if (folder / "manifest.json").is_file():
        refuse_other_pictures(folder, Manifest.load(folder / "manifest.json"), scene_digest(scene))
        return folder
    renderings, costs = _rendered(job, scene, progress)
    for view, rendering in renderings.items():
        _check(job, view, rendering)
        write_view(folder / "pred", view, rendering, _numbers(scene, view, len(rendering.rgb)))
    weights = dict(weights_sha)
    if isinstance(job.method, Weighted):
        weights |= job.method.weights_sha(folder / "work")
    Manifest(
        dataset=job.dataset.name,
        method=job.method.name,
        source=job.method.source,
        uses_truth=job.method.uses_truth,
        scene=job.scene,
        tags=sorted(scene.tags),
        seed=job.seed,
        config=dict(job.config()),
        config_hash=job.config_hash(),
        reference_root=str(scene.root),
        views=[_view(view) for view in scene.all_views()],
        frames=max(len(rendering.rgb) for rendering in renderings.values()),
        prediction_digest=prediction_digest(folder / "pred"),
        pedigree=pedigree(job.device, weights),
        stages=[Stage(name=cost.stage, wall_s=cost.seconds, peak_mib=cost.peak_mib) for cost in costs],
        scene_digest=scene_digest(scene),
        assumed=scene.assumed,
        artefacts=_artefacts(job.method, folder / "work"),
        variant_of=job.method.variant_of if isinstance(job.method, Variant) else None,
    ).save(folder / "manifest.json")
    return folder


def _artefacts(method: Method, work: Path) -> Sequence[Artefact]:
    """Return the artefacts that the method lists, with paths below the run's folder.

    Raises:
        ConfigError: an artefact that a manifest could not hold.
    """
    if not isinstance(method, Documented):
        return ()
    found = []
    for one in method.artefacts(work):
        path = None if one.path is None else f"{work.name}/{one.path}"
        try:
            found.append(Artefact.from_json(replace(one, path=path).to_json()))
        except ValueError as error:
            raise ConfigError(f"{method.name}: an artefact that it lists {error}") from error
    return found


def scene_digest(scene: Scene) -> str:
    """Compute the sha256, in hex, of a scene's view poses, assumptions and pictures.

    Another clip, or another reading of the same clip, has another digest.

    Raises:
        DataError: a picture of the scene cannot be read.
    """
    views = scene.all_views()
    content = scene.content
    if content is None:
        try:
            content = digest(
                (f"{view.name}/{path.name}", sha256_file(path).encode())
                for view in views
                for path in view.frames
            )
        except OSError as error:
            raise DataError(
                f"{error.filename}: a picture of {scene.name} cannot be read ({error.strerror}); restore it"
            ) from error
    assumed = {"assumed": list(scene.assumed)} if scene.assumed else {}
    return digest_json({"content": content, "views": [_view(view) for view in views], **assumed})


def refuse_other_pictures(folder: Path, manifest: Manifest, found: str) -> None:
    """Raise a DataError where a finished run is known to be of another scene than the one with digest `found`.

    The names of a dataset and a scene are those of files, so another clip may have the same names.
    """
    if manifest.scene_digest not in (None, found):
        raise DataError(
            f"{folder}: rendered from other pictures or views than {manifest.dataset} now has for "
            f"{manifest.scene}; delete it to render them, or take another --runs"
        )


def _rendered(job: Job, scene: Scene, progress: Progress) -> tuple[Mapping[str, Rendering], Sequence[Cost]]:
    """Return the method's renderings, and their costs by stage, interrupted calls included."""
    work, clock = job.folder() / "work", job.folder() / "stages.json"
    if isinstance(job.method, Costed):
        renderings = job.method.render(scene, job.seed, work, progress)
        return renderings, job.method.costs(work)
    with measured("render", clock, torch.device("cpu")):
        renderings = job.method.render(scene, job.seed, work, progress)
    return renderings, read_costs(clock)


def _check(job: Job, view: str, rendering: Rendering) -> None:
    rgb = rendering.rgb
    if rgb.dtype != np.uint8 or rgb.ndim != 4 or rgb.shape[-1] != 3:
        raise DataError(
            f"{job.method.name} on {job.scene}, {view}: renderings must be (T, H, W, 3) uint8, got "
            f"{rgb.shape} {rgb.dtype}; fix the method"
        )
    frames, height, width, _ = rgb.shape
    offered = rendering.geometry()
    followed = offered["points"].shape[1:2] if "points" in offered else ()  # any number of them
    shapes: dict[str, tuple[int, ...]] = {
        "normal": (frames, height, width, 3),
        "flow": (frames - 1, height, width, 2),
        "depth": (frames, height, width),
        "points": (frames, *followed, 3),
    }
    for kind, array in offered.items():
        where = f"{job.method.name} on {job.scene}, {view}"
        if array.shape != shapes[kind]:
            raise DataError(f"{where}: its {kind} must be {shapes[kind]}, got {array.shape}; fix the method")
        if not np.isfinite(array).all():
            raise DataError(f"{where}: NaN or infinity in its {kind}; fix the method")


def _numbers(scene: Scene, view: str, count: int) -> list[int]:
    """Return file numbers of a view's frames, those of its reference, so that strict protocols pair them."""
    known = next((v.frame_numbers() for v in scene.all_views() if v.name == view), [])[:count]
    start = known[-1] + 1 if known else 0
    return known + list(range(start, start + count - len(known)))


def write_view(pred: Path, view: str, rendering: Rendering, numbers: Sequence[int]) -> None:
    """Write the pictures of a view, and what else a method offers of it, below a folder of renderings."""
    for number, frame in zip(numbers, rendering.rgb, strict=True):
        write_png(pred / view / f"{number}.png", frame)
    for kind, array in rendering.geometry().items():
        with atomic_path(pred / f"{view}.{kind}.npz") as path:
            arrays: dict[str, Any] = {kind: array.astype(np.float32)}
            np.savez_compressed(path, **arrays)


def _view(view: View) -> dict[str, Any]:
    return {"name": view.name, "azimuth_deg": view.azimuth_deg, "elevation_deg": view.elevation_deg}


def prediction_digest(pred: Path) -> str:
    """Compute a digest over names and bytes of everything a method rendered.

    Hidden files do not count: a killed process may have left an unfinished one.
    """
    files = sorted(path for path in pred.rglob("*") if path.is_file() and not path.name.startswith("."))
    return digest((path.relative_to(pred).as_posix(), sha256_file(path).encode()) for path in files)
