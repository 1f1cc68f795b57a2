"""Damage to files of any kind and to texts, as pure functions of the bytes and a seeded generator."""

import json
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

Mutator = Callable[[bytes, Random], bytes]

_HEAD = 800  # bytes at the beginning of a file that are hit more often: headers stand there
_NUMBERS = (
    b"\xff\xff\xff\xff",
    b"\x00\x00\x00\x00",
    b"\x7f\xff\xff\xff",
    b"\x80\x00\x00\x00",
    b"\xff\xff\xff\x7f",
    b"\x00\x00\x00\x80",
    b"\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\xff",
    b"\x00",
)
_DEEP = 100_000  # levels of nesting: more than any parser that recurses can follow


# ---- any file ----


def flip_bits(data: bytes, rng: Random) -> bytes:
    """1 to 64 bits turned over."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16, 64))):
        changed[_place(data, rng)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def cut(data: bytes, rng: Random) -> bytes:
    """The beginning only; perhaps nothing."""
    return data[: rng.randrange(len(data))]


def insert(data: bytes, rng: Random) -> bytes:
    """Random bytes put in, moving what follows."""
    at = _place(data, rng)
    return data[:at] + rng.randbytes(rng.choice((1, 4, 100))) + data[at:]


def leave_out(data: bytes, rng: Random) -> bytes:
    """Some bytes taken out."""
    at = _place(data, rng)
    return data[:at] + data[at + rng.choice((1, 4, 100)) :]


def repeat(data: bytes, rng: Random) -> bytes:
    """Some bytes twice."""
    at = _place(data, rng)
    end = min(len(data), at + rng.choice((4, 50, 500)))
    return data[:end] + data[at:end] + data[end:]


def magic_number(data: bytes, rng: Random) -> bytes:
    """A number at the edge of its type written over what is there."""
    at, number = _place(data, rng), rng.choice(_NUMBERS)
    return data[:at] + number + data[at + len(number) :]


def foreign(data: bytes, rng: Random) -> bytes:
    """Another file altogether: empty, a newline, of zeros, of another format, or bytes that are no text."""
    return rng.choice(
        (b"", b"\n", b"\0" * 64, b"\x89PNG\r\n\x1a\n", b"PK\x05\x06" + b"\0" * 18, b"{}", b"\xff\xfe")
    )


def any_bytes(data: bytes, rng: Random) -> bytes:
    """One of the above; a file that is empty gets random bytes."""
    if not data:
        return rng.randbytes(8)
    kinds = (flip_bits, flip_bits, cut, insert, leave_out, repeat, magic_number, magic_number)
    return foreign(data, rng) if rng.random() < 0.02 else rng.choice(kinds)(data, rng)


def _place(data: bytes, rng: Random) -> int:
    return rng.randrange(len(data) if rng.random() < 0.4 else min(len(data), _HEAD))


# ---- texts ----


def json_value(data: bytes, rng: Random) -> bytes:
    """A JSON document with one or two values replaced or left out; now and then nested without end."""
    try:
        document = json.loads(data)
    except ValueError:
        return any_bytes(data, rng)
    if rng.random() < 0.03:
        return rng.choice((b"[", b'{"a":')) * _DEEP
    for _ in range(rng.choice((1, 1, 2))):
        document = _with_another_value(document, rng)
    return json.dumps(document).encode("utf-8", "surrogatepass")


def json_lines(data: bytes, rng: Random) -> bytes:
    """A file of one JSON document a line: a line spoilt by `json_value`, left out, twice, or no JSON."""
    lines = data.splitlines(keepends=True)
    if not lines:
        return any_bytes(data, rng)
    at = rng.randrange(len(lines))
    line = lines[at].rstrip(b"\n")
    kinds = (b"", b"x", b"{}", b"[]", b"5", b"null", b"\xff", b'"\\ud800"', line + b"\r", line + line)
    lines[at] = (json_value(line, rng) if rng.random() < 0.7 else rng.choice(kinds)) + b"\n"
    return b"".join(lines)


def words(data: bytes, rng: Random) -> bytes:
    """A text with one of its words replaced by a number, sign or word that parsers stumble over."""
    parts = _words_of(data)
    if not parts:
        return any_bytes(data, rng)
    start, end = rng.choice(parts)
    strange = (
        *(b"-1", b"0", b"nan", b"inf", b"-inf", b"1e999", b"9" * 5000, b"4294967296", b"18446744073709551616"),
        *("²".encode(), "٣".encode(), b"\xff", b"\0", b"", b".", b"..", b"../..", b"/", b":", b"a:b", b".a:x"),
        *(b"none", b"true", b"[]", b"{}", b'"', b"'", b"#", b"=", b"\\", b"%s", b"[" * 1000),
    )
    return data[:start] + rng.choice(strange) + data[end:]


def _words_of(data: bytes) -> list[tuple[int, int]]:
    """Where runs of letters, digits, dots and signs stand in a text."""
    found, start = [], None
    for at, byte in enumerate(data + b" "):
        inside = chr(byte).isalnum() or byte in b"._-+"
        if inside and start is None:
            start = at
        elif not inside and start is not None:
            found.append((start, at))
            start = None
    return found


def _with_another_value(document: Any, rng: Random) -> Any:
    """A copy with a value somewhere in it replaced, or its key left out, renamed or added."""
    places = list(_places(document))
    path = rng.choice(places)
    kinds: tuple[Any, ...] = (
        *(None, True, False, -1, 0, 1, 2**31, 2**63, 2**70, 10**400, 1e308, -0.0, 0.5),
        *(float("nan"), float("inf"), float("-inf"), "", "x", "\ud800", "\0", "../..", "/etc", "9" * 5000),
        *([], {}, [None], [[]], [[[1]]], {"a": 1}, [1, "2"], ["x"] * 1000),
    )
    value = rng.choice(kinds)
    if not path:
        return value
    inside = document
    for key in path[:-1]:
        inside = inside[key]
    last, deed = path[-1], rng.random()
    if deed < 0.15:
        del inside[last]
    elif deed < 0.22 and isinstance(inside, dict):
        inside[rng.choice(("x", "", "\ud800", "../..", "schema"))] = inside.pop(last)
    elif deed < 0.28 and isinstance(inside, list):
        inside.extend([inside[last]] * rng.choice((1, 3)))
    else:
        inside[last] = value
    return document


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths to all values; of a list, to its first three."""
    yield path
    if isinstance(value, dict):
        for key in value:
            yield from _places(value[key], (*path, key))
    elif isinstance(value, list):
        for index in range(min(len(value), 3)):
            yield from _places(value[index], (*path, index))
