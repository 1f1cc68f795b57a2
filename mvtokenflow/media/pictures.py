"""Strict reading and atomic writing of 8-bit PNG pictures.

Every DataError names the file, what was found in it and what to do.
"""

import os
import stat
import zlib
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from mvtokenflow.base.damaged import damage
from mvtokenflow.base.errors import DataError
from mvtokenflow.base.files import write_bytes

Pixels = NDArray[np.uint8]

MAX_PICTURE_PIXELS = 2**26  # 8192 x 8192; a PNG of a few kB can state a size beyond any machine's memory

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_OTHER_SIGNATURES = {b"\xff\xd8\xff": "a JPEG file", b"GIF8": "a GIF file", b"RIFF": "a WebP or AVI file"}
_COLOURS = {0: "grey", 2: "RGB", 3: "palette", 4: "grey with alpha", 6: "RGBA"}
PICTURES = ("png", "jpg", "jpeg")  # file types of a clip's frames; pictures that are measured are PNG
AGAIN = "copy or render it again"


def read_rgb(path: Path) -> Pixels:
    """Read an 8-bit RGB PNG as uint8 (H, W, 3).

    Raises:
        DataError: anything else: alpha, palette, grey, 1 or 16 bits, animation, a damaged, truncated,
            empty or unreadable file, a folder, a dead link, more than MAX_PICTURE_PIXELS.
    """
    return read_png(path, ("8-bit RGB",))


def read_rgba(path: Path) -> Pixels:
    """Read an 8-bit RGBA PNG with straight alpha as uint8 (H, W, 4); refuses like `read_rgb`."""
    return read_png(path, ("8-bit RGBA",))


def read_on_white(path: Path) -> Pixels:
    """Read an 8-bit RGB PNG, or an RGBA one composited by `composite_white`, as uint8 (H, W, 3)."""
    picture = read_png(path, ("8-bit RGB", "8-bit RGBA"))
    return composite_white(picture) if picture.shape[-1] == 4 else picture


def read_all_on_white(paths: Sequence[Path]) -> Pixels:
    """Read the frames of a view as uint8 (T, H, W, 3), each as by `read_on_white`.

    Raises:
        DataError: as `read_rgb`, or one differs in size from the first.
    """
    pictures = [read_on_white(path) for path in paths]
    for path, picture in zip(paths, pictures, strict=True):
        if picture.shape != pictures[0].shape:
            here, first = (f"{p.shape[1]}x{p.shape[0]}" for p in (picture, pictures[0]))
            raise DataError(f"{path}: {here} pixels, but {paths[0]} has {first}; make all frames one size")
    return np.stack(pictures)


def read_frame(path: Path) -> Pixels:
    """Read a frame as uint8 (H, W, 3 or 4): an 8-bit RGB or RGBA PNG, or a JPEG turned by its EXIF data."""
    if is_jpeg(path):
        picture = _read_jpeg(path)
        return picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, -1)
    return read_png(path, ("8-bit RGBA", "8-bit RGB"))


def is_jpeg(path: Path) -> bool:
    """Return whether the file's name ends as a JPEG's."""
    return path.suffix.lower() in (".jpg", ".jpeg")


def read_mask(path: Path) -> Pixels:
    """Read a mask as uint8 (H, W), 255 on the object.

    Accepted are a grey PNG of 8 or 1 bits, an RGB one with equal channels, and a JPEG.
    """
    if is_jpeg(path):
        picture, slack = _read_jpeg(path), 15  # colour noise of a lossy codec
    else:
        picture, slack = read_png(path, ("8-bit grey", "1-bit grey", "8-bit RGB")), 0
    if picture.ndim == 2:
        return picture
    if (picture.max(-1) - picture.min(-1)).max() > slack:
        raise DataError(f"{path}: a coloured picture where a mask is expected; save the mask as 8-bit grey PNG")
    return picture[..., 0]


