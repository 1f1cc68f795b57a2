"""Enlarged self-attention and token propagation in a multiview network: paper Sec. 3.1 and 3.3.

At each noise level the network first runs on the keyframes, whose joint attention (`attn1`) sees the tokens of
all keyframes of the same view, or those of all frames. Its outputs are recorded. Then the other frames run;
where a view has flow and the level is early enough, their attention outputs are not computed but fetched from
the two enclosing keyframes along the flow. Everything else of the network runs as ever. The quantity propagated
is the output of `attn1` after its projection and before the skip, as in TokenFlow (Geyer et al., ICLR 2024).
"""

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import isqrt
from types import TracebackType
from typing import Any, Literal, Self

import torch
from diffusers.models.attention_processor import Attention
from torch import nn

from mvtokenflow.errors import ConfigError
from mvtokenflow.flow import Interpolation
from mvtokenflow.flow_keyframes import KeyframeFlow, keyframes
from mvtokenflow.multiview.passes import Pass, Step, plain_passes
from mvtokenflow.multiview.token_attention import TokenFlowProcessor
from mvtokenflow.multiview.token_warp import FramePlan, plan_frames

__all__ = ["TokenFlow", "TokenFlowConfig", "TokenFlowReport", "keyframes"]

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
    """What is enlarged and what is propagated.

    Defaults follow the paper where it is consistent, but for `enlarged`: what all frames cost the full-size
    network is told in `mvtokenflow.config.paper`.

    Attributes:
        interval: frames from one keyframe to the next; the last frame is one too.
        enlarged: whose keys and values a frame attends to, always of the same view: its own alone (off), the
            keyframes' and its own, or those of all frames, as the paper writes. The last takes all frames
            through the network in step, `chunk` of them at once, and holds hidden states, keys and values of
            all; the time of attention grows with the square of their number.
        propagation: views whose tokens are propagated: the front (paper Sec. 3.1), all (Sec. 3.3) or none.
        tau: share of the steps, from pure noise on, that propagate; 20 of 40 in the paper.
        tau_inclusive: "t <= τ" of Sec. 3.1 instead of "t < τ" of Sec. 4.1: one step more.
        late_steps: reads t as the remaining steps, as in I_t -> I_{t-1}: propagates at the end instead, which
            contradicts "early stages".
        literal_lambda: the weight of Eq. (1) as printed, which favours the farther keyframe.
        interpolation: of keyframe tokens; nearest is TokenFlow's.
        fallback: for tokens hidden in both keyframes: the frame's own attention, or, as in the paper, whatever
            the flow points at.
        visible_share: of a token's object pixels that must be visible in a keyframe.
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
        """Whether step `index` of `count`, 0 the noisiest, propagates tokens."""
        if self.propagation == "none":
            return False
        limit = round(self.tau * count)
        at = count - index if self.late_steps else index
        return at <= limit if self.tau_inclusive else at < limit


@dataclass(frozen=True, kw_only=True)
class TokenFlowReport:
    """What a run cost.

    Attributes:
        seconds: in the network, by the role of the pass: key, fill (propagating), own (not), all, plain.
        passes: how many, by role.
        record_bytes: most that keyframe records (outputs, keys, values) took at once.
        own_share: by side of the token grid, the share of tokens of propagated views and frames that were
            left to their own attention. Empty if nothing was propagated.
    """

    seconds: Mapping[str, float]
    passes: Mapping[str, int]
    record_bytes: int
    own_share: Mapping[int, float]


class TokenFlow:
    """Controller of the sampler (`mvtokenflow.multiview.passes.Controller`).

    A context manager: inside, every `attn1` of the network has this controller's processor, which does nothing
    outside `running`; on leaving, also by an exception, the old processors are back. It may be entered again.

    Attributes:
        current, step: the pass that the network runs on and its noise level; None in between.
        propagating: whether that level propagates tokens.
    """

    def __init__(self, unet: nn.Module, config: TokenFlowConfig, flows: KeyframeFlow | None = None) -> None:
        """Nothing is changed yet.

        Args:
            unet: a `MultiviewUNet`.
            flows: of the views to propagate: view 0 for "front", all for "all". None without propagation.

        Raises:
            ConfigError: flows do not fit the configuration.
        """
        self.config = config
        self.flows = flows
        self.current: Pass | None = None
        self.step: Step | None = None
        self.propagating = False
        self._modules = {
            name: module
            for name, module in unet.named_modules()
            if isinstance(module, Attention) and name.endswith(".attn1")
        }
        if not self._modules:
            raise ValueError("the network has no attention modules called attn1")
        self._originals: dict[str, Any] = {}
        self._processors: list[TokenFlowProcessor] = []
        self._plans: dict[int, Mapping[int, FramePlan]] = {}
        self._seconds: dict[str, float] = defaultdict(float)
        self._passes: dict[str, int] = defaultdict(int)
        self._record_bytes = 0
        if (flows is None) != (config.propagation == "none"):
            found = "no flow is given" if flows is None else "flow is given"
            raise ConfigError(f"token flow: propagation is {config.propagation!r}, but {found}")
        if flows is not None and config.propagation == "front" and flows.views != (0,):
            raise ConfigError(f"token flow: propagation 'front' needs flow of view 0, got views {flows.views}")
        if flows is not None and flows.keyframes != keyframes(len(flows.alpha), config.interval):
            raise ConfigError(
                f"token flow: flow leads to the keyframes {flows.keyframes}, an interval of {config.interval} "
                f"has {keyframes(len(flows.alpha), config.interval)}"
            )

    def __enter__(self) -> Self:
        if self._originals:
            raise ValueError("this controller is installed already")
        for name, module in self._modules.items():
            original: Any = module.processor
            processor: Any = TokenFlowProcessor(self, original)
            self._originals[name] = original
            self._processors.append(processor)
            module.set_processor(processor)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name, original in self._originals.items():
            self._modules[name].set_processor(original)
        self._originals.clear()
        self._processors.clear()
        self._plans.clear()

    def passes(self, step: Step) -> Sequence[Pass]:
        """The passes of a noise level, and the start of its record. See `Controller`.

        Raises:
            ConfigError: the video has other frames or views than the flow.
        """
        self._check(step)
        for processor in self._processors:
            processor.forget()
        active = self.config.propagates(step.index, step.count)
        if self.config.enlarged == "off" and not active:
            return plain_passes(step)
        keys = keyframes(step.frames, self.config.interval)
        rest = [frame for frame in range(step.frames) if frame not in keys]
        if self.config.enlarged == "all":
            return [Pass((*keys, *rest), "all", step.chunk)]
        chunks = [tuple(rest[start : start + step.chunk]) for start in range(0, len(rest), step.chunk)]
        return [Pass(keys, "key", step.chunk), *(Pass(chunk, "fill" if active else "own") for chunk in chunks)]

    @contextmanager
    def running(self, step: Step, current: Pass) -> Iterator[None]:
        """Tell the processors what the network is called for. See `Controller`."""
        if not self._originals:
            raise ValueError("token flow is not installed; use it as `with TokenFlow(...) as controller`")
        self.step, self.current = step, current
        self.propagating = self.config.propagates(step.index, step.count)
        started = time.perf_counter()
        try:
            yield
            self._wait()
        except BaseException:  # what attention has gathered so far is of no use to anybody
            for processor in self._processors:
                processor.forget()
            raise
        finally:
            self.step, self.current = None, None
        self._seconds[current.role] += time.perf_counter() - started
        self._passes[current.role] += 1
        self.note_record(sum(processor.record_bytes for processor in self._processors))

    def note_record(self, held: int) -> None:
        """Told how many bytes of records are held at once."""
        self._record_bytes = max(self._record_bytes, held)

    def report(self) -> TokenFlowReport:
        """Time, memory and shares so far."""
        shares = {
            side: sum(plan.own_share for plan in plans.values()) / len(plans)
            for side, plans in self._plans.items()
            if plans
        }
        return TokenFlowReport(
            seconds=dict(self._seconds),
            passes=dict(self._passes),
            record_bytes=self._record_bytes,
            own_share=shares,
        )

    def plan(self, frame: int, tokens: int, device: torch.device) -> FramePlan:
        """How `frame` is filled on a square grid of so many tokens."""
        side = isqrt(tokens)
        if side not in self._plans:
            if side**2 != tokens or self.flows is None:
                raise ValueError(f"{tokens} tokens are no square grid, or there is no flow")
            self._plans[side] = plan_frames(
                self.flows,
                side,
                device,
                literal_lambda=self.config.literal_lambda,
                interpolation=self.config.interpolation,
                own_where_hidden=self.config.fallback == "own",
                visible_share=self.config.visible_share,
            )
        return self._plans[side][frame]

    def _check(self, step: Step) -> None:
        if self.flows is None:
            return
        frames = len(self.flows.alpha)
        if frames != step.frames:
            raise ConfigError(f"token flow: flow of {frames} frames for a video of {step.frames}")
        if self.config.propagation == "all" and self.flows.views != tuple(range(step.views)):
            raise ConfigError(
                f"token flow: propagation 'all' needs flow of {step.views} views, got {self.flows.views}"
            )

    def _wait(self) -> None:
        """Kernels run behind on a GPU; time must not."""
        device = next(next(iter(self._modules.values())).parameters()).device
        if device.type == "cuda":
            torch.cuda.synchronize(device)
