"""The multiview transformer of Era3D: joint normal-colour attention, then row-wise attention across views.

Inside a transformer tokens are held *paired*, (m, 2 L, C): m counts (group, view), and the L tokens of the
normal map are followed by those of its colour picture. Joint attention is then plain self-attention
without a copy. Reference: Era3D (Li et al., arXiv 2405.11616) and its released network, block
`BasicMVTransformerBlock` of kind "self_rowwise".
"""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from diffusers.models.attention import FeedForward
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn
from torch.nn import functional as F

from mvtokenflow.multiview.parts import Part


def pair_domains(batch: Tensor) -> Tensor:
    """Rearrange (2 m, ...) with all normals before all colours to (m, 2, ...), as a view."""
    return batch.view(2, -1, *batch.shape[1:]).transpose(0, 1)


class SdpaProcessor:
    """Attention processor for diffusers that runs one fused kernel; stateless, so modules may share it.

    Called with tokens (B, L, C) and, for cross-attention, a context (B, L', C'); returns (B, L, C) after
    the output projection.
    """

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
    ) -> Tensor:
        source = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        heads = attn.heads
        query = attn.to_q(hidden_states).unflatten(-1, (heads, -1)).transpose(1, 2)
        key = attn.to_k(source).unflatten(-1, (heads, -1)).transpose(1, 2)
        value = attn.to_v(source).unflatten(-1, (heads, -1)).transpose(1, 2)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=attention_mask)
        projected: Tensor = attn.to_out[0](mixed.transpose(1, 2).flatten(2))
        return projected


class GatheringProcessor(Protocol):
    """A processor of `attn1` that lets the parts of a batch attend to each other.

    Before `attn1` runs on each part, in order, the network passes it the tokens of all parts.
    """

    def gather(self, attn: Attention, parts: Iterable[Tensor]) -> None:
        """Collect what attention needs from the normalised paired tokens (m, 2 L, C) of each part.

        Tokens are computed as they are read; a processor that needs none does not read them.
        """
        ...


def _attention(channels: int, heads: int, context: int | None = None) -> Attention:
    attention = Attention(
        query_dim=channels, cross_attention_dim=context, heads=heads, dim_head=channels // heads
    )
    processor: Any = SdpaProcessor()  # diffusers types processors by a list of its own classes
    attention.set_processor(processor)
    return attention