def composite_white(rgba: Pixels) -> Pixels:
    """Composite straight alpha over white, uint8 (..., 4) to (..., 3): `rgb * a + 255 * (1 - a)`.

    a = alpha / 255. Computed in integers, rounded to the nearest level; ties cannot occur because 255 is odd.
    """
    rgb, alpha = rgba[..., :3].astype(np.uint16), rgba[..., 3:].astype(np.uint16)
    return ((rgb * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def to_uint8(picture: NDArray[np.floating[Any]], name: str = "picture") -> Pixels:
    """Round values in [0, 1] to 256 levels; half a level outside is tolerated as rounding noise.

    Raises:
        DataError: NaN, infinite or out-of-range values; `name` names the picture in the message.
    """
    broken = picture.size - int(np.isfinite(picture).sum())
    if broken:
        raise DataError(
            f"{name}: {broken} of {picture.size} values are NaN or infinite; mend what computes them"
        )
    levels = np.rint(picture * 255)
    if levels.size and (levels.min() < 0 or levels.max() > 255):
        low, high = picture.min(), picture.max()
        raise DataError(f"{name}: values from {low:.4g} to {high:.4g}, outside [0, 1]; scale or clip them")
    rounded: Pixels = levels.astype(np.uint8)
    return rounded


def write_png(path: Path, picture: NDArray[Any]) -> None:
    """Write a PNG of 8 bits atomically; equal arrays give equal bytes.

    Args:
        picture: (H, W) grey, (H, W, 3) RGB or (H, W, 4) straight RGBA; uint8, or floating in [0, 1]
            (rounded as by `to_uint8`).

    Raises:
        DataError: another shape or type, NaN, values out of range.
    """
    if picture.ndim not in (2, 3) or picture.shape[2:] not in ((), (3,), (4,)) or not picture.size:
        raise DataError(f"{path}: shape {picture.shape} is no picture; expected (H, W), (H, W, 3) or (H, W, 4)")
    if np.issubdtype(picture.dtype, np.floating):
        picture = to_uint8(picture, str(path))
    if picture.dtype != np.uint8:
        raise DataError(f"{path}: pixels of type {picture.dtype}; convert them to uint8 or to floats in [0, 1]")
    buffer = BytesIO()
    # Level 2 is the best trade: 5 ms and 76 kB for a 512 x 512 frame, against 10 ms and 73 kB at the default 6.
    Image.fromarray(np.ascontiguousarray(picture)).save(buffer, "PNG", compress_level=2)
    write_bytes(path, buffer.getvalue())


def read_png(path: Path, accepted: Sequence[str]) -> Pixels:
    """Read a PNG of one of the `accepted` kinds, e.g. "8-bit RGBA", as uint8 (H, W[, C]); see `read_rgb`."""
    data = _read_bytes(path)
    if not data.startswith(_SIGNATURE):
        known = (name for start, name in _OTHER_SIGNATURES.items() if data.startswith(start))
        raise DataError(f"{path}: {next(known, 'not a PNG file')}; convert it to {accepted[0]} PNG")
    chunks = _png_chunks(path, data)
    found, width, height = _png_kind(path, chunks)
    if width * height > MAX_PICTURE_PIXELS:
        raise DataError(
            f"{path}: {width}x{height} pixels, more than the {MAX_PICTURE_PIXELS} that are read "
            "(a decompression bomb?); scale it down"
        )
    if found not in accepted:
        fix = f"save it as {accepted[0]} PNG"
        if (found, accepted[0]) == ("8-bit RGBA", "8-bit RGB"):
            fix = "composite it over white and " + fix
        elif (found, accepted[0]) == ("8-bit RGB", "8-bit RGBA"):
            fix = "cut the object out and " + fix
        raise DataError(f"{path}: {found} picture, expected {' or '.join(accepted)}; {fix}")
    with damage(path, "damaged PNG", AGAIN):
        picture = np.array(Image.open(BytesIO(data), formats=["PNG"]))
        # Pillow fills rows that are not in the file with zeros.
        row = -(-width // 8) if picture.dtype == np.bool_ else picture[0].size
        needed = height * (1 + row)  # each row has a filter byte; interlaced files hold at least as much
        held = len(zlib.decompressobj().decompress(chunks[b"IDAT"], needed))
    if held < needed:
        raise DataError(f"{path}: damaged PNG ({held} of {needed} bytes of pixels); {AGAIN}")
    return picture.astype(np.uint8) * 255 if picture.dtype == np.bool_ else picture


def _read_jpeg(path: Path) -> Pixels:
    """Read a JPEG as uint8 (H, W) grey or (H, W, 3), turned by its EXIF data."""
    data = _read_bytes(path)
    if not data.startswith(b"\xff\xd8\xff"):
        raise DataError(f"{path}: not a JPEG file; give it the ending of its type")
    with damage(path, "damaged JPEG", AGAIN), Image.open(BytesIO(data), formats=["JPEG", "MPO"]) as opened:
        if opened.width * opened.height > MAX_PICTURE_PIXELS:
            raise DataError(
                f"{path}: {opened.width}x{opened.height} pixels, more than the {MAX_PICTURE_PIXELS} that are "
                "read; scale it down"
            )
        if opened.mode not in ("L", "RGB"):
            raise DataError(f"{path}: a JPEG of {opened.mode}; save it as RGB")
        picture = np.array(ImageOps.exif_transpose(opened))
    return picture.astype(np.uint8)


def picture_size(path: Path) -> tuple[int, int]:
    """Read (width, height) in pixels of a PNG without decoding it; raises as `png_kind`."""
    return png_kind(path)[1:]


def png_kind(path: Path) -> tuple[str, int, int]:
    """Read what a PNG is, such as "8-bit RGB", its width and its height in pixels, without decoding it.

    Raises:
        DataError: a damaged, truncated or unreadable file, or not a PNG.
    """
    data = _read_bytes(path)
    if not data.startswith(_SIGNATURE):
        raise DataError(f"{path}: not a PNG file; {AGAIN}")
    return _png_kind(path, _png_chunks(path, data))


def _png_kind(path: Path, chunks: Mapping[bytes, bytes]) -> tuple[str, int, int]:
    """Return the kind ("8-bit RGB" or the like), width and height of a PNG.

    Pillow cannot be used here: it reads 16-bit RGB as 8-bit without a warning.
    """
    header = chunks.get(b"IHDR", b"")
    if len(header) != 13 or b"IDAT" not in chunks:
        raise DataError(f"{path}: damaged PNG (no picture in it); {AGAIN}")
    width, height, depth, colour = int.from_bytes(header[:4]), int.from_bytes(header[4:8]), header[8], header[9]
    found = f"{depth}-bit {_COLOURS.get(colour, f'colour type {colour}')}"
    if b"tRNS" in chunks:
        found += " with a transparent colour"
    if b"acTL" in chunks:
        found = "animated " + found
    return found, width, height


def _png_chunks(path: Path, data: bytes) -> dict[bytes, bytes]:
    """Read content by chunk name, pieces of one name joined.

    Checks what Pillow does not: checksums and the end.
    """
    found: dict[bytes, list[bytes]] = {}
    position = len(_SIGNATURE)
    while b"IEND" not in found:
        end = position + 12 + int.from_bytes(data[position : position + 4])
        if end > len(data):
            raise DataError(f"{path}: truncated PNG ({len(data)} bytes, no end mark); {AGAIN}")
        if zlib.crc32(memoryview(data)[position + 4 : end - 4]) != int.from_bytes(data[end - 4 : end]):
            raise DataError(f"{path}: damaged PNG (wrong checksum at byte {position}); {AGAIN}")
        found.setdefault(data[position + 4 : position + 8], []).append(data[position + 8 : end - 4])
        position = end
    return {name: b"".join(pieces) for name, pieces in found.items()}


def _read_bytes(path: Path) -> bytes:
    check_file(path)
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the disk") from error


def check_file(path: Path) -> None:
    """Check that a path is a readable, plain, non-empty file; raise a DataError if not."""
    try:
        status = path.stat()
    except FileNotFoundError as error:
        if path.is_symlink():
            target = path.readlink()
            raise DataError(
                f"{path}: a link to {target}, which is missing; restore it or remove the link"
            ) from error
        raise DataError(f"{path}: no such file; check the path") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check permissions and links") from error
    if stat.S_ISDIR(status.st_mode):
        raise DataError(f"{path}: a folder where a file is expected; give the path of the file")
    if not stat.S_ISREG(status.st_mode):
        raise DataError(f"{path}: not a regular file; give the path of a file")
    if not os.access(path, os.R_OK):
        raise DataError(f"{path}: no permission to read it; change its permissions")
    if status.st_size == 0:
        raise DataError(f"{path}: empty (0 bytes); {AGAIN}")
