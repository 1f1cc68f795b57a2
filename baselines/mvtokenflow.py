"""MVTokenFlow and its ablations as rows of a table."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mvtokenflow.base.errors import DataError, WeightsMissingError
from mvtokenflow.base.files import choose, digest_json
from mvtokenflow.baselines.method import Progress, Rendering, Setup, Source
from mvtokenflow.datasets.scene import Scene, View
from mvtokenflow.datasets.toy4d.scenes import ALL_SCENES, TOY4D, WILD, render_scene
from mvtokenflow.media.masks import OBJECT_ALPHA
from mvtokenflow.media.video import Clip
from mvtokenflow.method.artefacts import artefacts
from mvtokenflow.method.config import SWITCHES, MethodConfig, preset, without
from mvtokenflow.method.pipeline import COSTS_FILE, GivenViews, Result, made_by, run
from mvtokenflow.method.placement import assumed_camera, cameras_in_field, cameras_in_video, faces_front
from mvtokenflow.method.prepare import Input
from mvtokenflow.method.priors import load_prior, prior_name
from mvtokenflow.multiview.pose import lens_cameras
from mvtokenflow.multiview.prior import MultiviewPrior
from mvtokenflow.small.prior import six_cameras
from mvtokenflow.splat.timed import MovingGaussians, TimedField
from mvtokenflow.views.cameras import Cameras, orbit
from mvtokenflow.views.video import MultiviewVideo
from mvtokenflow.workdir.artefacts import Artefact
from mvtokenflow.workdir.cost import Cost, measured, read_costs
from mvtokenflow.workdir.store import StageStore

_RADIUS = 3.0  # of an orthographic camera, so that it does not matter
_FRAMING = "whole frames of the prior's own front camera, else cropped; with perspective, front=input"
OPAQUE = 0.5  # of Gaussians whose centres count as points of the surface
POINTS = 4096
_LOW_PASS = "of the training pixel"  # of pictures at any size; runs from before are other rows


@dataclass(frozen=True, kw_only=True)
class Native:
    """MVTokenFlow as implemented in this repository.

    Attributes:
        name: row label.
        left_out: parts of the method that are left out, by their names in `config.SWITCHES`.
        true_views: reconstruct the ground truth's views of toy4d instead of generated ones: what the method
            would give with a perfect prior.
        base: settings of the whole method; None takes the setup's preset.
        setup: of the command line.
    """

    name: str
    left_out: tuple[str, ...] = ()
    true_views: bool = False
    base: MethodConfig | None = None
    setup: Setup = field(default_factory=Setup)

    @property
    def source(self) -> Source:
        return "oracle" if self.true_views else "native"

    @property
    def uses_truth(self) -> bool:
        return self.true_views

    @property
    def settings(self) -> MethodConfig:
        """Return the settings of this row, before its clips are framed.

        Raises:
            ConfigError: no such preset or part.
        """
        whole = preset(self.setup.preset) if self.base is None else self.base
        return without(whole, *self.left_out)

    def configured(self, setup: Setup) -> "Native":
        preset(setup.preset)  # refuses a wrong name before the work
        return replace(self, setup=setup)

    def config(self) -> Mapping[str, Any]:
        settings = self.settings
        if self.true_views:
            views = _true_views_name()
        else:
            try:
                views = prior_name(settings)
            except WeightsMissingError:  # `render` reports it; the other rows of a table remain
                views = "missing"
        return {
            "mvtokenflow": settings.to_dict(),
            "views": views,
            "framing": _FRAMING,
            "low_pass": _LOW_PASS,
        }

    def weights(self) -> Sequence[str]:
        return ()

    def weights_sha(self, workdir: Path) -> Mapping[str, str]:
        return {} if self.true_views else {"prior": made_by(workdir)}

    def costs(self, workdir: Path) -> Sequence[Cost]:
        return read_costs(workdir / COSTS_FILE)

    @property
    def variant_of(self) -> str | None:
        """Return the name of the whole method's row for ablations; None for a reconstruction of true views."""
        return FULL.name if self.left_out and not self.true_views else None

    def artefacts(self, workdir: Path) -> Sequence[Artefact]:
        """List views of both passes, losses, previews and fields of the stages."""
        return artefacts(workdir, self.settings)

    def render(self, scene: Scene, seed: int, workdir: Path, progress: Progress) -> Mapping[str, Rendering]:
        result = self.reconstruct(scene, seed, workdir, progress)
        clip, device = scene.clip(), torch.device(self.setup.device)

        def seen(view: View) -> Cameras:
            return field_cameras(view, scene.clip_view, result, clip.rgb.shape[1:3])

        return render_views(result.field, scene, seen, moments_of(scene, clip), workdir, device, progress)

    def reconstruct(self, scene: Scene, seed: int, workdir: Path, progress: Progress) -> Result:
        """Reconstruct the field of the scene's clip; return it with its place in the clip's frames."""
        clip = scene.clip()
        front_camera(scene, clip.rgb.shape[1:3])
        settings = framed(self.settings, scene.clip_view)
        device, store = self.setup.device, self.setup.store
        return run(
            clip,
            settings,
            workdir,
            seed,
            prior=None if self.true_views else loaded_prior(settings.prior, device),
            given=_true_views(scene) if self.true_views else None,
            camera=scene.clip_view.cameras,
            store=None if store is None else StageStore(store, (type(self).__module__,)),
            device=device,
            progress=progress,
        )


