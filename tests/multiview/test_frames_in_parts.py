"""All frames of a clip through the network in parts: the result of one pass, without its memory."""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler
from tiny import tiny_unet
from torch import Tensor
from torch.nn import functional as F

from mvtokenflow.flow.keyframes import KeyframeFlow, keyframe_flow, keyframes
from mvtokenflow.multiview.config import SamplingConfig
from mvtokenflow.multiview.passes import Pass, Step
from mvtokenflow.multiview.prior import MultiviewPrior
from mvtokenflow.multiview.sampler import Noise, denoise, draw_noise
from mvtokenflow.multiview.unet import MultiviewUNet
from mvtokenflow.small.config import small_sampling
from mvtokenflow.small.prior import load_small_prior
from mvtokenflow.tokenflow.config import TokenFlowConfig
from mvtokenflow.tokenflow.controller import TokenFlow
from mvtokenflow.views.cameras import ERA3D_AZIMUTHS_DEG, orbit

VIEWS, SIDE, PIXELS = 6, 8, 32
FRAMES = 6  # keyframes 0, 4 and 5
PROPAGATED: dict[str, tuple[int, ...]] = {"none": (), "front": (0,), "all": tuple(range(VIEWS))}

pytestmark = pytest.mark.usefixtures("one_thread")


