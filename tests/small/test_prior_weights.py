"""The prior's weights file: what goes in comes out, and everything else is refused with the fix."""

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mvtokenflow.base.errors import ConfigError, WeightsCorruptError, WeightsMissingError
from mvtokenflow.multiview.sampler import generate
from mvtokenflow.multiview.unet import MultiviewUNet
from mvtokenflow.small import clip as small_clip
from mvtokenflow.small.codec import PatchCodec, place_planes
from mvtokenflow.small.config import small_sampling, small_unet_config
from mvtokenflow.small.prior import FORMAT, load_small_prior, save_small_prior, six_cameras
from mvtokenflow.small.training.config import read_prior_config
from mvtokenflow.small.training.export import export

SIZE = 16


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = small_unet_config((8, 16), (1, 2))
    torch.manual_seed(0)
    unet = MultiviewUNet.from_config(config)
    means = torch.rand(2, 6, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    scales = torch.full((2, 6), 0.25)
    codec = PatchCodec(means=means, scales=scales, places=place_planes(six_cameras(SIZE), 4), patch=4)
    path = tmp_path_factory.mktemp("prior") / "prior.safetensors"
    save_small_prior(path, unet.state_dict(), config, codec, {"samples": "7"})
    return path


def test_what_is_saved_is_loaded_and_samples(weights: Path) -> None:
    prior = load_small_prior(weights)
    assert prior.size == SIZE
    assert prior.background == 0.5
    assert not prior.unet.training
    assert not any(value.requires_grad for value in prior.unet.parameters())
    for name, value in load_file(weights).items():
        if name.startswith("unet."):
            assert torch.equal(prior.unet.state_dict()[name[5:]], value.float())
    front = torch.rand(2, SIZE, SIZE, 3, generator=torch.Generator().manual_seed(0))
    frames = generate(prior, front, small_sampling(3), torch.Generator().manual_seed(0))
    assert frames.rgb.shape == (2, 6, SIZE, SIZE, 3)
    again = generate(prior, front, small_sampling(3), torch.Generator().manual_seed(0))
    assert torch.equal(frames.rgb, again.rgb)


def test_sampling_starts_at_the_mean_and_jumps() -> None:
    assert small_sampling(1).timesteps == (999,)
    twenty = small_sampling(20, 400).timesteps
    assert twenty is not None
    assert len(twenty) == 20
    assert twenty[:2] == (999, 400)
    assert twenty[-1] > 0
    assert small_sampling(20, 400).guidance == 1
    assert small_sampling(2, 998).timesteps == (999, 998)
    for jump in (10, 999):
        with pytest.raises(ConfigError, match=rf"jump is {jump}; expected 20 \(the steps\) to 998"):
            small_sampling(20, jump)


def test_missing_weights_name_the_command(tmp_path: Path) -> None:
    with pytest.raises(WeightsMissingError, match="mvtf train-prior"):
        load_small_prior(tmp_path / "none.safetensors")
    with pytest.raises(WeightsMissingError, match="mvtf train-prior"):
        export(tmp_path / "none.safetensors", tmp_path / "out.safetensors")


def test_a_missing_clip_is_named(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(small_clip, "WEIGHTS", tmp_path / "clip.safetensors")
    with pytest.raises(WeightsMissingError, match=r"clip.safetensors: no small CLIP there; reinstall"):
        load_small_prior(weights)


def broken(weights: Path, folder: Path, **metadata: str) -> Path:
    from safetensors import safe_open

    with safe_open(weights, framework="pt") as opened:
        known = opened.metadata()
    path = folder / "broken.safetensors"
    save_file(load_file(weights), path, {**known, **metadata})
    return path


def test_files_that_are_no_prior_are_refused(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsCorruptError, match="format"):
        load_small_prior(broken(weights, tmp_path, format="something"))
    with pytest.raises(WeightsCorruptError, match="small CLIP"):
        load_small_prior(broken(weights, tmp_path, clip_sha256="0" * 64))
    with pytest.raises(WeightsCorruptError, match="unknown key"):
        load_small_prior(broken(weights, tmp_path, unet='{"nonsense": 1}'))
    tensors = load_file(weights)
    name = next(name for name in tensors if name.startswith("unet."))
    tensors[name] = tensors[name] * float("nan")
    path = tmp_path / "nan.safetensors"
    save_file(tensors, path, {"format": FORMAT})
    with pytest.raises(WeightsCorruptError, match="NaN"):
        load_small_prior(path)
    path.write_bytes(b"no weights")
    with pytest.raises(WeightsCorruptError, match="not a small prior"):
        load_small_prior(path)


def test_export_copies_a_weights_file(weights: Path, tmp_path: Path) -> None:
    export(weights, tmp_path / "copy.safetensors")
    assert (tmp_path / "copy.safetensors").read_bytes() == weights.read_bytes()


def test_prior_config_is_read_strictly(tmp_path: Path) -> None:
    path = tmp_path / "prior.toml"
    path.write_text(
        "[unet]\nblock_out_channels = [96, 160]\nattention_head_dim = [3, 5]\n[training]\nbatch = 3\n"
    )
    unet, training = read_prior_config(path)
    assert unet["block_out_channels"] == [96, 160]
    assert unet["in_channels"] == 102
    assert training.batch == 3
    for text, message in (
        ("[trainings]", "'trainings' at the top"),
        ("unet = 3", r"prior.toml: .*'unet' at the top"),
        ("[training]\nrate = '3e-3'", r"prior.toml: training: rate is '3e-3'; expected a finite number"),
        ("[training]\nrate = inf", "rate is inf"),
        ("[training]\nwarmup = 2.5", "warmup is 2.5; expected a whole number"),
        ("[training]\nseed = -1", "seed is -1"),
        ("[training]\nsnap = true", "snap is True"),
        ("[unet]\nblock_out_channels = 8", "block_out_channels is 8"),
        ("[unet]\nattention_head_dim = [0, 2]", "block_out_channels is 64"),
        ("[unet]\nnorm_num_groups = '8'", r"prior.toml: unet config: norm_num_groups is '8'"),
        ("[training]\nbatchs = 3", "Did you mean 'batch'"),
        ("[training]\nbatch = 0", "batch"),
        ("[unet]\nact_fn = 'relu'", "act_fn"),
        ("[unet]\nnum_views = 4", r"prior.toml: unet config: num_views is 4, expected 6"),
        ("[unet]\nin_channels = 96", "in_channels is 96, expected 102"),
        ("[unet]\nout_channels = 4", "out_channels is 4, expected 48"),
        ("[unet]\ncross_attention_dim = 1024", "cross_attention_dim is 1024, expected 128"),
        (
            "[unet]\nprojection_class_embeddings_input_dim = 256",
            "projection_class_embeddings_input_dim is 256, expected 128",
        ),
        ("batch", "TOML"),
    ):
        path.write_text(text)
        with pytest.raises(ConfigError, match=message):
            read_prior_config(path)
    with pytest.raises(ConfigError, match="TOML"):
        read_prior_config(tmp_path / "none.toml")
    path.write_text("[unet]\nnum_views = 6\nin_channels = 102")  # as they are anyway
    assert read_prior_config(path)[0]["in_channels"] == 102
    read_prior_config(small_clip.WEIGHTS.with_name("prior.toml"))  # of the shipped weights


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train-prior", "-o", "OUT", "--dtype", "float64"], "--dtype float64"),
        (["train-prior", "-o", "OUT", "--minutes", "0"], "--minutes"),
        (["train-prior", "-o", "OUT", "--processes", "0"], "--processes"),
        (["train-prior", "-o", "OUT", "--config", "OUT/none.toml"], "none.toml"),
        (["train-prior", "-o", "OUT", "--cooldown", "100"], "no checkpoint to cool down from"),
        (["gate-prior", "OUT/none.safetensors", "-o", "OUT"], "none.safetensors"),
        (["gate-prior", "--toys", "1"], "--toys"),
        (["gate-prior", "--seed", "-1"], "the seed is -1; choose a whole number from 0"),
        (["train-clip", "-o", "OUT", "--seed", str(2**63)], "the seed is 9223372036854775808"),
        (["reconstruct", "OUT", "-o", "OUT/out", "--seed", str(2**64)], "the seed is 18446744073709551616"),
    ],
)
def test_mistakes_on_the_command_line_are_one_sentence(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from mvtokenflow.cli.mvtf import main

    given = [argument.replace("OUT", str(tmp_path)) for argument in arguments]
    monkeypatch.setattr(sys, "argv", ["mvtf", *given])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    printed = capsys.readouterr()
    sentence = printed.err.removeprefix("device: cpu\n")
    assert sentence.startswith("error: ")
    assert message in printed.err
    assert sentence.count("\n") == 1


def test_the_clip_named_in_weights_is_the_one_installed() -> None:
    from mvtokenflow.base.files import sha256_file

    assert sha256_file(small_clip.WEIGHTS) == small_clip.WEIGHTS_SHA256
