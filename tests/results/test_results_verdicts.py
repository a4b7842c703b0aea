"""Each verdict in turn, on runs whose differences are set exactly; fidelity from the departures."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from synthetic import DIGITS, NOISY, WRN, make_runs, make_study, make_table

from flatmin.results.claim_files import facts, measured_text
from flatmin.results.claim_spec import ClaimSpec, load_claims
from flatmin.results.claims import Outcome, judge
from flatmin.results.inputs import MEASURED, RowInfo, TableInfo, measured
from flatmin.results.verdicts import decide, weigh

CELL = ("cifar10", "wrn28_10")
CLAIM = "sam-t1-cifar-10-wrn-28-10-200ep-basic"
HELD_OUT = {"source_images": 50_000, "validation_fraction": 0.1}
ACCURACY = {"sgd": 0.964, "sgd-2x": 0.96, "sam": 0.97, "asam": 0.97, "sam-rho2": 0.6}


@pytest.fixture(scope="module")
def claims(claims_path: Path) -> dict[str, ClaimSpec]:
    return {claim.id: claim for claim in load_claims(claims_path)}


def outcome_of(
    claim: ClaimSpec,
    gaps: Sequence[float],
    row: RowInfo = WRN,
    *,
    diverged: int = 0,
    methods: Sequence[str] = ("sgd", "sgd-2x", "sam"),
    treatment: str = "sam",
    m: int | None = 32,
) -> Outcome:
    """The claim on one row in which the treatment's differences from sgd are ``gaps`` points."""
    table = make_table("t", {CELL: row}, methods=methods, seeds=len(gaps), m=m)
    runs = make_runs(table, ACCURACY, gaps={treatment: [gap / 100 for gap in gaps]})
    runs.loc[(runs["method"] == treatment) & (runs["seed"] < diverged), "diverged"] = 1
    head = judge([claim], measured(runs), {"t": table})[0].headline
    assert head is not None
    return head


@pytest.mark.parametrize(
    ("gaps", "verdict"),
    [
        ([0.7, 0.9, 0.8, 0.75, 0.85], "reproduced"),
        ([0.3, 0.35, 0.25, 0.3, 0.28], "reproduced-smaller"),
        ([1.9, 2.1, 2.0, 2.05, 1.95], "reproduced-larger"),
        ([0.05, -0.05, 0.02, -0.04, 0.01], "not-reproduced"),
        ([-0.7, -0.9, -0.8, -0.75, -0.85], "reversed"),
        ([1.5, -0.9, 0.8, 0.2, -0.4], "inconclusive"),
        ([0.8], "inconclusive"),
    ],
)
def test_each_verdict(claims: dict[str, ClaimSpec], gaps: list[float], verdict: str) -> None:
    found = outcome_of(claims[CLAIM], gaps)
    assert found.verdict == verdict
    assert found.fidelity == "exact"
    assert found.label == verdict
    assert found.departures == ()


def test_inconclusive_says_how_many_more_seeds(claims: dict[str, ClaimSpec]) -> None:
    found = outcome_of(claims[CLAIM], [1.5, -0.9, 0.8, 0.2, -0.4])
    assert found.more_seeds is not None
    assert found.more_seeds >= 1
    assert outcome_of(claims[CLAIM], [0.7, 0.9, 0.8, 0.75, 0.85]).more_seeds is None


def test_not_run_without_a_row(claims: dict[str, ClaimSpec]) -> None:
    table = make_table("t", {CELL: replace(WRN, source="cifar100")})
    judged = judge([claims[CLAIM]], measured(make_runs(table, ACCURACY)), {"t": table})
    assert judged[0].label == "not-run"


def test_missing_method_is_not_run(claims: dict[str, ClaimSpec]) -> None:
    table = make_table("t", {CELL: WRN}, methods=("sgd", "asam"))
    judged = judge([claims[CLAIM]], measured(make_runs(table, ACCURACY)), {"t": table})
    assert judged[0].outcomes == ()


