"""Stages of the multiview network, one per resolution, that process the parts of a batch."""

from collections.abc import Sequence

import torch
from torch import nn

from mvtokenflow.multiview.parts import Part


class _Stage(nn.Module):
    """Residual layers of one resolution, each followed by a transformer where the level has attention."""

    def __init__(self, resnets: Sequence[nn.Module], attentions: Sequence[nn.Module]) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(resnets)
        if attentions:
            self.attentions = nn.ModuleList(attentions)
        self.with_attention = bool(attentions)

    def layer(self, index: int, parts: Sequence[Part]) -> None:
        """Apply residual layer `index` and its transformer."""
        for part in parts:
            part.features = self.resnets[index](part.features, part.embedding)
        if self.with_attention:
            self.attentions[index](parts)


class DownStage(_Stage):
    """Layers of the down path, then half the resolution."""

    def __init__(
        self, resnets: Sequence[nn.Module], attentions: Sequence[nn.Module], downsampler: nn.Module | None
    ) -> None:
        super().__init__(resnets, attentions)
        if downsampler is not None:
            self.downsamplers = nn.ModuleList([downsampler])
        self.with_downsampler = downsampler is not None

    def forward(self, parts: Sequence[Part]) -> None:
        """Apply the stage; features after each layer are pushed for the up path."""
        for index in range(len(self.resnets)):
            self.layer(index, parts)
            for part in parts:
                part.kept.append(part.features)
        if self.with_downsampler:
            for part in parts:
                part.features = self.downsamplers[0](part.features)
                part.kept.append(part.features)


class MidStage(_Stage):
    """The middle stage: a layer with attention and one without."""

    def forward(self, parts: Sequence[Part]) -> None:
        self.layer(0, parts)
        for part in parts:
            part.features = self.resnets[1](part.features, part.embedding)


class UpStage(_Stage):
    """Layers of the up path that take the down path's features, then twice the resolution."""

    def __init__(
        self, resnets: Sequence[nn.Module], attentions: Sequence[nn.Module], upsampler: nn.Module | None
    ) -> None:
        super().__init__(resnets, attentions)
        if upsampler is not None:
            self.upsamplers = nn.ModuleList([upsampler])
        self.with_upsampler = upsampler is not None

    def forward(self, parts: Sequence[Part]) -> None:
        """Apply the stage; features are popped from those the down path pushed."""
        for index in range(len(self.resnets)):
            for part in parts:
                part.features = torch.cat((part.features, part.kept.pop()), dim=1)
            self.layer(index, parts)
        if self.with_upsampler:
            for part in parts:
                # The size is passed because an odd side was rounded up on the down path.
                part.features = self.upsamplers[0](part.features, part.kept[-1].shape[2:])
