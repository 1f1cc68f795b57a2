"""Defines the interface of a row of a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from mvtokenflow.datasets.scene import Scene
from mvtokenflow.workdir.artefacts import Artefact
from mvtokenflow.workdir.cost import Cost

Source = Literal["native", "upstream-run", "released-renderings", "oracle", "quoted"]


@dataclass(frozen=True, kw_only=True)
class Rendering:
    """One rendered view of a result.

    Attributes:
        rgb: (T, H, W, 3) uint8 on a white background.
        normal: (T, H, W, 3) float32 unit world normals, 0 outside the object; None if not offered.
        flow: (T−1, H, W, 2) float32 pixels (dx, dy) on the grid of frame t; None if not offered.
        depth: (T, H, W) float32 camera z in the dataset's world units, 0 outside; None if not offered.
        points: (T, N, 3) float32 places of points that move with the result's surface, in the dataset's world;
            of the input view alone, None if not offered.
    """

    rgb: NDArray[np.uint8]
    normal: NDArray[np.float32] | None = None
    flow: NDArray[np.float32] | None = None
    depth: NDArray[np.float32] | None = None
    points: NDArray[np.float32] | None = None

    def geometry(self) -> dict[str, NDArray[np.float32]]:
        """Return what is offered beside the pictures, by name."""
        offered = {"normal": self.normal, "flow": self.flow, "depth": self.depth, "points": self.points}
        return {name: array for name, array in offered.items() if array is not None}


class Progress(Protocol):
    """A callback that receives how far a method is."""

    def __call__(self, stage: str, done: int, total: int, /) -> None: ...


class Method(Protocol):
    """A method turns a scene's clip into renderings of all its views.

    Attributes:
        name: row label, unique within a table, safe as a folder name.
        source: where the renderings come from; tables never rank different sources of truth together.
        uses_truth: True for known-answer rows that look at the ground truth ("oracle").
    """

    @property
    def name(self) -> str: ...

    @property
    def source(self) -> Source: ...

    @property
    def uses_truth(self) -> bool: ...

    def config(self) -> Mapping[str, Any]:
        """Return the settings as JSON values; every setting that changes pixels changes the run folder."""
        ...

    def render(self, scene: Scene, seed: int, workdir: Path, progress: Progress) -> Mapping[str, Rendering]:
        """Return renderings by view name: "input", and the name of every view in `scene.views`.

        `workdir` is the method's own folder inside the run folder; it survives interruptions, so a
        method may resume from what it finds there.
        """
        ...

    def weights(self) -> Sequence[str]:
        """Return the names of ledger entries that must be on this machine before rendering.

        `--fetch-weights` of the table commands fetches them; their sha256 goes into the manifest.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Setup:
    """Preset, device and stage cache that all rows of a command share.

    Attributes:
        preset: of the method's settings; part of a row's `config`.
        device: torch device of the networks.
        store: folder in which rows share what several of them compute; None shares nothing.
    """

    preset: str = "mini"
    device: str = "cpu"
    store: Path | None = None


@runtime_checkable
class Configurable(Method, Protocol):
    """A method that follows the preset, device and stage cache of a command."""

    def configured(self, setup: Setup) -> Method:
        """Return the same row under `setup`.

        Raises:
            ConfigError: no such preset.
        """
        ...


@runtime_checkable
class PerScene(Method, Protocol):
    """A method whose settings differ from scene to scene: a change in one does not touch the runs of others."""

    def scene_config(self, scene: str) -> Mapping[str, Any]:
        """Return the settings for one scene; as `config`."""
        ...


@runtime_checkable
class Costed(Method, Protocol):
    """A method that measures the cost of its stages; for other methods the time of `render` is taken."""

    def costs(self, workdir: Path) -> Sequence[Cost]:
        """Return the costs of all stages behind the result in `workdir`, from this and earlier processes."""
        ...


@runtime_checkable
class Weighted(Method, Protocol):
    """A method that uses weights outside the ledger, such as a prior's."""

    def weights_sha(self, workdir: Path) -> Mapping[str, str]:
        """Return sha256s, in hex and by name, of the weights that made the result in `workdir`."""
        ...


@runtime_checkable
class Documented(Method, Protocol):
    """A method that lists intermediate results; reports draw what is listed."""

    def artefacts(self, workdir: Path) -> Sequence[Artefact]:
        """List the intermediate results in `workdir`; paths are relative to it."""
        ...


@runtime_checkable
class Variant(Method, Protocol):
    """A method that can be another method with parts left out, an ablation."""

    @property
    def variant_of(self) -> str | None:
        """Name of the whole method; None where this is it."""
        ...
