"""Settings of the small prior: noise levels, sampling, network."""

from typing import Any

from mvtokenflow.base.errors import ConfigError
from mvtokenflow.multiview.config import SamplingConfig

NOISE_LEVELS = 1000
SIZE, PATCH = 64, 4
JUMP = 400  # see `small_sampling`


def small_unet_config(
    channels: tuple[int, ...] = (64, 128), heads: tuple[int, ...] = (2, 4), layers: int = 1, patch: int = PATCH
) -> dict[str, Any]:
    """Return settings for `MultiviewUNet.from_config`: Era3D's structure on patch latents, no pose regressors.

    The first level has attention on the up path only, where token flow acts: a third less work at the most
    expensive size.
    """
    pixels = 3 * patch**2
    levels = len(channels)
    deeper = ["CrossAttnDownBlockMV2D"] * (levels - 1)
    return {
        "in_channels": 2 * pixels + 6,
        "out_channels": pixels,
        "block_out_channels": list(channels),
        "attention_head_dim": list(heads),
        "down_block_types": ["DownBlock2D", *deeper],
        "up_block_types": ["CrossAttnUpBlockMV2D"] * levels,
        "layers_per_block": layers,
        "transformer_layers_per_block": 1,
        "cross_attention_dim": 128,
        "projection_class_embeddings_input_dim": 128,
        "norm_num_groups": 8,
        "regress_elevation": False,
        "regress_focal_length": False,
    }


def small_sampling(steps: int = 20, jump: int = JUMP) -> SamplingConfig:
    """Return settings of DDIM from the mean: one step at the last level, the others from `jump` down.

    A short training gives a good mean (the prediction from pure noise) and poor samples; noise well below the
    last level keeps the mean's layout and lets the other steps add detail to it.
    """
    if steps > 1 and not steps <= jump < NOISE_LEVELS - 1:
        raise ConfigError(f"jump is {jump}; expected {steps} (the steps) to {NOISE_LEVELS - 2}")
    later = [round(jump * (steps - 1 - k) / (steps - 1)) for k in range(steps - 1)]
    timesteps = (NOISE_LEVELS - 1, *later)
    return SamplingConfig(steps=steps, eta=0.0, guidance=1.0, timesteps=timesteps)
