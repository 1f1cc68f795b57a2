"""The small CLIP: shipped weights, tokenizer, what its embeddings tell apart, and refusals."""

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import tiny_clip_config
from torch import Tensor

from mvtokenflow.base.errors import ConfigError, DataError, WeightsCorruptError, WeightsMissingError
from mvtokenflow.base.files import canonical_json
from mvtokenflow.datasets.toy4d.stream import ToyStream
from mvtokenflow.datasets.toy4d.toys import HELD_OUT_PLAN, SEEDS, TRAINED_PLANS, make_toy
from mvtokenflow.small import clip as small_clip
from mvtokenflow.small.clip import (
    DOMAINS,
    VIEWS,
    WEIGHTS,
    SmallClip,
    SmallClipConfig,
    era3d_prompts,
    load_small_clip,
    save_small_clip,
    tokens,
)
from mvtokenflow.small.toys.captions import noun_of, picture, vocabulary


@pytest.fixture(scope="module")
def model() -> SmallClip:
    return load_small_clip()


def _tiny() -> SmallClip:
    return SmallClip(replace(tiny_clip_config(("a", "red", "toy")), embed_dim=8, context_length=8)).eval()


def _views(plan: str, count: int, azimuth: float, time: float, size: int = 64) -> Tensor:
    """(count, 3, S, S) in [0, 1] of unseen toys of a plan."""
    first = SEEDS["validation"].start + 1000
    shots = [picture(make_toy(plan, first + k), azimuth, time, size, False) for k in range(count)]
    return torch.from_numpy(np.stack(shots)).float() / 255


def test_shipped_weights_are_the_pinned_ones_frozen_and_small(model: SmallClip) -> None:
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert WEIGHTS.stat().st_size < 12_000_000
    card = WEIGHTS.with_name("CLIP.md").read_text()
    assert small_clip.WEIGHTS_SHA256 in card
    assert {t.dtype for t in load_file(WEIGHTS).values() if t.is_floating_point()} == {torch.float16}


def test_embeddings_are_unit_and_depend_on_their_own_picture_alone(model: SmallClip) -> None:
    shots = _views("bird", 3, 30.0, 0.2)
    together = model.embed_images(shots)
    torch.testing.assert_close(together.norm(dim=1), torch.ones(3))
    alone = torch.cat([model.embed_images(shot[None]) for shot in shots])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)  # other GEMM shapes: 3e-7 measured
    assert torch.equal(model.embed_images(shots), together)
    assert model.embed_images(shots[:0]).shape == (0, model.config.embed_dim)


@pytest.mark.parametrize("plan", ["quadruped", "vehicle", HELD_OUT_PLAN])
def test_another_view_and_time_of_a_toy_is_more_alike_than_another_toy(model: SmallClip, plan: str) -> None:
    first = model.embed_images(_views(plan, 24, 0.0, 0.1))
    second = model.embed_images(_views(plan, 24, 90.0, 0.6))
    alike = first @ second.T
    own = alike.diagonal()
    others = alike[~torch.eye(24, dtype=torch.bool)]
    assert own.mean() > others.mean() + 0.15
    assert (own > others.view(24, 23).mean(1)).float().mean() > 0.9


def test_size_hardly_matters(model: SmallClip) -> None:
    small, large = (model.embed_images(_views("robot", 4, 45.0, 0.3, size)) for size in (64, 128))
    assert (small * large).sum(1).min() > 0.97


def test_texts_name_the_plan(model: SmallClip) -> None:
    plans = ("quadruped", "bird", "fish", "robot")
    texts = model.embed_texts([f"a {plan} toy" for plan in plans])
    hits = [model.embed_images(_views(plan, 12, 20.0, 0.5)) @ texts.T for plan in plans]
    right = torch.stack([row.argmax(1) == k for k, row in enumerate(hits)])
    assert right.float().mean() > 0.8


def test_text_states_are_what_the_embedding_is_read_from(model: SmallClip) -> None:
    texts = ["a striped green quadruped toy", "a car toy, back view, normal map"]
    states = model.text_states(texts)
    config = model.config
    assert states.shape == (2, config.context_length, config.text_width)
    ends = model.tokenize(texts).argmax(1)
    read = states[torch.arange(2), ends] @ model.network.text_projection
    torch.testing.assert_close(torch.nn.functional.normalize(read, dim=1), model.embed_texts(texts))


def test_prompts_are_era3ds_and_differ(model: SmallClip) -> None:
    normal, color = era3d_prompts()
    assert normal[1] == "a rendering image of 3D models, front_right view, normal map."
    assert color[3] == "a rendering image of 3D models, back view, color map."
    states = model.prompt_states()
    assert states.shape == (2, 6, model.config.context_length, model.config.text_width)
    torch.testing.assert_close(states[1, 3], model.text_states([color[3]])[0])
    flat = states.flatten(2).flatten(0, 1)
    apart = torch.cdist(flat, flat) + torch.eye(12) * 1e9
    assert apart.min() > 0.05 * flat.norm(dim=1).mean()  # 0.09 measured
    assert len(DOMAINS) * len(VIEWS) == 12


