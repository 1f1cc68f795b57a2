"""CLIP image embeddings: the same numbers as transformers, open_clip and the original script."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from open_clip.transformer import QuickGELU, VisionTransformer
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torchvision import transforms
from transformers import CLIPConfig, CLIPModel

from mvtokenflow.base.errors import DataError, WeightsCorruptError, WeightsMissingError
from mvtokenflow.datasets.toy4d.toys import SEEDS, make_toy
from mvtokenflow.eval.metrics.clip import cosine
from mvtokenflow.eval.metrics.compute import clip
from mvtokenflow.eval.metrics.spec import Networks, Picture
from mvtokenflow.eval.protocols import PROTOCOLS
from mvtokenflow.small import clip as small_clip
from mvtokenflow.small.toys.captions import picture
from mvtokenflow.weights import ledger as weights

VISION = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": 64,
    "patch_size": 32,
    "projection_dim": 24,
}
TEXT = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "vocab_size": 9,
}


def _pictures(count: int, height: int = 80, width: int = 80) -> list[NDArray[np.uint8]]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (height, width, 3), np.uint8) for _ in range(count)]


def _save_folder(folder: Path, activation: str = "quick_gelu") -> CLIPModel:
    torch.manual_seed(0)
    config = CLIPConfig(
        vision_config={**VISION, "hidden_act": activation},
        text_config={**TEXT, "projection_dim": 24},
        projection_dim=24,
    )
    model: CLIPModel = CLIPModel(config)
    model.train(False)
    with torch.no_grad():
        for parameter in model.parameters():  # its own start leaves attention nearly uniform
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder)
    return model


def _edit(file: Path, **changes: Any) -> None:
    content = json.loads(file.read_text()) if file.exists() else {}
    for key, value in changes.items():
        part, _, name = key.rpartition("__")
        (content[part] if part else content)[name] = value
    file.write_text(json.dumps(content))


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_a_transformers_folder_gives_transformers_embeddings(tmp_path: Path, activation: str) -> None:
    model = _save_folder(tmp_path, activation)
    encoder = clip.load(tmp_path)
    pictures = _pictures(3)
    found = encoder.embed(pictures)
    assert found.shape == (3, encoder.dimensions) == (3, 24)
    prepared = torch.stack([clip.Preparation(size=64)(picture) for picture in pictures])
    with torch.inference_mode():
        pooled = model.vision_model(pixel_values=prepared).pooler_output
        expected = model.visual_projection(pooled)
    assert expected.abs().max() > 0.5
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)  # measured 1e-6


def test_the_two_activations_differ(tmp_path: Path) -> None:
    """The wrong one loads without complaint, so the folder's word must count."""
    _save_folder(tmp_path / "a")
    first = clip.load(tmp_path / "a").embed(_pictures(1))
    _edit(tmp_path / "a" / "config.json", vision_config__hidden_act="gelu")
    second = clip.load(tmp_path / "a").embed(_pictures(1))
    assert (first - second).abs().max() > 1e-3


def _open_clip_tower() -> VisionTransformer:
    torch.manual_seed(0)
    tower = VisionTransformer(
        image_size=224,
        patch_size=32,
        width=128,
        layers=2,
        heads=2,
        mlp_ratio=2,
        output_dim=16,
        act_layer=QuickGELU,
    ).eval()
    with torch.no_grad():
        for parameter in tower.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return tower


def _pin(monkeypatch: pytest.MonkeyPatch, folder: Path, file: Path) -> None:
    """Make `file`, moved into the weights folder, the pinned CLIP."""
    monkeypatch.setenv("MVTF_WEIGHTS", str(folder))
    monkeypatch.delenv("MVTF_WEIGHTS_CLIP_VIT_B32_OPENAI", raising=False)
    entry = weights.WEIGHTS[clip.WEIGHTS_NAME]
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    pinned = tuple(replace(f, sha256=digest) for f in entry.files if f.filename.endswith(file.suffix))
    monkeypatch.setattr(weights, "WEIGHTS", {entry.name: replace(entry, files=pinned)})
    file.rename(folder / pinned[0].filename)


