"""Videos as phones, drones and taggers write them: turned, mirrored, HDR, uneven, with sound and covers."""

import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from mvtokenflow.base.errors import DataError
from mvtokenflow.media.pictures import Pixels
from mvtokenflow.media.video import Clip, count_frames, read_clip

H, W, T = 64, 96, 6
RED, GREEN = (220, 40, 40), (40, 180, 60)
EVEN_MS = [125 * n for n in range(T)]
UNEVEN_MS = [0, 40, 80, 1000, 1040, 2000]


def corner(n: int) -> Pixels:
    """(H, W, 4): red above left, green leg below it, which tells every turn and mirror apart."""
    rgba = np.zeros((H, W, 4), np.uint8)
    rgba[..., :3] = 255
    rgba[8:24, 8 + n : 32 + n] = (*RED, 255)
    rgba[24:56, 8 + n : 16 + n] = (*GREEN, 255)
    return rgba


CORNERS = [corner(n) for n in range(T)]


@dataclass(frozen=True, kw_only=True)
class Phone:
    """How a video is written.

    Attributes:
        stamps: of its frames in milliseconds.
        matrix: (a, b, c, d) of the display matrix: (x, y) is shown at (a x + c y, b x + d y).
        transfer: None, or "pq" or "hlg": HDR of BT.2020, 10 bits.
        sound: with a track of silence. cover: with one picture as the first video stream.
    """

    suffix: str = "mp4"
    codec: str = "libx264"
    stamps: Sequence[int] = tuple(EVEN_MS)
    matrix: tuple[int, int, int, int] | None = None
    transfer: str | None = None
    sound: bool = False
    cover: bool = False

    def write(self, path: Path, frames: Sequence[Pixels]) -> Path:
        """`frames` are (H, W, 3)."""
        path = path.with_suffix(f".{self.suffix}")
        with av.open(str(path), "w") as container:
            cover = _stream(container, "mjpeg", "yuvj420p", (32, 32)) if self.cover else None
            film = _stream(
                container,
                self.codec if self.transfer is None else "libx265",
                "yuv444p" if self.transfer is None else "yuv444p10le",
                frames[0].shape[:2],
            )
            film.codec_context.time_base = Fraction(1, 1000)
            sound = container.add_stream("aac", rate=44100) if self.sound else None
            if self.transfer is not None:
                context = film.codec_context
                context.colorspace, context.color_range, context.color_primaries = 9, 1, 9
                context.color_trc = {"pq": 16, "hlg": 18}[self.transfer]
            if cover is not None:
                picture = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 120, np.uint8), format="rgb24")
                container.mux(cover.encode(picture.reformat(format="yuvj420p")))
                container.mux(cover.encode(None))
            for frame, stamp in zip(frames, self.stamps, strict=True):
                given = self._frame(frame)
                given.pts, given.time_base = stamp, Fraction(1, 1000)
                container.mux(film.encode(given))
            container.mux(film.encode(None))
            if sound is not None:
                silence = av.AudioFrame.from_ndarray(
                    np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
                )
                silence.sample_rate = 44100
                container.mux(sound.encode(silence))
                container.mux(sound.encode(None))
        if self.matrix is not None:
            _orient(path, self.matrix, which=-1 if not self.sound else 1 if self.cover else 0)
        return path

    def _frame(self, rgb: Pixels) -> Any:
        if self.transfer is None:
            return av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format="yuv444p")
        return hdr_frame(rgb, self.transfer)


def _stream(container: Any, codec: str, pix_fmt: str, size: tuple[int, ...]) -> Any:
    options = {"crf": "8"} if codec.startswith("libx") else {}
    stream = container.add_stream(codec, rate=8, options=options)
    stream.height, stream.width = size[:2]
    stream.pix_fmt = pix_fmt
    return stream


