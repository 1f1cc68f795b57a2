"""Settings of the method in one frozen object, its presets, and the paper's ablations as settings."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal

from mvtokenflow.base import settings
from mvtokenflow.base.errors import ConfigError
from mvtokenflow.base.files import choose
from mvtokenflow.multiview.config import SamplingConfig, SquareConfig
from mvtokenflow.small.config import small_sampling
from mvtokenflow.splat import training_config as reconstruction
from mvtokenflow.splat.training_config import ReconstructionConfig, StageConfig
from mvtokenflow.tokenflow.config import Enlarged, Propagation, TokenFlowConfig

SMALL_PRIOR = "small"
MAX_FRAMES = 64  # of a clip: all frames attend to one another, memory and time grow with them


@dataclass(frozen=True, kw_only=True)
class MethodConfig:
    """Settings of the whole method: generation of views, their consistency, and reconstruction.

    Attributes:
        prior: "small", the one in the package; a `.safetensors` file of another small prior; or a folder or
            hub name of Era3D's public layout.
        square: how the clip becomes the prior's square pictures.
        stride: views are generated for every `stride`-th frame of the clip and the last; the field is
            continuous in time. On command lines it is called generate_every (`SETTING_NAMES`), since there
            `--stride` drops frames.
        sampling: of the multiview diffusion, in both passes.
        token_flow: keyframes and steps of the propagation. Which views are propagated follows from the pass:
            in the first the front alone (section 3.1), in the second all (section 3.3).
        flow: estimator of the input's optical flow: dis, raft_large or raft_small.
        flow_weights: file of RAFT weights; None takes torchvision's.
        front: what colours and mask of the field's front view are fitted to: "input", the clip itself, at its
            own resolution, in all its frames and through its own camera; or "generated", the prior's front
            view. Normals are the prior's in both.
        reconstruction: stages and losses of the Gaussian field.
        enlarged_attention: frames attend to others of their view, those that `token_flow.enlarged` selects.
        token_propagation: tokens of keyframes are carried along flow.
        flow_loss: the field's flow in the front view follows the optical flow.
        normal_loss: the field's normals follow the generated ones.
        regeneration: the views are generated again along the coarse field's flow before the refinement;
            without it the refinement goes on with the first views.
        refinement: the last stage; without it the coarse field is the result.
    """

    prior: str = SMALL_PRIOR
    square: SquareConfig = field(default_factory=SquareConfig)
    stride: int = 1
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    token_flow: TokenFlowConfig = field(default_factory=TokenFlowConfig)
    flow: str = "raft_large"
    flow_weights: str | None = None
    front: Literal["input", "generated"] = "input"
    reconstruction: ReconstructionConfig = field(default_factory=reconstruction.paper)
    enlarged_attention: bool = True
    token_propagation: bool = True
    flow_loss: bool = True
    normal_loss: bool = True
    regeneration: bool = True
    refinement: bool = True

    def __post_init__(self) -> None:
        if self.stride < 1:
            raise ConfigError(f"generate_every is {self.stride}; expected 1 or more")
        if self.enlarged_attention and self.token_flow.enlarged == "off":
            raise ConfigError(
                "token_flow.enlarged is 'off' though enlarged_attention is on; switch one of them"
            )
        if self.token_flow.propagation != "front":
            raise ConfigError(
                f"token_flow.propagation is '{self.token_flow.propagation}', but the pass determines it: "
                "the front view in the first, all views in the second; leave it out, or switch "
                "token_propagation off"
            )
        if self.front not in ("input", "generated"):
            raise ConfigError(f"front is '{self.front}'; expected input or generated")
        if self.square.per_frame:
            raise ConfigError("square.per_frame is on, but a field needs one crop box for the whole clip")

    def to_dict(self) -> dict[str, Any]:
        """Return all settings that change a result, and no others, as JSON values."""
        return asdict(self)

    def fitted(self) -> ReconstructionConfig:
        """Return the reconstruction settings with the losses of switched-off parts set to 0."""
        weights = self.reconstruction.weights
        if not self.flow_loss:
            weights = replace(weights, flow=0.0)
        if not self.normal_loss:
            weights = replace(weights, normal=0.0)
        return replace(self.reconstruction, weights=weights)

    def tokens(self, second_pass: bool) -> TokenFlowConfig:
        """Return the token flow settings of a pass, without the parts that are switched off."""
        propagation: Propagation = "none"
        if self.token_propagation:
            propagation = "all" if second_pass else "front"
        enlarged: Enlarged = self.token_flow.enlarged if self.enlarged_attention else "off"
        return replace(self.token_flow, propagation=propagation, enlarged=enlarged)


# ---- presets ----


def paper() -> MethodConfig:
    """Return the paper's settings (4.1, A.1) with Era3D's public weights, for a GPU."""
    return MethodConfig(
        prior="pengHTYX/MacLab-Era3D-512-6view",
        square=SquareConfig(size=512, crop_size=420),
        sampling=SamplingConfig(steps=40, eta=1.0, guidance=3.0),
        # Both passes over 32 frames are 113 PFLOP with keyframes and own, 420 with all frames: at half an A40's
        # peak 27 or 100 of the 120 minutes that the paper states for everything. With the small prior all
        # frames changed next to nothing (docs/method.md, "What all frames cost").
        token_flow=TokenFlowConfig(interval=8, tau=0.5, enlarged="keyframes+own"),
        flow="raft_large",
        front="input",  # 3.1: "the dynamic 3D Gaussian field is supervised by the video"
        # Generated views disagree, and colours that depend on the view would take that up.
        reconstruction=_one_colour(reconstruction.paper()),
    )


def mini() -> MethodConfig:
    """Return the paper's settings scaled to the small prior and two CPU cores.

    What is not the paper's was chosen on toys that no table evaluates (`benchmarks/tuning.py`; docs/method.md,
    "How mini was tuned").
    """
    return MethodConfig(
        prior=SMALL_PRIOR,
        square=SquareConfig(size=64, crop_size=56),  # the size of its objects, 7/8 of the picture
        stride=2,
        sampling=replace(small_sampling(4), chunk=4),  # more steps change its pictures by less than 0.1 dB
        # The first step alone: attention outputs of the later ones differ between poses by up to a half, and
        # a keyframe's tokens would impose its pose (docs/prior.md).
        # All frames, as the paper writes: with 512 tokens a frame 9.5 CPU seconds per step instead of 7.0.
        token_flow=TokenFlowConfig(interval=4, tau=1 / 4, enlarged="all"),
        flow="dis",
        front="input",
        reconstruction=replace(
            _one_colour(reconstruction.mini()),
            static=StageConfig(iterations=200),
            coarse=StageConfig(iterations=400),
            refine=StageConfig(iterations=200),
            view_weights=(
                3.0,
                1.0,
                1.0,
                1.0,
                1.0,
                1.0,
            ),  # the first is the input itself, the others are guesses
        ),
    )


def mini_independent() -> MethodConfig:
    """Return `mini` with noise of its own for every frame.

    The paper does not say which it takes: Era3D's script for folders draws each picture's noise by itself, its
    demo starts all from the same.
    """
    config = mini()
    return replace(config, sampling=replace(config.sampling, share_noise=False))


def _one_colour(config: ReconstructionConfig) -> ReconstructionConfig:
    """Replace view-dependent colours by one colour per Gaussian."""
    return replace(config, field=replace(config.field, sh_degree=0))


SETTING_NAMES: Mapping[str, str] = MappingProxyType({"generate_every": "stride"})
"""Settings by the names that command lines have for them; records keep the names of the fields."""

PRESETS: Mapping[str, Callable[[], MethodConfig]] = MappingProxyType(
    {"paper": paper, "mini": mini, "mini-independent": mini_independent}
)

# What each ablation leaves out. The paper's "w/o flow" is both of the two that use flow (its text uses the
# word in both senses), so each also runs alone.
SWITCHES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "enlarged-attention": {"enlarged_attention": False},
        "propagation": {"token_propagation": False},
        "flow-loss": {"flow_loss": False},
        "flow": {"token_propagation": False, "flow_loss": False},
        "normal": {"normal_loss": False},
        "regeneration": {"regeneration": False},
        "refinement": {"regeneration": False, "refinement": False},
    }
)


def preset(name: str) -> MethodConfig:
    """Return a preset by name.

    Raises:
        ConfigError: there is none of this name.
    """
    return choose("preset", name, PRESETS)()


def overridden(config: MethodConfig, assignments: Sequence[str]) -> MethodConfig:
    """Return `config` with assignments `dotted.name=value` applied, as command lines give them.

    Raises:
        ConfigError: as `base.settings.overridden`.
    """
    words = []
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        words.append(f"{SETTING_NAMES.get(name.strip(), name)}{equals}{value}")
    return settings.overridden(config, words)


def without(config: MethodConfig, *parts: str) -> MethodConfig:
    """Return `config` with parts of the method switched off, by their names in `SWITCHES`.

    Raises:
        ConfigError: no such part.
    """
    for part in parts:
        config = replace(config, **choose("part of the method", part, SWITCHES))
    return config
