"""Reconstruction of a dynamic Gaussian field from a multiview video (paper sections 3.2, 4.1, A.1).

`reconstruct` fits Gaussians to a keyframe, then their motion to all frames; `refine` continues from a field
with other (regenerated) frames of the same object. Both can be killed at any time and called again to resume.
"""

import copy
from dataclasses import dataclass
from pathlib import Path

import torch

from mvtokenflow.base.errors import ConfigError
from mvtokenflow.base.files import digest
from mvtokenflow.base.progress import Progress
from mvtokenflow.splat.field import DynamicField
from mvtokenflow.splat.gaussians import visual_hull
from mvtokenflow.splat.io import load_field, save_field
from mvtokenflow.splat.targets import Targets
from mvtokenflow.splat.training_config import STAGES, ReconstructionConfig, Stage
from mvtokenflow.splat.training_log import Watch
from mvtokenflow.splat.training_loop import CHECKPOINT_EVERY, StageRun, train
from mvtokenflow.splat.training_step import Training
from mvtokenflow.views.video import MultiviewVideo
from mvtokenflow.workdir.folder import claim

FIELD_FILE = "field.safetensors"


@dataclass(frozen=True)
class _Run:
    """Inputs shared by all stages of one call."""

    video: MultiviewVideo
    config: ReconstructionConfig
    workdir: Path
    seed: int
    progress: Progress | None
    watch: Watch | None
    checkpoint_every: int


def reconstruct(
    video: MultiviewVideo,
    config: ReconstructionConfig,
    workdir: Path,
    generator: torch.Generator,
    progress: Progress | None = None,
    *,
    watch: Watch | None = None,
    checkpoint_every: int = CHECKPOINT_EVERY,
) -> DynamicField:
    """Fit a dynamic field to `video` by the static and the coarse stage.

    On a CPU, results depend only on the video, the configuration, the generator's state, the machine and its
    number of threads; a run that was killed and resumed ends bit for bit like one that was not.
    On a GPU the order of atomic sums changes the last bits.

    Args:
        video: training video, on the device to compute on.
        workdir: new, empty, or of the same run: finished stages are read, not repeated.
        generator: on the CPU; one number is drawn from it.
        progress: called with (stage, steps done, total steps).
        watch: called with the stage and the logged terms: step, loss, its parts, psnr, gaussians, seconds.
        checkpoint_every: steps between checkpoints.

    Raises:
        ConfigError: the folder belongs to another run, the keyframe does not exist, or not one weight per view.
        DataError: the masks have no hull, damaged files.
    """
    config.keyframe_of(len(video))  # a wrong setting is reported before the folder is claimed
    config.weights_of(video.views)
    seed = _claim(video, config, workdir, generator, "reconstruct")
    run = _Run(video, config, workdir, seed, progress, watch, checkpoint_every)
    static = _stage(run, "static", None)
    return _stage(run, "coarse", static)


def fit_static(
    video: MultiviewVideo,
    config: ReconstructionConfig,
    workdir: Path,
    generator: torch.Generator,
    progress: Progress | None = None,
    *,
    watch: Watch | None = None,
    checkpoint_every: int = CHECKPOINT_EVERY,
) -> DynamicField:
    """Fit Gaussians to the keyframe of `video` alone, by the static stage.

    Arguments, guarantees and errors as for `reconstruct`.
    """
    config.keyframe_of(len(video))
    config.weights_of(video.views)
    seed = _claim(video, config, workdir, generator, "static")
    return _stage(_Run(video, config, workdir, seed, progress, watch, checkpoint_every), "static", None)


def refine(
    field: DynamicField,
    video: MultiviewVideo,
    config: ReconstructionConfig,
    workdir: Path,
    generator: torch.Generator,
    progress: Progress | None = None,
    *,
    watch: Watch | None = None,
    checkpoint_every: int = CHECKPOINT_EVERY,
) -> DynamicField:
    """Continue training `field` on `video`, the refinement stage, with learning rates restarted.

    Arguments and guarantees as for `reconstruct`, in a folder of its own. `field` is not changed.

    Raises:
        ConfigError: also, `field` is static.
    """
    if not field.is_dynamic:
        raise ConfigError("refinement needs a dynamic field; run the coarse stage first")
    config.weights_of(video.views)
    start = {name: value.cpu().contiguous().numpy().tobytes() for name, value in field.state_dict().items()}
    start["pixel"] = repr(field.pixel).encode()
    seed = _claim(video, config, workdir, generator, "refine", digest(start.items()))
    run = _Run(video, config, workdir, seed, progress, watch, checkpoint_every)
    return _stage(run, "refine", field)


def training_pixel(video: MultiviewVideo) -> float:
    """Side in world units of the pixels that a field of `video` is fitted to, the largest over its cameras.

    A front video has no influence. Where its pixels are finer, the other sides are still seen only in
    the views' pixels, and nothing there would hold thinner Gaussians together. Where they are coarser, they are
    means of pictures rendered at the views' scale (`render_gaussians`), and need not blur the field.
    """
    return float(video.cameras.pixel_size().max())


def _claim(
    video: MultiviewVideo,
    config: ReconstructionConfig,
    workdir: Path,
    generator: torch.Generator,
    what: str,
    start: str | None = None,
) -> int:
    """Check that the folder belongs to this run, and return its seed."""
    seed = int(torch.randint(2**62, (), generator=generator))
    identity = {"what": what, "config": config.to_dict(), "video": video.digest(), "seed": seed, "start": start}
    claim(workdir, identity)
    return seed


def _stage(run: _Run, stage: Stage, previous: DynamicField | None) -> DynamicField:
    """Return the field of a stage: read if finished, else trained, from its checkpoint if there is one."""
    folder, device = run.workdir / stage, run.video.rgb.device
    loop = StageRun(
        workdir=run.workdir,
        stage=stage,
        total=run.config.stage(stage).iterations,
        offset=run.config.steps_before(stage),
        progress=run.progress,
        watch=run.watch,
        checkpoint_every=run.checkpoint_every,
    )
    if (folder / FIELD_FILE).exists():
        loop.clear()  # a kill may have come between the two writes
        return load_field(folder / FIELD_FILE, pixel=training_pixel(run.video)).to(device)
    generator = torch.Generator().manual_seed(run.seed + STAGES.index(stage))
    targets = Targets.of(run.video)
    training = Training(_start(run, stage, previous, generator), targets, run.config, stage, generator)
    train(training, loop, device)
    field = training.field
    save_field(folder / FIELD_FILE, field)
    loop.clear()
    return field


def _start(run: _Run, stage: Stage, previous: DynamicField | None, generator: torch.Generator) -> DynamicField:
    """Return the field that a stage starts from."""
    config, video = run.config, run.video
    if stage == "static":
        frame = config.keyframe_of(len(video))
        drawn = torch.Generator(video.rgb.device).manual_seed(run.seed)
        points, colors = visual_hull(
            video.alpha[frame, ..., 0],
            video.cameras,
            config.points,
            drawn,
            config.extent,
            rgb=video.rgb[frame],
        )
        pixel = training_pixel(video)
        return DynamicField.from_points(config.field, points, colors, config.opacity, pixel=pixel)
    assert previous is not None
    if stage == "coarse":
        return previous.with_control_points(generator=generator)
    field = copy.deepcopy(previous)
    field.pixel = field.pixel or training_pixel(video)
    return field