def test_a_diverged_run_counts_and_sign_flips_decide(claims: dict[str, ClaimSpec]) -> None:
    gaps = [-60.0, 0.9, 0.8, 0.75, 0.85]
    found = outcome_of(claims[CLAIM], gaps, diverged=1)
    assert found.diverged == 1
    assert found.evidence.test == "sign-flip"
    assert found.measured.mean == pytest.approx(sum(gaps) / 5)
    assert found.verdict == "inconclusive"
    assert "cannot fall below 0.062" in found.remark
    six = outcome_of(claims[CLAIM], [0.7, 0.9, 0.8, 0.75, 0.85, 0.8], diverged=1)
    assert six.evidence.p == pytest.approx(2 / 2**6)
    assert six.verdict == "inconclusive"
    assert "failures alone reproduce no claim" in six.remark
    seven = outcome_of(claims[CLAIM], [0.7, 0.9, 0.8, 0.75, 0.85, 0.8, 0.9], diverged=1)
    assert seven.evidence.sound == pytest.approx(1 / 2**6)
    assert seven.verdict == "reproduced"


def test_a_claim_of_failures_is_reproduced_by_them(claims: dict[str, ClaimSpec]) -> None:
    claim, gaps = claims["guide-rho-above-1-unstable"], [-80.0, -82, -81, -79, -80, -83]
    found = outcome_of(claim, gaps, diverged=6, methods=("sgd", "sam", "sam-rho2"), treatment="sam-rho2")
    assert found.verdict == "reproduced"
    doubtful = claim.model_copy(update={"rule": claim.rule.model_copy(update={"failures": "doubtful"})})
    found = outcome_of(doubtful, gaps, diverged=6, methods=("sgd", "sam", "sam-rho2"), treatment="sam-rho2")
    assert found.verdict == "inconclusive"


def test_the_better_baseline_is_chosen_by_mean(claims: dict[str, ClaimSpec]) -> None:
    table = make_table("t", {CELL: WRN}, m=32)
    runs = make_runs(table, ACCURACY | {"sgd-2x": 0.975, "sam": 0.97})
    head = judge([claims[CLAIM]], measured(runs), {"t": table})[0].headline
    assert head is not None
    assert head.baseline == "sgd-2x"
    assert head.verdict == "reversed"


@pytest.mark.parametrize(
    ("change", "fidelity", "words"),
    [
        ({"model": "cifar_cnn"}, "same-data", "model cifar_cnn instead of WRN-28-10"),
        ({"batch_size": 128}, "same-data", "batch size 128 instead of 256"),
        ({"train_size": 5000, "model": "cifar_cnn"}, "reduced", "5,000 training images instead of all"),
        ({"train_size": 5000, "source_images": 50_000}, "reduced", "5,000 of 50,000 training images"),
        (HELD_OUT, "exact", "45,000 of 50,000 training images (10% held out for validation; the paper does not say"),
        (HELD_OUT | {"validation_fraction": 0.2}, "reduced", "40,000 of 50,000 training images (20% held out"),
        ({"epochs": 30}, "reduced", "30 epochs instead of 200"),
        ({"source": "digits"}, "proxy", "data digits instead of cifar10"),
        ({"lr": "selected"}, "exact", ""),
        ({"lr": 0.05}, "same-data", "lr 0.05 instead of 0.1"),
    ],
)
def test_fidelity_follows_from_departures(
    claims: dict[str, ClaimSpec], change: dict[str, object], fidelity: str, words: str
) -> None:
    found = outcome_of(claims[CLAIM], [0.7, 0.9, 0.8, 0.75, 0.85], replace(WRN, **change))  # type: ignore[arg-type]
    assert found.fidelity == fidelity
    assert words in "; ".join(found.departures)
    assert found.label == {
        "exact": "reproduced",
        "proxy": "direction agrees (proxy)",
    }.get(fidelity, f"reproduced ({fidelity})")


def test_departures_of_method_and_protocol(claims: dict[str, ClaimSpec]) -> None:
    gaps = [0.7, 0.9, 0.8, 0.75, 0.85]
    whole = outcome_of(claims[CLAIM], gaps, m=None)
    assert whole.departures == ("ascent over m = 256 images instead of 32",)
    once = outcome_of(claims[CLAIM], gaps, methods=("sgd", "sam"))
    assert once.departures == ("baseline trained for 200 epochs at most instead of 400",)


