"""Atomic writes, content digests and frame listings: the only file primitives in the project."""

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from platformdirs import user_cache_path

from mvtokenflow.base.errors import ConfigError, DataError
from mvtokenflow.base.names import MAX_NAME_BYTES, brief
from mvtokenflow.base.partial import partial_file


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside `target`; it replaces `target` only if the block succeeds.

    The file is fsynced before the rename, so a crash leaves either the old file or the new one. Its mode is as
    the umask leaves it.

    Raises:
        ConfigError: `target` is a folder or a device such as /dev/null, which a rename would destroy.
        OSError: the folder cannot be written (disk full, no permission); `target` is untouched, and the error
            names `target`.
    """
    if target.exists() and not target.is_file():
        raise ConfigError(f"{target}: not a regular file; name a file to write")
    target.parent.mkdir(parents=True, exist_ok=True)
    with partial_file(target) as temporary, naming(target, temporary):
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(target)


@contextmanager
def naming(target: Path, temporary: Path | None = None) -> Iterator[None]:
    """Make system errors that name no file, or a temporary one, name `target`: a full disk names none."""
    try:
        yield
    except OSError as error:
        unnamed = error.filename is None or error.filename == str(temporary)
        if error.errno is None or not unnamed:
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(target)) from error


def write_bytes(target: Path, data: bytes) -> None:
    """Write `data` to `target` atomically."""
    with atomic_path(target) as temporary:
        temporary.write_bytes(data)


def write_text(target: Path, text: str) -> None:
    """Write UTF-8 `text` to `target` atomically."""
    write_bytes(target, text.encode())


def write_json(target: Path, value: Any) -> None:
    """Write `value` atomically as indented, key-sorted JSON; NaN and infinities are refused."""
    write_text(target, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def canonical_json(value: Any) -> str:
    """Serialise to one line of JSON that is equal for equal values: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def sha256_file(path: Path) -> str:
    """Compute the sha256, in hex, of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest(parts: Iterable[tuple[str, bytes]]) -> str:
    """Compute the sha256, in hex, of named parts; it binds names, lengths and order."""
    hasher = hashlib.sha256()
    for name, data in parts:
        for part in (name.encode(), data):
            hasher.update(len(part).to_bytes(8, "little") + part)
    return hasher.hexdigest()


def digest_json(value: Any) -> str:
    """Compute the sha256, in hex, of the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def utf8_name(path: Path) -> Path:
    """Check that `path` can be written into records and pages, and return it.

    Raises:
        DataError: it holds bytes that are not UTF-8.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{path}: its name is not UTF-8; rename it") from error
    return path


_DIGITS = re.compile(r"([0-9]+)")


def frame_files(folder: Path, kinds: Sequence[str] = ("png",)) -> list[Path]:
    """List the frames `<integer>.png` of `folder` in numeric order.

    Other names are accepted where their number is plain: all alike but for one number, as `frame_0001.png` or
    `0_rgba.png`, with leading zeros or without. Hidden files (`.DS_Store`) are ignored; anything else that is
    not a frame is refused, because a stray file silently shifts the pairing of frames in the published scripts.

    Args:
        kinds: endings of names, in lower case; those of files may be in either.

    Raises:
        DataError: folder missing or unreadable, no frames, a stray file, names whose numbers are not plain, or
            one number twice (`1.png` next to `01.png`).
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected frames <n>.png in it")
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if not entry.name.startswith("."))
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror}); check its permissions") from error
    if not names:
        raise DataError(f"{folder}: holds no frames; expected files named <integer>.png")
    _refuse_strays(folder, names, kinds)
    frames: dict[int, Path] = {}
    paths = [folder / name for name in names]
    for number, path in zip(frame_numbers(paths), paths, strict=True):
        if number in frames:
            raise DataError(
                f"{folder}: {frames[number].name} and {path.name} are both frame {number}; remove one of them"
            )
        frames[number] = path
    return [frames[number] for number in sorted(frames)]


