"""SAM 2 by transformers, with a small untrained network: prompts, frames, and what is missing."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from mvtokenflow.base.errors import ConfigError, UserError, WeightsMissingError
from mvtokenflow.media import sam2
from mvtokenflow.media.sam2 import VARIABLE, Prompt, load_sam2

SIDE = 128
FRAMES = np.random.default_rng(0).integers(0, 256, (3, 60, 80, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `hf download` makes it, of a network of 1.5 million parameters."""
    library: Any = transformers
    backbone = {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": 12,
        "image_size": [SIDE, SIDE],
        "blocks_per_stage": [1, 1, 2, 1],
        "embed_dim_per_stage": [12, 24, 48, 96],
        "num_attention_heads_per_stage": [1, 1, 2, 4],
        "window_size_per_stage": [8, 4, 4, 4],
        "global_attention_blocks": [3],
    }
    vision = library.Sam2VisionConfig(
        backbone_config=backbone,
        backbone_channel_list=[96, 48, 24, 12],
        backbone_feature_sizes=[[SIDE // 4] * 2, [SIDE // 8] * 2, [SIDE // 16] * 2],
        fpn_hidden_size=128,
    )
    config = library.Sam2VideoConfig(
        vision_config=vision.to_dict(),
        prompt_encoder_config={"hidden_size": 128, "image_size": SIDE},
        mask_decoder_config={"hidden_size": 128, "mlp_dim": 32, "num_attention_heads": 2},
        image_size=SIDE,
        memory_attention_hidden_size=128,
        memory_attention_num_layers=1,
        memory_attention_feed_forward_hidden_size=32,
        memory_attention_rope_feat_sizes=[SIDE // 16, SIDE // 16],
        memory_encoder_hidden_size=128,
        mask_downsampler_embed_dim=128,
        memory_fuser_num_layers=1,
        memory_fuser_embed_dim=128,
        memory_fuser_intermediate_dim=32,
    )
    folder = tmp_path_factory.mktemp("sam2")
    torch.manual_seed(0)
    library.Sam2VideoModel(config).save_pretrained(folder)
    size, masks = ({"height": side, "width": side} for side in (SIDE, SIDE // 4))
    library.Sam2VideoProcessor(
        image_processor=library.Sam2ImageProcessor(size=size, mask_size=masks),
        video_processor=library.Sam2VideoVideoProcessor(size=size),
        target_size=SIDE,
    ).save_pretrained(folder)
    return folder


def test_every_frame_gets_a_mask_that_follows_from_the_prompt(
    network: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(network))
    clicked = Prompt(points=((30, 20),))
    masks = list(load_sam2(clicked)(FRAMES, [0, 1, 2]))
    assert [mask.shape for mask in masks] == [(60, 80)] * 3
    assert all(mask.dtype == np.uint8 for mask in masks)
    (last,) = load_sam2(clicked)(FRAMES, [2])
    assert (last == masks[2]).all(), "frames before it are still tracked"
    boxed = list(load_sam2(Prompt(box=(40, 30, 70, 55)))(FRAMES, [0, 1, 2]))
    assert any((one != other).any() for one, other in zip(masks, boxed, strict=True))


@pytest.mark.parametrize(
    ("prompt", "sentence"),
    [
        (Prompt(), "give --point X,Y or --box"),
        (Prompt(points=((80, 20),)), "--point 80,20: outside the frames, which are 80x60 pixels"),
        (Prompt(box=(50, 10, 20, 40)), "--box 50,10,20,40: not LEFT,TOP,RIGHT,BOTTOM"),
    ],
)
def test_prompts_that_name_no_place_in_the_frame(
    network: Path, monkeypatch: pytest.MonkeyPatch, prompt: Prompt, sentence: str
) -> None:
    monkeypatch.setenv(VARIABLE, str(network))
    with pytest.raises(ConfigError, match=sentence):
        list(load_sam2(prompt)(FRAMES, [0]))


@pytest.mark.parametrize(("word", "count"), [("1", 2), ("1,b", 2), ("1,2,3", 4), ("nan,1", 2)])
def test_words_that_are_no_places(word: str, count: int) -> None:
    assert sam2.numbers("--point", "3,4.5", 2) == (3, 4.5)
    with pytest.raises(ConfigError, match=f"--point is .*expected {count} numbers"):
        sam2.numbers("--point", word, count)


def test_what_is_missing_is_said_with_size_licence_and_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refused(kind: type[UserError], *parts: str) -> None:
        with pytest.raises(kind) as caught:
            load_sam2(Prompt(points=((1, 1),)))
        for part in parts:
            assert part in str(caught.value)

    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.delenv(VARIABLE, raising=False)
    refused(WeightsMissingError, "184 MB", "Apache-2.0", "`hf download facebook/sam2.1-hiera-small`", VARIABLE)
    monkeypatch.setenv(VARIABLE, str(tmp_path / "none"))
    refused(WeightsMissingError, "holds no config.json")
    older = SimpleNamespace(__version__="4.50.0")
    monkeypatch.setattr("mvtokenflow.media.sam2.import_module", lambda name: older)
    refused(ConfigError, "transformers 4.56 or newer", "`pip install -U transformers`")


def test_the_name_in_records_tells_prompts_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert sam2.sam2(Prompt(points=((3, 4), (5, 6.5)))).name == "sam2 sam2.1-hiera-small point 3,4 point 5,6.5"
    assert sam2.sam2(Prompt(box=(1, 2, 3, 4))).name == "sam2 sam2.1-hiera-small box 1,2,3,4"
