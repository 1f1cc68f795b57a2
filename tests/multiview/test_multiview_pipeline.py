"""Sampling: the original's loop on stored numbers, and what frames, noise, passes and normals must obey."""

import json
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from mvtokenflow.base.errors import ConfigError, DataError
from mvtokenflow.multiview.config import SamplingConfig
from mvtokenflow.multiview.passes import Pass, Step
from mvtokenflow.multiview.prior import MultiviewPrior, decode_normals, encode_normals
from mvtokenflow.multiview.sampler import (
    MultiviewFrames,
    Noise,
    ddim_step,
    denoise,
    generate,
    level_steps,
    noise_levels,
    predict_clean,
)
from mvtokenflow.multiview.unet import MultiviewOutput, MultiviewUNet
from mvtokenflow.views.cameras import ERA3D_AZIMUTHS_DEG, orbit

DATA = Path(__file__).parents[1] / "data"
VIEWS, SIZE = 6, 16
ERA3D_SCHEDULE: dict[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "linear",
    "prediction_type": "v_prediction",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}


class HalfSize:
    """Latents are pictures at half the size."""

    def condition(self, front: Tensor) -> Tensor:
        return F.avg_pool2d(front, 2)[None, :, None].expand(2, -1, VIEWS, -1, -1, -1)

    def encode(self, pictures: Tensor, front: Tensor) -> Tensor:
        return F.avg_pool2d(pictures.flatten(0, 2), 2).view(*pictures.shape[:3], 3, SIZE // 2, SIZE // 2)

    def decode(self, latents: Tensor, front: Tensor) -> Tensor:
        return latents.sigmoid().repeat_interleave(2, dim=-1).repeat_interleave(2, dim=-2)


class MeanColour:
    def class_labels(self, front: Tensor, generator: torch.Generator) -> Tensor:
        return front.mean(dim=(2, 3)) + 0.1 * torch.randn(3, generator=generator)


def toy_prior(**schedule: Any) -> MultiviewPrior:
    torch.manual_seed(0)
    make_scheduler: Any = DDIMScheduler  # diffusers carries no types
    unet = MultiviewUNet.from_config(
        {
            "in_channels": 6,
            "out_channels": 3,
            "block_out_channels": [8, 16],
            "down_block_types": ["DownBlock2D", "CrossAttnDownBlockMV2D"],
            "up_block_types": ["CrossAttnUpBlockMV2D", "UpBlock2D"],
            "layers_per_block": 1,
            "attention_head_dim": [2, 2],
            "cross_attention_dim": 5,
            "projection_class_embeddings_input_dim": 3,
            "norm_num_groups": 4,
            "regress_hidden_dim": 4,
        }
    )
    return MultiviewPrior(
        unet=unet.eval(),
        scheduler=make_scheduler(**(ERA3D_SCHEDULE | schedule)),
        codec=HalfSize(),
        image_encoder=MeanColour(),
        prompts=torch.randn(2, VIEWS, 2, 5),
        cameras=orbit(ERA3D_AZIMUTHS_DEG, size=SIZE, kind="ortho", radius=1.3),
        size=SIZE,
        background=1.0,
    )


def clip(frames: int, seed: int = 5) -> Tensor:
    return torch.rand(frames, SIZE, SIZE, 3, generator=torch.Generator().manual_seed(seed))


def sample(
    front: Tensor, prior: MultiviewPrior | None = None, seed: int = 1, **settings: Any
) -> MultiviewFrames:
    config = SamplingConfig(**({"steps": 3, "chunk": 2} | settings))
    return generate(prior or toy_prior(), front, config, torch.Generator().manual_seed(seed))


class Replay(nn.Module):
    """Gives the stored outputs of the original network, and keeps what it was asked."""

    def __init__(self, original: MultiviewUNet, stored: dict[str, Tensor]) -> None:
        super().__init__()
        self.config = original.config
        self.anchor = nn.Parameter(torch.zeros(1))
        self.stored = stored
        self.asked: list[tuple[Tensor, int, Tensor]] = []

    def forward(
        self, sample: Tensor, timestep: Tensor, context: Tensor, labels: Tensor, parts: None
    ) -> MultiviewOutput:
        index = len(self.asked)
        self.asked.append((sample, int(timestep), labels))
        return MultiviewOutput(self.stored[f"unet_sample_out{index}"], self.stored[f"unet_pose_out{index}"])


def by_frame(batch: Tensor) -> Tensor:
    """(2, 1, V, ...) of the original's pictures of one frame."""
    return batch.view(2, 1, VIEWS, *batch.shape[1:])


def conditional(batch: Tensor) -> Tensor:
    """The conditional half of the original's guided batch, (2, 1, V, ...)."""
    return batch.view(2, 2, VIEWS, *batch.shape[1:])[:, 1:]


def stored_run(stored: dict[str, Tensor], prior: Any) -> tuple[Tensor, Tensor | None]:
    steps = [by_frame(stored[f"noise.step{index}"]) for index in range(4)]
    noise = Noise(initial=by_frame(stored["noise.latents"]), steps=steps)
    condition, labels = conditional(stored["cfg.image_latents"]), conditional(stored["cfg.image_embeds"])
    return denoise(prior, condition, labels, noise, SamplingConfig(steps=4))


def test_original_loop_on_the_original_networks_outputs() -> None:
    stored = load_file(DATA / "era3d_pipeline_tiny.safetensors")
    prior = toy_prior()
    network = Replay(MultiviewUNet(replace(prior.unet.config, out_channels=4)), stored)
    object.__setattr__(prior, "unet", network)
    latents, pose = stored_run(stored, prior)
    # Measured 1.4e-6.
    torch.testing.assert_close(latents.flatten(0, 2), stored["latents_after_step3"], atol=5e-6, rtol=0)
    assert [timestep for _, timestep, _ in network.asked] == stored["timesteps"].tolist()
    first, _, labels = network.asked[0]
    assert torch.equal(first[:, 4:], stored["cfg.image_latents"])
    assert torch.equal(labels, stored["cfg.image_embeds"])
    assert torch.equal(first[:12, :4], torch.cat([stored["noise.latents"][:6]] * 2))
    assert pose is not None
    assert torch.equal(pose, stored["unet_pose_out3"][1:])


def test_original_loop_with_our_network(shared: Path) -> None:
    folder = shared / "parity"
    notes = json.loads((folder / "era3d_unet_tiny.json").read_text())
    unet = MultiviewUNet.from_config(notes["config"] | {"regress_hidden_dim": notes["regress_hidden_dim"]})
    weights = load_file(folder / "era3d_unet_tiny.safetensors")
    unet.load_state_dict({name[11:]: x for name, x in weights.items() if name.startswith("state_dict.")})
    stored = load_file(folder / "era3d_pipeline_tiny.safetensors")
    prior = replace(toy_prior(), unet=unet.eval(), prompts=stored["prompt_embeds"].view(2, VIEWS, 9, 24))
    latents, _ = stored_run(stored, prior)
    # Measured 9.8e-5: four guided steps amplify the 6e-6 between two float32 networks.
    torch.testing.assert_close(latents.flatten(0, 2), stored["latents_after_step3"], atol=4e-4, rtol=0)


@pytest.mark.parametrize("kind", ["v_prediction", "epsilon", "sample"])
@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("clipped", [False, True])
@pytest.mark.parametrize("to_one", [False, True])
def test_step_is_that_of_diffusers(kind: str, eta: float, clipped: bool, to_one: bool) -> None:
    prior = toy_prior(prediction_type=kind, clip_sample=clipped, set_alpha_to_one=to_one)
    scheduler = prior.scheduler
    scheduler.set_timesteps(8)
    x, output, noise = torch.randn(3, 2, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    levels = noise_levels(prior, SamplingConfig(steps=8))
    assert [timestep for timestep, _, _ in levels] == scheduler.timesteps.tolist()
    for timestep, before, after in levels:
        expected = scheduler.step(output, timestep, x, eta=eta, variance_noise=noise).prev_sample
        ours = ddim_step(
            x, output, before, after, kind=kind, clip=1.0 if clipped else None, eta=eta, noise=noise
        )
        # Measured 1.3e-5: diffusers computes the schedule in float32, where 1 - a' - sigma^2 cancels.
        torch.testing.assert_close(ours, expected, atol=4e-5, rtol=0)


def test_own_timesteps() -> None:
    front, prior = clip(1), toy_prior()
    spaced = sample(front, prior, steps=4)
    named = sample(front, prior, steps=4, timesteps=(751, 501, 251, 1))
    assert torch.equal(spaced.rgb, named.rgb)
    two = SamplingConfig(steps=2, timesteps=(900, 10))
    powers = [(before, after) for _, before, after in noise_levels(prior, two)]
    bar = prior.scheduler.alphas_cumprod
    assert powers == [(float(bar[900]), float(bar[10])), (float(bar[10]), float(bar[0]))]


def test_perfect_network_returns_the_picture() -> None:
    """Whatever the steps, DDIM with the true v ends at the clean latents (up to the last noise level)."""
    prior = toy_prior(set_alpha_to_one=True)
    clean = torch.randn(2, 1, VIEWS, 3, 8, 8, generator=torch.Generator().manual_seed(3))

    class Perfect(nn.Module):
        config = prior.unet.config

        def __init__(self) -> None:
            super().__init__()
            self.anchor = nn.Parameter(torch.zeros(1))

        def forward(
            self, noisy: Tensor, timestep: Tensor, context: Tensor, labels: Tensor, parts: None
        ) -> MultiviewOutput:
            power = prior.scheduler.alphas_cumprod[timestep]
            x = noisy[:, :3]
            v = (power.sqrt() * x - clean.flatten(0, 2)) / (1 - power).sqrt()
            return MultiviewOutput(v, torch.zeros(1, 2))

    perfect = replace(prior, codec=prior.codec)
    object.__setattr__(perfect, "unet", Perfect())
    condition = torch.zeros(2, 1, VIEWS, 3, 8, 8)
    generator = torch.Generator().manual_seed(0)
    for timesteps in ((999, 700, 20), (999,)):
        noise = Noise(
            initial=torch.randn(clean.shape, generator=generator),
            steps=[torch.randn(clean.shape, generator=generator) for _ in timesteps],
        )
        config = SamplingConfig(steps=len(timesteps), timesteps=timesteps, guidance=1.0)
        latents, _ = denoise(perfect, condition, torch.zeros(1, 3), noise, config)
        torch.testing.assert_close(latents, clean, atol=1e-4, rtol=0)


def test_guidance_is_linear_and_one_has_no_second_branch() -> None:
    front, prior = clip(1), toy_prior()
    sizes: list[int] = []
    handle = prior.unet.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    plain = sample(front, prior, steps=1, guidance=1.0)
    handle.remove()
    assert sizes == [12]
    config = SamplingConfig(steps=1)

    def latents(guidance: float) -> Tensor:
        condition = prior.codec.condition(front.permute(0, 3, 1, 2))
        initial = torch.randn(2, 1, VIEWS, 3, 8, 8, generator=torch.Generator().manual_seed(1))
        noise = Noise(initial=initial, steps=[torch.zeros(1)])
        return denoise(prior, condition, torch.ones(1, 3), noise, replace(config, guidance=guidance))[0]

    zero, one, three = latents(0.0), latents(1.0), latents(3.0)
    torch.testing.assert_close(three, zero + 3 * (one - zero), atol=1e-5, rtol=0)
    assert (one - zero).abs().max() > 1e-3
    assert plain.rgb.shape == (1, VIEWS, SIZE, SIZE, 3)


@pytest.mark.parametrize("kind", ["v_prediction", "sample"])
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_the_loop_can_be_taken_apart(kind: str, guidance: float) -> None:
    prior = toy_prior(prediction_type=kind)
    config = SamplingConfig(steps=3, eta=0.0, guidance=guidance, chunk=2)
    latents, condition = torch.randn(2, 3, VIEWS, 3, 8, 8), torch.rand(2, 3, VIEWS, 3, 8, 8)
    labels = torch.rand(3, 3)
    expected, _ = denoise(prior, condition, labels, Noise(initial=latents, steps=[]), config)
    with torch.no_grad():
        for step, alpha, alpha_after in level_steps(prior, config, 3, VIEWS):
            clean = predict_clean(prior, latents, condition, labels, step, alpha, guidance)
            latents = ddim_step(latents, clean, alpha, alpha_after, kind="sample")
    torch.testing.assert_close(latents, expected, atol=1e-4, rtol=0)


def test_frames_share_their_noise_unless_told_otherwise() -> None:
    front = clip(1).repeat(3, 1, 1, 1)
    together = sample(front)
    torch.testing.assert_close(together.rgb[0], together.rgb[2], atol=1e-5, rtol=0)
    assert (together.rgb[0, 0] - together.rgb[0, 1]).abs().max() > 0.01  # views do not share
    apart = sample(front, share_noise=False)
    assert (apart.rgb[0] - apart.rgb[2]).abs().mean() > 0.01


@pytest.mark.parametrize("share", [True, False])
def test_frames_and_chunks_do_not_matter_without_a_controller(share: bool) -> None:
    front, prior = clip(5), toy_prior()
    runs = [sample(front, prior, chunk=chunk, share_noise=share) for chunk in (1, 2, 5)]
    for run in runs[1:]:
        # Measured 9e-7: sums of other batch sizes are ordered differently.
        torch.testing.assert_close(run.rgb, runs[0].rgb, atol=1e-5, rtol=0)
        torch.testing.assert_close(run.pose, runs[0].pose, atol=1e-5, rtol=0)


def test_one_seed_one_result() -> None:
    front, prior = clip(2), toy_prior()
    assert torch.equal(sample(front, prior).rgb, sample(front, prior).rgb)
    assert not torch.allclose(sample(front, prior).rgb, sample(front, prior, seed=2).rgb, atol=1e-3)
    generator = torch.Generator().manual_seed(1)
    generate(prior, front, SamplingConfig(steps=5, eta=0.0), generator)
    drawn = torch.Generator().manual_seed(1)
    torch.randn(3, generator=drawn)
    torch.randn(2, 1, VIEWS, 3, 8, 8, generator=drawn)
    assert torch.equal(generator.get_state(), drawn.get_state())  # nothing is drawn for steps with eta 0


class Recorder:
    """Keyframes 0 and 3 first, then the others, the last one by itself."""

    def __init__(self, rounds: Sequence[Pass]) -> None:
        self.rounds = rounds
        self.events: list[tuple[str, int, str, tuple[int, ...]]] = []

    def passes(self, step: Step) -> Sequence[Pass]:
        assert (step.frames, step.views, step.halves, step.count) == (5, VIEWS, 2, 3)
        return self.rounds

    def running(self, step: Step, current: Pass) -> AbstractContextManager[object]:
        @contextmanager
        def inside() -> Iterator[None]:
            self.events.append(("enter", step.index, current.role, current.frames))
            yield
            self.events.append(("leave", step.index, current.role, current.frames))

        return inside()


def test_controller_orders_the_passes() -> None:
    front, prior = clip(5), toy_prior()
    rounds = [Pass((0, 3), "key"), Pass((4, 1), "fill"), Pass((2,), "fill")]
    controller = Recorder(rounds)
    config = SamplingConfig(steps=3, chunk=2)
    run = generate(prior, front, config, torch.Generator().manual_seed(1), controller)
    expected = [
        (event, index, current.role, current.frames)
        for index in range(3)
        for current in rounds
        for event in ("enter", "leave")
    ]
    assert controller.events == expected
    # A controller that changes nothing in the network changes nothing in the result.
    plain = sample(front, prior)
    torch.testing.assert_close(run.rgb, plain.rgb, atol=1e-5, rtol=0)
    torch.testing.assert_close(run.pose, plain.pose, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "rounds", [[Pass((0, 1, 2, 3))], [Pass((0, 1, 2, 3, 4)), Pass((2,))], [Pass((1,) * 5)]]
)
def test_controller_must_cover_every_frame_once(rounds: list[Pass]) -> None:
    with pytest.raises(ConfigError, match="exactly one pass"):
        generate(toy_prior(), clip(5), SamplingConfig(steps=3), torch.Generator(), Recorder(rounds))


def test_progress_counts_to_the_end() -> None:
    calls: list[tuple[str, int, int]] = []
    generate(
        toy_prior(),
        clip(3),
        SamplingConfig(steps=2, chunk=2),
        torch.Generator(),
        progress=lambda stage, done, total: calls.append((stage, done, total)),
    )
    assert calls == [("denoise", 1, 2), ("denoise", 2, 2), ("decode", 2, 3), ("decode", 3, 3)]


def test_result_is_what_it_says() -> None:
    run = sample(clip(2))
    assert run.rgb.shape == run.normal.shape == (2, VIEWS, SIZE, SIZE, 3)
    assert run.alpha.shape == (2, VIEWS, SIZE, SIZE, 1)
    assert run.rgb.dtype == run.normal.dtype == torch.float32
    assert ((run.rgb >= 0) & (run.rgb <= 1)).all()
    assert len(run.cameras) == VIEWS
    lengths = run.normal.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(lengths, (run.alpha > 0).float(), atol=1e-5, rtol=0)
    assert run.pose is not None
    assert run.pose.shape == (2, 2)


def test_double_precision_is_kept() -> None:
    prior = toy_prior()
    prior.unet.double()
    assert sample(clip(1), prior, steps=1).rgb.dtype == torch.float64


def test_half_precision_networks_give_single_precision_pictures() -> None:
    front = clip(2)
    single = sample(front, steps=3)
    prior = toy_prior()
    prior.unet.to(torch.bfloat16)
    half = sample(front, prior, steps=3)
    assert half.rgb.dtype == half.normal.dtype == torch.float32
    # Measured 0.013 of a range of 0.86: bfloat16 keeps two to three digits.
    assert 0 < (half.rgb - single.rgb).abs().max() < 0.05


def test_overflow_is_reported() -> None:
    prior = toy_prior()
    with torch.no_grad():
        prior.unet.conv_out.weight.fill_(torch.inf)
    with pytest.raises(ConfigError, match=r"overflowed in torch.float32"):
        sample(clip(1), prior)


@pytest.mark.parametrize(
    ("front", "message"),
    [
        (torch.zeros(2, SIZE, SIZE + 1, 3), "needs"),
        (torch.zeros(0, SIZE, SIZE, 3), "needs"),
        (torch.zeros(SIZE, SIZE, 3), "needs"),
        (torch.full((1, SIZE, SIZE, 3), 1.5), r"\[0, 1\]"),
        (torch.full((1, SIZE, SIZE, 3), torch.nan), r"\[0, 1\]"),
        (torch.zeros(1, SIZE, SIZE, 3, dtype=torch.uint8), r"\[0, 1\]"),
    ],
)
def test_bad_fronts_are_refused(front: Tensor, message: str) -> None:
    with pytest.raises(DataError, match=message):
        sample(front)


@pytest.mark.parametrize(
    "settings",
    [
        {"steps": 0},
        {"chunk": 0},
        {"eta": -0.1},
        {"eta": 1.5},
        {"guidance": -1.0},
        {"guidance": float("nan")},
        {"timesteps": ()},
        {"timesteps": (3, 3), "steps": 2},
        {"timesteps": (3, 5), "steps": 2},
        {"timesteps": (3, -1), "steps": 2},
        {"timesteps": (3, 1), "steps": 3},
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        SamplingConfig(**settings)


@pytest.mark.parametrize(
    ("schedule", "settings", "message"),
    [
        ({}, {"steps": 2, "timesteps": (1000, 1)}, "ends at 999"),
        ({}, {"steps": 1001}, "1000 noise levels"),
        ({"thresholding": True}, {}, "without thresholding"),
        (
            {"prediction_type": "epsilon", "rescale_betas_zero_snr": True},
            {"steps": 2, "timesteps": (999, 1)},
            "pure noise",
        ),
    ],
)
def test_schedule_and_settings_must_fit(
    schedule: dict[str, Any], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        noise_levels(toy_prior(**schedule), SamplingConfig(**settings))


@pytest.mark.parametrize(
    ("world", "level"),
    [
        ((0.0, -1.0, 0.0), (128, 128, 255)),  # towards the front camera
        ((1.0, 0.0, 0.0), (255, 128, 128)),
        ((-1.0, 0.0, 0.0), (0, 128, 128)),
        ((0.0, 1.0, 0.0), (128, 128, 0)),
        ((0.0, 0.0, 1.0), (128, 255, 128)),
    ],
)
def test_colours_of_normals(world: tuple[float, ...], level: tuple[int, ...]) -> None:
    """Era3D's released pictures: any view shows a face of the world in one colour."""
    encoded = encode_normals(torch.tensor(world), torch.ones(1), 1.0)
    torch.testing.assert_close(encoded, torch.tensor(level) / 255, atol=0.6 / 255, rtol=0)


@pytest.mark.parametrize("background", [0.0, 0.5, 1.0])
def test_normals_survive_the_encoding(background: float) -> None:
    normal = F.normalize(torch.randn(500, 3, generator=torch.Generator().manual_seed(0)), dim=-1)
    found, alpha = decode_normals(encode_normals(normal, torch.ones(500, 1), background), background)
    # Measured 2.4e-5: near the tangents from the background's corner a root magnifies rounding.
    torch.testing.assert_close(found, normal, atol=2e-4, rtol=0)
    assert (alpha == 1).all()
    found, alpha = decode_normals(encode_normals(normal, torch.zeros(500, 1), background), background)
    assert not found.any()
    assert not alpha.any()
    noisy = torch.full((500, 3), background) + 0.02 * torch.rand(500, 3)
    assert not decode_normals(noisy, background)[1].any()
    _, half = decode_normals(encode_normals(normal, torch.full((500, 1), 0.5), background), background)
    assert half.min() > 0.49
    front = encode_normals(normal, torch.ones(500, 1), 0.5)  # in the axes of the encoding
    near = (
        (2 * front - 1).sum(-1) * (2 * background - 1) > 1.01 if background != 0.5 else torch.ones(500).bool()
    )
    assert near.sum() > 50
    # Measured 2e-5: near the tangent the hit moves with the root of rounding.
    torch.testing.assert_close(half[near], torch.full_like(half[near], 0.5), atol=2e-4, rtol=0)


@pytest.mark.parametrize("background", [0.5, 1.0])
def test_silhouette_of_a_sphere(background: float) -> None:
    """Antialiased by 8 x 8 samples, at the size of the small prior."""
    axis = (torch.arange(512) + 0.5) / 256 - 1
    up, right = torch.meshgrid(-axis, axis, indexing="ij")
    depth = (0.64 - right**2 - up**2).clamp_min(0).sqrt()
    normal, alpha = torch.stack((right, -depth, up), dim=-1) / 0.8, (depth > 0).float()[..., None]

    def shrunk(picture: Tensor) -> Tensor:
        return F.avg_pool2d(picture.permute(2, 0, 1), 8).permute(1, 2, 0)

    coverage = shrunk(alpha)
    found, mask = decode_normals(shrunk(encode_normals(normal, alpha, background)), background)
    both, either = (mask > 0.5) & (coverage > 0.5), (mask > 0.5) | (coverage > 0.5)
    # Measured 1.0 for the zero vector and 0.985 for white, where edges of one side widen.
    assert both.sum() / either.sum() > (0.999 if background == 0.5 else 0.98)
    inside = coverage[..., 0] == 1
    cosine = (found * F.normalize(shrunk(normal * alpha), dim=-1)).sum(-1)
    assert cosine[inside].min() > 0.9999
    assert (mask[coverage == 1] == 1).all()


def test_prior_says_what_does_not_fit() -> None:
    prior = toy_prior()
    for change, message in (
        ({"prompts": torch.zeros(2, 5, 2, 5)}, "prompts"),
        ({"cameras": orbit(ERA3D_AZIMUTHS_DEG[:4], size=SIZE, kind="ortho", radius=1.0)}, "prompts"),
        ({"size": 32}, "cameras"),
        ({"background": 0.3}, "background"),
    ):
        with pytest.raises(ValueError, match=message):
            replace(prior, **change)
