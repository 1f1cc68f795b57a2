"""Acceptance test of a small prior: its samples against two baselines without a network, on unseen objects.

The gate: DDIM samples beat "copy the input, mirror it for the back" in PSNR at 45, 90 and 180 degrees
separately, and beat the training set's mean picture in mean normal angle. A prior that fails is worse than
these baselines, however plausible its pictures look.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mvtokenflow.multiview.config import SamplingConfig
from mvtokenflow.multiview.prior import COLOUR, NORMAL, MultiviewPrior, decode_normals, encode_normals
from mvtokenflow.multiview.sampler import generate
from mvtokenflow.small.codec import BACK, FRONT, PatchCodec

AZIMUTHS = {"45": (1, 5), "90": (2, 4), "180": (3,)}  # views by their azimuth distance from the input
_SEEN = (1, 2, 3, 4, 5)  # views that are generated; the front colour is the input
_FLOOR = 1e-10  # squared error of a perfect picture counts as 100 dB


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Pictures of N objects in V views, from a prior, a baseline or the ground truth.

    Attributes:
        rgb: (N, V, S, S, 3) in [0, 1]; normal: (N, V, S, S, 3) unit or zero; mask: (N, V, S, S) bool.
    """

    rgb: Tensor
    normal: Tensor
    mask: Tensor


def truth(pictures: Tensor) -> Answer:
    """Return the ground truth of `training_pictures` (2, N, V, 3, S, S) uint8."""
    exact = pictures.float() / 255
    return _answer(exact[COLOUR], exact[NORMAL])


def mean_picture(pictures: Tensor, codec: PatchCodec) -> Answer:
    """Return the training set's mean picture for every input, a baseline."""
    means = codec.means[:, None].expand(-1, pictures.shape[1], -1, -1, -1, -1)
    return _answer(means[COLOUR], means[NORMAL])


def copied(pictures: Tensor) -> Answer:
    """Return the input's colours, mirrored at the back, with true normals and masks, a baseline."""
    front = pictures[:, :, FRONT].float() / 255
    views = front[:, :, None].expand_as(pictures).clone()
    views[:, :, BACK] = front.flip(-1)
    return _answer(views[COLOUR], views[NORMAL])


def sampled(
    prior: MultiviewPrior, pictures: Tensor, config: SamplingConfig, seed: int, chunk: int = 6
) -> Answer:
    """Sample views from the front pictures; objects of a chunk share their noise, chunks do not."""
    generator = torch.Generator().manual_seed(seed)
    front = (pictures[COLOUR, :, FRONT].float() / 255).movedim(1, -1)
    parts = [generate(prior, part, config, generator) for part in torch.split(front, chunk)]
    return Answer(
        rgb=torch.cat([part.rgb for part in parts]).cpu(),
        normal=torch.cat([part.normal for part in parts]).cpu(),
        mask=torch.cat([part.alpha for part in parts]).cpu()[..., 0] > 0.5,
    )


def measure(answer: Answer, true: Answer) -> dict[str, NDArray[np.float64]]:
    """Measure per object (N,): PSNR in dB by azimuth and over all generated views, and agreement of shape.

    `psnr_45`, `psnr_90`, `psnr_180`, `psnr`: mean over views of a picture's PSNR, white background included.
    `psnr_object`: over true mask pixels only. `iou`: of masks. `normal_deg`: mean angle to true normals, over
    true mask pixels of all six views; a pixel without a normal counts 90 degrees. `normal_deg_overlap`: over
    pixels in both masks (flatters answers with small masks).
    """
    squared = (answer.rgb - true.rgb).double().square().mean(-1)
    scores = {
        f"psnr_{name}": _decibel(squared[:, views].mean((2, 3))).mean(1) for name, views in AZIMUTHS.items()
    }
    seen = list(_SEEN)
    scores["psnr"] = _decibel(squared[:, seen].mean((2, 3))).mean(1)
    inside = true.mask[:, seen].double()
    area = inside.sum((2, 3)).clamp(min=1)
    scores["psnr_object"] = _decibel((squared[:, seen] * inside).sum((2, 3)) / area).mean(1)
    both, either = answer.mask & true.mask, answer.mask | true.mask
    scores["iou"] = (both[:, seen].sum((2, 3)) / either[:, seen].sum((2, 3)).clamp(min=1)).mean(1)
    cosine = (answer.normal * true.normal).double().sum(-1).clamp(-1, 1)
    angle = torch.rad2deg(torch.acos(cosine))
    for name, where in (("normal_deg", true.mask), ("normal_deg_overlap", both)):
        scores[name] = (angle * where).sum((1, 2, 3)) / where.sum((1, 2, 3)).clamp(min=1)
    return {name: value.double().numpy() for name, value in scores.items()}


