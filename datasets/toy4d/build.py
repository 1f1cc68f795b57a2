"""Tools for body plans: seeded draws, colours, skins, and a builder of bones and parts.

Plans place parts in the rest frame of their bone, Z up, the toy looking along −Y, in any unit of length:
the finished toy is scaled to the picture afterwards. Arithmetic is kept to IEEE basic operations (see
`motion.py`), so that the same seed gives the same toy to the last bit everywhere.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import sqrt
from typing import TypeVar

from mvtokenflow.datasets.toy4d import kernels, shading
from mvtokenflow.datasets.toy4d.motion import sincos

Vector = tuple[float, float, float]
Color = tuple[float, float, float]
T = TypeVar("T")

X: Vector = (1.0, 0.0, 0.0)
Y: Vector = (0.0, 1.0, 0.0)
Z: Vector = (0.0, 0.0, 1.0)


class Draw:
    """Random draws from `random.Random(seed).random()`, whose sequence Python guarantees."""

    def __init__(self, seed: int) -> None:
        self.unit = random.Random(seed).random

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * self.unit()

    def choice(self, options: Sequence[T]) -> T:
        return options[int(self.unit() * len(options))]

    def chance(self, probability: float) -> bool:
        return self.unit() < probability


MAIN: dict[str, Color] = {
    "red": (0.84, 0.31, 0.29),
    "orange": (0.93, 0.55, 0.24),
    "yellow": (0.94, 0.76, 0.30),
    "green": (0.43, 0.68, 0.37),
    "teal": (0.25, 0.63, 0.61),
    "blue": (0.31, 0.53, 0.82),
    "purple": (0.55, 0.43, 0.75),
    "pink": (0.92, 0.54, 0.65),
    "brown": (0.60, 0.42, 0.30),
    "grey": (0.57, 0.61, 0.67),
}
# Accents that match each main colour.
ACCENTS = {
    "red": ("yellow", "teal", "blue"),
    "orange": ("teal", "blue", "brown"),
    "yellow": ("red", "blue", "purple"),
    "green": ("orange", "yellow", "pink"),
    "teal": ("orange", "red", "yellow"),
    "blue": ("yellow", "orange", "red"),
    "purple": ("yellow", "pink", "teal"),
    "pink": ("teal", "purple", "blue"),
    "brown": ("orange", "green", "blue"),
    "grey": ("red", "orange", "blue"),
}
INK: Color = (0.15, 0.15, 0.19)
WHITE: Color = (0.97, 0.97, 0.96)
CREAM: Color = (0.98, 0.93, 0.82)
RUBBER: Color = (0.22, 0.22, 0.25)
STEEL: Color = (0.70, 0.73, 0.77)
GOLD: Color = (0.93, 0.66, 0.25)


def blend(a: Color, b: Color, share: float) -> Color:
    """Mix `a` with a `share` of `b` in [0, 1]."""
    return (a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share, a[2] + (b[2] - a[2]) * share)


@dataclass(frozen=True)
class Skin:
    """Surface colouring: up to three colours in a pattern of `shading` with its four arguments."""

    first: Color
    second: Color = INK
    third: Color = WHITE
    pattern: int = shading.PLAIN
    args: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Palette:
    """Colours of one toy; `name` is the main colour's."""

    name: str
    main: Color
    light: Color
    dark: Color
    accent: Color

    @classmethod
    def draw(cls, draw: Draw) -> "Palette":
        name = draw.choice(tuple(MAIN))
        shift = draw.uniform(-0.05, 0.05)  # a little lighter or darker
        main = blend(MAIN[name], CREAM if shift > 0 else INK, abs(shift) * 2)
        accent = MAIN[draw.choice(ACCENTS[name])]
        return cls(name, main, blend(main, CREAM, draw.uniform(0.60, 0.75)), blend(main, INK, 0.42), accent)


def plain(color: Color) -> Skin:
    return Skin(color)


def split(first: Color, second: Color, direction: Vector, threshold: float) -> Skin:
    """Return a skin with `second` beyond the plane direction·u = threshold, u in half extents of the part."""
    return Skin(first, second, pattern=shading.SPLIT, args=(*direction, threshold))


def band(first: Color, second: Color, axis: int, centre: float, half_width: float) -> Skin:
    return Skin(first, second, pattern=shading.BAND, args=(axis, centre, half_width, 0.0))


