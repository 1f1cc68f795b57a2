"""Deterministic construction of toys, `make_toy(plan, seed)`, and the ranges of their seeds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from mvtokenflow.base.files import choose, digest
from mvtokenflow.datasets.toy4d import animals, kernels, motion, things
from mvtokenflow.datasets.toy4d.build import Builder, Draw, Palette
from mvtokenflow.datasets.toy4d.wild import WILD_PLANS

Array = NDArray[np.float64]

PLANS: Mapping[str, Callable[[Builder, Draw, Palette], str]] = MappingProxyType(
    {
        "quadruped": animals.quadruped,
        "bird": animals.bird,
        "fish": animals.fish,
        "robot": things.robot,
        "vehicle": things.vehicle,
        "plant": things.plant,
        "crab": animals.crab,
    }
)
HELD_OUT_PLAN = "crab"
TRAINED_PLANS = tuple(plan for plan in PLANS if plan != HELD_OUT_PLAN)

# Seeds by use; the ranges are disjoint, so no toy is in two of them. The benchmark's scenes are test seeds.
SEEDS: Mapping[str, range] = MappingProxyType(
    {"train": range(1 << 59), "validation": range(1 << 59, 1 << 60), "test": range(1 << 60, 1 << 61)}
)

# The farthest a toy reaches from the vertical axis or up and down, over its whole clip, in world units.
FILL = 0.875
# Nine in ten toys face the input camera within this angle, the others have any yaw.
FRONT_YAW_DEG = 40.0
FRONT_SHARE = 0.9

_FIT_FRAMES = 32
_FIT_DIRECTIONS = 24


@dataclass(frozen=True, kw_only=True)
class Toy:
    """An articulated, textured, animated object of n parts on m bones, fitted to the unit frame.

    At every time and seen from every azimuth at elevation 0 it stays within an ortho half-width of 1:
    the farthest point of the clip lies about `FILL` from the vertical axis through the origin, or above
    or below it. World units; Z up; the toy's front looks along −Y turned by `yaw_deg`.

    Attributes:
        plan, seed: arguments of `make_toy`.
        caption: e.g. "a striped green quadruped toy".
        yaw_deg: counter-clockwise turn seen from above.
        parents, bones, part_bones, part_frames: see `motion.poses`.
        kinds, sizes: (n,), (n, 3), see `kernels`.
        patterns, pattern_args, colors: (n,), (n, 4), (n, 3, 3) sRGB colours in [0, 1].
    """

    plan: str
    seed: int
    caption: str
    yaw_deg: float
    parents: NDArray[np.int64]
    bones: Array
    part_bones: NDArray[np.int64]
    part_frames: Array
    kinds: NDArray[np.int64]
    sizes: Array
    patterns: NDArray[np.int64]
    pattern_args: Array
    colors: Array

    def poses(self, times: Sequence[float] | Array) -> Array:
        """Compute part-to-world transforms (P, n, 3, 4) at times in [0, 1]; the motion has period 1."""
        at = np.asarray(times, np.float64)
        out: Array = motion.poses(self.parents, self.bones, self.part_bones, self.part_frames, at)
        return out

    def reach(self, times: Sequence[float] | Array, directions: Array) -> Array:
        """Compute the exact maximum (P, K) of direction·point over the surface, for directions (K, 3)."""
        out: Array = kernels.supports(self.kinds, self.sizes, self.poses(times), directions)
        return out


def _ring(count: int) -> Array:
    """Return directions (count + 2, 3): horizontal ones at even angles, then down and up."""
    ring = [(*reversed(motion.sincos(k / count)), 0.0) for k in range(count)]
    return np.array([*ring, (0.0, 0.0, -1.0), (0.0, 0.0, 1.0)])


_DIRECTIONS = _ring(_FIT_DIRECTIONS)
_FIT_TIMES = np.arange(_FIT_FRAMES) / (_FIT_FRAMES - 1)


def make_toy(plan: str, seed: int) -> Toy:
    """Build the toy of a body plan of `PLANS` or `WILD_PLANS` and a seed; equal arguments give equal bits.

    Raises:
        ConfigError: no such plan.
        ValueError: a negative seed.
    """
    body = choose("body plan", plan, {**PLANS, **WILD_PLANS})
    if seed < 0:
        raise ValueError(f"toy seeds count from 0, got {seed}")
    if plan in WILD_PLANS:  # a sequence of draws for each, so that another plan changes no toy
        draw = Draw(int(digest([(f"toy4d-wild/{plan}", str(seed).encode())])[:16], 16))
    else:
        draw = Draw(seed * len(PLANS) + tuple(PLANS).index(plan))
    yaw = draw.uniform(-FRONT_YAW_DEG, FRONT_YAW_DEG) if draw.chance(FRONT_SHARE) else draw.uniform(-180, 180)
    palette = Palette.draw(draw)
    build = Builder()
    caption = body(build, draw, palette).replace("a orange", "an orange")
    return _fit(assemble(build, plan=plan, seed=seed, caption=caption), yaw)


def assemble(build: Builder, *, plan: str, seed: int, caption: str) -> Toy:
    """Build the toy without scaling, centring or turning."""
    return Toy(
        plan=plan,
        seed=seed,
        caption=caption,
        yaw_deg=0.0,
        parents=np.array(build.parents),
        bones=np.array(build.bones, np.float64),
        part_bones=np.array(build.part_bones),
        part_frames=np.array(build.frames, np.float64).reshape(-1, 3, 4),
        kinds=np.array(build.kinds),
        sizes=np.array(build.sizes, np.float64),
        patterns=np.array([skin.pattern for skin in build.skins]),
        pattern_args=np.array([skin.args for skin in build.skins], np.float64),
        colors=np.array([(skin.first, skin.second, skin.third) for skin in build.skins]),
    )


def _fit(toy: Toy, yaw_deg: float) -> Toy:
    """Scale the toy, centre the extents of its whole clip on the origin, and turn it."""
    reach = toy.reach(_FIT_TIMES, _DIRECTIONS).max(0)
    quarter = _FIT_DIRECTIONS // 4
    x = 0.5 * (reach[0] - reach[2 * quarter])
    y = 0.5 * (reach[quarter] - reach[3 * quarter])
    z = 0.5 * (reach[-1] - reach[-2])
    around = reach[:-2] - (_DIRECTIONS[:-2, 0] * x + _DIRECTIONS[:-2, 1] * y)
    scale = FILL / max(float(around.max()), 0.5 * float(reach[-1] + reach[-2]))
    bones, frames = toy.bones.copy(), toy.part_frames.copy()
    frames[:, :, 3] *= scale
    bones[:, motion.OFFSET] *= scale
    bones[:, motion.SLIDE] *= scale
    s, c = motion.sincos(yaw_deg / 360.0)
    bones[0, motion.OFFSET] = -scale * (c * x - s * y), -scale * (s * x + c * y), -scale * z
    bones[0, motion.BIAS] = yaw_deg / 360.0
    return replace(toy, yaw_deg=yaw_deg, bones=bones, part_frames=frames, sizes=toy.sizes * scale)
