"""The models that Diffusion² composes: which ones settings name, what identifies them, loading."""

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from mvtokenflow.base.errors import ConfigError
from mvtokenflow.base.files import sha256_file
from mvtokenflow.baselines.diffusion2.pipeline import Models, SmallModels
from mvtokenflow.baselines.diffusion2.settings import Diffusion2Settings
from mvtokenflow.media.segment import load_segmenter
from mvtokenflow.multiview.prior import MultiviewPrior
from mvtokenflow.small import prior as small_prior
from mvtokenflow.small import video_linear
from mvtokenflow.small.video import load_small_video
from mvtokenflow.small.video_linear import LinearVideo, load_moments
from mvtokenflow.weights import ledger

LISTED: Mapping[str, str] = {"prior": "sv3d", "video": "svd-xt"}  # in the weights ledger


def model_names(settings: Diffusion2Settings) -> dict[str, str]:
    """Identify the models, "prior" and "video", by the sha256 of a small one's file or by the ledger's name.

    "missing" stands for a file that is not here.
    """
    if settings.models == "sv3d+svd":
        return dict(LISTED)
    files = {"prior": small_prior.WEIGHTS, "video": video_linear.STATISTICS}
    if settings.video_file is not None:
        files["video"] = Path(settings.video_file)
    return {name: _sha256(path) if path.is_file() else "missing" for name, path in files.items()}


def load_models(settings: Diffusion2Settings, device: str) -> Models:
    """Load the multiview and the video model.

    Raises:
        WeightsMissingError, WeightsCorruptError: they are not here, or others; the message names the command.
        ConfigError: the original's on a CPU, or without a segmenter.
    """
    names = model_names(settings)
    if settings.models == "sv3d+svd":
        return _original(names, device)
    prior = _prior(device)
    if settings.models == "linear":
        return SmallModels(prior=prior, video=LinearVideo(load_moments()), names=names)
    learned = load_small_video(Path(str(settings.video_file)), device)
    learned = replace(learned, overlap=settings.sampling.overlap)
    return SmallModels(prior=prior, video=learned, names=names)


def _original(names: Mapping[str, str], device: str) -> Models:
    """Load SV3D and SVD-XT from the weights folder; 15 GB under terms of their own are not fetched unasked."""
    from mvtokenflow.baselines.diffusion2.original_views import load_original  # transformers takes seconds

    sv3d, svd = (ledger.verify(LISTED[name]) for name in ("prior", "video"))
    if not device.startswith("cuda"):
        raise ConfigError(
            "SV3D and SVD-XT are 3 billion parameters in half precision; run diffusion2 with --preset paper on "
            "a GPU (--device cuda), or take --preset mini"
        )
    return load_original(sv3d, svd, load_segmenter, names, device)


@lru_cache(maxsize=1)
def _prior(device: str) -> MultiviewPrior:
    """Loaded once per process."""
    return small_prior.load_small_prior(device=device)


def _sha256(path: Path) -> str:
    return _hashed(path, path.stat().st_mtime_ns)


@lru_cache
def _hashed(path: Path, changed: int) -> str:
    """Hash a file, once per process and change; it is asked for in every cell of a table."""
    return sha256_file(path)
