"""Objects in front of plain colours: masks against the truth, edges, and what is no plain colour."""

from collections.abc import Callable
from io import BytesIO

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from mvtokenflow.datasets.toy4d.scenes import render_scene
from mvtokenflow.datasets.toy4d.stream import RADIUS
from mvtokenflow.media import background
from mvtokenflow.media.background import (
    cut_out,
    feathered,
    measure_background,
    object_of,
    straight_colours,
    voted,
)
from mvtokenflow.media.contact_sheet import contact_sheet
from mvtokenflow.media.pictures import Pixels
from mvtokenflow.views.cameras import orbit

SIZE, FRAMES = 192, 2
Array = NDArray[np.float32]
Shown = Callable[[Array, Array], Array]


@pytest.fixture(scope="module")
def toy() -> tuple[Array, Array]:
    """Colours (T, S, S, 3) and alpha (T, S, S, 1) of a toy with a hole between its legs."""
    front = orbit((0.0,), size=SIZE, kind="ortho", radius=RADIUS)
    seen = render_scene("robot-02", front, np.linspace(0, 0.1, FRAMES))
    return seen.rgb[:, 0], seen.alpha[:, 0]


def _on(colour: tuple[float, float, float]) -> Shown:
    return lambda rgb, alpha: rgb * alpha + (1 - alpha) * np.array(colour, np.float32)


def _uneven(rgb: Array, alpha: Array) -> Array:
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    light = (1 - 0.35 * ((x - 0.3) ** 2 + (y - 0.6) ** 2)) * (0.9 + 0.1 * y)
    return np.asarray(rgb * alpha + (1 - alpha) * light[..., None] * (0.93, 0.92, 0.9), np.float32)


def _noisy(rgb: Array, alpha: Array) -> Array:
    grey = _on((0.62, 0.63, 0.64))(rgb, alpha)
    return np.asarray(grey + np.random.default_rng(0).normal(0, 0.02, grey.shape), np.float32)


def _whitish(rgb: Array, alpha: Array) -> Array:
    return _on((1, 1, 1))(0.3 * rgb + 0.7 * np.array((0.9, 0.89, 0.87), np.float32), alpha)


def _pixels(shown: Array) -> Pixels:
    return np.asarray(np.rint(shown.clip(0, 1) * 255), np.uint8)


def _jpeg(frames: Pixels, quality: int) -> Pixels:
    out = []
    for frame in frames:
        stream = BytesIO()
        Image.fromarray(frame).save(stream, "JPEG", quality=quality)
        out.append(np.asarray(Image.open(stream)))
    return np.stack(out)


def _iou(alpha: Pixels, truth: Array) -> float:
    one, other = alpha > 127, truth[..., 0] >= 0.5
    return float((one & other).sum() / (one | other).sum())


@pytest.mark.parametrize(
    "shown",
    [_on((1, 1, 1)), _on((0.5, 0.5, 0.5)), _uneven, _noisy, _whitish],
    ids=["white", "grey", "uneven", "noisy", "whitish"],
)
def test_masks_lie_on_the_truth(toy: tuple[Array, Array], shown: Shown) -> None:
    frames = _pixels(shown(*toy))
    found = measure_background(frames)
    assert found.fault() is None
    alpha = np.stack(list(cut_out(frames, found)))
    assert _iou(alpha, toy[1]) >= 0.97
    solid = toy[1][0, ..., 0] > 0.5
    between_legs = ndimage.binary_erosion(ndimage.binary_fill_holes(solid) & ~solid, iterations=3)
    assert between_legs.sum() > 50
    assert alpha[0][between_legs].max() == 0


def test_compression_is_no_object(toy: tuple[Array, Array]) -> None:
    frames = _jpeg(_pixels(_on((0.96, 0.96, 0.95))(*toy)), 60)
    alpha = np.stack(list(cut_out(frames, measure_background(frames), lossy=True)))
    assert _iou(alpha, toy[1]) >= 0.97
    lossless = np.stack(list(cut_out(frames, measure_background(frames))))
    assert _iou(lossless, toy[1]) < _iou(alpha, toy[1])


