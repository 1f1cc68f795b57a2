"""Types of the weights ledger: a network, its pinned files, and a folder of many files."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mvtokenflow.weights.sources import Source


@dataclass(frozen=True, kw_only=True)
class PinnedFile:
    """One file accepted under a name of the ledger.

    Attributes:
        filename: in the weights folder.
        bytes, sha256: of that file.
        sources: tried in this order.
        caches: where other programs keep the same file, looked at after the weights folder.
    """

    filename: str
    bytes: int
    sha256: str
    sources: tuple[Source, ...]
    caches: tuple[Callable[[], Path], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A network of many files: a folder of a public Hugging Face repository.

    Attributes:
        repository: its name on the Hub.
        revision: the commit that is fetched, or None where none is published: then the first fetch records
            commit, sizes and sha256 of its files, and every later check compares the files with them.
        marker: a file that every copy of the folder has.
        components: its subfolders; those with weights are named in `weighty`.
        weighty: subfolders whose weights are taken as .safetensors, or as .bin where there are none.
        bytes: roughly, of all files.
    """

    repository: str
    revision: str | None
    marker: str
    components: tuple[str, ...]
    weighty: tuple[str, ...]
    bytes: int

    @property
    def address(self) -> str:
        """Return the place of the repository, for people."""
        return f"Hugging Face Hub, {self.repository}"


@dataclass(frozen=True, kw_only=True)
class Weights:
    """One network of the ledger.

    Attributes:
        name: in the ledger, e.g. "lpips-vgg".
        title: one line for people.
        files: accepted files, the first one preferred. More than one where publishers ship the same numbers
            in different formats. Empty for a `snapshot`.
        licence: of the weights, as far as the publishers state it.
        metrics: keys of the metrics that need it.
        presets: presets of the method that need it.
        commands: what else needs it, as words of a command line between backticks.
        folder: whether a local model folder (config.json, model.safetensors) may stand in for it.
        shipped: the copy inside the installed package, as a path below it; such files have no sources.
        snapshot: the folder of many files that the network is, or None.
    """

    name: str
    title: str
    files: tuple[PinnedFile, ...]
    licence: str
    metrics: tuple[str, ...] = ()
    presets: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    folder: bool = False
    shipped: str | None = None
    snapshot: Snapshot | None = None

    @property
    def remedy(self) -> str:
        """Return what to do when the file is missing or a different one."""
        if self.shipped is not None:
            return f"reinstall mvtokenflow, which ships it as {self.shipped}"
        return f"run `mvtf-eval weights fetch {self.name}`"

    @property
    def uses(self) -> tuple[str, ...]:
        """Return what needs these weights: keys of metrics, then commands."""
        return (*self.metrics, *(f"`mvtf run --preset {name}`" for name in self.presets), *self.commands)

    @property
    def filename(self) -> str:
        """Return the name of the file or folder in the weights folder."""
        return self.name if self.snapshot is not None else self.files[0].filename

    @property
    def bytes(self) -> int:
        """Return the size of the preferred file in bytes; for a snapshot its approximate size."""
        return self.snapshot.bytes if self.snapshot is not None else self.files[0].bytes

    @property
    def address(self) -> str:
        """Return the first source, for people."""
        if self.snapshot is not None:
            return self.snapshot.address
        sources = self.files[0].sources
        return sources[0].address if sources else "ships with the package"

    def places(self) -> list[tuple[PinnedFile, Source]]:
        """Return every source of every accepted file, in the order they are tried."""
        return [(file, source) for file in self.files for source in file.sources]
