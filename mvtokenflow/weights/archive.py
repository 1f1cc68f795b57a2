"""Packs weights into one .tar and unpacks it, for machines without network."""

import io
import json
import shutil
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from mvtokenflow.base.errors import UserError, WeightsCorruptError
from mvtokenflow.base.files import atomic_path, sha256_file
from mvtokenflow.weights import ledger
from mvtokenflow.weights import snapshot as snapshots
from mvtokenflow.weights.entry import PinnedFile, Weights
from mvtokenflow.weights.snapshot import Noted, Record

_FOLDER = "mvtf-weights"


def pack(archive: Path, names: Sequence[str]) -> list[str]:
    """Write the named weights, verified, into one .tar for a machine without network.

    Returns:
        The names packed.

    Raises:
        WeightsMissingError, WeightsCorruptError: as `ledger.verify`; nothing is written.
        UserError: one of them is a local model folder, which has no pinned file.
    """
    members: list[tuple[Path | bytes, str, int]] = []
    for name in names:
        weights = ledger.entry(name)
        path = ledger.verify(name)
        if weights.snapshot is not None:
            members += _snapshot_members(weights, path)
        elif path.is_dir():
            raise UserError(f"{name}: {path} is a local model folder; copy it as it is")
        else:
            file = ledger.identify(weights, path)
            members.append((path, file.filename, file.bytes))
    with (
        ledger.writing(archive.parent),
        atomic_path(archive) as temporary,
        tarfile.open(temporary, "w") as tar,
    ):
        for content, member_name, size in members:
            member = tarfile.TarInfo(f"{_FOLDER}/{member_name}")
            member.size = size
            with io.BytesIO(content) if isinstance(content, bytes) else content.open("rb") as stream:
                tar.addfile(member, stream)
    return list(names)


def _snapshot_members(weights: Weights, folder: Path) -> list[tuple[Path | bytes, str, int]]:
    """Yield the record of a folder, then its files."""
    assert weights.snapshot is not None
    record = snapshots.recorded(folder, weights.snapshot) or snapshots.take_down(folder, weights.snapshot)
    text = json.dumps(record.to_json(), indent=2, sort_keys=True).encode()
    files = [
        (folder / name, f"{weights.name}/{name}", noted.bytes) for name, noted in sorted(record.files.items())
    ]
    return [(text, f"{weights.name}/{snapshots.RECORD}", len(text)), *files]


def unpack(archive: Path) -> list[Path]:
    """Put the weights of a `pack` archive into the weights folder.

    Members are matched by exact name against the ledger, never used as paths; each is checked against its
    pinned sha256 before it takes its place. Files of a network of many files are named in its record, which
    comes before them in the archive, and are held to the sha256 there.

    Returns:
        The files, and the folders of networks of many files.

    Raises:
        WeightsCorruptError: not such an archive, or a member is not what the ledger pins.
    """
    pinned = {f"{_FOLDER}/{file.filename}": file for w in ledger.WEIGHTS.values() for file in w.files}
    reading = _Unpacking(archive, pinned)
    try:
        with tarfile.open(archive, "r:") as tar:
            for member in tar:
                reading.take(tar, member)
    except (UserError, PermissionError):
        raise
    except Exception as error:  # tarfile raises nearly anything for a damaged archive
        raise WeightsCorruptError(f"{archive}: not an archive of `mvtf-eval weights pack` ({error})") from error
    reading.finish()
    if not reading.written:
        raise WeightsCorruptError(f"{archive}: holds no weights")
    return reading.written


class _Unpacking:
    """An archive that is being read, and the files written so far."""

    def __init__(self, archive: Path, pinned: Mapping[str, PinnedFile]) -> None:
        self.archive = archive
        self.pinned = pinned
        self.written: list[Path] = []
        self._root = ledger.root()
        self._snapshots = {f"{_FOLDER}/{w.name}/": w for w in ledger.WEIGHTS.values() if w.snapshot is not None}
        self._records: dict[str, Record] = {}
        self._waiting: dict[str, tuple[str, str, Noted]] = {}  # by member: folder, file and what it must be

    def take(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        """Write one member to its place, or refuse it."""
        file = self.pinned.get(member.name)
        folder = next((prefix for prefix in self._snapshots if member.name == prefix + snapshots.RECORD), None)
        expected = file.bytes if file is not None else None
        if member.name in self._waiting:
            expected = self._waiting[member.name][2].bytes
        known = file is not None or folder is not None or member.name in self._waiting
        right_size = expected is None or member.size == expected
        if not known or not right_size or not member.isreg() or member.issparse():
            raise WeightsCorruptError(
                f"{self.archive}: holds {member.name!r} ({member.size:,} bytes), which is not in the ledger"
            )
        stream = tar.extractfile(member)
        assert stream is not None  # a regular file
        if folder is not None:
            self._take_record(folder, stream.read(2**20 + 1))
            return
        target, sha256 = self._place(member.name, file)
        with ledger.writing(target.parent), atomic_path(target) as temporary:
            with temporary.open("wb") as copy:
                shutil.copyfileobj(stream, copy)
            if file is not None:
                ledger.check_file(file, temporary, f"{self.archive}, {member.name}")
            elif sha256_file(temporary) != sha256:
                raise WeightsCorruptError(f"{self.archive}: {member.name} is damaged; pack it again")
        if file is not None:
            self.written.append(target)

    def _place(self, member: str, file: PinnedFile | None) -> tuple[Path, str]:
        if file is not None:
            return self._root / file.filename, file.sha256
        name, path, noted = self._waiting.pop(member)
        return self._root / name / path, noted.sha256

    def _take_record(self, prefix: str, data: bytes) -> None:
        weights = self._snapshots[prefix]
        assert weights.snapshot is not None
        record = snapshots.read(data, self.archive, weights.snapshot)
        self._records[weights.name] = record
        for path, noted in record.files.items():
            self._waiting[prefix + path] = (weights.name, path, noted)

    def finish(self) -> None:
        """Write the records of folders that are whole now.

        Raises:
            WeightsCorruptError: files are missing that a record names.
        """
        if self._waiting:
            raise WeightsCorruptError(
                f"{self.archive}: {next(iter(self._waiting))} is missing in it; pack it again"
            )
        for name, record in self._records.items():
            folder = self._root / name
            with ledger.writing(folder):
                snapshots.save(record, folder)
            self.written.append(folder)
