"""The prior shipped in the package: Era3D's network at 64 pixels, and its weights file.

One safetensors file holds the network and the codec's mean pictures and scales in float16; its metadata names
the configuration, the cameras and the small CLIP whose labels and prompts the network was trained with.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mvtokenflow.cameras import ERA3D_AZIMUTHS_DEG, Cameras, orbit
from mvtokenflow.damaged import damage, parse_json
from mvtokenflow.errors import ConfigError, WeightsCorruptError, WeightsMissingError
from mvtokenflow.files import canonical_json, choose, write_bytes
from mvtokenflow.multiview import small_clip, training_state
from mvtokenflow.multiview.fitting import built_for
from mvtokenflow.multiview.patch_codec import PatchCodec, place_planes
from mvtokenflow.multiview.pipeline import SamplingConfig
from mvtokenflow.multiview.prior import MultiviewPrior
from mvtokenflow.multiview.training import NOISE_LEVELS, PriorTraining, noise_schedule
from mvtokenflow.multiview.unet import MultiviewUNet, UNetConfig
from mvtokenflow.tensor_files import read_tensors, write_tensors

WEIGHTS = Path(__file__).parent / "weights" / "prior.safetensors"
FORMAT = "mvtokenflow-small-prior-1"
BACKGROUND = 0.5
SIZE, PATCH = 64, 4
JUMP = 400  # see `small_sampling`
_GIVEN = (  # settings of a network that the codec, the small CLIP, the six cameras and the level input fix
    "in_channels",
    "out_channels",
    "num_views",
    "cross_attention_dim",
    "projection_class_embeddings_input_dim",
    "regress_elevation",
    "regress_focal_length",
)
_RADIUS = 3.0  # of the cameras, which are orthographic: without influence on pictures


def small_unet_config(
    channels: tuple[int, ...] = (64, 128), heads: tuple[int, ...] = (2, 4), layers: int = 1, patch: int = PATCH
) -> dict[str, Any]:
    """Mapping for `MultiviewUNet.from_config`: Era3D's structure on patch latents, without pose regressors.

    The first level has attention on the way up only: a third less work at the size that costs most, and the way
    up is where token flow acts.
    """
    pixels = 3 * patch**2
    levels = len(channels)
    deeper = ["CrossAttnDownBlockMV2D"] * (levels - 1)
    return {
        "in_channels": 2 * pixels + 6,
        "out_channels": pixels,
        "block_out_channels": list(channels),
        "attention_head_dim": list(heads),
        "down_block_types": ["DownBlock2D", *deeper],
        "up_block_types": ["CrossAttnUpBlockMV2D"] * levels,
        "layers_per_block": layers,
        "transformer_layers_per_block": 1,
        "cross_attention_dim": 128,
        "projection_class_embeddings_input_dim": 128,
        "norm_num_groups": 8,
        "regress_elevation": False,
        "regress_focal_length": False,
    }


def read_prior_config(path: Path | None) -> tuple[dict[str, Any], PriorTraining]:
    """Network and training settings of a TOML file's tables [unet] and [training]; defaults where absent.

    Raises:
        ConfigError: no such file, not TOML, an unknown table or setting, an invalid value, or one that does not
            fit the codec, the small CLIP or the six views.
    """
    if path is None:
        return small_unet_config(), PriorTraining()
    try:
        tables = tomllib.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"{path}: not a readable TOML file ({error}); check the path and its syntax"
        ) from error
    for name, table in tables.items():
        if name not in ("unet", "training") or not isinstance(table, dict):
            raise ConfigError(
                f"{path}: no table [unet] or [training] but '{name}' at the top; rename or remove it"
            )
    unet, training = small_unet_config() | tables.get("unet", {}), tables.get("training", {})
    try:
        for name in training:
            choose("training setting", name, {field.name: None for field in fields(PriorTraining)})
        _check_given(UNetConfig.from_mapping(unet))
        return unet, PriorTraining(**training)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _check_given(config: UNetConfig) -> None:
    given = UNetConfig.from_mapping(small_unet_config())
    for name in _GIVEN:
        found, expected = getattr(config, name), getattr(given, name)
        if found != expected:
            raise ConfigError(
                f"unet config: {name} is {found}, expected {expected}: the small prior's patches, CLIP, six "
                "views and level input fix it; remove it"
            )


def six_cameras(size: int) -> Cameras:
    """Era3D's views: orthographic, elevation 0, half-width 1."""
    return orbit(ERA3D_AZIMUTHS_DEG, size=size, kind="ortho", radius=_RADIUS)


def small_sampling(steps: int = 20, jump: int = JUMP) -> SamplingConfig:
    """DDIM that starts from the mean: the first step at the last noise level, the others from `jump` down.

    A short training gives a good mean (the prediction from pure noise) and poor samples; noise well below the
    last level keeps the mean's layout and lets the other steps add detail to it.
    """
    if steps > 1 and not steps <= jump < NOISE_LEVELS - 1:
        raise ConfigError(f"jump is {jump}; expected {steps} (the steps) to {NOISE_LEVELS - 2}")
    later = [round(jump * (steps - 1 - k) / (steps - 1)) for k in range(steps - 1)]
    timesteps = (NOISE_LEVELS - 1, *later)
    return SamplingConfig(steps=steps, eta=0.0, guidance=1.0, timesteps=timesteps)