def test_words_never_seen_become_one_token(model: SmallClip) -> None:
    zebra, giraffe = model.tokenize(["A Zebra toy", "a giraffe toy"])
    assert torch.equal(zebra, giraffe)
    assert not torch.equal(zebra, model.tokenize(["a bird toy"])[0])
    assert tokens("Front_right, 3D two-tone.") == ["front", "_", "right", ",", "3d", "two", "-", "tone", "."]


def test_too_long_a_text_is_refused(model: SmallClip) -> None:
    with pytest.raises(DataError, match="reads 22 words and marks"):
        model.embed_texts(["toy " * 23])


def test_vocabulary_holds_every_training_caption() -> None:
    words = set(vocabulary())
    stream = ToyStream(seed=3, batch_size=1)
    captions = [make_toy(*stream.item(k)[:2]).caption for k in range(600)]
    assert {word for caption in captions for word in tokens(caption)} <= words
    assert "crab" not in words
    assert {noun_of(caption) for caption in captions} >= {"bird", "steam engine", "cactus"}
    assert set(load_small_clip().config.vocabulary) == words


@pytest.mark.parametrize(
    "pictures",
    [
        torch.zeros(3, 64, 64),
        torch.zeros(1, 4, 64, 64),
        torch.zeros(1, 3, 64, 48),
        torch.full((1, 3, 64, 64), torch.nan),
        torch.full((1, 3, 64, 64), 255.0),
    ],
)
def test_pictures_of_another_kind_are_refused(model: SmallClip, pictures: Tensor) -> None:
    with pytest.raises(DataError, match="the small CLIP takes"):
        model.embed_images(pictures)


def test_class_labels_have_unit_variance_over_unseen_fronts(model: SmallClip) -> None:
    fronts = torch.cat([_views(plan, 16, 0.0, 0.4) for plan in TRAINED_PLANS])
    labels = model.class_labels(fronts, torch.Generator())
    assert labels.shape == (len(fronts), model.config.embed_dim)
    # 96 toys, moments taken over 1024 others.
    assert abs(float(labels.mean())) < 0.1
    assert float(labels.var()) == pytest.approx(1, abs=0.2)


def test_construction_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    first, second = _tiny(), _tiny()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_saved_weights_come_back_as_halves(tmp_path: Path) -> None:
    model = _tiny()
    model.class_mean.fill_(0.25)
    save_small_clip(tmp_path / "w.safetensors", model, {"steps": "0"})
    back = load_small_clip(tmp_path / "w.safetensors")
    assert asdict(back.config) == asdict(model.config)
    for name, value in model.state_dict().items():
        same = value.half().to(value.dtype) if value.is_floating_point() else value
        assert torch.equal(back.state_dict()[name], same), name


def test_missing_weights_say_so(tmp_path: Path) -> None:
    with pytest.raises(WeightsMissingError, match="mvtf train-clip"):
        load_small_clip(tmp_path / "none.safetensors")


def test_shipped_file_is_held_to_its_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "clip.safetensors"
    save_small_clip(other, _tiny(), {})
    monkeypatch.setattr(small_clip, "WEIGHTS", other)
    with pytest.raises(WeightsCorruptError, match="sha256"):
        load_small_clip()


@pytest.mark.parametrize("damage", ["truncated", "text", "format", "tensor", "shape", "nan", "config"])
def test_damaged_weights_are_refused(tmp_path: Path, damage: str) -> None:
    file = tmp_path / "w.safetensors"
    model = _tiny()
    save_small_clip(file, model, {})
    tensors = load_file(file)
    metadata = {"format": "mvtokenflow-small-clip-1", "config": canonical_json(asdict(model.config))}
    if damage == "truncated":
        file.write_bytes(file.read_bytes()[:-100])
    elif damage == "text":
        file.write_text("version https://git-lfs.github.com/spec/v1\n")
    elif damage == "format":
        save_file(tensors, file, {**metadata, "format": "other"})
    elif damage == "tensor":
        tensors.pop("network.ln_final.weight")
        save_file(tensors, file, metadata)
    elif damage == "shape":
        tensors["class_mean"] = tensors["class_mean"][:3].clone()
        save_file(tensors, file, metadata)
    elif damage == "nan":
        tensors["class_mean"][0] = torch.nan
        save_file(tensors, file, metadata)
    else:
        save_file(tensors, file, {**metadata, "config": "{}"})
    with pytest.raises(WeightsCorruptError, match=r"w\.safetensors: not a small CLIP"):
        load_small_clip(file)


@pytest.mark.parametrize(
    "change",
    [
        {"vocabulary": ()},
        {"vocabulary": ("a", "a")},
        {"vocabulary": ("two words",)},
        {"vocabulary": ("Upper",)},
        {"vision_layers": (1, 1)},
        {"embed_dim": 0},
        {"context_length": 2},
        {"image_size": 50},
        {"text_heads": 3},
    ],
)
def test_impossible_sizes_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        replace(_tiny().config, **change)  # type: ignore[arg-type] # one bad field at a time


def test_unknown_config_fields_are_refused() -> None:
    with pytest.raises(ConfigError, match="expected"):
        SmallClipConfig.from_mapping({"vocabulary": ["a"], "depth": 3})
