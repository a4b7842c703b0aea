"""How often the verdict rule errs, on 20,000 simulated studies with a known truth per case.

A bound is an error rate that was promised, plus three Monte-Carlo standard errors. All numbers go through the functions
that judge real runs: what a rule computes through `contrast`, the verdict through `weigh` and `decide`. What only whole
studies have (the choice of methods, collapsed runs, obstacles, Holm's adjustment) is simulated through `judge`, on
fewer of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from synthetic import NOISY, WRN, make_runs, make_table

from flatmin.results.claim_spec import ClaimSpec
from flatmin.results.claims import judge
from flatmin.results.contrasts import contrast
from flatmin.results.departures import Arm
from flatmin.results.inputs import MethodInfo, RowInfo, TableInfo
from flatmin.results.matching import Compared
from flatmin.results.statistics import ALPHA, difference_p, holm, mean_interval
from flatmin.results.verdicts import AGREE, Verdict, decide, weigh

DRAWS = 20_000
SEEDS = (3, 5, 10)
COLLAPSED = 0.2
"""Share of an arm's runs that collapse, to about 10% accuracy from 90%."""

Values = np.ndarray
"""One line per simulated study, one column per seed."""


def bound(rate: float, draws: int = DRAWS) -> float:
    """``rate`` plus three standard errors of its estimate from so many studies."""
    return rate + 3 * float(np.sqrt(rate * (1 - rate) / draws))


