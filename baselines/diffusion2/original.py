"""The original's two models: SV3D_p across the views of a frame, SVD-XT along the frames of a view.

Both are diffusers' `UNetSpatioTemporalConditionModel` with v-prediction in EDM's form. SV3D differs in what is
embedded of each picture, its camera instead of the frame rate, another vector for every view. Weights are
read from folders of diffusers' layout; of SV3D a converted one is public (chenguolin/sv3d-diffusers).

Sources: Blattmann et al. 2023 (SVD), Voleti et al. 2024 (SV3D), Yang et al. 2025 (Diffusion²).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import UNetSpatioTemporalConditionModel
from safetensors import safe_open
from torch import Tensor

from mvtokenflow.base.damaged import damage
from mvtokenflow.base.errors import WeightsCorruptError, WeightsMissingError
from mvtokenflow.base.tensor_files import read_tensors
from mvtokenflow.baselines.diffusion2.settings import EdmSampling
from mvtokenflow.guidance.sds import guided
from mvtokenflow.multiview.composition import (
    Denoiser,
    compose,
    even_azimuths,
    frame_guidance,
    mixing_share,
    view_weights,
)

_SHARED: Mapping[str, Any] = {
    "in_channels": 8,
    "out_channels": 4,
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "cross_attention_dim": 1024,
    "transformer_layers_per_block": 1,
    "num_attention_heads": (5, 10, 20, 20),
    "addition_time_embed_dim": 256,
}
SVD_UNET: Mapping[str, Any] = {**_SHARED, "projection_class_embeddings_input_dim": 768, "num_frames": 25}
SV3D_UNET: Mapping[str, Any] = {**_SHARED, "projection_class_embeddings_input_dim": 1280, "num_frames": 21}
_WIDTH = 256  # of an embedded number of SVD, and of SV3D's augmentation; its angles have twice as many
_FILE = "unet/diffusion_pytorch_model.safetensors"


def build_unet(config: Mapping[str, Any]) -> Any:
    """Build a network, untrained; on the device of the context, e.g. `torch.device("meta")`."""
    network: Any = UNetSpatioTemporalConditionModel
    return network(**config).eval().requires_grad_(False)


def read_unet(folder: Path, config: Mapping[str, Any], dtype: torch.dtype = torch.float16) -> Any:
    """Read a network from a folder of diffusers' layout; every tensor must be there, and no other.

    Raises:
        WeightsMissingError: no such file.
        WeightsCorruptError: tensors are missing, left over, or of another shape.
    """
    file = folder / _FILE
    if not file.is_file():
        raise WeightsMissingError(f"{file}: no weights there; fetch the whole folder again")
    with torch.device("meta"):
        wanted = {name: tuple(value.shape) for name, value in build_unet(config).state_dict().items()}
    what, cure = "not the network expected", "fetch the folder again"
    with damage(file, what, cure, WeightsCorruptError):
        with safe_open(file, framework="pt") as opened:
            found = {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
        if differ := sorted(set(wanted) ^ set(found)):
            raise ValueError(f"{len(differ)} tensors are missing or left over, the first is {differ[0]}")
        if differ := [name for name in wanted if wanted[name] != found[name]]:
            raise ValueError(f"{differ[0]} is {found[differ[0]]}, expected {wanted[differ[0]]}")
    _, tensors = read_tensors(file, what, cure, WeightsCorruptError)
    with torch.device("meta"):
        network = build_unet(config)
    network.load_state_dict({name: value.to(dtype) for name, value in tensors.items()}, assign=True)
    return network


def sinusoids(values: Tensor, width: int) -> Tensor:
    """Embed numbers (N,) as (N, width): cosines, then sines, of frequencies that fall from 1 to 1e-4."""
    half = width // 2
    rates = torch.exp(-math.log(10_000) * torch.arange(half, dtype=torch.float32) / half)
    angles = values.float()[:, None] * rates
    return torch.cat((angles.cos(), angles.sin()), dim=-1)


def motion_vectors(frames: int, settings: EdmSampling) -> Tensor:
    """Vectors (T, 768) of SVD: frame rate, motion bucket and augmentation, the same for every frame."""
    numbers = torch.tensor([settings.fps, settings.motion, settings.video_augmentation])
    return sinusoids(numbers, _WIDTH).flatten().expand(frames, -1)


def camera_vectors(azimuths_deg: Tensor, elevation_deg: float, settings: EdmSampling) -> Tensor:
    """Vectors (V, 1280) of SV3D: augmentation, polar angle and azimuth in radians."""
    azimuths = torch.deg2rad(azimuths_deg.float() % 360)
    polar = torch.full_like(azimuths, math.radians(90 - elevation_deg))
    augmentation = torch.full_like(azimuths, settings.augmentation)
    parts = (sinusoids(augmentation, _WIDTH), sinusoids(polar, 2 * _WIDTH), sinusoids(azimuths, 2 * _WIDTH))
    return torch.cat(parts, dim=-1)


def predict_frames(unet: Any, sample: Tensor, level: Tensor, context: Tensor, vectors: Tensor) -> Tensor:
    """Run a network on B sequences whose T pictures each have their own vector; diffusers' has one for all.

    Args:
        sample: (B, T, 8, h, w). level: scalar, the network's time.
        context: (B, 1, 1024) image embedding. vectors: (B, T, E) of each picture.

    Returns:
        (B, T, 4, h, w).
    """
    lead = sample.shape[:2]
    times = level.to(sample.device).expand(lead[0] * lead[1])
    embedding = unet.time_embedding(unet.time_proj(times).to(sample.dtype))
    embedding = embedding + unet.add_embedding(vectors.to(sample).flatten(0, 1))
    text = {"encoder_hidden_states": context.to(sample).repeat_interleave(lead[1], dim=0)}
    common = {"temb": embedding, "image_only_indicator": sample.new_zeros(lead)}
    features = unet.conv_in(sample.flatten(0, 1))
    kept = [features]
    for block in unet.down_blocks:
        features, more = block(hidden_states=features, **common, **(text if _attends(block) else {}))
        kept += more
    features = unet.mid_block(hidden_states=features, **common, **text)
    for block in unet.up_blocks:
        count = len(block.resnets)
        taken, kept = tuple(kept[-count:]), kept[:-count]
        more = text if _attends(block) else {}
        features = block(hidden_states=features, res_hidden_states_tuple=taken, **common, **more)
    found: Tensor = unet.conv_out(unet.conv_act(unet.conv_norm_out(features)))
    return found.view(*lead, *found.shape[1:])


def _attends(block: Any) -> bool:
    return bool(getattr(block, "has_cross_attention", False))


@dataclass(frozen=True, kw_only=True)
class Condition:
    """What conditions a sequence: one picture.

    Attributes:
        latents: (4, h, w) of the picture, encoded without noise and not scaled.
        context: (1, 1024) its image embedding.
        vectors: (T, E), see `motion_vectors` and `camera_vectors`.
    """

    latents: Tensor
    context: Tensor
    vectors: Tensor


def clean_sequence(unet: Any, sample: Tensor, sigma: Tensor, condition: Condition, scale: Tensor) -> Tensor:
    """Predict the clean latents (T, 4, h, w) of a noisy sequence `x = clean + sigma noise`, guided.

    v-prediction in EDM's form: `x / (s² + 1) - s / sqrt(s² + 1) F(x / sqrt(s² + 1), log(s) / 4)`. The
    unconditional half has a zero picture and a zero embedding.

    Args:
        sample: in float32; the network gets its own type.
        scale: guidance, a scalar or (T, 1, 1, 1).
    """
    root, kind = (sigma.square() + 1).sqrt(), next(unet.parameters()).dtype
    pictures = condition.latents.to(sample.device, kind).expand(len(sample), -1, -1, -1)
    given = torch.stack((torch.zeros_like(pictures), pictures))
    inputs = torch.cat(((sample / root).to(kind).expand(2, -1, -1, -1, -1), given), dim=2)
    context = torch.stack((torch.zeros_like(condition.context), condition.context))
    vectors = condition.vectors.expand(2, -1, -1)
    found = predict_frames(unet, inputs, sigma.log() / 4, context, vectors).to(sample.dtype)
    without, with_it = (sample / root.square() - sigma / root * half for half in found)
    return guided(without, with_it, scale.to(sample))


def matrix_denoiser(
    views_unet: Any,
    frames_unet: Any,
    of_frames: list[Condition],
    of_views: list[Condition],
    settings: EdmSampling,
) -> Denoiser:
    """Compose the two models for `composition.sample_jointly`, on matrices (V, T, 4, h, w).

    Args:
        of_frames: T conditions of SV3D, each by an input frame.
        of_views: V conditions of SVD, each by its view of one frame.
    """
    weights = view_weights(even_azimuths(settings.views))
    scale = torch.tensor(settings.guidance)
    along = frame_guidance(*settings.video_guidance, settings.frames).float().view(-1, 1, 1, 1)

    def denoise(sample: Tensor, sigma: Tensor, level: int) -> Tensor:
        of_frame = [
            clean_sequence(views_unet, sample[:, index], sigma, one, scale)
            for index, one in enumerate(of_frames)
        ]
        of_view = [
            clean_sequence(frames_unet, sample[index], sigma, one, along) for index, one in enumerate(of_views)
        ]
        share = mixing_share(settings.mixing, level, settings.steps, settings.share)
        return compose(torch.stack(of_frame, dim=1), torch.stack(of_view), weights, share)

    return denoise
