"""Attention processors put into a network for a while."""

from collections.abc import Callable
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import torch
from diffusers.models.attention_processor import Attention
from torch import nn

P = TypeVar("P")


class InstalledProcessors(Generic[P]):
    """Context manager: inside, every `attn1` of a network has a processor of its own.

    On leaving, also by an exception, the old processors return. It may be entered again.

    Attributes:
        processors: the new processors while they are installed, else none.
    """

    def __init__(self, unet: nn.Module, make: Callable[[Any], P]) -> None:
        """Find the modules; nothing is changed yet.

        Args:
            unet: a `MultiviewUNet`. make: makes a processor from the one it replaces.

        Raises:
            ValueError: the network has no `attn1`.
        """
        self.processors: list[P] = []
        self._make = make
        self._originals: dict[str, Any] = {}
        self._modules = {
            name: module
            for name, module in unet.named_modules()
            if isinstance(module, Attention) and name.endswith(".attn1")
        }
        if not self._modules:
            raise ValueError("the network has no attention modules called attn1")

    @property
    def device(self) -> torch.device:
        """Device of the network."""
        return next(next(iter(self._modules.values())).parameters()).device

    def __enter__(self) -> Self:
        if self._originals:
            raise ValueError("this controller is installed already")
        for name, module in self._modules.items():
            original: Any = module.processor
            processor: Any = self._make(original)
            self._originals[name] = original
            self.processors.append(processor)
            module.set_processor(processor)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name, original in self._originals.items():
            self._modules[name].set_processor(original)
        self._originals.clear()
        self.processors.clear()