def claim_of(effect: float | None = None, *, spread: float = 0.0, name: str = "one", **rule: object) -> ClaimSpec:
    """A claim with a published effect in points, of which each side has a standard deviation over five runs."""
    record: dict[str, object] = {
        "id": name,
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
    return sum(found[verdict] for verdict in wanted) / found.total()


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


@pytest.mark.parametrize("n", [3, 10])
@pytest.mark.parametrize("kind", ["no-effect", "no-benefit"])
@pytest.mark.parametrize("true", [0.3, 0.5])
def test_sameness_is_seldom_refuted_by_what_lies_within_the_margin(n: int, kind: str, true: float) -> None:
    """Though a difference of 0.3 from zero is shown often: it is smaller than what the claim calls the same."""
    found = verdicts(claim_of(kind=kind, margin=0.5), normal(n, true, 0.25, seed=2))
    assert share(found, "not-reproduced") <= bound(ALPHA / 2)


@pytest.mark.parametrize("n", [3, 10])
def test_a_ratio_within_its_margin_is_seldom_refuted_and_one_beyond_it_seldom_confirmed(n: int) -> None:
    claim = claim_of(kind="ratio", target=1, margin=0.1)
    assert share(verdicts(claim, normal(n, 0.09, 0.02)), "not-reproduced") <= bound(ALPHA / 2)
    edge = verdicts(claim, normal(n, 0.1, 0.02))
    assert share(edge, "reproduced") <= bound(ALPHA)
    assert share(edge, "not-reproduced") <= bound(ALPHA / 2)


def test_a_benefit_is_not_denied_by_failures_alone() -> None:
    """SAM gains a point, twice the margin of "no benefit", and collapses in a fifth of its runs."""
    n = 10
    collapsed = np.random.default_rng(n).random((DRAWS, n)) < COLLAPSED
    values = normal(n, 1.0, 0.25, seed=4) - np.where(collapsed, 80, 0.0)
    found = verdicts(claim_of(kind="no-benefit", margin=0.5), values, collapsed)
    assert share(found, "reproduced") <= bound(ALPHA)


@pytest.mark.parametrize("n", SEEDS)
def test_a_threshold_is_seldom_exceeded_by_an_effect_that_equals_it(n: int) -> None:
    found = verdicts(claim_of(at_least=2), normal(n, 2.0))
    assert share(found, *AGREE) <= bound(ALPHA / 2)
    assert share(found, "not-reproduced") <= bound(ALPHA / 2)


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


TABLE = make_table("t", {("a", "m"): WRN, ("b", "m"): WRN})
HERE, THERE = ("a", "m"), ("b", "m")
MS = {"sam": 64.0, "sam-m128": 128.0, "sam-m256": 256.0}


def runs_of(arms: Mapping[str, Values], early: Mapping[str, Values]) -> pd.DataFrame:
    """One run per arm and column of every study, each with a seed of its own; accuracies in percent."""
    seeds = np.arange(next(iter(arms.values())).size)
    parts = [
        pd.DataFrame(
            {
                "seed": seeds,
                "method": name,
                "test_accuracy": values.ravel() / 100,
                "early_test_accuracy": early.get(name, values).ravel() / 100,
                "diverged": 0,
                "collapsed": 0,
            }
        )
        for name, values in arms.items()
    ]
    return pd.concat(parts, ignore_index=True)


def paired_arms(means: Mapping[str, float], n: int, sd: float, seed: int = 0) -> dict[str, Values]:
    """Arms around ``means`` that share a deviation per seed, as paired runs do, beside their own (``sd``)."""
    rng = np.random.default_rng([seed, n])
    common = rng.normal(0, 1, (DRAWS, n))
    return {name: mean + common + rng.normal(0, sd, (DRAWS, n)) for name, mean in means.items()}


def computed(claim: ClaimSpec, here: Mapping[str, Values], there: Mapping[str, Values], early: Values) -> Values:
    """What the rule computes on every study, through `contrast`: a line per study."""
    runs, partners = runs_of(here, {"sam": early, "sgd": here["early sgd"]}), runs_of(there, {})
    arm, partner = Arm(TABLE, HERE, "sam", runs), Arm(TABLE, THERE, "sam", partners)
    sgd, rule = arm.beside("sgd"), claim.rule
    compared = {
        "effect": Compared(arm, sgd),
        "early-stopping": Compared(arm, sgd),
        "share": Compared(arm.beside("late"), sgd, arm),
        "trend": Compared(arm, ladder=MS),
        "across": Compared(arm, partner=(partner,)),
        "interaction": Compared(arm, sgd, partner=(partner, partner.beside("sgd"))),
    }[rule.kind]
    return contrast(rule, compared).oriented.reshape(DRAWS, -1)


MEANS = {"sgd": 90.0, "sam": 93.0, "late": 91.0, "sam-m128": 92.0, "sam-m256": 91.0, "early sgd": 92.0}
PARTNERS = {"sgd": 90.5, "sam": 91.5}
EARLY_SAM = 93.0

RULES: Mapping[str, tuple[dict[str, object], float]] = {
    "effect": ({}, 3.0),
    "early-stopping": ({}, 3.0 / 2 - 1.0),
    "share": ({"reference": {"ascent": "sam"}, "share": 0.5}, 1.0 - 3.0 / 2),
    "trend": ({"along": "m"}, -1.0),
    "across": ({"partner": {}}, 1.5),
    "interaction": ({"partner": {}}, 3.0 - 1.0),
}
"""What a rule needs beside its kind, and its value at those means."""


@pytest.mark.parametrize("n", SEEDS)
@pytest.mark.parametrize("kind", RULES)
def test_intervals_cover(n: int, kind: str) -> None:
    """Of every number that a rule computes, between arms that share a deviation per seed."""
    needs, truth = RULES[kind]
    here = paired_arms(MEANS, n, 0.4)
    values = computed(claim_of(kind=kind, **needs), here, paired_arms(PARTNERS, n, 0.4, seed=1), here["sam"])
    assert covered(values, truth)


@pytest.mark.parametrize("n", SEEDS)
def test_the_interval_of_a_cell_covers(n: int) -> None:
    assert covered(normal(n, 93.0), 93.0)


def covered(values: Values, truth: float) -> bool:
    """Whether 95% of the intervals have the truth, give or take three standard errors."""
    intervals = [mean_interval(each) for each in values]
    rate = np.mean([interval.low <= truth <= interval.high for interval in intervals])
    return bool(abs(rate - 0.95) <= bound(0.05) - 0.05)


LATE = claim_of(kind="share", reference={"ascent": "sam"}, share=0.8)
RIVAL = claim_of(kind="early-stopping")


@pytest.mark.parametrize("n", SEEDS)
@pytest.mark.parametrize("part", [0.8, 1.0])
def test_a_share_that_is_there_is_seldom_denied(n: int, part: float) -> None:
    """SAM gains 0.8 points, so that all of it is 0.16 above the claimed share: less than any usual margin."""
    here = paired_arms(MEANS | {"sam": 90.8, "late": 90 + 0.8 * part}, n, 0.1)
    found = verdicts(LATE, computed(LATE, here, here, here["sam"]))
    assert share(found, "not-reproduced", "reversed") <= bound(ALPHA / 2)
    if part == 0.8:
        assert share(found, "reproduced") <= bound(ALPHA / 2)


@pytest.mark.parametrize("n", SEEDS)
@pytest.mark.parametrize("left", [0.5, 0.0])
def test_early_stopping_that_explains_a_gain_is_seldom_denied(n: int, left: float) -> None:
    """SAM gains 0.8 points at the last epoch, and half of it, or nothing, early-stopped."""
    here = paired_arms(MEANS | {"sam": 90.8, "early sgd": 92, "early sam": 92 + 0.8 * left}, n, 0.1)
    found = verdicts(RIVAL, computed(RIVAL, here, here, here["early sam"]))
    assert share(found, "not-reproduced", "reversed") <= bound(ALPHA / 2)
    if left:
        assert share(found, "reproduced") <= bound(ALPHA / 2)


STUDIES = 120
"""Whole studies per case."""

CHANCE = replace(WRN, classes=10, source_images=50_000)


def judged(
    claims: list[ClaimSpec], row: RowInfo, arms: dict[str, float], *, n: int, collapse: str = "", studies: int = STUDIES
) -> list[set[str]]:
    """The verdicts of whole studies, of one row with the methods ``arms``; runs of ``collapse`` may end at chance."""
    drawn = drawn_studies(row, arms, n, collapse, studies)
    return [{j.outcomes[0].verdict for j in judge(claims, runs, tables)} for runs, tables in drawn]


def drawn_studies(
    row: RowInfo, arms: dict[str, float], n: int, collapse: str, studies: int
) -> Iterator[tuple[pd.DataFrame, dict[str, TableInfo]]]:
    rng = np.random.default_rng([n, len(arms)])
    table = make_table("t", {("d", row.model): row}, methods=tuple(arms), seeds=n, m=32)
    late = MethodInfo(options={"rho_start": 0.9})
    table = replace(table, method_info=dict(table.method_info) | {name: late for name in arms if name == "sam-rho2"})
    runs = make_runs(table, dict.fromkeys(arms, 0.9))
    means = runs["method"].map(arms).to_numpy()
    for _ in range(studies):
        accuracy = means + 0.01 * rng.normal(size=n)[runs["seed"]] + rng.normal(0, 0.004, len(runs))
        broken = (runs["method"] == collapse).to_numpy() & (rng.random(len(runs)) < COLLAPSED)
        accuracy = np.where(broken, 0.1, accuracy)
        trained = np.where(broken, 0.1, 0.99)
        yield (
            runs.assign(test_accuracy=accuracy, test_error=1 - accuracy, train_accuracy=trained, collapsed=0),
            {"t": table},
        )


def rate(found: list[set[str]], *wanted: str) -> float:
    """The share of studies with any of these verdicts."""
    return sum(bool(verdicts & set(wanted)) for verdicts in found) / len(found)


@pytest.mark.parametrize("collapse", ["", "sgd", "sam"])
def test_whole_studies_without_an_effect(collapse: str) -> None:
    """Through the choice of methods, the search for collapsed runs, and the verdict on what they leave."""
    found = judged([claim_of(1.0)], CHANCE, {"sgd": 0.9, "sam": 0.9}, n=7, collapse=collapse)
    assert rate(found, *AGREE) <= bound(ALPHA, STUDIES)


def test_whole_studies_of_a_share_of_nothing() -> None:
    """Neither has a gain, so that nothing is said of its share: an obstacle that only whole studies meet."""
    claim = claim_of(
        kind="share", treatment={"ascent": "sam", "options": {"rho_start": 0.9}}, reference={"ascent": "sam"}, share=0.8
    )
    found = judged([claim], CHANCE, {"sgd": 0.9, "sam": 0.9, "sam-rho2": 0.9}, n=5)
    assert rate(found, "reproduced", "not-reproduced", "reversed") <= bound(ALPHA / 2, STUDIES)


def test_whole_studies_of_a_share_that_is_there() -> None:
    claim = claim_of(
        kind="share", treatment={"ascent": "sam", "options": {"rho_start": 0.9}}, reference={"ascent": "sam"}, share=0.8
    )
    found = judged([claim], CHANCE, {"sgd": 0.9, "sam": 0.92, "sam-rho2": 0.92}, n=5)
    assert rate(found, "not-reproduced", "reversed") <= bound(ALPHA / 2, STUDIES)


def test_whole_studies_with_six_primary_claims_err_in_one_of_twenty() -> None:
    """Six claims on the pairs of three methods that are all alike, adjusted by `judge` itself."""
    pairs = [("sam", "none"), ("asam", "none"), ("sam", "asam")]
    claims = [
        claim_of(name=f"{a}-{b}-{side}", treatment={"ascent": a}, baseline={"ascent": b}, direction=side, margin=0.1)
        for a, b in pairs
        for side in ("higher", "lower")
    ]
    claims = [claim.model_copy(update={"primary": True}) for claim in claims]
    found = judged(claims, NOISY, {"sgd": 0.9, "sam": 0.9, "asam": 0.9}, n=5, studies=100)
    assert rate(found, *AGREE, "reversed") <= bound(ALPHA, 100)


@pytest.mark.parametrize("n", SEEDS)
def test_an_effect_is_found_as_often_as_the_power_says(n: int) -> None:
    """So that the bounds above are not those of a rule that never decides."""
    t = stats.t.ppf(1 - ALPHA / 2, n - 1)
    power = stats.nct.sf(t, n - 1, 2 * np.sqrt(n))
    assert share(verdicts(claim_of(None, margin=0.5), normal(n, 2.0)), "reproduced") == pytest.approx(power, abs=0.015)
