"""Tries a run out: everything is loaded and one frame generated, and nothing is written."""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from mvtokenflow.base.progress import Progress
from mvtokenflow.flow.estimate import load_estimator
from mvtokenflow.method.config import MethodConfig
from mvtokenflow.method.generated import as_video, refuse_empty
from mvtokenflow.method.prepare import prepare
from mvtokenflow.method.priors import load_prior
from mvtokenflow.method.source import SourceVideo
from mvtokenflow.multiview.sampler import generate


@dataclass(frozen=True, kw_only=True)
class DryRun:
    """What a dry run found.

    Attributes:
        frames: that the whole run generates, in each pass. passes: 1 or 2.
        cut_out_by: as of `SourceVideo`. notes: assumptions about the input.
        load_seconds: of the clip, the prior and the flow network.
        frame_seconds: of one frame of all views, alone: in a run, frames attend to others as well.
    """

    frames: int
    passes: int
    cut_out_by: str
    notes: tuple[str, ...]
    load_seconds: float
    frame_seconds: float

    @property
    def sampling_seconds(self) -> float:
        """Least seconds that the whole run samples for."""
        return self.frame_seconds * self.frames * self.passes


def dry_run(
    given: SourceVideo, config: MethodConfig, *, seed: int, device: str, progress: Progress | None = None
) -> DryRun:
    """Cut the object out, load prior and flow network, and generate the first frame.

    Raises:
        ConfigError, DataError, WeightsMissingError: as `make_asset`.
    """
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        masks = Path(folder) / "masks"
        clip = given.cut_out(masks, given.segmenter(masks), progress)
        prepared = prepare(clip, config)
        prior = load_prior(config, device)
        load_estimator(config.flow, None if config.flow_weights is None else Path(config.flow_weights), device)
        loaded = time.perf_counter()
        draws = torch.Generator().manual_seed(seed)
        made = generate(prior, prepared.front[:1].to(device), config.sampling, draws, None, progress)
        refuse_empty(as_video(made), Path("the first frame"))
    again = config.refinement and config.regeneration and config.token_propagation
    return DryRun(
        frames=len(prepared.front),
        passes=2 if again else 1,
        cut_out_by=given.cut_out_by,
        notes=clip.notes,
        load_seconds=loaded - began,
        frame_seconds=time.perf_counter() - loaded,
    )
