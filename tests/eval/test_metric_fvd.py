"""Fréchet distances: parity with the published implementations, closed forms, invariants, bad input."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.linalg

from mvtokenflow.base.errors import DataError
from mvtokenflow.eval.metrics.fvd import frechet_distance, frechet_terms, statistics
from mvtokenflow.eval.metrics.fvd_c4d import fvd_c4d

DATA = Path(__file__).parents[1] / "data"
EXPECTED: dict[str, Any] = json.loads((DATA / "metric_fvd_expected.json").read_text())


@pytest.mark.parametrize("key", sorted(EXPECTED["fvd"]))
def test_the_published_implementations_give_the_same(key: str) -> None:
    """Stored outputs of StyleGAN-V's, cd-fvd's and Consistent4D's functions on real I3D logits."""
    with np.load(DATA / "metric_fvd_features.npz") as archive:
        prefix = key.replace("/", "__")
        first, second = archive[f"{prefix}__pred"], archive[f"{prefix}__gt"]
    expected = EXPECTED["fvd"][key]
    terms = frechet_terms(statistics(first), statistics(second))
    # measured 1e-15
    assert terms.distance == pytest.approx(expected["exact_unbiased"], rel=1e-6)
    assert terms.mean == pytest.approx(expected["mean_term"], rel=1e-6)
    assert frechet_distance(first, second, unbiased=False) == pytest.approx(expected["exact_biased"], rel=1e-6)
    # SciPy's matrix root on a rank-deficient product is off by up to 9e-7 of the value
    assert terms.distance == pytest.approx(expected["styleganv_scipy"], rel=2e-6)
    # VideoGPT works in float32: measured up to 1.3e-3
    assert terms.distance == pytest.approx(expected["videogpt_torch_svd_f32"], rel=2e-3)


def _features(seed: int, count: int, dimensions: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, dimensions)) @ rng.normal(size=(dimensions, dimensions)) + rng.normal(
        size=dimensions
    )


def test_it_is_the_textbook_formula_at_full_rank() -> None:
    first, second = _features(0, 60, 6), _features(1, 50, 6)
    covariances = [np.cov(features, rowvar=False) for features in (first, second)]
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1]).real
    textbook = np.sum((first.mean(0) - second.mean(0)) ** 2) + np.trace(sum(covariances) - 2 * root)
    assert frechet_distance(first, second) == pytest.approx(textbook, rel=1e-10)


def test_one_dimension_has_a_closed_form() -> None:
    first, second = _features(0, 9, 1), _features(1, 7, 1)
    expected = (first.mean() - second.mean()) ** 2 + (first.std(ddof=1) - second.std(ddof=1)) ** 2
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("n1", "n2"), [(2, 2), (2, 9), (8, 8), (40, 8)])
def test_invariants(n1: int, n2: int) -> None:
    first, second = _features(2, n1, 20), _features(3, n2, 20)
    value = frechet_distance(first, second)
    assert value > 0
    assert frechet_distance(second, first) == pytest.approx(value, rel=1e-12)
    assert frechet_distance(first[::-1], second) == pytest.approx(value, rel=1e-12)  # order of clips
    rotation = np.linalg.qr(_features(4, 20, 20))[0]
    assert frechet_distance(first @ rotation + 3, second @ rotation + 3) == pytest.approx(value, rel=1e-10)
    assert frechet_distance(2 * first, 2 * second) == pytest.approx(4 * value, rel=1e-10)


def test_equal_sets_are_at_zero_and_shifts_add_their_square() -> None:
    features = _features(5, 8, 400)
    size = np.sum(statistics(features).factor ** 2)
    assert 0 <= frechet_distance(features, features) <= 1e-12 * size  # measured 2e-15
    assert frechet_distance(features, features + 0.5) == pytest.approx(400 * 0.25, rel=1e-9)


def test_float32_features_are_summed_in_float64() -> None:
    features = (_features(6, 8, 30) + 1000).astype(np.float32)
    other = (_features(7, 8, 30) + 1000).astype(np.float32)
    assert frechet_distance(features, other) == frechet_distance(
        features.astype(np.float64), other.astype(np.float64)
    )


def test_c4d_is_the_scalar_covariance_of_one_clip() -> None:
    """NumPy < 2.2 made `cov` of one row a variance over classes; the Fréchet formula on that, written out."""
    rng = np.random.default_rng(0)
    p, r = rng.normal(0, 2, 400), rng.normal(0, 3, 400)
    s1, s2 = np.cov(p), np.cov(r)
    script = (p - r) @ (p - r) + s1 + s2 - 2 * np.sqrt(s1 * s2)
    assert fvd_c4d(p, r) == pytest.approx(script, rel=1e-12)
    assert fvd_c4d(r, p) == fvd_c4d(p, r)
    assert fvd_c4d(p, p) == 0


@pytest.mark.parametrize(
    ("features", "match"),
    [
        (np.zeros((1, 4)), "at least 2 clips"),
        (np.zeros((0, 4)), "at least 2 clips"),
        (np.zeros(4), "not of shape"),
        (np.full((3, 4), np.nan), "not finite"),
        (np.full((3, 4), np.inf), "not finite"),
    ],
)
def test_bad_features_are_refused(features: np.ndarray[Any, Any], match: str) -> None:
    for pair in ((features, np.ones((3, 4))), (np.ones((3, 4)), features)):
        with pytest.raises(DataError, match=match):
            frechet_distance(*pair)


def test_other_bad_input_is_refused() -> None:
    with pytest.raises(DataError, match="4 and of 5 dimensions"):
        frechet_distance(np.ones((3, 4)), np.ones((3, 5)))
    for pair in ((np.ones(4), np.ones(5)), (np.ones((1, 4)), np.ones((1, 4))), (np.ones(1), np.ones(1))):
        with pytest.raises(DataError, match="one length"):
            fvd_c4d(*pair)
    with pytest.raises(DataError, match="not finite"):
        fvd_c4d(np.array([1.0, np.nan]), np.ones(2))
