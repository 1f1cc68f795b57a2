"""The small prior shipped in the package: Era3D's network at 64 pixels, and its weights file.

One safetensors file holds the network and the codec's mean pictures and scales in float16; its metadata names
the configuration, the cameras and the small CLIP whose labels and prompts the network was trained with.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mvtokenflow.base.damaged import damage, parse_json
from mvtokenflow.base.errors import WeightsCorruptError, WeightsMissingError
from mvtokenflow.base.files import canonical_json
from mvtokenflow.base.tensor_files import read_tensors, write_tensors
from mvtokenflow.multiview.prior import MultiviewPrior
from mvtokenflow.multiview.unet import MultiviewUNet
from mvtokenflow.small import clip as small_clip
from mvtokenflow.small.codec import PatchCodec, place_planes
from mvtokenflow.small.fitting import built_for
from mvtokenflow.small.schedule import noise_schedule
from mvtokenflow.views.cameras import ERA3D_AZIMUTHS_DEG, Cameras, orbit

WEIGHTS = Path(__file__).parent / "weights" / "prior.safetensors"
FORMAT = "mvtokenflow-small-prior-1"
BACKGROUND = 0.5
_RADIUS = 3.0  # distance of the orthographic cameras, without influence on pictures


def six_cameras(size: int) -> Cameras:
    """Build Era3D's cameras: orthographic, elevation 0, half-width 1."""
    return orbit(ERA3D_AZIMUTHS_DEG, size=size, kind="ortho", radius=_RADIUS)


def assemble(
    unet: MultiviewUNet, codec: PatchCodec, encoder: small_clip.SmallClip, size: int
) -> MultiviewPrior:
    """Assemble the prior from its parts; all must have the network's device and type."""
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
    kind: str = FORMAT,
) -> None:
    """Write weights (by parameter name) and codec atomically as float16; `facts` go into the metadata.

    Args:
        kind: name of the format; a network of another use has another one.
    """
    tensors = {f"unet.{name}": value for name, value in weights.items()}
    tensors |= {"codec.means": codec.means, "codec.scales": codec.scales}
    metadata = {
        **facts,
        "format": kind,
        "unet": canonical_json(dict(unet_config)),
        "patch": str(codec.patch),
        "clip_sha256": small_clip.WEIGHTS_SHA256,
    }
    halves = {name: value.detach().cpu().half().contiguous() for name, value in tensors.items()}
    write_tensors(path, halves, metadata)


def load_small_prior(path: Path | None = None, device: torch.device | str = "cpu") -> MultiviewPrior:
    """Load the shipped prior, or one of `save_small_prior`; float32, evaluation mode, frozen.

    Raises:
        WeightsMissingError: no such file, or no small CLIP beside the shipped one.
        WeightsCorruptError: not a small prior, tensors missing, of wrong shape or not finite, or trained with
            another small CLIP than the shipped one.
    """
    file = WEIGHTS if path is None else path
    if not file.is_file():
        raise WeightsMissingError(f"{file}: no prior there; reinstall, or run `mvtf train-prior -o DIR`")
    unet, codec = read_network(file, FORMAT, "not a small prior")
    encoder = small_clip.load_small_clip(device=device)
    return assemble(unet.to(device), codec.to(device), encoder, codec.means.shape[-1])


def read_network(file: Path, kind: str, what: str) -> tuple[MultiviewUNet, PatchCodec]:
    """Read network and codec of a file of `save_small_prior`; float32, evaluation mode, frozen, on the CPU.

    Args:
        kind: the format expected. what: begins the message about another one, "not a small prior".

    Raises:
        WeightsCorruptError: as `load_small_prior`.
    """
    cure = "reinstall, or train it again"
    metadata, stored = read_tensors(file, what, cure, WeightsCorruptError)
    with damage(file, what, cure, WeightsCorruptError):
        tensors = {name: value.float() for name, value in stored.items()}
        if metadata.get("format") != kind:
            raise ValueError(f"its format is {metadata.get('format')!r}")
        broken = [name for name, value in tensors.items() if not value.isfinite().all()]
        if broken:
            raise ValueError(f"{broken[0]} holds NaN or infinite values")
        means, scales, patch = tensors["codec.means"], tensors["codec.scales"], int(metadata["patch"])
        codec = PatchCodec(
            means=means, scales=scales, places=place_planes(six_cameras(means.shape[-1]), patch), patch=patch
        )
        stated = parse_json(metadata["unet"])
        weights = {name.removeprefix("unet."): value for name, value in tensors.items() if name[:5] == "unet."}
        unet = built_for(lambda: MultiviewUNet.from_config(stated), weights)
        trained_with = metadata["clip_sha256"]
    if trained_with != small_clip.WEIGHTS_SHA256:
        raise WeightsCorruptError(
            f"{file}: trained with the small CLIP {trained_with[:12]}…, not the one installed; reinstall"
        )
    return unet.eval().requires_grad_(False), codec
