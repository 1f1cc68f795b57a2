"""The small CLIP: open_clip's model at toy size, image encoder and text encoder of the small prior.

It replaces Era3D's CLIP image encoder and the text encoder of its fixed prompts, and is the network of the
`clip_toy` metric. The architecture is open_clip's own `CLIP` class (a modified
ResNet with attention pooling, a causal text transformer; Radford et al. 2021) with the sizes of
`SmallClipConfig`; the tokenizer is a word-level vocabulary kept inside the weights file.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from open_clip.model import CLIP
from torch import Tensor, nn
from torch.nn import functional as F

from mvtokenflow.base.damaged import damage, parse_json
from mvtokenflow.base.errors import ConfigError, DataError, WeightsCorruptError, WeightsMissingError
from mvtokenflow.base.files import canonical_json, sha256_file
from mvtokenflow.base.tensor_files import read_tensors, write_tensors
from mvtokenflow.small.fitting import built_for

WEIGHTS = Path(__file__).parent / "weights" / "clip.safetensors"
WEIGHTS_SHA256 = "7b8451e2e266623e2a21ed27aeae1ab88553984a3afcd055329d51894aa05bcb"

DOMAINS = ("normal map", "color map")
VIEWS = ("front", "front_right", "right", "back", "left", "front_left")

_FORMAT = "mvtokenflow-small-clip-1"
_PAD, _UNKNOWN, _START = 0, 1, 2  # the end token is the last id: open_clip pools the text at the largest id
_TOKEN = re.compile(r"[a-z0-9]+|[^\sa-z0-9]")


@dataclass(frozen=True, kw_only=True)
class SmallClipConfig:
    """Sizes of the image and text towers, in open_clip's terms.

    Attributes:
        vocabulary: distinct words and marks of the tokenizer, lower case.
        embed_dim: E, size of the joint space.
        image_size: side of the input pictures in pixels.
        vision_width, vision_layers: sizes of open_clip's modified ResNet: width (32 times it before pooling),
            blocks per stage.
        text_width, text_layers, text_heads: sizes of the text transformer; D = text_width.
        context_length: L, tokens per text with start and end.
    """

    vocabulary: tuple[str, ...]
    embed_dim: int = 128
    image_size: int = 64
    vision_width: int = 24
    vision_layers: tuple[int, int, int, int] = (1, 2, 2, 1)
    text_width: int = 128
    text_layers: int = 2
    text_heads: int = 4
    context_length: int = 24

    def __post_init__(self) -> None:
        if len(set(self.vocabulary)) != len(self.vocabulary) or not self.vocabulary:
            raise ConfigError("the vocabulary of a small CLIP must hold words, each once")
        broken = [word for word in self.vocabulary if tokens(word) != [word]]
        if broken:
            raise ConfigError(f"not one token of the small CLIP: {', '.join(map(repr, broken))}")
        if len(self.vision_layers) != 4:
            raise ConfigError("vision_layers are the blocks of four stages")
        sizes = (self.embed_dim, self.vision_width, *self.vision_layers, self.text_width, self.text_layers)
        if min(sizes) < 1 or self.context_length < 3:
            raise ConfigError("sizes of a small CLIP must be positive, its context at least 3 tokens")
        many = {"vision_width": 4096, "text_width": 8192, "embed_dim": 8192, "text_layers": 128}
        for name, most in {**many, "image_size": 4096, "context_length": 4096}.items():
            if getattr(self, name) > most:
                raise ConfigError(f"{name} of a small CLIP is {getattr(self, name)}; expected at most {most}")
        if max(self.vision_layers) > 128:
            raise ConfigError(
                f"vision_layers of a small CLIP are {self.vision_layers}; expected at most 128 each"
            )
        if self.image_size % 32 or self.image_size < 32:
            raise ConfigError(f"image_size must be a multiple of 32, got {self.image_size}")
        if self.text_width % self.text_heads:
            raise ConfigError("text_width must be a multiple of text_heads")

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> "SmallClipConfig":
        """Build the config from JSON fields; a ConfigError names an unknown or missing field."""
        known = {field.name for field in fields(cls)}
        if set(values) != known:
            raise ConfigError(f"small CLIP config has {sorted(values)}; expected {sorted(known)}")
        lists = {name: tuple(values[name]) for name in ("vocabulary", "vision_layers")}
        return cls(**{**values, **lists})


def tokens(text: str) -> list[str]:
    """Split a text into lower-case words and single marks: "front_right, 3D" is front, _, right, comma, 3d."""
    return _TOKEN.findall(text.lower())


def era3d_prompts() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return Era3D's prompts by domain (normal, colour) and view, equal to its `fixed_prompt_embeds_6view`."""
    first, second = (
        tuple(f"a rendering image of 3D models, {view} view, {domain}." for view in VIEWS) for domain in DOMAINS
    )
    return first, second


