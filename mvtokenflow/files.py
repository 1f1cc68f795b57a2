"""Atomic writes, content digests and frame listings: the only file primitives in the project."""

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from platformdirs import user_cache_path

from mvtokenflow.errors import ConfigError, DataError
from mvtokenflow.names import MAX_NAME_BYTES, brief


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside `target`; it replaces `target` only if the block succeeds.

    The file is fsynced before the rename, so a crash leaves either the old file or the new one.

    Raises:
        ConfigError: `target` is a folder or a device such as /dev/null, which a rename would destroy.
        OSError: if the folder cannot be written (disk full, no permission); `target` is untouched.
    """
    if target.exists() and not target.is_file():
        raise ConfigError(f"{target}: not a regular file; name a file to write")
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=target.suffix, dir=target.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o644)  # mkstemp makes 0600; results are meant to be shared
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(target: Path, data: bytes) -> None:
    """Atomically write `data` to `target`."""
    with atomic_path(target) as temporary:
        temporary.write_bytes(data)


def write_text(target: Path, text: str) -> None:
    """Atomically write UTF-8 `text` to `target`."""
    write_bytes(target, text.encode())


def write_json(target: Path, value: Any) -> None:
    """Atomically write `value` as indented, key-sorted JSON. NaN and infinities are refused."""
    write_text(target, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def canonical_json(value: Any) -> str:
    """One line of JSON that is equal for equal values: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest(parts: Iterable[tuple[str, bytes]]) -> str:
    """Hex sha256 that binds names, lengths and order, so that renamed or moved bytes change it."""
    hasher = hashlib.sha256()
    for name, data in parts:
        for part in (name.encode(), data):
            hasher.update(len(part).to_bytes(8, "little") + part)
    return hasher.hexdigest()


def digest_json(value: Any) -> str:
    """Hex sha256 of the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


_FRAME = re.compile(r"(\d+)\.png\Z")


def frame_files(folder: Path) -> list[Path]:
    """The frames `<integer>.png` of `folder` in numeric order.

    Hidden files (`.DS_Store`) are ignored; anything else that is not a frame is refused, because a
    stray file silently shifts the pairing of frames in the published scripts.

    Raises:
        DataError: folder missing or unreadable, no frames, a stray file, or one index twice
            (`1.png` next to `01.png`).
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected frames <n>.png in it")
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if not entry.name.startswith("."))
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror}); check its permissions") from error
    frames: dict[int, Path] = {}
    for name in names:
        match = _FRAME.match(name)
        if match is None:
            raise DataError(f"{folder / name}: not a frame named <integer>.png; move it out of the folder")
        index = int(match.group(1))
        if index in frames:
            raise DataError(
                f"{folder}: {frames[index].name} and {name} are both frame {index}; remove one of them"
            )
        frames[index] = folder / name
    if not frames:
        raise DataError(f"{folder}: holds no frames; expected files named <integer>.png")
    return [frames[index] for index in sorted(frames)]


def cache_root() -> Path:
    """Where generated and unpacked files go: `$MVTF_CACHE`, else the user's cache folder of the platform."""
    named = os.environ.get("MVTF_CACHE")
    return Path(named).expanduser() if named else user_cache_path("mvtokenflow")


def shown(text: str | Path, *roots: Path) -> str:
    """A path, or a sentence with paths, as pages may print it: not telling on whose machine it was made.

    What lies below the current folder is named relative to it, what lies below one of `roots` from that
    folder's own name on, and the home folder is `~`.
    """
    short = str(text)
    places = [(Path.cwd(), "."), *((root.absolute(), root.name) for root in roots), (Path.home(), "~")]
    for folder, name in places:
        if folder != Path(folder.anchor):
            whole = rf"(?<![\w.~/-]){re.escape(str(folder))}(?![\w-]|\.\w)"
            short = re.sub(whole, name.replace("\\", r"\\"), short)
    return re.sub(r"(?<![\w.~/-])\./(?=\w)", "", short)


T = TypeVar("T")


def choose(kind: str, name: str, known: Mapping[str, T]) -> T:
    """`known[name]`, or a ConfigError that suggests the nearest name and lists them all."""
    if name in known:
        return known[name]
    near = get_close_matches(name, known, n=1) if len(name) <= MAX_NAME_BYTES else []
    hint = f" Did you mean '{near[0]}'?" if near else ""
    raise ConfigError(f"no {kind} '{brief(name)}'.{hint} Known: {', '.join(sorted(known))}")
