"""Writer of a checkpoint folder in Era3D's public layout with random weights, of any size.

Random weights cost as much as trained ones, but generate no object, and without one there is nothing to
reconstruct. `show_input_in_vae` and `show_input_in_unet` therefore set a few channels of the network and of the
autoencoder so that all views show the input picture, with more contrast; everything else stays random and is
computed as usual.
"""

import gc
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, DDPMScheduler
from diffusers.models.attention_processor import Attention
from diffusers.models.downsampling import Downsample2D
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D
from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import StableUnCLIPImageNormalizer
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from mvtokenflow.multiview.checkpoint import ERA3D_SCHEDULER, ERA3D_UNET
from mvtokenflow.multiview.unet import MultiviewUNet

# The public components that Era3D uses: Stable Diffusion's autoencoder, OpenCLIP's ViT-H/14.
_VAE: dict[str, Any] = {
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "block_out_channels": [128, 256, 512, 512],
    "layers_per_block": 2,
    "latent_channels": 4,
    "norm_num_groups": 32,
    "scaling_factor": 0.18215,
    "sample_size": 768,
}
_VISION: dict[str, Any] = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 16,
    "image_size": 224,
    "patch_size": 14,
    "projection_dim": 1024,
    "hidden_act": "gelu",
}
_TEXT: dict[str, Any] = {
    "vocab_size": 49408,
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 23,
    "num_attention_heads": 16,
    "max_position_embeddings": 77,
    "hidden_act": "gelu",
}

_CONSTANT = 2.0  # value of the channels beside a signal; keeps the group's variance nearly constant
_LATENT = 3.0  # latents of a white picture, in the network's units
_GUIDANCE = 3.0  # the paper's; it scales the network's output


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Settings of the networks in a folder; the defaults are Era3D's."""

    unet: dict[str, Any] = field(
        default_factory=lambda: ERA3D_UNET | {"regress_elevation": True, "regress_focal_length": True}
    )
    vae: dict[str, Any] = field(default_factory=lambda: dict(_VAE))
    vision: dict[str, Any] = field(default_factory=lambda: dict(_VISION))
    text: dict[str, Any] = field(default_factory=lambda: dict(_TEXT))


def tiny_sizes() -> Sizes:
    """Settings of the same structure for pictures of 64 px, in seconds on a CPU."""
    return Sizes(
        unet={
            **ERA3D_UNET,
            "sample_size": 16,
            "block_out_channels": [32, 32],
            "down_block_types": ["CrossAttnDownBlockMV2D", "DownBlock2D"],
            "up_block_types": ["UpBlock2D", "CrossAttnUpBlockMV2D"],
            "layers_per_block": 1,
            "attention_head_dim": [2, 2],
            "cross_attention_dim": 12,
            "projection_class_embeddings_input_dim": 20,
            "norm_num_groups": 8,
            "regress_elevation": True,
            "regress_focal_length": True,
            "regress_hidden_dim": 6,
        },
        vae={
            **_VAE,
            "down_block_types": ["DownEncoderBlock2D"] * 3,
            "up_block_types": ["UpDecoderBlock2D"] * 3,
            "block_out_channels": [32, 32, 32],
            "layers_per_block": 1,
            "norm_num_groups": 8,
        },
        vision={
            **_VISION,
            "hidden_size": 12,
            "intermediate_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 16,
            "patch_size": 8,
            "projection_dim": 10,
        },
        text={
            **_TEXT,
            "vocab_size": 200,
            "hidden_size": 12,
            "intermediate_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
        },
    )


def write_tokenizer(folder: Path) -> None:
    """Write a byte-level vocabulary without merges."""
    folder.mkdir(parents=True)
    letters = [chr(code) for code in range(33, 127)]
    words = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer: Any = CLIPTokenizer
    made = tokenizer.from_pretrained(str(folder), model_max_length=77)
    made.save_pretrained(str(folder))


def write_folder(
    folder: Path,
    sizes: Sizes,
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    show_input: bool = True,
) -> None:
    """Write all components; those of the full size take 5 GB in float16.

    Args:
        device: device on which the weights are drawn.
        dtype: type of the files.
        show_input: see the module; without it all weights are random.
    """
    torch.manual_seed(seed)
    folder.mkdir(parents=True, exist_ok=True)
    _write_rest(folder, sizes)
    autoencoder: Any = AutoencoderKL  # diffusers has no types
    makers: dict[str, Any] = {
        "vae": lambda: autoencoder(**sizes.vae),
        "image_encoder": lambda: CLIPVisionModelWithProjection(CLIPVisionConfig(**sizes.vision)),
        "text_encoder": lambda: CLIPTextModel(CLIPTextConfig(**sizes.text)),
    }
    for name, make in makers.items():
        with torch.device(device):
            component = make()
        if name == "vae" and show_input:
            show_input_in_vae(component)
        component.to("cpu", dtype).save_pretrained(str(folder / name))
        del component
        gc.collect()
    with torch.device(device):
        unet = MultiviewUNet.from_config(sizes.unet)
    if show_input:
        show_input_in_unet(unet)
    (folder / "unet").mkdir()
    (folder / "unet" / "config.json").write_text(json.dumps(sizes.unet))
    tensors = {name: value.to("cpu", dtype).contiguous() for name, value in unet.state_dict().items()}
    save_file(tensors, folder / "unet" / "diffusion_pytorch_model.safetensors")


