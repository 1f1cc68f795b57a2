"""MVTokenFlow from a clip to a dynamic Gaussian field (paper section 3 and figure 2).

1. Views: multiview diffusion of every frame, tokens of the front view carried along the input's optical flow.
2. Coarse: Gaussians of a keyframe, then their motion, fitted to these views.
3. Refinement: the views are generated again, tokens of all views now carried along the flow of the coarse
   field, and the field is trained on with them.

A run has a folder, and each stage a folder in it; a stage whose folder is complete is read, never redone:

    method.json     what the run is of: settings, clip, prior, seed
    views/          the generated views of stage 1, a multiview folder (`splat.multiview_video`)
    coarse/         stage 2, a folder of `splat.trainer`
    regenerated/    the views of stage 3
    refined/        the field of stage 3
    stages.json     seconds and peak memory of each stage
"""

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mvtokenflow.config import SMALL_PRIOR, MethodConfig
from mvtokenflow.cost import Cost, measured, read_costs
from mvtokenflow.errors import WeightsMissingError
from mvtokenflow.files import digest, sha256_file, write_json
from mvtokenflow.flow import visible
from mvtokenflow.flow_estimate import FlowEstimator, estimate_flow, load_estimator
from mvtokenflow.flow_keyframes import KeyframeFlow, estimate_keyframe_flow, keyframe_flow, keyframes
from mvtokenflow.multiview.checkpoint import find_checkpoint, load_era3d
from mvtokenflow.multiview.pipeline import generate
from mvtokenflow.multiview.preprocess import Crop, square_clip
from mvtokenflow.multiview.prior import MultiviewPrior
from mvtokenflow.multiview.small_prior import WEIGHTS as SMALL_PRIOR_WEIGHTS
from mvtokenflow.multiview.small_prior import load_small_prior
from mvtokenflow.multiview.token_flow import TokenFlow
from mvtokenflow.splat.field import DynamicField
from mvtokenflow.splat.multiview_video import CAMERAS_FILE, read_multiview, write_multiview
from mvtokenflow.splat.run_folder import claim
from mvtokenflow.splat.trainer import reconstruct, refine
from mvtokenflow.splat.views import MultiviewVideo, ViewFlow
from mvtokenflow.video import Clip

Progress = Callable[[str, int, int], None]

COSTS_FILE = "stages.json"

_FRONT = 0
_SOLID = 0.5  # alpha of a pixel that is more object than background


@dataclass(frozen=True, kw_only=True)
class Input:
    """The clip as the prior sees it.

    Attributes:
        front: (F, S, S, 3) frames on white. alpha: (F, S, S, 1).
        times: (F,) of the frames kept, in [0, 1] of the whole clip.
        crop: where the square pictures lie in the clip's frames.
    """

    front: Tensor
    alpha: Tensor
    times: Tensor
    crop: Crop


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a run made.

    Attributes:
        field: times in [0, 1] of the clip; the prior's front camera sees its square pictures.
        crop: where these lie in the clip's frames.
        costs: of the stages, as they were when each was computed.
    """

    field: DynamicField
    crop: Crop
    costs: tuple[Cost, ...]


def run(
    clip: Clip,
    config: MethodConfig,
    workdir: Path,
    seed: int,
    *,
    prior: MultiviewPrior | None = None,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> Result:
    """All stages, or what is missing of them.

    Args:
        workdir: new, empty, or of the same run.
        prior: of `config.prior`, if it is loaded already.
        progress: called with (stage, done, total).

    Raises:
        ConfigError: the folder belongs to another run; settings that do not fit together.
        DataError: no object in the clip, damaged files.
        WeightsMissingError: the prior or the flow network is not here; says how to get it.
    """
    claim(
        workdir,
        {
            "config": config.to_dict(),
            "prior": prior_name(config),
            "clip": digest((name, getattr(clip, name).numpy().tobytes()) for name in ("rgb", "alpha")),
            "seed": seed,
        },
    )
    stages = _Stages(clip, config, workdir, seed, torch.device(device), prior, progress)
    field = stages.coarse()
    if config.refinement:
        field = stages.refined(field)
    return Result(field=field, crop=stages.given.crop, costs=stages.costs())


def prepare(clip: Clip, config: MethodConfig) -> Input:
    """Square pictures of every `stride`-th frame and the last, by one crop box of the whole clip."""
    squares = square_clip(clip, config.square)
    kept = list(keyframes(len(clip), config.stride))
    last = max(len(clip) - 1, 1)
    return Input(
        front=squares.front[kept],
        alpha=squares.alpha[kept],
        times=torch.tensor(kept, dtype=torch.float32) / last,
        crop=squares.crops[0],
    )


def load_prior(config: MethodConfig, device: torch.device | str) -> MultiviewPrior:
    """The prior of a configuration; Era3D in float16 on a GPU, as released, and in float32 on a CPU.

    Raises:
        WeightsMissingError: it is not here; says how to get it.
    """
    file = small_prior_file(config.prior)
    if file is not None:
        return load_small_prior(file, device=device)
    kind = torch.float16 if torch.device(device).type == "cuda" else torch.float32
    return load_era3d(find_checkpoint(config.prior), dtype=kind, device=device)


def prior_name(config: MethodConfig) -> str:
    """What identifies the prior in records: the sha256 of a small prior's file, or the name of the others.

    Raises:
        WeightsMissingError: no such file.
    """
    file = small_prior_file(config.prior)
    if file is None:
        return config.prior
    if not file.is_file():
        raise WeightsMissingError(f"{file}: no prior there; reinstall, or train one: `mvtf train-prior -o DIR`")
    return _sha256(file, file.stat().st_mtime_ns)


def small_prior_file(prior: str) -> Path | None:
    """The weights file that `MethodConfig.prior` names, None if it names a checkpoint of Era3D's layout."""
    if prior == SMALL_PRIOR:
        return SMALL_PRIOR_WEIGHTS
    return Path(prior) if prior.endswith(".safetensors") else None


