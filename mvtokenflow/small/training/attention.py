"""Attention for training in bfloat16 on a CPU, where torch's fused kernel has a slow backward pass.

On short sequences with narrow heads the fused backward costs several times the matrix products it consists
of (row attention of the small prior: 126 ms against 35 ms on a Zen 4 core); here they are written out and the
weights are kept, which at these lengths fit into memory easily.
"""

from typing import Any

import torch
from diffusers.models.attention_processor import Attention
from torch import Tensor


class _SoftmaxAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        scaled = query * query.shape[-1] ** -0.5
        weights = torch.bmm(scaled, key.transpose(1, 2)).softmax(-1)
        mixed = torch.bmm(weights, value)
        ctx.save_for_backward(scaled, key, value, mixed, weights)
        return mixed

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        scaled, key, value, mixed, weights = ctx.saved_tensors
        (grad,) = grads
        # Of the softmax: dS = W * (dW - sum(dO * O)), with dW = dO V^T.
        carried = (grad * mixed).sum(-1, keepdim=True)
        scores = torch.bmm(grad, value.transpose(1, 2)).sub_(carried).mul_(weights)
        grad_query = torch.bmm(scores, key) * scaled.shape[-1] ** -0.5
        grad_key = torch.bmm(scores.transpose(1, 2), scaled)
        return grad_query, grad_key, torch.bmm(weights.transpose(1, 2), grad)


def softmax_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Compute softmax(Q K^T / sqrt(d)) V of (B, L, d), (B, L', d), (B, L', d) -> (B, L, d)."""
    device = query.device.type
    with torch.autocast(device, enabled=False):
        mixed: Tensor = _SoftmaxAttention.apply(query, key.to(query.dtype), value.to(query.dtype))
    return mixed


class MatrixProcessor:
    """`SdpaProcessor` by `softmax_attention`; equal up to rounding."""

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
    ) -> Tensor:
        if attention_mask is not None:
            raise ValueError("training knows no attention masks")
        source = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query, key, value = (
            _split(layer(tokens), attn.heads)
            for layer, tokens in ((attn.to_q, hidden_states), (attn.to_k, source), (attn.to_v, source))
        )
        mixed = softmax_attention(query, key, value)
        mixed = mixed.view(len(hidden_states), attn.heads, *mixed.shape[1:])
        projected: Tensor = attn.to_out[0](mixed.transpose(1, 2).flatten(2))
        return projected


def _split(tokens: Tensor, heads: int) -> Tensor:
    """Reshape (B, L, H d) to (B H, L, d)."""
    count, length, _ = tokens.shape
    return tokens.view(count, length, heads, -1).transpose(1, 2).flatten(0, 1)
