"""Splitting a batch of the multiview network into parts of whole groups, to bound a layer's working memory.

Pictures of a batch are ordered n = (d G + q) V + v: domain d (0 normal, 1 colour), group q (guidance half,
then frame), view v. Every layer but `attn1` treats groups independently and may run on one part after another;
only `attn1` may need the tokens of all parts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

Groups = Sequence[int]


@dataclass(kw_only=True)
class Part:
    """Some groups of a batch on their way through the network; every layer replaces `features`.

    Attributes:
        features: (n, C, h, w).
        embedding: (n, E) of the noise level, the labels and, after the middle stage, the pose.
        context: (n, L, C') text, paired: the colours follow their normals.
        kept: stack of features for the up path.
    """

    features: Tensor
    embedding: Tensor
    context: Tensor
    kept: list[Tensor] = field(default_factory=list)


def take_groups(batch: Tensor, groups: Groups | None, views: int) -> Tensor:
    """Select the pictures (2 g V, ...) of some groups, in their order; None selects the whole batch."""
    if groups is None:
        return batch
    return batch.view(2, -1, views, *batch.shape[1:])[:, list(groups)].flatten(0, 2)


def join_groups(taken: Sequence[Tensor], order: Sequence[int], views: int) -> Tensor:
    """Join the pictures of all parts into one batch, the inverse of `take_groups`; see `group_order`."""
    joined = torch.cat([some.view(2, -1, views, *some.shape[1:]) for some in taken], dim=1)
    return joined[:, list(order)].flatten(0, 2)


def group_order(parts: Sequence[Groups], count: int) -> list[int]:
    """Position of each of `count` groups in the concatenation of the parts.

    Raises:
        ValueError: not every group is in exactly one part.
    """
    placed = [group for groups in parts for group in groups]
    if sorted(placed) != list(range(count)):
        raise ValueError(f"the parts have the groups {placed}; expected every group of {count} once")
    return sorted(range(count), key=placed.__getitem__)