class SmallClip(nn.Module):
    """open_clip's CLIP at the sizes of a config, with its tokenizer and picture preparation.

    Pictures come as (N, 3, S, S) in [0, 1] on white (normal maps encoded 0.5 n + 0.5 on mid grey). Any S is
    resized to `config.image_size` by bicubic interpolation with antialiasing, cut to [0, 1], and mapped to
    [-1, 1]. In evaluation mode, in which `load_small_clip` returns it, an embedding depends on its own
    picture only.

    Attributes:
        config: sizes and vocabulary. The constructor's `seed` draws the initial values.
        network: the `open_clip.model.CLIP`.
        class_mean, class_std: (E,) moments of embeddings over training front pictures; see `class_labels`.
    """

    class_mean: Tensor
    class_std: Tensor

    def __init__(self, config: SmallClipConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        vision = {
            "layers": config.vision_layers,
            "width": config.vision_width,
            "head_width": 64,
            "image_size": config.image_size,
        }
        text = {
            "context_length": config.context_length,
            "vocab_size": len(config.vocabulary) + 4,
            "width": config.text_width,
            "heads": config.text_heads,
            "layers": config.text_layers,
        }
        # open_clip draws its initial values from torch's global generator, whose state must not change.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.network = CLIP(config.embed_dim, vision, text)
        self.register_buffer("class_mean", torch.zeros(config.embed_dim))
        self.register_buffer("class_std", torch.ones(config.embed_dim))
        self._ids = {word: number + 3 for number, word in enumerate(config.vocabulary)}

    @property
    def device(self) -> torch.device:
        return self.class_mean.device

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Convert texts to ids (N, L) int64: start, words, end, padding; unseen words become one unknown token.

        Raises:
            DataError: a text of more than L - 2 words and marks; cutting it would silently change its meaning.
        """
        length = self.config.context_length
        rows = torch.full((len(texts), length), _PAD, dtype=torch.long)
        for row, text in zip(rows, texts, strict=True):
            words = tokens(text)
            if len(words) > length - 2:
                raise DataError(f"the small CLIP reads {length - 2} words and marks, '{text}' has {len(words)}")
            ids = [_START, *(self._ids.get(word, _UNKNOWN) for word in words), len(self._ids) + 3]
            row[: len(ids)] = torch.tensor(ids)
        return rows.to(self.device)

    def prepare(self, pictures: Tensor) -> Tensor:
        """Resize and scale pictures (N, 3, S, S) in [0, 1] to (N, 3, size, size) in [-1, 1]; see the class.

        Raises:
            DataError: another shape, values that are not finite or leave [0, 1].
        """
        if pictures.ndim != 4 or pictures.shape[1] != 3 or pictures.shape[2] != pictures.shape[3]:
            raise DataError(f"the small CLIP takes square pictures (N, 3, S, S), not {tuple(pictures.shape)}")
        if pictures.numel():
            low, high = (float(bound) for bound in pictures.aminmax())
            if not (low >= -1e-3 and high <= 1 + 1e-3):  # also refuses NaN
                raise DataError(f"the small CLIP takes pictures in [0, 1], not values from {low} to {high}")
        size = self.config.image_size
        pixels = pictures.to(self.device, self.class_mean.dtype)
        if pixels.shape[-1] != size and len(pixels):
            pixels = F.interpolate(pixels, (size, size), mode="bicubic", antialias=True)
        return pixels.clamp(0, 1) * 2 - 1

    def embed_images(self, pictures: Tensor) -> Tensor:
        """Compute unit embeddings (N, E) of pictures (N, 3, S, S) in [0, 1]; raises like `prepare`."""
        out: Tensor = self.network.encode_image(self.prepare(pictures), normalize=True)
        return out

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Compute unit embeddings (N, E) of texts; raises like `tokenize`."""
        out: Tensor = self.network.encode_text(self.tokenize(texts), normalize=True)
        return out

    def text_states(self, texts: Sequence[str]) -> Tensor:
        """Compute the text tower's last hidden states (N, L, D) after its final norm, padding included."""
        net = self.network
        x = net.token_embedding(self.tokenize(texts)) + net.positional_embedding
        out: Tensor = net.ln_final(net.transformer(x, attn_mask=net.attn_mask))
        return out

    def prompt_states(self) -> Tensor:
        """Compute text states (2, 6, L, D) of Era3D's prompts by domain (0 normal, 1 colour) and view."""
        return torch.stack([self.text_states(prompts) for prompts in era3d_prompts()])

    def class_labels(self, front: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Compute conditioning vectors (F, E) of front pictures (F, 3, S, S) in [0, 1].

        The unit embedding is normalised per entry to mean 0 and variance 1 over training fronts. This is
        Era3D's image normalizer without its noising: deterministic, `generator` is part of the protocol only.
        """
        return (self.embed_images(front) - self.class_mean) / self.class_std


def save_small_clip(path: Path, model: SmallClip, facts: Mapping[str, str]) -> None:
    """Write a model atomically as float16 safetensors; config, vocabulary and `facts` go into the metadata."""
    tensors = {
        name: value.detach().cpu().half().contiguous() if value.is_floating_point() else value.detach().cpu()
        for name, value in model.state_dict().items()
    }
    metadata = {**facts, "format": _FORMAT, "config": canonical_json(asdict(model.config))}
    write_tensors(path, tensors, metadata)


def load_small_clip(path: Path | None = None, device: torch.device | str = "cpu") -> SmallClip:
    """Load the shipped small CLIP, or one of `save_small_clip`; float32, evaluation mode, frozen.

    Raises:
        WeightsMissingError: no such file.
        WeightsCorruptError: not a small CLIP, tensors missing, of wrong shape or not finite, or the shipped
            file differs from its pinned sha256.
    """
    file = WEIGHTS if path is None else path
    if not file.is_file():
        raise WeightsMissingError(f"{file}: no small CLIP there; reinstall, or run `mvtf train-clip -o DIR`")
    if path is None and (found := sha256_file(file)) != WEIGHTS_SHA256:
        raise WeightsCorruptError(
            f"{file}: sha256 {found[:12]}…, the shipped small CLIP has {WEIGHTS_SHA256[:12]}…; reinstall"
        )
    cure = "reinstall or train it again"
    metadata, tensors = read_tensors(file, "not a small CLIP", cure, WeightsCorruptError)
    with damage(file, "not a small CLIP", cure, WeightsCorruptError):
        if metadata.get("format") != _FORMAT:
            raise ValueError(f"format {metadata.get('format')!r}, expected {_FORMAT!r}")
        config = SmallClipConfig.from_mapping(parse_json(metadata["config"]))
        broken = [name for name, value in tensors.items() if not value.isfinite().all()]
        if broken:
            raise ValueError(f"values that are not finite in {broken[0]}")
        model = built_for(lambda: SmallClip(config), tensors)
    return model.to(device).eval().requires_grad_(False)