def slow_but(fast: str, names: Iterable[str]) -> list[Any]:
    """Cases that are nightly but for one: each is the same code with another set of propagated views."""
    return [name if name == fast else pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.fixture(scope="module")
def unet() -> MultiviewUNet:
    return tiny_unet()


@pytest.fixture
def exact_unet(unet: MultiviewUNet) -> Iterator[MultiviewUNet]:
    """The network in double precision: sums in another order differ by less than anything that is wrong."""
    yield unet.double()
    unet.float()


class NoCodec:
    def condition(self, front: Tensor) -> Tensor:
        return F.avg_pool2d(front, PIXELS // SIDE)[None, :, None].expand(2, -1, VIEWS, -1, -1, -1)

    def encode(self, pictures: Tensor, front: Tensor) -> Tensor:
        raise NotImplementedError

    def decode(self, latents: Tensor, front: Tensor) -> Tensor:
        raise NotImplementedError


class MeanColour:
    def class_labels(self, front: Tensor, generator: torch.Generator) -> Tensor:
        return front.mean(dim=(2, 3))


def draws(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def tiny_prior(unet: MultiviewUNet) -> MultiviewPrior:
    make_scheduler: Any = DDIMScheduler  # diffusers carries no types
    return MultiviewPrior(
        unet=unet,
        scheduler=make_scheduler(prediction_type="v_prediction", clip_sample=False),
        codec=NoCodec(),
        image_encoder=MeanColour(),
        prompts=draws(2, VIEWS, 2, 5),
        cameras=orbit(ERA3D_AZIMUTHS_DEG, size=PIXELS, kind="ortho", radius=1.3),
        size=PIXELS,
        background=1.0,
    )


def moving(
    views: tuple[int, ...], frames: int = FRAMES, size: int = PIXELS, interval: int = 4
) -> KeyframeFlow | None:
    """Everything moves right by 1 px a frame, and a fifth of the picture is hidden in all keyframes."""
    if not views:
        return None
    column = torch.arange(size).expand(size, size)

    def between(n: int, key: int) -> tuple[Tensor, Tensor]:
        flow = torch.tensor([float(key - n), 0.0]).expand(len(views), size, size, 2)
        seen = (column + key - n >= 0) & (column + key - n < size) & (column % 10 > 1)
        return flow, seen.expand(len(views), -1, -1)

    keys = keyframes(frames, interval)
    return keyframe_flow(between, torch.ones(frames, len(views), size, size), keys, views)


def settings(propagation: Any, **changes: Any) -> TokenFlowConfig:
    return TokenFlowConfig(**({"interval": 4, "enlarged": "all", "propagation": propagation} | changes))


def latents(
    prior: MultiviewPrior,
    front: Tensor,
    sampling: SamplingConfig,
    tokens: TokenFlowConfig,
    flows: KeyframeFlow | None,
) -> tuple[Tensor, Tensor | None]:
    """Of a clip (F, S, S, 3), and poses."""
    pictures = front.permute(0, 3, 1, 2)
    condition = prior.codec.condition(pictures)
    labels = prior.image_encoder.class_labels(pictures, torch.Generator().manual_seed(1))
    noise = draw_noise(prior, sampling, condition, torch.Generator().manual_seed(2))
    first = Noise(initial=noise.initial, steps=[torch.zeros(())] * sampling.steps)
    with TokenFlow(prior.unet, tokens, flows) as controller:
        return denoise(prior, condition, labels, first, sampling, controller)


@pytest.mark.parametrize("propagation", list(PROPAGATED))
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_parts_give_what_one_pass_gives(exact_unet: MultiviewUNet, propagation: str, guidance: float) -> None:
    """One step with propagation and one without; latents of both domains and the poses."""
    prior, front = tiny_prior(exact_unet), draws(FRAMES, PIXELS, PIXELS, 3).sigmoid().double()
    tokens, flows = settings(propagation), moving(PROPAGATED[propagation])
    sampling = SamplingConfig(steps=2, guidance=guidance)
    whole, pose = latents(prior, front, replace(sampling, chunk=FRAMES), tokens, flows)
    for chunk in (1, 2, 4):  # 4: a part with keyframes and others, and a shorter one
        parts, found = latents(prior, front, replace(sampling, chunk=chunk), tokens, flows)
        torch.testing.assert_close(parts, whole, atol=1e-12, rtol=0)
        torch.testing.assert_close(found, pose, atol=1e-12, rtol=0)
    frames_matter, _ = latents(prior, front, sampling, settings(propagation, enlarged="off"), flows)
    assert (frames_matter - whole).abs().max() > 1e-3


@pytest.mark.parametrize("propagation", slow_but("all", ["front", "all"]))
@pytest.mark.parametrize("enlarged", ["off", "keyframes+own", "all"])
def test_keyframes_go_in_parts_whatever_is_enlarged(
    exact_unet: MultiviewUNet, enlarged: str, propagation: str
) -> None:
    front, flows = draws(FRAMES, PIXELS, PIXELS, 3).sigmoid().double(), moving(PROPAGATED[propagation])
    tokens, sampling = settings(propagation, enlarged=enlarged), SamplingConfig(steps=2)
    prior = tiny_prior(exact_unet)
    one, whole = (
        latents(prior, front, replace(sampling, chunk=chunk), tokens, flows)[0] for chunk in (1, FRAMES)
    )
    assert whole.dtype == torch.float64
    # Plans of the flow have float32 weights, the same for both; measured 5e-15.
    torch.testing.assert_close(one, whole, atol=1e-12, rtol=0)


@pytest.mark.parametrize("propagation", slow_but("all", PROPAGATED))  # tiny networks hold all of them
def test_parts_with_the_small_prior(propagation: str) -> None:
    """The real weights; one step."""
    prior = load_small_prior()
    front = draws(3, 64, 64, 3).sigmoid()
    tokens = settings(propagation, interval=2, tau=1.0)
    flows = moving(PROPAGATED[propagation], frames=3, size=64, interval=2)
    whole, parts = (
        latents(prior, front, replace(small_sampling(1), chunk=chunk), tokens, flows)[0] for chunk in (3, 1)
    )
    # Measured 4e-7, as for independent frames in chunks.
    assert (parts - whole).norm() < 1e-6 * whole.norm()


def network_inputs(groups: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    count = 2 * groups * VIEWS
    return (
        draws(count, 6, SIDE, SIDE),
        torch.tensor(500),
        draws(count, 2, 5, seed=1),
        draws(count, 3, seed=2),
    )


def test_groups_come_back_in_their_order(unet: MultiviewUNet) -> None:
    """Nothing is gathered: the network in parts is the network."""
    given = network_inputs(4)
    whole = unet(*given)
    for parts in ([[0, 1, 2, 3]], [[3], [1, 0], [2]], [[2, 3], [0, 1]]):
        made = unet(*given, parts=parts)
        torch.testing.assert_close(made.sample, whole.sample, atol=1e-5, rtol=0)
        torch.testing.assert_close(made.pose, whole.pose, atol=1e-5, rtol=0)
    for parts in ([[0, 1, 2]], [[0, 1, 2, 3], [3]], [[0, 1], [2, 4]], []):
        with pytest.raises(ValueError, match="expected every group of 4 once"):
            unet(*given, parts=parts)


def test_parts_of_a_pass() -> None:
    whole, sliced = Pass((0, 4, 5, 1)), Pass((0, 4, 5, 1, 2), "all", 2)
    assert whole.parts == [(0, 4, 5, 1)]
    assert whole.groups(2) is None
    assert sliced.parts == [(0, 4), (5, 1), (2,)]
    assert sliced.groups(1) == [[0, 1], [2, 3], [4]]
    assert sliced.groups(2) == [[0, 1, 5, 6], [2, 3, 7, 8], [4, 9]]


@pytest.mark.parametrize("kind", [torch.float16, pytest.param(torch.bfloat16, marks=pytest.mark.slow)])
def test_half_precision(unet: MultiviewUNet, kind: torch.dtype) -> None:
    front, flows = draws(FRAMES, PIXELS, PIXELS, 3).sigmoid(), moving((0,))
    sampling = SamplingConfig(steps=2)
    exact, _ = latents(tiny_prior(unet), front, sampling, settings("front"), flows)
    try:
        half, _ = latents(tiny_prior(unet.to(kind)), front, sampling, settings("front"), flows)
    finally:
        unet.float()
    # Roundings of 8 or 11 bits, three times by guidance; measured 0.08 and 0.01 on values up to 4.
    torch.testing.assert_close(half, exact, atol=0.2, rtol=0)


@contextmanager
def broken(unet: MultiviewUNet, error: BaseException, after: int) -> Iterator[None]:
    """Attention along rows, which runs on every part between two `attn1`, fails at call `after`."""
    block: Any = unet.up_blocks[0]
    module = block.attentions[0].transformer_blocks[0].attn_mv
    calls = 0

    def fail(*_: object) -> None:
        nonlocal calls
        calls += 1
        if calls == after:
            raise error

    handle = module.register_forward_pre_hook(fail)
    try:
        yield
    finally:
        handle.remove()


@pytest.mark.parametrize("error", [RuntimeError("stop"), KeyboardInterrupt()])
def test_nothing_is_left_behind_by_an_exception(unet: MultiviewUNet, error: BaseException) -> None:
    """Parts 1 of 6 have passed an attention, the others wait: records are gone, and the next step is whole."""
    processors, threads = dict(unet.attn_processors), threading.active_count()
    at = Step(index=0, count=2, timestep=500, frames=FRAMES, views=VIEWS, halves=1, chunk=1)
    with TokenFlow(unet, settings("front"), moving((0,))) as controller:
        (current,) = controller.passes(at)

        def call() -> Tensor:
            with controller.running(at, current):
                sample: Tensor = unet(*network_inputs(FRAMES), parts=current.groups(1)).sample
            return sample

        expected = call()
        with pytest.raises(type(error)), broken(unet, error, after=2):
            call()
        held: list[Any] = [processor for name, processor in unet.attn_processors.items() if ".attn1." in name]
        assert sum(processor.record_bytes for processor in held) == 0
        assert all(not processor._waiting for processor in held)
        assert controller.state.current is None
        assert torch.equal(call(), expected)
        with pytest.raises(type(error)), broken(unet, error, after=2):
            call()
    assert dict(unet.attn_processors) == processors
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in unet.modules())
    assert threading.active_count() == threads


def test_a_part_that_was_not_gathered_is_refused(unet: MultiviewUNet) -> None:
    at = Step(index=0, count=2, timestep=500, frames=FRAMES, views=VIEWS, halves=1, chunk=1)
    stage: Any = unet.down_blocks[0]
    layer = stage.attentions[0].transformer_blocks[0].attn1
    with (
        TokenFlow(unet, settings("none")) as controller,
        pytest.raises(ValueError, match="not gathered"),
        controller.running(at, controller.passes(at)[0]),
    ):
        layer(draws(VIEWS, 2 * SIDE**2, 16))
