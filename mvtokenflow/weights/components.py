"""Networks in the layout of diffusers: one folder per component, with its settings and its weights.

Their libraries would fill missing tensors with random numbers; here they are refused.
"""

import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from mvtokenflow.base.damaged import damage, read_json
from mvtokenflow.base.errors import WeightsCorruptError, WeightsMissingError
from mvtokenflow.base.tensor_files import load_torch

_STEMS = {"image_encoder": "model", "text_encoder": "model"}
_POSITION_BUFFER = "position_ids"  # older CLIP files store this constant
_AGAIN = "download it again"


def component_settings(folder: Path, name: str, cure: str) -> dict[str, Any]:
    """Read a component's settings, the file `name` in its folder.

    Raises:
        WeightsMissingError: no such file; `cure` is the sentence on how to get it.
        WeightsCorruptError: not JSON.
    """
    path = folder / name
    if not path.is_file():
        raise WeightsMissingError(f"{path}: no such file; {cure}")
    config: dict[str, Any] = read_json(path, dict, _AGAIN, "not JSON", WeightsCorruptError)
    return config


def component_weights(folder: Path, cure: str) -> Path:
    """Return the weights file of a component.

    Raises:
        WeightsMissingError: it has none; `cure` is the sentence on how to get it.
    """
    stem = _STEMS.get(folder.name, "diffusion_pytorch_model")
    legacy = "pytorch_model" if stem == "model" else stem
    names = [f"{stem}.safetensors", f"{stem}.fp16.safetensors", f"{legacy}.bin", f"{legacy}.fp16.bin"]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise WeightsMissingError(f"{folder}: no weights ({', '.join(names)}); {cure}")


def check_whole(path: Path) -> None:
    """Check that a weights file is not cut off, before anything is built.

    Raises:
        WeightsCorruptError: it is.
    """
    if path.suffix == ".bin":
        if not zipfile.is_zipfile(path):
            raise WeightsCorruptError(f"{path}: cut off, or not a file of torch.save; {_AGAIN}")
        return
    with damage(path, "damaged or cut off", _AGAIN, WeightsCorruptError), safe_open(path, "pt"):
        pass


def component_tensors(path: Path, dtype: torch.dtype, device: torch.device | str) -> dict[str, Tensor]:
    """Read a file's tensors, each converted as it is read, so that two copies of a network never exist."""
    if path.suffix == ".bin":
        with damage(path, "cannot be read", _AGAIN, WeightsCorruptError):
            stored = load_torch(path, mmap=True)
        return {name: tensor.to(device, dtype) for name, tensor in stored.items()}
    with safe_open(path, "pt") as stream:
        return {name: stream.get_tensor(name).to(device, dtype) for name in stream.keys()}  # noqa: SIM118


def pretrained(kind: Any, folder: Path, dtype: torch.dtype, device: torch.device | str, cure: str) -> Any:
    """Load a component by its own library, in evaluation mode and frozen.

    Raises:
        WeightsMissingError: no weights. WeightsCorruptError: damaged, or tensors of another network.
    """
    path = component_weights(folder, cure)
    options: dict[str, Any] = {"local_files_only": True, "output_loading_info": True}
    options |= {"variant": "fp16"} if ".fp16." in path.name else {}
    if kind.__module__.startswith("diffusers"):  # which else asks for accelerate, to save memory while it loads
        options["low_cpu_mem_usage"] = False
    with damage(path, "cannot be read", _AGAIN, WeightsCorruptError):
        network, notes = kind.from_pretrained(str(folder), **options)
    unexpected = {name for name in notes["unexpected_keys"] if not name.endswith(_POSITION_BUFFER)}
    check_keys(path, missing=set(notes["missing_keys"]), unexpected=unexpected)
    if notes["mismatched_keys"]:
        raise WeightsCorruptError(f"{path}: tensors of another shape: {list(notes['mismatched_keys'])[:3]}")
    moved = network.to(device, dtype)
    return moved.eval().requires_grad_(False)


def check_keys(path: Path, missing: set[str], unexpected: set[str]) -> None:
    """Check that a file has exactly a network's tensors.

    Raises:
        WeightsCorruptError: names some that are missing or too many.
    """
    for names, what in ((missing, "are missing"), (unexpected, "do not belong to the network")):
        if names:
            shown = ", ".join(sorted(names)[:3])
            raise WeightsCorruptError(
                f"{path}: {len(names)} tensors {what}, such as {shown}; these are weights of another network, "
                "or the download is incomplete"
            )
