"""Intervals and tests over a handful of seeds.

With three to five seeds a normal interval covers 82 to 89% instead of 95%, and a percentile bootstrap less still; the
Student interval covers what it says. It assumes roughly normal differences, which a run that diverged or collapsed
breaks: then, and where all differences are equal so that t is undefined, the sign-flip permutation test decides.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from scipy import special, stats

ALPHA = 0.05
"""Two-sided level of every test; intervals have the confidence 1 - ALPHA."""

EXACT_UP_TO = 12
"""Sign flips are enumerated up to this many seeds (4,096 patterns) and drawn with a fixed seed beyond."""

RELABELLED_UP_TO = 8
"""Relabelings of a rank correlation are enumerated up to this many items (40,320) and drawn beyond."""

MOST_SEEDS = 1000
"""No forecast of the number of seeds goes beyond this."""

Alternative = Literal["two-sided", "less", "greater"]
SpreadKind = Literal["ci95", "ci95-below", "std", "unknown"]
Test = Literal["t", "sign-flip", "relabelling", "none"]


@dataclass(frozen=True)
class Interval:
    """A mean over ``n`` seeds with its 95% Student half-width and standard deviation (both NaN for n < 2)."""

    mean: float
    half_width: float
    n: int
    sd: float

    @property
    def low(self) -> float:
        """The lower end."""
        return self.mean - self.half_width

    @property
    def high(self) -> float:
        """The upper end."""
        return self.mean + self.half_width

    @property
    def standard_error(self) -> float:
        """The deviation over sqrt(n)."""
        return self.sd / math.sqrt(self.n) if self.n else float("nan")


@dataclass(frozen=True)
class Paired:
    """Differences over paired seeds: their interval, the two-sided p that they are zero, and the test that gave it."""

    differences: tuple[float, ...]
    interval: Interval
    p: float
    test: Test


def mean_interval(values: Sequence[float] | np.ndarray, confidence: float = 1 - ALPHA) -> Interval:
    """Mean and Student-t interval of ``values``; NaNs are left out.

    One value has no interval (half-width NaN); equal values have one of width zero.
    """
    sample = np.asarray(values, dtype=float)
    sample = sample[~np.isnan(sample)]
    n = len(sample)
    if n == 0:
        return Interval(float("nan"), float("nan"), 0, float("nan"))
    mean, sd = _moments(sample)
    if n == 1:
        return Interval(mean, float("nan"), 1, float("nan"))
    quantile = float(special.stdtrit(n - 1, (1 + confidence) / 2))
    return Interval(mean, quantile * sd / math.sqrt(n), n, sd)


def paired(differences: Sequence[float] | np.ndarray, *, diverged: bool = False) -> Paired:
    """Test whether paired ``differences`` have mean zero: one-sample t, or sign flips where t cannot be trusted."""
    sample = np.asarray(differences, dtype=float)
    interval = mean_interval(sample)
    p, test = difference_p(sample, diverged=diverged)
    return Paired(tuple(float(value) for value in sample), interval, p, test)


def difference_p(
    sample: np.ndarray, *, diverged: bool = False, alternative: Alternative = "two-sided"
) -> tuple[float, Test]:
    """The p that the mean of ``sample`` is zero, and which test gave it (``none`` below two values)."""
    if len(sample) < 2:
        return float("nan"), "none"
    mean, sd = _moments(sample)
    if diverged or sd == 0:
        return sign_flip(sample, alternative), "sign-flip"
    return _t_tail(mean / sd * math.sqrt(len(sample)), len(sample) - 1, alternative), "t"


def sign_flip(values: Sequence[float] | np.ndarray, alternative: Alternative = "two-sided") -> float:
    """Permutation p of a mean of zero: under it every difference is as likely with the other sign.

    Exact for n <= 12, where the two-sided p cannot fall below 2 / 2^n: 0.25 at n = 3, 0.0625 at n = 5.
    """
    sample = np.asarray(values, dtype=float)
    if len(sample) < 2:
        return float("nan")
    if not np.any(sample):
        return 1.0
    if len(sample) <= EXACT_UP_TO:
        sums = _sign_patterns(len(sample)) @ sample
        slack = 1e-12 * float(np.sum(np.abs(sample)))  # equal sums differ by the order of their rounding
        above = float(np.mean(sums >= np.sum(sample) - slack))
        below = float(np.mean(sums <= np.sum(sample) + slack))
        return {"greater": above, "less": below, "two-sided": min(1.0, 2 * min(above, below))}[alternative]
    result = stats.permutation_test(
        (sample,),
        np.mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=99_999,
        alternative=alternative,
        rng=np.random.default_rng(0),
    )
    return float(result.pvalue)


@cache
def _sign_patterns(n: int) -> np.ndarray:
    """All 2^n ways to sign ``n`` values, a row each."""
    return np.array(list(itertools.product((1.0, -1.0), repeat=n)))


def _t_tail(t: float, freedom: float, alternative: Alternative) -> float:
    """The p of a t statistic (scipy.special, because scipy.stats takes a hundred times as long for one number)."""
    if alternative == "two-sided":
        return 2 * float(special.stdtr(freedom, -abs(t)))
    return float(special.stdtr(freedom, t if alternative == "less" else -t))


def relabelling_p(x: Sequence[float] | np.ndarray, y: Sequence[float] | np.ndarray) -> float:
    """Permutation p, two-sided, of no association in Kendall's sense: ``y`` might have gone with any order of ``x``.

    Exact over all k! orders for k <= 8, where it cannot fall below `least_relabelling_p`. Ties are kept as they are, so
    comparing the sums of concordances compares tau-b.
    """
    a, b = (np.sign(np.subtract.outer(np.asarray(v, dtype=float), np.asarray(v, dtype=float))) for v in (x, y))
    k = len(a)
    if k < 2:
        return float("nan")
    observed = abs(np.sum(a * b))
    if k <= RELABELLED_UP_TO:
        sums = [abs(np.sum(a * b[np.ix_(order, order)])) for order in itertools.permutations(range(k))]
        return float(np.mean(np.asarray(sums) >= observed))
    rng = np.random.default_rng(0)
    drawn = [abs(np.sum(a * b[np.ix_(order, order)])) for order in (rng.permutation(k) for _ in range(9_999))]
    return float((1 + np.sum(np.asarray(drawn) >= observed)) / 10_000)


def least_relabelling_p(k: int) -> float:
    """The smallest two-sided p that relabelling ``k`` items can give: 2 / k!, 1/12 for four."""
    return min(1.0, 2 / math.factorial(k))


def equivalence_p(
    differences: Sequence[float] | np.ndarray, margin: float, *, diverged: bool = False, one_sided: bool = False
) -> float:
    """Two one-sided tests (TOST): the p that the mean lies outside (-margin, margin). Small means equivalent to zero.

    ``one_sided`` asks only that it lies below the margin, however far.

    Raises:
        ValueError: the margin is not above zero.
    """
    sample = _beside_margin(differences, margin)
    below, _ = difference_p(sample - margin, diverged=diverged, alternative="less")
    if one_sided or math.isnan(below):
        return below
    above, _ = difference_p(sample + margin, diverged=diverged, alternative="greater")
    return max(above, below)


def beyond_p(
    differences: Sequence[float] | np.ndarray, margin: float, *, diverged: bool = False, one_sided: bool = False
) -> float:
    """The p, two-sided, that the mean lies within (-margin, margin). Small means that it lies beyond the margin.

    It is below 0.05 exactly where the 95% interval lies outside. ``one_sided`` looks above the margin alone.

    Raises:
        ValueError: the margin is not above zero.
    """
    sample = _beside_margin(differences, margin)
    above, _ = difference_p(sample - margin, diverged=diverged, alternative="greater")
    if one_sided or math.isnan(above):
        return min(1.0, 2 * above) if above <= 1 else above
    below, _ = difference_p(sample + margin, diverged=diverged, alternative="less")
    return min(1.0, 2 * min(above, below))


def _beside_margin(differences: Sequence[float] | np.ndarray, margin: float) -> np.ndarray:
    if not margin > 0:
        raise ValueError(f"an equivalence margin must be above 0, not {margin}")
    return np.asarray(differences, dtype=float)


def published_standard_error(spread: float, kind: SpreadKind, runs: int) -> float:
    """Standard error of a published mean over ``runs`` runs.

    ``std`` is divided by sqrt(runs). ``ci95`` is a 95% half-width, ``ci95-below`` an upper bound of one; papers seldom
    say whether they used Student's quantile or 1.96, so the larger standard error of the two is taken, which makes
    "differs from the published effect" harder to claim. ``unknown`` is taken as the standard error itself.
    """
    if kind == "std":
        return spread / math.sqrt(runs)
    return spread / float(special.ndtri(0.975)) if kind in ("ci95", "ci95-below") else spread


def against_published(ours: Interval, published: float, error: float, runs: int) -> float:
    """Welch's test of our mean against a published one with standard error ``error`` over ``runs`` runs: two-sided p.

    NaN below two seeds. ``error`` 0 makes it the one-sample t test.
    """
    if ours.n < 2:
        return float("nan")
    a, b = ours.standard_error**2, error**2
    gap = ours.mean - published
    if a + b == 0:
        return 1.0 if math.isclose(gap, 0, abs_tol=1e-8) else 0.0
    freedom = (a + b) ** 2 / (a**2 / (ours.n - 1) + (b**2 / (runs - 1) if b else 0.0))
    return _t_tail(gap / math.sqrt(a + b), freedom, "two-sided")


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment: family-wise error over all ``ps`` (none of them NaN), in the given order."""
    adjusted = [0.0] * len(ps)
    running = 0.0
    for rank, index in enumerate(np.argsort(ps, kind="stable")):
        running = max(running, min(1.0, (len(ps) - rank) * ps[index]))
        adjusted[int(index)] = running
    return adjusted