def eye(direction: Vector, iris: Color = INK, pupil: float = 0.72) -> Skin:
    """Return a white skin with a pupil in `direction` and a glint; `pupil` is the cosine of its half angle."""
    length = sqrt(direction[0] ** 2 + direction[1] ** 2 + direction[2] ** 2)
    x, y, z = direction[0] / length, direction[1] / length, direction[2] / length
    return Skin(WHITE, iris, WHITE, pattern=shading.EYE, args=(x, y, z, pupil))


def panel(first: Color, second: Color, axis: int, sign: float, half_u: float, half_v: float) -> Skin:
    return Skin(first, second, pattern=shading.PANEL, args=(axis, sign, half_u, half_v))


def patches(draw: Draw, first: Color, second: Color, third: Color, cells: float) -> Skin:
    """Return a skin of irregular patches that no symmetry repeats; `cells` per half extent of the part."""
    args = (cells, int(draw.uniform(0, 1 << 20)), draw.uniform(0.30, 0.38), draw.uniform(0.26, 0.32))
    return Skin(first, second, third, pattern=shading.PATCHES, args=args)


def marks(draw: Draw, first: Color, ink: Color, back: Color, axis: int, sign: float, cells: float) -> Skin:
    """Return a skin with lines of signs like writing on one side and a plain colour on the other.

    Args:
        axis, sign: the written side, by its local axis and direction.
        cells: cells of the signs per half extent of the part; a sign is 3 cells wide and 4 high.
    """
    args = (axis, sign, cells, int(draw.uniform(0, 1 << 20)))
    return Skin(first, ink, back, pattern=shading.MARKS, args=args)


# Body patterns by their adjective in captions.
BODY_PATTERNS = ("plain", "striped", "spotted", "checkered", "banded", "two-tone", "shaded")


def body_skin(draw: Draw, palette: Palette, along: int = 1) -> tuple[str, Skin]:
    """Draw the pattern of a toy's largest part, running along its local axis `along`, and its adjective."""
    adjective = draw.choice(BODY_PATTERNS)
    second = draw.choice((palette.light, palette.light, palette.dark, palette.accent))
    skin = Skin(palette.main, second)
    if adjective == "striped":
        count = draw.uniform(1.6, 2.6)
        skin = replace(skin, pattern=shading.STRIPES, args=(along, count, draw.uniform(0, 1), 0.42))
    elif adjective == "spotted":
        args = (draw.uniform(1.3, 1.9), draw.uniform(0.24, 0.30), draw.uniform(0, 1), 0.0)
        skin = replace(skin, pattern=shading.SPOTS, args=args)
    elif adjective == "checkered":
        args = (draw.uniform(1.7, 2.4), draw.uniform(0.2, 0.8), 0.0, 0.0)
        skin = replace(skin, pattern=shading.CHECKS, args=args)
    elif adjective == "banded":
        skin = band(palette.main, second, along, draw.uniform(-0.2, 0.2), draw.uniform(0.16, 0.26))
    elif adjective == "two-tone":
        skin = split(palette.main, palette.light, (0.0, -0.35, -0.94), draw.uniform(0.15, 0.45))
    elif adjective == "shaded":
        skin = Skin(palette.light, palette.main, pattern=shading.GRADIENT, args=(2, -0.7, 0.6, 0.0))
    return adjective, skin


def _rotation(axis: Vector, turns: float) -> tuple[Vector, Vector, Vector]:
    s, c = sincos(turns)
    x, y, z = axis
    k = 1.0 - c
    return (
        (c + x * x * k, x * y * k - z * s, x * z * k + y * s),
        (y * x * k + z * s, c + y * y * k, y * z * k - x * s),
        (z * x * k - y * s, z * y * k + x * s, c + z * z * k),
    )


def _along(start: Vector, end: Vector) -> tuple[tuple[Vector, Vector, Vector], float]:
    """Compute a rotation whose third column points from `start` to `end`, and half their distance."""
    dx, dy, dz = end[0] - start[0], end[1] - start[1], end[2] - start[2]
    length = sqrt(dx * dx + dy * dy + dz * dz)
    zx, zy, zz = dx / length, dy / length, dz / length
    # Local x stays horizontal where it can: x = Y × z, or X for pieces along Y.
    if abs(zy) < 0.95:
        norm = sqrt(zz * zz + zx * zx)
        xx, xy, xz = zz / norm, 0.0, -zx / norm
    else:
        norm = sqrt(zy * zy + zx * zx)
        xx, xy, xz = zy / norm, -zx / norm, 0.0
    yx, yy, yz = zy * xz - zz * xy, zz * xx - zx * xz, zx * xy - zy * xx
    return ((xx, yx, zx), (xy, yy, zy), (xz, yz, zz)), 0.5 * length


