"""Tiny networks for tests."""

from collections.abc import Sequence
from typing import Any

import torch

from mvtokenflow.multiview.unet import MultiviewUNet
from mvtokenflow.small.clip import SmallClipConfig


def tiny_unet(**changes: Any) -> MultiviewUNet:
    """Build a multiview network of two levels with attention in both and the pose regressors, always the same.

    Views mix, as they do after training: the output of attention between views is zero at its start. Evaluation
    mode, frozen.
    """
    torch.manual_seed(0)
    network = MultiviewUNet.from_config(
        {
            "in_channels": 6,
            "out_channels": 3,
            "block_out_channels": [16, 32],
            "down_block_types": ["CrossAttnDownBlockMV2D"] * 2,
            "up_block_types": ["CrossAttnUpBlockMV2D"] * 2,
            "layers_per_block": 1,
            "attention_head_dim": [2, 2],
            "cross_attention_dim": 5,
            "projection_class_embeddings_input_dim": 3,
            "norm_num_groups": 4,
            "regress_hidden_dim": 4,
            **changes,
        }
    )
    for name, parameter in network.named_parameters():
        if name.endswith("attn_mv.to_out.0.weight"):
            torch.nn.init.normal_(parameter, std=0.2)
    return network.eval().requires_grad_(False)


def tiny_clip_config(vocabulary: Sequence[str]) -> SmallClipConfig:
    """Settings of a small CLIP that is quick to build, for pictures of 32 px."""
    return SmallClipConfig(
        vocabulary=tuple(vocabulary),
        embed_dim=16,
        image_size=32,
        vision_width=8,
        vision_layers=(1, 1, 1, 1),
        text_width=16,
        text_layers=1,
        text_heads=2,
    )
