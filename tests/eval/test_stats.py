"""Intervals and paired tests against enumeration, closed forms and simulation under the null."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mvtokenflow.base.errors import DataError
from mvtokenflow.eval.tables import stats

INF = math.inf


def test_interval_agrees_with_the_exact_bootstrap_of_three_objects() -> None:
    """3 objects have 27 resamples: the extreme means, at 1/27 = 3.7 % each, are the bounds at 2.5 %."""
    interval = stats.bootstrap_mean([1.0, 2.0, 6.0], rng=0)
    assert (interval.mean, interval.low, interval.high) == (3.0, 1.0, 6.0)
    narrower = stats.bootstrap_mean([1.0, 2.0, 6.0], rng=0, level=0.8)
    means = np.sort([np.mean(draw) for draw in itertools.product([1.0, 2.0, 6.0], repeat=3)])
    # 10 % of 27 is 2.7 resamples: the third smallest and third largest mean.
    assert (narrower.low, narrower.high) == pytest.approx((means[2], means[-3]))


def test_interval_of_many_objects_approaches_the_normal_one() -> None:
    sample = np.random.default_rng(0).normal(3, 2, 400)
    interval = stats.bootstrap_mean(sample, rng=1)
    half = 1.96 * sample.std() / np.sqrt(400)
    assert interval.low is not None
    assert interval.high is not None
    # 10 000 resamples place each bound within about 2 % of the half width.
    assert interval.mean - interval.low == pytest.approx(half, rel=0.05)
    assert interval.high - interval.mean == pytest.approx(half, rel=0.05)


def test_interval_is_a_function_of_values_and_seed() -> None:
    values = [0.3, 0.1, 0.7, 0.9]
    assert stats.bootstrap_mean(values, rng=5) == stats.bootstrap_mean(values, rng=5)
    assert stats.bootstrap_mean(values, rng=5) == stats.bootstrap_mean(values, rng=np.random.default_rng(5))


def test_one_object_has_no_interval() -> None:
    interval = stats.bootstrap_mean([0.4], rng=0)
    assert (interval.mean, interval.low, interval.high, interval.n) == (0.4, None, None, 1)
    assert not interval.excludes(0)


def test_constant_values_have_an_interval_of_zero_width() -> None:
    interval = stats.bootstrap_mean([2.0] * 7, rng=0)
    assert (interval.low, interval.high) == (2, 2)


def test_infinite_psnr_is_kept() -> None:
    perfect = stats.bootstrap_mean([INF, INF, INF], rng=0)
    assert (perfect.mean, perfect.low, perfect.high) == (INF, INF, INF)
    one = stats.bootstrap_mean([30.0, 31.0, 32.0, INF], rng=0)
    assert (one.mean, one.high) == (INF, INF)
    assert one.low is not None
    assert 30 <= one.low <= 32  # (3/4)^4 of the resamples miss the infinite object
    with pytest.raises(DataError, match="both"):
        stats.bootstrap_mean([INF, -INF, 1.0], rng=0)


@pytest.mark.parametrize("values", [[], [1.0, math.nan]])
def test_nothing_and_nan_are_refused(values: list[float]) -> None:
    with pytest.raises(DataError):
        stats.bootstrap_mean(values, rng=0)
    with pytest.raises(DataError):
        stats.sign_flip_test(values, rng=0)


def brute_force_p(differences: list[float]) -> float:
    observed = abs(math.fsum(differences))
    hits = [
        abs(math.fsum(s * d for s, d in zip(signs, differences, strict=True))) >= observed - 1e-9
        for signs in itertools.product((-1, 1), repeat=len(differences))
    ]
    return sum(hits) / len(hits)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-50, 50).map(lambda k: k / 10), min_size=1, max_size=8))
def test_exact_p_is_the_enumerated_one(differences: list[float]) -> None:
    test = stats.sign_flip_test(differences, rng=0)
    assert test.exact
    assert test.p == pytest.approx(brute_force_p(differences), abs=1e-12)
    assert test.p >= test.minimum_p


def test_seven_wins_out_of_seven_reach_the_minimum() -> None:
    test = stats.sign_flip_test([0.1, 0.2, 0.3, 0.01, 0.4, 0.15, 0.02], rng=0)
    assert test.p == test.minimum_p == stats.minimum_p(7) == 0.015625
    assert test.resolution == 1 / 128
    assert [stats.minimum_p(n) for n in (0, 1, 2, 6)] == [1, 1, 0.5, 0.03125]


def test_identical_rows_give_p_one() -> None:
    values = {f"object{i}": 0.1 * i for i in range(7)}
    result = stats.compare(values, dict(values), "lower", rng=0)
    assert result.test.p == 1
    assert (result.wins, result.ties, result.losses) == (0, 7, 0)
    assert result.tied
    assert stats.sign_flip_test(np.zeros(30), rng=0).p == 1  # the drawn version as well


def test_equal_patterns_count_as_equal_despite_rounding() -> None:
    """0.1 + 0.2 - 0.3 is not 0 in floating point: all of these patterns tie in pairs."""
    assert stats.sign_flip_test([0.1, 0.2, -0.3], rng=0).p == 1
    assert stats.sign_flip_test([0.3, 0.1, 0.2], rng=0).p == 0.25


def test_drawn_test_agrees_with_the_exact_one() -> None:
    differences = np.random.default_rng(4).normal(0.4, 1, 12)
    exact = stats.sign_flip_test(differences, rng=0)
    drawn = stats.sign_flip_test(differences, rng=0, exact_up_to=5)
    assert exact.exact
    assert not drawn.exact
    assert drawn.resolution == drawn.minimum_p == pytest.approx(1e-5)
    # 99 999 draws: three standard errors of p = 0.2 are 0.004.
    assert drawn.p == pytest.approx(exact.p, abs=0.004)
    assert stats.sign_flip_test(np.full(40, 0.1), rng=0).p == pytest.approx(1e-5)


@pytest.mark.parametrize("n", [6, 7, 9])
def test_false_positives_of_the_exact_test_by_enumeration(n: int) -> None:
    """Under the null every sign pattern is equally likely: p <= 0.05 in at most 5 % of them, exactly."""
    sizes = np.abs(np.random.default_rng(n).standard_t(3, n)) + 0.01
    p = [stats.sign_flip_test(sizes * signs, rng=0).p for signs in itertools.product((-1.0, 1.0), repeat=n)]
    assert 0 < np.mean(np.array(p) <= 0.05) <= 0.05


@pytest.mark.parametrize("n", [3, 7, 12])
def test_null_simulation_keeps_false_positives_low(n: int) -> None:
    """Two methods of equal quality on shared objects are told apart in at most 5 % of experiments.

    The percentile interval alone would fail this: 13 % at n = 7.
    """
    generator = np.random.default_rng(7)
    names = [f"o{i}" for i in range(n)]
    false = alone = 0
    for seed in range(400):
        difficulty = generator.normal(0, 1, n)
        first, second = (
            dict(zip(names, difficulty + generator.normal(0, 0.3, n), strict=True)) for _ in range(2)
        )
        result = stats.compare(first, second, "higher", rng=seed)
        false += not result.tied
        alone += bool(result.difference and result.difference.excludes(0))
    # Two standard errors above 5 % of 400. Measured: 0, 21, 23 of 400; the interval alone 98, 53, 36.
    assert false <= 29
    assert alone > false


def test_a_real_difference_is_found() -> None:
    generator = np.random.default_rng(0)
    truth = {f"o{i}": float(v) for i, v in enumerate(generator.normal(0.15, 0.03, 7))}
    worse = {name: value + 0.02 + 0.005 * generator.random() for name, value in truth.items()}
    result = stats.compare(truth, worse, "lower", rng=0)
    assert (result.wins, result.ties, result.losses) == (7, 0, 0)
    assert not result.tied
    assert result.difference is not None
    assert result.difference.high is not None
    assert result.difference.high < 0
    mirrored = stats.compare(truth, worse, "higher", rng=0)
    assert (mirrored.wins, mirrored.losses) == (0, 7)
    # The same five objects can prove nothing, and say so.
    few = stats.compare(dict(list(truth.items())[:5]), dict(list(worse.items())[:5]), "lower", rng=0)
    assert few.tied
    assert few.test.minimum_p == 0.0625


def test_infinite_values_in_pairs() -> None:
    a = {"p": INF, "q": INF, "r": 30.0, "s": 31.0}
    b = {"p": INF, "q": 35.0, "r": 29.0, "s": 32.0}
    result = stats.compare(a, b, "higher", rng=0)
    assert (result.wins, result.ties, result.losses) == (2, 1, 1)
    assert result.difference is not None
    assert result.difference.mean == INF
    # The infinite win decides every pattern's order; of the finite rest, +1 and -1 cancel.
    assert result.test.p == brute_force_p([0.0, 1e6, 1.0, -1.0])
    both_ways = stats.compare({"p": INF, "q": 1.0}, {"p": 1.0, "q": INF}, "higher", rng=0)
    assert both_ways.difference is None
    assert both_ways.tied


def test_pairs_must_match() -> None:
    with pytest.raises(DataError, match="only one side has c, d, e and 1 more"):
        stats.compare({"a": 1.0, "c": 1.0, "d": 1.0}, {"a": 1.0, "e": 1.0, "f": 2.0}, "lower", rng=0)
    differences = stats.paired_differences({"b": 5.0, "a": 3.0}, {"a": 1.0, "b": 1.0})
    assert differences.tolist() == [2, 4]


def test_holm_by_hand() -> None:
    assert stats.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert stats.holm([0.5, 0.9]) == [1, 1]
    assert stats.holm([]) == []
    assert stats.holm([0.015625]) == [0.015625]
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        stats.holm([0.1, math.nan])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_ignores_order_and_lies_between_raw_and_bonferroni(values: list[float]) -> None:
    adjusted = stats.holm(values)
    for raw, corrected in zip(values, adjusted, strict=True):
        assert raw <= corrected <= min(1.0, len(values) * raw)
    assert stats.holm(values[::-1]) == adjusted[::-1]
