"""Read Era3D's released weights: a diffusers folder, here or on the Hugging Face hub.

Nothing is assumed about the numbers in the folder: the configuration is compared key by key with the network
that this package rebuilds, every tensor must be there, and damaged files are found before anything is built.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mvtokenflow.base.damaged import damage
from mvtokenflow.base.errors import ConfigError, WeightsCorruptError, WeightsMissingError
from mvtokenflow.base.files import expanded
from mvtokenflow.base.tensor_files import load_torch
from mvtokenflow.multiview.era3d import UnclipEncoder, VaeCodec, encode_prompts
from mvtokenflow.multiview.prior import MultiviewPrior
from mvtokenflow.multiview.unet import MultiviewUNet
from mvtokenflow.views.cameras import ERA3D_AZIMUTHS_DEG, orbit
from mvtokenflow.weights import ledger
from mvtokenflow.weights import snapshot as snapshots
from mvtokenflow.weights.components import (
    check_keys,
    check_whole,
    component_settings,
    component_tensors,
    component_weights,
    pretrained,
)
from mvtokenflow.weights.method_entries import ERA3D_SNAPSHOT

_LISTED = "era3d"  # in the weights ledger
ERA3D = ERA3D_SNAPSHOT.repository
_CURE = f"get the whole checkpoint: run `mvtf-eval weights fetch {_LISTED}`"

# unet/config.json and scheduler/scheduler_config.json of the release (step 40000, EMA weights).
ERA3D_UNET: dict[str, Any] = {
    "in_channels": 8,
    "out_channels": 4,
    "sample_size": 64,
    "block_out_channels": [320, 640, 1280, 1280],
    "layers_per_block": 2,
    "attention_head_dim": [5, 10, 20, 20],
    "transformer_layers_per_block": 1,
    "cross_attention_dim": 1024,
    "use_linear_projection": True,
    "class_embed_type": "projection",
    "projection_class_embeddings_input_dim": 2048,
    "down_block_types": [*["CrossAttnDownBlockMV2D"] * 3, "DownBlock2D"],
    "up_block_types": ["UpBlock2D", *["CrossAttnUpBlockMV2D"] * 3],
    "mid_block_type": "UNetMidBlockMV2DCrossAttn",
    "num_views": 6,
    "selfattn_block": "self_rowwise",
    "multiview_attention": True,
    "mvcd_attention": True,
    "cd_attention_mid": False,
    "cd_attention_last": False,
    "num_regress_blocks": 3,
    "projection_camera_embeddings_input_dim": 4,
    "use_dino": False,
    "addition_downsample": False,
    "act_fn": "silu",
    "norm_num_groups": 32,
    "norm_eps": 1e-5,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "time_embedding_act_fn": None,
    "time_embedding_dim": None,
}
ERA3D_SCHEDULER: dict[str, Any] = {
    "_class_name": "DDIMScheduler",
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "linear",
    "prediction_type": "v_prediction",
    "timestep_spacing": "leading",
    "steps_offset": 1,
    "clip_sample": False,
    "set_alpha_to_one": False,
    "rescale_betas_zero_snr": False,
    "thresholding": False,
}
# Either the released network or its variant for orthographic input, which estimates no pose.
_POSE_KEYS = ("regress_elevation", "regress_focal_length")

_CONFIGS = {
    "unet": "config.json",
    "scheduler": "scheduler_config.json",
    "vae": "config.json",
    "image_encoder": "config.json",
    "image_normalizer": "config.json",
    "image_noising_scheduler": "scheduler_config.json",
    "feature_extractor": "preprocessor_config.json",
}
_TEXT_CONFIGS = {"text_encoder": "config.json", "tokenizer": "tokenizer_config.json"}
_WITH_WEIGHTS = ("unet", "vae", "image_encoder", "image_normalizer", "text_encoder")


def find_checkpoint(source: str) -> Path:
    """Return a checkpoint's folder: a local path, `ERA3D` by the weights ledger, or another name on the hub.

    What is not here is fetched: `ERA3D` into the weights folder, others into the hub's cache.

    Raises:
        WeightsMissingError: it is not here and cannot be fetched; the message has the command that gets it.
        WeightsCorruptError: files in the weights folder are others than those that were fetched.
    """
    folder = expanded(source, "the prior")
    if folder.is_dir():
        return folder
    if source == ERA3D:
        return ledger.obtain(_LISTED)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", source):
        raise WeightsMissingError(f"{source}: no such folder; {_CURE}")
    snapshot = replace(ERA3D_SNAPSHOT, repository=source)
    command = f"where it can be reached, run: hf download {source}, and name that folder as the prior"
    return snapshots.download(snapshot, None, command)


def config_differences(folder: Path) -> list[str]:
    """Return one line for every setting of a checkpoint that is not Era3D's; empty for the released weights.

    Raises:
        WeightsMissingError, WeightsCorruptError: no such configuration, or not JSON.
    """
    unet, scheduler = _config(folder, "unet"), _config(folder, "scheduler")
    lines = _differences(unet, ERA3D_UNET, "unet/config.json")
    pose = [unet.get(key) for key in _POSE_KEYS]
    if pose not in ([True, True], [False, False]):
        lines.append(
            f"unet/config.json: {' and '.join(_POSE_KEYS)} are {pose}, expected both true or both false"
        )
    return lines + _differences(scheduler, ERA3D_SCHEDULER, "scheduler/scheduler_config.json")


def load_era3d(
    folder: Path,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    prompts: Path | None = None,
    strict: bool = True,
) -> MultiviewPrior:
    """Build the prior of a checkpoint folder in the released layout, safetensors or .bin, of any float type.

    Args:
        dtype, device: of all networks.
        prompts: folder with Era3D's `normal_embeds.pt` and `clr_embeds.pt`, (6, 77, 1024) each; otherwise
            they are computed with the checkpoint's text encoder.
        strict: refuse settings that are not Era3D's (`config_differences`). Without, the folder's own are used.

    Raises:
        WeightsMissingError: a file is missing.
        WeightsCorruptError: a file is damaged, or its tensors are not those of the network.
        ConfigError: the settings differ.
    """
    _check_files(folder, with_text=prompts is None)
    lines = config_differences(folder) if strict else []
    if lines:
        raise ConfigError(
            f"{folder}: not Era3D's settings: {'; '.join(lines)}; "
            f"{_CURE}, or read another network's folder with load_era3d(folder, strict=False)"
        )
    from diffusers import AutoencoderKL, DDIMScheduler, DDPMScheduler
    from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import (
        StableUnCLIPImageNormalizer,
    )
    from transformers import CLIPVisionModelWithProjection

    vae = pretrained(AutoencoderKL, folder / "vae", dtype, device, _CURE)
    unet = _unet(folder / "unet", dtype, device)
    encoder = UnclipEncoder(
        _extractor(folder / "feature_extractor"),
        pretrained(CLIPVisionModelWithProjection, folder / "image_encoder", dtype, device, _CURE),
        pretrained(StableUnCLIPImageNormalizer, folder / "image_normalizer", dtype, device, _CURE),
        _scheduler(DDPMScheduler, folder / "image_noising_scheduler"),
    )
    texts = _computed_prompts(folder, dtype, device) if prompts is None else _stored_prompts(prompts)
    _check_fit(folder, unet, vae, encoder, texts)
    size = int(_config(folder, "unet")["sample_size"]) * 2 ** (len(vae.config.block_out_channels) - 1)
    return MultiviewPrior(
        unet=unet,
        scheduler=_scheduler(DDIMScheduler, folder / "scheduler"),
        codec=VaeCodec(vae, unet.config.num_views),
        image_encoder=encoder,
        prompts=texts.to(device, dtype),
        cameras=orbit(ERA3D_AZIMUTHS_DEG, size=size, kind="ortho", radius=1.3),
        size=size,
        background=1.0,
    )


def _check_fit(folder: Path, unet: MultiviewUNet, vae: Any, encoder: UnclipEncoder, texts: Tensor) -> None:
    """Check that the components belong together: each gives the network as many channels as it takes."""
    config = unet.config
    pairs = {
        "latents and their condition": (2 * vae.config.latent_channels, config.in_channels),
        "class labels": (2 * encoder.normalizer.mean.shape[-1], config.projection_class_embeddings_input_dim),
        "image embeddings": (encoder.encoder.config.projection_dim, encoder.normalizer.mean.shape[-1]),
        "prompts": (texts.shape[-1], config.cross_attention_dim),
    }
    for what, (given, taken) in pairs.items():
        if given != taken:
            raise ConfigError(
                f"{folder}: {what} have {given} channels where {taken} are expected; mixed files?"
            )


def _config(folder: Path, component: str) -> dict[str, Any]:
    return component_settings(folder / component, (_CONFIGS | _TEXT_CONFIGS)[component], _CURE)


def _differences(found: Mapping[str, Any], expected: Mapping[str, Any], name: str) -> list[str]:
    lines = []
    for key, value in expected.items():
        if key not in found and value not in (None, False):
            lines.append(f"{name}: {key} is missing, expected {value!r}")
        elif key in found and found[key] != value:
            lines.append(f"{name}: {key} is {found[key]!r}, expected {value!r}")
    return lines


def _check_files(folder: Path, *, with_text: bool) -> None:
    """Check that every file is there and whole, before anything is built."""
    if not folder.is_dir():
        raise WeightsMissingError(f"{folder}: no such folder; {_CURE}")
    components = _CONFIGS | (_TEXT_CONFIGS if with_text else {})
    for component in components:
        _config(folder, component)
    for component in _WITH_WEIGHTS:
        if component in components:
            check_whole(component_weights(folder / component, _CURE))
    if with_text:
        _check_words(folder / "tokenizer")


def _check_words(folder: Path) -> None:
    """Refuse a tokenizer without its vocabulary; transformers would build an empty one without a warning."""
    there = [(folder / name).is_file() for name in ("tokenizer.json", "vocab.json", "merges.txt")]
    if not (there[0] or all(there[1:])):
        raise WeightsMissingError(
            f"{folder}: neither tokenizer.json nor both vocab.json and merges.txt; {_CURE}"
        )


def _unet(folder: Path, dtype: torch.dtype, device: torch.device | str) -> MultiviewUNet:
    with torch.device("meta"):
        unet = MultiviewUNet.from_config(_config(folder.parent, "unet"))
    path = component_weights(folder, _CURE)
    tensors = component_tensors(path, dtype, device)
    expected = {name: tuple(tensor.shape) for name, tensor in unet.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    check_keys(path, missing=expected.keys() - found.keys(), unexpected=found.keys() - expected.keys())
    wrong = [
        f"{name} is {found[name]}, expected {expected[name]}" for name in found if found[name] != expected[name]
    ]
    if wrong:
        raise WeightsCorruptError(f"{path}: {len(wrong)} tensors of another shape: {'; '.join(wrong[:3])}")
    unet.load_state_dict(tensors, assign=True)
    return unet.eval().requires_grad_(False)


def _scheduler(kind: Any, folder: Path) -> Any:
    return kind.from_pretrained(str(folder))


def _extractor(folder: Path) -> Any:
    """Return CLIP's preparation of pictures by Pillow, as the original has it."""
    import transformers

    # Where there are both, the plain name is torchvision's, whose bicubic differs by a level here and there.
    kind: Any = getattr(transformers, "CLIPImageProcessorPil", transformers.CLIPImageProcessor)
    return kind.from_pretrained(str(folder))


def _computed_prompts(folder: Path, dtype: torch.dtype, device: torch.device | str) -> Tensor:
    from transformers import CLIPTextModel, CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(str(folder / "tokenizer"))
    return encode_prompts(tokenizer, pretrained(CLIPTextModel, folder / "text_encoder", dtype, device, _CURE))


def _stored_prompts(folder: Path) -> Tensor:
    """Read the prompts (2, 6, L, D) of the two files that come with Era3D's code."""
    read = []
    for name in ("normal_embeds.pt", "clr_embeds.pt"):
        path = folder / name
        if not path.is_file():
            raise WeightsMissingError(
                f"{path}: no such file; it is in Era3D's repository under mvdiffusion/data, or leave the "
                "folder out and have the prompts computed"
            )
        with damage(path, "cannot be read", "download it again", WeightsCorruptError):
            tensor = load_torch(path)
        if not isinstance(tensor, Tensor) or tensor.ndim != 3 or len(tensor) != len(ERA3D_AZIMUTHS_DEG):
            raise WeightsCorruptError(f"{path}: not a tensor (6, L, D) of text embeddings; download it again")
        read.append(tensor)
    return torch.stack(read)
