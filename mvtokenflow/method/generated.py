"""Generated views: sampled with or without token flow, and kept in a folder as a multiview video."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from mvtokenflow.base.errors import DataError
from mvtokenflow.base.partial import partial_folder
from mvtokenflow.base.progress import Progress
from mvtokenflow.flow.keyframes import KeyframeFlow
from mvtokenflow.multiview.config import SamplingConfig
from mvtokenflow.multiview.kept_steps import KeptSteps
from mvtokenflow.multiview.prior import MultiviewPrior
from mvtokenflow.multiview.sampler import MultiviewFrames, generate
from mvtokenflow.tokenflow.config import TokenFlowConfig
from mvtokenflow.tokenflow.controller import TokenFlow, TokenFlowReport
from mvtokenflow.views.folder import CAMERAS_FILE, read_multiview, write_multiview
from mvtokenflow.views.video import MultiviewVideo

_ALPHA_FLOOR = 0.05  # of fainter pixels the colour is not to be known


def sample_views(
    prior: MultiviewPrior,
    front: Tensor,
    sampling: SamplingConfig,
    tokens: TokenFlowConfig,
    flows: Callable[[], KeyframeFlow | None],
    draws: torch.Generator,
    progress: Progress | None = None,
    kept: KeptSteps | None = None,
) -> tuple[MultiviewFrames, TokenFlowReport | None]:
    """Sample the views of all frames, with token flow if the settings ask for any of it.

    Args:
        front: (T, S, S, 3) in [0, 1], on the prior's device.
        flows: computes the flow to the keyframes; called only where tokens are propagated.
        draws: of the noise.
        kept: state of an interrupted run, see `sampler.generate`; the report is then that of the rest.

    Returns:
        the frames, and the report of token flow; None where each frame is sampled by itself.
    """
    if tokens.enlarged == "off" and tokens.propagation == "none":
        return generate(prior, front, sampling, draws, None, progress, kept), None
    carried = flows() if tokens.propagation != "none" else None
    with TokenFlow(prior.unet, tokens, carried) as controller:
        made = generate(prior, front, sampling, draws, controller, progress, kept)
        return made, controller.report()


def as_video(made: MultiviewFrames) -> MultiviewVideo:
    """Return generated frames with straight colours."""
    rgb = straight_colours(made.rgb, made.alpha)
    return MultiviewVideo(rgb=rgb, alpha=made.alpha, normals=made.normal, cameras=made.cameras)


def straight_colours(rgb: Tensor, alpha: Tensor) -> Tensor:
    """Return straight colours (..., 3) of pictures on white with alpha (..., 1); white where alpha is 0.

    Edges would otherwise be whitened twice.
    """
    straight = ((rgb - 1) / alpha.clamp_min(_ALPHA_FLOOR) + 1).clamp(0, 1)
    return torch.where(alpha > 0, straight, 1.0)


def refuse_empty(video: MultiviewVideo, folder: Path) -> None:
    """Check that every view of every frame shows an object: its folder could not be read again otherwise.

    Raises:
        DataError: one does not.
    """
    empty = ((video.alpha * 255).round() == 0).flatten(2).all(2).nonzero().tolist()
    if empty:
        frame, view = empty[0]
        raise DataError(
            f"{folder}: the prior drew no object in view {view} of frame {frame}; take another seed, or leave "
            "the frame out"
        )


def kept_views(folder: Path, make: Callable[[], MultiviewVideo]) -> MultiviewVideo:
    """Return the views in a folder, made if it is not there; what is used is always what the folder holds.

    Raises:
        DataError: a view without an object, or a damaged folder.
    """
    if not (folder / CAMERAS_FILE).is_file():
        video = make()
        refuse_empty(video, folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with partial_folder(folder) as partial:
            write_multiview(partial, video)
            partial.replace(folder)
    return read_multiview(folder)
