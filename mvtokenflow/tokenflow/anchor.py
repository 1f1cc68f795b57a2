"""Attention anchored in one frame: keys and values are means with those of the first frame (STAG4D).

At every noise level the anchor frame runs first and its hidden states at each `attn1` are recorded; the other
frames then attend with the mean of their own hidden states and the recorded ones as the source of keys and
values. Queries are their own. Nothing is trained. STAG4D runs Zero123++ this way, with the same noise for
every frame.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import torch
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from mvtokenflow.base.errors import ConfigError
from mvtokenflow.multiview.attention import SdpaProcessor
from mvtokenflow.multiview.passes import Pass, Step
from mvtokenflow.tokenflow.installed import InstalledProcessors

SHARE = 0.5  # of the anchor in the mean


def anchored(own: Tensor, anchor: Tensor, share: float = SHARE, count: int | None = None) -> Tensor:
    """Mix hidden states with those of the anchor frame, for keys and values.

    Args:
        own, anchor: tokens (B, L, C). share: of the anchor, in [0, 1].
        count: how many tokens are mixed, from the first on; the rest stay as they are (tokens of a reference
            picture). None is all; more than L is all too, as at the original's deepest level.

    Raises:
        ValueError: the shapes differ.
    """
    if own.shape != anchor.shape:
        raise ValueError(f"tokens {tuple(own.shape)} and those of the anchor {tuple(anchor.shape)} differ")
    mixed = (1 - share) * own[:, :count] + share * anchor[:, :count]
    return mixed if count is None else torch.cat([mixed, own[:, count:]], dim=1)


def anchored_attention(
    attn: Attention,
    queries: Tensor,
    own: Tensor,
    anchor: Tensor,
    share: float = SHARE,
    count: int | None = None,
) -> Tensor:
    """Attend from queries (B, L', C) to mixed tokens (B, L, C), after the output projection; see `anchored`."""
    mixed: Tensor = SdpaProcessor()(attn, queries, anchored(own, anchor, share, count))
    return mixed


class AnchorProcessor:
    """Replacement for the processor of one `attn1`, with this layer's record of the anchor frame."""

    def __init__(self, state: "AnchorState", original: Any) -> None:
        self.state = state
        self.original = original
        self.record: Tensor | None = None  # (halves, 1, V, L, C)

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
    ) -> Tensor:
        """Compute attention outputs (halves f V, L, C) of tokens of that shape."""
        step, current = self.state.step, self.state.current
        if step is None or current is None or current.role == "anchor":
            if step is not None:
                self.record = hidden_states.view(step.halves, 1, step.views, *hidden_states.shape[1:])
            output: Tensor = self.original(attn, hidden_states, encoder_hidden_states, attention_mask)
            return output
        if self.record is None:
            raise ValueError("a frame is to follow the anchor before the anchor has run at this noise level")
        shape = (step.halves, len(current.frames), step.views, *hidden_states.shape[1:])
        anchor = self.record.expand(shape).reshape(hidden_states.shape)
        return anchored_attention(attn, hidden_states, hidden_states, anchor, self.state.share)


class AnchorState:
    """State shared by the processors: the current pass and its noise level; None between two network calls."""

    def __init__(self, share: float) -> None:
        self.share = share
        self.step: Step | None = None
        self.current: Pass | None = None


class Anchor:
    """Controller of the sampler that anchors all frames in one (`mvtokenflow.multiview.passes.Controller`).

    A context manager: inside, every `attn1` of the network has this controller's processor; on leaving, also
    by an exception, the old processors return.

    Args:
        unet: a `MultiviewUNet`. frame: index of the anchor. share: of the anchor in keys and values.

    Raises:
        ConfigError: a share outside [0, 1].
    """

    def __init__(self, unet: nn.Module, frame: int = 0, share: float = SHARE) -> None:
        if not 0 <= share <= 1:
            raise ConfigError(f"the anchor's share is {share}; expected 0 to 1")
        self.frame = frame
        self.state = AnchorState(share)
        self._installed = InstalledProcessors(unet, lambda original: AnchorProcessor(self.state, original))

    def __enter__(self) -> Self:
        self._installed.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._installed.__exit__(kind, error, trace)

    def passes(self, step: Step) -> Sequence[Pass]:
        """Start a noise level: the anchor alone, then the other frames in chunks.

        Raises:
            ConfigError: the video has no such frame.
        """
        if not 0 <= self.frame < step.frames:
            raise ConfigError(f"the anchor is frame {self.frame}, the video has 0 to {step.frames - 1}")
        for processor in self._installed.processors:
            processor.record = None
        rest = [frame for frame in range(step.frames) if frame != self.frame]
        chunks = [tuple(rest[start : start + step.chunk]) for start in range(0, len(rest), step.chunk)]
        return [Pass((self.frame,), "anchor"), *(Pass(chunk, "follow") for chunk in chunks)]

    @contextmanager
    def running(self, step: Step, current: Pass) -> Iterator[None]:
        """Pass the current step and pass on to the processors; see `Controller`."""
        if not self._installed.processors:
            raise ValueError("the anchor is not installed; use it as `with Anchor(...) as controller`")
        self.state.step, self.state.current = step, current
        try:
            yield
        finally:
            self.state.step, self.state.current = None, None
