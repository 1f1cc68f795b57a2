"""Named scenes of the toy worlds, their times, and their cameras.

`toy4d` is what the small prior and the small CLIP were made for: 18 of its 24 scenes are of plans that training
has seen. `toy4d-wild` has none of those: five plans of `wild`, whose sides and back do not follow from the
front and which travel by two tokens and more between keyframes. No name is in both.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mvtokenflow.base.files import choose, digest_json
from mvtokenflow.datasets.toy4d.digests import EXPECTED
from mvtokenflow.datasets.toy4d.render import Render, Times, render
from mvtokenflow.datasets.toy4d.stream import RADIUS, SIX_AZIMUTHS
from mvtokenflow.datasets.toy4d.toys import SEEDS, Toy, make_toy
from mvtokenflow.views.cameras import CameraKind, Cameras, orbit

SIZE = 128
FRAMES = 32
SAMPLES = 4
VIEWS: Mapping[str, float] = MappingProxyType(
    {"input": 0.0, "eval_0": -75.0, "eval_1": 15.0, "eval_2": 105.0, "eval_3": 195.0}
)

PRIOR_SIZE = 64  # of the small prior's pictures
MATRIX = 21  # views and frames of a matrix

FOV_DEG = 49.1
# The nearest distance, in tenths, from which every toy is inside all pictures. Toys reach 0.875 (`toys.FILL`);
# distance 2 for objects that reach 0.67 gives the same pictures.
DISTANCE = 2.6


def _named(chosen: Mapping[str, tuple[int, ...]]) -> Mapping[str, tuple[str, int]]:
    """Return plan and seed by scene; `chosen` has ranks in the range of test seeds."""
    return MappingProxyType(
        {
            f"{plan}-{number:02d}": (plan, SEEDS["test"][pick])
            for plan, picks in chosen.items()
            for number, pick in enumerate(picks, 1)
        }
    )


# Which test seeds became scenes: chosen by eye among the first ten of each plan for variety of colour and
# pattern and for facing the input camera, before any method was run on them.
SCENES = _named(
    {
        "quadruped": (1, 4, 9),
        "bird": (0, 4, 5),
        "fish": (3, 6, 8),
        "robot": (1, 4, 8),
        "vehicle": (0, 2, 3),
        "plant": (2, 3, 4),
        "crab": (0, 1, 4, 6, 7, 8),
    }
)
WILD_SCENES = _named(
    {
        "fiddler": (0, 1, 2, 3, 4),
        "serpent": (0, 1, 2, 3, 5),
        "dragonfly": (0, 1, 2, 3, 4),
        "carousel": (0, 1, 2, 3, 4),
        "harlequin": (0, 1, 2, 5, 4),
    }
)
ALL_SCENES: Mapping[str, tuple[str, int]] = MappingProxyType({**SCENES, **WILD_SCENES})


CLOCK = tuple(n / (FRAMES - 1) for n in range(FRAMES))


@dataclass(frozen=True, kw_only=True)
class World:
    """A dataset of toys.

    Attributes:
        name: of the dataset.
        scenes: body plan and seed by scene.
        kind: of its cameras.
        views: azimuth in degrees by view; the first is the input view, at azimuth 0.
        size: of its square pictures.
        times: of its frames, in [0, 1].
        geometry: it has files of exact geometry.
        filmed: the world whose input clip is the clip of these scenes too; None: the input view is the clip.
    """

    name: str
    scenes: Mapping[str, tuple[str, int]]
    kind: CameraKind = "ortho"
    views: Mapping[str, float] = field(default_factory=lambda: VIEWS)
    size: int = SIZE
    times: tuple[float, ...] = CLOCK
    geometry: bool = True
    filmed: "World | None" = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle with plain mappings: those that cannot be changed cannot be pickled either."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        plain: dict[str, Any] = {name: dict(v) if isinstance(v, Mapping) else v for name, v in values.items()}
        return partial(World, **plain), ()

    @property
    def digests(self) -> Mapping[str, Mapping[str, str]]:
        """Return the expected digests of pixels and truth by scene."""
        return EXPECTED[self.name]

    @property
    def hash(self) -> str:
        """Hash in the cache folder's name: changes with the expected content and the layout."""
        return digest_json({"layout": 1, "views": dict(self.views), "digests": self.digests})[:10]

    def cameras(self) -> Cameras:
        """Build the cameras of the views, in order."""
        azimuths, radius = tuple(self.views.values()), DISTANCE if self.kind == "pinhole" else RADIUS
        return orbit(azimuths, size=self.size, kind=self.kind, radius=radius, fov_deg=FOV_DEG)


TOY4D = World(name="toy4d", scenes=SCENES)
PINHOLE = World(name="toy4d-pinhole", scenes=SCENES, kind="pinhole")
WILD = World(name="toy4d-wild", scenes=WILD_SCENES)


def _generated(world: World) -> World:
    """Return the views that the small prior generates of a world, at the frames that `mini` generates."""
    return World(
        name=f"{world.name}-views",
        scenes=world.scenes,
        views=MappingProxyType({"input" if a == 0 else f"view_{a:.0f}": a for a in SIX_AZIMUTHS}),
        size=PRIOR_SIZE,
        times=(*CLOCK[: FRAMES - 1 : 2], CLOCK[-1]),
        filmed=world,
    )


def _matrix(world: World) -> World:
    """Return 21 views all around by 21 frames, as SV4D arranges them, of a world's scenes."""
    azimuths = [k * 360 / MATRIX for k in range(MATRIX)]
    return World(
        name=f"{world.name}-matrix",
        scenes=world.scenes,
        views=MappingProxyType({f"view_{k}" if k else "input": a for k, a in enumerate(azimuths)}),
        times=tuple(n / (MATRIX - 1) for n in range(MATRIX)),
        geometry=False,
        filmed=world,
    )


TOY4D_VIEWS, WILD_VIEWS = _generated(TOY4D), _generated(WILD)
TOY4D_MATRIX, WILD_MATRIX = _matrix(TOY4D), _matrix(WILD)
WORLDS = (TOY4D, PINHOLE, WILD, TOY4D_VIEWS, WILD_VIEWS, TOY4D_MATRIX, WILD_MATRIX)


def frame_times() -> NDArray[np.float64]:
    """Return the times n / (FRAMES − 1) of the benchmark's frames, (FRAMES,)."""
    return np.array(CLOCK)


def view_cameras(kind: CameraKind = "ortho") -> Cameras:
    """Build the cameras of `VIEWS` in order: the input camera, then the evaluation cameras."""
    return (PINHOLE if kind == "pinhole" else TOY4D).cameras()


def scene_toy(name: str) -> Toy:
    """Build the toy of a scene of any world.

    Raises:
        ConfigError: no such scene.
    """
    return make_toy(*choose("toy4d scene", name, ALL_SCENES))


def render_scene(name: str, cameras: Cameras, times: Times, *, samples: int = SAMPLES) -> Render:
    """Render a scene from any cameras at any times in [0, 1]; see `render.render`."""
    return render(scene_toy(name), cameras, times, samples=samples)
