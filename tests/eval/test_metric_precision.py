"""Networks of metrics run in full precision on CUDA, with cuDNN, whatever the caller has set."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from mvtokenflow.eval.metrics.compute import clip
from mvtokenflow.eval.metrics.compute.lpips import LpipsNetwork
from mvtokenflow.eval.metrics.compute.precision import full_precision

Flags = tuple[bool, bool, bool, str]
FULL = (True, False, True, "highest")


def flags() -> Flags:
    cudnn = torch.backends.cudnn
    return cudnn.enabled, cudnn.allow_tf32, cudnn.deterministic, torch.get_float32_matmul_precision()


@pytest.fixture(autouse=True)
def fast() -> Iterator[None]:
    """A caller that prefers speed."""
    torch.set_float32_matmul_precision("high")
    yield
    torch.set_float32_matmul_precision("highest")


def test_the_caller_gets_its_settings_back() -> None:
    before = flags()
    with full_precision():
        assert flags() == FULL
    assert flags() == before != FULL


def test_lpips_and_clip_run_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Flags] = []

    def watch(*arguments: Any, **more: Any) -> Any:
        seen.append(flags())
        return torch.ones(1, 4)

    monkeypatch.setattr(LpipsNetwork, "_dense", watch)
    monkeypatch.setattr(LpipsNetwork, "_dense_layer", lambda *arguments: float(len(watch())))
    monkeypatch.setattr("mvtokenflow.eval.metrics.compute.lpips._check_state", lambda net, state: None)
    state = {f"lin{k}.model.1.weight": torch.ones(1, 4, 1, 1) for k in range(5)}
    network, picture = LpipsNetwork("alex", state), np.zeros((64, 64, 3), np.uint8)
    network.features(picture)

    class Tower(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.proj = torch.nn.Parameter(torch.ones(4, 4))

        forward = staticmethod(watch)

    clip.ImageEncoder(Tower(), clip.Preparation(size=8)).embed([picture])
    assert seen == [FULL, FULL]