def test_the_callers_departures_count(claims: dict[str, ClaimSpec]) -> None:
    table = make_table("t", {CELL: WRN}, m=32, departures={CELL: ["clipping at 1"]})
    head = judge([claims[CLAIM]], measured(make_runs(table, ACCURACY)), {"t": table})[0].headline
    assert head is not None
    assert head.fidelity == "same-data"
    assert head.departures == ("clipping at 1",)


@pytest.mark.parametrize(
    ("gaps", "label"),
    [
        ([40.0, 41, 42, 43, 44], "direction agrees (proxy)"),
        ([-4.0, -5, -4, -5, -4], "direction disagrees (proxy)"),
        ([1.0, -1, 2, -2, 0.5], "direction unclear (proxy)"),
        ([0.01, -0.01, 0.02, -0.02, 0.01], "direction unclear (proxy)"),
    ],
)
def test_digits_at_sixty_percent_noise_are_a_proxy_of_table_4(
    claims: dict[str, ClaimSpec], gaps: list[float], label: str
) -> None:
    found = outcome_of(claims["sam-t4-noise60"], gaps, NOISY)
    assert found.fidelity == "proxy"
    assert found.label == label


@pytest.mark.parametrize(
    ("gaps", "label"),
    [
        ([0.01, -0.01, 0.02, -0.02, 0.01], "reproduced"),
        ([-2.0, -2.1, -1.9, -2, -2.05], "reproduced"),
        ([2.0, 2.1, 1.9, 2, 2.05], "not-reproduced"),
        ([0.3, 1.9, -0.9, 1.0, -0.2], "inconclusive"),
    ],
)
def test_a_claim_of_no_benefit(claims: dict[str, ClaimSpec], gaps: list[float], label: str) -> None:
    row = replace(DIGITS, source="mnist")
    assert outcome_of(claims["guide-simple-data-no-benefit"], gaps, row).label == label


def test_no_benefit_asks_for_a_small_network(claims: dict[str, ClaimSpec]) -> None:
    row = replace(DIGITS, source="mnist", parameters=36_500_000)
    with pytest.raises(AssertionError):
        outcome_of(claims["guide-simple-data-no-benefit"], [0.1, 0.2, 0.3], row)


@pytest.mark.parametrize(
    ("gaps", "verdict"),
    [([-40.0, -42, -41, -39, -40], "reproduced"), ([-2.0, -2.2, -1.9, -2, -2], "not-reproduced")],
)
def test_a_threshold_must_be_exceeded(claims: dict[str, ClaimSpec], gaps: list[float], verdict: str) -> None:
    claim = claims["guide-rho-above-1-unstable"]
    found = outcome_of(claim, gaps, methods=("sgd", "sam", "sam-rho2"), treatment="sam-rho2")
    assert found.treatment == "sam-rho2"
    assert found.verdict == verdict


def test_twice_the_gradients_is_counted_even_with_one_seed(claims: dict[str, ClaimSpec]) -> None:
    found = outcome_of(claims["guide-cost-2x"], [0.5])
    assert found.measured.mean == 2
    assert found.label == "reproduced (by construction, in this instance)"
    assert "no finding" in found.remark


def test_a_count_at_the_edge_of_its_margin_is_within_it(claims: dict[str, ClaimSpec]) -> None:
    """1.5 - 1.4 is more than 0.1 by a rounding error, which must not decide."""
    rule = claims["guide-cost-2x"].rule.model_copy(update={"target": 1.4, "margin": 0.1})
    claim = claims["guide-cost-2x"].model_copy(update={"rule": rule})
    evidence = weigh(claim, np.full(3, 1.5 - 1.4))
    assert 1.5 - 1.4 > 0.1
    assert decide(claim, evidence, evidence.p) == "reproduced"
    assert math.isnan(evidence.p)


def test_one_seed_is_no_count_of_what_varies(claims: dict[str, ClaimSpec]) -> None:
    evidence = weigh(claims["guide-sharpness-is-gradient-norm"], np.array([0.0]))
    assert decide(claims["guide-sharpness-is-gradient-norm"], evidence, evidence.p) == "inconclusive"


