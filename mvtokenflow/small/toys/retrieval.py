"""How well the small CLIP finds toys: another view of the same toy, and what a picture shows from words."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from mvtokenflow.datasets.toy4d.build import MAIN
from mvtokenflow.datasets.toy4d.toys import HELD_OUT_PLAN, SEEDS, TRAINED_PLANS, Toy, make_toy
from mvtokenflow.small.clip import SmallClip, era3d_prompts
from mvtokenflow.small.toys.captions import NOUNS, picture
from mvtokenflow.small.training.clip import nearest_share
from mvtokenflow.views.cameras import ERA3D_AZIMUTHS_DEG

GALLERY = 100  # toys among which another view of the same toy is to be found
GALLERIES = 5


def score(model: SmallClip, seed: int = 1) -> dict[str, Any]:
    """Retrieval and zero-shot accuracies on validation seeds of the trained plans, and on the held-out plan.

    Another view is at least 45 degrees and a different time away. Baselines see the same pictures: their
    pixels at 16 x 16, and their mean colour.
    """
    draw = np.random.default_rng(seed)
    seeds = SEEDS["validation"]

    def toys(plans: tuple[str, ...]) -> list[Toy]:
        picked = draw.integers(len(plans), size=GALLERY * GALLERIES)
        return [make_toy(plans[k], seeds[int(draw.integers(len(seeds)))]) for k in picked]

    out: dict[str, Any] = {}
    for name, plans in (("unseen_seeds", TRAINED_PLANS), ("held_out_plan", (HELD_OUT_PLAN,))):
        found = toys(plans)
        out[name] = {kind: _other_view(model, draw, found, kind == "normal") for kind in ("color", "normal")}
        if name == "unseen_seeds":
            out[name]["zero_shot"] = _zero_shot(model, draw, found)
    return out


def _shots(
    model: SmallClip, draw: np.random.Generator, toys: list[Toy], azimuths: list[float], normal: bool
) -> tuple[Tensor, NDArray[np.floating[Any]]]:
    """Render pictures (N, 3, S, S) in [0, 1] at random times, and their embeddings."""
    size = model.config.image_size
    pairs = zip(toys, azimuths, strict=True)
    shots = np.stack([picture(toy, azimuth, float(draw.random()), size, normal) for toy, azimuth in pairs])
    pictures = torch.from_numpy(shots).float() / 255
    with torch.inference_mode():
        embedded = torch.cat([model.embed_images(part) for part in torch.split(pictures, 100)])
    return pictures, embedded.numpy()


def _other_view(model: SmallClip, draw: np.random.Generator, toys: list[Toy], normal: bool) -> dict[str, float]:
    first = [float(a) for a in draw.uniform(0, 360, len(toys))]
    second = [a + float(draw.uniform(45, 315)) for a in first]
    (ours, query), (theirs, gallery) = (_shots(model, draw, toys, at, normal) for at in (first, second))
    features = {"clip": (query, gallery)}
    for name, side in (("pixels", 16), ("mean_color", 1)):
        a, b = (F.adaptive_avg_pool2d(shots, side).flatten(1).double().numpy() for shots in (ours, theirs))
        features[name] = (a, b)
    shares = {
        name: [nearest_share(a[k : k + GALLERY], b[k : k + GALLERY]) for k in range(0, len(toys), GALLERY)]
        for name, (a, b) in features.items()
    }
    scores = {name: round(float(np.mean(values)), 4) for name, values in shares.items()}
    alike = query @ gallery.T
    own, others = np.diagonal(alike), alike[~np.eye(len(toys), dtype=bool)]
    # The chance that a toy's other view is more alike than another toy's view: area under the ROC curve.
    below = np.searchsorted(np.sort(others), own) / len(others)
    cosines = {"cosine_same": own.mean(), "cosine_other": others.mean(), "auc": below.mean()}
    return scores | {name: round(float(value), 4) for name, value in cosines.items()}


def _zero_shot(model: SmallClip, draw: np.random.Generator, toys: list[Toy]) -> dict[str, float]:
    """Accuracies of the nearest text: body plan of nine kinds, main colour of ten, view and map of twelve."""

    def nearest(embedded: NDArray[np.floating[Any]], texts: list[str]) -> NDArray[np.int64]:
        with torch.inference_mode():
            return np.asarray((embedded @ model.embed_texts(texts).numpy().T).argmax(1))

    plans = {noun: noun for noun in NOUNS[:-1]}
    plans |= {
        "truck": "vehicle",
        "car": "vehicle",
        "steam engine": "vehicle",
        "flower": "plant",
        "cactus": "plant",
    }
    _, embedded = _shots(model, draw, toys, [float(a) for a in draw.uniform(0, 360, len(toys))], False)
    kinds = nearest(embedded, [f"a {noun} toy" for noun in plans])
    guessed = [tuple(plans.values())[kind] for kind in kinds]
    scores = {"plan": float(np.mean([a == toy.plan for a, toy in zip(guessed, toys, strict=True)]))}

    plain = [k for k, toy in enumerate(toys) if toy.plan in ("quadruped", "bird", "fish", "robot")]
    right = []
    for k in plain:
        texts = [f"a {toys[k].caption.split()[1]} {color} {toys[k].plan} toy" for color in MAIN]
        right.append(tuple(MAIN)[nearest(embedded[k : k + 1], texts)[0]] in toys[k].caption.split())
    scores["main_color"] = float(np.mean(right))

    views = draw.integers(len(ERA3D_AZIMUTHS_DEG), size=len(toys))
    azimuths = [ERA3D_AZIMUTHS_DEG[view] for view in views]
    prompts = [*era3d_prompts()[0], *era3d_prompts()[1]]
    hits_view, hits_map = [], []
    for domain in (0, 1):
        _, shown = _shots(model, draw, toys, azimuths, domain == 0)
        found = nearest(shown, prompts)
        hits_view.append(found % len(ERA3D_AZIMUTHS_DEG) == views)
        hits_map.append(found // len(ERA3D_AZIMUTHS_DEG) == domain)
    scores |= {"view": float(np.mean(hits_view)), "map": float(np.mean(hits_map))}
    return {name: round(value, 4) for name, value in scores.items()}
