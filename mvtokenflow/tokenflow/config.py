"""Settings of token flow."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from mvtokenflow.base.errors import ConfigError
from mvtokenflow.flow.config import Interpolation

Enlarged = Literal["off", "keyframes+own", "all"]
Propagation = Literal["none", "front", "all"]
Fallback = Literal["own", "warped"]

_CHOICES: Mapping[str, tuple[str, ...]] = {
    "enlarged": ("off", "keyframes+own", "all"),
    "propagation": ("none", "front", "all"),
    "fallback": ("own", "warped"),
    "interpolation": ("bilinear", "nearest"),
}


@dataclass(frozen=True, kw_only=True)
class TokenFlowConfig:
    """Settings of token flow: which attention is enlarged and which tokens are propagated.

    Defaults follow the paper where it is consistent, except `enlarged`: `mvtokenflow.method.config.paper`
    states the cost of all frames in the full-size network.

    Attributes:
        interval: frames from one keyframe to the next; the last frame is a keyframe too.
        enlarged: whose keys and values a frame attends to, always of the same view: only its own (off), the
            keyframes' and its own, or those of all frames, as the paper writes. The last runs all frames
            through the network in step, `chunk` of them at once, and holds hidden states, keys and values of
            all; the time of attention grows with the square of their number.
        propagation: views whose tokens are propagated: the front (paper Sec. 3.1), all (Sec. 3.3) or none.
        tau: share of the steps, counted from pure noise, that propagate; 20 of 40 in the paper.
        tau_inclusive: "t <= τ" of Sec. 3.1 instead of "t < τ" of Sec. 4.1: one step more.
        late_steps: read t as the remaining steps, as in I_t -> I_{t-1}: propagate at the end instead, which
            contradicts "early stages".
        literal_lambda: the weight of Eq. (1) as printed, which favours the farther keyframe.
        interpolation: interpolation of keyframe tokens; nearest is TokenFlow's.
        fallback: source of tokens hidden in both keyframes: the frame's own attention, or, as in the paper, the
            tokens at the end of the flow.
        visible_share: share of a token's object pixels that must be visible in a keyframe.
    """

    interval: int = 8
    enlarged: Enlarged = "keyframes+own"
    propagation: Propagation = "front"
    tau: float = 0.5
    tau_inclusive: bool = False
    late_steps: bool = False
    literal_lambda: bool = False
    interpolation: Interpolation = "bilinear"
    fallback: Fallback = "own"
    visible_share: float = 0.5

    def __post_init__(self) -> None:
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise ConfigError(
                    f"token flow: {name} is {getattr(self, name)!r}; expected one of {', '.join(known)}"
                )
        if self.interval < 1:
            raise ConfigError(f"token flow: interval is {self.interval}; expected at least 1")
        if not 0 <= self.tau <= 1:
            raise ConfigError(f"token flow: tau is {self.tau}; expected a share of the steps, 0 to 1")
        if not 0 < self.visible_share <= 1:
            raise ConfigError(f"token flow: visible_share is {self.visible_share}; expected above 0, up to 1")

    def propagates(self, index: int, count: int) -> bool:
        """Return whether step `index` of `count` (0 is the noisiest) propagates tokens."""
        if self.propagation == "none":
            return False
        limit = round(self.tau * count)
        at = count - index if self.late_steps else index
        return at <= limit if self.tau_inclusive else at < limit
