"""CUDA against the CPU: the multiview network, its sampling and training, and the method end to end.

Gaussians are in `test_cuda_splat`. Nothing here is timed. TF32 is off, so that float32 is float32; what
remains are orders of sums.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import tiny_unet
from torch import Tensor

from mvtokenflow.datasets.toy4d.scenes import render_scene
from mvtokenflow.datasets.toy4d.stream import six_views
from mvtokenflow.flow.keyframes import KeyframeFlow, keyframe_flow, keyframes
from mvtokenflow.media.video import Clip
from mvtokenflow.method.config import mini
from mvtokenflow.method.pipeline import run
from mvtokenflow.multiview.config import SamplingConfig
from mvtokenflow.multiview.prior import MultiviewPrior
from mvtokenflow.multiview.sampler import MultiviewFrames, generate
from mvtokenflow.multiview.unet import MultiviewUNet
from mvtokenflow.small.codec import PatchCodec, place_planes
from mvtokenflow.small.config import small_unet_config
from mvtokenflow.small.prior import load_small_prior, six_cameras
from mvtokenflow.small.schedule import noise_schedule
from mvtokenflow.small.training.config import PriorTraining
from mvtokenflow.small.training.data import Views
from mvtokenflow.small.training.lesson import ViewLesson
from mvtokenflow.small.training.loop import PriorTrainer, clean_loss
from mvtokenflow.splat.training_config import StageConfig
from mvtokenflow.tokenflow.config import TokenFlowConfig
from mvtokenflow.tokenflow.controller import TokenFlow
from mvtokenflow.views.video import MultiviewVideo
from mvtokenflow.workdir.cost import measured, read_costs

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.usefixtures("no_tf32"),
]
DEVICE = "cuda"
VIEWS = 6


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def relative(found: Tensor | None, wanted: Tensor | None) -> float:
    """Error of the whole tensor: root mean square over that of `wanted`."""
    assert found is not None
    assert wanted is not None
    assert found.shape == wanted.shape
    found, wanted = found.detach().double().cpu(), wanted.detach().double().cpu()
    return float((found - wanted).norm() / wanted.norm().clamp_min(1e-12))


# ---- the multiview network ----


def network(**changes: Any) -> MultiviewUNet:
    """A small network with random weights everywhere, also where training starts from zero."""
    sizes = {
        "cross_attention_dim": 8,
        "projection_class_embeddings_input_dim": 4,
        "regress_hidden_dim": 8,
    }
    return tiny_unet(**(sizes | changes))


# In half precision a number has 8 or 11 bits; a chain of about 30 layers keeps errors of some 1e-2.
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 5e-2), (torch.float16, 5e-2)]
)
@torch.no_grad()
def test_network(dtype: torch.dtype, tolerance: float) -> None:
    count = 2 * 2 * VIEWS
    given = (
        noise(count, 6, 8, 8),
        torch.tensor(345),
        noise(count, 5, 8, seed=1),
        noise(count, 4, seed=2),
    )
    unet = network()
    wanted = unet(*given)
    moved = [part.to(DEVICE, dtype) if part.is_floating_point() else part.to(DEVICE) for part in given]
    found = unet.to(DEVICE, dtype)(*moved)
    assert found.sample.device.type == DEVICE
    assert found.sample.dtype == dtype
    assert found.sample.isfinite().all()
    assert relative(found.sample, wanted.sample) < tolerance
    assert relative(found.pose, wanted.pose) < tolerance


# ---- the shipped prior and token flow ----

FRAMES, SIZE = 3, 64
# `generate` makes 2 of the toy's frames without a controller and 3, one between two keyframes, with one.
SAMPLING = SamplingConfig(steps=3, eta=0.0, guidance=1.0, timesteps=(999, 400, 0), chunk=2)


@pytest.fixture(scope="module")
def priors() -> tuple[MultiviewPrior, MultiviewPrior]:
    """The shipped prior on the CPU and on the device."""
    return load_small_prior(), load_small_prior(device=DEVICE)


def front(toy: MultiviewVideo) -> Tensor:
    return toy.rgb[:, 0] * toy.alpha[:, 0] + 1 - toy.alpha[:, 0]


def no_motion(toy: MultiviewVideo, views: tuple[int, ...], device: str) -> KeyframeFlow:
    """The object stands still, and is seen where it is in both frames; a corner of it is hidden."""
    alpha = toy.alpha[:, list(views), ..., 0].to(device)
    hidden = torch.zeros(SIZE, SIZE, dtype=torch.bool, device=device)
    hidden[: SIZE // 2, : SIZE // 2] = True

    def between(n: int, key: int) -> tuple[Tensor, Tensor]:
        seen = (alpha[n] > 0.5) & (alpha[key] > 0.5) & ~hidden
        return torch.zeros(len(views), SIZE, SIZE, 2, device=device), seen

    return keyframe_flow(between, alpha, keyframes(FRAMES, 2), views)


def same_pictures(found: MultiviewFrames, wanted: MultiviewFrames) -> None:
    """Of the device and of the CPU, to less than a level on average."""
    assert found.rgb.device.type == DEVICE
    assert found.rgb.dtype == torch.float32
    for name in ("rgb", "alpha"):
        difference = (getattr(found, name).cpu() - getattr(wanted, name)).abs().mean()
        assert difference < 0.5 / 255, name
    # A normal is a direction: near the edge of the object, where alpha is nearly 0, it may be any.
    solid = wanted.alpha[..., 0] > 0.9
    assert (found.normal.cpu() - wanted.normal)[solid].abs().mean() < 2 / 255


def test_prior(priors: tuple[MultiviewPrior, MultiviewPrior], toy: MultiviewVideo) -> None:
    pictures = [generate(prior, front(toy)[:2], SAMPLING, torch.Generator().manual_seed(0)) for prior in priors]
    assert pictures[0].rgb.shape == (2, VIEWS, SIZE, SIZE, 3)
    same_pictures(pictures[1], pictures[0])


def test_noise_may_be_drawn_on_the_device(
    priors: tuple[MultiviewPrior, MultiviewPrior], toy: MultiviewVideo
) -> None:
    config = replace(SAMPLING, eta=1.0)
    draws = [torch.Generator(DEVICE).manual_seed(seed) for seed in (0, 0, 1)]
    found = [generate(priors[1], front(toy)[:1].to(DEVICE), config, draw).rgb for draw in draws]
    assert (found[0] - found[1]).abs().max() < 1e-3
    assert (found[0] - found[2]).abs().mean() > 1e-4


# Flow of the first pass is estimated on the CPU, that of the second is rendered on the device.
@pytest.mark.parametrize(
    ("propagation", "views", "flow_at"), [("front", (0,), "cpu"), ("all", range(6), DEVICE)]
)
@pytest.mark.parametrize("enlarged", ["keyframes+own", "all"])
def test_token_flow(
    priors: tuple[MultiviewPrior, MultiviewPrior],
    toy: MultiviewVideo,
    propagation: Any,
    views: Any,
    flow_at: str,
    enlarged: Any,
) -> None:
    settings = TokenFlowConfig(interval=2, propagation=propagation, enlarged=enlarged, tau=0.7)
    pictures = []
    for prior, device in zip(priors, ("cpu", flow_at), strict=True):
        before = {name: value.clone() for name, value in prior.unet.state_dict().items()}
        processors = dict(prior.unet.attn_processors)
        with TokenFlow(prior.unet, settings, no_motion(toy, tuple(views), device)) as controller:
            made = generate(prior, front(toy), SAMPLING, torch.Generator().manual_seed(0), controller)
            report = controller.report()
        pictures.append(made)
        assert dict(prior.unet.attn_processors) == processors
        assert all(torch.equal(value, before[name]) for name, value in prior.unet.state_dict().items())
        assert report.passes.keys() == ({"key", "fill", "own"} if enlarged == "keyframes+own" else {"all"})
        assert all(0 < share < 1 for share in report.own_share.values())
        assert report.own_share
    same_pictures(pictures[1], pictures[0])
    plain = generate(priors[1], front(toy), SAMPLING, torch.Generator().manual_seed(0))
    assert (plain.rgb - pictures[1].rgb)[1].abs().mean() > 1e-4  # something was carried


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_token_flow_in_half_precision(toy: MultiviewVideo, dtype: torch.dtype) -> None:
    exact_prior = load_small_prior(device=DEVICE)
    wanted = generate(exact_prior, front(toy), SAMPLING, torch.Generator().manual_seed(0))
    assert isinstance(exact_prior.codec, PatchCodec)
    prior = replace(exact_prior, unet=exact_prior.unet.to(dtype), prompts=exact_prior.prompts.to(dtype))
    settings = TokenFlowConfig(interval=2, propagation="all", tau=0.7)
    with TokenFlow(prior.unet, settings, no_motion(toy, tuple(range(6)), DEVICE)) as controller:
        made = generate(prior, front(toy), SAMPLING, torch.Generator().manual_seed(0), controller)
    assert made.rgb.dtype == torch.float32
    assert made.rgb.isfinite().all()
    assert made.normal.isfinite().all()
    # Keyframes are carried into one frame of three, so the pictures differ, by less than the object does.
    assert (made.rgb - wanted.rgb).abs().mean() < 0.05


# ---- training of the prior ----


class Discs:
    """Batches of bright discs of 16 px; batch i depends on i alone."""

    def __call__(self, index: int) -> Views:
        draw = np.random.default_rng(index)
        y, x = np.mgrid[:16, :16]
        inside = np.stack(
            [(x - draw.uniform(5, 11)) ** 2 + (y - draw.uniform(5, 11)) ** 2 < 16 for _ in range(2)]
        )
        alpha = np.repeat(inside[:, None, ..., None], VIEWS, 1).astype(np.uint8) * 255
        rgb = np.where(alpha > 0, np.array([200, 60, 30], np.uint8), np.uint8(255)).astype(np.uint8)
        normal = np.where(alpha > 0, np.array([0, -127, 0], np.int8), np.int8(0)).astype(np.int8)
        return Views(rgb=rgb, alpha=alpha, normal=normal)


class Pooled:
    """A picture's mean colour, repeated: stands in for the image encoder."""

    def class_labels(self, front: Tensor, generator: torch.Generator) -> Tensor:
        return front.mean(dim=(2, 3)).repeat(1, 4)