@pytest.mark.parametrize(
    ("ratios", "verdict"),
    [
        ([1.11, 1.07, 1.15, 1.06, 1.16], "inconclusive"),  # the interval lies across 1.1
        ([1.31, 1.27, 1.35, 1.26, 1.36], "not-reproduced"),
        ([0.71, 0.67, 0.75, 0.66, 0.76], "not-reproduced"),
        ([1.03, 1.05, 1.06, 1.02, 1.04], "reproduced"),  # not 1, and within the margin
    ],
)
def test_sameness_is_refuted_beyond_the_margin_alone(
    claims: dict[str, ClaimSpec], ratios: list[float], verdict: str
) -> None:
    claim = claims["guide-sharpness-is-gradient-norm"]
    evidence = weigh(claim, np.array(ratios) - 1)
    assert decide(claim, evidence, evidence.p) == verdict


def test_holm_makes_a_claim_of_sameness_open(claims: dict[str, ClaimSpec]) -> None:
    claim = claims["looksam-keeps-accuracy"]
    evidence = weigh(claim, np.array([0.1, -0.3, 0.2, 0.15, -0.1]))
    assert evidence.p == evidence.equivalence < 0.05
    assert decide(claim, evidence, evidence.p) == "reproduced"
    assert decide(claim, evidence, 0.06) == "inconclusive"


def test_a_part_of_a_small_gain_is_not_refuted_for_being_small(claims: dict[str, ClaimSpec]) -> None:
    """All of a gain of 0.8 points is 0.16 above four fifths of it, within any margin that would suit a difference."""
    claim = claims["critics-late-sam-suffices"]
    assert claim.margin is None
    evidence = weigh(claim, np.array([0.3, 0.05, 0.2, 0.35, -0.1]))
    assert decide(claim, evidence, evidence.p) == "inconclusive"
    evidence = weigh(claim, np.array([-0.3, -0.25, -0.2, -0.35, -0.3]))
    assert decide(claim, evidence, evidence.p) == "not-reproduced"


def test_no_size_is_judged_against_a_number_without_spread(claims: dict[str, ClaimSpec]) -> None:
    found = outcome_of(claims["port-cifar-10-wrn-16-8-sam"], [5.0, 5.1, 4.9, 5.0, 5.05], replace(WRN, model="wrn16_8"))
    assert found.verdict == "reproduced"
    assert math.isnan(found.evidence.size)
    assert "without a spread" in found.remark


def test_a_failing_treatment_alone_is_no_lack_of_benefit(claims: dict[str, ClaimSpec]) -> None:
    claim, failed = claims["looksam-keeps-accuracy"], np.array([True] * 6 + [False] * 6)
    evidence = weigh(claim, np.array([-80.0] * 6 + [0.9, 1.0, 1.1, 0.8, 1.0, 0.9]), failed)
    assert evidence.rests_on_failures
    assert decide(claim, evidence, evidence.p) == "inconclusive"


def test_a_proxy_is_not_promised_what_seeds_cannot_give(claims: dict[str, ClaimSpec]) -> None:
    """Near zero, more seeds would show equivalence, of which a proxy can say nothing."""
    claim, values = claims["sam-t4-noise60"], np.array([2.0, -1.5, 1.0, -2.5, 1.2])
    assert weigh(claim, values).seeds_to_decide is not None
    assert weigh(claim, values, proxy=True).seeds_to_decide is None
    assert outcome_of(claim, list(values), NOISY).more_seeds is None


def test_the_runs_behind_an_outcome_are_named(claims: dict[str, ClaimSpec]) -> None:
    runs, tables = make_study()
    by_id = {j.claim.id: j.outcomes[0] for j in judge(list(claims.values()), measured(runs), tables) if j.outcomes}
    place = ("table1", "cifar10", "wrn28_10")
    assert by_id[CLAIM].arms == ((*place, "sam"), (*place, "sgd-2x"))
    assert {arm[3] for arm in by_id["guide-flat-generalizes"].arms} == {"sgd", "sgd-2x", "sam", "asam"}
    assert {arm[3] for arm in by_id["guide-sharpness-is-gradient-norm"].arms} == {"sam"}


