"""`mvtf train-clip`: train the small CLIP on toy4d pictures and captions."""

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mvtokenflow.base import terminal as talk

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from mvtokenflow.datasets.toy4d.toys import Toy
    from mvtokenflow.small.clip import SmallClip
    from mvtokenflow.small.training.clip import PictureTextBatch, SmallClipTrainer

NORMAL_SHARE = 0.15  # toys shown as normal maps
NAMED_VIEW_SHARE = 0.6  # pictures from one of Era3D's six views; the others from any azimuth
PROMPT_SHARE = 0.12  # of those, texts that are Era3D's sentence
VIEW_WORD_SHARE = 0.5  # of those, captions that name the view
COLOR_WORD_SHARE = 0.15  # captions of colour pictures that say "color map"
NOUN_SHARE = 0.2  # captions of colour pictures cut to "a bird toy"; those of normal maps always are

NOUNS = ("quadruped", "bird", "fish", "robot", "truck", "car", "steam engine", "flower", "cactus", "crab")


def vocabulary() -> tuple[str, ...]:
    """Every word of the captions of trained plans, of the views and of Era3D's sentences."""
    from mvtokenflow.datasets.toy4d.build import BODY_PATTERNS, MAIN
    from mvtokenflow.small.clip import era3d_prompts, tokens

    held_out = NOUNS.index("crab")
    words = (
        *BODY_PATTERNS,
        *MAIN,
        *NOUNS[:held_out],
        "a an toy in pot",
        *era3d_prompts()[0],
        *era3d_prompts()[1],
    )
    return tuple(sorted({word for text in words for word in tokens(text)}))


def noun_of(caption: str) -> str:
    """What kind of toy a caption speaks of: "a green cactus toy in a plain pot" is a cactus."""
    return next(noun for noun in NOUNS if f"{noun} toy" in caption)


def picture(toy: "Toy", azimuth: float, time_: float, size: int, normal: bool) -> "NDArray[np.uint8]":
    """(3, S, S) uint8: colour on white, or normals 0.5 n + 0.5 in Era3D's front frame on mid grey."""
    import numpy as np

    from mvtokenflow.datasets.toy4d.render import render
    from mvtokenflow.datasets.toy4d.stream import RADIUS
    from mvtokenflow.views.cameras import orbit

    shot = render(toy, orbit((azimuth,), size=size, kind="ortho", radius=RADIUS), [time_])
    if normal:
        n = shot.normal[0, 0]
        shown = 0.5 + 0.5 * np.stack([n[..., 0], n[..., 2], -n[..., 1]])
    else:
        alpha = shot.alpha[0, 0]
        shown = (shot.rgb[0, 0] * alpha + 1 - alpha).transpose(2, 0, 1)
    return np.rint(shown * 255).astype(np.uint8)


@dataclass(frozen=True)
class ClipBatches:
    """Batches of the training split: batch i depends on the fields and i alone."""

    seed: int
    toys: int
    size: int

    def __call__(self, step: int) -> "PictureTextBatch":
        import numpy as np
        import torch

        from mvtokenflow.datasets.toy4d.stream import ToyStream
        from mvtokenflow.datasets.toy4d.toys import make_toy
        from mvtokenflow.small.training.clip import PictureTextBatch

        stream = ToyStream(seed=self.seed, batch_size=self.toys, size=self.size)
        pictures, texts, facts, claims = [], [], [], []
        captions: dict[str, int] = {}
        for number in range(step * self.toys, (step + 1) * self.toys):
            plan, toy_seed, _ = stream.item(number)
            toy = make_toy(plan, toy_seed)
            draw = np.random.default_rng([self.seed, number])
            normal = bool(draw.random() < NORMAL_SHARE)
            caption = captions.setdefault(toy.caption, len(captions))
            for _ in range(2):
                azimuth, view = _view(draw)
                pictures.append(picture(toy, azimuth, float(draw.random()), self.size, normal))
                facts.append((caption, NOUNS.index(noun_of(toy.caption)), view, int(not normal)))
                text, claim = _text(draw, toy.caption, facts[-1])
                texts.append(text)
                claims.append(claim)
        return PictureTextBatch(
            pictures=torch.from_numpy(np.stack(pictures)),
            texts=tuple(texts),
            facts=torch.tensor(facts),
            claims=torch.tensor(claims),
        )