def trainer(device: str, dtype: torch.dtype = torch.float32, **changes: Any) -> PriorTrainer:
    unet = small_unet_config((8, 16), (1, 2))
    codec = PatchCodec(
        means=torch.full((2, VIEWS, 3, 16, 16), 0.5),
        scales=torch.full((2, VIEWS), 0.4),
        places=place_planes(six_cameras(16), 4),
        patch=4,
    )
    config, codec = PriorTraining(batch=2, snap=2, warmup=0, rate=2e-3), codec.to(device)
    prompts = noise(2, VIEWS, 3, 8, seed=1).to(device)
    return PriorTrainer(
        config=config,
        unet_config=unet | {"cross_attention_dim": 8, "projection_class_embeddings_input_dim": 12},
        codec=codec,
        lesson=ViewLesson(codec=codec, encoder=Pooled(), prompts=prompts, front_weight=config.front_weight),
        source=Discs(),
        device=torch.device(device),
        dtype=dtype,
        **changes,
    )


def test_training_goes_on_from_a_checkpoint(tmp_path: Path) -> None:
    """Two snaps of two steps in bfloat16, and one, saved and read, and another."""
    whole = trainer(DEVICE, torch.bfloat16)
    whole.run(8)
    first = trainer(DEVICE, torch.bfloat16)
    first.run(4)
    first.save(tmp_path / "checkpoint.safetensors")
    second = trainer(DEVICE, torch.bfloat16)
    second.resume(tmp_path / "checkpoint.safetensors")
    second.run(8)
    assert (second.state.step, second.state.samples) == (4, 8)
    assert [point["samples"] for point in whole.state.curve] == [4, 8]
    assert all(np.isfinite([point["normal"], point["colour"]]).all() for point in whole.state.curve)
    start = trainer(DEVICE).state.unet.state_dict()
    for name, value in whole.state.unet.state_dict().items():
        assert value.isfinite().all(), name
        # Sums of gradients are atomic on a GPU, and Muon evens out even the smallest directions: steps agree
        # to a share of their length, not to the bit.
        step = (value - start[name]).norm()
        assert (second.state.unet.state_dict()[name] - value).norm() <= 0.2 * step + 1e-6, name
    held = {name: memory for name, (memory, _) in first.state.memories().items()}
    read = trainer(DEVICE, torch.bfloat16)
    read.resume(tmp_path / "checkpoint.safetensors")
    for name, (memory, _) in read.state.memories().items():
        assert torch.equal(memory, held[name]), name


