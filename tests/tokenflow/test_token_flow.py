"""Token flow on one attention layer and on a small network: the behaviours that define it."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler
from tiny import tiny_unet
from torch import Tensor
from torch.nn import functional as F

from mvtokenflow.base.errors import ConfigError
from mvtokenflow.flow.keyframes import KeyframeFlow, enclosing, keyframe_flow, keyframes
from mvtokenflow.multiview.config import SamplingConfig
from mvtokenflow.multiview.passes import Pass, Step, check_passes
from mvtokenflow.multiview.prior import MultiviewPrior
from mvtokenflow.multiview.sampler import generate
from mvtokenflow.multiview.unet import MultiviewUNet
from mvtokenflow.splat.field import render_gaussians
from mvtokenflow.splat.gaussians import Gaussians
from mvtokenflow.tokenflow.config import TokenFlowConfig
from mvtokenflow.tokenflow.controller import TokenFlow
from mvtokenflow.tokenflow.warp import blend_weight, plan_frames
from mvtokenflow.views.cameras import ERA3D_AZIMUTHS_DEG, orbit

VIEWS, SIDE, CHANNELS = 6, 8, 16
LENGTH = SIDE**2
PIXELS = 32  # flow is given on pictures of this size: a token is 4 px
CPU = torch.device("cpu")
# Sums in another order; measured 2e-7 for attention of unit variance.
CLOSE = 2e-6


@pytest.fixture(scope="module")
def unet() -> MultiviewUNet:
    return tiny_unet(block_out_channels=[CHANNELS, 32])


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def step(index: int = 0, *, frames: int = 9, halves: int = 2, chunk: int = 3, count: int = 40) -> Step:
    return Step(
        index=index, count=count, timestep=999 - index, frames=frames, views=VIEWS, halves=halves, chunk=chunk
    )


def make_flows(
    frames: int = 9,
    views: tuple[int, ...] = (0,),
    dx: float = 0.0,
    interval: int = 4,
    alpha: Tensor | None = None,
    hidden: Tensor | None = None,
) -> KeyframeFlow:
    """Everything moves right by dx pixels a frame; `hidden` (H, W) are pixels no keyframe shows."""
    mask = torch.ones(frames, len(views), PIXELS, PIXELS) if alpha is None else alpha
    column = torch.arange(PIXELS).expand(PIXELS, PIXELS)

    def between(n: int, key: int) -> tuple[Tensor, Tensor]:
        flow = torch.tensor([(key - n) * dx, 0.0]).expand(len(views), PIXELS, PIXELS, 2)
        seen = (column + (key - n) * dx >= 0) & (column + (key - n) * dx < PIXELS)
        if hidden is not None:
            seen = seen & ~hidden
        return flow, seen.expand(len(views), -1, -1)

    return keyframe_flow(between, mask, keyframes(frames, interval), views)


def config(**changes: Any) -> TokenFlowConfig:
    return TokenFlowConfig(**({"interval": 4} | changes))


def layer(unet: MultiviewUNet) -> Any:
    block: Any = unet.down_blocks[0]
    return block.attentions[0].transformer_blocks[0].attn1


def attend(controller: TokenFlow, tokens: Tensor, at: Step, unet: MultiviewUNet) -> Tensor:
    """One attention layer, pass by pass, on tokens (halves, F, V, 2 L, C)."""
    out = torch.full_like(tokens, torch.nan)
    passes = controller.passes(at)
    check_passes(passes, at)
    for current in passes:
        with controller.running(at, current):
            layer(unet).processor.gather(
                layer(unet), (tokens[:, list(part)].flatten(0, 2) for part in current.parts)
            )
            for part in current.parts:
                mixed = layer(unet)(tokens[:, list(part)].flatten(0, 2))
                out[:, list(part)] = mixed.view(at.halves, len(part), VIEWS, *tokens.shape[3:])
    return out


def run(
    unet: MultiviewUNet,
    tokens: Tensor,
    settings: TokenFlowConfig,
    flows: KeyframeFlow | None = None,
    **changes: Any,
) -> Tensor:
    with TokenFlow(unet, settings, flows) as controller:
        return attend(controller, tokens, step(frames=tokens.shape[1], halves=len(tokens), **changes), unet)


def own(unet: MultiviewUNet, tokens: Tensor, **changes: Any) -> Tensor:
    """Without propagation."""
    return run(unet, tokens, config(propagation="none", **changes))


def plain_attention(unet: MultiviewUNet, queries: Tensor, keys: Tensor) -> Tensor:
    """Softmax written out for (n, C) queries and (m, C) keys."""
    module = layer(unet)
    q, k, v = module.to_q(queries), module.to_k(keys), module.to_v(keys)
    heads = []
    for head in range(module.heads):
        some = slice(head * 8, head * 8 + 8)
        weight = torch.softmax(q[:, some] @ k[:, some].T / 8**0.5, dim=-1)
        heads.append(weight @ v[:, some])
    projected: Tensor = module.to_out[0](torch.cat(heads, dim=-1))
    return projected


def test_weight_is_that_of_the_nearer_keyframe_and_continuous() -> None:
    """The paper's formula, as printed, has it the other way round and jumps at every keyframe."""
    keys = (0, 8, 16, 20)
    shares = torch.zeros(21, 4)
    literal = []
    for n, (before, after) in enumerate(enclosing(21, keys)):
        share = blend_weight(n, keys[before], keys[after])
        shares[n, before] += 1 - share
        shares[n, after] += share
        if n not in keys:
            literal.append(blend_weight(n, keys[before], keys[after], literal=True))
            assert literal[-1] == pytest.approx((keys[after] - n) / (keys[after] - keys[before]))
    for position, key in enumerate(keys):
        assert shares[key, position] == 1
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(21))
    assert shares.diff(dim=0).abs().max() <= 0.25 + 1e-6  # the shortest interval has 4 frames
    assert blend_weight(2, 0, 8) == 0.25
    assert blend_weight(2, 0, 8, literal=True) == 0.75


