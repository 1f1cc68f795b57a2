"""Runs MVTokenFlow from a clip to a dynamic Gaussian field (paper section 3 and figure 2).

1. Views: multiview diffusion of every frame, tokens of the front view carried along the input's optical flow.
2. Coarse: Gaussians of a keyframe, then their motion, fitted to these views.
3. Refinement: the views are generated again, tokens of all views now carried along the flow of the coarse
   field, and the field is trained on with them.

A run has a folder, and each stage a folder in it; a complete stage is read and not computed again:

    run.json        inputs of the run: settings, clip, prior, seed
    views/          the generated views of stage 1, a multiview folder (`splat.multiview_video`)
    views.json      beside them: what made them, what token flow did, and the pose of the input that the prior's
                    network estimated (`multiview.pose`; null for the small prior, which has no such head)
    coarse/         stage 2, a folder of `splat.trainer`
    regenerated/    the views of stage 3, with regenerated.json
    refined/        the field of stage 3
    <stage>.key     in runs with a `store`: cache key of the stage's inputs, written when the stage starts
    <pass>.steps.safetensors     state of a pass that was interrupted (`multiview.kept_steps`)
    stages.json     seconds and peak memory of each stage
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mvtokenflow.base.damaged import read_json
from mvtokenflow.base.errors import ConfigError
from mvtokenflow.base.files import digest_json, write_json, write_text
from mvtokenflow.base.partial import partial_folder
from mvtokenflow.base.progress import Progress
from mvtokenflow.base.seeds import check_seed
from mvtokenflow.flow.estimate import FlowEstimator, load_estimator
from mvtokenflow.flow.keyframes import KeyframeFlow, estimate_keyframe_flow, keyframe_flow, keyframes
from mvtokenflow.media.masks import OBJECT_ALPHA
from mvtokenflow.media.video import Clip
from mvtokenflow.method.artefacts import COSTS_FILE as COSTS_FILE
from mvtokenflow.method.config import MethodConfig
from mvtokenflow.method.generated import as_video, refuse_empty, sample_views
from mvtokenflow.method.prepare import FRONT, Input, front_video, input_flow, near_pairs, prepare
from mvtokenflow.method.priors import load_prior, prior_digest, prior_name
from mvtokenflow.method.stage_inputs import inputs_of_fit, inputs_of_given_views, inputs_of_views
from mvtokenflow.multiview.kept_steps import KeptSteps
from mvtokenflow.multiview.pose import InputPose, lens_cameras, read_pose
from mvtokenflow.multiview.preprocess import Crop
from mvtokenflow.multiview.prior import MultiviewPrior
from mvtokenflow.splat.field import DynamicField
from mvtokenflow.splat.trainer import reconstruct, refine
from mvtokenflow.tokenflow.config import TokenFlowConfig
from mvtokenflow.views.cameras import ERA3D_AZIMUTHS_DEG, Cameras
from mvtokenflow.views.folder import CAMERAS_FILE, read_multiview, write_multiview
from mvtokenflow.views.video import FrontVideo, MultiviewVideo
from mvtokenflow.workdir.cost import Cost, keep_cost, measured, read_costs
from mvtokenflow.workdir.folder import claim
from mvtokenflow.workdir.lock import working_in
from mvtokenflow.workdir.store import StageStore


@dataclass(frozen=True, kw_only=True)
class GivenViews:
    """Views that are not generated: filmed, or rendered from a known scene.

    Attributes:
        name: identifies them in records; other views have another name.
        make: the views of the prepared clip at its times, seen by the cameras a prior would have. Optical flow
            of the front view is still estimated from the clip.
    """

    name: str
    make: Callable[[Input], MultiviewVideo]


@dataclass(frozen=True, kw_only=True)
class Result:
    """The result of a run.

    Attributes:
        field: times in [0, 1] of the clip; the prior's front camera sees its square pictures.
        crop: where these lie in the clip's frames.
        costs: of the stages, as they were when each was computed.
        front_iou: the least over the frames of how far the generated front view, of stage 1, covers the input's
            object: intersection over union of their masks. Token flow takes the one for the other, and the fit
            too unless its front view is the input.
        pose: of the input, by the prior's network in stage 1; None where it has no head for it, or no prior
            made the views.
    """

    field: DynamicField
    crop: Crop
    costs: tuple[Cost, ...]
    front_iou: float
    pose: InputPose | None = None


def run(
    clip: Clip,
    config: MethodConfig,
    workdir: Path,
    seed: int,
    *,
    prior: MultiviewPrior | None = None,
    given: GivenViews | None = None,
    camera: Cameras | None = None,
    store: StageStore | None = None,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> Result:
    """Compute all stages that are not finished in `workdir`, and return the result.

    Args:
        workdir: new, empty, or of the same run; locked against other processes (`lock.working_in`).
        seed: 0 to `seeds.MAX_SEED`.
        prior: of `config.prior`, if it is loaded already.
        given: views to take in place of generated ones; then no prior is used.
        camera: (1,) that took the clip, level and at azimuth 0, in a world of its own; None is one with the
            lens that the prior's network estimates, or an orthographic one where it estimates none. It matters
            if `config.front` is "input" (`prepare.front_video`).
        store: of stages that other runs may have finished; what is finished here is kept there.
        progress: called with (stage, done, total).

    Raises:
        ConfigError: the folder belongs to another run; settings that do not fit together.
        DataError: no object in the clip, a camera of another size or direction, damaged files, another process
            at work in the folder.
        WeightsMissingError: the prior or the flow network is not here; the message names how to get it.
    """
    check_seed(seed)
    if given is not None and config.regeneration:
        raise ConfigError(f"the views '{given.name}' are given and cannot be generated again; leave that out")
    origin = prior_name(config) if given is None else given.name
    prepared = prepare(clip, config)
    config.reconstruction.keyframe_of(len(prepared.front))  # refuses a wrong one before the folder is claimed
    if given is None:
        config.reconstruction.weights_of(len(ERA3D_AZIMUTHS_DEG))
    front = front_video(clip, prepared, camera) if config.front == "input" else None
    identity = {
        "config": config.to_dict(),
        "prior": origin,
        "clip": clip.digest(),
        "camera": None if camera is None or front is None else camera.to_dict(),
        "seed": seed,
    }
    if store is not None:
        store.tidy()
    with working_in(workdir):
        claim(workdir, identity)
        stages = _Stages(
            given=prepared,
            front=front,
            config=config,
            workdir=workdir,
            seed=seed,
            device=torch.device(device),
            views_given=given,
            prior=prior,
            store=store,
            progress=progress,
        )
        video = stages.views()
        pose = read_pose(workdir / "views.json")
        if front is not None and camera is None and pose is not None and pose.focal_mm is not None:
            height, width = clip.rgb.shape[1:3]
            lens = lens_cameras(pose.focal_mm, prepared.crop, height, width, azimuth_deg=0.0)
            stages.front = front_video(clip, prepared, lens)
        field = stages.coarse(video)
        if config.refinement:
            field = stages.refined(video, field)
        return Result(
            field=field,
            crop=stages.given.crop,
            costs=stages.costs(),
            front_iou=stages.front_iou(video),
            pose=pose,
        )


def made_by(workdir: Path) -> str:
    """Return the origin of the views in a run's folder: a prior's sha256, or the name of given views."""
    path = workdir / "views.json"
    cure = f"delete {workdir} to compute the run anew"
    return str(read_json(path, dict, cure, check=lambda held: held["made_by"])["made_by"])


def field_flow(field: DynamicField, video: MultiviewVideo, interval: int) -> KeyframeFlow:
    """Render the flow of all views from every frame to its keyframes from a field (paper section 3.3)."""
    times = video.times.tolist()

    def between(frame: int, key: int) -> tuple[Tensor, Tensor]:
        return field.flow(video.cameras, times[frame], times[key])

    with torch.no_grad():
        alpha = torch.stack([field.render(video.cameras, time).alpha[..., 0] for time in times])
        return keyframe_flow(between, alpha, keyframes(len(times), interval), range(video.views))


@dataclass(kw_only=True)
class _Stages:
    """The stages of one run; each is computed, read or copied from the store, and its cost recorded.

    Attributes:
        front: the clip, where the field is fitted to it.
        prior, estimator: loaded when first needed.
    """

    given: Input
    front: FrontVideo | None
    config: MethodConfig
    workdir: Path
    seed: int
    device: torch.device
    views_given: GivenViews | None
    prior: MultiviewPrior | None
    store: StageStore | None
    progress: Progress | None
    estimator: FlowEstimator | None = None

    def views(self) -> MultiviewVideo:
        """Return the views of stage 1."""

        def flows() -> KeyframeFlow:
            keys = keyframes(len(self.given.front), self.config.token_flow.interval)
            solid = self.given.alpha[..., 0]
            return estimate_keyframe_flow(self.given.front, solid, keys, self._flow(), FRONT)

        return self._generated("views", self.config.tokens(second_pass=False), flows, None)

    def coarse(self, video: MultiviewVideo) -> DynamicField:
        """Return the field of stage 2, fitted to the views of stage 1."""
        video = self._supervised(video)
        with self._stage("coarse", lambda: inputs_of_fit(self.config, self.seed, video, None)):
            return reconstruct(
                video, self.config.fitted(), self.workdir / "coarse", self._draws("coarse"), self.progress
            )

    def refined(self, video: MultiviewVideo, coarse: DynamicField) -> DynamicField:
        """Return the field of stage 3, fitted to new views, or without regeneration to `video` again."""
        tokens = self.config.tokens(second_pass=True)
        steps = self.config.sampling.steps
        # Without propagation the second pass, from the same noise, would draw the first one's views again.
        if self.config.regeneration and any(tokens.propagates(step, steps) for step in range(steps)):
            first, interval = video, self.config.token_flow.interval
            video = self._generated("regenerated", tokens, lambda: field_flow(coarse, first, interval), coarse)
        video = self._supervised(video)
        with self._stage("refined", lambda: inputs_of_fit(self.config, self.seed, video, coarse)):
            return refine(
                coarse,
                video,
                self.config.fitted(),
                self.workdir / "refined",
                self._draws("refined"),
                self.progress,
            )

    def _supervised(self, video: MultiviewVideo) -> MultiviewVideo:
        """Return the views for the fit: generated ones, with the clip itself in front if configured."""
        if self.front is None:
            return video
        room = self.config.reconstruction.extent
        return replace(video, front=self.front.to(self.device)).with_room(room)

    def costs(self) -> tuple[Cost, ...]:
        """Return the costs of all finished stages."""
        return read_costs(self.workdir / COSTS_FILE)

    def front_iou(self, video: MultiviewVideo) -> float:
        """Compute the smallest IoU of the generated front view's mask with the input's; see `Result`."""
        made = video.alpha[:, FRONT].cpu() > OBJECT_ALPHA
        given = self.given.alpha > OBJECT_ALPHA
        both, either = ((made & given).sum((1, 2, 3)), (made | given).sum((1, 2, 3)))
        return float((both / either.clamp_min(1)).min())

    def _generated(
        self,
        name: str,
        tokens: TokenFlowConfig,
        flows: Callable[[], KeyframeFlow],
        coarse: DynamicField | None,
    ) -> MultiviewVideo:
        """Return the views of a pass as read from their folder, generating them first if they are missing."""
        folder = self.workdir / name
        with self._stage(name, lambda: self._inputs_of_views(tokens, coarse), report=f"{name}.json"):
            if not (folder / CAMERAS_FILE).is_file():
                key = digest_json({"pass": name, **self._inputs_of_views(tokens, coarse)})
                kept = KeptSteps(self.workdir / f"{name}.steps.safetensors", key)
                self._generate(folder, tokens, flows, kept)
                kept.drop()
        # folders of earlier versions do not hold the times
        return replace(read_multiview(folder), clock=self.given.times).to(self.device)

    def _generate(
        self, folder: Path, tokens: TokenFlowConfig, flows: Callable[[], KeyframeFlow], kept: KeptSteps
    ) -> None:
        report: dict[str, Any] = {"token_flow": {}, "pose": None}
        if self.views_given is not None:
            video = self.views_given.make(self.given)
        else:
            video, report = self._sample(tokens, flows, kept)
        refuse_empty(video, folder)
        fit, given = self.config.reconstruction, self.given
        pairs = near_pairs(len(given.front), fit.flow_gap, backward=fit.flow_backward)
        flow = input_flow(given.front, given.alpha, pairs, self._flow())
        video = replace(video, flow=flow, clock=self.given.times, name=folder.name)
        with partial_folder(folder) as partial:
            write_multiview(partial, video)
            write_json(folder.with_name(f"{folder.name}.json"), {"made_by": self._origin(), **report})
            partial.replace(folder)

    def _sample(
        self, tokens: TokenFlowConfig, flows: Callable[[], KeyframeFlow], kept: KeptSteps
    ) -> tuple[MultiviewVideo, dict[str, Any]]:
        """Sample the prior; return its views, the report of the token flow, and the pose of the input."""
        prior, front = self._loaded(), self.given.front.to(self.device)
        # Both passes start from the same noise: what flow cannot change stays as it was.
        draws = torch.Generator().manual_seed(self.seed)
        sampling = self.config.sampling
        made, report = sample_views(prior, front, sampling, tokens, flows, draws, self.progress, kept)
        pose = None if made.pose is None else InputPose.of(made.pose).to_dict()
        return as_video(made), {"token_flow": {} if report is None else asdict(report), "pose": pose}

    @contextmanager
    def _stage(self, name: str, depends: Callable[[], Mapping[str, Any]], report: str = "") -> Iterator[None]:
        """Wrap the computation of a stage, which must read an existing result before it computes.

        Args:
            name: of the stage and its folder.
            depends: everything its result depends on.
            report: file beside the folder that belongs to it.
        """
        costs = self.workdir / COSTS_FILE
        if self.store is None:
            with measured(name, costs, self.device):
                yield
            return
        inputs = {"device": self.device.type, **depends()}
        note, key = self.workdir / f"{name}.key", self.store.key(name, inputs)
        if not (self.workdir / name).exists():
            found = self.store.find(name, inputs)
            if found is not None:
                keep_cost(costs, found.cost)
                found.copy_to(self.workdir)
            write_text(note, key)
        with measured(name, costs, self.device):
            yield
        # Started by one version of the code and finished by another: it is not put into the store.
        if note.is_file() and note.read_bytes() == key.encode():
            cost = next(cost for cost in read_costs(costs) if cost.stage == name)
            self.store.keep(name, inputs, self.workdir, [*filter(None, [report]), name], cost)

    def _inputs_of_views(self, tokens: TokenFlowConfig, coarse: DynamicField | None) -> dict[str, Any]:
        if self.views_given is not None:
            return inputs_of_given_views(self.config, self.given, self._origin())
        return inputs_of_views(self.config, self.seed, self.given, self._origin(), tokens, coarse)

    def _origin(self) -> str:
        """Return the origin of the views: a prior's sha256, or the name of given views."""
        return prior_digest(self.config) if self.views_given is None else self.views_given.name

    def _draws(self, stage: str) -> torch.Generator:
        return torch.Generator().manual_seed(self.seed * 2 + (stage == "refined"))

    def _loaded(self) -> MultiviewPrior:
        if self.prior is None:
            self.prior = load_prior(self.config, self.device)
        return self.prior

    def _flow(self) -> FlowEstimator:
        if self.estimator is None:
            weights = self.config.flow_weights
            self.estimator = load_estimator(
                self.config.flow, None if weights is None else Path(weights), self.device
            )
        return self.estimator
