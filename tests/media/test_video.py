"""Pictures and clips: exact reading, exact rounding, video files with and without alpha."""

import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from mvtokenflow.media import video
from mvtokenflow.media.video import (
    Clip,
    composite_white,
    read_clip,
    read_mask,
    read_rgb,
    read_rgba,
    to_uint8,
    write_png,
)

Pixels = NDArray[np.uint8]
T, H, W = 6, 32, 48


def ball(t: int) -> Pixels:
    """(H, W, 4): a red ball on green, moving right; fully transparent around it."""
    y, x = np.mgrid[:H, :W]
    inside = (x - 16 - 2 * t) ** 2 + (y - 14) ** 2 < 100
    rgba = np.zeros((H, W, 4), np.uint8)
    rgba[..., 0], rgba[..., 1], rgba[..., 3] = 40 + 160 * inside, 90, 255 * inside
    return rgba


def write_frames(folder: Path, frames: list[Pixels], names: str = "{}.png") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for n, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / names.format(n))
    return folder


def encode(path: Path, codec: str, pix_fmt: str, frames: list[Pixels], *, rotation: int = 0) -> Path:
    """Write frames with any codec; RGBA where `pix_fmt` has alpha."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = frames[0].shape[1], frames[0].shape[0], pix_fmt
        if rotation:
            stream.set_display_rotation(rotation)
        for frame in frames:
            kind = "rgba" if frame.shape[2] == 4 else "rgb24"
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format=kind)))
        container.mux(stream.encode(None))
    return path


BALLS = [ball(t) for t in range(T)]
RGB_BALLS = [frame[..., :3] for frame in BALLS]


def test_composite_white_is_the_nearest_level_of_the_exact_blend() -> None:
    """All 65536 pairs of colour and alpha against exact fractions."""
    colour, alpha = np.meshgrid(np.arange(256), np.arange(256), indexing="ij")
    rgba = np.stack((colour, colour, colour, alpha), -1).astype(np.uint8)
    white = composite_white(rgba)
    numerator = colour * alpha + 255 * (255 - alpha)  # of a fraction with denominator 255
    assert (np.abs(white[..., 0].astype(int) * 255 - numerator) * 2 <= 255).all()
    assert (white[:, 0] == 255).all()
    assert (white[:, 255, 0] == np.arange(256)).all()


def test_composite_white_agrees_with_the_clip_on_white(tmp_path: Path) -> None:
    rgba = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 4), dtype=np.uint8)
    clip = read_clip(write_frames(tmp_path / "clip", list(rgba)))
    assert (to_uint8(clip.on_background(1.0).numpy()) == composite_white(rgba)).all()


@pytest.mark.parametrize(("channels", "read"), [((), read_mask), ((3,), read_rgb), ((4,), read_rgba)])
def test_pictures_round_trip_and_their_bytes_repeat(
    tmp_path: Path, channels: tuple[int, ...], read: Any
) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (9, 5, *channels), dtype=np.uint8)
    write_png(tmp_path / "a.png", picture)
    write_png(tmp_path / "b.png", np.asfortranarray(picture))
    back = read(tmp_path / "a.png")
    assert back.dtype == np.uint8
    assert (back == picture).all()
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png"]  # no temporary files


def test_float_pictures_are_rounded_to_the_nearest_level(tmp_path: Path) -> None:
    levels = np.array([0.0, 0.49, 0.51, 127.4, 254.51, 255.0, 255.4, -0.4]).reshape(1, 8)
    write_png(tmp_path / "a.png", np.repeat((levels / 255)[..., None], 3, -1))
    assert read_rgb(tmp_path / "a.png")[0, :, 0].tolist() == [0, 0, 1, 127, 255, 255, 255, 0]


def test_masks_may_be_grey_bilevel_or_equal_rgb(tmp_path: Path) -> None:
    mask = BALLS[0][..., 3]
    Image.fromarray(mask).save(tmp_path / "grey.png")
    Image.fromarray(mask).convert("1").save(tmp_path / "bilevel.png")
    Image.fromarray(np.repeat(mask[..., None], 3, -1)).save(tmp_path / "rgb.png")
    for name in ("grey", "bilevel", "rgb"):
        assert (read_mask(tmp_path / f"{name}.png") == mask).all()


def test_interlaced_png_is_read(tmp_path: Path) -> None:
    """The chunk walk must not depend on how pixels are laid out; 8 pixels, Adam7, filter 0, written by hand."""
    import zlib

    row = bytes(range(24))  # 8 RGB pixels in one row; Adam7 passes 1, 2, 4, 6 hold them
    passes = [[0], [4], [2, 6], [1, 3, 5, 7]]
    raw = b"".join(b"\0" + b"".join(row[3 * i : 3 * i + 3] for i in columns) for columns in passes)
    data = b"\x89PNG\r\n\x1a\n"
    header = struct.pack(">IIBBBBB", 8, 1, 8, 2, 0, 0, 1)
    for kind, content in ((b"IHDR", header), (b"IDAT", zlib.compress(raw)), (b"IEND", b"")):
        data += struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    (tmp_path / "a.png").write_bytes(data)
    assert read_rgb(tmp_path / "a.png").tobytes() == row


def test_a_folder_of_rgba_frames(tmp_path: Path) -> None:
    clip = read_clip(write_frames(tmp_path / "ball", BALLS))
    assert (clip.rgb.shape, clip.alpha.shape, clip.name) == ((T, H, W, 3), (T, H, W, 1), "ball")
    assert (clip.rgb.dtype, clip.alpha.dtype) == (torch.float32, torch.float32)
    want = torch.from_numpy(np.stack(BALLS)).float() / 255
    assert torch.equal(torch.cat((clip.rgb, clip.alpha), -1), want)  # straight: colours under alpha 0 are kept
    assert read_clip(write_frames(tmp_path / "ball v1.5", BALLS)).name == "ball v1.5"  # no suffix to cut off


def test_frames_come_in_numeric_order_from_any_first_index(tmp_path: Path) -> None:
    folder = tmp_path / "ball"
    folder.mkdir()
    for n, index in enumerate((2, 10, 100)):
        write_png(folder / f"{index}.png", BALLS[n])
    clip = read_clip(folder)
    assert torch.equal(clip.alpha[1, ..., 0], torch.from_numpy(BALLS[1][..., 3]).float() / 255)


def test_zero_padded_names_hidden_files_spaces_and_unicode(tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "ein Bär — 熊", BALLS, "{:04d}.png")
    (folder / ".DS_Store").write_bytes(b"x")
    clip = read_clip(folder)
    assert (len(clip), clip.name) == (T, "ein Bär — 熊")
    film = encode(tmp_path / "ein Bär: 熊.mov", "qtrle", "argb", BALLS)
    assert len(read_clip(film)) == T


def test_rgb_frames_with_a_folder_of_masks(tmp_path: Path) -> None:
    clip = read_clip(
        write_frames(tmp_path / "rgb", RGB_BALLS), write_frames(tmp_path / "masks", [b[..., 3] for b in BALLS])
    )
    whole = read_clip(write_frames(tmp_path / "rgba", BALLS))
    assert torch.equal(clip.rgb, whole.rgb)
    assert torch.equal(clip.alpha, whole.alpha)


@pytest.mark.parametrize(("start", "stop", "stride", "want"), [(0, None, 1, range(T)), (1, 6, 2, (1, 3, 5))])
@pytest.mark.parametrize("kind", ["folder", "video"])
def test_a_range_of_frames(
    tmp_path: Path, kind: str, start: int, stop: int | None, stride: int, want: list[int]
) -> None:
    source = write_frames(tmp_path / "f", BALLS) if kind == "folder" else tmp_path / "f.mov"
    if kind == "video":
        encode(source, "qtrle", "argb", BALLS)
    clip = read_clip(source, start=start, stop=stop, stride=stride)
    alpha = torch.from_numpy(np.stack([BALLS[n][..., 3] for n in want])).float() / 255
    assert torch.equal(clip.alpha[..., 0], alpha)


@pytest.mark.parametrize(("codec", "pix_fmt", "suffix"), [("qtrle", "argb", "mov"), ("png", "rgba", "mov")])
def test_lossless_video_with_alpha_is_exact(tmp_path: Path, codec: str, pix_fmt: str, suffix: str) -> None:
    frames = [frame.copy() for frame in BALLS]
    for frame in frames:
        frame[:, 0, 3] = 7  # a faint column: not cleaned, since nothing was lost
    clip = read_clip(encode(tmp_path / f"a.{suffix}", codec, pix_fmt, frames))
    want = torch.from_numpy(np.stack(frames)).float() / 255
    assert torch.equal(torch.cat((clip.rgb, clip.alpha), -1), want)


def test_webm_alpha_is_read_and_its_noise_is_removed(tmp_path: Path) -> None:
    clip = read_clip(encode(tmp_path / "a.webm", "libvpx-vp9", "yuva420p", BALLS))
    alpha, want = clip.alpha[..., 0], torch.from_numpy(np.stack([b[..., 3] for b in BALLS])).float() / 255
    assert clip.rgb.shape == (T, H, W, 3)
    # Measured: 0 and 0, where 7 % of the pixels as decoded are neither 0 nor 1.
    assert ((alpha > 0) & (alpha < 1)).float().mean() < 0.01
    assert ((alpha > 0.5) != (want > 0.5)).float().mean() < 0.005


def test_video_with_a_mask_video(tmp_path: Path) -> None:
    film = encode(tmp_path / "a.mp4", "libx264", "yuv420p", RGB_BALLS)
    grey = [np.repeat(b[..., 3:], 3, -1) for b in BALLS]
    clip = read_clip(film, encode(tmp_path / "m.mp4", "libx264", "yuv420p", grey))
    want = torch.from_numpy(np.stack([b[..., 3:] for b in BALLS])).float() / 255
    assert ((clip.alpha > 0.5) != (want > 0.5)).float().mean() < 0.005
    assert (clip.alpha[:, -4:] == 0).all()  # far from the ball: no veil


def test_gif_with_transparency(tmp_path: Path) -> None:
    pictures = [Image.fromarray(frame) for frame in BALLS]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:], disposal=2, duration=100)
    clip = read_clip(tmp_path / "a.gif")
    want = torch.from_numpy(np.stack([b[..., 3:] for b in BALLS])).float() / 255
    assert torch.equal(clip.alpha, want)


def test_a_phone_video_is_turned_upright(tmp_path: Path) -> None:
    """The matrix in the track header turns pixels clockwise: (x, y) -> (−y, x), x right and y down."""
    path = encode(tmp_path / "a.mov", "qtrle", "argb", BALLS)
    data = bytearray(path.read_bytes())
    place = data.index(b"tkhd") + 4 + 40
    unit, one = 1 << 16, 1 << 30
    assert struct.unpack(">9i", data[place : place + 36]) == (unit, 0, 0, 0, unit, 0, 0, 0, one)
    data[place : place + 36] = struct.pack(">9i", 0, unit, 0, -unit, 0, 0, H * unit, 0, one)
    path.write_bytes(data)
    clip = read_clip(path)
    want = np.stack([np.rot90(frame[..., 3], -1) for frame in BALLS])
    assert clip.alpha.shape == (T, W, H, 1)
    assert (clip.alpha[..., 0].numpy() * 255 == want).all()


def test_a_trimmed_video_is_whole(tmp_path: Path) -> None:
    """An edit list hides the first two frames; a count of samples would call this cut off."""
    encode(tmp_path / "a.mov", "qtrle", "argb", BALLS)
    with av.open(str(tmp_path / "a.mov")) as whole, av.open(str(tmp_path / "b.mov"), "w") as trimmed:
        source: Any = whole.streams.video[0]
        stream = trimmed.add_stream_from_template(source)
        for packet in whole.demux(source):
            if packet.pts is None or packet.dts is None:
                continue
            shift = int(Fraction(2, 10) / source.time_base)
            packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, stream
            trimmed.mux(packet)
    clip = read_clip(tmp_path / "b.mov")
    want = np.stack([frame[..., 3] for frame in BALLS[2:]])
    assert (clip.alpha[..., 0].numpy() * 255 == want).all()


def _decoded(path: Path) -> Pixels:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def test_written_video_keeps_colours_and_size(tmp_path: Path) -> None:
    y, x = np.mgrid[:H, : W - 1]  # odd width
    frames = np.stack([np.stack((x * 5 + t, y * 7, 255 - x * 5), -1) for t in range(T)]).astype(np.uint8)
    video.write_video(tmp_path / "a.mp4", frames, 12.5)
    back = _decoded(tmp_path / "a.mp4")
    assert back.shape == (T, H, W, 3)
    error = np.abs(back[:, :, : W - 1].astype(int) - frames)
    assert error.mean() < 4  # measured 2.8 (steep colour ramps, 4:2:0); read with BT.601 it would be 7.1
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert stream.average_rate == Fraction(25, 2)


def test_written_video_repeats_byte_for_byte(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
    for name in ("a.mp4", "b.mp4"):
        video.write_video(tmp_path / name, frames, 10)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "b.mp4"]


def test_real_frames_load(shared: Path) -> None:
    clip = read_clip(shared / "data" / "consistent4d_demo" / "roaring_t-rex")
    assert clip.rgb.shape == (32, 512, 512, 3)
    object_ = (clip.alpha[..., 0] > 0.5).any(0)
    rows, columns = object_.any(1).nonzero()[:, 0].tolist(), object_.any(0).nonzero()[:, 0].tolist()
    # The box of the object over all frames, as documented with the pictures.
    assert (columns[0], rows[0], columns[-1], rows[-1]) == (28, 112, 476, 421)


def test_clip_refuses_shapes_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="clip cat: rgb must be"):
        Clip(rgb=torch.zeros(2, 4, 4, 3), alpha=torch.zeros(2, 4, 4), name="cat")
