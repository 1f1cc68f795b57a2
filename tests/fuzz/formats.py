"""Damage to formats, which takes a file apart far enough that what it spoils is reached by the reader.

Checksums are mended and lengths in headers fit. What cannot be taken apart is spoilt by `mutators.any_bytes`.
"""

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Iterator
from random import Random

from mutators import Mutator, any_bytes, json_lines, json_value, magic_number, words

# ---- pictures and videos ----


def png_chunk(data: bytes, rng: Random) -> bytes:
    """A PNG with the content of a chunk spoilt, or a chunk added, moved or twice; checksums are right."""
    chunks = list(_png_chunks(data))
    at, deed = rng.randrange(len(chunks)), rng.random()
    if deed < 0.3:
        names = b"iCCP tEXt zTXt iTXt gAMA cHRM PLTE tRNS acTL fcTL fdAT eXIf pHYs sRGB bKGD sBIT hIST".split()
        chunks.insert(rng.randrange(len(chunks)), (rng.choice(names), rng.randbytes(rng.choice((0, 1, 4, 30)))))
    elif deed < 0.4:
        chunks.insert(rng.randrange(len(chunks)), chunks[at])
    elif deed < 0.6:  # pixels that are packed well and are wrong
        chunks = [(name, _repacked(content, rng) if name == b"IDAT" else content) for name, content in chunks]
    else:
        name, content = chunks[at]
        chunks[at] = (name, any_bytes(content, rng))
    return data[:8] + b"".join(_png_chunk(name, content) for name, content in chunks)


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 8
    while at + 12 <= len(data):
        size = int.from_bytes(data[at : at + 4])
        yield data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
        at += 12 + size


def _png_chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _repacked(packed: bytes, rng: Random) -> bytes:
    try:
        return zlib.compress(any_bytes(zlib.decompress(packed), rng))
    except zlib.error:
        return any_bytes(packed, rng)


def mp4_box(data: bytes, rng: Random) -> bytes:
    """An MP4 with a box spoilt, renamed, emptied, left out, twice, or of a wrong size."""
    boxes = list(_boxes(data, 0, len(data)))
    if not boxes:
        return any_bytes(data, rng)
    start, end = rng.choice(boxes)
    box, deed = data[start:end], rng.randrange(7)
    sizes = (0, 1, 7, 8, end - start - 1, end - start + 1, 2**31, 2**32 - 1)
    made = (
        box[:8] + (any_bytes(box[8:], rng) if deed == 0 else box[8:]),
        box[:4] + rng.choice((b"free", b"zzzz", b"\xa9xyz", b"moov", b"trak")) + box[8:],
        b"\0\0\0\x08" + box[4:8],
        b"",
        box + box,
        struct.pack(">I", rng.choice(sizes)) + box[4:],
        box[:8] + (magic_number(box[8:], rng) if box[8:] else b""),
    )
    return data[:start] + made[deed] + data[end:]


def _boxes(data: bytes, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Where the boxes between two places begin and end, and those inside them."""
    while start + 8 <= end:
        size = int.from_bytes(data[start : start + 4])
        if not 8 <= size <= end - start:
            return
        yield start, start + size
        if data[start + 4 : start + 8] in (
            b"moov",
            b"trak",
            b"edts",
            b"mdia",
            b"minf",
            b"dinf",
            b"stbl",
            b"udta",
        ):
            yield from _boxes(data, start + 8, start + size)
        elif data[start + 4 : start + 8] == b"stsd":
            yield from _boxes(data, start + 16, start + size)
        start += size


# ---- archives and tensors ----


def zip_member(data: bytes, rng: Random) -> bytes:
    """An archive of zip with a member spoilt, left out, renamed or twice; sums are right."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    except (zipfile.BadZipFile, ValueError):
        return any_bytes(data, rng)
    at, deed = rng.randrange(len(members)), rng.random()
    name, content = members[at]
    if deed < 0.7 or len(members) == 1:
        members[at] = (name, _npy_shape(content, rng) if rng.random() < 0.4 else any_bytes(content, rng))
    elif deed < 0.8:
        del members[at]
    elif deed < 0.9:
        members[at] = (rng.choice(("x", "../x", "", name + "x", name.upper())), content)
    else:
        members[at] = (name, members[rng.randrange(len(members))][1])
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content)
    return packed.getvalue()


