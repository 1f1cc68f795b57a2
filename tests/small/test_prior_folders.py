"""What `mvtf train-prior` and `gate-prior` find in a folder is gone on with, or left alone."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mvtokenflow.base.errors import ConfigError
from mvtokenflow.multiview.unet import MultiviewUNet
from mvtokenflow.small.config import SIZE, small_unet_config
from mvtokenflow.small.training import state as training_state
from mvtokenflow.small.training.export import keep_weights
from mvtokenflow.small.training.state import TrainingState
from mvtokenflow.workdir.lock import working_in

Mvtf = Callable[..., tuple[int, str, str]]


def checkpoint(path: Path, seed: int, cooldown: tuple[int, int] | None = None) -> Path:
    """Of a training that has just begun."""
    config = small_unet_config((8, 16), (1, 2))
    torch.manual_seed(seed)
    state = TrainingState(MultiviewUNet.from_config(config), 0.9, 0.0)
    state.cooldown = cooldown
    codec = {"means": torch.zeros(2, 6, 3, SIZE, SIZE), "scales": torch.ones(2, 6)}
    training_state.save(path, state, {"unet": config}, codec)
    return path


def test_a_cooldown_is_gone_on_with_at_its_own_length_only(mvtf: Mvtf, tmp_path: Path) -> None:
    checkpoint(tmp_path / "checkpoint.safetensors", 0)
    cooled = checkpoint(tmp_path / "cooldown" / "checkpoint.safetensors", 0, (100, 5000))
    before = cooled.read_bytes()
    code, printed, messages = mvtf("train-prior", "-o", tmp_path, "--cooldown", 20000)
    assert (code, printed) == (2, "")
    assert f"{tmp_path / 'cooldown'}: holds a cooldown over 5000 toys, 20000 were asked for" in messages
    assert "--cooldown 5000" in messages
    assert cooled.read_bytes() == before


def test_a_gate_leaves_a_busy_folder_alone(mvtf: Mvtf, tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    weights = checkpoint(tmp_path / "1.safetensors", 1)
    with working_in(tmp_path / "gate"):
        code, printed, messages = mvtf("gate-prior", weights, "-o", tmp_path / "gate")
    assert (code, printed) == (2, "")
    assert f"another process is working in {tmp_path / 'gate'}; wait for it" in messages
    assert not list((tmp_path / "gate").iterdir())


def test_a_gate_does_not_replace_the_weights_of_another_training(mvtf: Mvtf, tmp_path: Path) -> None:
    first, second = (checkpoint(tmp_path / f"{seed}.safetensors", seed) for seed in (1, 2))
    kept = tmp_path / "gate" / "prior.safetensors"
    keep_weights(first, kept)
    before = kept.read_bytes()
    keep_weights(first, kept)
    keep_weights(kept, kept)
    code, _, messages = mvtf("gate-prior", second, "-o", tmp_path / "gate")
    assert code == 2
    assert f"{kept}: holds other weights than {second}; give another folder" in messages
    assert kept.read_bytes() == before
    kept.write_bytes(b"cut off")
    with pytest.raises(ConfigError, match="holds other weights"):
        keep_weights(first, kept)
    assert kept.read_bytes() == b"cut off"
    assert list((tmp_path / "gate").iterdir()) == [kept]
