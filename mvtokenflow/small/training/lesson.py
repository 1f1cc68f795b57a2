"""What the network of the small prior is trained on: a batch of pictures as noise-free input and answer."""

from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from mvtokenflow.multiview.prior import COLOUR, ImageEncoder
from mvtokenflow.small.codec import FRONT, PatchCodec

Held_contra = TypeVar("Held_contra", contravariant=True)


@dataclass(frozen=True, kw_only=True)
class Example:
    """B groups of V pictures in two domains, on the network's device.

    Attributes:
        clean: (2, B, V, c, h, w) latents that are to be predicted.
        condition: (2, B, V, c', h, w), concatenated to the noisy latents.
        labels: (B, E) class labels.
        prompts: (2, B, V, L, D) text of each picture.
        weights: (2, B, V) of the losses, mean 1.
    """

    clean: Tensor
    condition: Tensor
    labels: Tensor
    prompts: Tensor
    weights: Tensor


class Lesson(Protocol[Held_contra]):
    """Turns the tensors of a batch (`training.data.Batch`) into an example."""

    def __call__(self, held: Held_contra, generator: torch.Generator) -> Example:
        """Build the example; all draws are the generator's, which is on the network's device."""
        ...


@dataclass(frozen=True, kw_only=True)
class ViewLesson:
    """Six views of an object from its front picture: what the small prior learns.

    Attributes:
        codec, encoder, prompts: as in `MultiviewPrior`, on the network's device.
        front_weight: loss weight of the front colour, which the codec has already.
    """

    codec: PatchCodec
    encoder: ImageEncoder
    prompts: Tensor
    front_weight: float

    @torch.no_grad()
    def __call__(self, held: Tensor, generator: torch.Generator) -> Example:
        """Build the example of uint8 pictures (2, B, V, 3, S, S)."""
        exact = held.to(self.prompts.device).float() / 255
        front = exact[COLOUR, :, FRONT]
        labels = self.encoder.class_labels(front, generator)
        weights = torch.ones(exact.shape[:3], device=exact.device)
        weights[COLOUR, :, FRONT] = self.front_weight
        return Example(
            clean=self.codec.encode(exact, front),
            condition=self.codec.condition(front),
            labels=labels,
            prompts=self.prompts[:, None].expand(-1, exact.shape[1], -1, -1, -1),
            weights=weights / weights.mean(),
        )
