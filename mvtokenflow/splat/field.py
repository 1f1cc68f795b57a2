"""The dynamic Gaussian field: canonical Gaussians, control points that move them, their pictures and 2-D flow.

Paper section 3.2 (after SC-GS, Huang et al. 2024). A field without control points is static.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from mvtokenflow.base.errors import ConfigError, DataError
from mvtokenflow.media.masks import OBJECT_ALPHA
from mvtokenflow.splat import control
from mvtokenflow.splat.config import FieldConfig
from mvtokenflow.splat.deform import DeformNetwork
from mvtokenflow.splat.gaussians import INITIAL_OPACITY, LOW_PASS, GaussianModel, Gaussians, check_pixel
from mvtokenflow.splat.normals import normals_from_depth
from mvtokenflow.splat.rasterize import Backend, rasterize
from mvtokenflow.views.cameras import Cameras

NEAR_PLANE = 0.01
_SKIP_AFTER = 4  # skip layer of a field's network at any depth, as in stored fields
_ALPHA_FLOOR = 1e-10
_MOST_SAMPLES = 16  # samples per pixel side, where a picture has fewer pixels than the fit had
_MOST_PIXELS = 4096  # side of a picture that is drawn larger and averaged
_RELIABLE_OPACITY = 0.05  # control points are put on Gaussians at least this opaque: floaters lie far out


def deform_network(config: FieldConfig) -> DeformNetwork:
    """Build the zero-initialised deform network for a field's settings."""
    return DeformNetwork(config.width, config.depth, skip_after=_SKIP_AFTER, time_network=config.time_network)


@dataclass(frozen=True)
class Render:
    """Pictures of C cameras at one time: colour, alpha, depth and, on request, flow.

    Attributes:
        rgb: (C, H, W, 3) on the background, not clamped. alpha: (C, H, W, 1) in [0, 1].
        depth: (C, H, W, 1) expected camera z in world units, 0 where nothing is.
        cameras: the cameras of the pictures.
        meta: meta of `rasterize`; after a backward pass `meta["means2d"].grad` drives densification. Where the
            pictures were drawn larger and averaged, it belongs to the larger ones.
        flow: (C, H, W, 2) pixels to the other time on this grid, divided by alpha; None if not requested.
        depth_then: (C, H, W, 1) camera z at the other time of the surface seen now; None likewise.
    """

    rgb: Tensor
    alpha: Tensor
    depth: Tensor
    cameras: Cameras
    meta: dict[str, Any] = field(repr=False)
    flow: Tensor | None = None
    depth_then: Tensor | None = None

    @cached_property
    def normals(self) -> tuple[Tensor, Tensor]:
        """Compute normals (C, H, W, 3) and valid (C, H, W) bool by `normals_from_depth`, on first use."""
        return normals_from_depth(self.depth, self.alpha, self.cameras)

    @property
    def normal(self) -> Tensor:
        """Return unit normals (C, H, W, 3) in the world frame, 0 where not valid."""
        return self.normals[0]


