"""Settings of the small prior's training, and how they are read from TOML."""

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from mvtokenflow.base.errors import ConfigError
from mvtokenflow.base.files import choose
from mvtokenflow.base.seeds import check_seed
from mvtokenflow.base.settings import check_types, require
from mvtokenflow.multiview.unet import UNetConfig
from mvtokenflow.small.config import small_unet_config


@dataclass(frozen=True, kw_only=True)
class PriorTraining:
    """How to train. Counts of samples are counts of objects, over all processes and sessions.

    Attributes:
        seed: names the run: initial weights, noise, order of data.
        batch: objects per step and process.
        rate: learning rate of the constant phase, of Muon (matched to AdamW's step size) and AdamW.
        warmup: samples over which the rate rises from 0.
        momentum, weight_decay: of Muon; AdamW has betas 0.9, 0.99 and no decay.
        clip: bound of the gradient's norm.
        average: decay per step of the averaged weights, reached gradually.
        snr_cap: the 5 of min-SNR.
        terminal: share of objects at the last noise level; the others are uniform.
        front_weight: loss weight of the front colour, which the codec already contains.
        snap: steps after which the state is rounded to what a checkpoint holds. A run stops and saves only
            there, so that a resumed run and an uninterrupted one are the same.
        measured: objects from which the codec's mean pictures and scales are taken.
    """

    seed: int = 0
    batch: int = 8
    rate: float = 3e-3
    warmup: int = 800
    momentum: float = 0.95
    weight_decay: float = 0.02
    clip: float = 1.0
    average: float = 0.998
    snr_cap: float = 5.0
    terminal: float = 0.2
    front_weight: float = 0.1
    snap: int = 10
    measured: int = 1536

    def __post_init__(self) -> None:
        check_types(self, "training")
        counts = {name: getattr(self, name) for name in ("batch", "snap", "measured")}
        positive = {name: getattr(self, name) for name in ("rate", "clip", "snr_cap")}
        shares = {name: getattr(self, name) for name in ("momentum", "average", "terminal", "front_weight")}
        for name, value in counts.items():
            require(value >= 1, f"training: {name}", value, "at least 1")
        for name, value in positive.items():
            require(value > 0, f"training: {name}", value, "a positive number")
        for name, value in shares.items():
            require(0 <= value <= 1, f"training: {name}", value, "0 to 1")
        for name in ("warmup", "weight_decay"):
            require(getattr(self, name) >= 0, f"training: {name}", getattr(self, name), "0 or more")
        check_seed(self.seed)


_GIVEN = (  # settings of a network that the codec, the small CLIP, the six cameras and the level input fix
    "in_channels",
    "out_channels",
    "num_views",
    "cross_attention_dim",
    "projection_class_embeddings_input_dim",
    "regress_elevation",
    "regress_focal_length",
)


def read_prior_config(path: Path | None) -> tuple[dict[str, Any], PriorTraining]:
    """Network and training settings of a TOML file's tables [unet] and [training]; defaults where absent.

    Raises:
        ConfigError: no such file, not TOML, an unknown table or setting, an invalid value, or one that does not
            fit the codec, the small CLIP or the six views.
    """
    if path is None:
        return small_unet_config(), PriorTraining()
    try:
        tables = tomllib.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"{path}: not a readable TOML file ({error}); check the path and its syntax"
        ) from error
    for name, table in tables.items():
        if name not in ("unet", "training") or not isinstance(table, dict):
            raise ConfigError(
                f"{path}: no table [unet] or [training] but '{name}' at the top; rename or remove it"
            )
    unet, training = small_unet_config() | tables.get("unet", {}), tables.get("training", {})
    try:
        for name in training:
            choose("training setting", name, {field.name: None for field in fields(PriorTraining)})
        _check_given(UNetConfig.from_mapping(unet))
        return unet, PriorTraining(**training)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _check_given(config: UNetConfig) -> None:
    given = UNetConfig.from_mapping(small_unet_config())
    for name in _GIVEN:
        found, expected = getattr(config, name), getattr(given, name)
        if found != expected:
            raise ConfigError(
                f"unet config: {name} is {found}, expected {expected}: the small prior's patches, CLIP, six "
                "views and level input fix it; remove it"
            )
