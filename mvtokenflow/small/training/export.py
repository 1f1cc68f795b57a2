"""The weights file of a training checkpoint."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from mvtokenflow.base.damaged import damage
from mvtokenflow.base.errors import ConfigError, DataError, WeightsCorruptError, WeightsMissingError
from mvtokenflow.base.files import write_bytes
from mvtokenflow.base.tensor_files import read_tensors
from mvtokenflow.small.codec import PatchCodec, place_planes
from mvtokenflow.small.config import PATCH
from mvtokenflow.small.prior import FORMAT, save_small_prior, six_cameras
from mvtokenflow.small.training import state as training_state


def export(source: Path, target: Path, kind: str = FORMAT) -> None:
    """Write the weights file of a training checkpoint's averaged weights, or copy a weights file.

    Args:
        kind: format that the weights file has or gets.

    Raises:
        WeightsMissingError, WeightsCorruptError: `source` is neither.
    """
    if not source.is_file():
        raise WeightsMissingError(f"{source}: no such file; train one with `mvtf train-prior -o DIR`")
    metadata, _ = read_tensors(
        source, "not a safetensors file", "train it again", WeightsCorruptError, names=False
    )
    if metadata.get("format") == kind:
        if source.resolve() != target.resolve():
            write_bytes(target, source.read_bytes())
        return
    facts, counters, tensors = training_state.read(source)
    with damage(source, "a damaged training checkpoint", "train it again", WeightsCorruptError):
        _export_average(facts, counters, tensors, target, kind)


def _export_average(
    facts: Mapping[str, Any],
    counters: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    target: Path,
    kind: str,
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
    save_small_prior(target, weights, facts["unet"], codec, pedigree, kind)


def keep_weights(source: Path, target: Path) -> None:
    """Write the weights of a prior or a training checkpoint to `target`, unless it has them already.

    Raises:
        ConfigError: it has other weights.
    """
    if not target.exists():
        export(source, target)
        return
    with TemporaryDirectory() as folder:
        made = Path(folder) / target.name
        export(source, made)
        if not _same_tensors(made, target):
            raise ConfigError(f"{target}: holds other weights than {source}; give another folder")


def _same_tensors(a: Path, b: Path) -> bool:
    """Files are not compared by their bytes: the order of their metadata is not fixed."""
    try:
        (_, one), (_, other) = (read_tensors(path, "damaged", "delete it") for path in (a, b))
    except DataError:  # a damaged file is another one
        return False
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
