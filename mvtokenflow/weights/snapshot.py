"""Networks of many files: folders of a public Hugging Face repository, and their records.

Where no commit and no sha256 is published, the first fetch records its files in `recorded.json`, and the folder
is checked against that from then on.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from mvtokenflow.base.damaged import bounded_bytes, damage, parse_json
from mvtokenflow.base.errors import WeightsCorruptError, WeightsMissingError
from mvtokenflow.base.files import digest, sha256_file, write_json
from mvtokenflow.weights.entry import Snapshot

RECORD = "recorded.json"
_SCHEMA = 1
_KINDS = (".bin", ".json", ".safetensors", ".txt")
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}\Z")
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_MOST_FILES = 200
_NO_RECORD, _CURE = "not a record of fetched weights", "delete its folder and fetch the weights again"
_MOST_RECORD_BYTES = 2**20


@dataclass(frozen=True, kw_only=True)
class Noted:
    """The size and sha256 of one file."""

    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Record:
    """The files of a folder at the time it was fetched.

    Attributes:
        repository: on the Hub.
        commit: of the repository, None where the Hub's client did not record one.
        files: by path within the folder, with forward slashes.
    """

    repository: str
    commit: str | None
    files: Mapping[str, Noted]

    def to_json(self) -> dict[str, Any]:
        """Serialise as one JSON object."""
        files = {name: asdict(noted) for name, noted in sorted(self.files.items())}
        return {"schema": _SCHEMA, "repository": self.repository, "commit": self.commit, "files": files}


def files_of(folder: Path) -> list[Path]:
    """List settings and weights of all components of a folder, sorted."""
    found = (path for path in folder.glob("*/*") if path.suffix in _KINDS and path.is_file())
    return sorted(path for path in found if not path.parent.name.startswith("."))


def fingerprint(folder: Path) -> str:
    """Compute the sha256, in hex, over names and contents of settings and weights."""
    return digest(
        (path.relative_to(folder).as_posix(), _sha256(path, path.stat().st_mtime_ns).encode())
        for path in files_of(folder)
    )


@cache
def _sha256(file: Path, changed: int) -> str:
    """Hash a file of gigabytes; cached, since every cell of a table asks for it."""
    return sha256_file(file)


def take_down(folder: Path, snapshot: Snapshot, commit: str | None = None) -> Record:
    """Record the current files of `folder`."""
    return Record(
        repository=snapshot.repository,
        commit=commit,
        files={
            path.relative_to(folder).as_posix(): Noted(
                bytes=path.stat().st_size, sha256=_sha256(path, path.stat().st_mtime_ns)
            )
            for path in files_of(folder)
            if path.parent.name in snapshot.components
        },
    )


def save(record: Record, folder: Path) -> None:
    """Write the record into the folder, which marks it as complete."""
    write_json(folder / RECORD, record.to_json())


def read(data: bytes, where: Path, snapshot: Snapshot) -> Record:
    """Parse the record in `data` and check it field by field.

    Raises:
        WeightsCorruptError: it is no record of this snapshot.
    """
    with damage(where, _NO_RECORD, _CURE, WeightsCorruptError):
        if len(data) > _MOST_RECORD_BYTES:
            raise ValueError(f"more than {_MOST_RECORD_BYTES} bytes")
        fields = parse_json(data)
        if (
            fields["schema"] != _SCHEMA
            or fields["schema"] is True
            or fields["repository"] != snapshot.repository
        ):
            raise ValueError(f"of another kind, or not of {snapshot.repository}")
        commit = fields["commit"]
        if commit is not None and not (isinstance(commit, str) and _NAME.match(commit)):
            raise ValueError("'commit' is not a commit")
        if not 1 <= len(fields["files"]) <= _MOST_FILES:
            raise ValueError(f"{len(fields['files'])} files")
        files = {name: _noted(name, entry, snapshot) for name, entry in fields["files"].items()}
        return Record(repository=snapshot.repository, commit=commit, files=files)


def _noted(name: str, entry: Mapping[str, Any], snapshot: Snapshot) -> Noted:
    """Parse one file of a record; its name must be that of a file in a component of the folder."""
    component, _, file = name.partition("/")
    if component not in snapshot.components or not _NAME.match(file) or Path(file).suffix not in _KINDS:
        raise ValueError(f"{name!r} is not one of its files")
    count, sha256 = entry["bytes"], entry["sha256"]
    if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count < 2**40:
        raise ValueError(f"the bytes of {name} are no size")
    if not isinstance(sha256, str) or not _SHA256.match(sha256):
        raise ValueError(f"the sha256 of {name} is none")
    return Noted(bytes=count, sha256=sha256)


def recorded(folder: Path, snapshot: Snapshot) -> Record | None:
    """Return the record of a folder; None if the ledger did not fetch it, or not completely."""
    path = folder / RECORD
    if not path.is_file():
        return None
    with damage(path, _NO_RECORD, _CURE, WeightsCorruptError):
        data = bounded_bytes(path, _MOST_RECORD_BYTES)
    return read(data, path, snapshot)


def faults(folder: Path, record: Record, *, hashed: bool) -> Iterator[str]:
    """List a clause for each file that differs from its record; contents are read if `hashed`."""
    for name, noted in record.files.items():
        path = folder / name
        if not path.is_file():
            yield f"{name} is gone"
        elif path.stat().st_size != noted.bytes:
            yield f"{name} has {path.stat().st_size:,} bytes instead of {noted.bytes:,}"
        elif hashed and _sha256(path, path.stat().st_mtime_ns) != noted.sha256:
            yield f"{name} has another sha256 than when it was fetched"


def in_hub_cache(snapshot: Snapshot) -> Path | None:
    """Return the folder in the Hub's own cache, if it was fetched there."""
    from huggingface_hub import try_to_load_from_cache  # slow to import, and only needed here

    found = try_to_load_from_cache(snapshot.repository, snapshot.marker, revision=snapshot.revision)
    return Path(found).parents[snapshot.marker.count("/")] if isinstance(found, str) else None


def download(snapshot: Snapshot, folder: Path | None, command: str) -> Path:
    """Get settings and safetensors, and .bin files of components without safetensors; running again goes on.

    Args:
        folder: where to; None for the Hub's own cache.
        command: what else gets the weights, for the message.

    Returns:
        The folder.

    Raises:
        WeightsMissingError: the Hub cannot be reached, breaks off or has no such weights.
    """
    from huggingface_hub import snapshot_download

    def fetch(patterns: list[str]) -> Path:
        try:
            found: str = snapshot_download(
                snapshot.repository, revision=snapshot.revision, local_dir=folder, allow_patterns=patterns
            )
            return Path(found)
        except Exception as error:  # the hub's, the system's, and those of whatever carries its bytes
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise WeightsMissingError(
                f"{snapshot.repository}: not whole on this machine, and the hub cannot be reached, broke off "
                f"or has no such weights ({reason}); run again to go on, or {command}"
            ) from error

    found = fetch(["*.json", "*.txt", "*.safetensors"])
    older = [name for name in snapshot.weighty if not list((found / name).glob("*.safetensors"))]
    return fetch([f"{name}/*.bin" for name in older]) if older else found


def commit_of(folder: Path) -> str | None:
    """Return the commit that the Hub's client recorded beside the files in `folder`."""
    notes = sorted((folder / ".cache" / "huggingface").rglob("*.metadata"))
    lines = notes[0].read_text().splitlines() if notes else []
    return lines[0] if lines and _NAME.match(lines[0]) else None
