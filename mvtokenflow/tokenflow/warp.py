"""Plans for filling the frames between keyframes: source tokens and weights of each token.

Paper Sec. 3.1, Eq. (1), with its weight corrected: at a keyframe all weight is on that keyframe. A token takes
a bilinear sample from either keyframe, of tokens of its own class only (object or background), so that
nothing is mixed across an outline. A keyframe in which the token is hidden gets no weight, and a token that
is hidden in both keeps the frame's own attention. Plans depend on the size of the token grid only, not on
the noise level or the layer.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mvtokenflow.flow.config import Interpolation
from mvtokenflow.flow.keyframes import KeyframeFlow, TokenMotion, enclosing
from mvtokenflow.flow.ops import positions

_NEGLIGIBLE = 1e-3  # smallest share of a bilinear sample on tokens of the right class


def blend_weight(frame: int, before: int, after: int, *, literal: bool = False) -> float:
    """Weight λ of the keyframe `after` in a frame between two keyframes.

    The paper prints λ = (after - frame) / (after - before), which puts the weight on the farther keyframe;
    `literal` gives that.
    """
    share = 0.0 if after == before else (frame - before) / (after - before)
    return 1 - share if literal else share


@dataclass(frozen=True, kw_only=True)
class FramePlan:
    """Plan for filling one frame, for V' views of L tokens.

    Attributes:
        index: (V' L, 8) int32 rows of the keyframes' tokens (M, V', L), keyframe outermost.
        weight: (V' L, 8) float32, rows sum to 1; all 0 where a token keeps its own attention.
        own_views: positions among the V' views that have tokens with their own attention.
        own_tokens: (len(own_views), m) indices of those tokens; shorter lists are padded by repetition.
        own_share: their share of all tokens.
    """

    index: Tensor
    weight: Tensor
    own_views: tuple[int, ...]
    own_tokens: Tensor
    own_share: float


def plan_frames(
    flows: KeyframeFlow,
    side: int,
    device: torch.device,
    *,
    literal_lambda: bool = False,
    interpolation: Interpolation = "bilinear",
    own_where_hidden: bool = True,
    visible_share: float = 0.5,
) -> Mapping[int, FramePlan]:
    """Plan all frames that are not keyframes, on a token grid.

    Args:
        flows: flow from every frame to its keyframes.
        side: tokens per row and column of the grid.
        device: device of the plans.
        literal_lambda: see `blend_weight`.
        interpolation: nearest keeps features exact but rounds the motion to whole tokens.
        own_where_hidden: tokens hidden in both keyframes keep their own attention; otherwise they take the
            tokens at the end of the flow, as in the paper.
        visible_share: see `KeyframeFlow.pooled`.
    """
    motion = flows.pooled(side, visible_share)
    plans = {}
    for n, (before, after) in enumerate(enclosing(len(flows.alpha), flows.keyframes)):
        if before != after:
            share = blend_weight(n, flows.keyframes[before], flows.keyframes[after], literal=literal_lambda)
            samples = [
                _sample(motion, n, 0, before, flows.keyframes[before], interpolation),
                _sample(motion, n, 1, after, flows.keyframes[after], interpolation),
            ]
            plans[n] = _blend(samples, (1 - share, share), side, device, own_where_hidden)
    return plans


@dataclass(frozen=True)
class _Sample:
    """Bilinear sample of one keyframe for (V', side, side) tokens.

    `index` (V', side, side, 4) rows; `free` (V', side, side, 4) weights for any class; `masked`
    the same on tokens of the right class, summing to 1; `found` (V', side, side) bool.
    """

    index: Tensor
    free: Tensor
    masked: Tensor
    found: Tensor


def _sample(
    motion: TokenMotion, frame: int, direction: int, position: int, key: int, interpolation: Interpolation
) -> _Sample:
    views, side = motion.on_object.shape[1:3]
    where = positions(motion.flow[direction, frame]).clamp(0, side - 1)
    if interpolation == "nearest":
        where = where.round()
    low = where.floor().clamp_max(max(side - 2, 0))
    right, down = (where - low).unbind(-1)
    x, y = low.long().unbind(-1)
    corners, weights = [], []
    for dy, across in ((0, 1 - down), (1, down)):
        for dx, along in ((0, 1 - right), (1, right)):
            corners.append((y + dy).clamp_max(side - 1) * side + (x + dx).clamp_max(side - 1))
            weights.append(across * along)
    token, free = torch.stack(corners, dim=-1), torch.stack(weights, dim=-1)
    classes = motion.on_object[key].flatten(1).gather(1, token.flatten(1)).view_as(token)
    masked = free * (classes == motion.on_object[frame][..., None])
    mass = masked.sum(dim=-1, keepdim=True)
    view = torch.arange(views, device=token.device).view(-1, 1, 1, 1)
    return _Sample(
        index=(position * views + view) * side**2 + token,
        free=free,
        masked=masked / mass.clamp_min(_NEGLIGIBLE),
        found=(mass[..., 0] > _NEGLIGIBLE) & motion.visible[direction, frame],
    )


def _blend(
    samples: list[_Sample],
    shares: tuple[float, float],
    side: int,
    device: torch.device,
    own_where_hidden: bool,
) -> FramePlan:
    index = torch.cat([sample.index for sample in samples], dim=-1)
    credit = torch.stack([share * sample.found for share, sample in zip(shares, samples, strict=True)], dim=-1)
    total = credit.sum(dim=-1, keepdim=True)
    hidden = total[..., 0] == 0
    credit = credit / torch.where(total > 0, total, 1.0)
    weight = torch.cat([credit[..., i : i + 1] * sample.masked for i, sample in enumerate(samples)], dim=-1)
    if not own_where_hidden:
        free = torch.cat([share * sample.free for share, sample in zip(shares, samples, strict=True)], dim=-1)
        weight = torch.where(hidden[..., None], free, weight)
        hidden = torch.zeros_like(hidden)
    own_views, own_tokens = _listed(hidden.flatten(1))
    return FramePlan(
        index=index.view(-1, 8).to(device, torch.int32),
        weight=weight.view(-1, 8).to(device, torch.float32),
        own_views=own_views,
        own_tokens=own_tokens.to(device),
        own_share=float(hidden.float().mean()),
    )


def _listed(chosen: Tensor) -> tuple[tuple[int, ...], Tensor]:
    """List the rows of (V', L) bool with any entry, and the positions in each, padded to equal lengths."""
    rows = [row.nonzero()[:, 0] for row in chosen]
    longest = max(len(row) for row in rows)
    views = tuple(v for v, row in enumerate(rows) if len(row))
    padded = [torch.cat([rows[v], rows[v][-1:].expand(longest - len(rows[v]))]) for v in views]
    return views, torch.stack(padded) if padded else chosen.new_zeros(0, 0, dtype=torch.long)


def fetch(features: Tensor, plan: FramePlan) -> Tensor:
    """Assemble the tokens of one frame from those of the keyframes.

    Args:
        features: (B, M, V', L, C), tokens of the keyframes.
        plan: for V' views of L tokens.

    Returns:
        (B, V', L, C) in the type of `features`; 0 for tokens that keep their own attention.
    """
    batch, _, views, length, channels = features.shape
    weight = plan.weight.to(features.dtype)
    filled = [
        F.embedding_bag(plan.index, table.reshape(-1, channels), mode="sum", per_sample_weights=weight)
        for table in features
    ]
    return torch.stack(filled).view(batch, views, length, channels)
