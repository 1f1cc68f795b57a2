"""The toys that the small prior is trained and judged on."""

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mvtokenflow.base.files import sha256_file, write_json
from mvtokenflow.datasets.toy4d.render import render
from mvtokenflow.datasets.toy4d.stream import ToyStream, six_views
from mvtokenflow.datasets.toy4d.toys import HELD_OUT_PLAN, SEEDS, TRAINED_PLANS, make_toy
from mvtokenflow.media.pictures import write_png
from mvtokenflow.multiview.config import SamplingConfig
from mvtokenflow.multiview.unet import MultiviewUNet
from mvtokenflow.small import gate
from mvtokenflow.small.clip import load_small_clip
from mvtokenflow.small.codec import PatchCodec, measure_codec
from mvtokenflow.small.config import PATCH, small_sampling
from mvtokenflow.small.prior import WEIGHTS, assemble, load_small_prior, six_cameras
from mvtokenflow.small.training.config import PriorTraining
from mvtokenflow.small.training.data import Source, Views, batches, training_pictures
from mvtokenflow.small.training.export import export, keep_weights
from mvtokenflow.small.training.lesson import Lesson, ViewLesson
from mvtokenflow.workdir.lock import working_in

EVALUATED = 12  # toys of an evaluation during training
_CODEC_BATCH = 64  # toys that the codec is measured on at once


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
    """The small prior's subject, for `small.training.sittings.PriorRun`: six views of toys, and unseen toys."""

    def source(self, seed: int, batch: int, size: int) -> Source[Tensor]:
        """Batches of the training split."""
        return ToySource(seed, batch, size)

    def codec(self, training: PriorTraining, size: int) -> PatchCodec:
        """Measured on other toys than those trained on."""
        source = self.source(training.seed + 1, _CODEC_BATCH, size)
        count = -(-training.measured // _CODEC_BATCH)
        pictures = (part.float() / 255 for part in batches(source, 0, 1, 0, limit=count))
        return measure_codec(pictures, six_cameras(size), PATCH)

    def first_weights(self) -> None:
        """Return None: the weights are drawn."""

    def lesson(self, codec: PatchCodec, training: PriorTraining) -> Lesson[Tensor]:
        """Return all six views, to be drawn from the front."""
        encoder = load_small_clip(device=codec.means.device)
        with torch.no_grad():
            prompts = encoder.prompt_states()
        return ViewLesson(codec=codec, encoder=encoder, prompts=prompts, front_weight=training.front_weight)

    def judge(
        self, unet: MultiviewUNet, codec: PatchCodec, size: int
    ) -> tuple[dict[str, Any], NDArray[np.uint8]]:
        """Return the gate's scores, and its sheet, on toys of the trained plans, the same in every call."""
        prior = assemble(unet, codec, load_small_clip(device=codec.means.device), size)
        pictures = unseen(TRAINED_PLANS, EVALUATED, size, seed=1)
        sampling = {"mean": small_sampling(1), "judged": small_sampling()}
        record, answers = gate.evaluate(prior, pictures, sampling, "judged")
        kept = {key: record[key] for key in ("scores", "checks", "passed")}
        return kept, gate.sheet(pictures, answers["judged"], EVALUATED)

    def export(self, checkpoint: Path, weights: Path) -> None:
        """Write the averaged weights; as `training.export`."""
        export(checkpoint, weights)


def unseen(plans: tuple[str, ...], count: int, size: int, seed: int) -> Tensor:
    """Render toys of the validation range of seeds as (2, N, V, 3, S, S) uint8, plans in turn."""
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
