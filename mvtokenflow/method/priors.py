"""Finds, identifies and loads the multiview prior that a configuration names."""

from functools import cache
from pathlib import Path

import torch

from mvtokenflow.base.errors import WeightsMissingError
from mvtokenflow.base.files import sha256_file
from mvtokenflow.method.config import SMALL_PRIOR, MethodConfig
from mvtokenflow.multiview.checkpoint import find_checkpoint, load_era3d
from mvtokenflow.multiview.prior import MultiviewPrior
from mvtokenflow.small.prior import WEIGHTS, load_small_prior
from mvtokenflow.weights.snapshot import fingerprint


def load_prior(config: MethodConfig, device: torch.device | str) -> MultiviewPrior:
    """Load the prior of a configuration; Era3D in float16 on a GPU, as released, and in float32 on a CPU.

    Raises:
        WeightsMissingError: it is not here; the message names the command that gets it.
    """
    file = small_prior_file(config.prior)
    if file is not None:
        return load_small_prior(file, device=device)
    kind = torch.float16 if torch.device(device).type == "cuda" else torch.float32
    return load_era3d(find_checkpoint(config.prior), dtype=kind, device=device)


def prior_name(config: MethodConfig) -> str:
    """Return the name of a configuration's prior: the sha256 of a small prior's file, or the setting itself.

    Raises:
        WeightsMissingError: no such file.
    """
    file = small_prior_file(config.prior)
    if file is None:
        return config.prior
    if not file.is_file():
        cure = (
            "reinstall"
            if config.prior == SMALL_PRIOR
            else f'`prior = "{SMALL_PRIOR}"` names the one in the package'
        )
        raise WeightsMissingError(f"{file}: no prior there; {cure}, or train one: `mvtf train-prior -o DIR`")
    return _sha256(file, file.stat().st_mtime_ns)


def prior_digest(config: MethodConfig) -> str:
    """Return the sha256, in hex, of the prior's weights; for Era3D of all settings and weights of the folder.

    Raises:
        WeightsMissingError: it is not here; the message names the command that gets it.
    """
    if small_prior_file(config.prior) is not None:
        return prior_name(config)
    return fingerprint(find_checkpoint(config.prior))


def small_prior_file(prior: str) -> Path | None:
    """Return the weights file of a small prior; None if `prior` names a checkpoint of Era3D's layout."""
    if prior == SMALL_PRIOR:
        return WEIGHTS
    return Path(prior) if prior.endswith(".safetensors") else None


@cache
def _sha256(file: Path, changed: int) -> str:
    """Hash a file; cached, since every cell of a table asks for it."""
    return sha256_file(file)