def render_gaussians(
    gaussians: Gaussians,
    cameras: Cameras,
    *,
    background: Sequence[float] | Tensor = (1.0, 1.0, 1.0),
    flow_to: Tensor | None = None,
    backend: Backend = "auto",
) -> Render:
    """Render colour, alpha, expected depth and, on request, flow in one pass of the rasterizer.

    Gaussians with a training pixel are drawn under its low-pass, whatever the size of the picture.
    Where a pixel of the picture is larger than it, the picture is drawn at the fit's scale and averaged.

    Args:
        gaussians: activated, at any time.
        cameras: C cameras, batch (C,).
        background: (3,) or per camera (C, 3), in [0, 1].
        flow_to: (N, 3) centres of the same Gaussians at another time. Each carries its own displacement on
            the picture plane, blended like a colour (paper section 3.2) and divided by alpha, so that
            half-covered silhouette pixels move as far as the object does.

    Raises:
        DataError: `flow_to` does not fit.
    """
    gaussians, samples, low_pass = _low_passed(gaussians, cameras)
    pictures, means = cameras if samples == 1 else cameras.enlarged(samples), gaussians.means
    viewmats, intrinsics = pictures.world_to_camera.to(means), pictures.intrinsics.to(means)
    colors = gaussians.colors_seen(pictures)
    backgrounds = torch.as_tensor(background, dtype=means.dtype, device=means.device)
    backgrounds = backgrounds.expand(len(cameras), 3)
    if flow_to is not None:
        if flow_to.shape != means.shape:
            raise DataError(f"flow_to has the shape {tuple(flow_to.shape)}; expected {tuple(means.shape)}")
        here, _ = _pixels(means, viewmats, intrinsics, cameras.kind)
        there, then = _pixels(flow_to, viewmats, intrinsics, cameras.kind)
        here, there = here / samples, there / samples
        colors = torch.cat([colors.expand(*then.shape, 3), there - here, then[..., None]], dim=-1)
        backgrounds = nn.functional.pad(backgrounds, (0, 3))
    render, alpha, meta = rasterize(
        means,
        gaussians.quats,
        gaussians.scales,
        gaussians.opacities,
        colors,
        viewmats,
        intrinsics,
        pictures.width,
        pictures.height,
        camera_model=cameras.kind,
        render_mode="RGB+ED",
        backgrounds=backgrounds,
        near_plane=NEAR_PLANE,
        eps2d=low_pass,
        backend=backend,
    )
    if samples > 1:
        render, alpha = _averaged(render, alpha, samples)
    moved = render[..., 3:6] / alpha.clamp_min(_ALPHA_FLOOR) if flow_to is not None else None
    return Render(
        rgb=render[..., :3],
        alpha=alpha,
        depth=render[..., -1:],
        cameras=cameras,
        meta=meta,
        flow=None if moved is None else moved[..., :2],
        depth_then=None if moved is None else moved[..., 2:],
    )