def moments_of(scene: Scene, clip: Clip) -> list[float]:
    """Return the times of a scene's frames in its clip, in [0, 1]."""
    if scene.clock is not None:
        return list(scene.clock)
    times: list[float] = (np.linspace(0, 1, len(clip)) if clip.clock is None else clip.clock).tolist()
    return times


def ablation(*parts: str) -> Native:
    """Return the row without some parts of the method: "no-a+b", or "coarse" without the refinement alone.

    Raises:
        ConfigError: no such part.
    """
    for part in parts:
        choose("part of the method", part, SWITCHES)
    ordered = tuple(part for part in SWITCHES if part in parts)
    name = "coarse" if ordered == ("refinement",) else f"no-{'+'.join(ordered)}"
    return Native(name=name, left_out=ordered)


def framed(settings: MethodConfig, view: View) -> MethodConfig:
    """Return the settings for clips of an input view.

    A video taken by the prior's own front camera is in the prior's frame already and is taken as it is; any
    other is cropped according to the settings. The field is fitted directly to a video with perspective,
    through the video's own camera: in the prior's front view, which is orthographic, perspective would be
    taken for shape.
    """
    if view.cameras is not None and view.cameras.kind == "pinhole":
        settings = replace(settings, front="input")
    if view.cameras is None or not is_front_camera(view.cameras):
        return settings
    return replace(settings, square=replace(settings.square, crop_size=-1))


def is_front_camera(cameras: Cameras) -> bool:
    """Return whether one camera is the priors' front camera: orthographic, half-width 1, level, azimuth 0."""
    if cameras.kind != "ortho" or cameras.width != cameras.height:
        return False
    prior = orbit((0.0,), size=cameras.width, kind="ortho", radius=_RADIUS)
    pose, own = cameras.world_to_camera, prior.world_to_camera.to(cameras.world_to_camera)
    return bool(
        faces_front(cameras)
        and torch.allclose(pose[:, :2, 3], own[:, :2, 3], atol=1e-5)  # how far away it stands does not matter
        and torch.allclose(cameras.intrinsics, prior.intrinsics.to(cameras.intrinsics), rtol=1e-5)
    )


def front_camera(scene: Scene, size: Sequence[int]) -> Cameras:
    """Return the camera of the input view.

    Args:
        size: height and width of the input's frames.

    Raises:
        DataError: it is not level or not at azimuth 0.
    """
    front = camera_of(scene.clip_view, size)
    if not faces_front(front):
        raise DataError(
            f"{scene.name}: its input camera is not level or not at azimuth 0; turn the world in which "
            "cameras and azimuths are stated so that it is"
        )
    return front


def render_views(
    result: TimedField,
    scene: Scene,
    cameras: Callable[[View], Cameras],
    times: Sequence[float],
    workdir: Path,
    device: torch.device,
    progress: Progress,
) -> dict[str, Rendering]:
    """Render the input view and all held-out views of a field, and keep what it costs.

    Args:
        cameras: of a view, in the field's world. times: of the frames, in [0, 1]. workdir: of the run.
    """
    views, renderings = (scene.input, *scene.views), {}
    front = scene.clip_view.cameras
    with measured("render", workdir / COSTS_FILE, device):
        for done, view in enumerate(views, 1):
            made = rendering(result, cameras(view), times)
            # Of clips that are cropped the field's world is not the dataset's.
            aligned = front is not None and is_front_camera(front)
            if not aligned or view.truth is None:  # or there is nothing to compare it with
                made = replace(made, depth=None)
            if aligned and view is scene.input and scene.surface is not None:
                made = replace(made, points=surface_points(result, times))
            renderings[view.name] = made
            progress("render views", done, len(views))
    return renderings


@torch.no_grad()
def surface_points(result: TimedField, times: Sequence[float]) -> NDArray[np.float32] | None:
    """Return the centres (T, N, 3) of a field's opaque Gaussians, at most `POINTS`; None of other fields."""
    if not isinstance(result, MovingGaussians):
        return None
    moments = [result.at(time) for time in times]
    opaque = (moments[0].opacities > OPAQUE).nonzero()[:, 0]
    if not len(opaque):
        return None
    kept = opaque[torch.linspace(0, len(opaque) - 1, min(len(opaque), POINTS)).round().long()]
    return _numpy(torch.stack([moment.means[kept] for moment in moments])[None])