def test_early_stopping_takes_most_of_the_gap(claims: dict[str, ClaimSpec]) -> None:
    runs, tables = make_study()
    claim = claims["critics-early-stopping"]
    head = judge([claim], measured(runs), tables)[0].headline
    assert head is not None
    assert head.dataset == "digits-noise60"
    assert head.verdict == "reproduced"
    assert head.details["last_epoch_gap"] == pytest.approx(43, abs=2)
    assert head.details["early_stopped_gap"] == pytest.approx(6, abs=2)


def test_without_a_gap_there_is_nothing_to_explain(claims: dict[str, ClaimSpec]) -> None:
    found = outcome_of(claims["critics-early-stopping"], [-1.0, 0.5, 0.2, -0.3, 0.1], NOISY)
    assert found.verdict == "inconclusive"
    assert "nothing to explain" in found.remark


def test_sharpness_is_lower_and_goes_with_error(claims: dict[str, ClaimSpec]) -> None:
    runs, tables = make_study()
    lower, flat = judge([claims["guide-sharpness-lower"], claims["guide-flat-generalizes"]], measured(runs), tables)
    assert {o.verdict for o in lower.outcomes} == {"reproduced"}
    assert all(o.measured.mean < 0 for o in lower.outcomes)
    assert all(-1 <= o.measured.mean <= 1 for o in flat.outcomes)
    assert all("mean_tau_within_methods" in o.details for o in flat.outcomes)
    assert "in 3 of 3 instances" in lower.label


def test_four_methods_cannot_decide_a_correlation(claims: dict[str, ClaimSpec]) -> None:
    runs, tables = make_study()
    claim = claims["guide-flat-generalizes"]
    for outcome in judge([claim], measured(runs), tables)[0].outcomes:
        assert outcome.verdict == "inconclusive"
        assert outcome.evidence.p >= 1 / 12
        assert math.isnan(outcome.measured.half_width)
        assert outcome.more_seeds is None
        assert "4 methods cannot fall below 0.083" in outcome.remark
        assert "95% interval" not in measured_text(outcome)
        assert "within methods" in measured_text(outcome)


@pytest.mark.parametrize(("slope", "verdict"), [(1, "reproduced"), (-1, "reversed")])
def test_five_methods_in_order_decide_a_correlation(claims: dict[str, ClaimSpec], slope: int, verdict: str) -> None:
    table = make_table("t", {CELL: WRN}, methods=tuple(ACCURACY), seeds=2)
    runs = make_runs(table, {name: 0.9 - slope * 0.05 * i for i, name in enumerate(ACCURACY)})
    runs["sharpness_n_step"] = runs["method"].map({name: float(i) for i, name in enumerate(ACCURACY)})
    found = judge([claims["guide-flat-generalizes"]], measured(runs), {"t": table})[0].outcomes[0]
    assert found.evidence.p == pytest.approx(1 / 60)
    assert found.verdict == verdict


def test_correlated_seeds_of_unrelated_methods_are_no_evidence(claims: dict[str, ClaimSpec]) -> None:
    methods = tuple(ACCURACY)
    table = make_table("t", {CELL: WRN}, methods=methods, seeds=5)
    runs = make_runs(table, dict(zip(methods, (0.9, 0.8, 0.85, 0.75, 0.88), strict=True)), spread=1e-4)
    runs["sharpness_n_step"] = runs["method"].map(dict(zip(methods, (1.0, 3.0, 4.0, 2.0, 5.0), strict=True)))
    found = judge([claims["guide-flat-generalizes"]], measured(runs), {"t": table})[0].outcomes[0]
    assert found.verdict == "inconclusive"


@pytest.mark.parametrize("claim", ["guide-sharpness-lower", "guide-flat-generalizes"])
def test_a_run_without_a_finite_sharpness_leaves_the_claim_open(claims: dict[str, ClaimSpec], claim: str) -> None:
    runs, tables = make_study()
    runs.loc[(runs["method"] == "sam") & (runs["seed"] == 3), ["sharpness_n_step", "diverged"]] = [math.nan, 1]
    for found in judge([claims[claim]], measured(runs), tables)[0].outcomes:
        assert found.unmeasured == 1
        assert found.verdict == "inconclusive"
        assert "1 run without a finite sharpness" in "; ".join(facts(found))
        assert found.more_seeds is None