def test_training_loss_is_that_of_the_cpu() -> None:
    """From equal weights and draws, and its gradients."""
    pictures = torch.randint(0, 256, (2, 2, VIEWS, 3, 16, 16), generator=torch.Generator().manual_seed(0))
    levels, drawn = torch.tensor([999, 300]), noise(2, 2, VIEWS, 48, 4, 4)
    found = []
    for device in ("cpu", DEVICE):
        side = trainer(device)
        torch.nn.init.constant_(side.state.unet.conv_out.weight, 0.01)  # zero at the start
        example = side.lesson(pictures.to(torch.uint8), torch.Generator(device))
        powers = noise_schedule().alphas_cumprod.to(device)
        answer = (example.clean, example.condition, example.labels, example.prompts)
        given = (*answer, powers, levels.to(device), drawn.to(device))
        loss = clean_loss(side.state.unet, *given, 5.0)
        torch.autograd.backward(loss.sum())
        found.append((loss, {name: value.grad for name, value in side.state.unet.named_parameters()}))
    (wanted, expected), (loss, gradients) = found
    assert relative(loss, wanted) < 1e-4
    for name, value in expected.items():
        gradient = gradients[name]
        assert value is not None
        assert gradient is not None
        assert (gradient.cpu() - value).norm() < 1e-3 * value.norm() + 1e-4, name