def _write_rest(folder: Path, sizes: Sizes) -> None:
    """Write the small components: normalizer, picture preparation, schedules, vocabulary."""
    normalizer = StableUnCLIPImageNormalizer(sizes.vision["projection_dim"])
    nn.init.normal_(normalizer.mean)
    nn.init.uniform_(normalizer.std, 0.5, 1.5)
    crop = sizes.vision["image_size"]
    schedulers: Any = (DDIMScheduler, DDPMScheduler)
    settings = {key: value for key, value in ERA3D_SCHEDULER.items() if key != "_class_name"}
    parts: dict[str, Any] = {
        "image_normalizer": normalizer,
        "feature_extractor": CLIPImageProcessor(
            size={"shortest_edge": crop}, crop_size={"height": crop, "width": crop}
        ),
        "scheduler": schedulers[0](**settings),
        "image_noising_scheduler": schedulers[1](beta_schedule="squaredcos_cap_v2"),
    }
    for name, part in parts.items():
        part.save_pretrained(str(folder / name))
    write_tokenizer(folder / "tokenizer")


# ---- channels that carry the input through ----
#
# A group of the last normalisation holds a signal, its negative, and constants. Its mean is then 0 and its
# variance known, and silu(x) - silu(-x) = x: the last convolution recovers the signal exactly.


@torch.no_grad()
def show_input_in_vae(vae: Any) -> None:
    """Make the first three latents the averaged colours; decoding returns them with twice the contrast."""
    scale = _LATENT / float(vae.config.scaling_factor)
    group = _group(vae.encoder.conv_norm_out)
    _feed(vae.encoder.conv_in, (0, 1, 2), group, 1.0)
    _carry(vae.encoder, 3 * group)
    _read(vae.encoder.conv_out, group, 3, scale, mean_square=0.7)
    _identity(vae.quant_conv, 3)
    group = _group(vae.decoder.conv_norm_out)
    _identity(vae.post_quant_conv, 3)
    _feed(vae.decoder.conv_in, (0, 1, 2), group, 1 / scale)
    _carry(vae.decoder, 3 * group)
    _read(vae.decoder.conv_out, group, 3, 2.0, mean_square=0.7)


@torch.no_grad()
def show_input_in_unet(unet: MultiviewUNet) -> None:
    """Make the prediction v contain minus the input's latents, so that the denoised latents contain them."""
    latents = unet.config.out_channels
    group, width = _group(unet.conv_norm_out), unet.config.block_out_channels[0]
    count = latents * group
    _feed(unet.conv_in, tuple(range(latents, 2 * latents)), group, 1 / _LATENT)
    last: Any = unet.up_blocks[-1]
    block, attention = last.resnets[-1], last.attentions[-1]
    _silence(block.conv2, count)
    _silence(block.conv_shortcut, count)
    features = block.conv_shortcut.in_channels - width  # features before those of the first convolution
    for channel in range(count):
        block.conv_shortcut.weight[channel, features + channel] = 1
    _silence(attention.proj_out, count)
    _read(unet.conv_out, group, latents, -_LATENT / _GUIDANCE, mean_square=0.7)


def _group(norm: Any) -> int:
    """Number of channels of a group."""
    size = int(norm.num_channels // norm.num_groups)
    if size < 4 or size % 2:
        raise ValueError(f"groups of {size} channels; an even number of at least 4 is needed")
    return size


def _silence(layer: Any, count: int) -> None:
    layer.weight[:count] = 0
    if layer.bias is not None:
        layer.bias[:count] = 0


def _identity(layer: Any, count: int) -> None:
    """Make the first `count` channels an identity."""
    _silence(layer, count)
    for channel in range(count):
        layer.weight[channel, channel, layer.weight.shape[2] // 2, layer.weight.shape[3] // 2] = 1


def _feed(layer: Any, sources: tuple[int, ...], group: int, gain: float) -> None:
    """Fill the first groups: each a source, its negative, and constants of both signs."""
    _silence(layer, len(sources) * group)
    for index, source in enumerate(sources):
        start = index * group
        layer.weight[start, source, 1, 1] = gain
        layer.weight[start + 1, source, 1, 1] = -gain
        layer.bias[start + 2 : start + group : 2] = _CONSTANT
        layer.bias[start + 3 : start + group : 2] = -_CONSTANT


def _carry(trunk: nn.Module, count: int) -> None:
    """Make layers keep the first channels: nothing is added, and they keep their places."""
    for module in trunk.modules():
        layer: Any = module
        if isinstance(module, ResnetBlock2D):
            _silence(layer.conv2, count)
            if layer.conv_shortcut is not None:
                _identity(layer.conv_shortcut, count)
        elif isinstance(module, Attention):
            _silence(layer.to_out[0], count)
        elif isinstance(module, Upsample2D):
            _identity(layer.conv, count)
        elif isinstance(module, Downsample2D):
            _silence(layer.conv, count)
            for channel in range(count):
                layer.conv.weight[channel, channel, :2, :2] = 0.25


def _read(layer: Any, group: int, count: int, gain: float, *, mean_square: float) -> None:
    """Make the first outputs the groups' signals times `gain`; other channels add a little."""
    deviation = ((2 * mean_square + (group - 2) * _CONSTANT**2) / group) ** 0.5
    layer.weight[:count] *= 0.3
    layer.bias[:count] = 0
    layer.weight[:count, : count * group] = 0
    centre: Tensor = layer.weight[:, :, 1, 1]
    for index in range(count):
        centre[index, index * group] = gain * deviation
        centre[index, index * group + 1] = -gain * deviation
