"""The networks of the method as data: multiview priors, optical flow, segmentation."""

import os
from pathlib import Path

from mvtokenflow.weights.entry import PinnedFile, Snapshot, Weights
from mvtokenflow.weights.sources import FromAddress

ERA3D_SNAPSHOT = Snapshot(
    repository="pengHTYX/MacLab-Era3D-512-6view",
    revision=None,  # no published source names a commit or a sha256: the first fetch notes them
    marker="unet/config.json",
    components=(
        *("feature_extractor", "image_encoder", "image_normalizer", "image_noising_scheduler"),
        *("scheduler", "text_encoder", "tokenizer", "unet", "vae"),
    ),
    weighty=("unet", "vae", "image_encoder", "image_normalizer", "text_encoder"),
    bytes=4_000_000_000,  # what others who package it state; two billion parameters in float16
)
ERA3D = Weights(
    name="era3d",
    title="Era3D, 512 px, six views of colour and normals",
    licence="its repository (pengHTYX/Era3D) states AGPL-3.0, also for products that include the model; its "
    "model card states Apache-2.0",
    presets=("paper",),
    files=(),
    snapshot=ERA3D_SNAPSHOT,
)


def _torch_hub(filename: str) -> Path:
    """Return the place where torchvision keeps a file."""
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints" / filename


def _raft(size: str, published: str, count: int, sha256: str) -> Weights:
    return Weights(
        name=f"raft-{size}",
        title=f"RAFT ({size}), optical flow, torchvision's default weights",
        licence="code BSD-3-Clause (torchvision); the terms of the training data are their owners'",
        presets=("paper",) if size == "large" else (),
        commands=() if size == "large" else ("`mvtf run --set flow=raft_small`",),
        files=(
            PinnedFile(
                filename=f"raft-{size}.pth",
                bytes=count,
                sha256=sha256,
                sources=(
                    FromAddress(
                        url=f"https://download.pytorch.org/models/{published}", bytes=count, sha256=sha256
                    ),
                ),
                caches=(lambda: _torch_hub(published),),
            ),
        ),
    )


RAFT_LARGE = _raft(
    "large",
    "raft_large_C_T_SKHT_V2-ff5fadd5.pth",
    21_106_607,
    "ff5fadd56d26b40647388883af1547351ea17868b765c05b27231e72dd16a322",
)
RAFT_SMALL = _raft(
    "small",
    "raft_small_C_T_V2-01064c6d.pth",
    4_006_189,
    "01064c6dba73b0fc9fc8edf772248560a00a3acfd62ac6677e9eeebad9680e27",
)

_ISNET = "isnet-general-use.onnx"
_ISNET_BYTES = 178_648_008
_ISNET_SHA256 = "60920e99c45464f2ba57bee2ad08c919a52bbf852739e96947fbb4358c0d964a"


def _rembg_home() -> Path:
    """Return the folder where rembg keeps its networks."""
    default = Path(os.environ.get("XDG_DATA_HOME", "~")) / ".u2net"
    return Path(os.environ.get("U2NET_HOME", default)).expanduser()


REMBG_ISNET = Weights(
    name="rembg-isnet",
    title="IS-Net for general use, as ONNX of rembg",
    licence="rembg MIT; IS-Net (xuebinqin/DIS): code Apache-2.0, no licence named for the weights, terms of "
    "its own for the training data",
    commands=("`mvtf run --segment`",),
    files=(
        PinnedFile(
            filename=_ISNET,  # rembg finds it by this name
            bytes=_ISNET_BYTES,
            sha256=_ISNET_SHA256,
            sources=(
                FromAddress(
                    url=f"https://github.com/danielgatis/rembg/releases/download/v0.0.0/{_ISNET}",
                    bytes=_ISNET_BYTES,
                    sha256=_ISNET_SHA256,
                ),
            ),
            caches=(lambda: _rembg_home() / _ISNET,),
        ),
    ),
)

