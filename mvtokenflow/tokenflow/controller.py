"""Enlarged self-attention and token propagation in a multiview network: paper Sec. 3.1 and 3.3.

At each noise level the network first runs on the keyframes, whose joint attention (`attn1`) sees the tokens of
all keyframes of the same view, or those of all frames. Its outputs are recorded. Then the other frames run;
where a view has flow and the level is early enough, their attention outputs are not computed but fetched from
the two enclosing keyframes along the flow. The rest of the network is unchanged. The quantity propagated
is the output of `attn1` after its projection and before the skip, as in TokenFlow (Geyer et al., ICLR 2024).
"""

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import torch
from torch import nn

from mvtokenflow.base.errors import ConfigError
from mvtokenflow.flow.keyframes import KeyframeFlow, keyframes
from mvtokenflow.multiview.passes import Pass, Step, plain_passes
from mvtokenflow.tokenflow.config import TokenFlowConfig
from mvtokenflow.tokenflow.installed import InstalledProcessors
from mvtokenflow.tokenflow.processor import TokenFlowProcessor
from mvtokenflow.tokenflow.state import TokenFlowState

__all__ = ["TokenFlow", "TokenFlowConfig", "TokenFlowReport", "keyframes"]


@dataclass(frozen=True, kw_only=True)
class TokenFlowReport:
    """Cost of a run with token flow: time, passes and memory.

    Attributes:
        seconds: time in the network by role of the pass: key, fill (propagating), own (not), all, plain.
        passes: number of passes by role.
        record_bytes: peak size of the keyframe records (outputs, keys, values).
        own_share: by side of the token grid, the share of tokens of propagated views and frames that kept
            their own attention. Empty if nothing was propagated.
    """

    seconds: Mapping[str, float]
    passes: Mapping[str, int]
    record_bytes: int
    own_share: Mapping[int, float]


class TokenFlow:
    """Controller of the sampler that runs token flow (`mvtokenflow.multiview.passes.Controller`).

    A context manager: inside, every `attn1` of the network has this controller's processor, which does nothing
    outside `running`; on leaving, also by an exception, the old processors return. It may be entered again.
    """

    def __init__(self, unet: nn.Module, config: TokenFlowConfig, flows: KeyframeFlow | None = None) -> None:
        """Check the settings against the flows; the network is not changed yet.

        Args:
            unet: a `MultiviewUNet`.
            flows: flows of the views to propagate: view 0 for "front", all for "all". None without propagation.

        Raises:
            ConfigError: flows do not fit the configuration.
        """
        self.state = TokenFlowState(config, flows)
        self._installed = InstalledProcessors(unet, lambda original: TokenFlowProcessor(self.state, original))
        self._seconds: dict[str, float] = defaultdict(float)
        self._passes: dict[str, int] = defaultdict(int)
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
        self._installed.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._installed.__exit__(kind, error, trace)
        self.state.forget_plans()

    def passes(self, step: Step) -> Sequence[Pass]:
        """Start a noise level and return its passes; see `Controller`.

        Raises:
            ConfigError: the video and the flow differ in frames or views.
        """
        self._check(step)
        for processor in self._installed.processors:
            processor.forget()
        active = self.state.config.propagates(step.index, step.count)
        if self.state.config.enlarged == "off" and not active:
            return plain_passes(step)
        keys = keyframes(step.frames, self.state.config.interval)
        rest = [frame for frame in range(step.frames) if frame not in keys]
        if self.state.config.enlarged == "all":
            return [Pass((*keys, *rest), "all", step.chunk)]
        chunks = [tuple(rest[start : start + step.chunk]) for start in range(0, len(rest), step.chunk)]
        return [Pass(keys, "key", step.chunk), *(Pass(chunk, "fill" if active else "own") for chunk in chunks)]

    @contextmanager
    def running(self, step: Step, current: Pass) -> Iterator[None]:
        """Pass the current step and pass on to the attention processors; see `Controller`."""
        if not self._installed.processors:
            raise ValueError("token flow is not installed; use it as `with TokenFlow(...) as controller`")
        self.state.begin(step, current)
        started = time.perf_counter()
        try:
            yield
            self._wait()
        except BaseException:  # partly gathered keys and values are useless
            for processor in self._installed.processors:
                processor.forget()
            raise
        finally:
            self.state.end()
        self._seconds[current.role] += time.perf_counter() - started
        self._passes[current.role] += 1
        self.state.note_record(sum(processor.record_bytes for processor in self._installed.processors))

    def report(self) -> TokenFlowReport:
        """Report time, memory and shares so far."""
        return TokenFlowReport(
            seconds=dict(self._seconds),
            passes=dict(self._passes),
            record_bytes=self.state.record_bytes,
            own_share=self.state.own_shares(),
        )

    def _check(self, step: Step) -> None:
        if self.state.flows is None:
            return
        frames = len(self.state.flows.alpha)
        if frames != step.frames:
            raise ConfigError(f"token flow: flow of {frames} frames for a video of {step.frames}")
        if self.state.config.propagation == "all" and self.state.flows.views != tuple(range(step.views)):
            raise ConfigError(
                f"token flow: propagation 'all' needs flow of {step.views} views, got {self.state.flows.views}"
            )

    def _wait(self) -> None:
        """Wait for the GPU's queued kernels, so that times are those of finished work."""
        if self._installed.device.type == "cuda":
            torch.cuda.synchronize(self._installed.device)
