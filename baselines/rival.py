"""A rival as a row of a table: it turns a scene's clip into a field and renders the field's views."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import torch

from mvtokenflow.base.errors import WeightsMissingError
from mvtokenflow.baselines.job import Job
from mvtokenflow.baselines.method import Progress, Rendering, Setup
from mvtokenflow.baselines.method import Source as Origin
from mvtokenflow.baselines.mvtokenflow import (
    camera_of,
    front_camera,
    is_front_camera,
    loaded_prior,
    moments_of,
    render_views,
)
from mvtokenflow.baselines.rival_settings import LEDGER_NAMES, DistillSettings
from mvtokenflow.datasets.scene import Scene, View
from mvtokenflow.distill.source import Shown, Source
from mvtokenflow.media.video import Clip
from mvtokenflow.method.artefacts import COSTS_FILE
from mvtokenflow.method.config import MethodConfig
from mvtokenflow.method.placement import cameras_in_field, squared
from mvtokenflow.method.prepare import Input, front_video, prepare
from mvtokenflow.method.priors import prior_digest, prior_name
from mvtokenflow.small.prior import six_cameras
from mvtokenflow.splat.timed import TimedField
from mvtokenflow.views.cameras import Cameras
from mvtokenflow.weights import ledger
from mvtokenflow.workdir.artefacts import Artefact
from mvtokenflow.workdir.cost import Cost, read_costs
from mvtokenflow.workdir.folder import claim
from mvtokenflow.workdir.lock import working_in

EXCHANGED = {
    "prior": "one for all rows, in the place of the published ones; no guidance: it was trained without",
    "cameras": "six fixed orthographic views at elevation 0, in the place of random pinhole cameras",
    "levels": "noise levels by equal alphabar, not below level_floor",
}

OWN_FIELD = "has a field of its own kind, which `mvtf export` does not read"


class RivalSettings(Protocol):
    """Settings of any rival."""

    @property
    def distill(self) -> DistillSettings: ...

    def to_dict(self) -> dict[str, Any]: ...


@dataclass(frozen=True, kw_only=True)
class Rival:
    """A published method, run with this package's engine.

    Attributes:
        name: row label.
        preset: settings by the name of a preset.
        fit: the field from a job and settings, which may be finished in part.
        stages: folders of training stages with their titles, in order; views: folders of generated views.
        exchanged: what differs from the original, one sentence by subject.
        base: settings; None takes the setup's preset. setup: of the command line.
    """

    name: str
    preset: Callable[[str], Any]
    fit: Callable[[Job, Any], TimedField]
    stages: Mapping[str, str]
    views: Mapping[str, str] = field(default_factory=dict)
    exchanged: Mapping[str, str] = field(default_factory=lambda: EXCHANGED)
    base: RivalSettings | None = None
    setup: Setup = field(default_factory=Setup)
    source: Origin = "native"
    uses_truth: bool = False

    @property
    def settings(self) -> RivalSettings:
        """Return the settings of this row.

        Raises:
            ConfigError: no such preset.
        """
        if self.base is not None:
            return self.base
        made: RivalSettings = self.preset(self.setup.preset)
        return made

    def configured(self, setup: Setup) -> "Rival":
        """Return the same row under a setup; see `Configurable`."""
        self.preset(setup.preset)  # a wrong name is refused before the work
        return replace(self, setup=setup)

    def config(self) -> Mapping[str, Any]:
        """Return the settings, the prior's weights, and what was exchanged."""
        settings = self.settings
        described: dict[str, Any] = {self.name: settings.to_dict()}
        if self._has_prior:
            try:
                described["prior"] = prior_name(MethodConfig(prior=settings.distill.prior))
            except WeightsMissingError:  # `render` reports it; the other rows of a table remain
                described["prior"] = "missing"
        return described | {"exchanged": self._exchanged}

    @property
    def _has_prior(self) -> bool:
        """Return whether the multiview prior is used: as the teacher, or for views that are generated first."""
        return self.settings.distill.teacher == "prior" or bool(self.views)

    @property
    def _exchanged(self) -> dict[str, str]:
        """Return what differs from the original under the settings: with its own teacher, less does."""
        if self.settings.distill.teacher == "prior":
            return dict(self.exchanged)
        return {what: how for what, how in self.exchanged.items() if what not in EXCHANGED}

    def weights(self) -> Sequence[str]:
        """Return the teacher, where it is one of the ledger."""
        teacher = self.settings.distill.teacher
        return () if teacher == "prior" else (LEDGER_NAMES[teacher],)

    def weights_sha(self, workdir: Path) -> Mapping[str, str]:
        """Hex sha256 of the prior and the teacher."""
        found = {name: ledger.fingerprint(name) for name in self.weights()}
        if self._has_prior:
            found["prior"] = prior_digest(MethodConfig(prior=self.settings.distill.prior))
        return found

    def costs(self, workdir: Path) -> Sequence[Cost]:
        """Costs of all stages; see `Costed`."""
        return read_costs(workdir / COSTS_FILE)

    def artefacts(self, workdir: Path) -> Sequence[Artefact]:
        """Return the views, losses, previews and fields of the stages; see `Documented`."""
        return rival_artefacts(workdir, self.stages, self.views, self.settings.distill.stride, OWN_FIELD)

    def render(self, scene: Scene, seed: int, workdir: Path, progress: Progress) -> Mapping[str, Rendering]:
        """Render all views of the field of the scene's clip; see `Method`."""
        settings, device = self.settings, torch.device(self.setup.device)
        clip = scene.clip()
        front = front_camera(scene, clip.rgb.shape[1:3])
        given = prepare(clip, framed(settings.distill, scene.clip_view))
        identity = {"config": settings.to_dict(), "clip": clip.digest(), "seed": seed, "method": self.name}
        identity["camera"] = front.to_dict()
        with working_in(workdir):
            claim(workdir, identity)
            job = Job(
                source=source_of(clip, given, front).to(device),
                make_prior=lambda: loaded_prior(settings.distill.prior, self.setup.device),
                workdir=workdir,
                seed=seed,
                progress=progress,
            )
            fitted = self.fit(job, settings)

            def seen(view: View) -> Cameras:
                return cameras_in_field(camera_of(view, clip.rgb.shape[1:3]), front, given.crop)

            return render_views(fitted, scene, seen, moments_of(scene, clip), workdir, device, progress)


