"""Training of the small prior: zero terminal SNR, clean latents predicted, resumable to the bit, CPU or CUDA.

The network predicts clean latents, not v or noise: a patch has 48 noisy numbers and the first layer 64
channels, so that a network asked for the noise spends its width on carrying it through, and leaves some in the
pictures. Loss: squared error times min(1 / sigma^2, 5), which is that of v, capped (min-SNR, Hang et al. 2023).
The last noise level, where the network must give the mean, is drawn more often. Schedule: warmup, constant
rate, and a separate linear cooldown, so that a run can always go on from its constant phase. Matrices are
stepped by Muon, the rest by AdamW; an average of the weights is kept. Objects of a batch differ in noise level;
normal and colour of one object share it, as when sampling.
"""

import json
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist

from mvtokenflow.base.files import write_text
from mvtokenflow.base.progress import Progress
from mvtokenflow.multiview.unet import MultiviewUNet
from mvtokenflow.small.codec import PatchCodec
from mvtokenflow.small.config import NOISE_LEVELS
from mvtokenflow.small.schedule import noise_schedule
from mvtokenflow.small.training import state as training_state
from mvtokenflow.small.training.attention import MatrixProcessor
from mvtokenflow.small.training.config import PriorTraining
from mvtokenflow.small.training.data import Source, batches
from mvtokenflow.small.training.lesson import Lesson
from mvtokenflow.small.training.state import TrainingState


def rate_factor(samples: int, warmup: int, cooldown: tuple[int, int] | None) -> float:
    """Of the learning rate after `samples`: linear rise, 1, and linear fall over `cooldown` (start, length)."""
    factor = min(1.0, (samples + 1) / warmup) if warmup else 1.0
    if cooldown is not None:
        start, length = cooldown
        factor = min(factor, max(0.0, 1 - (samples - start) / length))
    return factor


def draw_levels(count: int, terminal: float, generator: torch.Generator) -> Tensor:
    """Draw timesteps (count,): a share `terminal` at the last, the others uniform."""
    device = generator.device
    uniform = torch.randint(NOISE_LEVELS, (count,), generator=generator, device=device)
    last = torch.rand(count, generator=generator, device=device) < terminal
    return torch.where(last, NOISE_LEVELS - 1, uniform)


def clean_loss(
    unet: Callable[..., Any],
    clean: Tensor,
    condition: Tensor,
    labels: Tensor,
    prompts: Tensor,
    powers: Tensor,
    levels: Tensor,
    noise: Tensor,
    snr_cap: float,
) -> Tensor:
    """Compute the weighted loss (2, B, V) of each picture.

    Args:
        clean, noise: (2, B, V, c, h, w); condition: (2, B, V, c', h, w); labels: (B, E).
        prompts: (2, B, V, L, D).
        powers: signal power (alpha-bar) of all timesteps; levels: (B,) timesteps.
    """
    power = powers[levels].view(1, -1, 1, 1, 1, 1)
    signal, sigma = power.sqrt(), (1 - power).sqrt()
    lead = clean.shape[:3]
    prediction = unet(
        torch.cat((signal * clean + sigma * noise, condition), dim=3).flatten(0, 2),
        levels[None, :, None].expand(lead).flatten(),
        prompts.flatten(0, 2),
        labels[None, :, None].expand(*lead, -1).flatten(0, 2),
    ).sample
    error = (prediction.float().view_as(clean) - clean).square().mean(dim=(3, 4, 5))
    weighted: Tensor = error / (1 - power.view(1, -1, 1)).clamp(min=1 / snr_cap)
    return weighted