@pytest.mark.parametrize(("name", "shown"), [("crab-03", _noisy), ("crab-02", None), ("crab-05", None)])
def test_toys_of_nearly_the_background_s_colours(name: str, shown: Shown | None) -> None:
    """Grey seams between pale and blue on grey; pale rings round black pupils on off-white, as JPEG."""
    front = orbit((0.0,), size=256, kind="ortho", radius=RADIUS)
    seen = render_scene(name, front, np.linspace(0, 2 / 31, 3))
    rgb, truth = seen.rgb[:, 0], seen.alpha[:, 0]
    lossy = shown is None
    frames = _pixels((shown or _on((0.96, 0.96, 0.95)))(rgb, truth))
    frames = _jpeg(frames, 60) if lossy else frames
    alpha = np.stack(list(cut_out(frames, measure_background(frames), lossy=lossy)))
    assert _iou(alpha, truth) >= 0.97


def test_edges_are_soft_and_lose_the_colour_of_the_background(toy: tuple[Array, Array]) -> None:
    rgb, truth = toy[0][0], toy[1][0]
    green = (0.0, 0.7, 0.25)
    frame = _pixels(_on(green)(rgb, truth))
    alpha = feathered(frame, object_of(frame, measure_background(frame[None])))
    edge = (truth[..., 0] > 0.05) & (truth[..., 0] < 0.95)
    assert np.abs(alpha / 255 - truth[..., 0])[edge].mean() < 0.12
    pure = straight_colours(frame, alpha)
    assert (pure[alpha == 255] == frame[alpha == 255]).all()

    def error(colours: Pixels) -> float:
        on_white = colours / 255 * (alpha[..., None] / 255) + 1 - alpha[..., None] / 255
        return float(np.abs(on_white - _on((1, 1, 1))(rgb, truth))[edge].mean())

    assert error(pure) < 0.75 * error(frame)


def test_a_frame_that_differs_from_its_neighbours_is_outvoted() -> None:
    masks = [np.zeros((32, 32), bool) for _ in range(3)]
    for n, mask in enumerate(masks):
        mask[8:24, 6 + 2 * n : 20 + 2 * n] = True
    spoiled = [masks[0], masks[1].copy(), masks[2]]
    spoiled[1][10:14, 10:14] = False
    steps = voted(
        spoiled, lambda source, target: np.full((32, 32, 2), (2.0 * (target - source), 0), np.float32)
    )
    assert all((one == other).all() for one, other in zip(steps, masks, strict=True))
    lost = voted(spoiled, lambda source, target: np.full((32, 32, 2), (2.0, 0), np.float32))
    assert (lost[1] == spoiled[1]).all(), "flow that does not lead back has no vote"


def test_what_is_no_plain_colour_is_named() -> None:
    y, x = np.mgrid[:64, :64]
    scene = np.stack((x * 4, y * 4, (x * y) % 256), axis=-1).astype(np.uint8)[None]
    assert "of the border is of one colour" in str(measure_background(scene).fault())
    plain = np.full((2, 64, 64, 3), 240, np.uint8)
    assert measure_background(plain).fault() is None
    assert measure_background(plain).code == "#f0f0f0"
    assert "0% of the border is of one colour (#0000ff)" in str(measure_background(plain, (0, 0, 255)).fault())
    plain[1] = 60
    assert "changes by" in str(measure_background(plain).fault())
    noise = np.random.default_rng(0).integers(90, 160, (1, 64, 64, 3)).astype(np.uint8)
    assert measure_background(noise).fault() is not None


@pytest.mark.parametrize("word", ["red", "#12345", "#gggggg", ""])
def test_words_that_are_no_colours(word: str) -> None:
    assert background.parsed_colour("#00b140") == (0, 177, 64)
    assert background.parsed_colour("white") == (255, 255, 255)
    with pytest.raises(ValueError, match="is no colour"):
        background.parsed_colour(word)


def test_the_contact_sheet_shows_what_is_kept() -> None:
    frames = np.full((30, 40, 20, 3), (200, 10, 10), np.uint8)
    alpha = np.zeros((30, 40, 20), np.uint8)
    alpha[:, :20] = 255
    sheet = contact_sheet(frames, alpha)
    assert sheet.shape == (3 * 40, 4 * 20, 3)
    assert (sheet[:20, :20] == (200, 10, 10)).all()
    assert set(np.unique(sheet[20:40])) == {205, 235}
