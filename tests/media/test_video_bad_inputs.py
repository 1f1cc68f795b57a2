"""Every bad input gets one clear message: it names the file and says what to do."""

import errno
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from mvtokenflow.base.errors import DataError
from mvtokenflow.base.files import frame_files
from mvtokenflow.media import video
from mvtokenflow.media.pictures import MAX_PICTURE_PIXELS

RGB = np.random.default_rng(0).integers(0, 256, (12, 10, 3), dtype=np.uint8)
ALPHA = np.zeros((12, 10), np.uint8)
ALPHA[3:9, 3:7] = 255
RGBA = np.dstack((RGB, ALPHA))


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _png(*chunks: tuple[bytes, bytes]) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks)


def _header(width: int, height: int, depth: int, colour: int) -> tuple[bytes, bytes]:
    return b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)


def _sixteen_bit_rgb(path: Path) -> None:
    rows = b"".join(b"\0" + bytes(6 * 4) for _ in range(3))
    path.write_bytes(_png(_header(4, 3, 16, 2), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")))


def _too_few_rows(path: Path) -> None:
    rows = b"".join(b"\0" + bytes(3 * 4) for _ in range(2))
    path.write_bytes(_png(_header(4, 3, 8, 2), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")))


def _bomb(path: Path) -> None:
    path.write_bytes(_png(_header(60000, 60000, 8, 2), (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b"")))


def _cut(path: Path, keep: float = 0.6) -> None:
    video.write_png(path, RGB)
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])


def _cut_at_a_chunk(path: Path) -> None:
    video.write_png(path, RGB)
    path.write_bytes(path.read_bytes()[:-12])


def _flipped_bit(path: Path) -> None:
    video.write_png(path, RGB)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _transparent_colour(path: Path) -> None:
    Image.fromarray(RGB).save(path, transparency=(1, 2, 3))


def _animated(path: Path) -> None:
    Image.fromarray(RGB).save(path, save_all=True, append_images=[Image.fromarray(255 - RGB)])


def _jpeg(path: Path) -> None:
    Image.fromarray(RGB).save(path, "JPEG")


def _unreadable(path: Path) -> None:
    video.write_png(path, RGB)
    path.chmod(0)


def _saved(mode: str) -> Callable[[Path], None]:
    return lambda path: Image.fromarray(RGB).convert(mode).save(path, "PNG")


PICTURES: dict[str, tuple[Callable[[Path], object], str]] = {
    "rgba": (lambda p: video.write_png(p, RGBA), "8-bit RGBA picture, .*composite it over white and save"),
    "palette": (_saved("P"), "8-bit palette picture.*save it as 8-bit RGB PNG"),
    "grey": (_saved("L"), "8-bit grey picture.*save it as 8-bit RGB PNG"),
    "grey with alpha": (_saved("LA"), "8-bit grey with alpha picture.*save it as 8-bit RGB PNG"),
    "1 bit": (_saved("1"), "1-bit grey picture.*save it as 8-bit RGB PNG"),
    "16-bit grey": (_saved("I;16"), "16-bit grey picture.*save it as 8-bit RGB PNG"),
    "16-bit rgb": (_sixteen_bit_rgb, "16-bit RGB picture.*save it as 8-bit RGB PNG"),
    "transparent colour": (_transparent_colour, "RGB with a transparent colour picture.*save it"),
    "animated": (_animated, "animated 8-bit RGB picture.*save it"),
    "truncated": (_cut, "truncated PNG.*copy or render it again"),
    "without its end mark": (_cut_at_a_chunk, "truncated PNG.*copy or render it again"),
    "only a signature": (lambda p: p.write_bytes(_png()), "truncated PNG.*copy or render it again"),
    "flipped bit": (_flipped_bit, "wrong checksum.*copy or render it again"),
    "too few rows": (_too_few_rows, "damaged PNG.*copy or render it again"),
    "no pixels": (lambda p: p.write_bytes(_png((b"IEND", b""))), "no picture in it.*copy or render it again"),
    "zero bytes": (lambda p: p.write_bytes(b""), r"empty \(0 bytes\); copy or render it again"),
    "a jpeg": (_jpeg, "a JPEG file; convert it to 8-bit RGB PNG"),
    "text": (lambda p: p.write_text("hello"), "not a PNG file; convert it to 8-bit RGB PNG"),
    "missing": (lambda p: None, "no such file; check the path"),
    "a folder": (lambda p: p.mkdir(), "a folder where a file is expected; give the path"),
    "dead link": (lambda p: p.symlink_to("gone.png"), "a link to gone.png, which is missing; restore it"),
    "link to itself": (lambda p: p.symlink_to(p), "cannot be read .*; check permissions and links"),
    "a pipe": (lambda p: os.mkfifo(p), "not a regular file; give the path of a file"),
    "a bomb": (_bomb, f"60000x60000 pixels, more than the {MAX_PICTURE_PIXELS}.*scale it down"),
}


@pytest.mark.parametrize("case", PICTURES)
def test_bad_pictures(tmp_path: Path, case: str) -> None:
    make, says = PICTURES[case]
    path = tmp_path / "7.png"
    make(path)
    with pytest.raises(DataError, match=f"7.png: .*{says}") as caught:
        video.read_rgb(path)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_picture_without_read_permission(tmp_path: Path) -> None:
    _unreadable(tmp_path / "7.png")
    with pytest.raises(DataError, match=r"7.png: no permission to read it; change its permissions"):
        video.read_rgb(tmp_path / "7.png")


def test_a_failing_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video.write_png(tmp_path / "7.png", RGB)

    def fail(path: Path) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(DataError, match=r"7.png: cannot be read \(Input/output error\); check the disk"):
        video.read_rgb(tmp_path / "7.png")


@pytest.mark.parametrize(
    ("mode", "says"),
    [
        ("RGB", "expected 8-bit RGBA; cut the object out and save it as 8-bit RGBA PNG"),
        ("P", "save it as 8-bit RGBA"),
    ],
)
def test_rgba_reader_refuses_other_kinds(tmp_path: Path, mode: str, says: str) -> None:
    _saved(mode)(tmp_path / "7.png")
    with pytest.raises(DataError, match=f"7.png: .*{says}"):
        video.read_rgba(tmp_path / "7.png")


@pytest.mark.parametrize(
    ("picture", "says"),
    [
        (np.full((4, 4, 3), np.nan), "48 of 48 values are NaN or infinite; mend"),
        (np.full((4, 4, 3), np.inf, np.float32), "48 of 48 values are NaN or infinite; mend"),
        (np.full((4, 4, 3), 1.2), r"values from 1.2 to 1.2, outside \[0, 1\]; scale or clip"),
        (np.full((4, 4, 3), -0.01), r"outside \[0, 1\]; scale or clip"),
        (np.zeros((4, 4, 3), np.int64), "type int64; convert them to uint8"),
        (np.zeros((4, 4, 2), np.uint8), r"shape \(4, 4, 2\) is no picture; expected"),
        (np.zeros((0, 4, 3), np.uint8), r"shape \(0, 4, 3\) is no picture; expected"),
        (np.zeros((1, 4, 4, 3), np.uint8), r"shape \(1, 4, 4, 3\) is no picture; expected"),
    ],
)
def test_bad_arrays_are_not_written(tmp_path: Path, picture: Any, says: str) -> None:
    with pytest.raises(DataError, match=f"out.png: .*{says}"):
        video.write_png(tmp_path / "out.png", picture)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "frames", "fps", "says"),
    [
        ("a.gif", np.zeros((2, 4, 4, 3), np.uint8), 10, "end the name in .mp4"),
        ("a.mp4", np.zeros((2, 4, 4, 4), np.uint8), 10, r"expected \(T, H, W, 3\) of uint8"),
        ("a.mp4", np.zeros((2, 4, 4, 3), np.float32), 10, r"float32; expected \(T, H, W, 3\) of uint8"),
        ("a.mp4", np.zeros((0, 4, 4, 3), np.uint8), 10, r"expected \(T, H, W, 3\) of uint8"),
        ("a.mp4", np.zeros((2, 4, 4, 3), np.uint8), 0, "0 frames per second; choose a rate"),
        ("a.mp4", np.zeros((2, 4, 4, 3), np.uint8), float("nan"), "nan frames per second; choose a rate"),
    ],
)
def test_bad_videos_are_not_written(tmp_path: Path, name: str, frames: Any, fps: float, says: str) -> None:
    with pytest.raises(DataError, match=f"{name}: .*{says}"):
        video.write_video(tmp_path / name, frames, fps)
    assert not list(tmp_path.iterdir())