def hdr_frame(rgb: Pixels, transfer: str) -> Any:
    """sRGB with white at 203 nits in BT.2020, Y'CbCr of 10 bits."""
    x = rgb / 255
    light = np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)
    to_2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
    coded = {"pq": _pq, "hlg": _hlg}[transfer](light @ to_2020.T * 203)
    red, green, blue = np.moveaxis(coded, -1, 0)
    luma = 0.2627 * red + 0.6780 * green + 0.0593 * blue
    planes = 64 + 876 * luma, 512 + 896 * (blue - luma) / 1.8814, 512 + 896 * (red - luma) / 1.4746
    frame: Any = av.VideoFrame(rgb.shape[1], rgb.shape[0], "yuv444p10le")
    for to, plane in zip(frame.planes, planes, strict=True):
        rows = np.zeros((to.height, to.line_size // 2), np.uint16)
        rows[:, : rgb.shape[1]] = np.rint(plane)
        to.update(rows.tobytes())
    frame.colorspace, frame.color_range, frame.color_primaries = 9, 1, 9
    frame.color_trc = {"pq": 16, "hlg": 18}[transfer]
    return frame


def _pq(nits: NDArray[np.float64]) -> NDArray[np.float64]:
    """SMPTE ST 2084."""
    power = np.clip(nits / 10000, 0, 1) ** (2610 / 16384)
    coded: NDArray[np.float64] = ((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 32)
    return coded


def _hlg(nits: NDArray[np.float64]) -> NDArray[np.float64]:
    """ARIB STD-B67 on a display of 1000 nits."""
    display = np.clip(nits / 1000, 0, 1)
    luma = np.maximum(display @ np.array([0.2627, 0.6780, 0.0593]), 1e-6)
    scene = np.clip(display * (luma ** (-0.2 / 1.2))[..., None], 0, 1)
    high = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    coded: NDArray[np.float64] = np.where(scene <= 1 / 12, np.sqrt(3 * scene), high)
    return coded


def _orient(path: Path, matrix: tuple[int, int, int, int], which: int = -1) -> None:
    """Write a display matrix into the header of a track, by default of the last."""
    data = bytearray(path.read_bytes())
    places = [n for n in range(len(data)) if data.startswith(b"tkhd", n)]
    at = places[which] + 8 + (32 if data[places[which] + 4] else 20) + 16
    a, b, c, d = matrix
    data[at : at + 36] = struct.pack(
        ">9i", *(x << 16 for x in (a, b)), 0, *(x << 16 for x in (c, d)), 0, 0, 0, 1 << 30
    )
    path.write_bytes(data)


def shown(frames: Sequence[Pixels], matrix: tuple[int, int, int, int] | None) -> Pixels:
    """(T, H', W', C): every pixel put where the matrix says, one by one."""
    a, b, c, d = matrix or (1, 0, 0, 1)
    pictures = np.stack(frames)
    y, x = np.mgrid[: pictures.shape[1], : pictures.shape[2]]
    across, down = a * x + c * y, b * x + d * y
    across, down = across - across.min(), down - down.min()
    out = np.zeros((len(pictures), down.max() + 1, across.max() + 1, pictures.shape[-1]), np.uint8)
    out[:, down, across] = pictures
    return out


def check(clip: Clip, phone: Phone, tolerance: float) -> None:
    want = shown(CORNERS, phone.matrix)
    assert clip.rgb.shape == (*want.shape[:3], 3)
    error = np.abs(clip.on_background().numpy() * 255 - want[..., :3])
    inside = _inner(want[..., 3])  # colours beside edges went through the codec's half resolution
    assert error[inside].max() <= tolerance
    stamps = np.array(phone.stamps)
    assert np.allclose(clip.times.numpy(), (stamps - stamps[0]) / (stamps[-1] - stamps[0]), atol=1e-3)
    assert (clip.clock is None) == (list(phone.stamps) == EVEN_MS)


def _inner(alpha: Pixels) -> NDArray[np.bool_]:
    """Pixels whose neighbours two steps away are of the same kind."""
    same = np.ones(alpha.shape, bool)
    for shift in (-2, 2):
        same &= (np.roll(alpha, shift, 1) == alpha) & (np.roll(alpha, shift, 2) == alpha)
    return same


def masked(phone: Phone, folder: Path) -> Clip:
    """The clip of the phone's video and a mask video with the same header."""
    white = [frame[..., :3] for frame in CORNERS]
    masks = [np.repeat(frame[..., 3:], 3, -1) for frame in CORNERS]
    return read_clip(phone.write(folder / "film", white), phone.write(folder / "mask", masks))


TURNS = {
    "hflip": (-1, 0, 0, 1),
    "vflip": (1, 0, 0, -1),
    "180": (-1, 0, 0, -1),
    "90": (0, 1, -1, 0),
    "270": (0, -1, 1, 0),
    "transpose": (0, 1, 1, 0),
    "anti-transpose": (0, -1, -1, 0),
}


@pytest.mark.parametrize("turn", TURNS)
def test_turned_and_mirrored(tmp_path: Path, turn: str) -> None:
    phone = Phone(matrix=TURNS[turn])
    check(masked(phone, tmp_path), phone, 12)


@pytest.mark.parametrize("matrix", [(1, 1, -1, 1), (2, 1, -1, 2)])
def test_other_matrices_are_refused(tmp_path: Path, matrix: tuple[int, int, int, int]) -> None:
    film = Phone(matrix=matrix).write(tmp_path / "a", [f[..., :3] for f in CORNERS])
    with pytest.raises(DataError, match=r"a.mp4: turned by -?\d+ degrees or stretched; re-encode it upright"):
        read_clip(film)


@pytest.mark.parametrize("transfer", ["pq", "hlg"])
def test_hdr_becomes_srgb(tmp_path: Path, transfer: str) -> None:
    phone = Phone(transfer=transfer)
    clip = masked(phone, tmp_path)
    check(clip, phone, 8)  # of the codec and of 10 bits; unmapped it is 80
    assert any("HDR" in note and "sRGB" in note for note in clip.notes)


@pytest.mark.parametrize(
    ("primaries", "light"), [(9, (0.6274, 0.0691, 0.0164)), (12, (0.8225, 0.0332, 0.0171))]
)
def test_wide_colours_become_srgb(tmp_path: Path, primaries: int, light: tuple[float, ...]) -> None:
    """Pure red of BT.709 in the linear light of BT.2020 and of Display P3, in BT.709's transfer."""
    linear = np.array(light)
    coded = np.where(linear < 0.018, 4.5 * linear, 1.099 * linear**0.45 - 0.099)
    picture = np.full((32, 32, 3), 255, np.uint8)
    picture[8:24, 8:24] = np.rint(coded * 255)
    with av.open(str(tmp_path / "a.mov"), "w") as container:
        stream: Any = container.add_stream("libx264rgb", rate=8, options={"crf": "0"})
        stream.width, stream.height, stream.pix_fmt = 32, 32, "rgb24"
        context = stream.codec_context
        context.color_primaries, context.color_trc, context.colorspace = primaries, 1, 0
        for _ in range(3):
            frame: Any = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.color_primaries, frame.color_trc, frame.colorspace = primaries, 1, 0
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    mask = np.where(picture.min(-1) < 255, 255, 0).astype(np.uint8)
    clip = read_clip(tmp_path / "a.mov", put(tmp_path / "masks", [mask] * 3))
    red = clip.rgb[:, 10:22, 10:22].flatten(0, 2) * 255
    assert (red - torch.tensor([255.0, 0, 0])).abs().max() <= 3
    assert clip.rgb[:, :6].min() > 0.98
    assert "mapped to those of sRGB" in clip.notes[0]


def test_transfers_that_are_not_known_are_refused(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = _stream(container, "libx264", "yuv444p", (32, 32))
        stream.codec_context.color_trc = 9
        for _ in range(3):
            frame: Any = av.VideoFrame.from_ndarray(CORNERS[0][:32, :32, :3].copy(), format="rgb24")
            frame = frame.reformat(format="yuv444p")
            frame.color_trc = 9
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(DataError, match=r"a.mp4: its colours are log100.*convert it to BT.709"):
        read_clip(tmp_path / "a.mp4")


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
def test_uneven_times_are_kept(tmp_path: Path, suffix: str) -> None:
    phone = Phone(stamps=UNEVEN_MS, suffix=suffix)
    clip = masked(phone, tmp_path)
    check(clip, phone, 12)
    assert any("0.04 to 0.96 s apart and keep their own times" in note for note in clip.notes)


@pytest.mark.parametrize("rate", [24, 25, 30, 60, Fraction(30000, 1001)])
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi"])
def test_constant_rates_are_even(tmp_path: Path, rate: Any, suffix: str) -> None:
    """Whatever their containers round the time stamps to."""
    with av.open(str(tmp_path / f"a.{suffix}"), "w") as container:
        stream: Any = container.add_stream("mpeg4", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for _ in range(40):
            container.mux(
                stream.encode(av.VideoFrame.from_ndarray(CORNERS[0][:32, :32, :3].copy(), format="rgb24"))
            )
        container.mux(stream.encode(None))
    mask = np.zeros((32, 32), np.uint8)
    mask[8:24, 8:24] = 255
    assert read_clip(tmp_path / f"a.{suffix}", put(tmp_path / "masks", [mask] * 40)).clock is None


def test_a_gif_with_delays_of_its_own(tmp_path: Path) -> None:
    pictures = [Image.fromarray(frame) for frame in CORNERS]
    pictures[0].save(
        tmp_path / "a.gif",
        save_all=True,
        append_images=pictures[1:],
        disposal=2,
        duration=[100, 100, 400, 100, 300, 100],
    )
    assert torch.allclose(read_clip(tmp_path / "a.gif").times, torch.tensor([0, 0.1, 0.2, 0.6, 0.7, 1.0]))


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_the_film_is_read_and_not_the_cover(tmp_path: Path, suffix: str) -> None:
    phone = Phone(cover=True, sound=True, suffix=suffix)
    clip = masked(phone, tmp_path)
    check(clip, phone, 12)
    assert any("of 2 video streams, number 1 is read (96x64, 6 frames)" in note for note in clip.notes)
    assert count_frames(tmp_path / f"film.{suffix}") == T


def test_two_films_of_one_size_are_refused(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        for stream in [_stream(container, "mpeg4", "yuv420p", (H, W)) for _ in range(2)]:
            for frame in CORNERS:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame[..., :3].copy(), format="rgb24")))
            container.mux(stream.encode(None))
    with pytest.raises(DataError, match=r"a.mp4: holds 2 films of one size and length; keep one .*ffmpeg"):
        read_clip(tmp_path / "a.mp4")


def test_all_of_it_together(tmp_path: Path) -> None:
    phone = Phone(stamps=UNEVEN_MS, matrix=TURNS["anti-transpose"], transfer="hlg", sound=True, cover=True)
    check(masked(phone, tmp_path), phone, 8)


# ---- files that are odd, and files that are not what they are called ----


def put(folder: Path, pictures: Sequence[Pixels], names: str = "{}.png") -> Path:
    folder.mkdir(parents=True)
    for n, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / names.format(n))
    return folder


MASKS = [frame[..., 3] for frame in CORNERS]


def _matroska(path: Path, tag: str, start_ms: int = 0) -> Path:
    """A film whose tag DURATION says `tag`."""
    phone = Phone(codec="mpeg4", suffix="mkv", stamps=[start_ms + ms for ms in EVEN_MS])
    path = Phone(codec="libx264", suffix="mkv", stamps=phone.stamps).write(path, [f[..., :3] for f in CORNERS])
    data = path.read_bytes()
    place = data.rindex(b"DURATION")
    value = data.index(b"\x44\x87", place)  # the element TagString, its size in one byte
    length = data[value + 2] & 0x7F
    assert data[value + 3 : value + 5] == b"00"
    new = tag.encode()[:length].ljust(length, b"\0")
    path.write_bytes(data[: value + 3] + new + data[value + 3 + length :])
    return path


@pytest.mark.parametrize("tag", ["unknown", "N/A", "", "1:2", "00:00", "-1:00:00", "99:59:59.0", "1e9:0:0"])
def test_a_duration_that_is_no_time(tmp_path: Path, tag: str) -> None:
    film = _matroska(tmp_path / "a", tag)
    assert len(read_clip(film, put(tmp_path / "masks", MASKS))) == T


@pytest.mark.parametrize("tag", ["00:00:05.750000000", "00:00:00.750000000"])
def test_a_film_that_starts_late_is_whole(tmp_path: Path, tag: str) -> None:
    """Programs count the length from 0 or from the first frame."""
    film = _matroska(tmp_path / "a", tag, start_ms=5000)
    assert len(read_clip(film, put(tmp_path / "masks", MASKS))) == T


@pytest.mark.parametrize("after", [b"\r\n", b"\0\0", b"made by hand;", b"\xff" * 54, b"GIF89a;"])
def test_bytes_after_the_end_of_a_gif(tmp_path: Path, after: bytes) -> None:
    pictures = [Image.fromarray(frame) for frame in CORNERS]
    path = tmp_path / "a.gif"
    pictures[0].save(path, save_all=True, append_images=pictures[1:], disposal=2, duration=100)
    whole = path.read_bytes()
    path.write_bytes(whole + after)
    assert len(read_clip(path)) == T
    for keep in (0.3, 0.6, 0.95):
        path.write_bytes(whole[: int(len(whole) * keep)] + after)
        with pytest.raises(DataError, match=r"a.gif: (a GIF that ends early|not a video, or damaged)"):
            read_clip(path)


def test_titles_that_are_not_utf8(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mov"), "w", format="mov") as container:
        container.metadata["title"] = "Katze XXXX"
        stream: Any = container.add_stream("png", rate=8)
        stream.width, stream.height, stream.pix_fmt = W, H, "rgba"
        for frame in CORNERS:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgba")))
        container.mux(stream.encode(None))
    data = (tmp_path / "a.mov").read_bytes()
    assert data.count(b"XXXX") == 1
    (tmp_path / "a.mov").write_bytes(data.replace(b"XXXX", b"\xe4\xf6\xfc\xff"))
    assert len(read_clip(tmp_path / "a.mov")) == T


def test_a_codec_nobody_knows(tmp_path: Path) -> None:
    film = Phone().write(tmp_path / "a", [f[..., :3] for f in CORNERS])
    film.write_bytes(film.read_bytes().replace(b"avc1", b"zzzz"))
    with pytest.raises(DataError, match=r"a.mp4: a codec that this PyAV cannot decode; convert it"):
        read_clip(film)


LISTS: dict[str, Callable[[int], str]] = {
    "m3u8": lambda p: f"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:{p}/a.ts\n#EXT-X-ENDLIST\n",
    "sdp": lambda p: f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=a\nc=IN IP4 127.0.0.1\nm=video {p} RTP/AVP 96\n",
    "ffconcat": lambda p: f"ffconcat version 1.0\nfile 'http://127.0.0.1:{p}/a.mp4'\n",
    "mpd": lambda p: f"<?xml version='1.0'?><MPD><BaseURL>http://127.0.0.1:{p}/</BaseURL></MPD>",
    "bom": lambda p: f"\ufeff#EXTM3U\nhttp://127.0.0.1:{p}/a.ts\n",
}


@pytest.mark.parametrize("suffix", ["mp4", "gif", "m3u8"])
@pytest.mark.parametrize("kind", LISTS)
def test_a_list_of_addresses_opens_no_connection(tmp_path: Path, kind: str, suffix: str) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        server.settimeout(0)
        path = tmp_path / f"a.{suffix}"
        path.write_text(LISTS[kind](server.getsockname()[1]), encoding="utf-8")
        for read in (read_clip, count_frames):
            with pytest.raises(DataError, match=rf"a.{suffix}: .*; give an mp4, mov, webm, mkv, avi or gif"):
                read(path)
        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.mark.parametrize("name", ["http://127.0.0.1/a.mp4", "file:a.mp4", "concat:a.mp4|b.mp4", "pipe:0"])
def test_addresses_are_names_of_files_that_are_not_there(name: str) -> None:
    with pytest.raises(DataError, match="no such file; check the path"):
        read_clip(Path(name))
