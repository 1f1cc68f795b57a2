"""The inputs on which the result of a stage depends, as JSON values for the keys of the stage store."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from mvtokenflow.base.files import canonical_json, digest
from mvtokenflow.flow.estimate import weights_digest
from mvtokenflow.method.config import MethodConfig
from mvtokenflow.method.prepare import Input
from mvtokenflow.splat.field import DynamicField
from mvtokenflow.tokenflow.config import TokenFlowConfig
from mvtokenflow.views.video import MultiviewVideo


def inputs_of_given_views(config: MethodConfig, given: Input, origin: str) -> dict[str, Any]:
    """Return the inputs of a stage whose views are given and not generated.

    Args:
        origin: identifies the views: the sha256 of a prior's weights, or the name of given views.
    """
    fit, weights = config.reconstruction, config.flow_weights
    return {
        "origin": origin,
        "front": digest((name, getattr(given, name).numpy().tobytes()) for name in ("front", "alpha", "times")),
        "flow": [config.flow, weights_digest(config.flow, None if weights is None else Path(weights))],
        "flow pairs": [fit.flow_gap, fit.flow_backward],
    }


def inputs_of_views(
    config: MethodConfig,
    seed: int,
    given: Input,
    origin: str,
    tokens: TokenFlowConfig,
    coarse: DynamicField | None,
) -> dict[str, Any]:
    """Return the inputs of a pass that generates views.

    Args:
        origin: as in `inputs_of_given_views`.
        tokens: token flow of the pass.
        coarse: field whose flow the pass follows; None in the first pass.
    """
    along = coarse if tokens.propagation != "none" else None
    return inputs_of_given_views(config, given, origin) | {
        "sampling": asdict(config.sampling),
        "tokens": asdict(tokens),
        "field": None if along is None else state_digest(along),
        "seed": seed,
    }


def inputs_of_fit(
    config: MethodConfig, seed: int, video: MultiviewVideo, start: DynamicField | None
) -> dict[str, Any]:
    """Return the inputs of a reconstruction from `video`, which begins at the field `start` if there is one."""
    return {
        "config": config.fitted().to_dict(),
        "video": video.digest(),
        "start": None if start is None else state_digest(start),
        "seed": seed,
    }


def state_digest(field: DynamicField) -> str:
    """Return the sha256, in hex, of a field's parameters and settings."""
    state = {name: value.cpu().contiguous().numpy().tobytes() for name, value in field.state_dict().items()}
    described = canonical_json({"config": field.config.to_dict(), "pixel": field.pixel})
    return digest([("config", described.encode()), *state.items()])
