"""The attention processor of token flow: joint attention enlarged to other frames, or fetched from keyframes.

Tokens of a pass are (halves, f, V, 2 L, C): guidance half, frame, view, then the L tokens of the normal map
before those of the colour picture. Attention never mixes halves or views; both domains share everything.
"""

from typing import TYPE_CHECKING, Any

import torch
from diffusers.models.attention_processor import Attention
from torch import Tensor
from torch.nn import functional as F

from mvtokenflow.flow_keyframes import keyframes
from mvtokenflow.multiview.passes import Step
from mvtokenflow.multiview.token_warp import fetch

if TYPE_CHECKING:  # the controller makes processors; they only read it
    from mvtokenflow.multiview.token_flow import TokenFlow


class TokenFlowProcessor:
    """Replaces the processor of one `attn1`, and holds what this layer recorded of the keyframes."""

    def __init__(self, controller: "TokenFlow", original: Any) -> None:
        self.controller = controller
        self.original = original
        self.forget()

    def forget(self) -> None:
        """Drop the record: it belongs to one noise level."""
        self._outputs: Tensor | None = None  # (2 halves, M, V', L, C), domain inner to half
        self._shared: tuple[Tensor, Tensor] | None = None  # keys, values (halves, V, heads, S, C / heads)

    @property
    def record_bytes(self) -> int:
        """Size of the record."""
        held = [self._outputs, *(self._shared or ())]
        return sum(tensor.nbytes for tensor in held if tensor is not None)

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
    ) -> Tensor:
        """Attention outputs (halves f V, 2 L, C) of paired tokens of that shape."""
        step, current = self.controller.step, self.controller.current
        if step is None or current is None or current.role == "plain":
            original: Tensor = self.original(attn, hidden_states, encoder_hidden_states, attention_mask)
            return original
        tokens = hidden_states.view(step.halves, len(current.frames), step.views, *hidden_states.shape[1:])
        run = {"key": self._keys, "fill": self._rest, "own": self._rest, "all": self._all}[current.role]
        return run(attn, tokens, step, current.frames).reshape(hidden_states.shape)

    def _keys(self, attn: Attention, tokens: Tensor, step: Step, frames: tuple[int, ...]) -> Tensor:
        """All tokens of all keyframes of a view attend to each other; the record begins."""
        if self.controller.config.enlarged == "off":
            single = tokens.flatten(1, 2)  # frames count as views: none sees another
            mixed = self._attend(attn, single, single).view_as(tokens)
        else:
            folded = _folded(tokens)
            self._shared = _keys_values(attn, folded)
            mixed = _unfolded(self._attend(attn, folded, None), len(frames))
        self._record(mixed)
        return mixed

    def _rest(self, attn: Attention, tokens: Tensor, step: Step, frames: tuple[int, ...]) -> Tensor:
        """Frames between keyframes: fetched where there is flow, their own attention elsewhere."""
        filled = [
            self._frame(attn, tokens[:, position], frame, own=True) for position, frame in enumerate(frames)
        ]
        return torch.stack(filled, dim=1)

    def _all(self, attn: Attention, tokens: Tensor, step: Step, frames: tuple[int, ...]) -> Tensor:
        """All frames of the video in one pass: all tokens of a view are keys and values."""
        folded = _folded(tokens)
        self._shared = _keys_values(attn, folded)
        if not self.controller.propagating:
            mixed = _unfolded(self._attend(attn, folded, None), len(frames))
            self._drop()
            return mixed
        keys = keyframes(step.frames, self.controller.config.interval)
        recorded = _unfolded(self._attend(attn, _folded(tokens[:, list(keys)]), None), len(keys))
        self._record(recorded)
        ready = dict(zip(keys, recorded.unbind(1), strict=True))
        filled = [
            ready[frame] if frame in ready else self._frame(attn, tokens[:, frame], frame, own=False)
            for frame in frames
        ]
        self._drop()
        return torch.stack(filled, dim=1)

    def _drop(self) -> None:
        """Forget the record at once: no other pass follows."""
        self.controller.note_record(self.record_bytes)
        self.forget()

    def _frame(self, attn: Attention, tokens: Tensor, frame: int, *, own: bool) -> Tensor:
        """One frame (halves, V, 2 L, C); `own` adds its own keys and values to the shared ones."""
        flows = self.controller.flows
        if flows is None or not self.controller.propagating:
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
        """(halves, V', 2 L, C) from the keyframes, and by attention where the plan leaves tokens to it."""
        if self._outputs is None:
            raise ValueError("a frame is to be filled before the keyframes have run at this noise level")
        length = tokens.shape[2] // 2
        plan = self.controller.plan(frame, length, tokens.device)
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
        """Keep outputs (halves, M, V, 2 L, C) of the views that are propagated at this level."""
        flows = self.controller.flows
        if flows is not None and self.controller.propagating:
            chosen = outputs[:, :, list(flows.views)]
            halves, count, views, length, channels = chosen.shape
            split = chosen.reshape(halves, count, views, 2, length // 2, channels)
            self._outputs = split.permute(0, 3, 1, 2, 4, 5).flatten(0, 1)

    def _attend(
        self, attn: Attention, queries: Tensor, own: Tensor | None, views: list[int] | None = None
    ) -> Tensor:
        """Output tokens (halves, V', n, C) of query tokens; keys are the shared ones and those of `own`.

        Args:
            own: (halves, V', 2 L, C), or None.
            views: which views the V' are; None is all of them, in order.
        """
        query = _split_heads(attn.to_q(queries), attn.heads)
        parts = []
        if self._shared is not None:
            keys, values = self._shared
            parts.append(self._shared if views is None else (_of_views(keys, views), _of_views(values, views)))
        if own is not None:
            parts.append(_keys_values(attn, own))
        key, value = (
            torch.cat(pieces, dim=3) if len(pieces) > 1 else pieces[0] for pieces in zip(*parts, strict=True)
        )
        mixed = F.scaled_dot_product_attention(query.flatten(0, 1), key.flatten(0, 1), value.flatten(0, 1))
        projected: Tensor = attn.to_out[0](mixed.transpose(1, 2).flatten(2))
        return projected.view(queries.shape)


def _folded(tokens: Tensor) -> Tensor:
    """(halves, f, V, n, C) -> (halves, V, f n, C): the frames of a view as one sequence."""
    return tokens.transpose(1, 2).flatten(2, 3)


def _unfolded(tokens: Tensor, frames: int) -> Tensor:
    """The inverse of `_folded`."""
    halves, views, length, channels = tokens.shape
    return tokens.view(halves, views, frames, length // frames, channels).transpose(1, 2)


def _paired(tokens: Tensor) -> Tensor:
    """(halves 2, V', L, C), domain inner to half -> (halves, V', 2 L, C)."""
    batch, views, length, channels = tokens.shape
    return tokens.view(batch // 2, 2, views, length, channels).transpose(1, 2).flatten(2, 3)


def _of_views(tensor: Tensor, views: list[int]) -> Tensor:
    """(halves, len(views), ...) of (halves, V, ...); neighbouring views are not copied."""
    if views == list(range(views[0], views[-1] + 1)):
        return tensor[:, views[0] : views[-1] + 1]
    return tensor[:, views]


def _keys_values(attn: Attention, tokens: Tensor) -> tuple[Tensor, Tensor]:
    return _split_heads(attn.to_k(tokens), attn.heads), _split_heads(attn.to_v(tokens), attn.heads)


def _split_heads(tokens: Tensor, heads: int) -> Tensor:
    """(..., n, C) -> (..., heads, n, C / heads)."""
    *lead, channels = tokens.shape
    return tokens.view(*lead, heads, channels // heads).transpose(-3, -2)