# ---- folders of frames ----


def _folder(tmp_path: Path, frames: dict[str, Any]) -> Path:
    folder = tmp_path / "cat"
    folder.mkdir()
    for name, picture in frames.items():
        video.write_png(folder / name, picture)
    return folder


GOOD = {f"{n}.png": RGBA for n in range(4)}


FOLDERS: dict[str, tuple[dict[str, Any], str]] = {
    "empty folder": ({}, "cat: holds no frames; expected files named"),
    "duplicate index": ({**GOOD, "01.png": RGBA}, "cat: 01.png and 1.png are both frame 1; remove one"),
    "stray picture": ({**GOOD, "mask.png": RGBA}, "mask.png: not a frame named .*; move it out"),
    "unequal sizes": (
        {**GOOD, "3.png": RGBA[:-1]},
        "3.png: 10x11 pixels, but .*0.png has 10x12; make all frames",
    ),
    "RGB among RGBA": ({**GOOD, "3.png": RGB}, "3.png: 3 channels, but .*0.png has 4; save all frames as RGBA"),
    "grey frames": ({f"{n}.png": ALPHA for n in range(3)}, "0.png: 8-bit grey picture, expected 8-bit RGBA or"),
    "one frame": ({"0.png": RGBA}, "cat: 1 frame selected of 1; a clip needs two or more"),
    "no alpha": (
        {f"{n}.png": RGB for n in range(3)},
        "cat: no alpha channel.*give .* or masks",
    ),
    "opaque": (
        {f"{n}.png": np.dstack((RGB, ALPHA * 0 + 255)) for n in range(3)},
        "cat: opaque.*give .*masks",
    ),
    "no object in a frame": (
        {**GOOD, "2.png": RGBA * 0},
        "2.png: alpha is 0 .* 1 of 4 frames; mend the mask or",
    ),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_bad_folders(tmp_path: Path, case: str) -> None:
    frames, says = FOLDERS[case]
    with pytest.raises(DataError, match=says):
        video.read_clip(_folder(tmp_path, frames))


def test_a_stray_file_is_refused_and_a_hidden_one_is_not(tmp_path: Path) -> None:
    folder = _folder(tmp_path, GOOD)
    (folder / ".DS_Store").write_bytes(b"x")
    assert len(video.read_clip(folder)) == 4
    (folder / "readme.txt").write_text("x")
    with pytest.raises(
        DataError, match=r"readme.txt: not a frame named <integer>.png; move it out of the folder"
    ):
        video.read_clip(folder)


def test_a_folder_in_place_of_a_frame(tmp_path: Path) -> None:
    folder = _folder(tmp_path, GOOD)
    (folder / "4.png").mkdir()
    with pytest.raises(DataError, match=r"4.png: a folder where a file is expected; give"):
        video.read_clip(folder)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="gone: no such folder; expected frames"):
        frame_files(tmp_path / "gone")
    with pytest.raises(DataError, match="gone: no such file; check the path"):
        video.read_clip(tmp_path / "gone")