def assemble(
    unet: MultiviewUNet, codec: PatchCodec, encoder: small_clip.SmallClip, size: int
) -> MultiviewPrior:
    """The prior of its parts; everything must be on the network's device and of its type."""
    with torch.no_grad():
        prompts = encoder.prompt_states()
    return MultiviewPrior(
        unet=unet,
        scheduler=noise_schedule(),
        codec=codec,
        image_encoder=encoder,
        prompts=prompts,
        cameras=six_cameras(size),
        size=size,
        background=BACKGROUND,
    )


def save_small_prior(
    path: Path,
    weights: Mapping[str, Tensor],
    unet_config: Mapping[str, Any],
    codec: PatchCodec,
    facts: Mapping[str, str],
) -> None:
    """Atomically write weights (by parameter name) and codec as float16; `facts` go into the metadata."""
    tensors = {f"unet.{name}": value for name, value in weights.items()}
    tensors |= {"codec.means": codec.means, "codec.scales": codec.scales}
    metadata = {
        **facts,
        "format": FORMAT,
        "unet": canonical_json(dict(unet_config)),
        "patch": str(codec.patch),
        "clip_sha256": small_clip.WEIGHTS_SHA256,
    }
    halves = {name: value.detach().cpu().half().contiguous() for name, value in tensors.items()}
    write_tensors(path, halves, metadata)


def export(source: Path, target: Path) -> None:
    """Write the weights file of a training checkpoint's averaged weights, or copy a weights file.

    Raises:
        WeightsMissingError, WeightsCorruptError: `source` is neither.
    """
    if not source.is_file():
        raise WeightsMissingError(f"{source}: no such file; train one with `mvtf train-prior -o DIR`")
    metadata, _ = read_tensors(
        source, "not a safetensors file", "train it again", WeightsCorruptError, names=False
    )
    kind = metadata.get("format")
    if kind == FORMAT:
        if source.resolve() != target.resolve():
            write_bytes(target, source.read_bytes())
        return
    facts, counters, tensors = training_state.read(source)
    with damage(source, "a damaged training checkpoint", "train it again", WeightsCorruptError):
        _export_average(facts, counters, tensors, target)


def _export_average(
    facts: Mapping[str, Any], counters: Mapping[str, Any], tensors: Mapping[str, Tensor], target: Path
) -> None:
    means = tensors["codec.means"]
    codec = PatchCodec(
        means=means,
        scales=tensors["codec.scales"],
        places=place_planes(six_cameras(means.shape[-1]), PATCH),
        patch=PATCH,
    )
    prefix = "average."
    weights = {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}
    pedigree = {name: str(counters[name]) for name in ("samples", "step", "seconds", "cooldown")}
    save_small_prior(target, weights, facts["unet"], codec, pedigree)


def load_small_prior(path: Path | None = None, device: torch.device | str = "cpu") -> MultiviewPrior:
    """The shipped prior, or one written by `save_small_prior`; float32, evaluation mode, frozen.

    Raises:
        WeightsMissingError: no such file, or no small CLIP beside the shipped one.
        WeightsCorruptError: not a small prior, tensors missing, of wrong shape or not finite, or trained with
            another small CLIP than the shipped one.
    """
    file = WEIGHTS if path is None else path
    if not file.is_file():
        raise WeightsMissingError(f"{file}: no prior there; reinstall, or run `mvtf train-prior -o DIR`")
    what, cure = "not a small prior", "reinstall, or train it again"
    metadata, stored = read_tensors(file, what, cure, WeightsCorruptError)
    with damage(file, what, cure, WeightsCorruptError):
        tensors = {name: value.float() for name, value in stored.items()}
        if metadata.get("format") != FORMAT:
            raise ValueError(f"its format is {metadata.get('format')!r}")
        broken = [name for name, value in tensors.items() if not value.isfinite().all()]
        if broken:
            raise ValueError(f"{broken[0]} holds NaN or infinite values")
        means, scales, patch = tensors["codec.means"], tensors["codec.scales"], int(metadata["patch"])
        size = means.shape[-1]
        codec = PatchCodec(
            means=means, scales=scales, places=place_planes(six_cameras(size), patch), patch=patch
        )
        stated = parse_json(metadata["unet"])
        weights = {name.removeprefix("unet."): value for name, value in tensors.items() if name[:5] == "unet."}
        unet = built_for(lambda: MultiviewUNet.from_config(stated), weights)
        trained_with = metadata["clip_sha256"]
    encoder = small_clip.load_small_clip(device=device)
    if trained_with != small_clip.WEIGHTS_SHA256:
        raise WeightsCorruptError(
            f"{file}: trained with the small CLIP {trained_with[:12]}…, not the one installed; reinstall"
        )
    unet.to(device).eval().requires_grad_(False)
    return assemble(unet, codec.to(device), encoder, size)