class Builder:
    """Collects bones and parts of a toy; bone 0 is the toy's base, placed and turned by the fit."""

    def __init__(self) -> None:
        self.parents: list[int] = [-1]
        self.bones: list[tuple[float, ...]] = [(0.0,) * 3 + Z + (0.0,) * 9]
        self.part_bones: list[int] = []
        self.frames: list[tuple[float, ...]] = []
        self.kinds: list[int] = []
        self.sizes: list[Vector] = []
        self.skins: list[Skin] = []

    def bone(
        self,
        parent: int,
        at: Vector,
        *,
        axis: Vector = X,
        swing: float = 0.0,
        phase: float = 0.0,
        cycles: int = 1,
        bias: float = 0.0,
        spin: int = 0,
        slide: Vector = (0.0, 0.0, 0.0),
        slide_phase: float = 0.0,
    ) -> int:
        """Add a joint at `at` in the parent's frame; angles are in turns, see `motion.py` for the motion."""
        self.parents.append(parent)
        self.bones.append((*at, *axis, *slide, bias, swing, phase, cycles, spin, slide_phase))
        return len(self.parents) - 1

    def _part(
        self,
        kind: int,
        bone: int,
        at: Vector,
        rotation: tuple[Vector, Vector, Vector],
        size: Vector,
        skin: Skin,
    ) -> None:
        (a, b, c), (d, e, f), (g, h, i) = rotation
        self.part_bones.append(bone)
        self.frames.append((a, b, c, at[0], d, e, f, at[1], g, h, i, at[2]))
        self.kinds.append(kind)
        self.sizes.append(size)
        self.skins.append(skin)

    def ellipsoid(
        self, bone: int, at: Vector, size: Vector, skin: Skin, *, axis: Vector = X, turn: float = 0.0
    ) -> None:
        """Add an ellipsoid with semi-axes `size`, turned by `turn` turns about `axis`."""
        self._part(kernels.ELLIPSOID, bone, at, _rotation(axis, turn), size, skin)

    def box(
        self, bone: int, at: Vector, size: Vector, skin: Skin, *, axis: Vector = X, turn: float = 0.0
    ) -> None:
        """Add a box with half extents `size`, turned by `turn` turns about `axis`."""
        self._part(kernels.BOX, bone, at, _rotation(axis, turn), size, skin)

    def capsule(self, bone: int, start: Vector, end: Vector, radius: float, skin: Skin) -> None:
        """Add a round-ended rod whose ends are centred at `start` and `end`; local z runs to `end`."""
        rotation, half = _along(start, end)
        self._part(kernels.CAPSULE, bone, _middle(start, end), rotation, (radius, radius, half), skin)

    def frustum(
        self, bone: int, start: Vector, end: Vector, start_radius: float, end_radius: float, skin: Skin
    ) -> None:
        """Add a cylinder or cone between two centres; local z runs to `end`."""
        rotation, half = _along(start, end)
        size = (start_radius, end_radius, half)
        self._part(kernels.FRUSTUM, bone, _middle(start, end), rotation, size, skin)


def _middle(a: Vector, b: Vector) -> Vector:
    return (0.5 * (a[0] + b[0]), 0.5 * (a[1] + b[1]), 0.5 * (a[2] + b[2]))


def on_ellipsoid(centre: Vector, size: Vector, direction: Vector, lift: float = 1.0) -> Vector:
    """Return the point `lift` half-axes out from `centre` along `direction` (1: on the surface)."""
    length = sqrt(direction[0] ** 2 + direction[1] ** 2 + direction[2] ** 2) / lift
    return (
        centre[0] + size[0] * direction[0] / length,
        centre[1] + size[1] * direction[1] / length,
        centre[2] + size[2] * direction[2] / length,
    )


def eyes(
    build: Builder, bone: int, centre: Vector, size: Vector, spread: float, height: float, radius: float
) -> None:
    """Add a pair of eyes looking along −Y to an ellipsoidal head; `spread` and `height` relative to depth 1."""
    for side in (-1.0, 1.0):
        at = on_ellipsoid(centre, size, (side * spread, -1.0, height), 0.96)
        build.ellipsoid(bone, at, (radius, radius, radius * 1.12), eye((side * 0.12, -1.0, 0.08)))
