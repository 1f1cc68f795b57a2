"""From a metric's specification to its value: the only place that knows both."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mvtokenflow.base.damaged import Form, read_arrays
from mvtokenflow.base.errors import DataError
from mvtokenflow.eval import protocols as spec_types
from mvtokenflow.eval.metrics import clip as clip_metric
from mvtokenflow.eval.metrics import fvd, geometry, i3d, temporal
from mvtokenflow.eval.metrics.clip import cosine
from mvtokenflow.eval.metrics.lpips import Lpips
from mvtokenflow.eval.metrics.psnr import PsnrRange, psnr
from mvtokenflow.eval.metrics.silhouette import silhouettes
from mvtokenflow.eval.metrics.ssim import SsimRange, ssim
from mvtokenflow.eval.protocols import FvdSet, MetricSpec
from mvtokenflow.eval.score.pictures import ClipPair, Picture, Pixels
from mvtokenflow.weights.ledger import load

Floats = NDArray[np.float64]


class Evaluators:
    """Measures single specifications; loads a network when it is first needed.

    Args:
        weights: local files or folders by name in the ledger.
        device: torch device of the networks.
    """

    def __init__(self, weights: Mapping[str, Path], device: str = "cpu") -> None:
        self._weights = weights
        self._device = device
        self._lpips: dict[tuple[str, str], Lpips] = {}
        self._encoders: dict[str, clip_metric.ImageEncoder | clip_metric.ToyEncoder] = {}

    # Frames

    def frame(self, spec: MetricSpec, prediction: Picture, reference: Picture) -> float:
        """The value of one rendered picture against its reference."""
        match spec:
            case spec_types.Psnr():
                span: PsnrRange = "gt-minmax" if spec.range == "gt-minmax" else 255.0
                value = psnr(prediction.pixels, reference.pixels, span)
                return value if spec.cap is None else min(value, spec.cap)
            case spec_types.Ssim():
                ssim_range: SsimRange = "max-minmax" if spec.range == "max-minmax" else 255.0
                return ssim(prediction.pixels, reference.pixels, ssim_range, spec.border)
            case spec_types.Lpips():
                network = self._lpips_network(spec)
                ours, theirs = (
                    _cached(picture, spec, lambda p: network.features(p.pixels))
                    for picture in (prediction, reference)
                )
                return network.distance(ours, theirs)
            case spec_types.Clip():
                ours, theirs = (
                    _cached(picture, spec.weights, lambda p: self._clip(spec).embed([p.pixels]))
                    for picture in (prediction, reference)
                )
                return float(cosine(ours, theirs)[0])
        raise TypeError(f"{spec.key} is not measured on frames")

    def _lpips_network(self, spec: spec_types.Lpips) -> Lpips:
        key = (spec.net, spec.scale)
        if key not in self._lpips:
            name = f"lpips-{spec.net}"
            self._lpips[key] = Lpips(
                spec.net,
                load(name, self._weights.get(name)),
                input_range="[-1,1]" if spec.scale == "-1..1" else "[0,1]",
                device=self._device,
            )
        return self._lpips[key]

    def _clip(self, spec: MetricSpec) -> clip_metric.ImageEncoder | clip_metric.ToyEncoder:
        name = str(spec.weights)
        if name not in self._encoders:
            load_encoder = clip_metric.load_toy if name == clip_metric.TOY_WEIGHTS_NAME else clip_metric.load
            self._encoders[name] = load_encoder(self._weights[name], self._device)
        return self._encoders[name]

    # Clips

    def can_measure(self, spec: MetricSpec, clip: ClipPair) -> bool:
        """Whether scene and method offer what the metric looks at."""
        match spec:
            case spec_types.WarpError():
                return len(clip.pair.names) > spec.gap and (spec.flow == "dis" or clip.truth is not None)
            case spec_types.FlowError():
                return clip.truth is not None and clip.offered("flow") is not None
            case spec_types.NormalError():
                return clip.truth is not None and clip.offered("normal") is not None
            case spec_types.MotionMagnitude() | spec_types.Clip():
                return len(clip.pair.names) > 1
            case spec_types.FvdSet():
                return len(clip.pair.names) >= spec.frames
        return True

    def clip(self, spec: MetricSpec, clip: ClipPair) -> Sequence[float | None]:
        """One value per `spec.moments`; None where nothing is visible to be measured on."""
        match spec:
            case spec_types.FvdC4d():
                return [self._fvd_c4d(spec, clip)]
            case spec_types.Clip(pair="time"):
                return _floats(temporal.clip_t(self._clip(spec).embed(clip.sized(clip.rendered)).numpy()))
            case spec_types.WarpError():
                return self._warp(spec, clip)
            case spec_types.MotionMagnitude():
                pictures = clip.rendered if spec.of == "prediction" else clip.reference
                return _floats(_motion(clip.sized(pictures[: len(clip.pair.names)])))
            case spec_types.FlowError():
                gaps = len(clip.pair.names) - 1
                flow, visible = _first(clip.truth, gaps, "flow", "visible")
                error = geometry.end_point_error(_first(clip.offered("flow"), gaps, "flow")[0], flow)
                visible = visible.astype(bool)
                return _where(np.asarray(visible.any(axis=(1, 2))), geometry.masked_mean(error, visible))
            case spec_types.NormalError():
                count = len(clip.pair.names)
                normals = _first(clip.offered("normal"), count, "normal")[0]
                angles = geometry.normal_error(normals, _first(clip.truth, count, "normal")[0])
                return _where(angles.pixels, angles.mean_deg)
        raise TypeError(f"{spec.key} is not measured on clips")

    def _logits(self, pictures: Sequence[Pixels], spec: spec_types.FvdC4d | FvdSet) -> Floats:
        prepare = i3d.prepare_c4d if spec.resize == "pil-bicubic" else i3d.prepare_bilinear
        logits = i3d.logits(self._i3d, prepare(pictures)[None], spec.pool)
        return np.asarray(logits[0].double().cpu().numpy())

    @cached_property
    def _i3d(self) -> i3d.InceptionI3d:
        return i3d.build(load("i3d-kinetics400", self._weights.get("i3d-kinetics400")), self._device)

    def _fvd_c4d(self, spec: spec_types.FvdC4d, clip: ClipPair) -> float:
        theirs: Floats = _shared(clip, spec, lambda: self._logits(clip.reference, spec))
        return fvd.fvd_c4d(self._logits(clip.rendered, spec), theirs)

    def clip_features(self, spec: FvdSet, clip: ClipPair, count: int) -> list[tuple[list[float], list[float]]]:
        """I3D logits of `count` consecutive clips of `spec.frames` frames: (rendering, reference) each."""
        spans = [slice(index * spec.frames, (index + 1) * spec.frames) for index in range(count)]
        theirs = _shared(clip, spec, lambda: [self._logits(clip.reference[span], spec) for span in spans])
        return [
            (_floats(self._logits(clip.rendered[span], spec)), _floats(other))
            for span, other in zip(spans, theirs, strict=True)
        ]

    def _warp(self, spec: spec_types.WarpError, clip: ClipPair) -> Sequence[float | None]:
        count = len(clip.pair.names)
        reference = _unit(clip.sized(clip.reference[:count]))
        flow, visible = _shared(clip, (spec.flow, spec.gap), lambda: _reference_flow(spec, clip, reference))
        frames = reference if spec.of == "reference" else _unit(clip.sized(clip.rendered))
        error = temporal.warp_error(frames, flow, visible)
        return _where(error.pixels, 255 * error.mae)

    # Between views

    def between(self, spec: MetricSpec, clips: Sequence[ClipPair]) -> Sequence[float]:
        """One value per frame: mean cosine of the first view's picture with every other view's."""
        front, *others = (self._clip(spec).embed(clip.sized(clip.rendered)) for clip in clips)
        return _floats(np.mean([cosine(front, other) for other in others], axis=0))


def _cached(picture: Picture, key: Any, compute: Any) -> Any:
    if key not in picture.cache:
        picture.cache[key] = compute(picture)
    return picture.cache[key]


def _shared(clip: ClipPair, key: Any, compute: Any) -> Any:
    if key not in clip.shared:
        clip.shared[key] = compute()
    return clip.shared[key]


def _floats(values: Any) -> list[float]:
    return [float(value) for value in np.asarray(values)]


def _where(present: NDArray[Any], values: Floats) -> list[float | None]:
    return [float(value) if there else None for there, value in zip(present, values, strict=True)]


def _unit(pictures: Sequence[Pixels]) -> NDArray[np.float32]:
    return np.divide(np.stack(pictures), 255, dtype=np.float32)


_FORMS = {
    "flow": Form("f", (None, None, None, 2)),
    "visible": Form("biu", (None, None, None)),
    "normal": Form("f", (None, None, None, 3)),
}


def _first(path: Path | None, count: int, *names: str) -> list[NDArray[Any]]:
    """The first `count` entries of arrays of a file: a result that was forced may have fewer frames."""
    assert path is not None  # can_measure has looked
    forms = {name: _FORMS[name] for name in names}
    found = read_arrays(path, forms, "write it again", f"holds no {' and '.join(names)}", first=count)
    arrays = [found[name] for name in names]
    if short := [name for name, array in zip(names, arrays, strict=True) if len(array) < count]:
        raise DataError(f"{path}: {short[0]} has fewer than {count} entries; write it again")
    return [array.astype(np.float32) if array.dtype.kind == "f" else array for array in arrays]


def _reference_flow(
    spec: spec_types.WarpError, clip: ClipPair, reference: NDArray[np.float32]
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    if spec.flow == "exact":
        flow, visible = _first(clip.truth, len(reference) - 1, "flow", "visible")
        visible = visible.astype(bool)
    else:
        flow, visible = temporal.estimate_clip_flow(
            reference, silhouettes(np.stack(clip.sized(clip.reference[: len(reference)])))
        )
    return (flow, visible) if spec.gap == 1 else temporal.chain_flow(flow, visible, spec.gap)


def _motion(pictures: Sequence[Pixels]) -> Floats:
    flow, visible = temporal.estimate_clip_flow(_unit(pictures), silhouettes(np.stack(pictures)))
    return np.asarray(np.nan_to_num(temporal.motion_magnitude(flow, visible)))  # an empty picture does not move
