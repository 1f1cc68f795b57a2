"""The toys that the small prior is trained and judged on."""

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mvtokenflow.base.files import sha256_file, write_json
from mvtokenflow.datasets.toy4d.render import render
from mvtokenflow.datasets.toy4d.stream import ToyStream, six_views
from mvtokenflow.datasets.toy4d.toys import HELD_OUT_PLAN, SEEDS, TRAINED_PLANS, make_toy
from mvtokenflow.media.pictures import write_png
from mvtokenflow.multiview.config import SamplingConfig
from mvtokenflow.small import gate
from mvtokenflow.small.config import small_sampling
from mvtokenflow.small.prior import WEIGHTS, load_small_prior
from mvtokenflow.small.training.data import Source, Views, training_pictures
from mvtokenflow.small.training.export import keep_weights
from mvtokenflow.workdir.lock import working_in


@dataclass(frozen=True)
class ToySource:
    """Batches of the toy stream for training: batch i depends on the fields and i alone."""

    seed: int
    batch: int
    size: int

    def __call__(self, index: int) -> Views:
        stream = ToyStream(seed=self.seed, batch_size=self.batch, size=self.size)
        drawn = stream.batch(index)
        return Views(rgb=drawn.rgb[:, 0], alpha=drawn.alpha[:, 0], normal=drawn.normal[:, 0])


@dataclass(frozen=True)
class Toys:
    """Training and unseen toys, for `small.training.sittings.PriorRun`."""

    def source(self, seed: int, batch: int, size: int) -> Source:
        """Batches of the training split."""
        return ToySource(seed, batch, size)

    def unseen(self, count: int, size: int) -> Tensor:
        """Toys of the trained plans with seeds of the validation range, the same in every call."""
        return unseen(TRAINED_PLANS, count, size, seed=1)


def unseen(plans: tuple[str, ...], count: int, size: int, seed: int) -> Tensor:
    """(2, N, V, 3, S, S) uint8: toys of the validation range of seeds, plans in turn, at random times."""
    draw, seeds = np.random.default_rng(seed), SEEDS["validation"]
    shots = [
        render(
            make_toy(plans[k % len(plans)], seeds[int(draw.integers(len(seeds)))]),
            six_views(size),
            [float(draw.random())],
        )
        for k in range(count)
    ]
    rgb, alpha, normal = (
        np.concatenate([getattr(shot, name) for shot in shots]) for name in ("rgb", "alpha", "normal")
    )
    views = Views(
        rgb=(rgb * 255 + 0.5).astype(np.uint8),
        alpha=(alpha * 255 + 0.5).astype(np.uint8),
        normal=np.rint(normal * 127).astype(np.int8),
    )
    return training_pictures(views)


def gate_on_toys(
    weights: Path | None,
    out: Path | None,
    sampling: SamplingConfig,
    *,
    toys: int = 48,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> dict[str, Any]:
    """Judge a prior on toys it never saw, and on a third as many of the plan never trained on.

    Args:
        weights: a weights file or training checkpoint; None takes the shipped prior.
        out: folder for prior.safetensors, prior.json (the result) and sheets of pictures; None writes nothing.
        sampling: that is judged, beside the mean picture.

    Returns:
        by "unseen" and "held_out_plan" what `gate.evaluate` gives; "passed" and "weights_sha256".

    Raises:
        ConfigError: `out` holds other weights.
        DataError: another process works in `out`.
        WeightsMissingError, WeightsCorruptError: no weights in that file.
    """
    with nullcontext() if out is None else working_in(out):
        file = WEIGHTS if weights is None else weights
        if out is not None:
            keep_weights(file, out / "prior.safetensors")
            file = out / "prior.safetensors"
        prior = load_small_prior(file, device)
        result: dict[str, Any] = {}
        for name, plans, count in (
            ("unseen", TRAINED_PLANS, toys),
            ("held_out_plan", (HELD_OUT_PLAN,), max(2, toys // 3)),
        ):
            pictures = unseen(plans, count, prior.size, seed)
            settings = {"mean": small_sampling(1), "judged": sampling}
            result[name], answers = gate.evaluate(prior, pictures, settings, "judged", seed)
            if out is not None:
                for kind, answer in answers.items():
                    write_png(out / f"{name}-{kind}.png", gate.sheet(pictures, answer))
        result["weights_sha256"] = sha256_file(file)
        result["passed"] = result["unseen"]["passed"]
        if out is not None:
            write_json(out / "prior.json", result)
    return result
