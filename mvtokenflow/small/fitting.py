"""Construction of networks from files that state their sizes, checked before memory is allocated."""

from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)


def built_for(build: Callable[[], Network], weights: Mapping[str, Tensor]) -> Network:
    """Build a network with `build` and load `weights` into it.

    It is first built without memory for its parameters: a file of a kilobyte can state arbitrary sizes.

    Raises:
        ValueError: the tensors have other names or shapes.
    """
    with torch.device("meta"):
        wanted = {name: tuple(value.shape) for name, value in build().state_dict().items()}
    found = {name: tuple(value.shape) for name, value in weights.items()}
    if wanted != found:
        name = min(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
        raise ValueError(
            f"{name} is {found.get(name, 'missing')}, its configuration requires {wanted.get(name)}"
        )
    network = build()
    network.load_state_dict(dict(weights), strict=True)
    return network