_ANY_VIEW = 99  # no text states it


def _view(draw: "np.random.Generator") -> tuple[float, int]:
    """Azimuth, and the number of the named view or `_ANY_VIEW`."""
    from mvtokenflow.views.cameras import ERA3D_AZIMUTHS_DEG

    if draw.random() < NAMED_VIEW_SHARE:
        view = int(draw.integers(len(ERA3D_AZIMUTHS_DEG)))
        return ERA3D_AZIMUTHS_DEG[view], view
    return float(draw.uniform(0, 360)), _ANY_VIEW


def _text(
    draw: "np.random.Generator", caption: str, facts: tuple[int, int, int, int]
) -> tuple[str, tuple[int, int, int, int]]:
    """A text that is true of a picture, and what it states in the order of `facts`."""
    from mvtokenflow.small.clip import DOMAINS, VIEWS, era3d_prompts
    from mvtokenflow.small.training.clip import UNSTATED

    which, noun, view, domain = facts
    named = view != _ANY_VIEW
    if named and draw.random() < PROMPT_SHARE:
        return era3d_prompts()[domain][view], (UNSTATED, UNSTATED, view, domain)
    normal = domain == 0
    short = normal or draw.random() < NOUN_SHARE  # a normal map shows neither colour nor pattern
    text = f"a {NOUNS[noun]} toy" if short else caption
    says_view = named and bool(draw.random() < VIEW_WORD_SHARE)
    says_domain = normal or bool(draw.random() < COLOR_WORD_SHARE)
    text += f", {VIEWS[view]} view" if says_view else ""
    text += f", {DOMAINS[domain]}" if says_domain else ""
    stated = (
        UNSTATED if short else which,
        noun,
        view if says_view else UNSTATED,
        domain if says_domain else UNSTATED,
    )
    return text, stated


FRONTS = 1024  # training toys whose front pictures give the moments of class labels
GALLERY = 100  # toys among which another view of the same toy is to be found
GALLERIES = 5


def training_fronts(seed: int, size: int) -> "Tensor":
    """(FRONTS, 3, S, S) in [0, 1]: front pictures of training toys."""
    import numpy as np
    import torch

    from mvtokenflow.datasets.toy4d.stream import ToyStream
    from mvtokenflow.datasets.toy4d.toys import make_toy

    stream = ToyStream(seed=seed, batch_size=1, size=size)
    items = [stream.item(number) for number in range(FRONTS)]
    shots = [picture(make_toy(plan, toy), 0.0, float(times[0]), size, False) for plan, toy, times in items]
    return torch.from_numpy(np.stack(shots)).float() / 255


def score(model: "SmallClip", seed: int = 1) -> dict[str, Any]:
    """Retrieval and zero-shot accuracies on validation seeds of the trained plans, and on the held-out plan.

    Another view is at least 45 degrees and a different time away. Baselines see the same pictures: their
    pixels at 16 x 16, and their mean colour.
    """
    import numpy as np

    from mvtokenflow.datasets.toy4d.toys import HELD_OUT_PLAN, SEEDS, TRAINED_PLANS, make_toy

    draw = np.random.default_rng(seed)
    seeds = SEEDS["validation"]

    def toys(plans: tuple[str, ...]) -> "list[Toy]":
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
    model: "SmallClip", draw: "np.random.Generator", toys: "list[Toy]", azimuths: "list[float]", normal: bool
) -> "tuple[Tensor, NDArray[np.floating[Any]]]":
    """Pictures (N, 3, S, S) in [0, 1] at random times, and their embeddings."""
    import numpy as np
    import torch

    size = model.config.image_size
    pairs = zip(toys, azimuths, strict=True)
    shots = np.stack([picture(toy, azimuth, float(draw.random()), size, normal) for toy, azimuth in pairs])
    pictures = torch.from_numpy(shots).float() / 255
    with torch.inference_mode():
        embedded = torch.cat([model.embed_images(part) for part in torch.split(pictures, 100)])
    return pictures, embedded.numpy()


