"""What a training run of the small prior is between two steps, and its checkpoint file.

Weights are held in float32; a checkpoint rounds their average to float16 and the optimisers' memory to
bfloat16, which halves its size. The live state is rounded the same way at fixed steps (`snap`).
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mvtokenflow.base.damaged import damage, parse_json
from mvtokenflow.base.errors import WeightsCorruptError
from mvtokenflow.base.files import canonical_json
from mvtokenflow.base.tensor_files import read_tensors, write_tensors
from mvtokenflow.multiview.unet import MultiviewUNet

FORMAT = "mvtokenflow-prior-training-1"


class TrainingState:
    """Network, its averaged weights, two optimisers and counters.

    Attributes:
        unet: the network in training.
        average: its weights' running mean, by parameter name.
        step, samples, seconds: optimiser steps, objects seen, time spent on them.
        cooldown: (samples at its start, its length), None in the constant phase.
        curve: points of the learning curve; losses: (normal, colour) since the last point.
    """

    def __init__(self, unet: MultiviewUNet, momentum: float, weight_decay: float) -> None:
        self.unet = unet
        self.average = {name: value.detach().clone() for name, value in unet.named_parameters()}
        matrices = {name: value for name, value in unet.named_parameters() if value.ndim >= 2}
        others = {name: value for name, value in unet.named_parameters() if value.ndim < 2}
        # Muon takes matrices only: convolutions are stepped through views (outputs, inputs x kernel).
        self._flat = {name: value.detach().flatten(1) for name, value in matrices.items()}
        self._parameters = {**matrices, **others}
        # The rate is set at every step; Muon's is scaled so that both move weights alike.
        self.muon = torch.optim.Muon(
            self._flat.values(), momentum=momentum, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"
        )
        self.adam = torch.optim.AdamW(others.values(), betas=(0.9, 0.99), weight_decay=0.0)
        self._others = others
        self.step = 0
        self.samples = 0
        self.seconds = 0.0
        self.cooldown: tuple[int, int] | None = None
        self.curve: list[dict[str, Any]] = []
        self.losses: list[list[float]] = []

    def update(self, rate: float, average: float, samples: int) -> None:
        """Step both optimisers with the gradients in place, clear these, and advance average and counters."""
        for name, flat in self._flat.items():
            gradient = self._parameters[name].grad
            assert gradient is not None, name
            flat.grad = gradient.flatten(1)
        optimisers: tuple[torch.optim.Optimizer, ...] = (self.muon, self.adam)
        for optimiser in optimisers:
            for group in optimiser.param_groups:
                group["lr"] = rate
            optimiser.step()
        self.unet.zero_grad(set_to_none=True)
        self.step += 1
        self.samples += samples
        decay = min(average, (1 + self.step) / (10 + self.step))
        targets = list(self.average.values())
        torch._foreach_lerp_(targets, [self._parameters[name].detach() for name in self.average], 1 - decay)

    def snap(self) -> None:
        """Round to the precision of a checkpoint and close a stretch of the curve."""
        for memory, kind in self.memories().values():
            memory.copy_(memory.to(kind))
        if self.losses:
            normal, colour = (sum(column) / len(self.losses) for column in zip(*self.losses, strict=True))
            point = {"step": self.step, "samples": self.samples, "seconds": round(self.seconds, 1)}
            self.curve.append({**point, "normal": round(normal, 5), "colour": round(colour, 5)})
            self.losses = []

    def memories(self) -> dict[str, tuple[Tensor, torch.dtype]]:
        """By name in the file: memory that is rounded, and to what. Makes the optimisers' memory if needed."""
        found = {f"average.{name}": (value, torch.float16) for name, value in self.average.items()}
        for name, flat in self._flat.items():
            memory = self.muon.state[flat].setdefault("momentum_buffer", torch.zeros_like(flat))
            found[f"momentum.{name}"] = (memory, torch.bfloat16)
        for name, value in self._others.items():
            state = self.adam.state[value]
            if not state:
                state["step"] = torch.tensor(0.0)
            for key in ("exp_avg", "exp_avg_sq"):
                memory = state.setdefault(key, torch.zeros_like(value))
                found[f"adam.{key}.{name}"] = (memory, torch.bfloat16)
        return found


def save(path: Path, state: TrainingState, facts: Mapping[str, Any], extra: Mapping[str, Tensor]) -> None:
    """Atomically write a checkpoint; `facts` are JSON for the metadata, `extra` tensors ride along."""
    tensors = {f"weight.{name}": value.detach() for name, value in state.unet.named_parameters()}
    tensors |= {name: memory.to(kind) for name, (memory, kind) in state.memories().items()}
    tensors |= {f"codec.{name}": value for name, value in extra.items()}
    counters = {
        "step": state.step,
        "samples": state.samples,
        "seconds": state.seconds,
        "cooldown": state.cooldown,
        "curve": state.curve,
    }
    metadata = {"format": FORMAT, "facts": canonical_json(facts), "counters": json.dumps(counters)}
    write_tensors(path, {name: value.cpu().contiguous() for name, value in tensors.items()}, metadata)


def read(path: Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, Tensor]]:
    """Read (facts, counters, tensors) of a checkpoint.

    Raises:
        WeightsCorruptError: not a checkpoint of `save`.
    """
    what, cure = "not a checkpoint of `mvtf train-prior`", "restore it, or start in another folder"
    metadata, tensors = read_tensors(path, what, cure, WeightsCorruptError)
    with damage(path, what, cure, WeightsCorruptError):
        if metadata.get("format") != FORMAT:
            raise ValueError(f"its format is {metadata.get('format')!r}")
        facts, counters = parse_json(metadata["facts"]), parse_json(metadata["counters"])
        if not isinstance(facts, dict) or not isinstance(counters, dict):
            raise TypeError("its notes are no objects")
        return facts, counters, tensors


@torch.no_grad()
def load(path: Path, state: TrainingState) -> None:
    """Put a checkpoint of the same network into `state`.

    Raises:
        WeightsCorruptError: not a checkpoint, or one of another network.
    """
    _, counters, tensors = read(path)
    targets: dict[str, Tensor] = {f"weight.{name}": value for name, value in state.unet.named_parameters()}
    targets |= {name: memory for name, (memory, _) in state.memories().items()}
    held = {name: value for name, value in tensors.items() if not name.startswith("codec.")}
    differ = sorted(set(held) ^ set(targets)) or [
        name for name, value in held.items() if value.shape != targets[name].shape
    ]
    if differ:
        raise WeightsCorruptError(
            f"{path}: made by another network ({len(differ)} tensors differ, first {differ[0]}); "
            "use the config it was started with, or another folder"
        )
    with damage(path, "a damaged checkpoint", "restore it, or start in another folder", WeightsCorruptError):
        step, samples = int(counters["step"]), int(counters["samples"])
        seconds, curve = float(counters["seconds"]), list(counters["curve"])
        cooldown = counters["cooldown"]
        cooldown = None if cooldown is None else (int(cooldown[0]), int(cooldown[1]))
    for name, value in held.items():
        targets[name].copy_(value)
    state.step, state.samples, state.seconds = step, samples, seconds
    state.curve, state.cooldown = curve, cooldown
    for memory in state.adam.state.values():
        memory["step"].fill_(state.step)
