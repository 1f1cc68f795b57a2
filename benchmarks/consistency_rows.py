"""Rows of `consistency.py`: variants of the method, the flow of their tokens, and their samples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from consistency_measures import (
    Clip,
    Packed,
    Truth,
    packed,
    unit,
)

from mvtokenflow.base.errors import ConfigError
from mvtokenflow.base.files import choose
from mvtokenflow.base.settings import overridden
from mvtokenflow.baselines.generated import exact_flow, still_flow
from mvtokenflow.datasets.toy4d.scenes import FRAMES
from mvtokenflow.flow.estimate import DisEstimator
from mvtokenflow.flow.keyframes import KeyframeFlow, estimate_keyframe_flow, keyframe_flow, keyframes
from mvtokenflow.media.pictures import to_uint8
from mvtokenflow.method import config as method
from mvtokenflow.method.generated import sample_views
from mvtokenflow.multiview.prior import COLOUR, NORMAL, MultiviewPrior, decode_normals
from mvtokenflow.small.codec import PatchCodec
from mvtokenflow.small.config import JUMP, small_sampling
from mvtokenflow.tokenflow.config import TokenFlowConfig

TOKEN_GRIDS = (16, 8)  # of the small prior


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One row; `flow` is the tokens' flow: exact, dis (estimated from the input) or still (no motion)."""

    title: str
    against: tuple[str, ...] = ()
    flow: str = "none"
    share_noise: bool = True
    steps: int | None = None
    tokens: TokenFlowConfig | None = None


def _tokens(**settings: Any) -> TokenFlowConfig:
    """The mini preset's token flow with other switches; by default keyframes and the frame's own tokens."""
    return replace(method.mini().token_flow, **{"enlarged": "keyframes+own", **settings})


PLAIN = _tokens(enlarged="off", propagation="none")  # every frame by itself
_KEYS = "keyframes"
VARIANTS: Mapping[str, Variant] = {
    "independent": Variant(title="independent frames", share_noise=False),
    "shared": Variant(title="+ shared noise", against=("independent",)),
    _KEYS: Variant(
        title="+ enlarged: keyframes + own", against=("shared",), tokens=_tokens(propagation="none")
    ),
    "all-frames": Variant(
        title="(enlarged: all frames)",
        against=("shared", _KEYS),
        tokens=_tokens(enlarged="all", propagation="none"),
    ),
    "front-dis": Variant(
        title="+ front propagated, estimated flow",
        against=(_KEYS,),
        flow="dis",
        tokens=_tokens(propagation="front"),
    ),
    "front-exact": Variant(
        title="+ front propagated, exact flow",
        against=(_KEYS, "front-dis"),
        flow="exact",
        tokens=_tokens(propagation="front"),
    ),
    "front-still": Variant(
        title="(front copied in place)",
        against=(_KEYS, "front-exact"),
        flow="still",
        tokens=_tokens(propagation="front"),
    ),
    "all-exact": Variant(
        title="+ all views propagated, exact flow",
        against=(_KEYS, "shared"),
        flow="exact",
        tokens=_tokens(propagation="all"),
    ),
    "all-still": Variant(
        title="(all views copied in place)",
        against=(_KEYS, "all-exact"),
        flow="still",
        tokens=_tokens(propagation="all"),
    ),
    "all-literal": Variant(
        title="(all views, literal lambda)",
        against=("all-exact",),
        flow="exact",
        tokens=_tokens(propagation="all", literal_lambda=True),
    ),
    "one-step": Variant(title="one step: the prior's mean", steps=1),
}
REFERENCES: Mapping[str, Variant] = {
    "truth": Variant(title="truth (floor)"),
    "frozen": Variant(title="true first frame, frozen"),
    "mean": Variant(title="training set's mean picture"),
}
MAIN = tuple(name for name in VARIANTS if name != "all-frames")  # its time grows with the square of the frames


@dataclass(frozen=True, kw_only=True)
class Study:
    """Settings shared by all rows.

    Attributes:
        prior: weights file. frames, stride: every `stride`-th frame of the clip, from the first on.
        steps, jump: see `small_sampling`. chunk: frames per call.
        bf16: run the network under bfloat16 autocast.
    """

    prior: Path
    frames: int = 16
    stride: int = 2
    steps: int = 20
    jump: int = JUMP
    chunk: int = 4
    bf16: bool = False

    def __post_init__(self) -> None:
        if self.frames < 2 or self.stride < 1 or (self.frames - 1) * self.stride >= FRAMES:
            raise ConfigError(
                f"{self.frames} frames at a stride of {self.stride} do not fit toy4d's {FRAMES} (2 or more)"
            )

    @property
    def times(self) -> list[float]:
        return [n * self.stride / (FRAMES - 1) for n in range(self.frames)]