def zip_flags(data: bytes, rng: Random) -> bytes:
    """An archive of zip whose members say that they are encrypted, packed otherwise, or of another size."""
    changed = bytearray(data)
    local, central = (_all(data, mark) for mark in (b"PK\x03\x04", b"PK\x01\x02"))
    fields = {
        "flags": (6, 8, 2),
        "method": (8, 10, 2),
        "packed": (18, 20, 4),
        "size": (22, 24, 4),
        "sum": (14, 16, 4),
    }
    for _ in range(rng.choice((1, 1, 2))):
        at_local, at_central, length = fields[rng.choice(sorted(fields))]
        value = rng.choice((0, 1, 8, 9, 12, 14, 93, 99, 2**15, 2**16 - 1, 2**31, 2**32 - 1)) % 256**length
        member = rng.randrange(max(1, len(central)))
        for starts, at in ((local, at_local), (central, at_central)):
            if member < len(starts):
                changed[starts[member] + at : starts[member] + at + length] = value.to_bytes(length, "little")
    return bytes(changed)


def _all(data: bytes, mark: bytes) -> list[int]:
    found, at = [], data.find(mark)
    while at >= 0:
        found.append(at)
        at = data.find(mark, at + 1)
    return found


def _npy_shape(content: bytes, rng: Random) -> bytes:
    """An .npy with other words in its header, whose length is mended."""
    if content[:6] != b"\x93NUMPY":
        return any_bytes(content, rng)
    length = int.from_bytes(content[8:10], "little")
    header, values = content[10 : 10 + length], content[10 + length :]
    shapes = (
        b"()",
        b"(0,)",
        b"(1,)",
        b"(-1,)",
        b"(1000000000000,)",
        b"(2, 2",
        b"((((",
        b"None",
        b"(3, 6, 64, 64, 2)",
    )
    kinds = (b"'<f8'", b"'|O'", b"'<U9'", b"'>i2'", b"'|V7'", b"'x'", b"[('a', '<f4')]", b"'|b1'", b"'<M8[s]'")
    start = header.find(b"'shape': ") + 9
    if rng.random() < 0.5:
        header = header[:start] + rng.choice(shapes) + header[header.find(b")", start) + 1 :]
    elif rng.random() < 0.7:
        start = header.find(b"'descr': ") + 9
        header = header[:start] + rng.choice(kinds) + header[header.find(b", ", start) :]
    else:
        header = any_bytes(header, rng)
    return content[:8] + len(header).to_bytes(2, "little") + header + values


def safetensors_header(data: bytes, rng: Random) -> bytes:
    """A safetensors file with another value in its header or in a document of its metadata."""
    length = int.from_bytes(data[:8], "little")
    header, values = data[8 : 8 + length], data[8 + length :]
    try:
        fields = json.loads(header)
    except ValueError:
        return any_bytes(data, rng)
    metadata = fields.get("__metadata__", {})
    if metadata and rng.random() < 0.5:
        name = rng.choice(sorted(metadata))
        metadata[name] = json_value(metadata[name].encode(), rng).decode("utf-8", "replace")
        changed = json.dumps(fields).encode()
    elif rng.random() < 0.3:  # tensors change their names, or one is left out
        names = sorted(set(fields) - {"__metadata__"})
        one, other = rng.choice(names), rng.choice((*names, "x"))
        fields[one], fields[other] = fields.get(other, fields[one]), fields[one]
        changed = json.dumps(fields).encode()
    else:
        changed = json_value(header, rng)
    return len(changed).to_bytes(8, "little") + changed + values


