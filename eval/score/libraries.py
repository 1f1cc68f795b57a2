"""Measures single frames with the libraries that the field uses, under the settings of a signature.

Pictures are read anew with Pillow. PSNR and SSIM are scikit-image's and torchmetrics', LPIPS is the network of
the package `lpips`, CLIP is open_clip's; both networks have the weights of the ledger.
"""

import warnings
from collections.abc import Mapping
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from mvtokenflow.base.damaged import damage
from mvtokenflow.base.errors import UserError
from mvtokenflow.eval.records.aggregate import FORCED
from mvtokenflow.eval.records.rows import Row
from mvtokenflow.media.video import composite_white
from mvtokenflow.weights import ledger

Pixels = NDArray[np.uint8]

# The settings in a signature that the code below understands, by metric; None for any value.
_KNOWN: Mapping[str, Mapping[str, set[str] | None]] = {
    "psnr": {"v": {"1"}, "range": {"255", "gt-minmax"}, "cap": None},
    "ssim": {"v": {"1"}, "range": {"255", "max-minmax"}, "border": {"full", "crop5"}},
    "lpips": {"v": {"1"}, "net": {"vgg", "alex"}, "scale": {"-1..1", "0..1"}, "w": None},
    "clip": {"v": {"1"}, "model": {"ViT-B-32"}, "pair": {"gt"}, "w": None},
}
_PLACE = {"p", "res", "first", "agg", "gt", FORCED}  # of every signature: the protocol, sizes, backgrounds
_CLIP_MODEL = "ViT-B-32-quickgelu"


class UncheckedError(Exception):
    """A value that no library can measure; the message is the reason."""


class Libraries:
    """The libraries and their loaded networks.

    Args:
        weights: local files or folders by name in the ledger.
    """

    def __init__(self, weights: Mapping[str, Path]) -> None:
        self.weights = weights
        self._lpips: dict[str, Any] = {}

    def measure(self, row: Row, prediction: Path, reference: Path) -> dict[str, float]:
        """Measure the value of a row, by library with version; empty where it is 0/0 for all of them.

        Raises:
            UncheckedError: no library can, for a reason that the row's signature or this machine has.
            DataError: a picture is damaged.
        """
        settings = _settings(row)
        size = None if settings["res"] == "native" else int(settings["res"].split(".")[0])
        ours, theirs = _read(prediction, size), _read(reference, size)
        if row.metric == "psnr":
            return _psnr(settings, ours, theirs)
        if row.metric == "ssim":
            return _ssim(settings, ours, theirs)
        self._check_weights(row, settings)
        if row.metric == "lpips":
            return self._measure_lpips(settings, ours, theirs)
        return self._measure_clip(ours, theirs)

    def _check_weights(self, row: Row, settings: Mapping[str, str]) -> None:
        """Raise an UncheckedError unless the weights behind a row are those on this machine."""
        name = f"lpips-{settings['net']}" if row.metric == "lpips" else "clip-vit-b32-openai"
        try:
            found = ledger.fingerprint(name, self.weights.get(name))
        except UserError as error:
            raise UncheckedError(str(error)) from error
        if not found.startswith(settings.get("w", "?")):
            raise UncheckedError(f"measured with other weights than the {name} of this machine")

    def _measure_lpips(self, settings: Mapping[str, str], ours: Pixels, theirs: Pixels) -> dict[str, float]:
        net = settings["net"]
        if net not in self._lpips:
            name = f"lpips-{net}"
            self._lpips[net] = package_lpips(net, ledger.load(name, self.weights.get(name)))
        pictures = [_planes(side).float() for side in (ours, theirs)]
        pictures = [x / 127.5 - 1 if settings["scale"] == "-1..1" else x / 255 for x in pictures]
        with torch.inference_mode():
            return {f"lpips {version('lpips')}": float(self._lpips[net](*pictures))}

    def _measure_clip(self, ours: Pixels, theirs: Pixels) -> dict[str, float]:
        model, prepare = self._clip
        with torch.inference_mode():
            first, second = (
                model.encode_image(prepare(Image.fromarray(side))[None]).double() for side in (ours, theirs)
            )
        cosine = torch.nn.functional.cosine_similarity(first, second)
        return {f"open_clip {version('open_clip_torch')}": float(cosine)}

    @cached_property
    def _clip(self) -> tuple[Any, Any]:
        """Return open_clip's model and preparation of pictures."""
        import open_clip

        name = "clip-vit-b32-openai"
        stored = ledger.load(name, self.weights.get(name))
        visual = {
            key.removeprefix("visual."): x.float() for key, x in stored.items() if key.startswith("visual.")
        }
        if not visual:
            raise UncheckedError("its weights are in the layout of transformers, which open_clip does not read")
        model, _, prepare = open_clip.create_model_and_transforms(_CLIP_MODEL, load_weights=False)
        model.visual.load_state_dict(visual, strict=True)
        return model.eval(), prepare