class MultiviewBlock(nn.Module):
    """Transformer block: joint, row-wise and text attention, then feed-forward, each normalised with a skip.

    The parameters carry the names of the released network.
    """

    def __init__(self, channels: int, heads: int, context: int, views: int) -> None:
        super().__init__()
        self.views = views
        self.norm1 = nn.LayerNorm(channels)
        self.attn1 = _attention(channels, heads)
        self.norm_mv = nn.LayerNorm(channels)
        self.attn_mv = _attention(channels, heads)
        self.norm2 = nn.LayerNorm(channels)
        self.attn2 = _attention(channels, heads, context)
        self.norm3 = nn.LayerNorm(channels)
        self.ff = FeedForward(channels, activation_fn="geglu")
        # A new block does not mix views: training starts from the single-view network.
        projection: Any = self.attn_mv.to_out[0]
        nn.init.zeros_(projection.weight)

    def gather(self, parts: Iterable[Tensor]) -> None:
        """Pass the paired tokens of all parts of a batch to a processor of `attn1` that gathers them."""
        processor: Any = self.attn1.processor
        if hasattr(processor, "gather"):
            gathering: GatheringProcessor = processor
            gathering.gather(self.attn1, (self.norm1(tokens) for tokens in parts))

    def forward(self, tokens: Tensor, context: Tensor, height: int) -> Tensor:
        """Map paired tokens (m, 2 L, C), L = height x width row by row, to the same shape.

        Args:
            context: (2 m, L', C') text of each picture, paired: the colours follow their normals.
            height: rows of the L tokens.
        """
        tokens = tokens + self.attn1(self.norm1(tokens))
        tokens = tokens + self._across_views(self.norm_mv(tokens), height)
        single = self.norm2(tokens).view(context.shape[0], -1, tokens.shape[-1])
        tokens = tokens + self.attn2(single, context).view_as(tokens)
        mixed: Tensor = tokens + self.ff(self.norm3(tokens))
        return mixed

    def _across_views(self, tokens: Tensor, height: int) -> Tensor:
        """Attend from each token to its row in the pictures of all views, of its own domain and group."""
        count, length, channels = tokens.shape
        width = length // (2 * height)
        grid = tokens.view(count // self.views, self.views, 2, height, width, channels)
        rows = grid.permute(0, 2, 3, 1, 4, 5).reshape(-1, self.views * width, channels)
        mixed: Tensor = self.attn_mv(rows).view(-1, 2, height, self.views, width, channels)
        return mixed.permute(0, 3, 1, 2, 4, 5).reshape(count, length, channels)


class MultiviewTransformer(nn.Module):
    """Transformer blocks over the pixels of feature maps, with the spatial wrapper of Stable Diffusion."""

    def __init__(
        self, channels: int, heads: int, context: int, views: int, *, layers: int, groups: int, linear: bool
    ) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels, eps=1e-6)
        projection: Any = nn.Linear if linear else _pointwise
        self.proj_in = projection(channels, channels)
        self.transformer_blocks = nn.ModuleList(
            MultiviewBlock(channels, heads, context, views) for _ in range(layers)
        )
        self.proj_out = projection(channels, channels)
        self.linear = linear

    def forward(self, parts: Sequence[Part]) -> None:
        """Replace the features (n, C, h, w) of each part, in the network's batch order, by transformed ones."""
        height = parts[0].features.shape[2]
        tokens = [self._tokens(part.features) for part in parts]
        blocks: Any = self.transformer_blocks
        for block in blocks:
            block.gather(tokens)
            for position, part in enumerate(parts):
                tokens[position] = block(tokens[position], part.context, height)
        for part in parts:
            part.features = part.features + self._grid(tokens.pop(0), part.features.shape)

    def _tokens(self, features: Tensor) -> Tensor:
        """Convert features (n, C, h, w) to paired tokens (n / 2, 2 h w, C)."""
        count, channels, height, width = features.shape
        inner = self.norm(features)
        if not self.linear:
            inner = self.proj_in(inner)
        tokens = pair_domains(inner).permute(0, 1, 3, 4, 2).reshape(count // 2, 2 * height * width, channels)
        projected: Tensor = self.proj_in(tokens) if self.linear else tokens
        return projected

    def _grid(self, tokens: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Convert paired tokens back to features of `shape` (n, C, h, w)."""
        count, channels, height, width = shape
        if self.linear:
            tokens = self.proj_out(tokens)
        grid = tokens.view(count // 2, 2, height, width, channels)
        inner = grid.permute(1, 0, 4, 2, 3).reshape(count, channels, height, width)
        projected: Tensor = inner if self.linear else self.proj_out(inner)
        return projected


def _pointwise(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel_size=1)


class PoseRegressor(nn.Module):
    """Residual layers that regress one number from pooled features of a (normal, colour) pair."""

    def __init__(self, inputs: int, hidden: int, blocks: int) -> None:
        super().__init__()
        self.linear_in = nn.Sequential(nn.Linear(inputs, hidden), nn.SiLU())
        self.blocks = nn.ModuleList(_ResidualLinear(hidden) for _ in range(blocks))
        self.linear_out = nn.Linear(hidden, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Map (n, inputs) to (n, 1)."""
        hidden = self.linear_in(features)
        for block in self.blocks:
            hidden = block(hidden)
        value: Tensor = self.linear_out(hidden)
        return value


class _ResidualLinear(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(width, width)
        self.linear2 = nn.Linear(width, width)

    def forward(self, hidden: Tensor) -> Tensor:
        return F.silu(hidden + self.linear2(F.silu(self.linear1(hidden))))