def t_test_power(effect: float, sd: float, n: int) -> float:
    """Power of the two-sided one-sample t test at ``n`` seeds, for a true mean ``effect`` and deviation ``sd``."""
    if n < 2:
        return 0.0
    critical = float(stats.t.ppf(1 - ALPHA / 2, n - 1))
    shift = abs(effect) / sd * float(np.sqrt(n))
    if shift > critical + 8:  # power is 1 to many digits, and scipy's noncentral t returns NaN far out
        return 1.0
    return float(stats.nct.sf(critical, n - 1, shift) + stats.nct.cdf(-critical, n - 1, shift))


def equivalence_power(effect: float, sd: float, margin: float, n: int, *, one_sided: bool = False) -> float:
    """Approximate power of TOST (central t, as is usual for planning) for a true mean ``effect`` within ``margin``.

    ``one_sided``: of its test against the upper margin alone.
    """
    if n < 2:
        return 0.0
    error = sd / float(np.sqrt(n))
    critical = float(stats.t.ppf(1 - ALPHA, n - 1))
    low = stats.t.cdf((margin - effect) / error - critical, n - 1)
    high = 1.0 if one_sided else stats.t.cdf((margin + effect) / error - critical, n - 1)
    return max(0.0, float(low + high - 1))


def seeds_to_decide(ours: Interval, margin: float | None, power: float = 0.8, *, threshold: float = 0.0) -> int | None:
    """Total seeds at which the mean differs from ``threshold``, or is equivalent to zero within ``margin``.

    Either shows there with ``power``.

    It takes our own mean and deviation as the truth, so it is a rough guide. None: below two seeds nothing is known of
    the deviation, and beyond `MOST_SEEDS` no number is worth printing.
    """
    if ours.n < 2 or not ours.sd > 0:
        return None
    within = margin is not None and abs(ours.mean) < margin

    def decides(n: int) -> bool:
        if t_test_power(ours.mean - threshold, ours.sd, n) >= power:
            return True
        return within and margin is not None and equivalence_power(ours.mean, ours.sd, margin, n) >= power

    return _first(decides)