@dataclass(kw_only=True)
class PriorTrainer:
    """One process of a training run.

    Attributes:
        config: how to train.
        unet_config: mapping for `MultiviewUNet.from_config`.
        codec: kept in the checkpoint, for the weights file.
        lesson: what the network is trained on, on `device`.
        source: batches of `config.batch` training objects, as the lesson takes them.
        device: of the network; dtype: of its autocast, float32 for none.
        workers: data processes, 0 to render in this one.
        compile: whether to run the network through torch.compile.
    """

    config: PriorTraining
    unet_config: Mapping[str, Any]
    codec: PatchCodec
    lesson: Lesson[Any]
    source: Source[Any]
    device: torch.device
    dtype: torch.dtype = torch.float32
    workers: int = 0
    compile: bool = False
    state: TrainingState = field(init=False)

    def __post_init__(self) -> None:
        with torch.random.fork_rng(devices=[]):  # diffusers' layers initialise from the global generator
            torch.manual_seed(self.config.seed)
            unet = MultiviewUNet.from_config(self.unet_config)
        nn.init.zeros_(unet.conv_out.weight)  # the first prediction is the base picture
        unet.to(self.device)
        if self.device.type == "cpu":
            processor: Any = MatrixProcessor()  # diffusers lists its own only
            unet.set_attn_processor(processor)
        self.state = TrainingState(unet, self.config.momentum, self.config.weight_decay)
        self._network: Callable[..., Any] = torch.compile(unet) if self.compile else unet
        self._powers = noise_schedule().alphas_cumprod.to(self.device)

    def run(
        self,
        until: int,
        at_snap: Callable[[], bool] | None = None,
        report: Progress | None = None,
    ) -> bool:
        """Train to the first snap at or after `until` samples; False if stopped before.

        Args:
            at_snap: called by process 0 after every snap, to save and to evaluate; True stops all processes.
            report: called with ("train", samples, until).
        """
        rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        first = self.state.samples // self.config.batch + rank
        data = batches(self.source, first, world, self.workers)
        while self.state.samples < until or self.state.step % self.config.snap:
            began = time.monotonic()
            loss = self.step(next(data), rank, world)
            self.state.seconds += time.monotonic() - began
            self.state.losses.append(loss)
            if report is not None:
                report("train", self.state.samples, until)
            if self.state.step % self.config.snap:
                continue
            self.state.snap()
            stop = rank == 0 and at_snap is not None and at_snap()
            if _agree(stop, world) and self.state.samples < until:
                return False
        return True

    def step(self, held: Any, rank: int = 0, world: int = 1) -> list[float]:
        """Take one optimiser step on the tensors of a batch; returns the losses (normal, colour)."""
        unet, state, config = self.state.unet, self.state, self.config
        generator = torch.Generator(self.device).manual_seed(
            (config.seed * 1_000_003 + state.samples * 64 + rank) % 2**63
        )
        example = self.lesson(held, generator)
        clean = example.clean
        levels = draw_levels(clean.shape[1], config.terminal, generator)
        noise = torch.randn(clean.shape, generator=generator, device=self.device)
        unet.train()
        mixed = self.dtype != torch.float32
        with torch.autocast(self.device.type, self.dtype) if mixed else nullcontext():
            losses = clean_loss(
                self._network,
                clean,
                example.condition,
                example.labels,
                example.prompts,
                self._powers,
                levels,
                noise,
                config.snr_cap,
            )
        weighted = losses * example.weights
        torch.autograd.backward(weighted.mean())
        means = weighted.detach().mean(dim=(1, 2))
        if world > 1:
            _average([means, *(p.grad for p in unet.parameters() if p.grad is not None)], world)
        nn.utils.clip_grad_norm_(unet.parameters(), config.clip)
        rate = config.rate * rate_factor(state.samples, config.warmup, state.cooldown)
        state.update(rate, config.average, samples=clean.shape[1] * world)
        return [float(value) for value in means]

    def save(self, path: Path) -> None:
        """Write a checkpoint, at a snap: everything `resume` needs, and the curve beside it."""
        facts = {"config": asdict(self.config), "unet": dict(self.unet_config)}
        codec = {"means": self.codec.means, "scales": self.codec.scales}
        training_state.save(path, self.state, facts, codec)
        write_text(path.with_suffix(".jsonl"), "".join(json.dumps(point) + "\n" for point in self.state.curve))

    @torch.no_grad()
    def start_from(self, weights: Mapping[str, Tensor]) -> None:
        """Take the network's first weights from trained ones (by parameter name) instead of drawn ones.

        Raises:
            RuntimeError: those of another network.
        """
        self.state.unet.load_state_dict(dict(weights))
        for name, value in self.state.unet.named_parameters():
            self.state.average[name].copy_(value)

    def resume(self, path: Path) -> None:
        """Go on from a checkpoint of the same network; the settings of this run apply from here on."""
        training_state.load(path, self.state)


def _average(tensors: list[Tensor], world: int) -> None:
    """Mean over the processes, in place, in one message."""
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    dist.all_reduce(flat)
    flat /= world
    for tensor, part in zip(tensors, torch.split(flat, [tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))


def _agree(stop: bool, world: int) -> bool:
    """Return what process 0 decided."""
    if world == 1:
        return stop
    flag = torch.tensor([stop], dtype=torch.uint8)
    dist.broadcast(flag, src=0)
    return bool(flag[0])
