"""How often the verdict rule errs, on 20,000 simulated studies with a known truth per case.

A bound is an error rate that was promised, plus three Monte-Carlo standard errors. All numbers go through the functions
that judge real runs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from flatmin.results.claim_spec import ClaimSpec
from flatmin.results.contrasts import slope_weights
from flatmin.results.statistics import ALPHA, difference_p, holm, mean_interval
from flatmin.results.verdicts import AGREE, Verdict, decide, weigh

DRAWS = 20_000
SEEDS = (3, 5, 10)
COLLAPSED = 0.2
"""Share of an arm's runs that collapse, to about 10% accuracy from 90%."""

Values = np.ndarray
"""One line per simulated study, one column per seed."""


def bound(rate: float) -> float:
    """``rate`` plus three standard errors of its estimate from `DRAWS` studies."""
    return rate + 3 * float(np.sqrt(rate * (1 - rate) / DRAWS))


def claim_of(effect: float | None = None, *, spread: float = 0.0, **rule: object) -> ClaimSpec:
    """A claim with a published effect in points, of which each side has a standard deviation over five runs."""
    record: dict[str, object] = {
        "id": "one",
        "paper": "A",
        "where": "Table 1",
        "statement": "SAM helps",
        "rule": rule,
        "source": "none",
        "confidence": "statement" if effect is None else "verified-from-text",
    }
    if effect is not None:
        side = {"spread": spread, "kind": "std", "runs": 5} if spread else {}
        sides = {"treatment": {"value": 90 + effect, **side}, "baseline": {"value": 90, **side}}
        record["published"] = {"unit": "test accuracy %", "resolution": 0, **sides}
    return ClaimSpec.model_validate(record)


def verdicts(claim: ClaimSpec, values: Values, failed: np.ndarray | None = None) -> Counter[Verdict]:
    """Judge every simulated study; ``failed`` marks the seeds with a run that collapsed."""
    broken = np.zeros(values.shape, dtype=bool) if failed is None else failed
    evidence = [weigh(claim, v, f, forecast=False) for v, f in zip(values, broken, strict=True)]
    return Counter(decide(claim, each, each.p) for each in evidence)


def share(found: Counter[Verdict], *wanted: Verdict) -> float:
    return sum(found[verdict] for verdict in wanted) / DRAWS


def normal(n: int, mean: float = 0.0, sd: float = 1.0, seed: int = 0) -> Values:
    return np.random.default_rng([seed, n]).normal(mean, sd, (DRAWS, n))


@pytest.mark.parametrize("n", SEEDS)
def test_without_an_effect_reproduced_is_rare(n: int) -> None:
    found = verdicts(claim_of(1.0), normal(n))
    assert share(found, *AGREE) <= bound(ALPHA / 2)
    assert share(found, *AGREE, "reversed") <= bound(ALPHA)


@pytest.mark.parametrize("n", SEEDS)
@pytest.mark.parametrize("arm", [-1, 1])
def test_nor_where_one_arm_collapses_in_a_fifth_of_its_runs(n: int, arm: int) -> None:
    """Whichever arm it is: a baseline that collapses makes the mean difference large, and SAM no better."""
    rng = np.random.default_rng([n, arm + 1])
    collapsed = rng.random((DRAWS, n)) < COLLAPSED
    values = normal(n, seed=1) + arm * np.where(collapsed, rng.normal(80, 2, (DRAWS, n)), 0.0)
    found = verdicts(claim_of(1.0), values, collapsed)
    assert share(found, *AGREE) <= bound(ALPHA)


@pytest.mark.parametrize("n", SEEDS)
def test_a_baseline_chosen_on_test_data_works_against_the_treatment(n: int) -> None:
    rng = np.random.default_rng(n)
    arms = rng.normal(0, 1, (3, DRAWS, n)) + rng.normal(0, 2, (DRAWS, n))
    second = arms[1].mean(axis=1) > arms[0].mean(axis=1)
    better = np.where(second[:, None], arms[1], arms[0])
    found = verdicts(claim_of(1.0), arms[2] - better)
    assert share(found, *AGREE) <= bound(ALPHA / 2)
    assert bound(ALPHA / 2) < share(found, "reversed") <= bound(ALPHA)


@pytest.mark.parametrize("n", SEEDS)
@pytest.mark.parametrize("side", [-1, 1])
def test_an_effect_as_large_as_the_margin_is_seldom_called_none(n: int, side: int) -> None:
    claim = claim_of(1.0)
    assert claim.margin == 0.5
    assert share(verdicts(claim, normal(n, side * 0.5, 0.25)), "not-reproduced") <= bound(ALPHA)


@pytest.mark.parametrize("n", SEEDS)
@pytest.mark.parametrize("kind", ["no-effect", "no-benefit"])
def test_sameness_is_seldom_found_at_the_margin(n: int, kind: str) -> None:
    found = verdicts(claim_of(kind=kind, margin=0.5), normal(n, 0.5, 0.25))
    assert share(found, "reproduced") <= bound(ALPHA)