@cache
def _sha256(file: Path, changed: int) -> str:
    """Tables ask for the prior's name once per cell."""
    return sha256_file(file)


def input_flow(given: Input, estimator: FlowEstimator) -> ViewFlow:
    """Optical flow of the input from every frame to the next, for the flow loss on the front view."""
    steps = [(n, n + 1) for n in range(len(given.front) - 1)]
    there = estimate_flow(given.front, steps, estimator)
    back = estimate_flow(given.front, [(b, a) for a, b in steps], estimator)
    solid = given.alpha[..., 0] > _SOLID
    return ViewFlow(view=_FRONT, flow=there, visible=visible(there, back, solid[:-1], solid[1:]))


def field_flow(field: DynamicField, video: MultiviewVideo, interval: int) -> KeyframeFlow:
    """Flow of all views from every frame to its keyframes, rendered from a field (paper section 3.3)."""
    times = video.times.tolist()

    def between(frame: int, key: int) -> tuple[Tensor, Tensor]:
        return field.flow(video.cameras, times[frame], times[key])

    with torch.no_grad():
        alpha = torch.stack([field.render(video.cameras, time).alpha[..., 0] for time in times])
        return keyframe_flow(between, alpha, keyframes(len(times), interval), range(video.views))


class _Stages:
    """The stages of one run; each is computed or read, and its cost kept."""

    def __init__(
        self,
        clip: Clip,
        config: MethodConfig,
        workdir: Path,
        seed: int,
        device: torch.device,
        prior: MultiviewPrior | None,
        progress: Progress | None,
    ) -> None:
        self.config, self.workdir, self.seed, self.device = config, workdir, seed, device
        self.given = prepare(clip, config)
        self._prior, self._progress = prior, progress
        self._estimator: FlowEstimator | None = None

    def views(self) -> MultiviewVideo:
        """Stage 1."""

        def flows() -> KeyframeFlow:
            keys = keyframes(len(self.given.front), self.config.token_flow.interval)
            solid = self.given.alpha[..., 0]
            return estimate_keyframe_flow(self.given.front, solid, keys, self._flow(), _FRONT)

        return self._generated("views", flows, second_pass=False)

    def coarse(self) -> DynamicField:
        """Stage 2."""
        video = self.views()
        with self._stage("coarse"):
            return reconstruct(
                video, self.config.fitted(), self.workdir / "coarse", self._draws("coarse"), self._progress
            )

    def refined(self, coarse: DynamicField) -> DynamicField:
        """Stage 3: from new views, or without regeneration from those of stage 1."""
        video = self.views()
        if self.config.regeneration:
            interval = self.config.token_flow.interval
            video = self._generated(
                "regenerated", lambda: field_flow(coarse, video, interval), second_pass=True
            )
        with self._stage("refined"):
            return refine(
                coarse,
                video,
                self.config.fitted(),
                self.workdir / "refined",
                self._draws("refined"),
                self._progress,
            )

    def costs(self) -> tuple[Cost, ...]:
        """Of all stages done so far."""
        return read_costs(self.workdir / COSTS_FILE)

    def _generated(self, name: str, flows: Callable[[], KeyframeFlow], *, second_pass: bool) -> MultiviewVideo:
        """Views of a pass, read from their folder; what is used is always what the folder holds."""
        folder = self.workdir / name
        if not (folder / CAMERAS_FILE).is_file():
            with self._stage(name):
                self._generate(folder, flows, second_pass=second_pass)
        return replace(read_multiview(folder), clock=self.given.times).to(self.device)

    def _generate(self, folder: Path, flows: Callable[[], KeyframeFlow], *, second_pass: bool) -> None:
        prior, given = self._loaded(), self.given
        tokens = self.config.tokens(second_pass)
        front = given.front.to(self.device)
        # Both passes start from the same noise: what flow cannot change stays as it was.
        draws = torch.Generator().manual_seed(self.seed)
        report: dict[str, Any] = {}
        if tokens.enlarged == "off" and tokens.propagation == "none":
            made = generate(prior, front, self.config.sampling, draws, None, self._progress)
        else:
            carried = flows() if tokens.propagation != "none" else None
            with TokenFlow(prior.unet, tokens, carried) as controller:
                made = generate(prior, front, self.config.sampling, draws, controller, self._progress)
            report = asdict(controller.report())
        video = MultiviewVideo(
            rgb=made.rgb,
            alpha=made.alpha,
            normals=made.normal,
            cameras=made.cameras,
            flow=input_flow(given, self._flow()),
            name=folder.name,
        )
        partial = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        write_multiview(partial, video)
        write_json(folder.with_name(f"{folder.name}.json"), {"token_flow": report})
        partial.replace(folder)

    def _stage(self, name: str) -> AbstractContextManager[None]:
        return measured(name, self.workdir / COSTS_FILE, self.device)

    def _draws(self, stage: str) -> torch.Generator:
        return torch.Generator().manual_seed(self.seed * 2 + (stage == "refined"))

    def _loaded(self) -> MultiviewPrior:
        if self._prior is None:
            self._prior = load_prior(self.config, self.device)
        return self._prior

    def _flow(self) -> FlowEstimator:
        if self._estimator is None:
            weights = self.config.flow_weights
            self._estimator = load_estimator(
                self.config.flow, None if weights is None else Path(weights), self.device
            )
        return self._estimator