def tensor_values(data: bytes, rng: Random) -> bytes:
    """A safetensors file with NaN, infinities or large numbers among its values."""
    start = 8 + int.from_bytes(data[:8], "little")
    changed = bytearray(data)
    for _ in range(rng.choice((1, 8, 200))):
        at = start + rng.randrange(max(1, (len(data) - start) // 4)) * 4
        changed[at : at + 4] = rng.choice(
            (b"\0\0\xc0\x7f", b"\0\0\x80\x7f", b"\xff\xff\x7f\x7f", b"\xff\x7f\xff\x7f")
        )
    return bytes(changed[: len(data)])


def tar_header(data: bytes, rng: Random) -> bytes:
    """An archive of tar with a field of a header or an entry of a pax header spoilt; checksums are right."""
    changed = bytearray(data)
    headers = [at for at in range(0, len(data) - 511, 512) if data[at + 257 : at + 262] == b"ustar"]
    if not headers:
        return any_bytes(data, rng)
    at = rng.choice(headers)
    if rng.random() < 0.4:
        keys = ("size", "path", "mtime", "GNU.sparse.size", "GNU.sparse.map", "GNU.sparse.major", "hdrcharset")
        values = ("x", "-1", "", "9" * 30, "1,2,x", "\0", "../../x", "1.0", "BINARY")
        return bytes(changed[:at]) + _pax(rng.choice(keys), rng.choice(values)) + bytes(changed[at:])
    field, size = rng.choice(
        ((0, 100), (100, 8), (124, 12), (136, 12), (156, 1), (157, 100), (257, 8), (345, 155))
    )
    values_of_fields = (
        b"\xff" * size,
        b"\0" * size,
        b"9" * size,
        rng.randbytes(size),
        b"x" * (size - 1) + b"\0",
    )
    changed[at + field : at + field + size] = rng.choice((*values_of_fields, b"\x80" + b"\0" * (size - 1)))
    _mend_checksum(changed, at)
    return bytes(changed)


def _pax(key: str, value: str) -> bytes:
    """A pax header of one entry."""
    entry = f" {key}={value}\n".encode()
    length = len(entry) + len(str(len(entry) + 2))
    body = str(length).encode() + entry
    header = bytearray(512)
    header[0:9] = b"././@Pax0"
    header[124:136] = b"%011o\0" % len(body)
    header[156:157] = b"x"
    header[257:265] = b"ustar\x0000"
    _mend_checksum(header, 0)
    return bytes(header) + body + b"\0" * (-len(body) % 512)


def _mend_checksum(data: bytearray, at: int) -> None:
    data[at + 148 : at + 156] = b" " * 8
    data[at + 148 : at + 156] = b"%06o\0 " % sum(data[at : at + 512])


# ---- which are for which ----

_BY_SUFFIX: dict[str, tuple[Mutator, ...]] = {
    ".json": (any_bytes, json_value, json_value),
    ".jsonl": (any_bytes, json_lines, json_lines),
    ".png": (any_bytes, png_chunk, png_chunk),
    ".mp4": (any_bytes, mp4_box, mp4_box),
    ".mov": (any_bytes, mp4_box, mp4_box),
    ".npz": (any_bytes, zip_member, zip_member, zip_flags),
    ".pt": (any_bytes, zip_member, zip_member, zip_flags),
    ".safetensors": (any_bytes, safetensors_header, safetensors_header, tensor_values),
    ".tar": (any_bytes, tar_header, tar_header),
    ".toml": (any_bytes, words, words),
    ".ply": (any_bytes, words),
    ".txt": (any_bytes, words, words),
}


def mutators_of(suffix: str) -> tuple[Mutator, ...]:
    """Those that fit files of a kind; some are named twice, to be chosen more often."""
    return _BY_SUFFIX.get(suffix, (any_bytes,))