def test_an_open_clip_checkpoint_gives_open_clip_embeddings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tower = _open_clip_tower()
    tensors = {f"visual.{name}": tensor for name, tensor in tower.state_dict().items()}
    save_file({**tensors, "logit_scale": torch.ones(1)}, tmp_path / "x.safetensors")
    _pin(monkeypatch, tmp_path, tmp_path / "x.safetensors")
    pictures = _pictures(2, 512, 512)
    found = clip.load().embed(pictures)
    with torch.inference_mode():
        expected = tower(torch.stack([clip.Preparation()(picture) for picture in pictures]))
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-5)  # measured 2e-6


def test_openais_half_precision_archive_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The original release is a TorchScript archive in float16; embeddings are computed in float32."""

    class Release(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.visual = _open_clip_tower().half()
            self.register_buffer("input_resolution", torch.tensor(224))

        def forward(self, x: Tensor) -> Tensor:
            return x

    release = Release()
    archive: torch.jit.ScriptModule = torch.jit.trace(  # type: ignore[no-untyped-call] # torch
        release, torch.ones(1), check_trace=False
    )
    archive.save(str(tmp_path / "x.pt"))
    _pin(monkeypatch, tmp_path, tmp_path / "x.pt")
    pictures = _pictures(1, 224, 224)
    found = clip.load().embed(pictures)
    with torch.inference_mode():
        expected = release.visual.float()(torch.stack([clip.Preparation()(picture) for picture in pictures]))
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-5)


def test_transformers_pickle_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _save_folder(tmp_path / "model")
    tensors = load_file(tmp_path / "model" / "model.safetensors")
    torch.save({**tensors, "vision_model.embeddings.position_ids": torch.arange(5)}, tmp_path / "x.bin")
    _pin(monkeypatch, tmp_path, tmp_path / "x.bin")
    named = clip.image_tensors(weights.load(clip.WEIGHTS_NAME))
    assert torch.equal(named["proj"], tensors["visual_projection.weight"].T)
    expected = clip.image_tensors(tensors)
    assert named.keys() == expected.keys()
    assert all(torch.equal(named[name], expected[name]) for name in named)


def test_without_weights_the_reason_is_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MVTF_WEIGHTS", str(tmp_path))
    monkeypatch.delenv("MVTF_WEIGHTS_CLIP_VIT_B32_OPENAI", raising=False)
    with pytest.raises(WeightsMissingError, match="mvtf-eval weights fetch clip-vit-b32-openai"):
        clip.load()
    (tmp_path / "other.safetensors").write_bytes(b"not pinned")
    with pytest.raises(WeightsCorruptError, match="not the pinned"):
        clip.load(tmp_path / "other.safetensors")


@pytest.mark.parametrize("side", [(512, 512), (300, 200), (200, 300), (224, 224), (100, 60)])
def test_preparation_is_clips_own(side: tuple[int, int]) -> None:
    """Against torchvision's transforms on PIL pictures, which OpenAI's release and open_clip use."""
    (picture,) = _pictures(1, *side)
    reference = transforms.Compose(
        [
            transforms.Resize(224, transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize(clip.Preparation.mean, clip.Preparation.std),
        ]
    )
    found = clip.Preparation()(picture)
    assert found.shape == (3, 224, 224)
    torch.testing.assert_close(found, reference(Image.fromarray(picture)), atol=1e-6, rtol=0)


def test_an_odd_margin_is_cropped_one_more_at_the_end() -> None:
    """As transformers does (floor); torchvision rounds half to even."""
    (picture,) = _pictures(1, 224, 227)
    identity = clip.Preparation(mean=(0, 0, 0), std=(1, 1, 1))
    expected = torch.from_numpy(picture[:, 1:225].astype(np.float32) / 255).permute(2, 0, 1)
    torch.testing.assert_close(identity(picture), expected, atol=1e-7, rtol=0)


def test_embeddings_do_not_depend_on_neighbours(tmp_path: Path) -> None:
    _save_folder(tmp_path)
    encoder = clip.load(tmp_path)
    pictures = _pictures(5)
    together = encoder.embed(pictures)
    assert torch.equal(together[3:4], encoder.embed(pictures[3:4]))
    torch.testing.assert_close(encoder.embed(pictures, batch=2), together, atol=1e-5, rtol=1e-5)
    assert encoder.embed([]).shape == (0, 24)


def test_mixed_sizes_are_embedded(tmp_path: Path) -> None:
    _save_folder(tmp_path)
    assert clip.load(tmp_path).embed([*_pictures(1, 70, 90), *_pictures(1)], batch=2).shape == (2, 24)


@pytest.mark.parametrize(
    "picture",
    [np.zeros((8, 8, 4), np.uint8), np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3), np.float32)],
)
def test_other_pictures_are_refused(picture: NDArray[Any]) -> None:
    with pytest.raises(DataError, match="uint8"):
        clip.Preparation()(picture)


@pytest.mark.parametrize(
    ("file", "changes", "match"),
    [
        ("config.json", {"vision_config__hidden_act": "relu"}, "relu"),
        ("config.json", {"vision_config__layer_norm_eps": 1e-6}, "1e-06"),
        ("config.json", {"vision_config__image_size": 96}, "positions"),
        ("config.json", {"vision_config": {}}, "num_attention_heads"),
        ("preprocessor_config.json", {"resample": 2}, "2"),
        ("preprocessor_config.json", {"size": {"shortest_edge": 224}}, "the network takes 64"),
        ("preprocessor_config.json", {"crop_size": 60}, "the network takes 64"),
        ("preprocessor_config.json", {"do_normalize": False}, "leaves out do_normalize"),
        (
            "preprocessor_config.json",
            {"do_resize": False, "do_center_crop": False},
            "do_resize, do_center_crop",
        ),
        ("preprocessor_config.json", {"rescale_factor": 1 / 127.5}, "scales by 0.00784"),
        ("preprocessor_config.json", {"rescale_factor": "x"}, "not a CLIP model folder"),
    ],
)
def test_folders_that_are_not_understood_are_refused(
    tmp_path: Path, file: str, changes: dict[str, Any], match: str
) -> None:
    _save_folder(tmp_path)
    _edit(tmp_path / file, **changes)
    with pytest.raises(WeightsCorruptError, match=match):
        clip.load(tmp_path)


def test_checkpoints_of_something_else_are_refused(tmp_path: Path) -> None:
    _save_folder(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    for broken in (
        {"x": torch.ones(1)},
        {"visual.x": torch.ones(1)},
        {name: x for name, x in tensors.items() if "layers.1.mlp.fc2" not in name},
    ):
        save_file(broken, tmp_path / "model.safetensors")
        with pytest.raises(WeightsCorruptError):
            clip.load(tmp_path)


def test_preprocessor_settings_count(tmp_path: Path) -> None:
    _save_folder(tmp_path)
    before = clip.load(tmp_path).embed(_pictures(1))
    _edit(
        tmp_path / "preprocessor_config.json",
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
        size={"shortest_edge": 64},
    )
    assert (clip.load(tmp_path).embed(_pictures(1)) - before).abs().max() > 1e-3


def test_cosine() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(4, 8)).astype(np.float32), rng.normal(size=(4, 8)).astype(np.float32)
    expected = torch.nn.functional.cosine_similarity(torch.from_numpy(a).double(), torch.from_numpy(b).double())
    np.testing.assert_allclose(cosine(a, b), expected.numpy(), rtol=1e-12)
    np.testing.assert_allclose(cosine(a, 3 * a), 1.0, rtol=1e-12)
    np.testing.assert_allclose(cosine(torch.from_numpy(a), -a), -1.0, rtol=1e-12)
    assert (np.abs(cosine(a, a)) <= 1).all()
    for pair in ((a, b[:3]), (a[0], b[0]), (a, np.zeros_like(a)), (a, np.full_like(a, np.nan))):
        with pytest.raises(DataError):
            cosine(*pair)


def test_the_original_script_is_reproduced(shared: Path) -> None:
    """Consistent4D's per-view numbers with the tiny stand-in network: its picture reading and ours agree."""
    root = shared / "parity" / "metrics_c4d"
    expected = json.loads((root / "expected.json").read_text())["per_view"]
    encoder = clip.load(shared / "parity" / "tiny_clip")
    for name, view in (("bluejay", 3), ("trex", 1), ("trexpale", 2)):
        rows = []
        for side in ("pred", "gt"):
            files = sorted((root / side / name / f"eval_{view}").glob("*.png"), key=lambda path: int(path.stem))
            rows.append(encoder.embed([np.asarray(Image.open(path).resize((512, 512))) for path in files]))
        # measured 4e-8
        assert float(cosine(*rows).mean()) == pytest.approx(expected[name]["clip"][view], abs=1e-6)