def framed(settings: DistillSettings, view: View) -> MethodConfig:
    """Return how clips of an input view are cut to squares: not at all where the camera is the prior's."""
    square = settings.square
    if view.cameras is not None and is_front_camera(view.cameras):
        square = replace(square, crop_size=-1)
    return MethodConfig(prior=settings.prior, square=square, stride=settings.stride)


def source_of(clip: Clip, given: Input, front: Cameras) -> Source:
    """Return the prepared clip in the field's world: square pictures, and the frames at the clip's own size."""
    size = given.front.shape[1]
    if front.kind == "ortho":
        camera = six_cameras(size)[:1]
    else:
        camera = squared(cameras_in_field(front, front, given.crop), given.crop)
    video = front_video(clip, given, front)
    kept = [clip.times.tolist().index(time) for time in given.times.tolist()]
    alpha = video.alpha[kept]
    own = Shown(rgb=video.rgb[kept] * alpha + 1 - alpha, alpha=alpha, camera=video.camera)
    return Source(front=given.front, alpha=given.alpha, camera=camera, times=given.times, own=own)


def rival_artefacts(
    workdir: Path, stages: Mapping[str, str], views: Mapping[str, str], stride: int, field_note: str = ""
) -> list[Artefact]:
    """Return what the folder of a rival's run holds to be looked at, as far as it is there.

    Args:
        field_note: of fields that `mvtf export` cannot read.
    """
    found = []
    for name, title in views.items():
        if (workdir / name / "cameras.json").is_file():
            found.append(Artefact(kind="views", name=name, title=title, path=name, stride=stride))
            if (workdir / name / "normals").is_dir():
                path = f"{name}/normals"
                found.append(Artefact(kind="normals", name=name, title=title, path=path, stride=stride))
    for place, title in stages.items():
        folder, name = workdir / place, place.rsplit("/", 1)[-1]
        if (folder / "losses.jsonl").is_file():
            found.append(Artefact(kind="losses", name=name, title=title, path=f"{place}/losses.jsonl"))
        if any(folder.glob("preview_*.png")):
            found.append(Artefact(kind="previews", name=name, title=title, path=place))
        if (folder / "field.safetensors").is_file():
            path = f"{place}/field.safetensors"
            found.append(Artefact(kind="field", name=name, title=title, path=path, note=field_note))
    if (workdir / COSTS_FILE).is_file():
        found.append(Artefact(kind="costs", name="stages", title="Stages", path=COSTS_FILE))
    return found
