"""STAG4D's densification and its penalty of long axes (`data/rival_stag4d`, `conftest.rival`)."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from mvtokenflow.base.errors import DataError
from mvtokenflow.splat.density import mark_by_share, relative_threshold
from mvtokenflow.splat.losses import axis_ratio_loss

Numbers = Callable[[str, str], tuple[dict[str, Tensor], dict[str, Any]]]


def test_densification(rival: Numbers) -> None:
    """Masks exact; they leave out the Gaussian that sets the threshold."""
    given, says = rival("stag4d", "densification")
    count, accumulated = given["in/count"][:, 0], given["in/accumulated"][:, 0]
    gradients = torch.where(count > 0, accumulated / count, 0)
    share = says["config"]["share"]
    threshold = relative_threshold(gradients, share)
    assert abs(float(threshold - given["out/threshold"])) <= 1e-12 * float(threshold)
    marked = mark_by_share(gradients, given["in/log_scales"], given["in/logit_opacity"][:, 0], share=share)
    others = gradients != threshold
    for name in ("clone", "split"):
        assert torch.equal(getattr(marked, name) & others, given[f"out/{name}"] & others)
    assert torch.equal(marked.prune, given["out/prune"])
    assert bool((marked.clone | marked.split)[~others].all())


def test_small_ones_are_cloned() -> None:
    gradients = torch.tensor([0.0, 3.0, 2.0, 1.0])
    log_scales = torch.tensor([0.05, 0.05, 0.2, 0.0005]).log()[:, None].expand(4, 3)
    marked = mark_by_share(gradients, log_scales, torch.tensor([9.0, 9, 9, 9]), share=0.4)
    assert [mask.nonzero()[:, 0].tolist() for mask in (marked.clone, marked.split, marked.prune)] == [
        [1],
        [2],
        [2, 3],
    ]
    with pytest.raises(DataError, match="no Gaussian has a gradient"):
        relative_threshold(torch.zeros(3))


def test_penalty_of_long_axes(rival: Numbers) -> None:
    given, says = rival("stag4d", "scale_loss")
    log_scales, ratio = given["in/log_scales"], says["config"]["ratio"]
    assert float(axis_ratio_loss(log_scales, ratio, upstream=True)) == float(given["out/upstream"]) == 0
    assert float(axis_ratio_loss(log_scales, ratio)) == pytest.approx(float(given["out/meant"]), rel=1e-10)