def seeds_to_place(ours: Interval, margin: float, power: float = 0.8, *, one_sided: bool = False) -> int | None:
    """Total seeds at which the mean is shown to lie within ``margin`` of zero, or beyond it, as `seeds_to_decide`.

    ``one_sided``: below it or above it.
    """
    if ours.n < 2 or not ours.sd > 0:
        return None
    size = ours.mean if one_sided else abs(ours.mean)
    if size < margin:
        return _first(lambda n: equivalence_power(size, ours.sd, margin, n, one_sided=one_sided) >= power)
    return _first(lambda n: t_test_power(size - margin, ours.sd, n) >= power)


def _first(decides: Callable[[int], bool]) -> int | None:
    """The smallest number of seeds that decides, if `MOST_SEEDS` do."""
    if not decides(MOST_SEEDS):
        return None
    low, high = 1, MOST_SEEDS
    while high - low > 1:  # power grows with n, so bisection finds the first that decides
        middle = (low + high) // 2
        low, high = (low, middle) if decides(middle) else (middle, high)
    return high


def _moments(sample: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation, zero where all values agree to within rounding of their own size (NaN for one)."""
    values = sample.tolist()  # a handful of numbers, for which numpy's reductions take ten times as long
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return mean, float("nan")
    if max(values) - min(values) <= 1e-12 * max(1.0, max(map(abs, values))):
        return mean, 0.0
    return mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
