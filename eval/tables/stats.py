"""Statistics for few objects: intervals, paired tests, and what they cannot show.

The unit is the object. Frames and views of one object are not independent, so they are averaged
beforehand, and resampling draws whole objects. With equal weights per object the cluster
bootstrap is then the bootstrap of the object means.

Random numbers: every function that draws takes `rng`, an integer seed or a numpy Generator. With a seed
the result depends on nothing but the arguments, so adding a metric to a table moves no other interval.

Infinite values (PSNR of equal pictures) are kept, never capped:

* a mean over values of which some are +inf is +inf, and interval bounds are order statistics (no
  interpolation), so they may be infinite but never NaN;
* a pair of equal infinities is a tie, a difference of 0; any other infinite difference outweighs every
  finite one in tests and counts as a win or a loss;
* a mean of +inf and -inf does not exist: DataError.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mvtokenflow.base.errors import DataError

Floats = NDArray[np.float64]
Rng = int | np.random.Generator

EXACT_UP_TO = 20  # objects; 2^20 sign patterns take 8 MB and a few milliseconds
# Random numbers for one interval or test, at most: for more objects there are fewer resamples or draws. An
# interval has all of its resamples up to 1,000 objects, a test all of its draws up to 100.
MOST_DRAWN = 10_000_000
_AT_A_TIME = 1_000_000  # of them in memory


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean over objects with its percentile bootstrap interval.

    Attributes:
        mean: of the n values.
        low, high: bounds; None with fewer than two objects, where there is nothing to resample.
        n: objects.
        level: coverage asked for, e.g. 0.95. For few objects percentile intervals are too short (at
            n = 7 a nominal 95 % covers 87 % of normal samples), so the true uncertainty is larger.
    """

    mean: float
    low: float | None
    high: float | None
    n: int
    level: float

    def excludes(self, value: float) -> bool:
        """Return whether `value` lies outside the closed interval; False without one."""
        return self.low is not None and self.high is not None and not self.low <= value <= self.high