def _other_view(
    model: "SmallClip", draw: "np.random.Generator", toys: "list[Toy]", normal: bool
) -> dict[str, float]:
    import numpy as np
    from torch.nn import functional as F

    from mvtokenflow.small.training.clip import nearest_share

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


def _zero_shot(model: "SmallClip", draw: "np.random.Generator", toys: "list[Toy]") -> dict[str, float]:
    """Accuracies of the nearest text: body plan of nine kinds, main colour of ten, view and map of twelve."""
    import numpy as np
    import torch

    from mvtokenflow.datasets.toy4d.build import MAIN
    from mvtokenflow.small.clip import era3d_prompts
    from mvtokenflow.views.cameras import ERA3D_AZIMUTHS_DEG

    def nearest(embedded: "NDArray[np.floating[Any]]", texts: list[str]) -> "NDArray[np.int64]":
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


def train_clip(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the run; run again to go on.")],
    steps: Annotated[int, typer.Option(help="Optimiser steps of the whole run.")] = 450,
    minutes: Annotated[float | None, typer.Option(help="Stop after so long; run again to go on.")] = None,
    toys: Annotated[int, typer.Option(help="Toys per step, two pictures and texts each.")] = 64,
    seed: Annotated[int, typer.Option(help="Names the run; equal seeds give equal weights.")] = 0,
    device: talk.Device = "cpu",
    as_json: talk.Json = False,
) -> None:
    """Train the small CLIP on toy4d pictures and captions: clip.safetensors, scores.json.

    Example: mvtf train-clip -o runs/clip --minutes 30
    """
    from mvtokenflow.base.errors import ConfigError
    from mvtokenflow.base.seeds import check_seed
    from mvtokenflow.small.clip import SmallClipConfig
    from mvtokenflow.small.training.clip import SmallClipTrainer, SmallClipTraining
    from mvtokenflow.workdir.lock import working_in

    talk.check_device(device)
    check_seed(seed)
    if minutes is not None and not minutes > 0:  # NaN too
        raise ConfigError(f"--minutes {minutes}: must be positive")
    if toys < 2:
        raise ConfigError(f"--toys {toys}: a contrast needs at least 2")
    config = SmallClipConfig(vocabulary=vocabulary())
    settings = SmallClipTraining(seed=seed, steps=steps, warmup=min(40, steps // 2))
    batches = ClipBatches(seed=seed, toys=toys, size=config.image_size)
    weights, scores = out / "clip.safetensors", out / "scores.json"
    with working_in(out):
        trainer = SmallClipTrainer(config, settings, batches, out, device)
        with talk.progress() as report:
            trainer.run(None if minutes is None else 60 * minutes, report)
        if trainer.finished:
            _finish(trainer, batches, weights, scores)
    if not trainer.finished:
        if as_json:
            talk.print_json({"step": trainer.step, "steps": steps})
        talk.say(f"{trainer.step} of {steps} steps; run the same command again to go on")
        return
    if as_json:
        from mvtokenflow.base.damaged import read_json

        talk.print_json(read_json(scores, dict, "delete it and run the same command again"))
    talk.say(f"wrote {weights} and {scores}")


def _finish(trainer: "SmallClipTrainer", batches: ClipBatches, weights: Path, scores: Path) -> None:
    """Write what is missing of the weights and their scores."""
    from mvtokenflow.base.files import write_json
    from mvtokenflow.small.clip import load_small_clip, save_small_clip
    from mvtokenflow.small.training.clip import set_class_moments

    settings = trainer.settings
    if not weights.exists():
        set_class_moments(trainer.model, training_fronts(settings.seed, batches.size))
        counts = {"steps": str(settings.steps), "toys": str(batches.toys), "seed": str(settings.seed)}
        save_small_clip(weights, trainer.model, counts | {"data": "toy4d training split"})
    if not scores.exists():
        began = time.monotonic()
        found = {
            "curve": trainer.curve,
            "training_seconds": round(trainer.seconds),
            **score(load_small_clip(weights)),
            "settings": {**asdict(settings), "toys": batches.toys},
        }
        write_json(scores, found)
        talk.say(f"scored in {time.monotonic() - began:.0f} s")
