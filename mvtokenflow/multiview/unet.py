"""Era3D's denoiser: a U-Net with joint normal-colour attention, row-wise multiview attention and a pose head.

The trunk is that of Stable Diffusion 2.1 unCLIP; the head regresses the pose of the input.

Parameter names and the configuration are those of the released `unet` folder, so that its weights load
strictly. Pictures of one call are ordered n = (d G + q) V + v: domain d (0 normal, 1 colour), group q
(guidance half, then frame), view v. Groups never influence each other, unless a processor of `attn1` couples
them, and may go through the network in parts (`mvtokenflow.multiview.parts`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import torch
from diffusers.models.attention import AttentionMixin
from diffusers.models.downsampling import Downsample2D
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn
from torch.nn import functional as F

from mvtokenflow.base.errors import ConfigError
from mvtokenflow.base.settings import check_types
from mvtokenflow.multiview.attention import MultiviewTransformer, PoseRegressor, pair_domains
from mvtokenflow.multiview.parts import Groups, Part, group_order, join_groups, take_groups
from mvtokenflow.multiview.stages import DownStage, MidStage, UpStage

# Keys of Era3D's unet/config.json with the only values that this network implements.
_FIXED: dict[str, Any] = {
    "act_fn": "silu",
    "addition_downsample": False,
    "addition_embed_type": None,
    "attention_type": "default",
    "cd_attention_last": False,
    "cd_attention_mid": False,
    "center_input_sample": False,
    "class_embeddings_concat": False,
    "conv_in_kernel": 3,
    "conv_out_kernel": 3,
    "cross_attention_norm": None,
    "downsample_padding": 1,
    "dropout": 0.0,
    "dual_cross_attention": False,
    "encoder_hid_dim": None,
    "encoder_hid_dim_type": None,
    "mid_block_only_cross_attention": None,
    "mid_block_scale_factor": 1,
    "multiview_attention": True,
    "mvcd_attention": True,
    "num_class_embeds": None,
    "only_cross_attention": False,
    "projection_camera_embeddings_input_dim": 4,
    "resnet_out_scale_factor": 1.0,
    "resnet_skip_time_act": False,
    "resnet_time_scale_shift": "default",
    "reverse_transformer_layers_per_block": None,
    "selfattn_block": "self_rowwise",
    "time_cond_proj_dim": None,
    "time_embedding_act_fn": None,
    "time_embedding_dim": None,
    "time_embedding_type": "positional",
    "timestep_post_act": None,
    "use_dino": False,
}
# Keys without influence on this network: not read by the original either, or records of its training.
# `upcast_attention` is one: the original's fused attention ignores it, and so does ours.
_IGNORED = {
    *("addition_channels", "addition_embed_type_num_heads", "addition_time_embed_dim", "sample_size"),
    *("sparse_mv_attention", "upcast_attention"),
    *("decay", "inv_gamma", "min_decay", "optimization_step", "power", "update_after_step", "use_ema_warmup"),
}
_WITH_ATTENTION = {
    "CrossAttnDownBlockMV2D": True,
    "CrossAttnDownBlock2D": True,
    "DownBlock2D": False,
    "CrossAttnUpBlockMV2D": True,
    "CrossAttnUpBlock2D": True,
    "UpBlock2D": False,
}
_MID = ("UNetMidBlockMV2DCrossAttn", "UNetMidBlock2DCrossAttn")


class MultiviewOutput(NamedTuple):
    """Output of the network.

    Attributes:
        sample: (N, out_channels, h, w).
        pose: (G, 2), elevation in radians and 24 mm over the focal length of a 32 mm wide sensor (0 is
            orthographic), or None for a network without regressors.
    """

    sample: Tensor
    pose: Tensor | None


_MOST_LAYERS = 32  # layers of a block, and levels: Era3D has 2 and 4


@dataclass(frozen=True, kw_only=True)
class UNetConfig:
    """Settings of the network: the keys of `unet/config.json` that shape it, with the same names and defaults.

    Attributes:
        attention_head_dim: *number* of attention heads per level (a misnomer that diffusers keeps).
        regress_hidden_dim: width of the pose regressors, a literal in the original.
    """

    in_channels: int = 8
    out_channels: int = 4
    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    down_block_types: tuple[str, ...] = (*("CrossAttnDownBlockMV2D",) * 3, "DownBlock2D")
    mid_block_type: str = "UNetMidBlockMV2DCrossAttn"
    up_block_types: tuple[str, ...] = ("UpBlock2D", *("CrossAttnUpBlockMV2D",) * 3)
    layers_per_block: tuple[int, ...] = (2, 2, 2, 2)
    transformer_layers_per_block: tuple[int, ...] = (1, 1, 1, 1)
    attention_head_dim: tuple[int, ...] = (5, 10, 20, 20)
    cross_attention_dim: int = 1024
    class_embed_type: str | None = "projection"
    projection_class_embeddings_input_dim: int = 2048
    norm_num_groups: int = 32
    norm_eps: float = 1e-5
    flip_sin_to_cos: bool = True
    freq_shift: int = 0
    use_linear_projection: bool = True
    num_views: int = 6
    regress_elevation: bool = True
    regress_focal_length: bool = True
    num_regress_blocks: int = 3
    regress_hidden_dim: int = 1280

    def __post_init__(self) -> None:
        check_types(self, "unet config")
        levels = len(self.block_out_channels)
        for name in ("down_block_types", "up_block_types", "layers_per_block"):
            _check(len(getattr(self, name)) == levels, name, getattr(self, name), f"{levels} of them")
        for name in ("transformer_layers_per_block", "attention_head_dim"):
            _check(len(getattr(self, name)) == levels, name, getattr(self, name), f"{levels} of them")
        _check(levels <= _MOST_LAYERS, "block_out_channels", levels, f"at most {_MOST_LAYERS} levels")
        for name in ("layers_per_block", "transformer_layers_per_block"):
            _check(
                max(getattr(self, name), default=1) <= _MOST_LAYERS, name, getattr(self, name), "32 or fewer"
            )
        _check(
            self.num_regress_blocks <= _MOST_LAYERS,
            "num_regress_blocks",
            self.num_regress_blocks,
            "32 or fewer",
        )
        for name in (*self.down_block_types, *self.up_block_types):
            _check(name in _WITH_ATTENTION, "block type", name, f"one of {', '.join(_WITH_ATTENTION)}")
        _check(self.mid_block_type in _MID, "mid_block_type", self.mid_block_type, f"one of {', '.join(_MID)}")
        kinds = ("projection", None)
        _check(
            self.class_embed_type in kinds, "class_embed_type", self.class_embed_type, "'projection' or null"
        )
        _check(
            self.regress_elevation == self.regress_focal_length,
            "regress_elevation, regress_focal_length",
            (self.regress_elevation, self.regress_focal_length),
            "both or neither",
        )
        for channels, heads in zip(self.block_out_channels, self.attention_head_dim, strict=True):
            positive = min(channels, heads, self.norm_num_groups) > 0
            divides = positive and channels % heads == 0 and channels % self.norm_num_groups == 0
            _check(divides, "block_out_channels", channels, "multiples of the heads and of norm_num_groups")

    @property
    def regress_pose(self) -> bool:
        """Return whether the network estimates the pose of its input."""
        return self.regress_elevation

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> "UNetConfig":
        """Read the settings from a mapping with the keys of Era3D's `unet/config.json`.

        Raises:
            ConfigError: an unknown key, or a value this network does not have.
        """
        known = {field.name for field in fields(cls)}
        channels = mapping.get("block_out_channels", cls.block_out_channels)
        levels = len(channels) if isinstance(channels, Sequence) else 0  # a wrong type is reported later
        chosen: dict[str, Any] = {"layers_per_block": 2, "transformer_layers_per_block": 1}
        for key, value in mapping.items():
            if key in _FIXED:
                _check(value == _FIXED[key], key, value, repr(_FIXED[key]))
            elif key in known:
                chosen[key] = (
                    tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
                )
            elif key not in _IGNORED and key != "num_attention_heads" and not key.startswith("_"):
                raise ConfigError(f"unet config: unknown key '{key}' ({value!r}); remove it")
        if mapping.get("num_attention_heads") is not None:
            heads = mapping["num_attention_heads"]
            chosen["attention_head_dim"] = tuple(heads) if isinstance(heads, Sequence) else heads
        for key in ("layers_per_block", "transformer_layers_per_block", "attention_head_dim"):
            if isinstance(chosen.get(key), int):
                chosen[key] = (chosen[key],) * levels
        return cls(**chosen)


def _check(fits: bool, key: str, value: Any, expected: str) -> None:
    if not fits:
        raise ConfigError(f"unet config: {key} is {value!r}, expected {expected}")


class MultiviewUNet(nn.Module, AttentionMixin):
    """The denoiser; diffusers' `attn_processors` and `set_attn_processor` work on it.

    `attn1` of a block sees paired tokens (G V, 2 L, C): see `mvtokenflow.multiview.attention`.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.block_out_channels
        embedding = 4 * channels[0]
        self.conv_in = nn.Conv2d(config.in_channels, channels[0], 3, padding=1)
        self.time_proj = Timesteps(channels[0], config.flip_sin_to_cos, config.freq_shift)
        self.time_embedding = TimestepEmbedding(channels[0], embedding)
        if config.class_embed_type == "projection":
            self.class_embedding = TimestepEmbedding(config.projection_class_embeddings_input_dim, embedding)
        self.down_blocks = nn.ModuleList(_down_stages(config))
        self.mid_block = MidStage(
            [_resnet(config, channels[-1], channels[-1]) for _ in range(2)], [_transformer(config, -1)]
        )
        self.up_blocks = nn.ModuleList(_up_stages(config))
        self.conv_norm_out = nn.GroupNorm(config.norm_num_groups, channels[0], eps=config.norm_eps)
        self.conv_out = nn.Conv2d(channels[0], config.out_channels, 3, padding=1)
        if config.regress_pose:
            pair, hidden = 2 * channels[-1], config.regress_hidden_dim
            self.elevation_regressor = PoseRegressor(pair, hidden, config.num_regress_blocks)
            self.focal_regressor = PoseRegressor(pair, hidden, config.num_regress_blocks)
            self.camera_embedding = TimestepEmbedding(4, embedding)

    @classmethod
    def from_config(cls, mapping: Mapping[str, Any]) -> "MultiviewUNet":
        """Build the network of `unet/config.json`; weights are initialised as at the start of training.

        Raises:
            ConfigError: an unknown key, or a value this network does not have.
        """
        return cls(UNetConfig.from_mapping(mapping))

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor | float,
        encoder_hidden_states: Tensor,
        class_labels: Tensor | None = None,
        parts: Sequence[Groups] | None = None,
    ) -> MultiviewOutput:
        """Predict the denoising target of each picture.

        Args:
            sample: (N, in_channels, h, w), N = 2 G V in the order of the module's docstring.
            timestep: one for all, or (N,).
            encoder_hidden_states: (N, L, cross_attention_dim) text of each picture.
            class_labels: (N, projection_class_embeddings_input_dim), None for a network without.
            parts: groups that are processed at once, every group in one part. Every layer runs on part after
                part, so that only features, keys and values of the whole batch are held. None is all at once.

        Raises:
            ValueError: no class labels though the network needs them; parts without every group once.
        """
        views = self.config.num_views
        chosen: Sequence[Groups | None] = [None] if parts is None else parts
        order = None if parts is None else group_order(parts, len(sample) // (2 * views))
        embedding = self._embedding(sample, timestep, class_labels)
        running = [self._part(sample, embedding, encoder_hidden_states, groups) for groups in chosen]
        for stage in self.down_blocks:
            stage(running)
        self.mid_block(running)
        pose = None
        if self.config.regress_pose:
            pose = torch.cat([self._posed(part) for part in running])
            pose = pose if order is None else pose[order]
        for stage in self.up_blocks:
            stage(running)
        taken = [self.conv_out(F.silu(self.conv_norm_out(part.features))) for part in running]
        return MultiviewOutput(taken[0] if order is None else join_groups(taken, order, views), pose)

    def _part(self, sample: Tensor, embedding: Tensor, text: Tensor, groups: Groups | None) -> Part:
        """Build the network's input for some groups of a batch."""
        chosen, levels, words = (
            take_groups(batch, groups, self.config.num_views) for batch in (sample, embedding, text)
        )
        features = self.conv_in(chosen)
        context = pair_domains(words).flatten(0, 1)
        return Part(features=features, embedding=levels, context=context, kept=[features])

    def _posed(self, part: Part) -> Tensor:
        """Regress the pose (g, 2) of a part's groups and add it to their embedding."""
        pose = self._pose(part.features)
        part.embedding = part.embedding + self._pose_embedding(pose)
        return pose

    def _embedding(self, sample: Tensor, timestep: Tensor | float, labels: Tensor | None) -> Tensor:
        """Embed the noise level and the class labels, (N, 4 C)."""
        times = torch.as_tensor(timestep, device=sample.device).expand(sample.shape[0])
        embedding: Tensor = self.time_embedding(self.time_proj(times).to(sample.dtype))
        if self.config.class_embed_type is None:
            return embedding
        if labels is None:
            raise ValueError("this network needs class_labels")
        labelled: Tensor = embedding + self.class_embedding(labels.to(sample.dtype))
        return labelled

    def _pose(self, features: Tensor) -> Tensor:
        """Regress the pose (G, 2), the mean over views; no gradient to the trunk, as in the original."""
        pooled = pair_domains(features.detach().mean(dim=(2, 3))).flatten(1)
        values = torch.cat((self.elevation_regressor(pooled), self.focal_regressor(pooled)), dim=-1)
        return values.view(-1, self.config.num_views, 2).mean(dim=1)

    def _pose_embedding(self, pose: Tensor) -> Tensor:
        embedding: Tensor = self.camera_embedding(torch.cat((pose.sin(), pose.cos()), dim=-1))
        return embedding.repeat_interleave(self.config.num_views, dim=0).repeat(2, 1)


def _resnet(config: UNetConfig, inputs: int, outputs: int) -> ResnetBlock2D:
    return ResnetBlock2D(
        in_channels=inputs,
        out_channels=outputs,
        temb_channels=4 * config.block_out_channels[0],
        groups=config.norm_num_groups,
        eps=config.norm_eps,
    )


def _transformer(config: UNetConfig, level: int) -> MultiviewTransformer:
    return MultiviewTransformer(
        config.block_out_channels[level],
        config.attention_head_dim[level],
        config.cross_attention_dim,
        config.num_views,
        layers=config.transformer_layers_per_block[level],
        groups=config.norm_num_groups,
        linear=config.use_linear_projection,
    )


def _down_stages(config: UNetConfig) -> list[DownStage]:
    stages = []
    channels = config.block_out_channels
    for level, (kind, layers) in enumerate(zip(config.down_block_types, config.layers_per_block, strict=True)):
        inputs = [channels[max(level - 1, 0)], *[channels[level]] * (layers - 1)]
        attentions = [_transformer(config, level) for _ in inputs] if _WITH_ATTENTION[kind] else []
        resnets = [_resnet(config, width, channels[level]) for width in inputs]
        last = level + 1 == len(channels)
        downsampler = None if last else Downsample2D(channels[level], use_conv=True, name="op")
        stages.append(DownStage(resnets, attentions, downsampler))
    return stages


def _up_stages(config: UNetConfig) -> list[UpStage]:
    """Build the up path: one layer more than in the down path, each with its counterpart's features."""
    skips = _skip_channels(config)
    stages = []
    features = config.block_out_channels[-1]
    for kind, level in zip(config.up_block_types, reversed(range(len(config.block_out_channels))), strict=True):
        width = config.block_out_channels[level]
        resnets = []
        for _ in range(config.layers_per_block[level] + 1):
            resnets.append(_resnet(config, features + skips.pop(), width))
            features = width
        attentions = [_transformer(config, level) for _ in resnets] if _WITH_ATTENTION[kind] else []
        upsampler = Upsample2D(width, use_conv=True) if level > 0 else None
        stages.append(UpStage(resnets, attentions, upsampler))
    return stages


def _skip_channels(config: UNetConfig) -> list[int]:
    """Channels of the features that the down path keeps, in order."""
    channels = config.block_out_channels
    kept = [channels[0]]
    for level, layers in enumerate(config.layers_per_block):
        kept += [channels[level]] * (layers + (level + 1 < len(channels)))
    return kept