@pytest.mark.parametrize(
    "asked",
    [
        {"start": -1},
        {"start": 4},
        {"stop": 5},
        {"stop": 0},
        {"start": 2, "stop": 2},
        {"stride": 0},
        {"stride": -1},
    ],
)
def test_ranges_outside_the_clip(tmp_path: Path, asked: dict[str, int]) -> None:
    with pytest.raises(DataError, match=r"cat: frames .* it has 4 \(0 to 3\); ask for frames that it has"):
        video.read_clip(_folder(tmp_path, GOOD), **asked)  # type: ignore[arg-type]  # all keys are integers


def test_a_clip_that_does_not_fit_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "MAX_CLIP_PIXELS", 4 * RGBA[..., 0].size - 1)
    with pytest.raises(DataError, match=r"cat: 4 frames of 10x12 do not fit .*; take fewer frames"):
        video.read_clip(_folder(tmp_path, GOOD))


MASKS: dict[str, tuple[dict[str, Any], str]] = {
    "too few": (
        {f"{n}.png": ALPHA for n in range(3)},
        "masks: 3 masks for the 4 frames of .*rgb; give one each",
    ),
    "too many": (
        {f"{n}.png": ALPHA for n in range(5)},
        "masks: 5 masks for the 4 frames of .*rgb; give one each",
    ),
    "another size": (
        {f"{n}.png": ALPHA[1:] for n in range(4)},
        "masks: masks of 10x11 .* 10x12 .*; make them equal",
    ),
    "0 and 1": ({f"{n}.png": ALPHA // 255 for n in range(4)}, "masks: the masks hold 0 and 1.*; multiply"),
    "all black": (
        {f"{n}.png": ALPHA * 0 for n in range(4)},
        "0.png, .*: alpha is 0 .* 4 of 4 frames; mend the mask",
    ),
    "all white": ({f"{n}.png": ALPHA * 0 + 255 for n in range(4)}, "masks: opaque everywhere.*; give"),
    "coloured": (
        {f"{n}.png": RGB for n in range(4)},
        "0.png: a coloured picture where a mask .*; save the mask",
    ),
    "with alpha": ({f"{n}.png": RGBA for n in range(4)}, "0.png: 8-bit RGBA picture, expected 8-bit grey"),
}


@pytest.mark.parametrize("case", MASKS)
def test_bad_masks(tmp_path: Path, case: str) -> None:
    frames, says = MASKS[case]
    source = _folder(tmp_path, dict.fromkeys(GOOD, RGB)).rename(tmp_path / "rgb")
    with pytest.raises(DataError, match=says):
        video.read_clip(source, _folder(tmp_path, frames).rename(tmp_path / "masks"))


def test_alpha_and_a_mask_together(tmp_path: Path) -> None:
    masks = _folder(tmp_path, dict.fromkeys(GOOD, ALPHA)).rename(tmp_path / "masks")
    with pytest.raises(DataError, match=r"cat: has alpha of its own and a mask \(.*masks\); give one of them"):
        video.read_clip(_folder(tmp_path, GOOD), masks)


# ---- video files ----


def _film(path: Path, codec: str, pix_fmt: str, count: int = 12, options: dict[str, str] | None = None) -> Path:
    with av.open(str(path), "w", options=options or {}) as container:
        stream: Any = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 32, pix_fmt
        container.start_encoding()
        for n in range(count):
            picture = np.random.default_rng(n).integers(0, 256, (32, 32, 4), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgba")))
        container.mux(stream.encode(None))
    return path


def _cut_film(path: Path, keep: float) -> Path:
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    return path


def _sound(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def _anamorphic(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        stream.codec_context.sample_aspect_ratio = 2
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8))))
        container.mux(stream.encode(None))
    return path


def _damaged(path: Path) -> Path:
    _film(path, "libx264", "yuv420p")
    data = bytearray(path.read_bytes())
    middle = data.index(b"mdat") + 400
    data[middle : middle + 3000] = bytes(3000)
    path.write_bytes(data)
    return path


AGAIN = "(copy or render|copy or export) it again"
FAST = {"movflags": "faststart"}
FILMS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "text": (
        lambda d: _write(d / "a.mp4", b"hello" * 99),
        "a.mp4: not a video of a known type; give an mp4.*or a folder of frames",
    ),
    "zero bytes": (lambda d: _write(d / "a.mp4", b""), r"a.mp4: empty \(0 bytes\); copy"),
    "one picture": (
        lambda d: _write_png(d / "a.png"),
        "a.png: a PNG picture; give an mp4.*or a folder of frames",
    ),
    "sound": (lambda d: _sound(d / "a.mp4"), "a.mp4: holds no video stream; give a video file"),
    "no alpha": (
        lambda d: _film(d / "a.mp4", "libx264", "yuv420p"),
        "a.mp4: no alpha channel.*; give .* or masks",
    ),
    "no frames": (
        lambda d: _film(d / "a.avi", "png", "rgba", 0),
        "a.avi: a video without frames; record or export",
    ),
    "no index": (
        lambda d: _cut_film(_film(d / "a.mp4", "libx264", "yuv420p"), 0.9),
        f"a.mp4: not a video.*{AGAIN}",
    ),
    "cut mp4": (
        lambda d: _cut_film(_film(d / "a.mp4", "libx264", "yuv420p", options=FAST), 0.7),
        f"a.mp4: .*{AGAIN}",
    ),
    "cut mov": (lambda d: _cut_film(_film(d / "a.mov", "png", "rgba", options=FAST), 0.7), f"a.mov: .*{AGAIN}"),
    "cut webm": (
        lambda d: _cut_film(_film(d / "a.webm", "libvpx-vp9", "yuva420p"), 0.7),
        r"a.webm: (ends early, after \d+ frames; .* of 1.20 s are missing|.*damaged).*" + AGAIN,
    ),
    "cut mkv": (lambda d: _cut_film(_film(d / "a.mkv", "libx264", "yuv420p"), 0.7), f"a.mkv: .*{AGAIN}"),
    "cut avi": (lambda d: _cut_film(_film(d / "a.avi", "png", "rgba"), 0.7), f"a.avi: .*{AGAIN}"),
    "cut gif": (
        lambda d: _cut_film(_film(d / "a.gif", "gif", "rgb8"), 0.7),
        f"a.gif: a GIF that ends early.*{AGAIN}",
    ),
    "damaged": (lambda d: _damaged(d / "a.mp4"), f"a.mp4: .*damaged.*{AGAIN}"),
    "oblong pixels": (lambda d: _anamorphic(d / "a.mp4"), r"a.mp4: pixels are not square \(2\); re-encode"),
}


def _write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def _write_png(path: Path) -> Path:
    video.write_png(path, RGBA)
    return path


@pytest.mark.parametrize("case", FILMS)
def test_bad_films(tmp_path: Path, case: str) -> None:
    make, says = FILMS[case]
    with pytest.raises(DataError, match=says):
        video.read_clip(make(tmp_path))


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "suffix"), [("libx264", "yuv420p", "mkv"), ("png", "rgba", "mov")]
)
def test_one_missing_frame_at_the_end_is_noticed(tmp_path: Path, codec: str, pix_fmt: str, suffix: str) -> None:
    """All frames are key frames, the file's own statement of its length stays."""
    film = _film(tmp_path / f"a.{suffix}", codec, pix_fmt, options=None if suffix == "mkv" else FAST)
    with av.open(str(film)) as container:
        last = max(packet.pos or 0 for packet in container.demux(video=0) if packet.size)
    film.write_bytes(film.read_bytes()[: last - 16])
    with pytest.raises(DataError, match=f"a.{suffix}: (ends early, after 1[01] frames|.*damaged).*{AGAIN}"):
        video.read_clip(film)