def test_the_rival_explanation_is_attributed_to_this_project(claims: dict[str, ClaimSpec]) -> None:
    claim = claims["critics-early-stopping"]
    assert claim.paper.startswith("flatmin")
    assert "http" not in claim.source


def test_the_two_gaps_are_printed_before_what_is_computed_from_them(claims: dict[str, ClaimSpec]) -> None:
    runs, tables = make_study()
    text = measured_text(judge([claims["critics-early-stopping"]], measured(runs), tables)[0].outcomes[0])
    assert re.match(
        r"gap \+4\d\.\d\d at the last epoch, \+6\.\d\d early-stopped; half the former minus the latter: ", text
    )


def test_equal_gaps_are_judged_by_sign_flips(claims: dict[str, ClaimSpec]) -> None:
    found = outcome_of(claims["critics-early-stopping"], [20.0, 20.0, 20.0], NOISY)
    assert found.details["last_epoch_gap_p"] == 2 / 2**3
    assert found.verdict == "inconclusive"


@pytest.mark.parametrize(
    ("gaps", "verdict"),
    [
        ([0.01, -0.01, 0.02, -0.02, 0.01], "reproduced"),
        ([-2.0, -2.1, -1.9, -2, -2.05], "not-reproduced"),
        ([2.0, 2.1, 1.9, 2, 2.05], "not-reproduced"),
    ],
)
def test_no_effect_is_refuted_in_both_directions(claims: dict[str, ClaimSpec], gaps: list[float], verdict: str) -> None:
    rule = claims["guide-simple-data-no-benefit"].rule.model_copy(update={"kind": "no-effect"})
    claim = claims["guide-simple-data-no-benefit"].model_copy(update={"rule": rule})
    assert outcome_of(claim, gaps, replace(DIGITS, source="mnist")).verdict == verdict


def test_holm_makes_no_effect_out_of_no_significance(claims: dict[str, ClaimSpec]) -> None:
    claim = claims[CLAIM]
    evidence = weigh(claim, np.array([0.1, 0.2, 0.15, 0.12, 0.18]))
    assert evidence.p < 0.05
    assert evidence.equivalence < 0.05
    assert decide(claim, evidence, 0.2) == "inconclusive"


def test_with_a_diverged_run_no_size_is_judged(claims: dict[str, ClaimSpec]) -> None:
    gaps = [0.2, 0.25, 0.2, 0.22, 0.2, 0.21, 0.2]
    assert outcome_of(claims[CLAIM], gaps).verdict == "reproduced-smaller"
    assert outcome_of(claims[CLAIM], gaps, diverged=1).verdict == "reproduced"


def test_no_forecast_of_fewer_seeds_than_there_are(claims: dict[str, ClaimSpec]) -> None:
    claim = claims["asam-cifar-10-wrn-28-10-sam-sgd"]
    found = outcome_of(claim, [0.7, 0.9, 0.8, 0.75, 0.85])
    open_one = replace(found, verdict="inconclusive")
    few, many = (replace(open_one, evidence=replace(found.evidence, seeds_to_decide=n)) for n in (3, 8))
    assert few.more_seeds is None
    assert many.more_seeds == 3
    assert replace(many, p_holm=min(1.0, 2 * found.evidence.p)).more_seeds is None
    assert replace(many, p_holm=found.evidence.p).more_seeds == 3


def test_the_means_beside_a_difference_are_over_the_paired_seeds(claims: dict[str, ClaimSpec]) -> None:
    table = make_table("t", {CELL: WRN}, m=32, methods=("sgd", "sam"))
    runs = make_runs(table, ACCURACY)
    runs = runs[~((runs["method"] == "sgd") & (runs["seed"] == 0))]
    head = judge([claims[CLAIM]], measured(runs), {"t": table})[0].outcomes[0]
    assert head.details["treatment_mean"] - head.details["baseline_mean"] == pytest.approx(head.measured.mean)