@pytest.mark.parametrize("enlarged", ["off", "keyframes+own", "all"])
def test_still_frames_without_motion_are_filled_with_the_keyframes_output(
    unet: MultiviewUNet, enlarged: str
) -> None:
    tokens = noise(2, 1, VIEWS, 2 * LENGTH, CHANNELS).expand(-1, 9, -1, -1, -1).contiguous()
    out = run(unet, tokens, config(propagation="all", enlarged=enlarged), make_flows(views=tuple(range(VIEWS))))
    torch.testing.assert_close(out, out[:, :1].expand_as(out), atol=CLOSE, rtol=0)


@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
def test_whole_token_motion_moves_outputs_exactly(unet: MultiviewUNet, interpolation: str) -> None:
    tokens = noise(2, 9, VIEWS, 2 * LENGTH, CHANNELS)
    flows = make_flows(views=tuple(range(VIEWS)), dx=4.0)  # one token a frame
    out = run(unet, tokens, config(propagation="all", interpolation=interpolation, fallback="warped"), flows)
    grid = out.view(2, 9, VIEWS, 2, SIDE, SIDE, CHANNELS)
    for n, before, after in ((1, 0, 4), (3, 0, 4), (6, 4, 8)):
        share = (n - before) / (after - before)
        first = grid[:, before, ..., : SIDE - (n - before) - (after - n), :]
        second = grid[:, after, ..., after - before :, :]
        filled = grid[:, n, ..., n - before : SIDE - (after - n), :]
        torch.testing.assert_close(filled, (1 - share) * first + share * second, atol=CLOSE, rtol=0)
    # At the left border only the keyframe after shows the token: its output alone, to the bit.
    assert torch.equal(grid[:, 2, ..., :2, :], grid[:, 4, ..., 2:4, :])


def test_half_token_motion_is_bilinear_or_rounded(unet: MultiviewUNet) -> None:
    """Frame 1 of 0..2 moves by half a token to either side."""
    flows = make_flows(3, tuple(range(VIEWS)), dx=2.0, interval=2)
    tokens = noise(1, 3, VIEWS, 2 * LENGTH, CHANNELS)
    grid = run(unet, tokens, config(propagation="all", interval=2), flows).view(1, 3, VIEWS, 2, SIDE, SIDE, -1)
    first, last = grid[:, 0], grid[:, 2]
    expected = (first[..., 2:5, :] + first[..., 3:6, :] + last[..., 3:6, :] + last[..., 4:7, :]) / 4
    torch.testing.assert_close(grid[:, 1, ..., 3:6, :], expected, atol=CLOSE, rtol=0)


