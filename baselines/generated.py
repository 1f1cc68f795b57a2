"""Generated views as rows of a table: what the prior draws before any field is fitted to it.

The datasets `toy4d-views` and `toy4d-wild-views` have the truth of exactly these views and frames. The rows add
the method's parts one at a time, so that the paper's claims about generated videos (sections 3.1 and 3.3) are
tested where they are made: enlarged attention, tokens of the front view carried along estimated flow (the
method's first pass), and tokens of all views carried along exact flow, which bounds the second pass. Beside
each row that carries tokens stands one that copies them in place, without flow.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from mvtokenflow.base.errors import DataError, WeightsMissingError
from mvtokenflow.baselines.method import Progress, Rendering, Setup, Source
from mvtokenflow.baselines.mvtokenflow import FULL, Native, framed, loaded_prior
from mvtokenflow.datasets.scene import Scene
from mvtokenflow.datasets.toy4d.render import render, render_flow
from mvtokenflow.datasets.toy4d.scenes import ALL_SCENES, scene_toy
from mvtokenflow.datasets.toy4d.stream import SIX_AZIMUTHS
from mvtokenflow.flow.estimate import load_estimator
from mvtokenflow.flow.keyframes import KeyframeFlow, estimate_keyframe_flow, keyframe_flow, keyframes
from mvtokenflow.media.pictures import to_uint8
from mvtokenflow.method.config import MethodConfig, preset
from mvtokenflow.method.generated import as_video, sample_views
from mvtokenflow.method.prepare import FRONT, Input, prepare
from mvtokenflow.method.priors import prior_digest, prior_name
from mvtokenflow.small.prior import six_cameras
from mvtokenflow.tokenflow.config import TokenFlowConfig
from mvtokenflow.views.folder import read_multiview
from mvtokenflow.views.video import MultiviewVideo

Carried = Literal["none", "front", "all"]
Along = Literal["estimated", "exact", "in place"]


@dataclass(frozen=True, kw_only=True)
class GeneratedViews:
    """One pass of the prior over a scene's clip.

    Attributes:
        name: row label.
        attention: frames attend to others of their view, as the preset states.
        carried: views whose tokens are carried from keyframes.
        along: the flow that carries them: estimated from the input (the front alone), exact (of the toy), or
            none, so that tokens are copied in place.
        shared_noise: all frames start from the same noise.
        base: settings of the whole method; None takes the setup's preset.
        setup: of the command line.
    """

    name: str
    attention: bool = True
    carried: Carried = "none"
    along: Along = "estimated"
    shared_noise: bool = True
    base: MethodConfig | None = None
    setup: Setup = field(default_factory=Setup)

    @property
    def source(self) -> Source:
        return "oracle" if self.uses_truth else "native"

    @property
    def uses_truth(self) -> bool:
        return self.carried != "none" and self.along == "exact"

    @property
    def settings(self) -> MethodConfig:
        """Return the settings of this row, before its clips are framed.

        Raises:
            ConfigError: no such preset.
        """
        whole = preset(self.setup.preset) if self.base is None else self.base
        return replace(whole, sampling=replace(whole.sampling, share_noise=self.shared_noise))

    @property
    def tokens(self) -> TokenFlowConfig:
        tokens = replace(self.settings.token_flow, propagation=self.carried)
        return tokens if self.attention else replace(tokens, enlarged="off")

    def configured(self, setup: Setup) -> "GeneratedViews":
        preset(setup.preset)  # refuses a wrong name before the work
        return replace(self, setup=setup)

    def config(self) -> Mapping[str, Any]:
        settings = self.settings.to_dict()
        try:
            views = prior_name(self.settings)
        except WeightsMissingError:  # `render` reports it; the other rows of a table remain
            views = "missing"
        return {
            **{key: settings[key] for key in ("prior", "square", "stride", "sampling", "flow")},
            "token_flow": {**settings["token_flow"], "enlarged": self.tokens.enlarged, "carried": self.carried},
            "along": self.along if self.carried != "none" else "nothing",
            "views": views,
        }

    def weights(self) -> Sequence[str]:
        return ()

    def weights_sha(self, workdir: Path) -> Mapping[str, str]:
        return {"prior": prior_digest(self.settings)}

    @torch.no_grad()
    def render(self, scene: Scene, seed: int, workdir: Path, progress: Progress) -> Mapping[str, Rendering]:
        settings, device = framed(self.settings, scene.clip_view), torch.device(self.setup.device)
        given = prepare(scene.clip(), settings)
        check_views(scene, given, self.name)
        prior, tokens = loaded_prior(settings.prior, self.setup.device), self.tokens
        draws, front = torch.Generator().manual_seed(seed), given.front.to(device)
        flows = partial(self._flow, scene, given, settings)
        made, _ = sample_views(prior, front, settings.sampling, tokens, flows, draws, progress)
        return pictures(scene, as_video(made))

    def _flow(self, scene: Scene, given: Input, settings: MethodConfig) -> KeyframeFlow:
        keys = keyframes(len(given.front), settings.token_flow.interval)
        if self.along == "estimated":
            estimator = load_estimator(settings.flow, device=self.setup.device)
            return estimate_keyframe_flow(given.front, given.alpha[..., 0], keys, estimator, FRONT)
        views = range(1 if self.carried == "front" else len(SIX_AZIMUTHS))
        between = exact_flow if self.along == "exact" else still_flow
        return flow_of_truth(scene, given.times.tolist(), keys, views, between)


@dataclass(frozen=True, kw_only=True)
class Pass:
    """The views of one of the method's own passes, taken from a run that is finished or made.

    Attributes:
        folder: of the views in the run: "views" or "regenerated".
        whole: the row whose passes these are.
    """

    name: str
    folder: str
    whole: Native = FULL
    source: Source = "native"
    uses_truth: bool = False

    def configured(self, setup: Setup) -> "Pass":
        return replace(self, whole=self.whole.configured(setup))

    def config(self) -> Mapping[str, Any]:
        return {**self.whole.config(), "pass": self.folder}

    def weights(self) -> Sequence[str]:
        return self.whole.weights()

    def weights_sha(self, workdir: Path) -> Mapping[str, str]:
        return self.whole.weights_sha(workdir)

    def render(self, scene: Scene, seed: int, workdir: Path, progress: Progress) -> Mapping[str, Rendering]:
        check_views(scene, prepare(scene.clip(), framed(self.whole.settings, scene.clip_view)), self.name)
        self.whole.reconstruct(scene, seed, workdir, progress)
        return pictures(scene, read_multiview(workdir / self.folder))


def check_views(scene: Scene, given: Input, name: str) -> None:
    """Check that a scene's references are the prior's views, at the frames that are generated.

    Raises:
        DataError: they are not.
    """
    azimuths = tuple(view.azimuth_deg for view in scene.all_views())
    size = given.front.shape[1]
    alike = azimuths == SIX_AZIMUTHS and scene.input.cameras is not None and scene.input.cameras.width == size
    clock, times = scene.clock or (), given.times.tolist()
    if not alike or len(clock) != len(times) or not np.allclose(clock, times, atol=1e-6):
        raise DataError(
            f"{name} on {scene.name}: its references are not the {size} px views that the prior generates of "
            f"{len(times)} frames; take --dataset toy4d-views or toy4d-wild-views with --preset mini"
        )


def pictures(scene: Scene, video: MultiviewVideo) -> dict[str, Rendering]:
    """Return pictures on white and normals by the scene's views, as the fit of a field sees them."""
    colours = (video.rgb * video.alpha + 1 - video.alpha).clamp(0, 1).float().cpu().numpy()
    vectors = None if video.normals is None else video.normals.float().cpu().numpy()
    return {
        view.name: Rendering(rgb=to_uint8(colours[:, k]), normal=None if vectors is None else vectors[:, k])
        for k, view in enumerate(scene.all_views())
    }