@torch.no_grad()
def rendering(result: TimedField, cameras: Cameras, frames: int | Sequence[float]) -> Rendering:
    """Render pictures and normals of one camera, and the flow from each frame to the next, if it has one.

    Args:
        frames: how many, evenly spaced, or their times in [0, 1].
    """
    times = np.linspace(0, 1, frames).tolist() if isinstance(frames, int) else frames
    rgb, normal, flow, depth = [], [], [], []
    for n, time in enumerate(times):
        later = times[n + 1] if n + 1 < len(times) else None
        picture = result.render(cameras, time, flow_to=later)
        rgb.append(_numpy(picture.rgb.clamp(0, 1)))
        normal.append(_numpy(picture.normal))
        depth.append(_numpy(torch.where(picture.alpha > OBJECT_ALPHA, picture.depth, 0.0))[..., 0])
        if picture.flow is not None:
            flow.append(_numpy(torch.where(picture.alpha > OBJECT_ALPHA, picture.flow, 0.0)))
    pixels = (np.stack(rgb) * 255 + 0.5).astype(np.uint8)
    moved = np.stack(flow) if flow else np.zeros((0, *pixels.shape[1:3], 2), np.float32)
    if len(flow) < len(times) - 1:
        return Rendering(rgb=pixels, normal=np.stack(normal), depth=np.stack(depth))
    return Rendering(rgb=pixels, normal=np.stack(normal), flow=moved, depth=np.stack(depth))


def _numpy(picture: torch.Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = picture[0].float().cpu().numpy()
    return array


def field_cameras(view: View, front: View, result: Result, size: Sequence[int]) -> Cameras:
    """Return a view's camera in the field's world.

    Where the dataset states none, it has the lens that the prior's network estimates for the input, or no
    perspective if the network estimates none.

    Args:
        front: the input view.
        size: height and width of the input's frames.
    """
    lens = None if result.pose is None else result.pose.focal_mm
    if front.cameras is None and lens is not None:
        height, width = size
        return lens_cameras(lens, result.crop, height, width, view.azimuth_deg, view.elevation_deg)
    return cameras_in_field(camera_of(view, size), camera_of(front, size), result.crop)


def camera_of(view: View, size: Sequence[int]) -> Cameras:
    """Return a view's camera; where the dataset has none, an orthographic one with the input's field of view.

    Args:
        size: height and width of the input's frames.
    """
    if view.cameras is not None:
        return view.cameras
    height, width = size
    return assumed_camera(height, width, view.azimuth_deg, view.elevation_deg)


@lru_cache(maxsize=1)
def loaded_prior(prior: str, device: str) -> MultiviewPrior:
    """Load a prior once per process."""
    return load_prior(MethodConfig(prior=prior), device)


def _true_views_name(scene: Scene | None = None) -> str:
    """Return the name of faultless views: of a scene's world, or, without a scene, of the first world."""
    world = WILD if scene is not None and scene.name in WILD.scenes else TOY4D
    return f"ground truth of {world.name}-{world.hash}"


def _true_views(scene: Scene) -> GivenViews:
    """Render a scene of toy4d or toy4d-pinhole from the prior's six cameras around the field's world.

    Raises:
        DataError: a scene of another dataset, which cannot be rendered from there.
    """
    if scene.name not in ALL_SCENES or scene.input.truth is None:
        raise DataError(
            f"{scene.name}: not a scene of toy4d, so its views from the prior's cameras are not known; "
            "leave this row out"
        )

    front = scene.clip_view.cameras

    def make(given: Input) -> MultiviewVideo:
        cameras = six_cameras(given.front.shape[1])
        seeing = cameras
        if front is not None and not is_front_camera(front):
            seeing = cameras_in_video(cameras, front, given.crop)
        picture = render_scene(scene.name, seeing, given.times.double().numpy())
        return MultiviewVideo(
            rgb=torch.from_numpy(picture.rgb),
            alpha=torch.from_numpy(picture.alpha),
            normals=torch.from_numpy(picture.normal),
            cameras=cameras,
        )

    name = f"{_true_views_name(scene)}, {scene.name}"
    if front is not None and not is_front_camera(front):  # which part of the world is in the crop depends on it
        name += f", input camera {digest_json(front.to_dict())[:10]}"
    return GivenViews(name=name, make=make)


FULL = Native(name="mvtokenflow")
COARSE = ablation("refinement")
NO_ENLARGED_ATTENTION = ablation("enlarged-attention")
NO_PROPAGATION = ablation("propagation")
NO_FLOW_LOSS = ablation("flow-loss")
NO_FLOW = ablation("flow")
NO_NORMAL = ablation("normal")
NO_REGENERATION = ablation("regeneration")
TRUE_VIEWS = Native(name="true-views", left_out=("regeneration",), true_views=True)