def frame_numbers(paths: Sequence[Path]) -> list[int]:
    """Parse the numbers of frames of one folder from their names; see `frame_files`.

    Raises:
        DataError: names whose numbers are not plain.
    """
    if not paths:
        return []
    parts = [_DIGITS.split(path.stem) for path in paths]  # words and digits alternate
    columns = list(zip(*(part[1::2] for part in parts), strict=False))
    varying = [column for column in columns if len(set(column)) > 1] or columns
    words = parts[0][0::2]
    alike = all(part[0::2] == words for part in parts)
    if not alike or len(varying) != 1 or words[0] == "-" or "." in words[1:-1]:
        raise DataError(
            f"{paths[0].parent}: the number of {paths[0].name} is not plain; name the frames <n>.png, e.g. "
            """`ls -v | awk '{print "mv \\"" $0 "\\" " NR-1 ".png"}' | sh` in the folder"""
        )
    return [int(digits) for digits in varying[0]]


def _refuse_strays(folder: Path, names: Sequence[str], kinds: Sequence[str]) -> None:
    """Refuse a file that is no picture, or whose name differs in form from most others."""
    forms = {name: _form(name, kinds) for name in names}
    counts = Counter(form for form in forms.values() if form is not None)
    usual, count = counts.most_common(1)[0] if counts else (None, 0)
    stray = next((name for name in names if forms[name] != usual or usual is None), None)
    if stray is None:
        return
    example = next((name for name in names if forms[name] == usual), None)
    if usual is None or usual == ("", "") or 2 * count <= len(names):
        ending = Path(stray).suffix.lower().removeprefix(".")
        if ending in ("jpg", "jpeg") and usual is None:
            raise DataError(f"{folder / stray}: a JPEG where <integer>.png is expected; convert all to PNG")
        raise DataError(f"{folder / stray}: not a frame named <integer>.png; move it out of the folder")
    raise DataError(f"{folder / stray}: not named like {example}; rename it or move it out of the folder")


def _form(name: str, kinds: Sequence[str]) -> tuple[str, ...] | None:
    """Return the words around the numbers of a frame's name; None if it is no frame."""
    stem, dot, ending = name.rpartition(".")
    if not dot or ending.lower() not in kinds or not _DIGITS.search(stem):
        return None
    return tuple(_DIGITS.split(stem)[0::2])


def title(path: Path) -> str:
    """Return a folder's name, which may contain dots, or a file's name without its suffix."""
    return path.name if path.is_dir() else path.stem


def cache_root() -> Path:
    """Return the folder for generated and unpacked files: `$MVTF_CACHE`, else the user's cache folder.

    Raises:
        ConfigError: neither exists, or `$MVTF_CACHE` is in the home folder of an unknown user.
    """
    named = os.environ.get("MVTF_CACHE")
    if named:
        return expanded(named, "MVTF_CACHE")
    none = "there is no home folder to keep a cache in; set MVTF_CACHE to a folder"
    try:
        folder = user_cache_path("mvtokenflow")
    except RuntimeError as error:  # no HOME, and the user has no entry in passwd
        raise ConfigError(none) from error
    if not folder.is_absolute():  # other versions of platformdirs return a literal ~
        raise ConfigError(none)
    return folder


def expanded(text: str | Path, origin: str) -> Path:
    """Replace a leading ~ or ~user in a path.

    Args:
        origin: the variable or option that the path comes from.

    Raises:
        ConfigError: there is no such user, or the user has no home folder.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{origin}: {text} has no home folder; give a path without ~") from error


def redact_paths(text: str | Path, *roots: Path) -> str:
    """Redact private folders in a path, or in a sentence with paths, for pages and records.

    Paths below the current folder become relative to it, paths below one of `roots` start at that folder's own
    name, and the home folder becomes `~`.
    """
    short = str(text)
    places = [(Path.cwd(), "."), *((root.absolute(), root.name) for root in roots)]
    with suppress(RuntimeError):  # no home folder
        places.append((Path.home(), "~"))
    for folder, name in places:
        if folder != Path(folder.anchor):
            whole = rf"(?<![\w.~/-]){re.escape(str(folder))}(?![\w-]|\.\w)"
            short = re.sub(whole, name.replace("\\", r"\\"), short)
    return re.sub(r"(?<![\w.~/-])\./(?=\w)", "", short)


T = TypeVar("T")


def choose(kind: str, name: str, known: Mapping[str, T]) -> T:
    """Return `known[name]`, or raise a ConfigError that suggests the nearest name and lists all."""
    if name in known:
        return known[name]
    near = get_close_matches(name, known, n=1) if len(name) <= MAX_NAME_BYTES else []
    hint = f" Did you mean '{near[0]}'?" if near else ""
    raise ConfigError(f"no {kind} '{brief(name)}'.{hint} Known: {', '.join(sorted(known))}")
