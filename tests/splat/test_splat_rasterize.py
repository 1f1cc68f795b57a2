"""The CPU rasterizer against the dense one, finite differences, symmetries of the world, and bad input."""

import inspect
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np
import pytest
import torch
from torch import Tensor

from mvtokenflow.base.errors import ConfigError, DataError
from mvtokenflow.splat import rasterize as module
from mvtokenflow.splat.kernels.simd import LANES, exp_minus, kernel, load, store
from mvtokenflow.splat.rasterize import Backend, RasterizeMode, RenderMode, rasterize
from mvtokenflow.views.cameras import CameraKind

WIDTH, HEIGHT = 45, 38  # no whole number of tiles
THREADS = numba.get_num_threads()
Scene = dict[str, Tensor]


def random_scene(
    seed: int, count: int = 60, views: int = 2, channels: int = 3, dtype: torch.dtype = torch.float64
) -> Scene:
    """Gaussians in a unit ball, cameras around it at distance 3; float64 unless asked."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    poses = torch.eye(4, dtype=torch.float64).repeat(views, 1, 1)
    poses[:, :3, :3] = torch.linalg.qr(normal(views, 3, 3)).Q
    poses[:, :3, :3] *= torch.linalg.det(poses[:, :3, :3])[:, None, None]
    poses[:, :3, 3] = torch.tensor([0.05, -0.1, 3.0], dtype=torch.float64)
    lens = torch.tensor([[40.0, 0, 21.3], [0, 44.0, 18.2], [0, 0, 1]], dtype=torch.float64)
    scene = {
        "means": 0.4 * normal(count, 3),
        "quats": normal(count, 4),
        "scales": torch.exp(0.5 * normal(count, 3) - 2.5),
        "opacities": torch.sigmoid(1.5 * normal(count)),
        "colors": torch.sigmoid(normal(count, channels)),
        "viewmats": poses,
        "Ks": lens.repeat(views, 1, 1),
        "backgrounds": torch.sigmoid(normal(views, channels)),
    }
    return {name: value.to(dtype) for name, value in scene.items()}


def render(scene: Scene, backend: Backend = "cpu", **options: Any) -> tuple[Tensor, Tensor, dict[str, Any]]:
    arguments: dict[str, Any] = {"width": WIDTH, "height": HEIGHT, "backend": backend} | scene | options
    return rasterize(**arguments)


def render_with_gradients(scene: Scene, backend: Backend = "cpu", **options: Any) -> dict[str, Tensor]:
    """Outputs, and gradients of a fixed random weighting of them."""
    leaves = {name: value.detach().clone() for name, value in scene.items()}
    trained = [leaves[name].requires_grad_() for name in leaves if name not in ("viewmats", "Ks")]
    picture, alpha, meta = render(leaves, backend, **options)
    generator = torch.Generator().manual_seed(5)
    weights = [
        torch.randn(part.shape[1:], generator=generator, dtype=torch.float64) for part in (picture, alpha)
    ]
    loss = (picture * weights[0]).sum() + (alpha * weights[1]).sum()
    gradients = torch.autograd.grad(loss, [*trained, meta["means2d"]], allow_unused=True)
    names = [name for name in leaves if leaves[name].requires_grad] + ["means2d"]
    found = {f"d_{name}": value for name, value in zip(names, gradients, strict=True) if value is not None}
    return found | {"render": picture.detach(), "alpha": alpha.detach()}


def assert_close(one: dict[str, Tensor], other: dict[str, Tensor], tolerance: float) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        error = (value - other[name]).abs().max() / other[name].abs().max().clamp_min(1e-12)
        assert error < tolerance, f"{name}: {error:.1e}"


CASES = [
    ("pinhole", "RGB", "classic"),
    ("pinhole", "RGB+ED", "antialiased"),
    ("ortho", "RGB+D", "antialiased"),
    ("ortho", "ED", "classic"),
    ("ortho", "D", "classic"),
]


@pytest.mark.parametrize(("kind", "mode", "smoothing"), CASES)
@pytest.mark.parametrize("channels", [1, 3, 19])
def test_equals_the_dense_rasterizer(
    kind: CameraKind, mode: RenderMode, smoothing: RasterizeMode, channels: int
) -> None:
    scene = random_scene(seed=3, channels=channels)
    if mode in ("D", "ED"):
        scene["backgrounds"] = scene["backgrounds"][:, :1]
    options: dict[str, Any] = {"camera_model": kind, "render_mode": mode, "rasterize_mode": smoothing}
    found = render_with_gradients(scene, "cpu", **options)
    assert_close(found, render_with_gradients(scene, "reference", **options), 1e-10)  # measured 2e-13


@pytest.mark.parametrize(("kind", "mode", "smoothing"), CASES[:4])
def test_gradients_are_finite_differences(kind: CameraKind, mode: RenderMode, smoothing: RasterizeMode) -> None:
    """Along a random direction in every input; the step is too small to meet a jump at a threshold."""
    scene = random_scene(seed=7, count=25)
    if mode == "ED":
        del scene["backgrounds"]
    options: dict[str, Any] = {"camera_model": kind, "render_mode": mode, "rasterize_mode": smoothing}
    gradients = render_with_gradients(scene, **options)
    weights = torch.Generator().manual_seed(5)
    shapes = [gradients[name].shape[1:] for name in ("render", "alpha")]
    weigh = [torch.randn(shape, generator=weights, dtype=torch.float64) for shape in shapes]
    step, generator = 1e-7, torch.Generator().manual_seed(11)
    for name in ("means", "quats", "scales", "opacities", "colors", "backgrounds"):
        if f"d_{name}" not in gradients:
            assert mode == "ED"
            continue
        direction = torch.randn(scene[name].shape, generator=generator, dtype=torch.float64)
        losses = []
        for sign in (1, -1):
            picture, alpha, _ = render(scene | {name: scene[name] + sign * step * direction}, **options)
            losses.append((picture * weigh[0]).sum() + (alpha * weigh[1]).sum())
        numeric = (losses[0] - losses[1]) / (2 * step)
        analytic = (gradients[f"d_{name}"] * direction).sum()
        assert abs(numeric - analytic) < 1e-5 * gradients[f"d_{name}"].norm(), name  # measured 1.5e-7


def test_spherical_harmonics_turn_with_the_view() -> None:
    scene = random_scene(seed=9)
    scene["colors"] = torch.randn(60, 16, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = render_with_gradients(scene, sh_degree=3)
    assert_close(found, render_with_gradients(scene, "reference", sh_degree=3), 1e-10)
    assert not torch.allclose(found["d_means"], render_with_gradients(scene, sh_degree=0)["d_means"])


def test_order_of_the_gaussians_does_not_matter() -> None:
    scene = random_scene(seed=1, dtype=torch.float32)
    shuffle = torch.randperm(60, generator=torch.Generator().manual_seed(2))
    shuffled = {name: value[shuffle] if len(value) == 60 else value for name, value in scene.items()}
    plain, other = render_with_gradients(scene), render_with_gradients(shuffled)
    for name, value in plain.items():
        expected = value[:, shuffle] if name == "d_means2d" else value[shuffle] if len(value) == 60 else value
        assert torch.equal(other[name], expected), name


def test_moving_world_and_cameras_changes_nothing() -> None:
    scene = random_scene(seed=4)
    offset = torch.tensor([3.0, -7.0, 2.0], dtype=torch.float64)
    moved = scene | {"means": scene["means"] + offset, "viewmats": scene["viewmats"].clone()}
    moved["viewmats"][:, :3, 3] -= scene["viewmats"][:, :3, :3] @ offset
    assert_close(render_with_gradients(moved), render_with_gradients(scene), 1e-9)  # measured 2e-14


def test_moving_the_principal_point_moves_the_picture() -> None:
    scene = random_scene(seed=6)
    shifted = scene | {"Ks": scene["Ks"].clone()}
    shifted["Ks"][:, :2, 2] += torch.tensor([5.0, 3.0], dtype=torch.float64)
    plain, _, _ = render(scene, camera_model="ortho")
    other, _, _ = render(shifted, camera_model="ortho")
    torch.testing.assert_close(other[:, 3:, 5:], plain[:, :-3, :-5], rtol=0, atol=1e-12)


def test_cameras_of_one_call_are_independent() -> None:
    scene = random_scene(seed=8, views=3)
    together = render_with_gradients(scene)
    single = [
        render_with_gradients(
            scene | {name: scene[name][view : view + 1] for name in ("viewmats", "Ks", "backgrounds")}
        )
        for view in range(3)
    ]
    for name in ("render", "alpha", "d_means2d", "d_backgrounds"):
        assert torch.equal(together[name], torch.cat([one[name] for one in single])), name
    for name in ("d_means", "d_quats", "d_scales", "d_opacities", "d_colors"):
        torch.testing.assert_close(together[name], sum(one[name] for one in single), rtol=1e-12, atol=1e-12)


@pytest.mark.skipif(THREADS < 2, reason="one thread is all there is")
def test_number_of_threads_does_not_change_a_bit() -> None:
    scene = random_scene(seed=10, count=400, dtype=torch.float32)
    parallel = render_with_gradients(scene)
    numba.set_num_threads(1)
    try:
        serial = render_with_gradients(scene)
    finally:
        numba.set_num_threads(THREADS)
    for name, value in parallel.items():
        assert torch.equal(value, serial[name]), name


def test_calls_from_several_threads_at_once() -> None:
    scene = random_scene(seed=12)
    expected = render_with_gradients(scene)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: render_with_gradients(scene), range(12)):
            assert_close(found, expected, 1e-15)


def test_one_round_gaussian_has_its_closed_form() -> None:
    scene = random_scene(seed=0, count=1, views=1)
    scene["means"] = torch.zeros(1, 3, dtype=torch.float64)
    scene["scales"] = torch.full((1, 3), 0.1, dtype=torch.float64)
    scene["opacities"] = torch.tensor([0.7], dtype=torch.float64)
    scene["viewmats"][:] = torch.eye(4, dtype=torch.float64)
    scene["viewmats"][:, 2, 3] = 3
    scene["Ks"][:] = torch.tensor([[40.0, 0, 20.5], [0, 40.0, 18.5], [0, 0, 1]], dtype=torch.float64)
    picture, alpha, meta = render(scene, camera_model="ortho")
    y, x = torch.meshgrid(torch.arange(HEIGHT) - 18.0, torch.arange(WIDTH) - 20.0, indexing="ij")
    expected = 0.7 * torch.exp(-(x**2 + y**2).double() / (2 * (4.0**2 + 0.3)))
    expected = torch.where(expected >= 1 / 255, expected, 0.0)
    torch.testing.assert_close(alpha[0, ..., 0], expected, rtol=0, atol=1e-14)
    color = alpha * scene["colors"] + (1 - alpha) * scene["backgrounds"][:, None, None]
    torch.testing.assert_close(picture, color, rtol=0, atol=1e-14)
    assert torch.equal(meta["radii"], torch.full((1, 1, 2), 14, dtype=torch.int32))  # 3.2203 σ of 4.0373 pixels


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("count", [0, 5])
def test_nothing_in_sight_is_the_background(count: int, backend: Backend) -> None:
    scene = random_scene(seed=2, count=count)
    scene["means"] = scene["means"] - 100 * scene["viewmats"][0, 2, :3]  # behind the first camera
    for name in ("viewmats", "Ks", "backgrounds"):
        scene[name] = scene[name][:1]
    found = render_with_gradients(scene, backend)
    assert torch.equal(found["render"], scene["backgrounds"][:, None, None].expand_as(found["render"]))
    assert not found["alpha"].any()
    assert all(not value.any() for name, value in found.items() if name not in ("render", "d_backgrounds"))


def test_numbers_that_are_not_finite_stay_where_they_are() -> None:
    """A broken Gaussian is culled, a broken colour shows where it is blended and nowhere else."""
    scene = random_scene(seed=13)
    broken = {name: value.clone() for name, value in scene.items()}
    broken["means"][3, 0], broken["scales"][4, 1], broken["opacities"][5] = torch.nan, torch.inf, torch.nan
    kept = torch.ones(60, dtype=torch.bool)
    kept[3:6] = False
    rest = {name: value[kept] if len(value) == 60 else value for name, value in scene.items()}
    assert torch.equal(render(broken)[0], render(rest)[0])
    scene["colors"][7] = torch.nan
    shown = render(scene)[0].isnan().any(-1)
    assert 0 < int(shown.sum()) < shown.numel() // 2


def test_exponential() -> None:
    @kernel()
    def apply(values: Any, results: Any) -> None:
        for start in range(0, values.size, LANES):
            store(results, start, exp_minus(load(values, start)))

    for dtype, tolerance in ((np.float32, 5e-7), (np.float64, 2e-15)):  # measured 7e-8 and 4e-16
        values = np.linspace(0, 6, 1600).astype(dtype)
        results = np.empty_like(values)
        apply(values, results)
        exact = np.exp(-values.astype(np.float64))
        assert np.abs(results / exact - 1).max() < tolerance


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"backend": "metal"}, ConfigError, "backend is 'metal'; expected one of auto, cpu"),
        ({"camera_model": "fisheye"}, ConfigError, "camera_model is 'fisheye'"),
        ({"render_mode": "depth"}, ConfigError, "render_mode is 'depth'"),
        ({"rasterize_mode": "soft"}, ConfigError, "rasterize_mode is 'soft'"),
        ({"sh_degree": 4}, ConfigError, "sh_degree is 4; expected 0 to 3"),
        ({"width": 0}, ConfigError, "0 x 38 pixels"),
        ({"near_plane": -0.5, "camera_model": "ortho"}, ConfigError, "near_plane is -0.5; expected 0 or more"),
        ({"near_plane": float("nan")}, ConfigError, "near_plane is nan"),
        (
            {
                "viewmats": torch.zeros(0, 4, 4).double(),
                "Ks": torch.zeros(0, 3, 3).double(),
                "backgrounds": None,
            },
            DataError,
            "viewmats holds no camera",
        ),
        ({"backend": "gsplat"}, ConfigError, "runs on CUDA tensors only"),
        (
            {"quats": torch.ones(60, 3).double()},
            DataError,
            r"quats has the shape \(60, 3\); expected \(60, 4\)",
        ),
        ({"colors": torch.ones(59, 3).double()}, DataError, r"colors has the shape \(59, 3\)"),
        ({"backgrounds": torch.ones(2, 4).double()}, DataError, r"backgrounds has the shape \(2, 4\)"),
        ({"sh_degree": 1, "colors": torch.ones(60, 3, 3).double()}, DataError, "K at least 4"),
        ({"scales": torch.ones(60, 3)}, DataError, "scales is torch.float32 on cpu, means is torch.float64"),
        (
            {"viewmats": torch.eye(4).double().repeat(2, 1, 1).requires_grad_()},
            ConfigError,
            "no gradient by the cam",
        ),
    ],
)
def test_bad_input_is_named(change: dict[str, Any], error: type[Exception], words: str) -> None:
    arguments = {"width": WIDTH, "height": HEIGHT} | random_scene(seed=1) | change
    with pytest.raises(error, match=words):
        rasterize(**arguments)


def test_second_backward_passes() -> None:
    """The same graph twice gives the same; a gradient of a gradient is refused, not wrong."""
    scene = random_scene(seed=14)
    scene["means"].requires_grad_()
    picture, _, _ = render(scene)
    first, again = (torch.autograd.grad(picture.sum(), scene["means"], retain_graph=True)[0] for _ in range(2))
    assert first.any()
    assert torch.equal(first, again)
    (slope,) = torch.autograd.grad(picture.square().sum(), scene["means"], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped


def test_half_precision_is_refused() -> None:
    with pytest.raises(DataError, match=r"means is torch.float16; expected float32 or float64"):
        render(random_scene(seed=1, dtype=torch.float16))


def test_gsplat_is_called_by_its_own_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """The arguments fit gsplat's signature (there is no GPU here to run it on)."""
    gsplat = pytest.importorskip("gsplat")
    signature = inspect.signature(gsplat.rasterization)
    calls = []

    def record(*arguments: Any, **options: Any) -> tuple[Tensor, Tensor, dict[str, Any]]:
        calls.append(signature.bind(*arguments, **options).arguments)
        return torch.zeros(0), torch.zeros(0), {"means2d": torch.zeros(1, requires_grad=True) * 1}

    monkeypatch.setattr(gsplat, "rasterization", record)
    scene = random_scene(seed=1)
    names = ("means", "quats", "scales", "opacities", "colors", "viewmats", "Ks")
    _, _, meta = module._with_gsplat(
        *(scene[name] for name in names),
        WIDTH,
        HEIGHT,
        near_plane=0.2,
        far_plane=9.0,
        camera_model="ortho",
        render_mode="RGB+ED",
        backgrounds=scene["backgrounds"],
        rasterize_mode="antialiased",
        eps2d=0.1,
        sh_degree=None,
    )
    (given,) = calls
    assert all(given[name] is scene[name] for name in names)
    assert (given["width"], given["height"], given["near_plane"], given["far_plane"]) == (
        WIDTH,
        HEIGHT,
        0.2,
        9.0,
    )
    assert given["packed"] is False
    assert given["absgrad"] is True
    assert meta["means2d"].retains_grad
