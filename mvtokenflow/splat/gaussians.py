"""3-D Gaussians: activated values, trainable parameters, and initialisation."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

import torch
from scipy.spatial import cKDTree
from torch import Tensor, nn

from mvtokenflow.base.errors import DataError
from mvtokenflow.splat.kernels.constants import MAX_DEGREE
from mvtokenflow.splat.kernels.sh import sh_colors
from mvtokenflow.views.cameras import Cameras

SH_C0 = 0.28209479177387814  # the constant band: colour = SH_C0 · features_dc + 0.5
PARAMETERS = (
    "means",
    "log_scales",
    "quats",
    "logit_opacities",
    "features_dc",
    "features_rest",
    "hyper",
)
INITIAL_OPACITY = 0.1
LEAST_PIXEL, MOST_PIXEL = 1e-15, 1e15  # world units; a pixel is squared in float32
LOW_PASS = 0.3  # variance, in squared pixels, of the filter that 3DGS puts over every projected Gaussian
HYPER_OFFSET = 1e-2  # initial hyper coordinates: minus this for Gaussians, plus this for control points
SCALE_FLOOR = 1e-7  # squared distance; points that coincide still get a size


@dataclass(frozen=True)
class Gaussians:
    """Activated values of N Gaussians, the input of the rasterizer.

    Attributes:
        means: (N, 3) centres in the world.
        quats: (N, 4) unit wxyz.
        scales: (N, 3) standard deviations in world units, positive.
        opacities: (N,) in [0, 1].
        colors: (N, 3), or with `sh_degree` spherical-harmonic coefficients (N, (sh_degree + 1)², 3).
        sh_degree: None for plain colours, else 0 to 3.
        pixel: side, in world units, of the pixels they were fitted to. Pictures of any size then show them
            under the low-pass of that pixel (`low_passed`), which shaped them. None is plain 3DGS: the low-pass
            is that of the picture's own pixel, and they get thinner or thicker with the size of the picture.
    """

    means: Tensor
    quats: Tensor
    scales: Tensor
    opacities: Tensor
    colors: Tensor
    sh_degree: int | None = None
    pixel: float | None = None

    def __post_init__(self) -> None:
        check_pixel(self.pixel)
        count = self.means.shape[0]
        bands = () if self.sh_degree is None else ((self.sh_degree + 1) ** 2,)
        expected = {
            "means": (count, 3),
            "quats": (count, 4),
            "scales": (count, 3),
            "opacities": (count,),
            "colors": (count, *bands, 3),
        }
        _check_shapes({name: getattr(self, name) for name in expected}, expected)

    def __len__(self) -> int:
        return int(self.means.shape[0])

    def low_passed(self) -> "Gaussians":
        """Return Gaussians with the low-pass of the training pixel in their scales: sqrt(scale² + 0.3 pixel²).

        Orthographic cameras without another low-pass then see them as the fit did (3DGS's filter, fixed in
        the world; compare the 3-D filter of Mip-Splatting, Yu et al. 2024). `pixel` is then None.
        """
        if self.pixel is None:
            return self
        scales = (self.scales.square() + LOW_PASS * self.pixel**2).sqrt()
        return replace(self, scales=scales, pixel=None)

    def truncated(self, sh_degree: int) -> "Gaussians":
        """Return Gaussians without the bands above `sh_degree`; plain colours stay as they are."""
        if self.sh_degree is None or sh_degree >= self.sh_degree:
            return self
        return replace(self, colors=self.colors[:, : (sh_degree + 1) ** 2], sh_degree=sh_degree)

    def colors_seen(self, cameras: Cameras) -> Tensor:
        """Return colours seen by C cameras: (N, 3) where they do not depend on the view, else (C, N, 3).

        An ortho camera sees everything along its axis, so its arbitrary distance does not enter.
        """
        if self.sh_degree is None:
            return self.colors
        poses = cameras.world_to_camera.to(self.means)
        if cameras.kind == "ortho":
            directions = poses[:, 2, :3].unsqueeze(1)
        else:
            directions = self.means - cameras.centres.to(self.means)[:, None]
        return sh_colors(self.sh_degree, directions, self.colors)


class GaussianModel(nn.Module):
    """Trainable parameters of N Gaussians, before activation.

    Attributes:
        means: (N, 3). log_scales: (N, 3), `exp` gives world units. quats: (N, 4) wxyz of any length.
        logit_opacities: (N,), `sigmoid` gives [0, 1].
        features_dc: (N, 1, 3) and features_rest: (N, (sh_degree + 1)² - 1, 3), bands as in 3DGS.
        hyper: (N, h) coordinates that, besides the position, decide which control points steer a Gaussian
            (SC-GS); h may be 0.
    """

    means: nn.Parameter
    log_scales: nn.Parameter
    quats: nn.Parameter
    logit_opacities: nn.Parameter
    features_dc: nn.Parameter
    features_rest: nn.Parameter
    hyper: nn.Parameter

    def __init__(
        self,
        means: Tensor,
        log_scales: Tensor,
        quats: Tensor,
        logit_opacities: Tensor,
        features_dc: Tensor,
        features_rest: Tensor,
        hyper: Tensor,
    ) -> None:
        super().__init__()
        given = (means, log_scales, quats, logit_opacities, features_dc, features_rest, hyper)
        self.assign(dict(zip(PARAMETERS, given, strict=True)))

    def assign(self, values: Mapping[str, Tensor]) -> None:
        """Replace all parameters, also by another number of Gaussians; each becomes a new `nn.Parameter`.

        Raises:
            DataError: the shapes do not fit together.
        """
        count = values["means"].shape[0]
        bands = values["features_rest"].shape[1] + 1
        if bands not in [(degree + 1) ** 2 for degree in range(MAX_DEGREE + 1)]:
            raise DataError(f"features_rest has {bands - 1} bands; expected 0, 3, 8 or 15")
        expected = {
            "means": (count, 3),
            "log_scales": (count, 3),
            "quats": (count, 4),
            "logit_opacities": (count,),
            "features_dc": (count, 1, 3),
            "features_rest": (count, bands - 1, 3),
            "hyper": (count, values["hyper"].shape[-1]),
        }
        _check_shapes(values, expected)
        for name in PARAMETERS:
            setattr(self, name, nn.Parameter(values[name].detach().clone()))

    def __len__(self) -> int:
        return int(self.means.shape[0])

    @property
    def sh_degree(self) -> int:
        """Highest band of spherical harmonics, 0 to 3."""
        return math.isqrt(self.features_rest.shape[1] + 1) - 1

    def named(self) -> dict[str, nn.Parameter]:
        """Return the parameters by the names in `PARAMETERS`."""
        return {name: getattr(self, name) for name in PARAMETERS}

    def activated(self) -> Gaussians:
        """Return the activated Gaussians; plain colours where `sh_degree` is 0."""
        degree = self.sh_degree
        if degree == 0:
            colors = (SH_C0 * self.features_dc[:, 0] + 0.5).clamp_min(0.0)
        else:
            colors = torch.cat([self.features_dc, self.features_rest], dim=1)
        return Gaussians(
            means=self.means,
            quats=nn.functional.normalize(self.quats, dim=-1),
            scales=self.log_scales.exp(),
            opacities=self.logit_opacities.sigmoid(),
            colors=colors,
            sh_degree=degree or None,
        )

    @classmethod
    def from_points(
        cls,
        points: Tensor,
        colors: Tensor,
        *,
        sh_degree: int = 0,
        hyper_dim: int = 0,
        opacity: float = INITIAL_OPACITY,
    ) -> Self:
        """Place round Gaussians on points, sized by the gap to their neighbours and as faint as 3DGS starts.

        Args:
            points: (N, 3), N ≥ 2. colors: (N, 3) in [0, 1].
            sh_degree: 0 to 3; bands above 0 start at zero.
            hyper_dim: h, the number of hyper coordinates.
            opacity: initial opacity, within 0 and 1.

        Raises:
            DataError: fewer than two points, or shapes that do not fit.
        """
        if points.shape[0] < 2:
            raise DataError(f"{points.shape[0]} points to start from; the size needs at least two")
        _check_shapes({"points": points, "colors": colors}, dict.fromkeys(("points", "colors"), points.shape))
        count, made = points.shape[0], points.detach()
        log_scales = 0.5 * gap_squared(made).clamp_min(SCALE_FLOOR).log()
        return cls(
            means=made,
            log_scales=log_scales[:, None].expand(-1, 3),
            quats=made.new_tensor([1.0, 0.0, 0.0, 0.0]).expand(count, 4),
            logit_opacities=made.new_full((count,), opacity).logit(),
            features_dc=((colors - 0.5) / SH_C0)[:, None],
            features_rest=made.new_zeros(count, (sh_degree + 1) ** 2 - 1, 3),
            hyper=made.new_full((count, hyper_dim), -HYPER_OFFSET),
        )

    @classmethod
    def from_gaussians(cls, gaussians: Gaussians, *, hyper_dim: int = 0) -> Self:
        """Build parameters whose activated values are `gaussians`, e.g. those of a .ply file."""
        colors = gaussians.colors
        if gaussians.sh_degree is None:
            colors = ((colors - 0.5) / SH_C0)[:, None]
        tiny = torch.finfo(colors.dtype).eps
        return cls(
            means=gaussians.means,
            log_scales=gaussians.scales.log(),
            quats=gaussians.quats,
            logit_opacities=gaussians.opacities.logit(tiny),
            features_dc=colors[:, :1],
            features_rest=colors[:, 1:],
            hyper=colors.new_full((len(gaussians), hyper_dim), -HYPER_OFFSET),
        )


def visual_hull(
    alpha: Tensor,
    cameras: Cameras,
    count: int,
    generator: torch.Generator,
    extent: float = 1.0,
    *,
    rgb: Tensor | None = None,
    resolution: int = 64,
    surface: float = 0.75,
) -> tuple[Tensor, Tensor]:
    """Draw random points inside all masks, with the colours the cameras see there.

    The cube [-extent, extent]³ is cut into voxels; those whose centre falls into every mask are the hull.
    Points are jittered inside their voxel.

    Args:
        alpha: (V, H, W) coverage in [0, 1]; 0.5 is the edge.
        cameras: V cameras, ortho or pinhole, of that picture size.
        count: number of points.
        generator: draws the points, on the device of `alpha`.
        extent: half side of the cube in world units.
        rgb: (V, H, W, 3) in [0, 1]; without it the points are mid-grey.
        resolution: voxels per side.
        surface: share of points on the hull's surface; the rest is spread inside, where the true surface is
            in hollows that no silhouette shows.

    Returns:
        points (count, 3) and colors (count, 3): the mean over the cameras that see the voxel, over all of
        them where none does.

    Raises:
        DataError: no voxel lies inside all masks, or sizes do not fit.
    """
    expected = {"alpha": (len(cameras), cameras.height, cameras.width)}
    _check_shapes({"alpha": alpha}, expected)
    step = 2 * extent / resolution
    axis = (torch.arange(resolution, device=alpha.device, dtype=alpha.dtype) + 0.5) * step - extent
    grid = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    pixels, seen, depth = _pixel_indices(grid, cameras)
    inside = (seen & (alpha.flatten(1).gather(1, pixels) >= 0.5)).all(0)
    if not bool(inside.any()):
        raise DataError(
            f"no point of the cube of half side {extent} lies inside all {len(cameras)} masks; "
            "check the cameras and that every mask shows the object"
        )
    hull = inside.nonzero()[:, 0]
    on_surface = _has_empty_neighbour(inside.reshape(resolution, resolution, resolution)).flatten()[hull]
    outer = _draw(hull[on_surface], round(count * surface), generator)
    chosen = torch.cat([outer, _draw(hull, count - outer.shape[0], generator)])
    jitter = torch.rand(count, 3, generator=generator, device=alpha.device, dtype=alpha.dtype) - 0.5
    points = grid[chosen] + jitter * step
    if rgb is None:
        return points, torch.full_like(points, 0.5)
    return points, _colors_seen(rgb, pixels, depth, hull, chosen, step)


def _has_empty_neighbour(filled: Tensor) -> Tensor:
    """Mark voxels (R, R, R) with an empty one among the 26 around; outside the cube all are empty."""
    empty = nn.functional.pad(1.0 - filled.float(), (1, 1, 1, 1, 1, 1), value=1.0)
    return nn.functional.max_pool3d(empty[None, None], 3, stride=1)[0, 0] > 0


def _pixel_indices(points: Tensor, cameras: Cameras) -> tuple[Tensor, Tensor, Tensor]:
    """Project points (n, 3): flat pixel (V, n), whether it is inside the picture, and camera depth (V, n)."""
    moved = replace(
        cameras,
        world_to_camera=cameras.world_to_camera.to(points),
        intrinsics=cameras.intrinsics.to(points),
    )
    pixels, depth = moved.project(points)
    column, row = pixels.floor().nan_to_num(-1.0, -1.0, -1.0).clamp(-1, 1e6).long().unbind(-1)
    seen = (column >= 0) & (column < cameras.width) & (row >= 0) & (row < cameras.height) & (depth > 0)
    flat = row.clamp(0, cameras.height - 1) * cameras.width + column.clamp(0, cameras.width - 1)
    return flat, seen, depth


def _draw(voxels: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Draw `count` voxels: each at most once where there are enough, else as evenly as possible."""
    rounds = -(-count // max(voxels.shape[0], 1))
    drawn = [
        voxels[torch.randperm(voxels.shape[0], generator=generator, device=voxels.device)]
        for _ in range(rounds)
    ]
    return torch.cat([*drawn, voxels[:0]])[:count]


def _colors_seen(
    rgb: Tensor, pixels: Tensor, depth: Tensor, hull: Tensor, chosen: Tensor, step: float
) -> Tensor:
    """Average the colour of voxels over the cameras in which nothing of the hull lies in front."""
    views = rgb.shape[0]
    nearest = torch.full((views, rgb.shape[1] * rgb.shape[2]), torch.inf, device=rgb.device, dtype=depth.dtype)
    nearest = nearest.scatter_reduce(1, pixels[:, hull], depth[:, hull], "amin")
    at = pixels[:, chosen]
    # Two voxels of slack: a pixel may be crossed by several voxels of a slanted surface.
    visible = (depth[:, chosen] <= nearest.gather(1, at) + 2 * step).to(rgb)[..., None]
    visible = torch.where(visible.sum(0) > 0, visible, torch.ones_like(visible))
    colors = rgb.flatten(1, 2).gather(1, at[..., None].expand(-1, -1, 3))
    return (colors * visible).sum(0) / visible.sum(0)


def gap_squared(points: Tensor) -> Tensor:
    """Mean squared distance (N,) to the three nearest other points."""
    found = min(3, points.shape[0] - 1)
    on_host = points.double().cpu().numpy()  # once per start, not in a hot path
    distances, _ = cKDTree(on_host).query(on_host, k=found + 1)
    return torch.from_numpy((distances[:, 1:] ** 2).mean(1)).to(points)


def check_pixel(pixel: float | None) -> None:
    """Check that a training pixel has a size in world units that squares in float32 without overflow.

    Raises:
        DataError: it has not.
    """
    if pixel is not None and not LEAST_PIXEL <= pixel <= MOST_PIXEL:
        raise DataError(
            f"the training pixel spans {pixel} world units; expected {LEAST_PIXEL:g} to {MOST_PIXEL:g}"
        )


def _check_shapes(values: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]]) -> None:
    for name, shape in expected.items():
        if tuple(values[name].shape) != tuple(shape):
            raise DataError(f"{name} has the shape {tuple(values[name].shape)}; expected {tuple(shape)}")