def evaluate(
    prior: MultiviewPrior,
    pictures: Tensor,
    sampling: dict[str, SamplingConfig],
    judged: str,
    seed: int = 0,
) -> tuple[dict[str, Any], dict[str, Answer]]:
    """Score a small prior and the baselines on uint8 pictures (2, N, V, 3, S, S), and decide the test.

    Args:
        sampling: settings to score, by name; `judged` is the one that decides.

    Returns:
        A JSON-able record: `objects`, `scores` (means by answer), `checks` (each with the paired margin, its
        standard error and whether it passed), `passed`, `sampling`; and the prior's answers by name.
    """
    if not isinstance(prior.codec, PatchCodec):
        raise TypeError("the mean picture is that of a small prior's codec")
    true = truth(pictures)
    answers = {name: sampled(prior, pictures, config, seed) for name, config in sampling.items()}
    baselines = {"copy": copied(pictures), "mean_picture": mean_picture(pictures, prior.codec.to("cpu"))}
    scores = {name: measure(answer, true) for name, answer in (answers | baselines).items()}
    record = {
        "objects": int(pictures.shape[1]),
        "seed": seed,
        "sampling": {name: asdict(config) for name, config in sampling.items()},
        "judged": judged,
        "scores": {
            name: {key: round(float(value.mean()), 4) for key, value in found.items()}
            for name, found in scores.items()
        },
        **decide(scores[judged], scores["copy"], scores["mean_picture"]),
    }
    return record, answers


def decide(
    ours: dict[str, NDArray[np.float64]],
    copy: dict[str, NDArray[np.float64]],
    mean: dict[str, NDArray[np.float64]],
) -> dict[str, Any]:
    """Compute `checks` and `passed` from per-object scores of prior and baselines; margins > 0 are better."""
    gains = {f"psnr_{name} over copy": ours[f"psnr_{name}"] - copy[f"psnr_{name}"] for name in AZIMUTHS}
    gains["normal_deg under mean_picture"] = mean["normal_deg"] - ours["normal_deg"]
    checks = {
        name: {
            "margin": round(float(gain.mean()), 4),
            "standard_error": round(float(gain.std(ddof=1) / len(gain) ** 0.5), 4) if len(gain) > 1 else None,
            "passed": bool(gain.mean() > 0),
        }
        for name, gain in gains.items()
    }
    return {"checks": checks, "passed": all(check["passed"] for check in checks.values())}


def sheet(pictures: Tensor, answer: Answer, count: int = 8) -> NDArray[np.uint8]:
    """Draw an overview (H, W, 3): per object the truth above, the answer below, colours then normals."""
    rows = []
    for side in (truth(pictures), answer):
        normals = encode_normals(side.normal, torch.ones_like(side.normal[..., :1]), 0.5)
        shown = torch.cat((side.rgb, normals), dim=1)[:count]
        rows.append((shown * 255).round().byte().permute(0, 2, 1, 3, 4).flatten(2, 3))
    paired: NDArray[np.uint8] = torch.stack(rows, dim=1).flatten(0, 2).numpy()
    return paired


def _answer(rgb: Tensor, normals: Tensor) -> Answer:
    normal, alpha = decode_normals(normals.movedim(2, -1), 0.5)
    return Answer(rgb=rgb.movedim(2, -1), normal=normal, mask=alpha[..., 0] > 0.5)


def _decibel(squared: Tensor) -> Tensor:
    return -10 * squared.clamp(min=_FLOOR).log10()