# ---- the small CLIP of toy4d ----


def _toy(seed: int, azimuth: float, time: float = 0.3, size: int = 128) -> NDArray[np.uint8]:
    """(H, W, 3) of an unseen quadruped on white."""
    shown = picture(make_toy("quadruped", SEEDS["test"].start + seed), azimuth, time, size, False)
    return np.ascontiguousarray(shown.transpose(1, 2, 0))


def test_the_small_clip_is_1_for_equal_pictures_and_falls_with_what_differs() -> None:
    encoder = clip.load_toy()
    assert encoder.dimensions == 128
    pictures = [_toy(0, 0.0), _toy(0, 0.0), _toy(0, 105.0), _toy(1, 105.0)]
    embedded = encoder.embed(pictures)
    first = embedded[:1].expand(4, -1)
    same, twin, view, other = cosine(first, embedded)
    assert same == pytest.approx(1, abs=1e-12)
    assert twin == same
    assert 0.9 < view < 0.9999
    assert other < view - 0.2


def test_the_small_clip_prefers_the_right_toy_and_sees_damage() -> None:
    encoder = clip.load_toy()
    toys = range(12)
    truth = encoder.embed([_toy(k, -75.0) for k in toys])
    right = encoder.embed([_toy(k, -75.0, 0.4) for k in toys])
    blurred = encoder.embed(
        [np.asarray(Image.fromarray(_toy(k, -75.0)).resize((8, 8)).resize((128, 128))) for k in toys]
    )
    white = encoder.embed([np.full((128, 128, 3), 255, np.uint8)])
    own = cosine(right, truth)
    assert own.min() > 0.9
    assert (own > cosine(right, truth.roll(1, 0))).all()
    assert cosine(blurred, truth).mean() < own.mean() - 0.02
    assert cosine(white.expand(12, -1), truth).max() < 0.8