@pytest.mark.parametrize("side", [16, 8, 4])
def test_motion_is_rescaled_to_each_level(side: int) -> None:
    """8 px of 32 px: 4, 2 and 1 tokens. Unscaled flow would point 8 tokens away."""
    flows = make_flows(3, dx=8.0, interval=2)
    plan = plan_frames(flows, side, CPU)[1]
    tokens = 8 * side // PIXELS
    column = torch.arange(side**2) % side
    middle = (column >= tokens) & (column < side - tokens)
    target = (plan.index.long() * (plan.weight > 0)).masked_fill(plan.weight == 0, -1).max(dim=1).values
    assert torch.equal(target[middle], (torch.arange(side**2) + tokens + side**2)[middle])  # of keyframe 1


def test_hidden_tokens_take_their_own_attention(unet: MultiviewUNet) -> None:
    hidden = torch.zeros(PIXELS, PIXELS, dtype=torch.bool)
    hidden[8:16, 12:28] = True
    inside = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    inside[2:4, 3:7] = True
    chosen = inside.flatten().repeat(2)
    tokens = noise(2, 9, VIEWS, 2 * LENGTH, CHANNELS)
    for enlarged in ("off", "keyframes+own", "all"):
        out = run(unet, tokens, config(enlarged=enlarged), make_flows(hidden=hidden))
        alone = own(unet, tokens, enlarged=enlarged)
        for n in (1, 2, 3, 5, 6, 7):
            torch.testing.assert_close(out[:, n, 0, chosen], alone[:, n, 0, chosen], atol=CLOSE, rtol=0)
            assert (out[:, n, 0, ~chosen] - alone[:, n, 0, ~chosen]).abs().max() > 1e-2
    for dx in (0.0, 1.0):
        warped = run(unet, tokens, config(fallback="warped"), make_flows(dx=dx, hidden=hidden))
        everywhere = run(unet, tokens, config(fallback="warped"), make_flows(dx=dx))
        torch.testing.assert_close(warped, everywhere, atol=CLOSE, rtol=0)


def test_a_token_hidden_in_one_keyframe_takes_the_other(unet: MultiviewUNet) -> None:
    flows = make_flows()
    seen = flows.visible.clone()
    seen[0, :, :, :16] = False
    seen[1, :, :, 16:] = False
    out = run(unet, tokens := noise(1, 9, VIEWS, 2 * LENGTH, CHANNELS), config(), replace(flows, visible=seen))
    grid = out.view(1, 9, VIEWS, 2, SIDE, SIDE, CHANNELS)
    assert tokens.shape == out.shape
    for n in (5, 6, 7):
        assert torch.equal(grid[:, n, 0, :, :4], grid[:, 8, 0, :, :4])
        assert torch.equal(grid[:, n, 0, :, 4:], grid[:, 4, 0, :, 4:])


def test_nothing_is_mixed_across_the_outline() -> None:
    """Bilinear samples of object tokens read object tokens only, and the other way round."""
    alpha = torch.zeros(3, 1, PIXELS, PIXELS)
    for n in range(3):
        alpha[n, ..., 8 + 2 * n : 24 + 2 * n] = 1
    flows = make_flows(3, dx=2.0, interval=2, alpha=alpha)
    motion, plan = flows.pooled(SIDE), plan_frames(flows, SIDE, CPU)[1]
    source = motion.on_object[[0, 2], 0].flatten()[plan.index.long()]  # rows: keyframe, token
    own_class = motion.on_object[1, 0].flatten()[:, None]
    assert torch.equal((source != own_class) & (plan.weight > 0), torch.zeros_like(source))
    assert motion.on_object[1].any()
    assert (~motion.on_object[1]).any()
    left = plan.weight.sum(dim=1) == 0
    assert set(left.nonzero()[:, 0].tolist()) == set(plan.own_tokens.flatten().tolist())
    torch.testing.assert_close(plan.weight[~left].sum(dim=1), torch.ones(int((~left).sum())))