@pytest.mark.slow  # a minute or two of compiling
def test_compiled_training() -> None:
    compiled, plain = trainer(DEVICE, torch.bfloat16, compile=True), trainer(DEVICE, torch.bfloat16)
    compiled.run(4)
    plain.run(4)
    for name in ("normal", "colour"):
        assert compiled.state.curve[0][name] == pytest.approx(plain.state.curve[0][name], rel=2e-2)


# ---- the whole method ----


def test_cost_is_counted_before_anything_is_on_the_device(tmp_path: Path) -> None:
    with measured("one", tmp_path / "stages.json", torch.device(DEVICE)):
        held = torch.zeros(2**20, device=DEVICE)
    del held
    (cost,) = read_costs(tmp_path / "stages.json")
    assert cost.finished
    assert cost.peak_mib >= 4


def test_method_end_to_end(tmp_path: Path) -> None:
    frames = 5
    seen = render_scene(
        "quadruped-01", six_views(SIZE)[:1], [n / (frames - 1) for n in range(frames)], samples=2
    )
    clip = Clip(
        rgb=torch.from_numpy(seen.rgb[:, 0]).float().clamp(0, 1),
        alpha=torch.from_numpy(seen.alpha[:, 0]).float().clamp(0, 1),
        name="toy",
    )
    small = mini()
    stage = StageConfig(iterations=5)
    config = replace(
        small,
        stride=1,
        sampling=replace(small.sampling, steps=3, timesteps=(999, 400, 100)),
        token_flow=replace(small.token_flow, interval=2, tau=0.5),
        reconstruction=replace(
            small.reconstruction,
            static=stage,
            coarse=stage,
            refine=stage,
            points=400,
            field=replace(small.reconstruction.field, control_points=16),
        ),
    )
    result = run(clip, config, tmp_path / "run", 0, device=DEVICE)
    assert [cost.stage for cost in result.costs] == ["views", "coarse", "regenerated", "refined"]
    assert all(cost.finished and cost.peak_mib > 1 for cost in result.costs)
    for name in ("views", "regenerated"):
        report = json.loads((tmp_path / "run" / f"{name}.json").read_text())["token_flow"]
        assert report["passes"].keys() == {"key", "fill", "own"}
    calls: list[str] = []
    again = run(
        clip,
        config,
        tmp_path / "run",
        0,
        device=DEVICE,
        progress=lambda stage, done, total: calls.append(stage),
    )
    assert not calls
    assert again.costs == result.costs
    with torch.no_grad():
        assert result.field.render(six_cameras(SIZE), 0.3).rgb.isfinite().all()