def test_the_small_clip_reads_any_square_size_alike_and_batches_change_nothing() -> None:
    encoder = clip.load_toy()
    small, large = encoder.embed([_toy(3, 15.0, size=128), _toy(3, 15.0, size=512)])
    assert cosine(small[None], large[None])[0] > 0.97
    several = [_toy(k, 15.0) for k in range(3)]
    # Other shapes of matrix products; 4e-7 measured.
    torch.testing.assert_close(encoder.embed(several, batch=3), encoder.embed(several), atol=1e-5, rtol=0)
    assert encoder.embed([]).shape == (0, 128)


@pytest.mark.parametrize("shape", [(128, 96, 3), (128, 128), (128, 128, 4)])
def test_the_small_clip_refuses_other_pictures(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="takes"):
        clip.load_toy().embed([np.zeros(shape, np.uint8)])
    with pytest.raises(DataError, match="takes uint8"):
        clip.load_toy().embed([np.zeros((64, 64, 3), np.float32)])


def test_ledger_and_library_pin_the_same_small_clip(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MVTF_WEIGHTS", str(tmp_path))
    (file,) = weights.WEIGHTS[clip.TOY_WEIGHTS_NAME].files
    assert file.sha256 == small_clip.WEIGHTS_SHA256
    assert weights.resolve(clip.TOY_WEIGHTS_NAME).samefile(small_clip.WEIGHTS)


def test_both_clips_of_one_picture_are_measured_apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A picture caches its embeddings per network."""
    _save_folder(tmp_path / "openai")
    paths = {clip.WEIGHTS_NAME: tmp_path / "openai", clip.TOY_WEIGHTS_NAME: small_clip.WEIGHTS}
    networks = Networks(paths)
    spec = {s.key: s for s in PROTOCOLS["toy4d-v2"].metrics}
    pair = Picture(_toy(0, 0.0), "a"), Picture(_toy(1, 0.0), "b")
    toy, openai = (spec[key].measure_frame(*pair, networks) for key in ("clip_toy", "clip"))
    assert toy == pytest.approx(float(cosine(*(clip.load_toy().embed([p.pixels]) for p in pair))[0]))
    assert abs(toy - openai) > 1e-3
    assert spec["clip_toy"].measure_frame(*pair, networks) == toy