@pytest.mark.parametrize(
    ("changes", "steps"),
    [
        ({}, range(20)),
        ({"tau_inclusive": True}, range(21)),
        ({"late_steps": True}, range(21, 40)),
        ({"late_steps": True, "tau_inclusive": True}, range(20, 40)),
        ({"tau": 0.0}, range(0)),
        ({"tau": 1.0}, range(40)),
    ],
)
def test_which_of_40_steps_propagate(unet: MultiviewUNet, changes: dict[str, Any], steps: range) -> None:
    with TokenFlow(unet, config(**changes), make_flows()) as controller:
        filling = [
            index
            for index in range(40)
            if any(current.role == "fill" for current in controller.passes(step(index)))
        ]
    assert filling == list(steps)


def test_steps_behind_tau_are_left_alone(unet: MultiviewUNet) -> None:
    tokens = noise(2, 9, VIEWS, 2 * LENGTH, CHANNELS)
    without = own(unet, tokens)
    flows = make_flows(dx=4.0)
    assert torch.equal(run(unet, tokens, config(), flows, index=20), without)
    assert not torch.equal(run(unet, tokens, config(), flows, index=19), without)


@pytest.mark.parametrize("enlarged", ["off", "keyframes+own", "all"])
def test_enlarged_attention_of_one_frame_is_ordinary_joint_attention(
    unet: MultiviewUNet, enlarged: str
) -> None:
    tokens = noise(2, 1, VIEWS, 2 * LENGTH, CHANNELS)
    ordinary = layer(unet)(tokens.flatten(0, 2)).view_as(tokens)
    torch.testing.assert_close(own(unet, tokens, enlarged=enlarged), ordinary, atol=CLOSE, rtol=0)


def test_enlarged_attention_sees_exactly_the_frames_it_should(unet: MultiviewUNet) -> None:
    """Against the softmax written out, both domains as keys, for one half and view."""
    tokens = noise(2, 9, VIEWS, 2 * LENGTH, CHANNELS)
    for enlarged, shared in (("off", []), ("keyframes+own", [0, 4, 8]), ("all", list(range(9)))):
        out = own(unet, tokens, enlarged=enlarged)
        for n in (0, 3, 4, 7):
            keys = tokens[1, sorted({*shared, n}), 2].flatten(0, 1)
            torch.testing.assert_close(
                out[1, n, 2], plain_attention(unet, tokens[1, n, 2], keys), atol=5e-6, rtol=0
            )


@pytest.mark.parametrize("propagation", ["none", "front", "all"])
def test_views_and_guidance_halves_do_not_leak(unet: MultiviewUNet, propagation: str) -> None:
    tokens = noise(2, 9, VIEWS, 2 * LENGTH, CHANNELS)
    views = {"none": None, "front": (0,), "all": tuple(range(VIEWS))}[propagation]
    hidden = torch.zeros(PIXELS, PIXELS, dtype=torch.bool)
    hidden[:8] = True
    flows = None if views is None else make_flows(views=views, hidden=hidden)
    before = run(unet, tokens, config(propagation=propagation), flows)
    for half, view in ((0, 0), (1, 0), (1, 3)):
        changed = tokens.clone()
        changed[half, :, view] = noise(9, 2 * LENGTH, CHANNELS, seed=7)
        difference = (run(unet, changed, config(propagation=propagation), flows) - before).abs()
        assert difference[half, :, view].amax(dim=(1, 2)).min() > 1e-2
        difference[half, :, view] = 0
        assert difference.max() == 0


def test_first_pass_fills_the_front_view_only(unet: MultiviewUNet) -> None:
    """The other views never read the record: theirs is not even kept, and their outputs are their own."""
    tokens = noise(2, 9, VIEWS, 2 * LENGTH, CHANNELS)
    out, alone = run(unet, tokens, config(), make_flows(dx=4.0)), own(unet, tokens)
    torch.testing.assert_close(out[:, :, 1:], alone[:, :, 1:], atol=CLOSE, rtol=0)
    assert (out[:, 1, 0] - alone[:, 1, 0]).abs().max() > 1e-2
    keys = list(keyframes(9, 4))
    torch.testing.assert_close(out[:, keys], alone[:, keys], atol=CLOSE, rtol=0)