def find(name: str) -> Variant:
    """Return the variant of a name, or of `name:key=value,...`, compared to the one without changes.

    Raises:
        ConfigError: no such variant or setting, a value that the setting does not take, or a setting of a row
            that is not sampled or has no token flow.
    """
    plain, _, changes = name.partition(":")
    variant = choose("variant", plain, {**VARIANTS, **REFERENCES})
    if not changes:
        return variant
    if plain in REFERENCES:
        raise ConfigError(f"{name}: '{plain}' is not sampled and has no settings; leave them out")
    shared: list[str] = []
    of_tokens: list[str] = []
    for change in changes.split(","):
        (shared if change.partition("=")[0].strip() == "share_noise" else of_tokens).append(change)
    tokens = variant.tokens
    if of_tokens:
        if tokens is None:
            raise ConfigError(f"{name}: '{plain}' has no token flow to set {', '.join(of_tokens)} of")
        tokens = overridden(tokens, of_tokens)
    changed = replace(variant, title=f"{variant.title} ({changes})", against=(plain,), tokens=tokens)
    return overridden(changed, shared)


# ---- flow ----


def make_flows(variant: Variant, scene: str, times: Sequence[float], truth: Truth) -> KeyframeFlow | None:
    """Compute a variant's flow to the keyframes."""
    if variant.tokens is None or variant.flow == "none":
        return None
    frames, size, all_views = len(times), truth.rgb.shape[2], truth.rgb.shape[1]
    keys = keyframes(frames, variant.tokens.interval)
    views = range(1 if variant.tokens.propagation == "front" else all_views)
    alpha = torch.from_numpy(truth.alpha[:, : len(views)])
    if variant.flow == "dis":
        return estimate_keyframe_flow(unit(truth.rgb[:, 0]), alpha[:, 0], keys, DisEstimator())
    between = {"exact": exact_flow, "still": still_flow}[variant.flow]
    return keyframe_flow(lambda n, key: between(scene, views, size, times[n], times[key]), alpha, keys, views)


def token_motion(flows: KeyframeFlow) -> dict[str, float]:
    """Mean motion of object tokens to their keyframes in tokens, and the share that moves half a token."""
    found = {}
    between = [n not in flows.keyframes for n in range(len(flows.alpha))]
    for side in TOKEN_GRIDS:
        motion = flows.pooled(side)
        on = motion.on_object[between].expand(2, -1, -1, -1, -1) & motion.visible[:, between]
        length = motion.flow[:, between].norm(dim=-1)[on]
        found[f"tokens_{side}"] = float(length.mean())
        found[f"moved_{side}"] = float((length > 0.5).float().mean())
    return found


# ---- rows ----


def sample(
    prior: MultiviewPrior, study: Study, variant: Variant, truth: Truth, flows: KeyframeFlow | None, seed: int
) -> tuple[Clip, Packed, dict[str, float]]:
    """Sample colours (F, V, S, S, 3), normals as 127 times the unit vector, and a report of token flow."""
    sampling = replace(
        small_sampling(variant.steps or study.steps, study.jump),
        chunk=study.chunk,
        share_noise=variant.share_noise,
    )
    front, draws = unit(truth.rgb[:, 0]), torch.Generator().manual_seed(seed)
    report: dict[str, float] = {}
    with torch.autocast("cpu", torch.bfloat16, enabled=study.bf16):
        made, token_flow = sample_views(prior, front, sampling, variant.tokens or PLAIN, lambda: flows, draws)
    if token_flow is not None and flows is not None:
        report = {f"own_{side}": share for side, share in token_flow.own_share.items()} | token_motion(flows)
    return to_uint8(made.rgb.float().numpy()), packed(made.normal.float().numpy()), report


def refer(name: str, truth: Truth, prior: MultiviewPrior) -> tuple[Clip, Packed]:
    """Return colours and normals of a row of REFERENCES."""
    if name == "mean":
        assert isinstance(prior.codec, PatchCodec)
        base = prior.codec.base(unit(truth.rgb[:, 0]).movedim(-1, 1)).movedim(3, -1)
        return to_uint8(base[COLOUR].numpy()), packed(decode_normals(base[NORMAL], prior.background)[0].numpy())
    kept = np.zeros(len(truth.rgb), int) if name == "frozen" else np.arange(len(truth.rgb))
    return truth.rgb[kept], packed(truth.normal[kept])
