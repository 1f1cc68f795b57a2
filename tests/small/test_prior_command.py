"""`mvtf train-prior` and `gate-prior` end to end on a tiny network: sittings, processes, cooldown, gate."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

CONFIG = """
[unet]
block_out_channels = [8, 16]
attention_head_dim = [1, 2]

[training]
snap = 2
batch = 1
measured = 64
warmup = 4
"""


def mvtf(*arguments: object, expected: int = 0) -> str:
    """stderr of `mvtf`, run in a process of its own because it starts others."""
    command = [sys.executable, "-c", "from mvtokenflow.cli.mvtf import main; main()", *map(str, arguments)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=500)
    assert ended.returncode == expected, ended.stderr
    return ended.stderr


@pytest.mark.slow
def test_sittings_processes_cooldown_and_gate(tmp_path: Path) -> None:
    config = tmp_path / "tiny.toml"
    config.write_text(CONFIG)
    options = ("--config", config, "--dtype", "float32", "--processes", 2)
    whole, sittings = tmp_path / "whole", tmp_path / "sittings"
    mvtf("train-prior", "-o", whole, *options, "--samples", 16)
    for samples in (8, 16):
        mvtf("train-prior", "-o", sittings, *options, "--samples", samples)
    expected, found = (load_file(folder / "checkpoint.safetensors") for folder in (whole, sittings))
    assert expected.keys() == found.keys()
    for name in expected:
        assert torch.equal(expected[name], found[name]), name

    said = mvtf("train-prior", "-o", whole, *options, "--cooldown", 8, "--evaluate-every", 8)
    assert "24 toys; done" in said
    after = load_file(whole / "checkpoint.safetensors")
    assert all(torch.equal(after[name], expected[name]) for name in expected)  # the trunk is as it was
    evaluation = [
        json.loads(line) for line in (whole / "cooldown" / "evaluation.jsonl").read_text().splitlines()
    ]
    assert [point["samples"] for point in evaluation] == [24]
    assert (whole / "cooldown" / "samples-24.png").exists()

    out = tmp_path / "gate"
    said = mvtf("gate-prior", whole / "cooldown" / "checkpoint.safetensors", "-o", out, "--toys", 6, expected=1)
    assert "FAILED" in said  # 24 toys teach nothing
    record = json.loads((out / "prior.json").read_text())
    assert record["passed"] is False
    assert record["unseen"]["objects"] == 6
    assert record["held_out_plan"]["objects"] == 2
    assert (out / "unseen-judged.png").exists()
    assert load_file(out / "prior.safetensors")["codec.means"].shape == (2, 6, 3, 64, 64)