def test_a_general_claim_counts_its_instances(claims: dict[str, ClaimSpec]) -> None:
    rows = {CELL: WRN, ("small", "wrn28_10"): replace(WRN, train_size=500)}
    table = make_table("t", rows, m=32)
    runs = make_runs(table, ACCURACY)
    runs.loc[(runs["dataset"] == "small") & (runs["method"] == "sam"), "sharpness_n_step"] = 9.0
    judged = judge([claims["guide-sharpness-lower"]], measured(runs), {"t": table})[0]
    assert judged.label == "reproduced in 1 of 2 instances, reversed in 1 (reduced)"
    first, second = judged.outcomes
    assert second.label == "reversed (reduced, in this instance)"
    assert "not adjusted" in "; ".join(facts(second))
    assert "not adjusted" not in "; ".join(facts(first))


def test_holm_covers_the_primary_headlines_only(claims: dict[str, ClaimSpec]) -> None:
    runs, tables = make_study()
    judged = judge(list(claims.values()), measured(runs), tables)
    adjusted = [o for j in judged for o in j.outcomes if o.p_holm is not None]
    assert adjusted
    assert all(o.claim.primary and o.p_holm >= o.evidence.p for o in adjusted if o.p_holm is not None)
    smallest = min(adjusted, key=lambda o: o.evidence.p)
    assert smallest.p_holm == pytest.approx(len(adjusted) * smallest.evidence.p)


def test_holm_can_undo_a_verdict(claims: dict[str, ClaimSpec]) -> None:
    gaps = [0.1, 0.9, 0.5, 1.5, 0.4]  # p = 0.04 alone
    noisy = claims["sam-t4-noise60"]
    table = make_table("t", {CELL: WRN}, m=32, methods=("sgd", "sgd-2x", "sam"))
    other = make_table("u", {("n", "r"): replace(WRN, noise_kind="symmetric", noise_rate=0.6)}, methods=("sgd", "sam"))
    runs = make_runs(table, ACCURACY, gaps={"sam": [gap / 100 for gap in gaps]})
    more = make_runs(other, ACCURACY, gaps={"sam": [0.01, -0.012, 0.008, -0.011, 0.01]})
    alone = judge([claims[CLAIM]], measured(runs), {"t": table})[0].outcomes[0]
    assert 0.025 < alone.evidence.p < 0.05
    assert alone.verdict.startswith("reproduced")
    frame = measured(pd.concat([runs, more]))
    both = judge([claims[CLAIM], noisy], frame, {"t": table, "u": other})[0].outcomes[0]
    assert both.verdict == "inconclusive"


def test_the_treatment_is_the_one_nearest_to_the_published_rho(claims: dict[str, ClaimSpec]) -> None:
    methods = ("sgd", "sam-rho2", "sam")
    found = outcome_of(claims[CLAIM], [0.7, 0.9, 0.8, 0.75, 0.85], methods=methods)
    assert found.treatment == "sam"


def test_without_a_published_rho_the_tuned_method_is_taken(claims: dict[str, ClaimSpec]) -> None:
    methods = ("sgd", "sam-rho2", "sam")
    found = outcome_of(claims["guide-sharpness-lower"], [0.7, 0.9, 0.8, 0.75, 0.85], methods=methods)
    assert found.treatment == "sam"


def test_none_is_read_as_not_measured() -> None:
    table = make_table("t", {CELL: WRN})
    runs = make_runs(table, ACCURACY)
    runs["rho"] = runs["rho"].astype(object).where(runs["rho"] > 0, None)
    runs["sharpness_n_step"] = runs["sharpness_n_step"].astype(object).where(runs["seed"] > 0, None)
    runs.loc[0, "test_accuracy"] = None
    finished = measured(runs)
    assert len(finished) == len(runs) - 1
    assert finished["sharpness_n_step"].isna().sum() == 3
    assert finished["rho"].dtype == float


def test_a_run_given_twice_is_refused() -> None:
    table: TableInfo = make_table("t", {CELL: WRN})
    runs = make_runs(table, ACCURACY)
    with pytest.raises(ValueError, match="more than one run"):
        measured(pd.concat([runs, runs.head(1)]))
    with pytest.raises(ValueError, match=MEASURED[0]):
        measured(runs.drop(columns=MEASURED[0]))
