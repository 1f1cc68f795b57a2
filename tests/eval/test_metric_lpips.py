"""LPIPS: the lpips package, torchmetrics, stored values; that following the object changes no number."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import lpips as lpips_package
import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image, ImageFilter
from torch.nn import functional as F
from torchmetrics.functional.image import lpips as torchmetrics_lpips

from mvtokenflow.base.errors import ConfigError, DataError, WeightsCorruptError, WeightsMissingError
from mvtokenflow.eval.metrics.compute import vgg, winograd
from mvtokenflow.eval.metrics.compute.lpips import InputRange, LpipsNetwork, Net
from mvtokenflow.eval.metrics.compute.resize import squash
from mvtokenflow.weights import ledger as weights

Pixels = npt.NDArray[np.uint8]
State = dict[str, torch.Tensor]
Colour = tuple[int, int, int]
WHITE, BLUE = (255, 255, 255), (30, 60, 200)

_CONVOLUTIONS: dict[Net, list[tuple[int, int, int, int]]] = {
    "alex": [(0, 3, 64, 11), (3, 64, 192, 5), (6, 192, 384, 3), (8, 384, 256, 3), (10, 256, 256, 3)],
    "vgg": [
        (index, (3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512)[k], out, 3)
        for k, (index, out) in enumerate(
            zip(
                (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28),
                (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512),
                strict=True,
            )
        )
    ],
}


def random_state(net: Net) -> State:
    """Seeded weights that keep activations of order one through the depth."""
    generator = torch.Generator().manual_seed(0)
    state = {}
    for index, channels, out, side in _CONVOLUTIONS[net]:
        scale = (2 / (channels * side * side)) ** 0.5
        state[f"features.{index}.weight"] = torch.randn(out, channels, side, side, generator=generator) * scale
        state[f"features.{index}.bias"] = torch.randn(out, generator=generator) * 0.1
    taps = (0, 3, 6, 8, 10) if net == "alex" else (2, 7, 14, 21, 28)
    for k, tap in enumerate(taps):
        width = len(state[f"features.{tap}.bias"])
        state[f"lin{k}.model.1.weight"] = torch.rand(1, width, 1, 1, generator=generator)
    return state


@pytest.fixture(scope="module")
def random_vgg() -> LpipsNetwork:
    return LpipsNetwork("vgg", random_state("vgg"))


@pytest.fixture(scope="module")
def random_dense_vgg() -> LpipsNetwork:
    return LpipsNetwork("vgg", random_state("vgg"), dense=True)


@pytest.fixture(scope="module")
def random_alex() -> LpipsNetwork:
    return LpipsNetwork("alex", random_state("alex"))


@pytest.fixture(scope="module")
def real() -> Callable[[Net], LpipsNetwork]:
    """The network with its trained weights."""

    def build(net: Net) -> LpipsNetwork:
        try:
            return LpipsNetwork(net, weights.load(f"lpips-{net}"))
        except WeightsMissingError as error:
            pytest.skip(str(error))

    return build


def textured(seed: int, height: int, width: int) -> Pixels:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [127 + 80 * np.sin(x / 9 + c) * np.cos(y / 13 - c + seed) for c in range(3)]
    return np.clip(np.stack(waves, -1) + 15 * rng.standard_normal((height, width, 3)), 0, 255).astype(np.uint8)


Box = tuple[int, int, int, int]


def on_background(picture: Pixels, boxes: list[Box], colour: Colour) -> Pixels:
    """Keep `picture` inside the boxes (top, bottom, left, right)."""
    result = np.empty_like(picture)
    result[:] = colour
    for top, bottom, left, right in boxes:
        result[top:bottom, left:right] = picture[top:bottom, left:right]
    return result


def score(network: LpipsNetwork, pred: Pixels, gt: Pixels) -> npt.NDArray[np.float64]:
    return network.per_layer(network.features(pred), network.features(gt))


def peer(package: str, net: Net, state: State, low: float = -1.0) -> Callable[[Pixels, Pixels], list[float]]:
    """The same weights in the lpips package or in torchmetrics, fed grey levels from `low` to 1: per layer."""
    module: Any = lpips_package if package == "lpips" else torchmetrics_lpips
    with torch.device("meta"):  # nothing is initialised or downloaded; all weights are assigned below
        if package == "lpips":
            model = module.LPIPS(net=net, pretrained=False, pnet_rand=True, verbose=False)
        else:
            model = module._LPIPS(net=net, pretrained=False, pnet_rand=True)
    model.scaling_layer = module.ScalingLayer()
    named = {}
    for key in model.state_dict():
        if key.startswith("net.slice"):
            named[key] = state["features." + key.split(".", 2)[2]]
        elif key.startswith("lin"):
            number = key.split(".")[1] if key.startswith("lins.") else key[3]
            named[key] = state[f"lin{number}.model.1.weight"]
        else:
            named[key] = model.state_dict()[key]
    model.load_state_dict(named, assign=True, strict=True)

    def run(pred: Pixels, gt: Pixels) -> list[float]:
        x, y = (
            torch.from_numpy(side).permute(2, 0, 1)[None].float() / 255 * (1 - low) + low for side in (pred, gt)
        )
        with torch.inference_mode():
            flag = {"retPerLayer": True} if package == "lpips" else {"retperlayer": True}
            _, layers = model(x, y, **flag)
        return [float(layer) for layer in layers]

    return run


# ---- parity with other implementations


@pytest.mark.parametrize("net", ["vgg", "alex"])
@pytest.mark.parametrize("package", ["lpips", "torchmetrics"])
def test_agrees_with_the_packages(package: str, net: Net) -> None:
    state = random_state(net)
    theirs = peer(package, net, state)
    ours = LpipsNetwork(net, state, norm="outside" if package == "lpips" else "inside")
    pairs = [
        (textured(0, 64, 96), textured(1, 64, 96)),
        (on_background(textured(2, 75, 101), [(20, 45, 30, 60)], WHITE), textured(3, 75, 101)),
        (on_background(textured(4, 64, 64), [(20, 45, 30, 60)], WHITE),) * 2,
    ]
    for pred, gt in pairs:
        # measured: 2e-8 of values up to 0.5 a layer
        np.testing.assert_allclose(score(ours, pred, gt), theirs(pred, gt), atol=5e-7)


def test_zero_to_one_is_the_package_fed_so() -> None:
    state = random_state("alex")
    pred, gt = textured(0, 64, 64), textured(1, 64, 64)
    expected = peer("lpips", "alex", state, low=0.0)(pred, gt)
    found = score(LpipsNetwork("alex", state, input_range="[0,1]", norm="outside"), pred, gt)
    np.testing.assert_allclose(found, expected, atol=5e-7)
    assert abs(found.sum() - score(LpipsNetwork("alex", state), pred, gt).sum()) > 1e-3


@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_stored_values_of_the_original_example(
    shared: Path, real: Callable[[Net], LpipsNetwork], net: Net
) -> None:
    root = shared / "parity" / "lpips_example"
    expected = json.loads((root / "expected.json").read_text())["values"][f"{net}_v0.1"]
    network = real(net)
    ref, p0, p1 = (
        network.features(np.asarray(Image.open(root / f"ex_{name}.png").convert("RGB")))
        for name in ("ref", "p0", "p1")
    )
    assert network.distance(ref, p0) == pytest.approx(expected["ref_p0"], abs=1e-6)
    assert network.distance(ref, p1) == pytest.approx(expected["ref_p1"], abs=1e-6)
    np.testing.assert_allclose(network.per_layer(ref, p0), expected["per_layer_ref_p0"], atol=1e-6)
    black, white = (network.features(np.full((64, 64, 3), level, np.uint8)) for level in (0, 255))
    assert network.distance(black, white) == pytest.approx(expected["black_white_64px"], abs=1e-6)


def _frames(root: Path, name: str, view: int, every: int) -> list[tuple[Pixels, Pixels, int]]:
    folder = root / "gt" / name / f"eval_{view}"
    count = len(list(folder.glob("*.png")))
    pairs = []
    for frame in range(0, count, every):
        sides = [root / side / name / f"eval_{view}" / f"{frame}.png" for side in ("pred", "gt")]
        pred, gt = (squash(Image.open(side), (512, 512)) for side in sides)
        pairs.append((pred, gt, frame))
    return pairs


# views 2 of bluejay and 3 of trexpale have noisy predicted backgrounds, view 2 of trex a grey one
@pytest.mark.parametrize(("name", "view"), [("bluejay", 2), ("trex", 0), ("trex", 2), ("trexpale", 3)])
def test_stored_values_of_the_published_script(
    shared: Path, real: Callable[[Net], LpipsNetwork], name: str, view: int
) -> None:
    root = shared / "parity" / "metrics_c4d"
    expected = json.loads((root / "expected.json").read_text())["per_frame"]["lpips"][name][view]
    network = real("vgg")
    for pred, gt, frame in _frames(root, name, view, every=17):
        # measured: 3e-8 at most
        assert score(network, pred, gt).sum() == pytest.approx(expected[frame], abs=5e-7)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bluejay", "trex", "trexpale"])
def test_all_stored_values_of_the_published_script(
    shared: Path, real: Callable[[Net], LpipsNetwork], name: str
) -> None:
    root = shared / "parity" / "metrics_c4d"
    expected = json.loads((root / "expected.json").read_text())
    networks = real("vgg"), real("alex")
    views: dict[Net, list[float]] = {"vgg": [], "alex": []}
    for view in range(4):
        values = [
            [score(network, pred, gt).sum() for network in networks]
            for pred, gt, _ in _frames(root, name, view, every=1)
        ]
        vgg_values, alex_values = zip(*values, strict=True)
        np.testing.assert_allclose(vgg_values, expected["per_frame"]["lpips"][name][view], atol=5e-7)
        alex = expected["variants_per_view"]["lpips_alex_512"][name][view]
        assert np.mean(alex_values) == pytest.approx(alex, abs=1e-6)
        views["vgg"].append(float(np.mean(vgg_values)))
    assert np.mean(views["vgg"]) == pytest.approx(expected["image_level"]["lpips"][name], abs=1e-6)


# ---- following the object


@pytest.mark.parametrize(("channels", "out"), [(1, 3), (64, 64), (512, 128)])
def test_winograd_is_a_convolution(channels: int, out: int) -> None:
    generator = torch.Generator().manual_seed(1)
    height, width = 13, 10
    x = torch.rand(channels, height, width, generator=generator)
    weight = torch.randn(out, channels, 3, 3, generator=generator) / channels**0.5
    bias = torch.randn(out, generator=generator)
    padded = F.pad(x, (0, 2, 0, 3)).reshape(channels, 4, 4, 3, 4).permute(1, 3, 2, 4, 0)
    data = padded.reshape(12, 16, channels).contiguous().numpy()
    index = np.arange(12, dtype=np.int32).reshape(4, 3)
    places = np.argwhere(index >= 0).astype(np.int32)
    rows, columns = np.zeros(height, np.int32), np.zeros(width, np.int32)
    transformed = np.empty((36, 12, channels), np.float32)
    table = np.full((1, 1, channels), np.nan, np.float32)  # must not be read
    winograd.transform_input(data, index, table, rows, columns, places, transformed)
    products = torch.bmm(torch.from_numpy(transformed), winograd.transform_weight(weight))
    result = np.empty((12, 16, out), np.float32)
    winograd.transform_output(products.numpy(), bias.numpy(), result)
    picture = result.reshape(4, 3, 4, 4, out).transpose(4, 0, 2, 1, 3).reshape(out, 16, 12)
    expected = F.conv2d(x[None].double(), weight.double(), bias.double(), padding=1)[0].relu().numpy()
    # measured: 7e-6 at most, for 512 channels, on values up to 7
    np.testing.assert_allclose(picture[:, :height, :width], expected, atol=2e-5)


FOREGROUNDS: dict[str, list[Box]] = {
    "inside": [(70, 130, 60, 150)],
    "corner": [(0, 20, 0, 14)],
    "opposite corners": [(0, 5, 0, 9), (-6, 9999, -3, 9999)],
    "along an edge": [(0, 9999, -2, 9999)],
    "scattered": [(10, 12, 30, 33), (100, 140, 80, 90), (181, 182, 7, 8), (60, 61, 199, 203)],
    "one pixel": [(97, 98, 113, 114)],
    "nothing": [],
    "everything": [(0, 9999, 0, 9999)],
}
# neither is a multiple of 16; both exceed the 208-223 pixels from which backgrounds are stretched
HEIGHT, WIDTH = 250, 231


@pytest.mark.parametrize("gt_colour", [WHITE, BLUE])
@pytest.mark.parametrize("name", list(FOREGROUNDS))
def test_following_the_object_changes_nothing(
    name: str, gt_colour: Colour, random_vgg: LpipsNetwork, random_dense_vgg: LpipsNetwork
) -> None:
    pred = on_background(textured(5, HEIGHT, WIDTH), FOREGROUNDS[name], WHITE)
    gt = on_background(textured(6, HEIGHT, WIDTH), FOREGROUNDS["inside"], gt_colour)
    tiled, dense = score(random_vgg, pred, gt), score(random_dense_vgg, pred, gt)
    # measured: 6e-9 for equal backgrounds, 6e-8 of 0.5 for different ones
    np.testing.assert_allclose(tiled, dense, atol=3e-7, rtol=1e-6)


@pytest.mark.parametrize("size", [(16, 16), (17, 40), (208, 24), (224, 223), (19, 300)])
def test_every_size(size: tuple[int, int], random_vgg: LpipsNetwork, random_dense_vgg: LpipsNetwork) -> None:
    height, width = size
    boxes = [(height // 3, height // 3 + 5, width // 2, width // 2 + 4)]
    pred = on_background(textured(7, height, width), boxes, WHITE)
    gt = on_background(textured(8, height, width), boxes, BLUE)
    tiled, dense = score(random_vgg, pred, gt), score(random_dense_vgg, pred, gt)
    np.testing.assert_allclose(tiled, dense, atol=3e-7, rtol=1e-6)


def test_a_small_object_needs_little_memory(random_vgg: LpipsNetwork) -> None:
    small = on_background(textured(9, 256, 256), [(100, 120, 100, 120)], WHITE)
    assert random_vgg.features(small).nbytes < 0.15 * random_vgg.features(textured(9, 256, 256)).nbytes


def test_the_feature_layers_are_the_networks(random_vgg: LpipsNetwork) -> None:
    """Each tap, put together from tiles and border, is what plain convolutions give."""
    picture = on_background(textured(10, HEIGHT, WIDTH), FOREGROUNDS["scattered"], BLUE)
    taps = random_vgg.features(picture).tiles
    state = random_state("vgg")
    x = torch.from_numpy(np.stack([random_vgg._table[picture[..., c], c] for c in range(3)]))[None].double()
    for stage, tap in zip(vgg.STAGES, taps, strict=True):
        if stage[0]:
            x = F.max_pool2d(x, 2)
        for index in stage:
            w, b = (state[f"features.{index}.{part}"].double() for part in ("weight", "bias"))
            x = F.conv2d(x, w, b, padding=1).relu()
        height, width = x.shape[2:]
        found = tap.border.table[tap.border.rows[:, None], tap.border.columns[None]]
        for (row, column), tile in zip(tap.places, tap.data, strict=True):
            part = found[row * 4 : row * 4 + 4, column * 4 : column * 4 + 4]
            part[:] = tile.reshape(4, 4, -1)[: part.shape[0], : part.shape[1]]
        assert found.shape[:2] == (height, width)
        scale = float(x.square().mean().sqrt())
        # measured: 6e-6 on values up to 8 at the deepest tap
        np.testing.assert_allclose(found, x[0].permute(1, 2, 0).numpy(), atol=4e-5 * scale)


# ---- what a distance must do


@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_symmetric_and_zero_for_equal_pictures(
    net: Net, random_alex: LpipsNetwork, random_vgg: LpipsNetwork
) -> None:
    network = random_alex if net == "alex" else random_vgg
    pictures = [
        on_background(textured(11, 80, 96), [(20, 50, 30, 60)], WHITE),
        on_background(textured(12, 80, 96), [(0, 30, 30, 96)], BLUE),
        textured(13, 80, 96),
    ]
    features = [network.features(picture) for picture in pictures]
    for a in features:
        for b in features:
            np.testing.assert_array_equal(network.per_layer(a, b), network.per_layer(b, a))
            assert (network.distance(a, b) == 0) == (a is b)
    again = network.features(pictures[0].copy())
    assert network.distance(features[0], again) == 0


@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_more_damage_never_scores_better(net: Net, real: Callable[[Net], LpipsNetwork]) -> None:
    network = real(net)
    gt = on_background(textured(14, 128, 128), [(30, 90, 40, 100)], WHITE)
    wobble = np.random.default_rng(15).standard_normal(gt.shape)
    ladders = {
        "noise": [np.clip(gt + s * wobble, 0, 255).astype(np.uint8) for s in (0, 4, 8, 16, 32, 64)],
        "blur": [np.asarray(Image.fromarray(gt).filter(ImageFilter.GaussianBlur(r))) for r in (0, 1, 2, 4)],
        "shift": [np.roll(gt, step, axis=1) for step in (0, 1, 2, 4, 8, 16)],
    }
    reference = network.features(gt)
    for pictures in ladders.values():
        values = [network.distance(network.features(picture), reference) for picture in pictures]
        assert values == sorted(values)
        assert values[0] == 0
        assert values[1] > 0


def test_threads_change_nothing(random_vgg: LpipsNetwork) -> None:
    pictures = [
        on_background(textured(seed, 96, 128), [(20, 60, 20 + 5 * seed, 90)], WHITE) for seed in range(4)
    ]
    expected = [random_vgg.features(picture) for picture in pictures]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(random_vgg.features, pictures))
    before = torch.get_num_threads()
    torch.set_num_threads(2)  # only the matrix products may use them
    found += [random_vgg.features(picture) for picture in pictures]
    torch.set_num_threads(before)
    for a, b in zip(expected * 2, found, strict=True):
        assert random_vgg.distance(a, b) < 1e-12
        assert random_vgg.distance(b, expected[0]) == pytest.approx(
            random_vgg.distance(a, expected[0]), abs=1e-7
        )


def test_forgetting_a_background_changes_nothing(random_vgg: LpipsNetwork) -> None:
    boxes = [(8, 14, 10, 20)]
    pictures = [on_background(textured(18, 32, 32), boxes, (level, 10, 99)) for level in range(20)]
    first, *rest = [random_vgg.features(picture) for picture in pictures]
    again = random_vgg.features(pictures[0])  # more colours than are kept have passed
    assert random_vgg.distance(first, again) == 0
    assert random_vgg.distance(again, rest[4]) == random_vgg.distance(first, rest[4]) > 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_cuda_gives_the_numbers_of_the_cpu(net: Net) -> None:
    state = random_state(net)
    pred = on_background(textured(16, 96, 128), [(20, 60, 30, 90)], WHITE)
    gt = on_background(textured(17, 96, 128), [(20, 60, 30, 90)], WHITE)
    found = score(LpipsNetwork(net, state, device="cuda"), pred, gt)
    np.testing.assert_allclose(found, score(LpipsNetwork(net, state), pred, gt), atol=1e-6, rtol=1e-5)


# ---- bad inputs


def test_bad_pictures_are_refused(random_vgg: LpipsNetwork, random_alex: LpipsNetwork) -> None:
    picture = textured(18, 64, 64)
    with pytest.raises(DataError, match="uint8"):
        random_vgg.features(picture.astype(np.int16))
    with pytest.raises(DataError, match="needs 16 pixels a side, got 64x15"):
        random_vgg.features(picture[:15])
    with pytest.raises(DataError, match="needs 31 pixels a side, got 30x64"):
        random_alex.features(picture[:, :30])
    whole = random_vgg.features(picture)
    with pytest.raises(DataError, match="64x64 and ground truth 64x60"):
        random_vgg.per_layer(whole, random_vgg.features(picture[:60]))
    with pytest.raises(DataError, match="different LPIPS objects"):
        random_vgg.per_layer(whole, random_alex.features(picture))


def test_bad_weights_and_settings_are_refused() -> None:
    state = random_state("alex")
    with pytest.raises(
        WeightsCorruptError, match=r"'features\.8\.bias' should have shape \(256,\), found none"
    ):
        LpipsNetwork("alex", {name: value for name, value in state.items() if name != "features.8.bias"})
    with pytest.raises(WeightsCorruptError, match=r"'features\.0\.weight'"):
        LpipsNetwork("vgg", state)
    bad: Any = "squeeze"
    with pytest.raises(ConfigError, match="alex or vgg"):
        LpipsNetwork(bad, state)
    bad_range: InputRange | Any = "[0,255]"
    with pytest.raises(ConfigError, match=r"\[0,255\]"):
        LpipsNetwork("alex", state, input_range=bad_range)