# ---- flow of the truth ----

Between = Callable[[str, Sequence[int], int, float, float], tuple[Tensor, Tensor]]


def exact_flow(scene: str, views: Sequence[int], size: int, start: float, end: float) -> tuple[Tensor, Tensor]:
    """Compute exact flow (V, S, S, 2) in pixels and visibility (V, S, S) in some of the prior's views."""
    motion = render_flow(scene_toy(scene), six_cameras(size)[list(views)], [start], [end])
    return torch.from_numpy(motion.flow[0]), torch.from_numpy(motion.visible[0])


def still_flow(scene: str, views: Sequence[int], size: int, start: float, end: float) -> tuple[Tensor, Tensor]:
    """Return a flow without motion, all visible: tokens are copied in place."""
    shape = (len(views), size, size)
    return torch.zeros(*shape, 2), torch.ones(shape, dtype=torch.bool)


def flow_of_truth(
    scene: Scene, times: Sequence[float], keys: Sequence[int], views: Sequence[int], between: Between
) -> KeyframeFlow:
    """Collect flow to the keyframes in the prior's views, with the true silhouettes.

    Raises:
        DataError: the scene is no toy, so that nothing is known of what the input does not show.
    """
    if scene.name not in ALL_SCENES or scene.input.cameras is None:
        raise DataError(
            f"{scene.name}: not a toy, so its silhouettes from behind are not known; leave this row out"
        )
    size = scene.input.cameras.width
    seen = render(scene_toy(scene.name), six_cameras(size)[list(views)], times)
    return keyframe_flow(
        lambda n, key: between(scene.name, views, size, times[n], times[key]),
        torch.from_numpy(seen.alpha[..., 0]),
        keys,
        views,
    )


# ---- the rows ----


_shared = GeneratedViews
_independent = partial(GeneratedViews, shared_noise=False)

VIEWS = _shared(name="views", attention=False)
VIEWS_ATTENTION = _shared(name="views+attention")
VIEWS_FRONT = _shared(name="views+front", carried="front")
VIEWS_FRONT_IN_PLACE = _shared(name="views+front-in-place", carried="front", along="in place")
VIEWS_ALL_EXACT = _shared(name="views+all-exact", carried="all", along="exact")
VIEWS_ALL_IN_PLACE = _shared(name="views+all-in-place", carried="all", along="in place")
INDEPENDENT_VIEWS = _independent(name="independent-views", attention=False)
INDEPENDENT_VIEWS_ATTENTION = _independent(name="independent-views+attention")
INDEPENDENT_VIEWS_FRONT = _independent(name="independent-views+front", carried="front")
INDEPENDENT_VIEWS_FRONT_IN_PLACE = _independent(
    name="independent-views+front-in-place", carried="front", along="in place"
)
INDEPENDENT_VIEWS_ALL_EXACT = _independent(name="independent-views+all-exact", carried="all", along="exact")
INDEPENDENT_VIEWS_ALL_IN_PLACE = _independent(
    name="independent-views+all-in-place", carried="all", along="in place"
)
FIRST_PASS = Pass(name="first-pass", folder="views")
SECOND_PASS = Pass(name="second-pass", folder="regenerated")
