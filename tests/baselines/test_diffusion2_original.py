"""The original's models: the networks at full size without memory, their parts at tiny sizes."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLTemporalDecoder
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from mvtokenflow.base.errors import ConfigError, WeightsCorruptError, WeightsMissingError
from mvtokenflow.baselines.diffusion2.original import (
    SV3D_UNET,
    SVD_UNET,
    Condition,
    build_unet,
    camera_vectors,
    clean_sequence,
    matrix_denoiser,
    motion_vectors,
    predict_frames,
    read_unet,
    sinusoids,
)
from mvtokenflow.baselines.diffusion2.original_views import OriginalModels, orbit_cameras
from mvtokenflow.baselines.diffusion2.settings import EdmSampling, paper
from mvtokenflow.media.segment import each
from mvtokenflow.multiview.composition import edm_sigmas, even_azimuths, sample_jointly
from mvtokenflow.views.cameras import orbit
from mvtokenflow.views.video import MultiviewVideo

VIEWS, FRAMES, SIDE = 3, 2, 8
TINY: Mapping[str, Any] = {
    "in_channels": 8,
    "out_channels": 4,
    "block_out_channels": (32, 64),
    "down_block_types": ("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
    "up_block_types": ("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
    "layers_per_block": 1,
    "cross_attention_dim": 1024,
    "num_attention_heads": (2, 4),
    "addition_time_embed_dim": 256,
}


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def networks() -> tuple[Any, Any]:
    torch.manual_seed(0)
    return tuple(build_unet({**TINY, "projection_class_embeddings_input_dim": width}) for width in (1280, 768))


def test_a_sequence_of_one_vector_is_what_diffusers_makes_of_it(networks: tuple[Any, Any]) -> None:
    _, svd = networks
    settings = EdmSampling()
    sample, context = noise(1, FRAMES, 8, SIDE, SIDE), noise(1, 1, 1024, seed=1)
    numbers = torch.tensor([[settings.fps, settings.motion, settings.video_augmentation]])
    expected = svd(sample, torch.tensor(0.3), context, numbers).sample
    found = predict_frames(svd, sample, torch.tensor(0.3), context, motion_vectors(FRAMES, settings)[None])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_every_picture_has_its_own_vector(networks: tuple[Any, Any]) -> None:
    sv3d, _ = networks
    sample, context, level = noise(1, VIEWS, 8, SIDE, SIDE), noise(1, 1, 1024, seed=1), torch.tensor(0.3)
    round_ = torch.tensor(even_azimuths(VIEWS))
    found = [
        predict_frames(sv3d, sample, level, context, camera_vectors(angles, 0.0, EdmSampling())[None])
        for angles in (round_, round_ + torch.tensor([0.0, 0.0, 40.0]))
    ]
    assert not torch.allclose(found[0][:, 2], found[1][:, 2], atol=1e-4)


def test_vectors_have_the_networks_widths() -> None:
    settings = EdmSampling()
    assert motion_vectors(25, settings).shape == (25, SVD_UNET["projection_class_embeddings_input_dim"])
    cameras = camera_vectors(torch.tensor(even_azimuths(21)), 10.0, settings)
    assert cameras.shape == (21, SV3D_UNET["projection_class_embeddings_input_dim"])
    assert torch.equal(cameras[:, :768], cameras[:1, :768].expand(21, -1)), "one elevation, one augmentation"
    torch.testing.assert_close(cameras[-1, 768:], sinusoids(torch.zeros(1), 512)[0])  # the last is the input


def test_guidance_and_the_form_of_edm() -> None:
    """A network that answers the same everywhere makes the formula visible; guidance then changes nothing."""
    settings, sigma = EdmSampling(), torch.tensor(2.0)
    sample = noise(FRAMES, 4, SIDE, SIDE)
    condition = Condition(
        latents=noise(4, SIDE, SIDE, seed=2),
        context=noise(1, 1024, seed=3),
        vectors=motion_vectors(FRAMES, settings),
    )
    torch.manual_seed(0)
    network = build_unet({**TINY, "projection_class_embeddings_input_dim": 768})
    torch.nn.init.zeros_(network.conv_out.weight)
    torch.nn.init.constant_(network.conv_out.bias, 0.5)
    found = clean_sequence(network, sample, sigma, condition, torch.tensor(3.0))
    torch.testing.assert_close(found, sample / 5 - 2 / 5**0.5 * 0.5, rtol=1e-5, atol=1e-6)


def conditions(count: int, vectors: Tensor) -> list[Condition]:
    return [
        Condition(
            latents=noise(4, SIDE, SIDE, seed=10 + k), context=noise(1, 1024, seed=20 + k), vectors=vectors
        )
        for k in range(count)
    ]


def test_a_matrix_is_sampled_by_both(networks: tuple[Any, Any]) -> None:
    settings = EdmSampling(views=VIEWS, frames=FRAMES, steps=2, renoised=1, largest=5.0)
    of_frames = conditions(FRAMES, camera_vectors(torch.tensor(even_azimuths(VIEWS)), 0.0, settings))
    of_views = conditions(VIEWS, motion_vectors(FRAMES, settings))
    start, sigmas = 5 * noise(VIEWS, FRAMES, 4, SIDE, SIDE), edm_sigmas(2, 5.0)

    def sampled(across: Any, along: Any) -> Tensor:
        denoiser = matrix_denoiser(across, along, of_frames, of_views, settings)
        with torch.no_grad():
            return sample_jointly(start, sigmas, denoiser, [noise(*start.shape, seed=4)])

    whole = sampled(*networks)
    assert whole.shape == start.shape
    assert bool(whole.isfinite().all())
    for index, width in enumerate((1280, 768)):
        torch.manual_seed(5)
        other = list(networks)
        other[index] = build_unet({**TINY, "projection_class_embeddings_input_dim": width})
        assert float((sampled(*other) - whole).abs().max()) > 1e-3, "both models count"


@pytest.mark.parametrize(("config", "count"), [(SV3D_UNET, 21), (SVD_UNET, 25)], ids=["sv3d", "svd"])
def test_the_networks_at_full_size_take_a_step_without_memory(config: Mapping[str, Any], count: int) -> None:
    with torch.device("meta"):
        network = build_unet(config).to("meta")  # its mixing factors are made on the CPU all the same
        sample = torch.empty(count, 4, 72, 72)
        condition = Condition(
            latents=torch.empty(4, 72, 72),
            context=torch.empty(1, 1024),
            vectors=torch.empty(count, config["projection_class_embeddings_input_dim"]),
        )
        clean = clean_sequence(network, sample, torch.tensor(700.0), condition, torch.tensor(2.5))
    assert clean.shape == sample.shape
    assert 1.5e9 < sum(value.numel() for value in network.parameters()) < 1.6e9


def test_weights_are_read_strictly(networks: tuple[Any, Any], tmp_path: Path) -> None:
    config = {**TINY, "projection_class_embeddings_input_dim": 768}
    with pytest.raises(WeightsMissingError, match="no weights there"):
        read_unet(tmp_path, config)
    place = tmp_path / "unet" / "diffusion_pytorch_model.safetensors"
    place.parent.mkdir()
    state = dict(networks[1].state_dict())
    save_file(state, place)
    read = read_unet(tmp_path, config, torch.float32)
    assert all(torch.equal(value, read.state_dict()[name]) for name, value in state.items())
    with pytest.raises(WeightsCorruptError, match="expected"):
        read_unet(tmp_path, {**config, "projection_class_embeddings_input_dim": 1280})
    save_file({name: value for name, value in state.items() if name != "conv_out.bias"}, place)
    with pytest.raises(WeightsCorruptError, match=r"conv_out\.bias"):
        read_unet(tmp_path, config)


# ---- from frames to views ----


@pytest.fixture(scope="module")
def models(networks: tuple[Any, Any]) -> OriginalModels:
    torch.manual_seed(1)
    stage: Mapping[str, Any] = {"block_out_channels": (32, 32), "layers_per_block": 1, "latent_channels": 4}
    autoencoder: Any = AutoencoderKLTemporalDecoder
    encoder: Any = CLIPVisionModelWithProjection
    size: Mapping[str, Any] = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    vision = CLIPVisionConfig(**size, num_attention_heads=2, image_size=32, patch_size=16, projection_dim=1024)

    def dark(pixels: Any) -> Any:
        return np.where(pixels.mean(-1) < 128, 255, 0).astype(np.uint8)

    return OriginalModels(
        views_unet=networks[0],
        frames_unet=networks[1],
        autoencoder=autoencoder(**stage, down_block_types=("DownEncoderBlock2D",) * 2).eval(),
        encoder=encoder(vision).eval(),
        segmenter=each(dark),
        names={},
        views=VIEWS,
        picture=32,
    )


def test_views_of_frames_come_as_a_video(models: OriginalModels) -> None:
    edm = EdmSampling(views=VIEWS, frames=FRAMES, steps=2, renoised=1, largest=5.0)
    settings, front = replace(paper(), edm=edm), noise(FRAMES, 2 * SIDE, 2 * SIDE, 3).sigmoid()
    steps: list[int] = []

    def sampled(pictures: Tensor, seed: int = 0) -> MultiviewVideo:
        draws = torch.Generator().manual_seed(seed)
        return models.sample(
            pictures, torch.tensor([0.0, 1.0]), settings, draws, lambda stage, done, total: steps.append(done)
        )

    video = sampled(front)
    assert video.rgb.shape == (FRAMES, VIEWS, 2 * SIDE, 2 * SIDE, 3)
    assert steps == [1, 2]
    assert torch.equal(video.rgb, sampled(front).rgb)
    assert not torch.equal(video.rgb, sampled(front, seed=1).rgb)
    changed = front.clone()
    changed[0] = 1 - changed[0]
    assert not torch.equal(video.rgb, sampled(changed).rgb)
    with pytest.raises(ConfigError, match="raise stride"):
        sampled(front[[0, 0, 1]])


def test_cameras_see_the_prior_units_and_begin_with_the_input() -> None:
    cameras = orbit_cameras(21, 576)
    front = orbit((0.0,), size=576, kind="ortho", radius=1.0)
    torch.testing.assert_close(cameras.world_to_camera[0, :3, :3], front.world_to_camera[0, :3, :3])
    # A point of the plane through the origin, one unit to the right, lies at the edge of the picture.
    point = cameras.world_to_camera[0] @ torch.tensor([1.0, 0.0, 0.0, 1.0])
    across = cameras.intrinsics[0] @ point[:3]
    assert float(across[0] / across[2]) == pytest.approx(576, abs=0.1)
