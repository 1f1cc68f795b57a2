"""The attention processor of token flow: joint attention enlarged to other frames, or tokens from keyframes.

Tokens of a pass are (halves, f, V, 2 L, C): guidance half, frame, view, then the L tokens of the normal map
before those of the colour picture. Attention never mixes halves or views; both domains share everything.
"""

from collections.abc import Iterable
from typing import Any

import torch
from diffusers.models.attention_processor import Attention
from torch import Tensor
from torch.nn import functional as F

from mvtokenflow.flow.keyframes import keyframes
from mvtokenflow.multiview.passes import Step
from mvtokenflow.tokenflow.state import TokenFlowState
from mvtokenflow.tokenflow.warp import fetch

GATHERED = ("key", "all")  # roles of passes whose parts are coupled


class TokenFlowProcessor:
    """Replacement for the processor of one `attn1`, with this layer's record of the keyframes."""

    def __init__(self, state: TokenFlowState, original: Any) -> None:
        self.state = state
        self.original = original
        self.forget()

    def forget(self) -> None:
        """Drop the record, which belongs to one noise level."""
        self._outputs: Tensor | None = None  # (2 halves, M, V', L, C), domain varies within a half
        self._shared: tuple[Tensor, Tensor] | None = None  # keys, values (halves, V, heads, S, C / heads)
        self._waiting: list[tuple[int, ...]] = []  # frames of the parts that were gathered but not yet attended

    @property
    def record_bytes(self) -> int:
        """Size of the record in bytes."""
        held = [self._outputs, *(self._shared or ())]
        return sum(tensor.nbytes for tensor in held if tensor is not None)

    def gather(self, attn: Attention, parts: Iterable[Tensor]) -> None:
        """Collect keys and values of all parts of a pass over keyframes or all frames; other passes need none.

        Args:
            parts: tokens (halves f V, 2 L, C) of each part.
        """
        step, current = self.state.step, self.state.current
        if step is None or current is None or current.role not in GATHERED:
            return
        self.forget()
        self._waiting = current.parts
        if self.state.config.enlarged == "off":
            return
        start = 0
        for frames, hidden_states in zip(current.parts, parts, strict=True):
            made = _keys_values(attn, _folded(_by_frame(hidden_states, step, len(frames))))
            length = made[0].shape[3]
            if self._shared is None:  # allocated whole: joining the parts later would hold them twice
                *lead, _, width = made[0].shape
                shape = (*lead, length // len(frames) * len(current.frames), width)
                self._shared = made[0].new_empty(shape), made[1].new_empty(shape)
            for whole, some in zip(self._shared, made, strict=True):
                whole[..., start : start + length, :] = some
            start += length

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
    ) -> Tensor:
        """Compute attention outputs (halves f V, 2 L, C) of paired tokens of that shape."""
        step, current = self.state.step, self.state.current
        if step is None or current is None or current.role == "plain":
            original: Tensor = self.original(attn, hidden_states, encoder_hidden_states, attention_mask)
            return original
        frames = current.frames
        if current.role in GATHERED:
            if not self._waiting:
                raise ValueError("attention is to run on a part whose tokens were not gathered")
            frames = self._waiting.pop(0)
        tokens = _by_frame(hidden_states, step, len(frames))
        run = {"key": self._keys, "fill": self._rest, "own": self._rest, "all": self._all}[current.role]
        return run(attn, tokens, step, frames).reshape(hidden_states.shape)

    def _keys(self, attn: Attention, tokens: Tensor, step: Step, frames: tuple[int, ...]) -> Tensor:
        """Attend from keyframes to all tokens of all keyframes of a view, and record the outputs."""
        if self._shared is None:  # not enlarged
            single = tokens.flatten(1, 2)  # frames are treated as views: none attends to another
            mixed = self._attend(attn, single, single).view_as(tokens)
        else:
            mixed = _unfolded(self._attend(attn, _folded(tokens), None), len(frames))
        self._record(mixed)
        return mixed

    def _rest(self, attn: Attention, tokens: Tensor, step: Step, frames: tuple[int, ...]) -> Tensor:
        """Process frames between keyframes: fetch where there is flow, attend elsewhere."""
        filled = [
            self._frame(attn, tokens[:, position], frame, own=True) for position, frame in enumerate(frames)
        ]
        return torch.stack(filled, dim=1)

    def _all(self, attn: Attention, tokens: Tensor, step: Step, frames: tuple[int, ...]) -> Tensor:
        """Attend from a part of a pass over all frames, keyframes first, to all tokens of a view."""
        keys = keyframes(step.frames, self.state.config.interval)
        filled = self.state.propagating
        attended = [position for position, frame in enumerate(frames) if not filled or frame in keys]
        mixed = torch.empty_like(tokens)
        if attended:
            mixed[:, attended] = self._keys(
                attn, tokens[:, attended], step, tuple(frames[position] for position in attended)
            )
        for position, frame in enumerate(frames):
            if position not in attended:
                mixed[:, position] = self._frame(attn, tokens[:, position], frame, own=False)
        if not self._waiting:
            self._drop()
        return mixed

    def _drop(self) -> None:
        """Drop the record at once when no other pass follows."""
        self.state.note_record(self.record_bytes)
        self.forget()

    def _frame(self, attn: Attention, tokens: Tensor, frame: int, *, own: bool) -> Tensor:
        """Attend from one frame (halves, V, 2 L, C); `own` adds its own keys and values to the shared ones."""
        flows = self.state.flows
        if flows is None or not self.state.propagating:
            return self._attend(attn, tokens, tokens if own else None)
        mixed = torch.empty_like(tokens)
        others = [view for view in range(tokens.shape[1]) if view not in flows.views]
        if others:
            source = _of_views(tokens, others)
            mixed[:, others] = self._attend(attn, source, source if own else None, others)
        mixed[:, list(flows.views)] = self._fetched(attn, tokens, frame, flows.views, own=own)
        return mixed

    def _fetched(
        self, attn: Attention, tokens: Tensor, frame: int, views: tuple[int, ...], *, own: bool
    ) -> Tensor:
        """Fetch (halves, V', 2 L, C) from the keyframes; attend where the plan leaves tokens to it."""
        if self._outputs is None:
            raise ValueError("a frame is to be filled before the keyframes have run at this noise level")
        length = tokens.shape[2] // 2
        plan = self.state.plan(frame, length, tokens.device)
        filled = _paired(fetch(self._outputs, plan))
        if plan.own_views:
            left = [views[position] for position in plan.own_views]
            source = _of_views(tokens, left)
            # Positions of both domains, for all channels.
            chosen = torch.cat((plan.own_tokens, plan.own_tokens + length), dim=1)[None, :, :, None]
            queries = source.take_along_dim(chosen, dim=2)
            mixed = self._attend(attn, queries, source if own else None, left)
            rows = filled[:, list(plan.own_views)]
            rows.scatter_(2, chosen.expand_as(mixed), mixed)
            filled[:, list(plan.own_views)] = rows
        return filled

    def _record(self, outputs: Tensor) -> None:
        """Append outputs (halves, M, V, 2 L, C) of the propagated views to the record."""
        flows = self.state.flows
        if flows is not None and self.state.propagating:
            chosen = outputs[:, :, list(flows.views)]
            halves, count, views, length, channels = chosen.shape
            split = chosen.reshape(halves, count, views, 2, length // 2, channels)
            made = split.permute(0, 3, 1, 2, 4, 5).flatten(0, 1)
            self._outputs = made if self._outputs is None else torch.cat((self._outputs, made), dim=1)

    def _attend(
        self, attn: Attention, queries: Tensor, own: Tensor | None, views: list[int] | None = None
    ) -> Tensor:
        """Attend from query tokens to the shared keys and those of `own`; returns (halves, V', n, C).

        Args:
            own: (halves, V', 2 L, C), or None.
            views: indices of the V' views; None is all of them, in order.
        """
        query = _split_heads(attn.to_q(queries), attn.heads)
        added = None if own is None else _keys_values(attn, own)
        # One half at a time: the shared keys of some views could not be folded into one batch without a copy.
        mixed = []
        for half, queried in enumerate(query):
            keys, values = (self._joined(kind, half, views, added) for kind in range(2))
            mixed.append(F.scaled_dot_product_attention(queried, keys, values))
        projected: Tensor = attn.to_out[0](torch.stack(mixed).transpose(2, 3).flatten(3))
        return projected

    def _joined(
        self, kind: int, half: int, views: list[int] | None, added: tuple[Tensor, Tensor] | None
    ) -> Tensor:
        """Join shared and added keys (kind 0) or values (kind 1) of a half, (V', heads, S, C / heads)."""
        pieces = [] if self._shared is None else [_of_views(self._shared[kind][half], views, dim=0)]
        if added is not None:
            pieces.append(added[kind][half])
        return torch.cat(pieces, dim=2) if len(pieces) > 1 else pieces[0]


def _by_frame(hidden_states: Tensor, step: Step, frames: int) -> Tensor:
    """Unfold (halves f V, 2 L, C) to (halves, f, V, 2 L, C)."""
    return hidden_states.view(step.halves, frames, step.views, *hidden_states.shape[1:])


def _folded(tokens: Tensor) -> Tensor:
    """Join the frames of a view to one sequence: (halves, f, V, n, C) to (halves, V, f n, C)."""
    return tokens.transpose(1, 2).flatten(2, 3)


def _unfolded(tokens: Tensor, frames: int) -> Tensor:
    """Split the sequence of a view into frames, the inverse of `_folded`."""
    halves, views, length, channels = tokens.shape
    return tokens.view(halves, views, frames, length // frames, channels).transpose(1, 2)


def _paired(tokens: Tensor) -> Tensor:
    """Pair the domains: (halves 2, V', L, C), domain within half, to (halves, V', 2 L, C)."""
    batch, views, length, channels = tokens.shape
    return tokens.view(batch // 2, 2, views, length, channels).transpose(1, 2).flatten(2, 3)


def _of_views(tensor: Tensor, views: list[int] | None, dim: int = 1) -> Tensor:
    """Select views along `dim`; neighbouring views are not copied."""
    if views is None:
        return tensor
    if views == list(range(views[0], views[-1] + 1)):
        return tensor.narrow(dim, views[0], len(views))
    return tensor.index_select(dim, torch.tensor(views, device=tensor.device))


def _keys_values(attn: Attention, tokens: Tensor) -> tuple[Tensor, Tensor]:
    return _split_heads(attn.to_k(tokens), attn.heads), _split_heads(attn.to_v(tokens), attn.heads)


def _split_heads(tokens: Tensor, heads: int) -> Tensor:
    """Split heads: (..., n, C) to (..., heads, n, C / heads)."""
    *lead, channels = tokens.shape
    return tokens.view(*lead, heads, channels // heads).transpose(-3, -2)