def _low_passed(gaussians: Gaussians, cameras: Cameras) -> tuple[Gaussians, int, float]:
    """Apply the low-pass of the training pixel to Gaussians before rendering.

    Returns:
        The Gaussians with the low-pass of their training pixel, how many samples a side of a pixel takes, and
        the variance, in squared samples, of the low-pass that the rasterizer adds.
    """
    if gaussians.pixel is None:
        return gaussians, 1, LOW_PASS
    ratio = float(cameras.pixel_size().max()) / gaussians.pixel
    wanted = max(1, math.ceil(ratio - 1e-3))
    samples = min(wanted, _MOST_SAMPLES, max(1, _MOST_PIXELS // max(cameras.width, cameras.height)))
    # Samples wider than the training pixel would miss thin Gaussians.
    return gaussians.low_passed(), samples, 0.0 if samples == wanted else LOW_PASS


def _averaged(render: Tensor, alpha: Tensor, samples: int) -> tuple[Tensor, Tensor]:
    """Average blocks of samples; the expected depth, the last channel, is weighted by alpha."""
    sums = torch.cat([render[..., :-1], render[..., -1:] * alpha, alpha], dim=-1).movedim(-1, 1)
    means = nn.functional.avg_pool2d(sums, samples).movedim(1, -1)
    alpha = means[..., -1:]
    return torch.cat([means[..., :-2], means[..., -2:-1] / alpha.clamp_min(_ALPHA_FLOOR)], dim=-1), alpha


def visible_after(now: Render, then: Render, tolerance: float) -> Tensor:
    """Mark the object's pixels (C, H, W) that are still seen at the other time.

    A pixel counts if alpha ≥ 0.5, its target lies inside the picture, and what it shows is not more than
    `tolerance` behind the rendered depth there: the farthest of the four pixels around the target that show
    the object, since depth is steep at grazing angles.

    Args:
        now: rendered with `flow_to` the time of `then`, by the same cameras.
        tolerance: world units.
    """
    if now.flow is None or now.depth_then is None:
        raise ValueError("`now` was rendered without flow_to")
    views, height, width = now.alpha.shape[:3]
    x = torch.arange(width, device=now.flow.device, dtype=now.flow.dtype) + 0.5
    y = torch.arange(height, device=now.flow.device, dtype=now.flow.dtype) + 0.5
    target = now.flow.detach() + torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)
    inside = ((target >= 0) & (target <= target.new_tensor([width, height]))).all(-1)
    # -inf where nothing is: a target there is seen by no pixel, hence not visible
    surface = torch.where(then.alpha >= OBJECT_ALPHA, then.depth, -torch.inf)[..., 0].detach().flatten(1)
    index = (target - 0.5).nan_to_num(0.0)
    # floor and ceil are one and the same pixel where the target is a pixel's centre
    columns = [edge.clamp(0, width - 1).long() for edge in (index[..., 0].floor(), index[..., 0].ceil())]
    rows = [edge.clamp(0, height - 1).long() for edge in (index[..., 1].floor(), index[..., 1].ceil())]
    around = [surface.gather(1, (row * width + column).flatten(1)) for row in rows for column in columns]
    farthest = torch.stack(around).amax(0).reshape(views, height, width)
    unhidden = now.depth_then[..., 0].detach() <= farthest + tolerance
    return (now.alpha[..., 0] >= OBJECT_ALPHA) & inside & unhidden


class Moments(NamedTuple):
    """A field evaluated at T times.

    Attributes:
        gaussians: T sets of Gaussians.
        control_positions: (T, M, 3), input of `losses.arap`; None for a static field.
    """

    gaussians: list[Gaussians]
    control_positions: Tensor | None


class DynamicField(nn.Module):
    """Moving Gaussians with their rendering: `at(t)` returns them, `render` and `flow` draw them.

    Times are in [0, 1]. Without control points every time is the same.

    Attributes:
        pixel: side of the training pixel in world units, which fixes the low-pass of all its pictures (see
            `Gaussians`); None for a field not fitted to pictures, drawn as plain 3DGS.

    Raises:
        ConfigError: Gaussians that do not fit the config.
        DataError: `pixel` is not a positive length.
    """

    def __init__(
        self,
        config: FieldConfig,
        gaussians: GaussianModel,
        control_points: control.ControlPoints | None = None,
        *,
        pixel: float | None = None,
    ) -> None:
        super().__init__()
        check_pixel(pixel)
        if gaussians.sh_degree != config.sh_degree or gaussians.hyper.shape[1] != config.hyper_dim:
            raise ConfigError(
                f"the Gaussians have sh_degree {gaussians.sh_degree} and {gaussians.hyper.shape[1]} hyper "
                f"coordinates, the config says {config.sh_degree} and {config.hyper_dim}"
            )
        self.config = config
        self.gaussians = gaussians
        self.control = control_points
        self.pixel = pixel

    @classmethod
    def from_points(
        cls,
        config: FieldConfig,
        points: Tensor,
        colors: Tensor,
        opacity: float = INITIAL_OPACITY,
        *,
        pixel: float | None = None,
    ) -> "DynamicField":
        """Build a static field on points (N, 3) with colours (N, 3) in [0, 1]; as faint as 3DGS starts."""
        model = GaussianModel.from_points(
            points, colors, sh_degree=config.sh_degree, hyper_dim=config.hyper_dim, opacity=opacity
        )
        return cls(config, model, pixel=pixel)

    @property
    def is_dynamic(self) -> bool:
        """Return whether the field has control points."""
        return self.control is not None

    @torch.no_grad()
    def with_control_points(self, count: int | None = None, *, generator: torch.Generator) -> "DynamicField":
        """Return a dynamic field of these Gaussians, not moving yet.

        Control points are put on centres of Gaussians at least 0.05 opaque by farthest point sampling, which
        would otherwise seek out the faint floaters around the object. Their radii start at the distance to
        their neighbours (`control.spacing`).

        Args:
            count: number of control points, default `config.control_points`.
            generator: on the CPU; draws the network's weights.

        Raises:
            DataError: fewer Gaussians than control points.
        """
        config = self.config if count is None else replace(self.config, control_points=count)
        means = self.gaussians.means.detach()
        solid = means[self.gaussians.logit_opacities.sigmoid() >= _RELIABLE_OPACITY]
        if len(solid) < config.control_points:
            raise DataError(
                f"{len(solid)} of {len(means)} Gaussians are at least {_RELIABLE_OPACITY} opaque, too few for "
                f"{config.control_points} control points; lower field.control_points or train longer"
            )
        positions = solid[control.farthest_points(solid, config.control_points)]
        network = deform_network(config)
        network.initialise(generator)
        points = control.ControlPoints(
            positions, network.to(means), hyper_dim=config.hyper_dim, neighbours=config.neighbours
        )
        model = GaussianModel(**{name: value.detach() for name, value in self.gaussians.named().items()})
        return DynamicField(config, model, points, pixel=self.pixel)

    def at(self, t: float) -> Gaussians:
        """Return the Gaussians at time t in [0, 1]."""
        return self.at_many([t])[0]

    def at_many(self, times: Sequence[float] | Tensor) -> list[Gaussians]:
        """Return the Gaussians at several times; cheaper than one by one, as weights do not depend on time."""
        return self.moments(times).gaussians

    def moments(self, times: Sequence[float] | Tensor) -> Moments:
        """Evaluate `at_many` and `control_positions` in one pass of the network.

        That pass is the largest cost besides rendering.
        """
        still = replace(self.gaussians.activated(), pixel=self.pixel)
        if self.control is None:
            return Moments([still] * len(times), None)
        motion = self.control.motion(times)
        positions = self.control.positions + motion.translation
        residual = self.config.rotation == "residual"
        if not residual:
            motion = motion._replace(rotation=motion.local_rotation)
        deformation = control.blend(
            still.means,
            self.control.positions,
            motion,
            self.control.skinning(still.means, self.gaussians.hyper),
            local_frame=self.config.local_frame,
            rotation_as_residual=residual,
        )
        means, quats, scales = control.deform(
            still.means, self.gaussians.quats, still.scales, deformation, rotation_as_residual=residual
        )
        quats, scales = nn.functional.normalize(quats, dim=-1), scales.abs()
        gaussians = [
            replace(still, means=mean, quats=quat, scales=scale)
            for mean, quat, scale in zip(means, quats, scales, strict=True)
        ]
        return Moments(gaussians, positions)

    def control_positions(self, times: Sequence[float] | Tensor) -> Tensor:
        """Compute positions (T, M, 3) of the control points at T times.

        Raises:
            DataError: a static field.
        """
        if self.control is None:
            raise DataError("a static field has no control points; call with_control_points first")
        return self.control.trajectories(times)

    def render(
        self,
        cameras: Cameras,
        t: float,
        *,
        background: Sequence[float] | Tensor | None = None,
        flow_to: float | None = None,
        sh_degree: int | None = None,
    ) -> Render:
        """Render pictures at time t.

        Args:
            background: default `config.background`.
            flow_to: another time; the render then includes the flow from t to it.
            sh_degree: highest band used, for training that adds bands one by one.
        """
        gaussians = self.at_many([t] if flow_to is None else [t, flow_to])
        if sh_degree is not None:
            gaussians[0] = gaussians[0].truncated(sh_degree)
        return render_gaussians(
            gaussians[0],
            cameras,
            background=self.config.background if background is None else background,
            flow_to=None if flow_to is None else gaussians[1].means,
        )

    def flow(self, cameras: Cameras, t0: float, t1: float) -> tuple[Tensor, Tensor]:
        """Compute optical flow from t0 to t1 on the grid of t0.

        Returns:
            flow (C, H, W, 2), (dx, dy) in pixels, and visible (C, H, W) bool (see `visible_after`). Where
            nothing is visible, flow is that of faint Gaussians, 0 if there are none.
        """
        start, end = self.at_many([t0, t1])
        now = render_gaussians(start, cameras, flow_to=end.means)
        with torch.no_grad():
            then = render_gaussians(end, cameras)
        assert now.flow is not None
        return now.flow, visible_after(now, then, self.config.depth_tolerance)


def _pixels(
    points: Tensor, viewmats: Tensor, intrinsics: Tensor, kind: Literal["pinhole", "ortho"]
) -> tuple[Tensor, Tensor]:
    """Project points to pixels (C, N, 2) and camera z (C, N).

    Values and gradients are finite also behind a pinhole camera.
    """
    camera = points @ viewmats[:, :3, :3].transpose(1, 2) + viewmats[:, None, :3, 3]
    depth = camera[..., 2]
    plane = camera[..., :2]
    if kind == "pinhole":
        plane = plane / depth.clamp_min(NEAR_PLANE)[..., None]
    focal = torch.stack([intrinsics[:, 0, 0], intrinsics[:, 1, 1]], dim=-1)
    return plane * focal[:, None] + intrinsics[:, None, :2, 2], depth