def test_filled_tokens_do_not_depend_on_their_own_frame(unet: MultiviewUNet) -> None:
    tokens = noise(2, 9, VIEWS, 2 * LENGTH, CHANNELS)
    changed = tokens.clone()
    changed[:, 2] = noise(2, VIEWS, 2 * LENGTH, CHANNELS, seed=7)
    flows = make_flows()
    first, second = run(unet, tokens, config(), flows), run(unet, changed, config(), flows)
    assert torch.equal(first[:, 2, 0], second[:, 2, 0])
    assert not torch.equal(first[:, 2, 1], second[:, 2, 1])


def test_literal_weight_favours_the_far_keyframe(unet: MultiviewUNet) -> None:
    tokens = noise(1, 9, VIEWS, 2 * LENGTH, CHANNELS)
    right = run(unet, tokens, config(), make_flows())
    literal = run(unet, tokens, config(literal_lambda=True), make_flows())
    torch.testing.assert_close(
        right[:, 1, 0], 0.75 * right[:, 0, 0] + 0.25 * right[:, 4, 0], atol=CLOSE, rtol=0
    )
    torch.testing.assert_close(
        literal[:, 1, 0], 0.25 * right[:, 0, 0] + 0.75 * right[:, 4, 0], atol=CLOSE, rtol=0
    )


def test_chunks_do_not_matter(unet: MultiviewUNet) -> None:
    tokens = noise(2, 9, VIEWS, 2 * LENGTH, CHANNELS)
    flows = make_flows(dx=4.0)
    one, many = (run(unet, tokens, config(), flows, chunk=chunk) for chunk in (1, 6))
    torch.testing.assert_close(one, many, atol=CLOSE, rtol=0)


def call(unet: MultiviewUNet, frames: int, halves: int = 1) -> Tensor:
    """The whole network on `frames` frames, outputs (2, halves, frames, V, 3, side, side)."""
    count = 2 * halves * frames * VIEWS
    shape = (2, halves, frames, VIEWS)
    out = unet(
        noise(*shape, 6, SIDE, SIDE).flatten(0, 3),
        torch.tensor(500),
        noise(count, 2, 5, seed=1),
        noise(count, 3, seed=2),
    )
    sample: Tensor = out.sample
    return sample.view(*shape, 3, SIDE, SIDE)


def test_leaving_restores_the_network_to_the_bit(unet: MultiviewUNet) -> None:
    before, processors = call(unet, 3), dict(unet.attn_processors)
    with TokenFlow(unet, config(), make_flows()) as controller:
        assert unet.attn_processors != processors
        assert torch.equal(call(unet, 3), before)  # off between passes
        at = step(halves=1)
        with controller.running(at, Pass((0, 4, 8), "key")):
            assert not torch.equal(call(unet, 3), before)
    assert torch.equal(call(unet, 3), before)
    assert unet.attn_processors == processors

    with pytest.raises(RuntimeError, match="stop"), TokenFlow(unet, config(), make_flows()):
        raise RuntimeError("stop")
    assert unet.attn_processors == processors


def test_frames_of_a_call_are_independent_without_a_controller(unet: MultiviewUNet) -> None:
    """Order of the batch: (domain, half, frame, view)."""
    shape = (2, 2, 3, VIEWS)
    sample, text, labels = noise(*shape, 6, SIDE, SIDE), noise(*shape, 2, 5, seed=1), noise(*shape, 3, seed=2)
    with TokenFlow(unet, config(propagation="none")):
        whole = unet(sample.flatten(0, 3), 500, text.flatten(0, 3), labels.flatten(0, 3)).sample
        for half in range(2):
            for n in range(3):
                part = [some[:, half : half + 1, n : n + 1].flatten(0, 3) for some in (sample, text, labels)]
                alone = unet(part[0], 500, part[1], part[2]).sample
                torch.testing.assert_close(
                    whole.view(*shape, 3, SIDE, SIDE)[:, half, n].flatten(0, 1), alone, atol=1e-5, rtol=0
                )