def _settings(row: Row) -> dict[str, str]:
    """Parse the settings in a row's signature.

    Raises:
        UncheckedError: one of them is not known here.
    """
    head, *parts = row.signature.split("|")
    settings = {name: value for name, _, value in (part.partition(":") for part in parts)}
    known = _KNOWN.get(head, {})
    for name, value in settings.items():
        allowed = known.get(name, set())
        if name not in _PLACE and allowed is not None and value not in allowed:
            raise UncheckedError(f"the audit does not support the setting {name}:{value} of its signature")
    if head != row.metric or not {*known, "res"} - {"w"} <= settings.keys():
        raise UncheckedError("its signature does not state how it was measured")
    return settings


def _read(path: Path, size: int | None) -> Pixels:
    """Read a picture as (H, W, 3) uint8: on white by its alpha, resized to `size` by bicubic filter."""
    with damage(path, "not a readable picture", "render or restore it"), Image.open(path) as file:
        pixels = np.asarray(file)
    if pixels.shape[-1] == 4:
        pixels = composite_white(pixels)
    picture = Image.fromarray(pixels).convert("RGB")
    if size is not None and picture.size != (size, size):
        picture = picture.resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(picture)


def _planes(pixels: Pixels) -> torch.Tensor:
    """Convert a picture to (1, 3, H, W) float64 in 0..255."""
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].double()


def _psnr(settings: Mapping[str, str], ours: Pixels, theirs: Pixels) -> dict[str, float]:
    from skimage.metrics import peak_signal_noise_ratio as skimage_psnr
    from torchmetrics.functional.image import peak_signal_noise_ratio as torchmetrics_psnr

    span = float(np.ptp(theirs)) if settings["range"] == "gt-minmax" else 255.0
    if span == 0:
        return {}
    cap = float("inf") if settings["cap"] == "None" else float(settings["cap"])
    with np.errstate(divide="ignore"):  # of equal pictures
        first = float(skimage_psnr(theirs, ours, data_range=span))  # type: ignore[no-untyped-call]  # skimage
    second = float(torchmetrics_psnr(_planes(ours), _planes(theirs), data_range=span))
    return _labelled(min(first, cap), min(second, cap))


def _ssim(settings: Mapping[str, str], ours: Pixels, theirs: Pixels) -> dict[str, float]:
    from skimage.metrics import structural_similarity
    from torchmetrics.functional.image import structural_similarity_index_measure

    span = float(max(np.ptp(ours), np.ptp(theirs))) if settings["range"] == "max-minmax" else 255.0
    if span == 0:
        return {}
    full = settings["border"] == "full"
    # scikit-image leaves out the outermost 5 pixels: those of a border that mirrors, as torchmetrics pads.
    sides = [
        np.pad(side, ((5, 5), (5, 5), (0, 0)), mode="reflect") if full else side for side in (ours, theirs)
    ]
    first = structural_similarity(  # type: ignore[no-untyped-call]  # skimage
        *(side.astype(np.float64) for side in sides),
        data_range=span,
        channel_axis=2,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    _, image = structural_similarity_index_measure(
        _planes(ours), _planes(theirs), data_range=span, return_full_image=True
    )
    second = image if full else image[..., 5:-5, 5:-5]
    return _labelled(float(first), float(second.mean()))


def _labelled(skimage: float, torchmetrics: float) -> dict[str, float]:
    return {
        f"scikit-image {version('scikit-image')}": skimage,
        f"torchmetrics {version('torchmetrics')}": torchmetrics,
    }


def package_lpips(net: str, state: Mapping[str, torch.Tensor]) -> Any:
    """Build the network of the `lpips` package from the ledger's file; nothing is downloaded.

    Args:
        net: "vgg" or "alex".
        state: `features.{i}.weight|bias` and `lin{0..4}.model.1.weight`.
    """
    import lpips

    with warnings.catch_warnings(), torch.device("meta"):  # random numbers that nobody needs take seconds
        warnings.simplefilter("ignore")  # the package calls torchvision in its former way
        model = lpips.LPIPS(net=net, pretrained=False, pnet_rand=True, verbose=False)
    model.scaling_layer = lpips.ScalingLayer()
    named = {
        key: tensor if key.startswith("scaling") else state[_ledger_name(key)]
        for key, tensor in model.state_dict().items()
    }
    model.load_state_dict(named, assign=True, strict=True)
    return model.eval()


def _ledger_name(key: str) -> str:
    """Return the ledger file's name of a tensor of the package, such as `net.slice1.0.weight`."""
    if key.startswith("net.slice"):
        return "features." + key.split(".", 2)[2]
    number = key.split(".")[1] if key.startswith("lins.") else key[3]
    return f"lin{number}.model.1.weight"