def bootstrap_mean(values: ArrayLike, rng: Rng, *, resamples: int = 10_000, level: float = 0.95) -> Interval:
    """Compute the percentile bootstrap interval of the mean over objects.

    Of more than `MOST_DRAWN` / `resamples` objects there are fewer resamples, so that the time does not grow.

    Args:
        values: (n,) one value per object, already averaged over its frames and views.
        rng: seed or Generator.

    Raises:
        DataError: no values, a NaN, or infinities of both signs.
    """
    sample = _objects(values)
    with np.errstate(invalid="ignore"):
        mean = float(sample.mean())
    if np.isnan(mean):
        raise DataError("values hold both +inf and -inf; their mean does not exist")
    if len(sample) < 2:
        return Interval(mean=mean, low=None, high=None, n=len(sample), level=level)
    generator = np.random.default_rng(rng)
    resamples = max(1, min(resamples, MOST_DRAWN // len(sample)))
    found = []
    step = max(1, _AT_A_TIME // len(sample))
    for start in range(0, resamples, step):  # bounded memory, and the same numbers as all at once
        drawn = generator.integers(0, len(sample), (min(step, resamples - start), len(sample)))
        found.append(sample[drawn].mean(axis=1))
    means = np.sort(np.concatenate(found))
    tail = (1 - level) / 2
    # Order statistics that leave at most `tail` of the resamples outside on either side.
    outside = int(np.floor(tail * resamples))
    low, high = float(means[outside]), float(means[resamples - 1 - outside])
    return Interval(mean=mean, low=low, high=high, n=len(sample), level=level)


@dataclass(frozen=True, kw_only=True)
class SignFlipTest:
    """Two-sided paired sign-flip (Fisher randomisation) test of a zero mean difference.

    Attributes:
        p: share of sign patterns whose |mean| reaches the observed one, that pattern included.
        n: pairs.
        exact: all 2^n patterns were enumerated; otherwise drawn.
        minimum_p: smallest p that n pairs can ever give by this procedure.
        resolution: step between neighbouring p values: 2^-n, or 1/(draws + 1).
    """

    p: float
    n: int
    exact: bool
    minimum_p: float
    resolution: float


def minimum_p(n: int) -> float:
    """Compute the smallest two-sided p of an exact sign-flip test on n pairs: 2/2^n (0.015625 at n = 7)."""
    if n < 0:
        raise ValueError(f"n counts pairs, got {n}")
    return min(1.0, 2.0 ** (1 - n))


def sign_flip_test(
    differences: ArrayLike, rng: Rng, *, exact_up_to: int = EXACT_UP_TO, draws: int = 99_999
) -> SignFlipTest:
    """Test paired differences over objects by flipping signs.

    Under the hypothesis that swapping the two methods on any object changes nothing, each difference is
    as likely with the other sign. Up to `exact_up_to` pairs all patterns are enumerated and `rng` is not
    used; beyond, `draws` patterns, or `MOST_DRAWN` / n if that is less, are drawn and p is
    (1 + hits) / (1 + draws) (Phipson and Smyth, 2010), which never understates p.

    Args:
        differences: (n,) one difference per object; `paired_differences` makes them from two rows.
        rng: seed or Generator.

    Raises:
        DataError: no differences or a NaN.
    """
    sample = np.abs(signed := _weigh_infinities(_objects(differences)))
    observed = abs(float(signed.sum()))
    # Sums of the same numbers in another order differ by rounding; equal patterns must count as equal.
    reach = observed - 1e-12 * float(sample.sum())
    n = len(sample)
    if n <= exact_up_to:
        sums = np.zeros(1)
        for difference in sample:
            sums = np.concatenate((sums + difference, sums - difference))
        p = float((np.abs(sums) >= reach).mean())
        return SignFlipTest(p=p, n=n, exact=True, minimum_p=minimum_p(n), resolution=2.0**-n)
    generator = np.random.default_rng(rng)
    hits = 0
    draws = max(1, min(draws, MOST_DRAWN // n))
    at_once = max(1, min(10_000, _AT_A_TIME // n))
    for start in range(0, draws, at_once):  # bounded memory
        signs = generator.integers(0, 2, (min(at_once, draws - start), n), dtype=np.int8) * 2 - 1
        hits += int((np.abs(signs @ sample) >= reach).sum())
    step = 1 / (draws + 1)
    return SignFlipTest(p=(1 + hits) * step, n=n, exact=False, minimum_p=step, resolution=step)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust a family of p values by Holm's step-down method (e.g. one comparison over several metrics).

    Returns:
        Adjusted p values in the order given; rejecting those <= a keeps the chance of any false
        rejection <= a.

    Raises:
        ValueError: a p value outside [0, 1].
    """
    values = np.asarray(p_values, dtype=np.float64)
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f"p values lie in [0, 1], got {list(p_values)}")
    order = np.argsort(values, kind="stable")
    scaled = values[order] * np.arange(len(values), 0, -1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return [float(value) for value in adjusted]


def paired_differences(first: Mapping[str, float], second: Mapping[str, float]) -> Floats:
    """Compute first - second per object, in sorted order of the objects' names.

    Equal infinities differ by 0.

    Raises:
        DataError: the two do not hold the same objects (names those missing), or hold none, or a NaN.
    """
    if first.keys() != second.keys():
        lacking = sorted(first.keys() ^ second.keys())
        more = f" and {len(lacking) - 3} more" if len(lacking) > 3 else ""
        raise DataError(
            "a paired comparison needs the same objects on both sides; only one side has "
            f"{', '.join(lacking[:3])}{more}"
        )
    names = sorted(first)
    a = _objects([first[name] for name in names])
    b = _objects([second[name] for name in names])
    with np.errstate(invalid="ignore"):
        return np.where(a == b, 0.0, a - b)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two methods compared on the same objects.

    Attributes:
        wins, ties, losses: of the first method, object by object, in the metric's direction.
        difference: mean of first - second with its interval; None if it does not exist (+inf and -inf).
        test: paired sign-flip test.
        alpha: level the verdict was taken at.
    """

    wins: int
    ties: int
    losses: int
    difference: Interval | None
    test: SignFlipTest
    alpha: float

    @property
    def tied(self) -> bool:
        """Return whether the difference cannot be distinguished from none.

        A difference needs both: the interval excludes 0 *and* p <= alpha. The
        interval alone is too generous for few objects (13 % false alarms at n = 7 instead of 5 %), so
        with fewer than 6 objects, where p cannot reach 0.05, everything is tied.
        """
        clear = self.difference is None or self.difference.excludes(0.0)
        return not (clear and self.test.p <= self.alpha)


def compare(
    first: Mapping[str, float],
    second: Mapping[str, float],
    better: Literal["higher", "lower"],
    rng: Rng,
    *,
    alpha: float = 0.05,
) -> Comparison:
    """Compare two methods on the objects they share, which must be all of them.

    Args:
        first, second: object name -> value, averaged over the object's frames and views.
        better: direction of the metric.
        rng: seed or Generator.

    Raises:
        DataError: as `paired_differences`.
    """
    difference = paired_differences(first, second)
    gain = difference if better == "higher" else -difference
    mixed = np.isposinf(difference).any() and np.isneginf(difference).any()
    generator = np.random.default_rng(rng)
    return Comparison(
        wins=int((gain > 0).sum()),
        ties=int((gain == 0).sum()),
        losses=int((gain < 0).sum()),
        difference=None if mixed else bootstrap_mean(difference, generator, level=1 - alpha),
        test=sign_flip_test(difference, generator),
        alpha=alpha,
    )


def _objects(values: ArrayLike) -> Floats:
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1:
        raise ValueError(f"expected one value per object, got shape {sample.shape}")
    if not len(sample):
        raise DataError("there are no objects to take statistics of")
    if np.isnan(sample).any():
        raise DataError(f"object {int(np.isnan(sample).argmax())} of {len(sample)} has the value NaN")
    return sample


def _weigh_infinities(differences: Floats) -> Floats:
    """Replace infinities by a number that no sum of the finite ones can outweigh.

    Signed sums then order as if the infinities were one infinite unit, and p stays exact.
    """
    infinite = np.isinf(differences)
    beyond = 1 + 2 * np.abs(differences[~infinite]).sum()
    return np.where(infinite, np.sign(differences) * beyond, differences)
