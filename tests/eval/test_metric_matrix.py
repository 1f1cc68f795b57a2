"""Distances over views and times: the orders as arithmetic, and which distance each known fault moves."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mvtokenflow.base.errors import DataError
from mvtokenflow.baselines import known_matrix
from mvtokenflow.eval.metrics.compute.stored import stored_features
from mvtokenflow.eval.metrics.matrix import MatrixC4d, MatrixDistance, MatrixSet, clips_of_matrix
from mvtokenflow.eval.metrics.spec import Networks
from mvtokenflow.eval.protocols import protocol_named

SPECS: dict[str, Any] = {
    spec.key: spec for spec in protocol_named("matrix-v1").metrics if isinstance(spec, MatrixDistance)
}


class Logits:
    """Stands for I3D: logits that depend on every picture of a clip and on their order."""

    calls = 0
    weights: str | None = None

    def of(self, pictures: Sequence[np.ndarray], pool: int, resize: str) -> np.ndarray:
        Logits.calls += 1
        weights = np.random.default_rng(0).normal(size=(len(pictures), 12))
        level = np.array([picture.mean() for picture in pictures])
        return np.tanh(level @ weights / 50)


@dataclass
class Clip:
    """One view of a matrix, as a metric sees it."""

    rendered: list[np.ndarray]
    reference: list[np.ndarray]
    known: dict[Hashable, Any] = field(default_factory=dict)
    own: dict[Hashable, Any] = field(default_factory=dict)

    @property
    def names(self) -> list[int]:
        return list(range(len(self.rendered)))

    def shared(self, key: Hashable, compute: Callable[[], Any]) -> Any:
        if key not in self.known:
            self.known[key] = compute()
        return self.known[key]

    def kept(self, key: Hashable, compute: Callable[[], Any]) -> Any:
        if key not in self.own:
            self.own[key] = compute()
        return self.own[key]


def truth(size: int = 11) -> np.ndarray:
    """A matrix whose pictures follow from view and time, none equal to another."""
    v, t = np.meshgrid(np.arange(size), np.arange(size), indexing="ij")
    around, along = 2 * np.pi * v / size, 2 * np.pi * t / size
    level = 120 + 40 * np.sin(around + 0.3) + 50 * np.cos(along) + 3 * v - 2 * t
    return np.broadcast_to(level[..., None, None, None], (size, size, 4, 4, 3)).astype(np.uint8)


def measured(made: np.ndarray, real: np.ndarray) -> dict[str, float]:
    networks = Networks({})
    networks.get("i3d", Logits)
    clips: Any = [Clip(list(a), list(b)) for a, b in zip(made, real, strict=True)]
    found = {}
    for key, spec in SPECS.items():
        if isinstance(spec, MatrixC4d):
            (found[key],) = spec.measure_views(clips, networks)
        else:
            pairs = spec.measure_matrix(clips, networks)
            found[key] = spec.total(np.array([a for a, _ in pairs]), np.array([b for _, b in pairs]))
    return found


# ---- orders ----


def test_orders_of_a_small_matrix() -> None:
    assert clips_of_matrix("frames", 2, 3) == [[(0, 0), (0, 1), (0, 2)], [(1, 0), (1, 1), (1, 2)]]
    assert clips_of_matrix("views", 2, 3) == [[(0, 0), (1, 0)], [(0, 1), (1, 1)], [(0, 2), (1, 2)]]
    assert clips_of_matrix("diag", 3, 3)[2] == [(2, 0), (0, 1), (1, 2)]
    assert clips_of_matrix("raster", 3, 2) == [[(0, 0), (1, 0)], [(2, 0), (2, 1)], [(1, 1), (0, 1)]]


@pytest.mark.parametrize("order", ["frames", "views", "diag", "raster"])
def test_every_order_of_a_square_matrix_shows_every_picture_once(order: Any) -> None:
    clips = clips_of_matrix(order, 21, 21)
    assert len(clips) == 21
    assert sorted(place for clip in clips for place in clip) == [(v, t) for v in range(21) for t in range(21)]


def test_an_empty_matrix_is_refused() -> None:
    with pytest.raises(ValueError, match="0 x 3"):
        clips_of_matrix("frames", 0, 3)


# ---- known answers ----


def test_the_truth_is_at_no_distance() -> None:
    assert measured(truth(), truth()) == dict.fromkeys(SPECS, pytest.approx(0, abs=1e-9))


@pytest.mark.parametrize(
    ("distort", "unmoved"),
    [
        (known_matrix.shuffled_times, {"fvd_v_set"}),  # moments are right by themselves
        (known_matrix.shuffled_views, {"fvd_f_set"}),  # clips are
        (known_matrix.swapped_views, set()),
        (known_matrix.lagging_view, set()),
    ],
)
def test_each_fault_moves_the_distances_that_can_see_it(distort: Any, unmoved: set[str]) -> None:
    found = measured(distort(truth(), np.random.default_rng(1)), truth())
    assert {key for key, value in found.items() if value < 1e-9} == unmoved


def test_a_fault_that_no_single_video_shows() -> None:
    """Views exchanged at all times leave every video whole: pairing sees it, and the videos across views."""
    made = known_matrix.shuffled_views(truth(), np.random.default_rng(1))
    found = measured(made, truth())
    assert found["fvd_f_set"] == pytest.approx(0, abs=1e-9)
    assert found["fvd_f"] > 1e-3
    assert found["fvd_v_set"] > 1e-3


def test_both_readings_share_their_features() -> None:
    Logits.calls = 0
    measured(truth(), truth())
    assert Logits.calls == 2 * 4 * 11  # rendering and reference, four orders, eleven clips


def test_a_matrix_that_is_too_small_is_refused() -> None:
    networks = Networks({})
    networks.get("i3d", Logits)
    small = truth(5)
    clips: Any = [Clip(list(a), list(a)) for a in small]
    assert not SPECS["fvd_v"].can_measure(clips[0])
    with pytest.raises(DataError, match="clips of 5 pictures"):
        SPECS["fvd_v"].measure_views(clips, networks)


def test_signatures_state_what_the_paper_leaves_open() -> None:
    for spec in SPECS.values():
        assert {"wrap:True", "raster:views", "pool:1", f"order:{spec.order}"} <= set(
            spec.signature().split("|")
        )
    assert all(isinstance(spec, MatrixSet) == key.endswith("_set") for key, spec in SPECS.items())


# ---- the reference's features on disk ----


def test_features_of_a_reference_are_kept_between_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MVTF_CACHE", str(tmp_path))
    known = Logits()
    known.weights = "of the test"
    made = truth() + 3

    def distances(real: np.ndarray) -> list[float]:
        networks = Networks({})
        networks.get("i3d", lambda: known)
        clips: Any = [Clip(list(a), list(b)) for a, b in zip(made, real, strict=True)]
        return list(SPECS["fvd_f"].measure_views(clips, networks))

    Logits.calls = 0
    first = distances(truth())
    assert Logits.calls == 22
    assert distances(truth()) == first
    assert Logits.calls == 33  # of the rendering alone
    (kept,) = (tmp_path / "features").iterdir()
    kept.write_bytes(kept.read_bytes()[:100])  # cut off
    assert distances(truth()) == first
    assert Logits.calls == 55
    assert distances(truth() + 1) != first
    known.weights = "others"
    distances(truth())
    assert len(list((tmp_path / "features").iterdir())) == 3


def test_a_cache_that_cannot_be_written_costs_time_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("MVTF_CACHE", str(tmp_path / "file"))
    picture = np.zeros((2, 2, 3), np.uint8)
    (made,) = stored_features({"name": "x"}, [picture], lambda: [np.arange(3.0)])
    np.testing.assert_array_equal(made, [0, 1, 2])
