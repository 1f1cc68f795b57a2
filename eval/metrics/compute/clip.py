"""CLIP image embeddings and their cosine (Radford et al. 2021, "Learning Transferable Visual Models").

open_clip's vision transformer runs every format the weights come in (OpenAI's and open_clip's names,
transformers' names), and pictures are prepared by Pillow alone: transformers changed both the type returned
by `get_image_features` and, with its torchvision processor, the pixels (cosines move by 1e-4).

`ToyEncoder` is another network with another scale of values: the small CLIP trained on toy4d pictures.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from mvtokenflow.base.damaged import damage, read_json
from mvtokenflow.base.errors import DataError, WeightsCorruptError
from mvtokenflow.eval.metrics.compute.precision import full_precision
from mvtokenflow.weights import ledger as weights

if TYPE_CHECKING:
    from mvtokenflow.small.clip import SmallClip

WEIGHTS_NAME = "clip-vit-b32-openai"
TOY_WEIGHTS_NAME = "clip-toy4d"
Activation = Literal["quick_gelu", "gelu"]


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """The preparation of a picture: shorter side to `size`, central square, normalised."""

    size: int = 224
    mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)

    def __call__(self, image: NDArray[np.uint8]) -> Tensor:
        """Prepare a uint8 (H, W, 3) picture as float32 (3, size, size) as CLIP does: Pillow bicubic, uint8.

        Raises:
            DataError: not a uint8 RGB picture.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise DataError(f"CLIP takes uint8 (H, W, 3) pictures, not {image.dtype} {image.shape}")
        height, width = image.shape[:2]
        short = min(height, width)
        target = (self.size * width // short, self.size * height // short)
        picture = Image.fromarray(image).resize(target, Image.Resampling.BICUBIC)
        left, top = (target[0] - self.size) // 2, (target[1] - self.size) // 2
        pixels = np.asarray(picture.crop((left, top, left + self.size, top + self.size)), np.float32)
        mean, std = np.array(self.mean, np.float32), np.array(self.std, np.float32)
        return torch.from_numpy((pixels / np.float32(255) - mean) / std).permute(2, 0, 1)


def image_tower(tensors: Mapping[str, Tensor], heads: int, activation: Activation) -> nn.Module:
    """Build open_clip's vision transformer with parameters named as in OpenAI's `visual.`.

    It takes prepared pictures (B, 3, size, size) to projected, un-normalised embeddings (B, D).

    Args:
        tensors: its parameters, from which every size but the number of heads is read.
        heads: attention heads; OpenAI's networks have one per 64 channels.
        activation: of the MLPs. OpenAI's networks were trained with x σ(1.702 x); with the exact GELU they are
            silently worse.
    """
    from open_clip.transformer import QuickGELU, VisionTransformer  # slow to import

    width, _, patch, _ = tensors["conv1.weight"].shape
    hidden = tensors["transformer.resblocks.0.mlp.c_fc.weight"].shape[0]
    tower: nn.Module = VisionTransformer(
        image_size=patch * math.isqrt(len(tensors["positional_embedding"]) - 1),
        patch_size=patch,
        width=width,
        layers=1 + max(int(m[1]) for m in map(_LAYER.match, tensors) if m),
        heads=heads,
        mlp_ratio=(hidden + 0.5) / width,  # it is multiplied and rounded down there
        output_dim=tensors["proj"].shape[1],
        act_layer=QuickGELU if activation == "quick_gelu" else nn.GELU,
    )
    tower.load_state_dict(tensors, strict=True)
    return tower


_LAYER = re.compile(r"transformer\.resblocks\.(\d+)\.")


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Compute attention step by step, since torch's fused kernel moves cosines by 4e-8."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


_TRANSFORMERS_LAYER = {
    "self_attn.out_proj": "attn.out_proj",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}


def _from_transformers(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename transformers' `vision_model.*` and `visual_projection` to OpenAI's names."""
    prefix = "vision_model."
    named = {
        "class_embedding": tensors[f"{prefix}embeddings.class_embedding"],
        "conv1.weight": tensors[f"{prefix}embeddings.patch_embedding.weight"],
        "positional_embedding": tensors[f"{prefix}embeddings.position_embedding.weight"],
        "proj": tensors["visual_projection.weight"].T,
    }
    for kind in ("weight", "bias"):
        named[f"ln_pre.{kind}"] = tensors[f"{prefix}pre_layrnorm.{kind}"]  # the typing error is theirs
        named[f"ln_post.{kind}"] = tensors[f"{prefix}post_layernorm.{kind}"]
        layer = 0
        while f"{prefix}encoder.layers.{layer}.layer_norm1.weight" in tensors:
            source, target = f"{prefix}encoder.layers.{layer}", f"transformer.resblocks.{layer}"
            packed = [tensors[f"{source}.self_attn.{part}_proj.{kind}"] for part in "qkv"]
            named[f"{target}.attn.in_proj_{kind}"] = torch.cat(packed)
            for theirs, ours in _TRANSFORMERS_LAYER.items():
                named[f"{target}.{ours}.{kind}"] = tensors[f"{source}.{theirs}.{kind}"]
            layer += 1
    return named


def image_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a CLIP checkpoint's image tower in float32 under OpenAI's names, from either naming.

    Raises:
        WeightsCorruptError: neither naming fits.
    """
    named = {name.removeprefix("visual."): x for name, x in tensors.items() if name.startswith("visual.")}
    if not named:
        try:
            named = _from_transformers(tensors)
        except KeyError as error:
            raise WeightsCorruptError(
                f"not a CLIP checkpoint with a vision transformer: has neither visual.* nor {error}"
            ) from error
    return {name: tensor.float() for name, tensor in named.items()}


# of preprocessor_config.json; `Preparation` takes them all
_STEPS = ("do_resize", "do_center_crop", "do_rescale", "do_normalize")


def _folder_settings(folder: Path) -> tuple[int, Activation, Preparation]:
    """Read heads, activation and preparation of a local model folder in transformers' layout."""
    cure = "get the folder again"
    with damage(folder, "not a CLIP model folder", cure, WeightsCorruptError):
        vision = read_json(folder / "config.json", dict, cure, kind=WeightsCorruptError)["vision_config"]
        heads, activation = int(vision["num_attention_heads"]), vision["hidden_act"]
        file = folder / "preprocessor_config.json"
        settings: dict[str, Any] = (
            read_json(file, dict, cure, kind=WeightsCorruptError) if file.is_file() else {}
        )
        size = int(vision["image_size"])
        rescale = float(settings.get("rescale_factor", 1 / 255))
        preparation = Preparation(
            size=size,
            mean=tuple(settings.get("image_mean", Preparation.mean)),
            std=tuple(settings.get("image_std", Preparation.std)),
        )
    resize, crop = settings.get("size", size), settings.get("crop_size", size)
    for value in (resize, crop):
        sizes = set(value.values()) if isinstance(value, dict) else {value}
        if sizes != {size}:
            raise WeightsCorruptError(f"{folder}: prepares pictures of {value}, the network takes {size}")
    skipped = [step for step in _STEPS if not settings.get(step, True)]
    if skipped or abs(255 * rescale - 1) > 1e-6:
        raise WeightsCorruptError(
            f"{folder}: preprocessor_config.json leaves out {', '.join(skipped) or 'nothing'} and scales by "
            f"{rescale:g}; a CLIP's pictures are resized, cropped, scaled by 1/255 and normalised"
        )
    found = (activation, settings.get("resample", 3), vision.get("layer_norm_eps", 1e-5))
    if found not in (("quick_gelu", 3, 1e-5), ("gelu", 3, 1e-5)):
        raise WeightsCorruptError(
            f"{folder}: (activation, resampling, epsilon) {found} are not a CLIP's: quick_gelu or gelu, 3, 1e-5"
        )
    return heads, activation, preparation


class ImageEncoder:
    """Embeds pictures with a CLIP image tower.

    Attributes:
        dimensions: D of the embeddings, 512 for ViT-B/32.
    """

    def __init__(self, tower: nn.Module, preparation: Preparation) -> None:
        """Take `tower` from `image_tower`, on the device to use."""
        self._tower = tower.eval().requires_grad_(False)
        self._prepare = preparation
        self._device = next(tower.parameters()).device
        self.dimensions = int(tower.get_parameter("proj").shape[1])

    @torch.inference_mode()
    def embed(self, images: Sequence[NDArray[np.uint8]], batch: int = 1) -> Tensor:
        """Compute projected, un-normalised embeddings (N, D), float32 on the CPU.

        Args:
            images: uint8 (H, W, 3), any sizes. Consistent4D's protocol squashes them to 512x512 before.
            batch: pictures per forward pass. With 1 an embedding doesn't depend on its neighbours, to the
                last bit; larger batches are faster on a GPU.

        Raises:
            DataError: a picture is not uint8 RGB.
        """
        rows = [torch.empty(0, self.dimensions)]
        for start in range(0, len(images), batch):
            prepared = torch.stack([self._prepare(image) for image in images[start : start + batch]])
            with full_precision(), _plain_attention():
                rows.append(self._tower(prepared.to(self._device)).cpu())
        return torch.cat(rows)


class ToyEncoder:
    """Embeds pictures with the small CLIP of toy4d; used like `ImageEncoder`.

    Attributes:
        dimensions: D of the embeddings, 128 for the shipped one.
    """

    def __init__(self, model: "SmallClip") -> None:
        self._model = model
        self.dimensions = model.config.embed_dim

    @torch.inference_mode()
    def embed(self, images: Sequence[NDArray[np.uint8]], batch: int = 1) -> Tensor:
        """Compute unit embeddings (N, D), float32 on the CPU, of square uint8 (H, H, 3) pictures on white.

        Pictures are resized to the network's 64 px in float32, bicubic with antialiasing. `batch` as in
        `ImageEncoder.embed`.

        Raises:
            DataError: a picture is not uint8 RGB, or not square.
        """
        rows = [torch.empty(0, self.dimensions)]
        for start in range(0, len(images), batch):
            with full_precision():
                prepared = torch.cat([self._prepare(image) for image in images[start : start + batch]])
                rows.append(self._model.embed_images(prepared).cpu())
        return torch.cat(rows)

    def _prepare(self, image: NDArray[np.uint8]) -> Tensor:
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise DataError(f"CLIP takes uint8 (H, W, 3) pictures, not {image.dtype} {image.shape}")
        picture = torch.tensor(image, device=self._model.device)
        return self._model.prepare(picture.permute(2, 0, 1)[None].float() / 255) * 0.5 + 0.5


def load_toy(explicit: Path | None = None, device: torch.device | str = "cpu") -> ToyEncoder:
    """Load the small CLIP of the ledger.

    Raises:
        WeightsMissingError, WeightsCorruptError: as `weights.verify`, or not a small CLIP.
    """
    from mvtokenflow.small.clip import load_small_clip  # imports open_clip, which is slow

    return ToyEncoder(load_small_clip(weights.verify(TOY_WEIGHTS_NAME, explicit), device))


def load(explicit: Path | None = None, device: torch.device | str = "cpu") -> ImageEncoder:
    """Load CLIP ViT-B/32 of the ledger, or the local file or model folder given.

    Raises:
        WeightsMissingError, WeightsCorruptError: as `weights.load`, or not a CLIP network.
    """
    path = weights.resolve(WEIGHTS_NAME, explicit)
    stored = weights.load(WEIGHTS_NAME, path)
    heads: int | None = None
    activation: Activation = "quick_gelu"
    preparation = Preparation()
    if path.is_dir():
        heads, activation, preparation = _folder_settings(path)
    cure = "give the file or folder of a CLIP"
    with damage(path, "not a CLIP vision transformer", cure, WeightsCorruptError):
        tensors = image_tensors(stored)
        width, _, patch, _ = tensors["conv1.weight"].shape
        tokens = (preparation.size // patch) ** 2 + 1
        if len(tensors["positional_embedding"]) != tokens:
            raise ValueError(f"{len(tensors['positional_embedding'])} positions for {tokens} tokens")
        tower = image_tower(tensors, heads or width // 64, activation)
    return ImageEncoder(tower.to(device), preparation)
