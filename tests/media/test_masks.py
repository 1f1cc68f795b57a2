"""Masks and alpha: paired by number, white on the object, and refused where they are something else."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from mvtokenflow.base.errors import DataError
from mvtokenflow.base.files import frame_files, frame_numbers
from mvtokenflow.media.pictures import Pixels, write_png
from mvtokenflow.media.video import read_clip
from mvtokenflow.multiview.config import SquareConfig
from mvtokenflow.multiview.preprocess import square_clip

SIZE, T = 64, 6


def disc(n: int, radius: float = 10) -> Pixels:
    """(SIZE, SIZE): 255 on a disc that moves 4 pixels a frame."""
    y, x = np.mgrid[:SIZE, :SIZE]
    return np.where((x - 20 - 4 * n) ** 2 + (y - 32) ** 2 < radius**2, 255, 0).astype(np.uint8)


MASKS = [disc(n) for n in range(T)]
COLOURS = np.random.default_rng(0).integers(0, 256, (T, SIZE, SIZE, 3), dtype=np.uint8)


def put(
    folder: Path, pictures: Sequence[Pixels], numbers: Sequence[int] | None = None, names: str = "{}.png"
) -> Path:
    folder.mkdir(parents=True)
    for n, picture in zip(numbers or range(len(pictures)), pictures, strict=True):
        Image.fromarray(picture).save(folder / names.format(n))
    return folder


def rgba(alpha: Sequence[Pixels]) -> list[Pixels]:
    return [np.dstack((colour, level)) for colour, level in zip(COLOURS, alpha, strict=False)]


def film(path: Path, frames: Sequence[Pixels]) -> Path:
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=8)
        stream.width, stream.height, stream.pix_fmt = SIZE, SIZE, "yuv420p"
        for frame in frames:
            three = np.repeat(frame[..., None], 3, -1) if frame.ndim == 2 else frame
            container.mux(
                stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(three), format="rgb24"))
            )
        container.mux(stream.encode(None))
    return path


# ---- numbers ----


@pytest.mark.parametrize(
    ("frames", "masks", "says"),
    [
        ((0, 1, 2, 4, 5), (0, 1, 3, 4, 5), "frame 2 has no mask and mask 3 has no frame"),
        (
            (0, 1, 2, 3),
            (0, 1, 2),
            "3 masks for the 4 frames of .*rgb; give one .*: frame 3 has no mask",
        ),
        ((0, 1, 2), (0, 1, 2, 3), "4 masks for the 3 frames of .*: mask 3 has no frame"),
        ((0, 1, 2, 3), (2, 3, 4, 5), "frame 0, 1 has no mask and mask 4, 5 has no frame"),
        ((0, 2, 4), (0, 1, 2), "frame 4 has no mask and mask 1 has no frame"),
        ((0, 1, 3), (1, 2, 4), "frame 0, 3 has no mask"),
    ],
)
def test_masks_of_other_numbers(tmp_path: Path, frames: list[int], masks: list[int], says: str) -> None:
    pictures = put(tmp_path / "rgb", list(COLOURS[: len(frames)]), frames)
    given = put(tmp_path / "masks", MASKS[: len(masks)], masks)
    with pytest.raises(
        DataError, match=f"masks: .*give one each under the frame's number: .*|{says}"
    ) as caught:
        read_clip(pictures, given)
    assert re.search(says, str(caught.value))


@pytest.mark.parametrize("first", [(0, 1), (1, 0)])
def test_counting_from_1_beside_0_is_said(tmp_path: Path, first: tuple[int, int]) -> None:
    pictures = put(tmp_path / "rgb", list(COLOURS), range(first[0], first[0] + T))
    clip = read_clip(pictures, put(tmp_path / "masks", MASKS, range(first[1], first[1] + T)))
    assert (clip.alpha[..., 0].numpy() * 255 == np.stack(MASKS)).all()
    assert f"masks: numbered from {first[1]}, the frames of" in clip.notes[0]


@pytest.mark.parametrize("first", [0, 1, 5])
def test_masks_of_a_video_count_from_0_or_1(tmp_path: Path, first: int) -> None:
    source = film(tmp_path / "a.mp4", [COLOURS[0]] * T)
    masks = put(tmp_path / "masks", MASKS, range(first, first + T))
    if first > 1:
        with pytest.raises(DataError, match=r"frame 0, 1, 2 ... has no mask and mask 6, 7, 8 ... has no frame"):
            read_clip(source, masks)
    else:
        assert len(read_clip(source, masks).notes) == first


def test_a_mask_video_for_numbered_frames(tmp_path: Path) -> None:
    masks = film(tmp_path / "m.mp4", MASKS)
    assert len(read_clip(put(tmp_path / "a", list(COLOURS)), masks)) == T
    with pytest.raises(DataError, match=r"m.mp4: 6 masks for the 6 frames of .*: frame 6 has no mask"):
        read_clip(put(tmp_path / "b", list(COLOURS), (0, 1, 2, 3, 4, 6)), masks)
    with pytest.raises(DataError, match=r"m.mp4: 6 masks for the 5 frames of"):
        read_clip(put(tmp_path / "c", list(COLOURS[:5])), masks, stop=3)


def test_a_gap_in_the_numbers_is_a_gap_in_time(tmp_path: Path) -> None:
    clip = read_clip(put(tmp_path / "clip", rgba(MASKS[:4]), (0, 1, 2, 5)))
    assert torch.allclose(clip.times, torch.tensor([0, 0.2, 0.4, 1.0]))
    assert "frames are 1 to 3 numbers apart and keep their own times" in clip.notes[0]
    for n, numbers in enumerate([(0, 2, 4, 6), (7, 8, 9, 10)]):
        assert read_clip(put(tmp_path / str(n), rgba(MASKS[:4]), numbers)).clock is None


# ---- names ----


@pytest.mark.parametrize(
    "names",
    [
        "frame_{:04d}.png",
        "{}_rgba.png",
        "{:05d}.PNG",
        "cam0_{}.png",
        "a{}b.Png",
        "cat-{}.png",
        "shot 3 ({}).png",
    ],
)
def test_other_names_with_one_number(tmp_path: Path, names: str) -> None:
    folder = put(tmp_path / "clip", rgba(MASKS), range(7, 7 + T), names)
    assert frame_numbers(frame_files(folder)) == list(range(7, 7 + T))
    assert torch.equal(read_clip(folder).alpha[..., 0], torch.from_numpy(np.stack(MASKS)).float() / 255)


@pytest.mark.parametrize(
    "names",
    [
        ["a_1_10.png", "a_2_20.png"],
        ["t0.25.png", "t0.5.png"],
        ["-2.png", "-1.png"],
        ["0.png", "1.png", "-1.png"],
        ["a.png", "b.png"],
        ["frame_0.png", "other_1.png"],
        ["0.png", "1.png", "frame_2.png"],
        ["frame_0.png", "frame_1.png", "frame_2.png", "notes.png"],
        ["1.png", "01.png", "2.png"],
        ["frame_1.png", "frame_001.png"],
        ["0.png", "0.PNG", "1.png"],
    ],
)
def test_names_whose_number_is_not_plain(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        write_png(tmp_path / name, rgba(MASKS)[0]) if name.lower().endswith("png") else (
            tmp_path / name
        ).touch()
    for read in (frame_files, read_clip):
        with pytest.raises(DataError, match=r"(move it out|name the frames <n>.png, e.g.|remove one)"):
            read(tmp_path)


def test_jpeg_frames_need_masks_and_are_turned(tmp_path: Path) -> None:
    frames = tmp_path / "jpg"
    frames.mkdir()
    smooth = ndimage.gaussian_filter(COLOURS[0].astype(float), (4, 4, 0)).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 2  # mirrored
    for n in range(T):
        Image.fromarray(smooth).save(frames / f"{n:05d}.jpg", quality=95, exif=exif)
        Image.fromarray(MASKS[n]).save(tmp_path / f"m{n}.jpg", quality=90)
    with pytest.raises(DataError, match="jpg: no alpha channel"):
        read_clip(frames)
    clip = read_clip(frames, put(tmp_path / "masks", MASKS))
    assert np.abs(clip.rgb[0].numpy() * 255 - smooth[:, ::-1]).max() < 12
    with pytest.raises(DataError, match=r"a JPEG where <integer>.png is expected; convert all to PNG"):
        frame_files(frames)
    (frames / "00002.jpg").write_bytes((frames / "00001.jpg").read_bytes()[:300])
    with pytest.raises(DataError, match=r"00002.jpg: damaged JPEG \(.*\); copy or render it again"):
        read_clip(frames, tmp_path / "masks")


def test_jpeg_masks_are_cleaned(tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    masks.mkdir()
    for n, mask in enumerate(MASKS):
        Image.fromarray(mask).save(masks / f"{n}.jpg", quality=90)
    alpha = read_clip(put(tmp_path / "rgb", list(COLOURS)), masks).alpha
    assert (alpha[:, :4] == 0).all()
    assert float((alpha == 1).float().mean()) > 0.05


# ---- levels ----


def _noise(alpha: Pixels, n: int) -> Pixels:
    return np.where(alpha == 0, np.random.default_rng(n).integers(0, 5, alpha.shape), alpha).astype(np.uint8)


LEVELS: dict[str, tuple[Callable[[Pixels], Pixels], str]] = {
    "label 1": (lambda m: m // 255, "masks hold 0 and 1, expected 0 and 255; multiply"),
    "label 2": (lambda m: m // 255 * 2, "masks hold levels up to 2, expected 0 and 255"),
    "128": (lambda m: m // 255 * 128, "masks hold levels up to 128, expected 0 and 255"),
    "200": (lambda m: m // 255 * 200, "masks hold levels up to 200, expected 0 and 255"),
    "void border": (
        lambda m: np.where(ndimage.minimum_filter(m, 3) > 0, 1, m).astype(np.uint8),
        r"areas of the masks have level 1, expected 0 and 255 \(object",
    ),
    "two objects": (
        lambda m: np.where(np.arange(SIZE) < 30, m // 2, m).astype(np.uint8),
        "areas of the masks have level 127, expected 0 and 255",
    ),
    "inverted": (lambda m: 255 - m, "most of its rim in every frame; is it inverted"),
    "inverted, object below": (
        lambda m: 255 - np.where(np.arange(SIZE)[:, None] > 60, 255, m).astype(np.uint8),
        "touches all four|most of its rim",
    ),
    "all 254": (lambda m: np.full_like(m, 254), r"opaque everywhere \(at least 254 of 255\)"),
    "30 behind": (lambda m: np.maximum(m, 30), r"areas of the masks have level 30|alpha is never 0"),
}


def said(source: Path, masks: Path) -> str:
    """The sentence that refuses the masks, or the notes on them."""
    try:
        return " ".join(read_clip(source, masks).notes)
    except DataError as error:
        return str(error)


@pytest.mark.parametrize("case", LEVELS)
def test_masks_that_are_no_masks(tmp_path: Path, case: str) -> None:
    change, says = LEVELS[case]
    masks = put(tmp_path / "masks", [change(mask) for mask in MASKS])
    assert re.search(says, said(put(tmp_path / "rgb", list(COLOURS)), masks))


@pytest.mark.parametrize(
    "case", sorted(set(LEVELS) - {"void border"})
)  # of which a lossy codec leaves nothing to see
def test_mask_videos_that_are_no_masks(tmp_path: Path, case: str) -> None:
    masks = film(tmp_path / "masks.mp4", [LEVELS[case][0](mask) for mask in MASKS])
    found = said(put(tmp_path / "rgb", list(COLOURS)), masks)
    assert re.search("expected 0 and 255|no object|inverted|opaque everywhere|is never 0", found)


@pytest.mark.parametrize("case", ["inverted", "all 254"])
def test_alpha_that_is_none(tmp_path: Path, case: str) -> None:
    change, says = LEVELS[case]
    with pytest.raises(DataError, match=says):
        read_clip(put(tmp_path / "clip", rgba([change(mask) for mask in MASKS])))


@pytest.mark.parametrize("given", ["alpha", "masks"])
def test_what_is_nearly_transparent_does_not_widen_the_crop(tmp_path: Path, given: str) -> None:
    noisy = [_noise(mask, n) for n, mask in enumerate(MASKS)]
    clean = read_clip(put(tmp_path / "clean", rgba(MASKS)))
    if given == "alpha":
        clip = read_clip(put(tmp_path / "noise", rgba(noisy)))
    else:
        clip = read_clip(put(tmp_path / "rgb", list(COLOURS)), put(tmp_path / "masks", noisy))
    assert torch.equal(clip.alpha, clean.alpha)
    config = SquareConfig(size=64, crop_size=56)
    assert square_clip(clip, config).crops == square_clip(clean, config).crops
    assert "alpha up to 15 of 255 far from the object is taken for 0" in clip.notes[0]
    assert not clean.notes


def test_soft_edges_are_left_alone(tmp_path: Path) -> None:
    soft = [ndimage.gaussian_filter(mask.astype(float), 1.5).round().astype(np.uint8) for mask in MASKS]
    clip = read_clip(put(tmp_path / "clip", rgba(soft)))
    assert (clip.alpha[..., 0].numpy() * 255 == np.stack(soft)).all()
    assert not clip.notes
    masked = read_clip(put(tmp_path / "rgb", list(COLOURS)), put(tmp_path / "masks", soft))
    assert torch.equal(masked.alpha, clip.alpha)


def test_frames_without_object_or_background_are_named(tmp_path: Path) -> None:
    for n, (level, says) in enumerate([(3, "0 everywhere"), (255, "0 nowhere")]):
        masks = [*MASKS[:3], np.full_like(MASKS[0], level), *MASKS[4:]]
        with pytest.raises(
            DataError, match=rf"3.png: alpha is {says}, no .* in 1 of 6 frames; .*remove these frames"
        ):
            read_clip(put(tmp_path / str(n), rgba(masks)))
