"""The models that Diffusion² composes: which ones settings name, what identifies them, loading."""

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from mvtokenflow.base.errors import WeightsMissingError
from mvtokenflow.base.files import sha256_file
from mvtokenflow.baselines.diffusion2.settings import Diffusion2Settings
from mvtokenflow.multiview.prior import MultiviewPrior
from mvtokenflow.small import prior as small_prior
from mvtokenflow.small import video as small_video
from mvtokenflow.small import video_linear
from mvtokenflow.small.video import VideoModel, load_small_video
from mvtokenflow.small.video_linear import LinearVideo, load_moments

FILES: Mapping[str, Mapping[str, Path]] = {
    "learned": {"prior": small_prior.WEIGHTS, "video": small_video.WEIGHTS},
    "linear": {"prior": small_prior.WEIGHTS, "video": video_linear.STATISTICS},
}

LISTED: Mapping[str, str] = {"prior": "sv3d", "video": "svd-xt"}  # in the weights ledger


def model_names(settings: Diffusion2Settings) -> dict[str, str]:
    """What identifies the models, by "prior" and "video": the sha256 of a small one's file, the ledger's name.

    "missing" stands for a file that is not here.
    """
    if settings.models == "sv3d+svd":
        return dict(LISTED)
    return {
        name: _sha256(path) if path.is_file() else "missing" for name, path in FILES[settings.models].items()
    }


def load_models(settings: Diffusion2Settings, device: str) -> tuple[MultiviewPrior, VideoModel]:
    """Load the multiview and the video model.

    Raises:
        WeightsMissingError: they are not here; says how to get them.
    """
    if settings.models == "sv3d+svd":
        raise WeightsMissingError(
            "the preset paper of diffusion2 needs SV3D_p (sv3d_p.safetensors) and SVD-XT, which cannot be run "
            "here yet: take the preset mini"
        )
    prior = _prior(device)
    if settings.models == "linear":
        return prior, LinearVideo(load_moments())
    return prior, replace(load_small_video(device=device), overlap=settings.sampling.overlap)


@lru_cache(maxsize=1)
def _prior(device: str) -> MultiviewPrior:
    """Loaded once per process."""
    return small_prior.load_small_prior(device=device)


@lru_cache
def _sha256(path: Path) -> str:
    """Of files of the package, which do not change; asked for once per cell of a table."""
    return sha256_file(path)
