"""Intervals and tests against closed forms and scipy; the coverage that the choice of Student's t rests on."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from flatmin.results import statistics as st


def test_interval_of_three_values_by_hand() -> None:
    interval = st.mean_interval([1.0, 2.0, 3.0])
    assert interval.mean == 2.0
    assert interval.sd == 1.0
    assert interval.half_width == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)


def test_interval_agrees_with_scipy() -> None:
    values = np.random.default_rng(0).normal(size=7)
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    interval = st.mean_interval(values)
    assert (interval.low, interval.high) == pytest.approx((low, high))


@pytest.mark.parametrize(("values", "n"), [([], 0), ([2.0], 1), ([float("nan"), 2.0], 1)])
def test_below_two_values_there_is_no_interval(values: list[float], n: int) -> None:
    interval = st.mean_interval(values)
    assert interval.n == n
    assert math.isnan(interval.half_width)


def test_equal_values_have_an_interval_of_width_zero_and_sign_flips_decide() -> None:
    result = st.paired([0.1 + 0.2, 0.3, 0.3, 0.3, 0.3])
    assert result.interval.half_width == 0
    assert result.test == "sign-flip"
    assert result.p == 2 / 2**5


def test_all_zero_differences_are_no_evidence() -> None:
    assert st.paired([0.0] * 5).p == 1.0


@pytest.mark.parametrize("n", [3, 5])
def test_student_covers_and_normal_does_not(n: int) -> None:
    sample = np.random.default_rng(1).normal(size=(20_000, n))
    mean, error = sample.mean(axis=1), sample.std(axis=1, ddof=1) / math.sqrt(n)
    student = np.abs(mean) <= stats.t.ppf(0.975, n - 1) * error
    normal = np.abs(mean) <= 1.96 * error
    ours = [abs((i := st.mean_interval(row)).mean) <= i.half_width for row in sample[:3000]]
    assert student.mean() == pytest.approx(0.95, abs=0.005)
    assert np.mean(ours) == pytest.approx(0.95, abs=0.015)
    assert normal.mean() == pytest.approx({3: 0.817, 5: 0.88}[n], abs=0.015)


def test_paired_t_is_scipys() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.normal(1, 1, 6), rng.normal(0, 1, 6)
    result = st.paired(a - b)
    assert result.test == "t"
    assert result.p == pytest.approx(stats.ttest_rel(a, b).pvalue)


@pytest.mark.parametrize("n", [2, 3, 5, 12])
def test_sign_flip_is_exact(n: int) -> None:
    values = np.random.default_rng(n).normal(0.5, 1, n)
    signs = itertools.product((-1, 1), repeat=n)
    means = np.array([np.mean(values * np.array(s)) for s in signs])
    expected = min(1.0, 2 * min(np.mean(means >= values.mean() - 1e-12), np.mean(means <= values.mean() + 1e-12)))
    assert st.sign_flip(values) == pytest.approx(expected)


@pytest.mark.parametrize(("n", "least"), [(3, 0.25), (5, 0.0625), (10, 0.001953125)])
def test_sign_flip_cannot_fall_below_its_floor(n: int, least: float) -> None:
    assert st.sign_flip(np.linspace(1, 2, n)) == pytest.approx(least)


def test_a_diverged_run_hands_the_decision_to_sign_flips() -> None:
    assert st.paired([1, 2, 3, 4, 5.5], diverged=True).test == "sign-flip"


def test_tost_agrees_with_the_ninety_percent_interval() -> None:
    values = np.random.default_rng(3).normal(0.1, 0.3, 8)
    interval = st.mean_interval(values, confidence=0.9)
    edge = max(abs(interval.low), abs(interval.high))
    assert st.equivalence_p(values, edge * 1.001) < 0.05 < st.equivalence_p(values, edge * 0.999)


def test_tost_needs_a_margin() -> None:
    with pytest.raises(ValueError, match="above 0"):
        st.equivalence_p([1.0, 2.0], 0.0)


def test_welch_against_published_is_scipys() -> None:
    ours = np.array([0.5, 0.9, 0.7, 0.8])
    expected = stats.ttest_ind_from_stats(ours.mean(), ours.std(ddof=1), 4, 0.8, 0.3, 5, equal_var=False).pvalue
    error = st.published_standard_error(0.3, "std", 5)
    assert st.against_published(st.mean_interval(ours), 0.8, error, 5) == pytest.approx(expected)


def test_without_a_published_error_it_is_the_one_sample_test() -> None:
    ours = np.array([0.5, 0.9, 0.7, 0.8])
    expected = stats.ttest_1samp(ours, 0.8).pvalue
    assert st.against_published(st.mean_interval(ours), 0.8, 0.0, 2) == pytest.approx(expected)


def test_ci95_is_converted_to_the_larger_of_the_two_standard_errors() -> None:
    # claims meta: std = 0.806 x half-width (Student) or 1.141 x half-width (normal) for 5 runs
    assert st.published_standard_error(0.1, "ci95", 5) * math.sqrt(5) == pytest.approx(0.1141, abs=1e-4)


@pytest.mark.parametrize("k", [3, 4, 5])
def test_relabelling_without_ties_is_the_exact_test_of_kendall(k: int) -> None:
    for order in itertools.permutations(range(k)):
        expected = stats.kendalltau(range(k), order, method="exact").pvalue
        assert st.relabelling_p(range(k), order) == pytest.approx(expected)
    assert st.relabelling_p(range(k), range(k)) == pytest.approx(st.least_relabelling_p(k))


def test_relabelling_with_ties_by_hand() -> None:
    # x = (1, 1, 2): the sum of concordances is 2, 0 or -2, each for two of the six orders of y
    assert st.relabelling_p([1, 1, 2], [1, 2, 3]) == pytest.approx(4 / 6)
    assert st.relabelling_p([1, 1, 1], [1, 2, 3]) == 1.0


def test_relabelling_draws_orders_beyond_eight() -> None:
    assert 1e-4 <= st.relabelling_p(range(9), range(9)) < 1e-3


def test_holm_by_hand() -> None:
    assert st.holm([0.01, 0.04, 0.03, 0.5]) == pytest.approx([0.04, 0.09, 0.09, 0.5])
    assert st.holm([]) == []


def test_power_of_the_t_test_at_a_textbook_point() -> None:
    # one-sample, two-sided, d = 0.5: 33 are too few and 34 are enough for 80% (G*Power)
    assert st.t_test_power(0.5, 1.0, 33) < 0.8 < st.t_test_power(0.5, 1.0, 34)


@pytest.mark.parametrize("n", [3, 10, 100, 999])
def test_power_is_a_number_everywhere(n: int) -> None:
    for d in (0.01, 0.3, 1.0, 5.0, 300.0):
        assert 0 <= st.t_test_power(d, 1.0, n) <= 1


def test_seeds_to_decide_finds_the_first() -> None:
    interval = st.Interval(mean=0.5, half_width=0.9, n=5, sd=1.0)
    assert st.seeds_to_decide(interval, None) == 34
    assert st.seeds_to_decide(st.Interval(0.0, 1.0, 5, 1.0), None) is None
    assert st.seeds_to_decide(st.Interval(0.0, 1.0, 5, 1.0), 1.0) == 11
    assert st.seeds_to_decide(st.Interval(0.5, float("nan"), 1, float("nan")), 1.0) is None


def test_seeds_to_exceed_a_threshold_take_the_plain_mean_for_equivalence() -> None:
    # a mean of 1.9 lies near a threshold of 2, and is nowhere near equivalent to zero within 1
    near = st.Interval(1.9, 1.0, 5, 1.0)
    assert st.seeds_to_decide(near, 1.0, threshold=2.0) == st.seeds_to_decide(st.Interval(-0.1, 1.0, 5, 1.0), None)
    assert st.seeds_to_decide(st.Interval(0.0, 1.0, 5, 1.0), 1.0, threshold=2.0) == 5


def test_seeds_to_place_a_mean_on_either_side_of_a_margin() -> None:
    inside, outside = st.Interval(0.0, 1.0, 5, 1.0), st.Interval(1.5, 1.0, 5, 1.0)
    assert st.seeds_to_place(inside, 1.0) == st.seeds_to_decide(inside, 1.0)
    assert st.seeds_to_place(outside, 1.0) == st.seeds_to_decide(st.Interval(0.5, 1.0, 5, 1.0), None) == 34
    assert st.seeds_to_place(st.Interval(1.0, 1.0, 5, 1.0), 1.0) is None
    far = st.Interval(-3.0, 1.0, 5, 1.0)
    one, both = st.seeds_to_place(far, 1.0, one_sided=True), st.seeds_to_place(far, 1.0)
    assert one is not None
    assert both is not None
    assert one <= 3 < both + 1
    assert st.seeds_to_place(st.Interval(0.5, float("nan"), 1, float("nan")), 1.0) is None


@pytest.mark.parametrize("mean", [-1.4, -0.2, 0.9, 1.6])
def test_beyond_the_margin_is_an_interval_outside_of_it(mean: float) -> None:
    for sample in np.random.default_rng(9).normal(mean, 0.4, (200, 4)):
        interval = st.mean_interval(sample)
        assert (st.beyond_p(sample, 1.0) < 0.05) == (interval.low > 1 or interval.high < -1)
        assert (st.beyond_p(sample, 1.0, one_sided=True) < 0.05) == (interval.low > 1)
        below = stats.ttest_1samp(sample, 1.0, alternative="less").pvalue
        assert st.equivalence_p(sample, 1.0, one_sided=True) == pytest.approx(below)


def test_equivalence_power_against_simulation() -> None:
    n, margin = 11, 1.0
    sample = np.random.default_rng(4).normal(0, 1, (4000, n))
    passed = np.mean([st.equivalence_p(row, margin) < 0.05 for row in sample[:1500]])
    assert st.equivalence_power(0.0, 1.0, margin, n) == pytest.approx(passed, abs=0.05)
