"""Pictures of toys with texts that are true of them, which the small CLIP is trained on."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mvtokenflow.datasets.toy4d.build import BODY_PATTERNS, MAIN
from mvtokenflow.datasets.toy4d.render import render
from mvtokenflow.datasets.toy4d.stream import RADIUS, ToyStream
from mvtokenflow.datasets.toy4d.toys import Toy, make_toy
from mvtokenflow.small.clip import DOMAINS, VIEWS, era3d_prompts, tokens
from mvtokenflow.small.training.clip import UNSTATED, PictureTextBatch
from mvtokenflow.views.cameras import ERA3D_AZIMUTHS_DEG, orbit

FRONTS = 1024  # training toys whose front pictures give the moments of class labels
NORMAL_SHARE = 0.15  # toys shown as normal maps
NAMED_VIEW_SHARE = 0.6  # pictures from one of Era3D's six views; the others from any azimuth
PROMPT_SHARE = 0.12  # of those, texts that are Era3D's sentence
VIEW_WORD_SHARE = 0.5  # of those, captions that name the view
COLOR_WORD_SHARE = 0.15  # captions of colour pictures that say "color map"
NOUN_SHARE = 0.2  # captions of colour pictures cut to "a bird toy"; those of normal maps always are

NOUNS = ("quadruped", "bird", "fish", "robot", "truck", "car", "steam engine", "flower", "cactus", "crab")


def vocabulary() -> tuple[str, ...]:
    """Return every word of the captions of trained plans, of the views and of Era3D's sentences."""
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
    """Return the kind of toy that a caption names: "a green cactus toy in a plain pot" is a cactus."""
    return next(noun for noun in NOUNS if f"{noun} toy" in caption)


def picture(toy: Toy, azimuth: float, time_: float, size: int, normal: bool) -> NDArray[np.uint8]:
    """Return (3, S, S) uint8: colour on white, or normals 0.5 n + 0.5 in Era3D's front frame on mid grey."""
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

    def __call__(self, step: int) -> PictureTextBatch:
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


def _view(draw: np.random.Generator) -> tuple[float, int]:
    """Return the azimuth, and the number of the named view or `_ANY_VIEW`."""
    if draw.random() < NAMED_VIEW_SHARE:
        view = int(draw.integers(len(ERA3D_AZIMUTHS_DEG)))
        return ERA3D_AZIMUTHS_DEG[view], view
    return float(draw.uniform(0, 360)), _ANY_VIEW


def _text(
    draw: np.random.Generator, caption: str, facts: tuple[int, int, int, int]
) -> tuple[str, tuple[int, int, int, int]]:
    """Return a text that is true of a picture, and what it states in the order of `facts`."""
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


def training_fronts(seed: int, size: int) -> Tensor:
    """Return (FRONTS, 3, S, S) in [0, 1]: front pictures of training toys."""
    stream = ToyStream(seed=seed, batch_size=1, size=size)
    items = [stream.item(number) for number in range(FRONTS)]
    shots = [picture(make_toy(plan, toy), 0.0, float(times[0]), size, False) for plan, toy, times in items]
    return torch.from_numpy(np.stack(shots)).float() / 255
