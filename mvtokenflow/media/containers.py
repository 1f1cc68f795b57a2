"""Opening of video files whose type is checked by their first bytes before FFmpeg opens them.

FFmpeg accepts playlists and session descriptions as videos, and opens the files and addresses that they
name. Here only the named demuxer opens a file, which cannot refer to another one.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import av

from mvtokenflow.base.errors import DataError
from mvtokenflow.media.pictures import AGAIN, check_file

ACCEPTED = "give an mp4, mov, webm, mkv, avi or gif video, or a folder of frames <n>.png"

_ATOMS = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot", b"uuid")
_OTHERS = {
    b"#EXTM3U": "a playlist",
    b"ffconcat": "a list of files",
    b"v=0": "a session description",
    b"<": "an XML or HTML page",
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"RIFF": "a WebP or WAV file",
    b"OggS": "an Ogg file",
    b"FLV": "a Flash video",
    b"\x30\x26\xb2\x75": "a Windows Media file",
    b"\x00\x00\x01": "an MPEG stream",
    b"G": "an MPEG transport stream",
}


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open a video file and yield its PyAV container.

    Raises:
        DataError: not a readable file, or of another type.
        av.FFmpegError: FFmpeg cannot open it.
    """
    check_file(path)
    with path.open("rb") as stream:
        kind = _container(path, stream)
        if kind == "gif" and not _gif_ends(stream):
            raise DataError(f"{path}: a GIF that ends early (no end mark); {AGAIN}")
        stream.seek(0)
        # The demuxer is fixed, so none is guessed, and no protocol has this name, so nothing else is opened.
        options = {"protocol_whitelist": "none", "format_whitelist": kind}
        with av.open(stream, format=kind, options=options, metadata_errors="replace") as container:
            yield container


def _container(path: Path, stream: BinaryIO) -> str:
    """Return FFmpeg's name for the file's type."""
    head = stream.read(16)
    if head[4:8] in _ATOMS:
        return "mov"
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return "matroska"
    if head[:6] in (b"GIF87a", b"GIF89a"):
        return "gif"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "avi"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    found = next((name for start, name in _OTHERS.items() if text.startswith(start)), None)
    if found is None:
        raise DataError(f"{path}: not a video of a known type; {ACCEPTED}, and copy it again if it is one")
    raise DataError(f"{path}: {found}; {ACCEPTED}")


def _gif_ends(stream: BinaryIO) -> bool:
    """Return whether a GIF has its end mark, whatever follows: it states no length and no frame count."""
    stream.seek(0)
    header = stream.read(13)
    _skip_colours(stream, header[10:11])
    while True:
        mark = stream.read(1)
        if mark == b";":
            return True
        if mark == b"!":
            stream.read(1)  # what kind of extension it is
        elif mark == b",":
            _skip_colours(stream, stream.read(9)[8:9])
            stream.read(1)  # bits of the first code
        elif mark == b"\0":
            continue
        else:
            return False
        while size := stream.read(1):
            if size == b"\0":
                break
            stream.seek(size[0], 1)


def _skip_colours(stream: BinaryIO, flags: bytes) -> None:
    """Skip a colour table, if the preceding flags announce one."""
    if flags and flags[0] & 0x80:
        stream.seek(3 << (flags[0] & 7) + 1, 1)