@pytest.mark.parametrize("n", SEEDS)
def test_a_threshold_is_seldom_exceeded_by_an_effect_that_equals_it(n: int) -> None:
    found = verdicts(claim_of(at_least=2, margin=2), normal(n, 2.0))
    assert share(found, *AGREE) <= bound(ALPHA / 2)


@pytest.mark.parametrize("n", SEEDS)
def test_the_published_effect_is_seldom_called_smaller_or_larger(n: int) -> None:
    """Ours equals the published one, which is an estimate: each side the mean of five runs."""
    rng, sd = np.random.default_rng(n), 0.2
    printed = rng.normal(90 + np.array([2.0, 0.0]), sd, (5, DRAWS, 2))
    means, spreads = printed.mean(axis=0), printed.std(axis=0, ddof=1)
    found: Counter[Verdict] = Counter()
    for ours, mean, spread in zip(normal(n, 2.0, 0.3), means, spreads, strict=True):
        sides = [{"value": m, "spread": s, "kind": "std", "runs": 5} for m, s in zip(mean, spread, strict=True)]
        claim = with_sides(*sides)
        evidence = weigh(claim, ours, forecast=False)
        found[decide(claim, evidence, evidence.p)] += 1
    assert share(found, "reproduced-smaller", "reproduced-larger") <= bound(ALPHA)
    assert share(found, "reproduced") > 0.5


TEMPLATE = claim_of(2.0, spread=0.2)


def with_sides(treatment: dict[str, object], baseline: dict[str, object]) -> ClaimSpec:
    assert TEMPLATE.published is not None
    assert TEMPLATE.published.treatment is not None
    value = TEMPLATE.published.treatment
    sides = {"treatment": value.model_copy(update=treatment), "baseline": value.model_copy(update=baseline)}
    return TEMPLATE.model_copy(update={"published": TEMPLATE.published.model_copy(update=sides)})


@pytest.mark.parametrize("effects", [(0, 0, 0, 0, 0, 0), (0, 0, 0, 2, 2, 2)])
def test_the_family_of_primary_claims_errs_in_one_study_of_twenty(effects: tuple[float, ...]) -> None:
    """Six claims, one after Holm's adjustment is enough: in any direction, where SAM of one table serves them all."""
    rng, n, claim = np.random.default_rng(3), 5, claim_of(1.0)
    shared = rng.normal(0, 1, (DRAWS, 1, n))
    values = rng.normal(0, 1, (DRAWS, len(effects), n)) + shared + np.array(effects)[:, None]
    wrong = 0
    for study in values:
        adjusted = holm([difference_p(each)[0] for each in study])
        false = [(v, p) for v, p, true in zip(study, adjusted, effects, strict=True) if not true and p < ALPHA]
        said = [decide(claim, weigh(claim, v, forecast=False), p) for v, p in false]
        wrong += any(verdict in (*AGREE, "reversed") for verdict in said)
    assert wrong / DRAWS <= bound(ALPHA)


def level(arms: Values) -> Values:
    return arms[0]


def difference(arms: Values) -> Values:
    return arms[0] - arms[1]


def half_gap(arms: Values) -> Values:
    return (arms[0] - arms[1]) / 2 - (arms[2] - arms[3])


def gain_difference(arms: Values) -> Values:
    return (arms[0] - arms[1]) - (arms[2] - arms[3])


def slope(arms: Values) -> Values:
    return np.tensordot(slope_weights(np.array([16.0, 64, 128, 256])), arms, axes=1)


@pytest.mark.parametrize("n", SEEDS)
@pytest.mark.parametrize("computed", [level, difference, half_gap, gain_difference, slope])
def test_intervals_cover(n: int, computed: Callable[[Values], Values]) -> None:
    """Of cells, and of every number that a rule computes: arms share a deviation per seed, as paired runs do."""
    rng, means = np.random.default_rng(n), np.array([93.0, 90.0, 91.0, 90.5])
    arms = means[:, None, None] + rng.normal(0, 0.4, (4, DRAWS, n)) + rng.normal(0, 1, (DRAWS, n))
    truth = float(computed(means[:, None])[0])
    intervals = [mean_interval(values) for values in computed(arms)]
    covered = np.mean([interval.low <= truth <= interval.high for interval in intervals])
    assert abs(covered - 0.95) <= bound(0.05) - 0.05


@pytest.mark.parametrize("n", SEEDS)
def test_an_effect_is_found_as_often_as_the_power_says(n: int) -> None:
    """So that the bounds above are not those of a rule that never decides."""
    t = stats.t.ppf(1 - ALPHA / 2, n - 1)
    power = stats.nct.sf(t, n - 1, 2 * np.sqrt(n))
    assert share(verdicts(claim_of(None, margin=0.5), normal(n, 2.0)), "reproduced") == pytest.approx(power, abs=0.015)
