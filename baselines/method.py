"""What a row of a table must offer."""

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
    """One view of a result.

    Attributes:
        rgb: (T, H, W, 3) uint8 on a white background.
        normal: (T, H, W, 3) float32 unit world normals, 0 outside the object; None if not offered.
        flow: (T−1, H, W, 2) float32 pixels (dx, dy) on the grid of frame t; None if not offered.
    """

    rgb: NDArray[np.uint8]
    normal: NDArray[np.float32] | None = None
    flow: NDArray[np.float32] | None = None


class Progress(Protocol):
    """Where a method reports how far it is."""

    def __call__(self, stage: str, done: int, total: int, /) -> None: ...


class Method(Protocol):
    """A way to turn a scene's clip into renderings of all its views.

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
        """JSON-able settings; their hash names the run folder, so everything that changes pixels is in it."""
        ...

    def render(self, scene: Scene, seed: int, workdir: Path, progress: Progress) -> Mapping[str, Rendering]:
        """Renderings by view name ("input" and every `scene.views` name).

        `workdir` is the method's own folder inside the run folder; it survives interruptions, so a
        method may resume from what it finds there.
        """
        ...

    def weights(self) -> Sequence[str]:
        """Names in the weights ledger, of metrics or of methods, that must be on the machine before it renders.

        `--fetch-weights` of the tables gets them; their sha256 goes into the manifest.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What a command line says about how rows compute.

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
    """A method that minds the command line's setup."""

    def configured(self, setup: Setup) -> Method:
        """The same row under `setup`.

        Raises:
            ConfigError: no such preset.
        """
        ...


@runtime_checkable
class PerScene(Method, Protocol):
    """A method whose settings differ from scene to scene: a change in one does not touch the runs of others."""

    def scene_config(self, scene: str) -> Mapping[str, Any]:
        """As `config`, of one scene."""
        ...


@runtime_checkable
class Costed(Method, Protocol):
    """A method that knows what its stages cost; of others the time of `render` is taken."""

    def costs(self, workdir: Path) -> Sequence[Cost]:
        """Of everything that led to the result in `workdir`, whenever it was computed, rendering included."""
        ...


@runtime_checkable
class Weighted(Method, Protocol):
    """A method that uses weights which are not in the ledger, a prior's."""

    def weights_sha(self, workdir: Path) -> Mapping[str, str]:
        """Hex sha256, by name, of what made the result in `workdir`."""
        ...


@runtime_checkable
class Documented(Method, Protocol):
    """A method that lists what it leaves behind to be looked at; reports draw what is listed."""

    def artefacts(self, workdir: Path) -> Sequence[Artefact]:
        """Views of a pass, losses of a stage and so on in `workdir`; paths are relative to it."""
        ...


@runtime_checkable
class Variant(Method, Protocol):
    """A method that may be another one with something left out, an ablation."""

    @property
    def variant_of(self) -> str | None:
        """Name of the whole method; None where this is it."""
        ...
