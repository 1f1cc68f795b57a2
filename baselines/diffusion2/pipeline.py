"""Diffusion² from a clip to a dynamic Gaussian field: the matrix of views and frames, then a photometric fit.

    run.json      what the run is of: settings, models, clip, seed
    views/        the generated views, a multiview folder
    fit/          a folder of `splat.trainer`
    stages.json   seconds and peak memory of each stage

A stage whose folder is complete is read, never redone; a killed fit goes on from its checkpoint.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from mvtokenflow.base.progress import Progress
from mvtokenflow.base.seeds import check_seed
from mvtokenflow.baselines.diffusion2.sampler import sample_matrix
from mvtokenflow.baselines.diffusion2.settings import Diffusion2Settings
from mvtokenflow.media.video import Clip
from mvtokenflow.method.artefacts import COSTS_FILE
from mvtokenflow.method.config import MethodConfig
from mvtokenflow.method.generated import as_video, kept_views
from mvtokenflow.method.prepare import front_video, prepare
from mvtokenflow.multiview.preprocess import Crop
from mvtokenflow.multiview.prior import MultiviewPrior
from mvtokenflow.small.video import VideoModel
from mvtokenflow.splat.field import DynamicField
from mvtokenflow.splat.trainer import reconstruct
from mvtokenflow.views.cameras import Cameras
from mvtokenflow.views.video import MultiviewVideo
from mvtokenflow.workdir.cost import measured
from mvtokenflow.workdir.folder import claim
from mvtokenflow.workdir.lock import working_in

VIEWS, FIT = "views", "fit"


class Models(Protocol):
    """The models that are composed, and how a matrix is sampled with them."""

    @property
    def names(self) -> Mapping[str, str]:
        """Return what identifies their weights, by "prior" and "video"."""
        ...

    @property
    def views(self) -> int:
        """Return the number of views of the matrix."""
        ...

    def sample(
        self,
        front: Tensor,
        times: Tensor,
        settings: Diffusion2Settings,
        generator: torch.Generator,
        progress: Progress | None = None,
    ) -> MultiviewVideo:
        """Sample the views of input frames (T, S, S, 3) on white at times (T,); the input's view is first."""
        ...


@dataclass(frozen=True, kw_only=True)
class SmallModels:
    """The small prior and a small video model.

    Attributes:
        prior: the multiview model. video: the video model. names: see `Models`.
    """

    prior: MultiviewPrior
    video: VideoModel
    names: Mapping[str, str]

    @property
    def views(self) -> int:
        """Return the number of views of the prior."""
        return len(self.prior.cameras)

    def sample(
        self,
        front: Tensor,
        times: Tensor,
        settings: Diffusion2Settings,
        generator: torch.Generator,
        progress: Progress | None = None,
    ) -> MultiviewVideo:
        """Sample the views; see `sampler.sample_matrix`."""
        made = sample_matrix(self.prior, self.video, front, times, settings.sampling, generator, progress)
        return as_video(made)


def run(
    clip: Clip,
    settings: Diffusion2Settings,
    models: Models,
    workdir: Path,
    seed: int,
    *,
    camera: Cameras | None = None,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> tuple[DynamicField, Crop]:
    """Run all stages, or what is missing of them.

    Args:
        workdir: new, empty, or of the same run; held against other processes meanwhile (`lock.working_in`).
        seed: 0 to `seeds.MAX_SEED`.
        camera: (1,) that took the clip, level and at azimuth 0; None is an orthographic one.
        progress: called with (stage, done, total).

    Returns:
        the field, and where the square pictures that its front camera sees lie in the clip's frames.

    Raises:
        ConfigError: the folder belongs to another run; settings that do not fit together.
        DataError: no object in the clip or in a generated view, a camera of another size or direction, damaged
            files, another process at work in the folder.
    """
    check_seed(seed)
    given = prepare(clip, MethodConfig(square=settings.square, stride=settings.stride))
    fit = settings.reconstruction
    fit.keyframe_of(len(given.front))  # a wrong setting is reported before the folder is claimed
    fit.weights_of(models.views)
    front = front_video(clip, given, camera)
    identity = {
        "method": "diffusion2",
        "config": settings.to_dict(),
        "models": dict(models.names),
        "clip": clip.digest(),
        "camera": None if camera is None else camera.to_dict(),
        "seed": seed,
    }
    where = torch.device(device)

    def make() -> MultiviewVideo:
        draws = torch.Generator().manual_seed(seed)
        made = models.sample(given.front.to(where), given.times, settings, draws, progress)
        return replace(made, clock=given.times, name=VIEWS)

    with working_in(workdir):
        claim(workdir, identity)
        with measured(VIEWS, workdir / COSTS_FILE, where):
            kept = kept_views(workdir / VIEWS, make)
        video = replace(kept, clock=given.times).to(where)
        video = replace(video, front=front.to(where)).with_room(fit.extent)
        with measured(FIT, workdir / COSTS_FILE, where):
            draws = torch.Generator().manual_seed(seed)
            field = reconstruct(video, fit, workdir / FIT, draws, progress)
    return field, given.crop