def test_rendered_flow_of_a_moving_cloud_fills_like_the_analytic_one() -> None:
    """Paper Sec. 3.3: flow rendered from Gaussians, divided by alpha, at the silhouette as well."""
    cameras = orbit((0.0, 90.0), size=PIXELS, kind="ortho", radius=2.0)
    means = 0.3 * noise(150, 3).clamp(-1.5, 1.5)
    step_px = 2.0
    shift = torch.tensor(
        [step_px / (PIXELS / 2), 0.0, 0.0]
    )  # along x: the front view sees it, the side view not

    def at(n: int) -> Gaussians:
        return Gaussians(
            means=means + (n - 1) * shift,
            quats=torch.tensor([1.0, 0, 0, 0]).expand(150, 4),
            scales=torch.full((150, 3), 0.06),
            opacities=torch.full((150,), 0.9),
            colors=torch.full((150, 3), 0.5),
        )

    alpha = torch.stack([render_gaussians(at(n), cameras).alpha[..., 0] for n in range(3)])

    def between(n: int, key: int) -> tuple[Tensor, Tensor]:
        seen = render_gaussians(at(n), cameras, flow_to=at(key).means)
        assert seen.flow is not None
        return seen.flow, seen.alpha[..., 0] > 0.5

    flows = keyframe_flow(between, alpha, (0, 2), (0, 1))
    for side in (16, 8):
        motion = flows.pooled(side)
        expected = torch.tensor([[-step_px, 0.0], [0.0, 0.0]]) * side / PIXELS
        for view in range(2):
            moved = motion.flow[0, 1, view][motion.on_object[1, view]]
            assert len(moved) > 4
            # Rendered values are divided by alpha; without, the rim would be off by half.
            torch.testing.assert_close(moved, expected[view].expand_as(moved), atol=1e-4, rtol=0)