PRIOR_TOY = Weights(
    name="prior-toy4d",
    title="small multiview prior of Era3D's structure, trained on toy4d alone",
    licence="Apache-2.0 (this project)",
    presets=("mini", "mini-independent"),
    shipped="small/weights/prior.safetensors",
    files=(
        PinnedFile(
            filename="prior-toy4d.safetensors",
            bytes=16_004_864,
            sha256="6f2e82971833043c5898d2bd004e3e9ac6bb610fb57aff8285cdacc76ad1e8c9",
            sources=(),
        ),
    ),
)

VIDEO_LINEAR_TOY = Weights(
    name="video-linear-toy4d",
    title="moments of the linear video denoiser of diffusion2, measured on toy4d alone",
    licence="Apache-2.0 (this project)",
    commands=("`mvtf-eval table1 --methods diffusion2`",),
    shipped="small/weights/video_linear.safetensors",
    files=(
        PinnedFile(
            filename="video-linear-toy4d.safetensors",
            bytes=2_180,
            sha256="0122320f2b1a6ce18021942e786b17aaaf6fcd0c0e2b3bb0ce818a3609ce277e",
            sources=(),
        ),
    ),
)

_DIFFUSION2 = ("`mvtf-eval table1 --methods diffusion2 --preset paper`",)
SV3D = Weights(
    name="sv3d",
    title="SV3D_p, 21 views of a picture, converted to diffusers' layout by others",
    licence="Stability AI Non-Commercial Research Community License; the original, stabilityai/sv3d, is given "
    "to those who accept it there",
    commands=_DIFFUSION2,
    files=(),
    snapshot=Snapshot(
        repository="chenguolin/sv3d-diffusers",
        revision=None,
        marker="unet/config.json",
        components=("unet",),
        weighty=("unet",),
        bytes=6_100_000_000,  # 1.5 billion parameters, if they are in float32
    ),
)
SVD_XT = Weights(
    name="svd-xt",
    title="Stable Video Diffusion XT, 25 frames",
    licence="Stability AI Non-Commercial Research Community License; given to those who accept it on its page "
    "and are logged in (`hf auth login`)",
    commands=_DIFFUSION2,
    files=(),
    snapshot=Snapshot(
        repository="stabilityai/stable-video-diffusion-img2vid-xt",
        revision=None,
        marker="unet/config.json",
        components=("feature_extractor", "image_encoder", "scheduler", "unet", "vae"),
        weighty=("unet", "vae", "image_encoder"),
        bytes=9_000_000_000,  # of three networks in float32
    ),
)

_ZERO123_PARTS = ("clip_camera_projection", "feature_extractor", "image_encoder", "scheduler", "unet", "vae")


def _zero123(name: str, title: str, repository: str, revision: str, licence: str, rows: str) -> Weights:
    return Weights(
        name=name,
        title=title,
        licence=licence,
        commands=(f"`mvtf-eval table2 --methods {rows} --preset paper`",),
        files=(),
        snapshot=Snapshot(
            repository=repository,
            revision=revision,
            marker="unet/config.json",
            components=_ZERO123_PARTS,
            weighty=("clip_camera_projection", "image_encoder", "unet", "vae"),
            bytes=3_000_000_000,  # 860 million parameters and CLIP ViT-L/14, in float16
        ),
    )


ZERO123_XL = _zero123(
    "zero123-xl",
    "Zero123-XL, one view from a picture and a pose, 256 px",
    "ashawkey/zero123-xl-diffusers",
    "10e9e8e75adaa3bf77f5ac9c381419016fed68c7",
    "MIT (cvlab-columbia/zero123), weights of Stable Diffusion: CreativeML Open RAIL-M",
    "consistent4d,sc4d,stag4d",
)
STABLE_ZERO123 = _zero123(
    "stable-zero123",
    "Stable-Zero123, one view from a picture and a pose, 256 px",
    "ashawkey/stable-zero123-diffusers",
    "a6c09344fbd45843d35f2095c203c4a8e55b4dbb",
    "Stability AI's non-commercial research community licence",
    "dg4d",
)

METHOD_WEIGHTS = (
    *(PRIOR_TOY, VIDEO_LINEAR_TOY, ERA3D, SV3D, SVD_XT, ZERO123_XL, STABLE_ZERO123),
    *(RAFT_LARGE, RAFT_SMALL, REMBG_ISNET),
)
