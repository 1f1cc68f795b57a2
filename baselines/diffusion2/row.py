"""Diffusion² as a row of a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from mvtokenflow.base.files import choose
from mvtokenflow.baselines.diffusion2.models import LISTED, load_models, model_names
from mvtokenflow.baselines.diffusion2.pipeline import FIT, VIEWS, run
from mvtokenflow.baselines.diffusion2.settings import PRESETS, Diffusion2Settings
from mvtokenflow.baselines.method import Progress, Rendering, Setup, Source
from mvtokenflow.baselines.mvtokenflow import (
    camera_of,
    front_camera,
    is_front_camera,
    moments_of,
    render_views,
)
from mvtokenflow.baselines.rival import rival_artefacts
from mvtokenflow.datasets.scene import Scene, View
from mvtokenflow.method.artefacts import COSTS_FILE
from mvtokenflow.method.placement import cameras_in_field
from mvtokenflow.views.cameras import Cameras
from mvtokenflow.workdir.artefacts import Artefact
from mvtokenflow.workdir.cost import Cost, read_costs

EXCHANGED: Mapping[str, str] = {
    "multiview model": "the small prior for SV3D: six views at elevation 0 for 21, without guidance",
    "video model": "the small prior's network trained on windows of six frames of a view, for SVD",
    "levels": "ten of the small prior's in DDIM's form for 50 of EDM",
    "mixing": "the video model's weight rises from 0: at high noise it has nothing to add; constant there",
    "front": "the input itself, in the matrix and in the fit; generated there",
    "fit": "our own method's reconstruction without losses of normals and flow; theirs was not released",
}
LINEAR = "the linear-Gaussian video denoiser; this row has no learned video prior"
_STAGES = {f"{FIT}/static": "Static field", f"{FIT}/coarse": "Field"}


@dataclass(frozen=True, kw_only=True)
class Diffusion2:
    """Diffusion², run with this package's engine.

    Attributes:
        name: row label.
        base: settings; None takes the setup's preset. setup: of the command line.
    """

    name: str = "diffusion2"
    base: Diffusion2Settings | None = None
    setup: Setup = field(default_factory=Setup)
    source: Source = "native"
    uses_truth: bool = False

    @property
    def settings(self) -> Diffusion2Settings:
        """Return the settings of this row.

        Raises:
            ConfigError: no such preset.
        """
        return choose("preset", self.setup.preset, PRESETS)() if self.base is None else self.base

    def configured(self, setup: Setup) -> "Diffusion2":
        """Return the same row under a setup; see `Configurable`."""
        choose("preset", setup.preset, PRESETS)  # a wrong name is refused before the work
        return replace(self, setup=setup)

    def config(self) -> Mapping[str, Any]:
        """Return the settings, the models' weights, and what was exchanged."""
        settings = self.settings
        exchanged = {} if settings.models == "sv3d+svd" else dict(EXCHANGED)
        if settings.models == "linear":
            exchanged["video model"] = LINEAR
        return {"diffusion2": settings.to_dict(), "models": model_names(settings), "exchanged": exchanged}

    def weights(self) -> Sequence[str]:
        """Return the names of the ledger's weights that it needs."""
        return tuple(LISTED.values()) if self.settings.models == "sv3d+svd" else ()

    def weights_sha(self, workdir: Path) -> Mapping[str, str]:
        """Return the sha256 of the models; see `Weighted`."""
        return model_names(self.settings)

    def costs(self, workdir: Path) -> Sequence[Cost]:
        """Return the costs of all stages; see `Costed`."""
        return read_costs(workdir / COSTS_FILE)

    def artefacts(self, workdir: Path) -> Sequence[Artefact]:
        """Return the views, losses, previews and fields; see `Documented`."""
        return rival_artefacts(workdir, _STAGES, {VIEWS: "Matrix"}, self.settings.stride)

    def render(self, scene: Scene, seed: int, workdir: Path, progress: Progress) -> Mapping[str, Rendering]:
        """Render all views of the field of the scene's clip; see `Method`."""
        settings, device, clip = framed(self.settings, scene.clip_view), self.setup.device, scene.clip()
        size = clip.rgb.shape[1:3]
        front = front_camera(scene, size)
        models = load_models(settings, device)
        made, crop = run(
            clip,
            settings,
            models,
            workdir,
            seed,
            camera=scene.clip_view.cameras,
            device=device,
            progress=progress,
        )

        def seen(view: View) -> Cameras:
            return cameras_in_field(camera_of(view, size), front, crop)

        return render_views(made, scene, seen, moments_of(scene, clip), workdir, torch.device(device), progress)


def framed(settings: Diffusion2Settings, view: View) -> Diffusion2Settings:
    """Return the settings for clips of an input view: whole frames of the prior's own front camera."""
    if view.cameras is None or not is_front_camera(view.cameras):
        return settings
    return replace(settings, square=replace(settings.square, crop_size=-1))


DIFFUSION2 = Diffusion2()