class PlainCodec:
    def condition(self, front: Tensor) -> Tensor:
        return F.avg_pool2d(front, PIXELS // SIDE)[None, :, None].expand(2, -1, VIEWS, -1, -1, -1)

    def encode(self, pictures: Tensor, front: Tensor) -> Tensor:
        raise NotImplementedError

    def decode(self, latents: Tensor, front: Tensor) -> Tensor:
        return F.interpolate(latents.flatten(0, 2).sigmoid(), PIXELS).view(
            *latents.shape[:3], 3, PIXELS, PIXELS
        )


class MeanColour:
    def class_labels(self, front: Tensor, generator: torch.Generator) -> Tensor:
        return front.mean(dim=(2, 3))


def make_prior(unet: MultiviewUNet) -> MultiviewPrior:
    make_scheduler: Any = DDIMScheduler  # diffusers carries no types
    return MultiviewPrior(
        unet=unet,
        scheduler=make_scheduler(prediction_type="v_prediction", clip_sample=False),
        codec=PlainCodec(),
        image_encoder=MeanColour(),
        prompts=noise(2, VIEWS, 2, 5),
        cameras=orbit(ERA3D_AZIMUTHS_DEG, size=PIXELS, kind="ortho", radius=1.3),
        size=PIXELS,
        background=1.0,
    )


@contextmanager
def counted(controller: TokenFlow) -> Iterator[list[str]]:
    """Roles of the passes that the sampler really runs, in order."""
    roles: list[str] = []
    running = controller.running

    @contextmanager
    def noted(at: Step, current: Pass) -> Iterator[None]:
        roles.append(current.role)
        with running(at, current):
            yield

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(controller, "running", noted)
        yield roles


@pytest.mark.parametrize("enlarged", ["off", "keyframes+own", "all"])
def test_sampling_a_clip_with_token_flow(unet: MultiviewUNet, enlarged: str) -> None:
    """Of 4 steps 2 propagate. The report says what it cost."""
    front = noise(6, PIXELS, PIXELS, 3).sigmoid()
    flows = make_flows(6, dx=1.0)
    settings = SamplingConfig(steps=4, chunk=2, guidance=1.0, eta=0.0)

    def sample(controller: TokenFlow | None) -> Tensor:
        return generate(make_prior(unet), front, settings, torch.Generator().manual_seed(0), controller).rgb

    with TokenFlow(unet, config(enlarged=enlarged), flows) as controller, counted(controller) as roles:
        rgb = sample(controller)
    report = controller.report()
    assert rgb.isfinite().all()
    assert not torch.equal(rgb, sample(None))
    expected = {
        "off": {"key": 2, "fill": 4, "plain": 6},
        "keyframes+own": {"key": 4, "fill": 4, "own": 4},
        "all": {"all": 4},
    }[enlarged]
    assert report.passes == expected
    assert {role: roles.count(role) for role in expected} == expected
    assert set(report.seconds) == set(expected)
    assert all(value > 0 for value in report.seconds.values())
    if enlarged == "keyframes+own":
        # Per level of (16, 8x8), (32, 4x4) tokens: outputs of view 0 and keys and values of all, 3 keyframes.
        layers = ((3, 16, 64), (4, 32, 16))  # attn1 modules: 1 down + 2 up, and 1 down + 1 mid + 2 up
        held = sum(n * 2 * 3 * length * width * (1 + 2 * VIEWS) * 4 for n, width, length in layers)
        assert report.record_bytes == held


def test_still_clip_with_shared_noise_stays_still(unet: MultiviewUNet) -> None:
    """Equal frames and no motion: all frames of the result are equal, with propagation as without."""
    front = noise(1, PIXELS, PIXELS, 3).sigmoid().expand(5, -1, -1, -1)
    settings = SamplingConfig(steps=2, chunk=2, guidance=2.0)
    for used in (TokenFlow(unet, config(), make_flows(5)), None):
        with used or nullcontext():
            rgb = generate(make_prior(unet), front, settings, torch.Generator().manual_seed(0), used).rgb
        torch.testing.assert_close(rgb, rgb[:1].expand_as(rgb), atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_is_close_to_single(unet: MultiviewUNet, kind: torch.dtype) -> None:
    tokens = noise(2, 9, VIEWS, 2 * LENGTH, CHANNELS)
    hidden = torch.zeros(PIXELS, PIXELS, dtype=torch.bool)
    hidden[:8] = True
    flows = make_flows(dx=3.0, hidden=hidden)
    expected = run(unet, tokens, config(), flows)
    try:
        half = run(unet.to(kind), tokens.to(kind), config(), flows)
    finally:
        unet.float()
    assert half.dtype == kind
    # Roundings of 8 or 11 bits in inputs and weights; measured 0.004 and 0.0005.
    torch.testing.assert_close(half.float(), expected, atol=0.02, rtol=0)


def test_settings_that_make_no_sense_are_refused(unet: MultiviewUNet) -> None:
    for changes in ({"enlarged": "some"}, {"tau": 1.5}, {"interval": 0}, {"visible_share": 0.0}):
        with pytest.raises(ConfigError, match=next(iter(changes))):
            config(**changes)
    with pytest.raises(ConfigError, match="no flow is given"):
        TokenFlow(unet, config())
    with pytest.raises(ConfigError, match="flow is given"):
        TokenFlow(unet, config(propagation="none"), make_flows())
    with pytest.raises(ConfigError, match="needs flow of view 0"):
        TokenFlow(unet, config(), make_flows(views=(1,)))
    with pytest.raises(ConfigError, match="an interval of 8 has"):
        TokenFlow(unet, config(interval=8), make_flows())
    with (
        pytest.raises(ConfigError, match="needs flow of 6 views"),
        TokenFlow(unet, config(propagation="all"), make_flows(views=(0, 1))) as controller,
    ):
        controller.passes(step())
    with (
        pytest.raises(ConfigError, match="flow of 9 frames for a video of 10"),
        TokenFlow(unet, config(), make_flows()) as controller,
    ):
        controller.passes(step(frames=10))


def test_use_out_of_order_is_refused(unet: MultiviewUNet) -> None:
    controller = TokenFlow(unet, config(), make_flows())
    with (
        pytest.raises(ValueError, match="is not installed"),
        controller.running(step(), Pass((0, 4, 8), "key")),
    ):
        pass
    with controller, pytest.raises(ValueError, match="installed already"), controller:
        pass
    with pytest.raises(ValueError, match="no attention modules"):
        TokenFlow(torch.nn.Linear(2, 2), config(), make_flows())
    with (
        controller,
        pytest.raises(ValueError, match="before the keyframes"),
        controller.running(step(), Pass((1,), "fill")),
    ):
        layer(unet)(noise(2 * VIEWS, 2 * LENGTH, CHANNELS))
    assert controller.state.current is None
