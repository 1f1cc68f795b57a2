"""CUDA against the CPU: rasterizer, field, losses and reconstruction on the same small inputs.

Nothing here is timed. TF32 is off, so that float32 is float32; what remains are orders of sums and the fast
exponentials of gsplat's kernels.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mvtokenflow.splat import losses
from mvtokenflow.splat.config import DensityConfig, FieldConfig
from mvtokenflow.splat.field import DynamicField, render_gaussians
from mvtokenflow.splat.gaussians import GaussianModel
from mvtokenflow.splat.io import load_field, save_field
from mvtokenflow.splat.rasterize import RasterizeMode, RenderMode, rasterize
from mvtokenflow.splat.trainer import reconstruct
from mvtokenflow.splat.training_config import ReconstructionConfig, StageConfig
from mvtokenflow.views.cameras import CameraKind, Cameras, orbit
from mvtokenflow.views.video import MultiviewVideo

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.usefixtures("no_tf32"),
]
DEVICE = "cuda"


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def relative(found: Tensor | None, wanted: Tensor | None) -> float:
    """Error of the whole tensor: root mean square over that of `wanted`."""
    assert found is not None
    assert wanted is not None
    assert found.shape == wanted.shape
    found, wanted = found.detach().double().cpu(), wanted.detach().double().cpu()
    return float((found - wanted).norm() / wanted.norm().clamp_min(1e-12))


# ---- the rasterizer ----

WIDTH, HEIGHT = 45, 38  # no whole number of tiles
COUNT = 80


def cameras(kind: CameraKind) -> Cameras:
    made = orbit((0.0, 70.0, 200.0), 15.0, size=64, kind=kind, radius=3.0)
    scale = WIDTH / 64
    intrinsics = made.intrinsics.clone()
    intrinsics[:, :2] *= scale
    intrinsics[:, 1, 2] = HEIGHT / 2
    return replace(made, intrinsics=intrinsics, width=WIDTH, height=HEIGHT)


def scene(channels: int) -> dict[str, Tensor]:
    return {
        "means": 0.35 * noise(COUNT, 3),
        "quats": noise(COUNT, 4, seed=1),
        "scales": torch.exp(0.4 * noise(COUNT, 3, seed=2) - 2.5),
        "opacities": torch.sigmoid(1.5 * noise(COUNT, seed=3)),
        "colors": torch.sigmoid(noise(COUNT, channels, seed=4)),
        "backgrounds": torch.sigmoid(noise(3, channels, seed=5)),
    }


def close_pictures(found: Tensor, wanted: Tensor, scale: float = 1.0) -> None:
    """Equal to rounding but in a few pixels.

    gsplat's kernels take fast exponentials, with a relative error of about 1e-6. Where a contribution lies at
    the threshold of 1/255, one side skips what the other adds: at most 1/255 of a colour or depth, in a pixel
    that a Gaussian's contour crosses just there.
    """
    error = (found.detach().cpu() - wanted.detach()).abs() / scale
    assert float((error > 1e-4).float().mean()) < 2e-3
    assert float(error.max()) < 2 / 255


# A flipped threshold adds or removes one pixel's part of a gradient; without one, errors are of some 1e-5.
GRADIENT = 5e-3


def rendered(
    given: dict[str, Tensor], kind: CameraKind, device: str, backend: Any, **options: Any
) -> dict[str, Tensor]:
    """Outputs, and gradients of a fixed random weighting of them."""
    leaves: dict[str, Any] = {name: value.to(device).detach().requires_grad_() for name, value in given.items()}
    seen = cameras(kind)
    picture, alpha, meta = rasterize(
        viewmats=seen.world_to_camera.to(device),
        Ks=seen.intrinsics.to(device),
        width=WIDTH,
        height=HEIGHT,
        camera_model=kind,
        backend=backend,
        **leaves,
        **options,
    )
    weights = noise(*picture.shape[1:], seed=6).to(device), noise(*alpha.shape[1:], seed=7).to(device)
    torch.autograd.backward((picture * weights[0]).sum() + (alpha * weights[1]).sum())
    found = {f"d_{name}": leaf.grad for name, leaf in leaves.items() if leaf.grad is not None}
    found |= {"d_means2d": meta["means2d"].grad, "absgrad": meta["means2d"].absgrad}
    assert meta["radii"].shape == (3, COUNT, 2)
    return found | {"picture": picture, "alpha": alpha, "seen": (meta["radii"] > 0).all(-1)}


@pytest.mark.parametrize("kind", ["pinhole", "ortho"])
@pytest.mark.parametrize(
    ("mode", "smoothing", "channels"),
    [("RGB", "antialiased", 3), ("RGB+ED", "classic", 3), ("RGB+ED", "classic", 6), ("RGB+D", "classic", 3)],
)
def test_rasterizer(kind: CameraKind, mode: RenderMode, smoothing: RasterizeMode, channels: int) -> None:
    given = scene(channels)
    options: dict[str, Any] = {"render_mode": mode, "rasterize_mode": smoothing}
    wanted = rendered(given, kind, "cpu", "cpu", **options)
    found = rendered(given, kind, DEVICE, "auto", **options)
    assert torch.equal(found.pop("seen").cpu(), wanted.pop("seen"))
    assert found.keys() == wanted.keys()
    # Depths here are about 3. Expected depth divides by alpha: where that is small, so is what is known.
    solid = wanted["alpha"][..., 0] > 0.05
    close_pictures(found["alpha"], wanted["alpha"])
    close_pictures(found["picture"][..., :channels], wanted["picture"][..., :channels])
    if mode != "RGB":
        depth = [side["picture"].cpu()[..., -1] * solid for side in (found, wanted)]
        scale = 3.0 if mode == "RGB+D" else 60.0  # 3 / 0.05
        close_pictures(depth[0], depth[1], scale)
    for name in wanted:
        if name.startswith(("d_", "abs")):
            assert relative(found[name], wanted[name]) < GRADIENT, name


def moving_field(device: str, sh_degree: int = 2) -> DynamicField:
    """Ellipsoids that control points turn and shift, drawn on the CPU."""
    config = FieldConfig(control_points=12, hyper_dim=2, width=16, depth=6, sh_degree=sh_degree)
    model = GaussianModel(
        means=0.3 * noise(COUNT, 3),
        log_scales=0.3 * noise(COUNT, 3, seed=1) - 2.0,
        quats=noise(COUNT, 4, seed=2),
        logit_opacities=noise(COUNT, seed=3) + 1,
        features_dc=noise(COUNT, 1, 3, seed=4),
        features_rest=0.2 * noise(COUNT, (sh_degree + 1) ** 2 - 1, 3, seed=5),
        hyper=0.01 * noise(COUNT, 2, seed=6),
    )
    field = DynamicField(config, model).with_control_points(generator=torch.Generator().manual_seed(0))
    assert field.control is not None
    network: Any = field.control.network
    with torch.no_grad():
        for index, head in enumerate((network.gaussian_warp, network.local_rotation)):
            head.weight.copy_(0.1 * noise(*head.weight.shape, seed=10 + index))
    return field.to(device)


@pytest.mark.parametrize("kind", ["pinhole", "ortho"])
def test_field(kind: CameraKind) -> None:
    seen = cameras(kind)
    fields = [moving_field(device) for device in ("cpu", DEVICE)]
    renders = [field.render(seen, 0.2, flow_to=0.9) for field in fields]
    wanted, found = renders
    assert found.rgb.device.type == DEVICE
    assert wanted.flow is not None
    assert found.flow is not None
    assert wanted.flow.abs().max() > 0.5
    solid = wanted.alpha.detach() > 0.5
    close_pictures(found.rgb, wanted.rgb)
    close_pictures(found.alpha, wanted.alpha)
    close_pictures(found.depth.cpu() * solid, wanted.depth * solid, 3.0 / 0.5)
    pixels = float(wanted.flow.detach()[solid[..., 0]].abs().max())
    close_pictures(found.flow.cpu() * solid, wanted.flow * solid, pixels / 0.5)
    (normal, valid), (expected, known) = found.normals, wanted.normals
    both = valid.cpu() & known
    assert float((valid.cpu() != known).float().mean()) < 2e-3
    assert (normal.detach().cpu() - expected.detach())[both].abs().mean() < 1e-3
    flow, visible = fields[1].flow(seen, 0.2, 0.9)
    other, agreed = fields[0].flow(seen, 0.2, 0.9)
    assert flow.isfinite().all()
    assert float((visible.cpu() != agreed).float().mean()) < 5e-3
    assert agreed.any()
    close_pictures(flow.detach().cpu() * solid, other.detach() * solid, pixels / 0.5)


@pytest.mark.parametrize("kind", ["pinhole", "ortho"])
@pytest.mark.parametrize("pixel", [0.02, 0.2])
def test_low_pass_of_the_fit(kind: CameraKind, pixel: float) -> None:
    """Pictures finer than the training pixel, and coarser ones, which are averages."""
    seen, fields = cameras(kind), [moving_field(device) for device in ("cpu", DEVICE)]
    renders = []
    for field in fields:
        plain = field.render(seen, 0.2).rgb.cpu()
        field.pixel = pixel
        renders.append(field.render(seen, 0.2, flow_to=0.9))
        assert relative(renders[-1].rgb, plain) > 1e-3
    wanted, found = renders
    solid = wanted.alpha.detach() > 0.5
    assert found.rgb.shape == (3, HEIGHT, WIDTH, 3)
    close_pictures(found.rgb, wanted.rgb)
    close_pictures(found.alpha, wanted.alpha)
    close_pictures(found.depth.cpu() * solid, wanted.depth * solid, 3.0 / 0.5)


def test_gradients_of_a_field() -> None:
    """Through skinning, the network, spherical harmonics, the rasterizer, and all losses at once."""
    seen = cameras("ortho")
    totals, gradients = [], []
    for device in ("cpu", DEVICE):
        field = moving_field(device)
        moments, path = field.moments([0.1, 0.6])
        assert path is not None
        now = render_gaussians(moments[0], seen, flow_to=moments[1].means)
        assert now.flow is not None
        target = noise(*now.rgb.shape, seed=9).sigmoid().to(device)
        normal, valid = now.normals
        up = torch.zeros_like(normal)
        up[..., 2] = 1
        terms = [
            losses.l1(now.rgb, target),
            losses.d_ssim(now.rgb, target),
            losses.mask_loss(now.alpha, target[..., :1]),
            losses.flow_loss(now.flow, torch.zeros_like(now.flow), now.alpha[..., 0] > 0.5, WIDTH),
            losses.normal_loss(normal, up, valid),
            losses.arap(path, losses.arap_edges(path[0].detach())),
        ]
        torch.autograd.backward(sum(terms, torch.zeros(())))
        totals.append(torch.stack([term.detach().cpu() for term in terms]))
        gradients.append({name: value.grad for name, value in field.named_parameters()})
    torch.testing.assert_close(totals[1], totals[0], rtol=2e-3, atol=1e-5)
    wanted, found = gradients
    for name, value in wanted.items():
        if value is not None and value.norm() > 1e-6:
            # Normals are differences of depths: rounding counts there several times over.
            assert relative(found[name], value) < 2e-2, name


def test_losses() -> None:
    picture, target = noise(2, 40, 33, 3).sigmoid(), noise(2, 40, 33, 3, seed=1).sigmoid()
    found = []
    for device in ("cpu", DEVICE):
        leaf = picture.to(device).detach().requires_grad_()
        loss = losses.d_ssim(leaf, target.to(device))
        torch.autograd.backward(loss)
        found.append((loss.detach(), leaf.grad))
    assert abs(float(found[0][0]) - float(found[1][0])) < 1e-5
    assert relative(found[1][1], found[0][1]) < 1e-4
    with torch.no_grad():
        halves = losses.d_ssim(picture.to(DEVICE, torch.float16), target.to(DEVICE, torch.float16))
    assert abs(float(halves) - float(found[0][0])) < 1e-3


def test_skinning() -> None:
    """Means, rotations and scales at several times, and their gradients."""
    times = [0.0, 0.4, 1.0]
    gradients = []
    moved = []
    for device in ("cpu", DEVICE):
        field = moving_field(device)
        moments = field.at_many(times)
        moved.append(torch.stack([torch.cat([m.means, m.quats, m.scales], -1) for m in moments]))
        torch.autograd.backward((moved[-1] * noise(3, COUNT, 10, seed=8).to(device)).sum())
        gradients.append({name: value.grad for name, value in field.named_parameters()})
    torch.testing.assert_close(moved[1].cpu(), moved[0], rtol=1e-4, atol=1e-5)
    for name, value in gradients[0].items():
        if value is not None and value.norm() > 1e-6:
            assert relative(gradients[1][name], value) < 1e-3, name


# ---- reconstruction ----


STEPS = 24


def few(**changes: Any) -> ReconstructionConfig:
    """A tiny reconstruction whose static stage densifies, prunes and resets opacities."""
    density = DensityConfig(
        start=4, stop=20, every=5, grow_gradient=1e-5, max_count=400, reset_every=12, reset_opacity=0.6
    )
    return ReconstructionConfig(
        **{
            "static": StageConfig(iterations=STEPS),
            "density": density,
            "coarse": StageConfig(iterations=STEPS),
            "refine": StageConfig(iterations=STEPS),
            "field": FieldConfig(control_points=16, hyper_dim=2, width=16, depth=6, sh_degree=1),
            "points": 300,
            "opacity": 0.4,
            "times_per_step": 2,
            "background": "random",
            "sh_every": 10,
            **changes,
        }
    )


class StoppedError(Exception):
    """Ends a run at a chosen step, as a kill would."""


def test_reconstruction(toy: MultiviewVideo, tmp_path: Path) -> None:
    """It learns, goes on after a kill, is read when finished, and its file shows the same on a CPU."""
    video, folder = toy.to(DEVICE), tmp_path / "run"

    def stop(name: str, done: int, total: int) -> None:
        if (name, done) in (("static", 18), ("coarse", 11)) and not (tmp_path / f"{name} stopped").exists():
            (tmp_path / f"{name} stopped").touch()
            raise StoppedError

    def once(progress: Any) -> DynamicField:
        draws = torch.Generator().manual_seed(0)
        return reconstruct(video, few(), folder, draws, progress, checkpoint_every=5)

    for _ in range(2):
        with pytest.raises(StoppedError):
            once(stop)
    field = once(stop)
    rows = {
        stage: [json.loads(line) for line in (folder / stage / "losses.jsonl").read_text().splitlines()]
        for stage in ("static", "coarse")
    }
    assert all(np.isfinite(row["loss"]) for stage in rows.values() for row in stage)
    assert rows["static"][-1]["image"] < rows["static"][0]["image"]
    assert rows["static"][-1]["gaussians"] != 300
    assert {"normal", "arap", "flow"} <= set().union(*rows["coarse"])
    assert field.gaussians.means.is_cuda == (DEVICE == "cuda")
    calls: list[str] = []
    again = once(lambda stage, done, total: calls.append(stage))
    assert not calls
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in field.state_dict().items())
    save_field(tmp_path / "field.safetensors", field)
    on_cpu = load_field(tmp_path / "field.safetensors")
    with torch.no_grad():
        close_pictures(field.render(toy.cameras, 0.5).rgb, on_cpu.render(toy.cameras, 0.5).rgb)
    back = load_field(tmp_path / "field.safetensors", DEVICE)
    assert all(torch.equal(value, back.state_dict()[name]) for name, value in field.state_dict().items())
