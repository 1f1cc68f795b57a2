"""Points on the exact surface of a toy, which move with it: for distances between surfaces, and for tracks."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mvtokenflow.datasets.toy4d.kernels import BOX, CAPSULE, ELLIPSOID
from mvtokenflow.datasets.toy4d.render import Times
from mvtokenflow.datasets.toy4d.toys import Toy

Array = NDArray[np.float64]
_TRIES = 8  # candidates for each point, so that drawing by area seldom takes one twice
_SLACK = 1e-9


@dataclass(frozen=True)
class Surface:
    """N points spread evenly over the surfaces of all parts, those inside other parts included.

    Attributes:
        part: (N,) int64 index of each point's part.
        local: (N, 3) place in the frame of its part, world units.
    """

    part: NDArray[np.int64]
    local: Array

    def positions(self, toy: Toy, times: Times) -> Array:
        """Compute world positions (T, N, 3) at times in [0, 1]."""
        pose = toy.poses(times)[:, self.part]
        out: Array = np.einsum("tnij,nj->tni", pose[..., :3], self.local) + pose[..., 3]
        return out


def sample_surface(toy: Toy, count: int, seed: int = 0) -> Surface:
    """Draw points by area over the surfaces of all parts; equal arguments give equal points.

    Raises:
        ValueError: fewer than one point.
    """
    if count < 1:
        raise ValueError(f"a surface has at least one point, got {count}")
    random = np.random.Generator(np.random.PCG64(seed))
    each = max(64, _TRIES * count // len(toy.kinds))
    drawn = [
        _candidates(int(kind), size, each, random) for kind, size in zip(toy.kinds, toy.sizes, strict=True)
    ]
    local = np.concatenate([points for points, _ in drawn])
    areas = np.concatenate([areas for _, areas in drawn])
    chosen = np.sort(random.choice(len(local), count, p=areas / areas.sum()))
    return Surface(np.repeat(np.arange(len(toy.kinds)), each)[chosen], local[chosen])


def on_outside(toy: Toy, surface: Surface, times: Times) -> NDArray[np.bool_]:
    """Return which points lie in no other part at each time, (T, N): those are the toy's own surface."""
    out = np.ones((len(times), len(surface.part)), np.bool_)
    for t, (points, pose) in enumerate(zip(surface.positions(toy, times), toy.poses(times), strict=True)):
        for k, (kind, size) in enumerate(zip(toy.kinds, toy.sizes, strict=True)):
            local = (points - pose[k, :, 3]) @ pose[k, :, :3]
            out[t] &= ~(_inside(int(kind), size, local) & (surface.part != k))
    return out


def _inside(kind: int, size: Array, points: Array) -> NDArray[np.bool_]:
    """Return which points (N, 3) of a primitive's frame are strictly inside it."""
    a, b, c = (float(v) for v in size)
    x, y, z = points.T
    if kind == ELLIPSOID:
        level = (x / a) ** 2 + (y / b) ** 2 + (z / c) ** 2
    elif kind == BOX:
        level = np.maximum(np.maximum(abs(x) / a, abs(y) / b), abs(z) / c)
    elif kind == CAPSULE:
        level = (x**2 + y**2 + (z - np.clip(z, -c, c)) ** 2) / a**2
    else:
        radius = np.maximum(0.5 * (a + b) + (b - a) / (2 * c) * z, 1e-12)
        level = np.maximum(np.sqrt(x**2 + y**2) / radius, abs(z) / c)
    inside: NDArray[np.bool_] = level < 1 - _SLACK
    return inside


def _candidates(kind: int, size: Array, count: int, random: np.random.Generator) -> tuple[Array, Array]:
    """Draw points (count, 3) of a primitive's surface, and the area (count,) that each stands for."""
    a, b, c = (float(v) for v in size)
    if kind == ELLIPSOID:
        way = _directions(count, random)
        stretch = np.sqrt(((way * (b * c, a * c, a * b)) ** 2).sum(-1))
        return way * (a, b, c), 4 * np.pi / count * stretch
    if kind == BOX:
        faces = np.array([b * c, a * c, a * b, b * c, a * c, a * b]) * 4
        face = random.integers(0, 6, count)
        points = random.uniform(-1, 1, (count, 3))
        points[np.arange(count), face % 3] = np.where(face < 3, -1.0, 1.0)
        return points * (a, b, c), faces[face] * 6 / count
    turn = random.uniform(0, 2 * np.pi, count)
    across = np.stack((np.cos(turn), np.sin(turn)), -1)
    if kind == CAPSULE:
        rod, ball = 4 * np.pi * a * c, 4 * np.pi * a * a
        on_rod = random.uniform(0, 1, count) * (rod + ball) < rod
        way = _directions(count, random)
        ends = way * a + np.stack((0 * turn, 0 * turn, np.where(way[:, 2] < 0, -c, c)), -1)
        middle = np.concatenate((across * a, random.uniform(-c, c, (count, 1))), -1)
        return np.where(on_rod[:, None], middle, ends), np.full(count, (rod + ball) / count)
    side = np.pi * (a + b) * np.hypot(2 * c, b - a)
    total = side + np.pi * (a * a + b * b)
    pick, along = random.uniform(0, total, count), random.uniform(0, 1, count)
    # Along a cone's side the area of a ring grows with its radius.
    share = along if a == b else (np.sqrt(a * a + along * (b * b - a * a)) - a) / (b - a)
    radius = np.where(
        pick < side, a + (b - a) * share, np.sqrt(along) * np.where(pick < side + np.pi * a * a, a, b)
    )
    height = np.where(pick < side, c * (2 * share - 1), np.where(pick < side + np.pi * a * a, -c, c))
    return np.concatenate((across * radius[:, None], height[:, None]), -1), np.full(count, total / count)


def _directions(count: int, random: np.random.Generator) -> Array:
    way = random.normal(size=(count, 3))
    out: Array = way / np.linalg.norm(way, axis=-1, keepdims=True)
    return out
