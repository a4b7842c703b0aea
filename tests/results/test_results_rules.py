"""Rules that compare more than two methods of a row; collapsed runs; further test sets; why a claim is not run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from synthetic import NOISY, WRN, make_runs, make_table

from flatmin.results.claim_files import measured_text
from flatmin.results.claim_spec import ClaimsError, ClaimSpec, load_claims
from flatmin.results.claims import Judged, Outcome, judge
from flatmin.results.contrasts import slope_weights
from flatmin.results.inputs import MethodInfo, RowInfo, TableInfo, measured

CELL = ("cifar10", "wrn28_10")
ASCENTS = {"sgd": "none", "random": "random", "late": "sam"}
ACCURACY = {"sgd": 0.90, "sam": 0.94}


@pytest.fixture(scope="module")
def claims(claims_path: Path) -> dict[str, ClaimSpec]:
    return {claim.id: claim for claim in load_claims(claims_path)}


def row_of(
    accuracy: Mapping[str, float],
    info: Mapping[str, MethodInfo] | None = None,
    *,
    row: RowInfo = WRN,
    name: str = "t",
    seeds: int = 5,
    spread: float = 1e-3,
) -> tuple[pd.DataFrame, TableInfo]:
    """One row of methods, whose ascent is SAM unless their name says otherwise, with deviations of 0.03 points."""
    table = make_table(name, {CELL: row}, methods=["sgd"], seeds=seeds)
    known = {method: (info or {}).get(method, MethodInfo()) for method in accuracy}
    table = replace(table, methods=tuple(accuracy), method_info=known, baseline=("sgd",))
    rng = np.random.default_rng([5, *name.encode()])
    base = make_runs(replace(table, methods=("sgd",)), {"sgd": accuracy["sgd"]}, spread=spread)
    parts = []
    for method, mean in accuracy.items():
        values = base["test_accuracy"] + mean - accuracy["sgd"] + rng.normal(0, 3e-4, seeds)
        ascent = ASCENTS.get(method.split("-")[0], "sam")
        change = {"method": method, "ascent": ascent, "rho": 0.0 if ascent == "none" else 0.1, "tuned": "not tuned"}
        parts.append(base.assign(**change, test_accuracy=values, test_error=1 - values, run_id=f"{name}.{method}"))
    return pd.concat(parts, ignore_index=True), table


def judged(claim: ClaimSpec, *rows: tuple[pd.DataFrame, TableInfo], shifts: pd.DataFrame | None = None) -> Judged:
    runs = measured(pd.concat([frame for frame, _ in rows], ignore_index=True))
    return judge([claim], runs, {table.name: table for _, table in rows}, shifts=shifts)[0]


def headline(claim: ClaimSpec, *rows: tuple[pd.DataFrame, TableInfo]) -> Outcome:
    found = judged(claim, *rows).headline
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("late", "verdict"), [(0.939, "reproduced"), (0.932, "inconclusive"), (0.91, "not-reproduced")]
)
def test_a_share_of_the_gain(claims: dict[str, ClaimSpec], late: float, verdict: str) -> None:
    """SAM gains 4 points, of which 80% are 3.2: late SAM has 3.9, 3.2 or 1."""
    info = {"late": MethodInfo(options={"rho_start": 0.9})}
    found = headline(claims["critics-late-sam-suffices"], row_of({**ACCURACY, "late": late}, info))
    assert found.measured.mean == pytest.approx((late - 0.932) * 100, abs=0.1)
    assert found.verdict == verdict
    assert (found.treatment, found.baseline) == ("late", "sgd and sam")
    assert measured_text(found).startswith(f"gain +{(late - 0.9) * 100:.1f}"[:7])


def test_without_a_gain_there_is_nothing_to_have_a_share_of(claims: dict[str, ClaimSpec]) -> None:
    found = headline(claims["critics-random-does-not-help"], row_of({"sgd": 0.9, "sam": 0.9, "random": 0.9}))
    assert found.verdict == "inconclusive"
    assert "nothing to have a share of" in found.remark


def test_a_random_perturbation_without_the_gain(claims: dict[str, ClaimSpec]) -> None:
    row = row_of({**ACCURACY, "random": 0.905})
    assert headline(claims["critics-random-does-not-help"], row).verdict == "reproduced"


def test_a_slope_per_doubling_is_that_of_least_squares() -> None:
    places, values = np.array([16.0, 64, 256]), np.array([3.0, 1.0, 2.0])
    assert slope_weights(places) @ values == pytest.approx(np.polyfit(np.log2(places), values, 1)[0])
    assert slope_weights(np.array([32.0, 128])) @ np.array([5.0, 1.0]) == pytest.approx(-2)


def test_a_trend_runs_over_methods_that_differ_in_m_alone(claims: dict[str, ClaimSpec]) -> None:
    info = {
        "sam-32": MethodInfo(m=32),
        "sam-64": MethodInfo(m=64),
        "sam-on": MethodInfo(m=16, options={"only": "norm"}),
        "sam-lr": MethodInfo(m=16, training={"lr": 0.3}),
    }
    accuracy = {"sgd": 0.9, "sam": 0.91, "sam-64": 0.93, "sam-32": 0.94, "sam-on": 0.5, "sam-lr": 0.5}
    found = headline(claims["critics-smaller-m"], row_of(accuracy, info))
    assert found.treatment == "sam-32, sam-64, sam"  # the whole batch is 256
    slope = np.polyfit([5, 6, 8], [94, 93, 91], 1)[0]
    assert found.measured.mean == pytest.approx(slope, abs=0.1)
    assert found.verdict == "reproduced"
    assert "points per doubling of m" in measured_text(found)


def test_one_m_is_no_trend(claims: dict[str, ClaimSpec]) -> None:
    found = judged(claims["critics-smaller-m"], row_of(ACCURACY))
    assert found.label == "not-run"
    assert "that differ in m alone" in found.reason


def augmented(there: float, here: float) -> list[tuple[pd.DataFrame, TableInfo]]:
    """SAM's gain with basic augmentation and with cutout, on rows of two tables."""
    basic = row_of({"sgd": 0.90, "sam": 0.90 + there}, name="basic")
    cutout = row_of({"sgd": 0.95, "sam": 0.95 + here}, row=replace(WRN, augmentation="cutout"), name="cutout")
    return [basic, cutout]


def test_a_gain_that_shrinks_with_augmentation(claims: dict[str, ClaimSpec]) -> None:
    found = judged(claims["critics-gain-shrinks-with-augmentation"], *augmented(0.03, 0.01))
    (outcome,) = found.outcomes
    assert outcome.table == "cutout"
    assert outcome.measured.mean == pytest.approx(-2, abs=0.1)
    assert outcome.verdict == "reproduced"
    assert outcome.baseline == "sgd and basic: cifar10 / wrn28_10"
    assert not any("augmentation" in text for text in outcome.departures)
    assert judged(claims["critics-gain-shrinks-with-augmentation"], *augmented(0.01, 0.03)).label.startswith("reversed")


def test_a_partner_row_shares_all_else(claims: dict[str, ClaimSpec]) -> None:
    basic, cutout = augmented(0.03, 0.01)
    longer = (basic[0], replace(basic[1], rows={CELL: replace(WRN, epochs=100)}))
    found = judged(claims["critics-gain-shrinks-with-augmentation"], longer, cutout)
    assert found.label == "not-run"
    assert "here and on a row with augmentation basic" in found.reason


def test_sam_with_and_without_strong_augmentation(claims: dict[str, ClaimSpec]) -> None:
    found = headline(claims["guide-augmentation-and-sam"], *augmented(0.03, 0.01))
    assert found.measured.mean == pytest.approx(3, abs=0.1)
    assert found.verdict == "reproduced"


def test_two_measurements_of_the_same_runs(claims: dict[str, ClaimSpec]) -> None:
    runs, table = row_of(ACCURACY, row=NOISY)
    runs["early_test_accuracy"] = runs["test_accuracy"] + np.linspace(0.09, 0.11, len(runs))
    found = headline(claims["critics-sam-fits-noise-too"], (runs, table))
    assert (found.treatment, found.baseline) == ("sam", "")
    assert found.missing == 0
    assert found.measured.mean == pytest.approx(10.5, abs=0.6)
    assert found.label == "direction agrees (proxy)"  # on digits


def test_no_association_is_refuted_and_never_shown(claims: dict[str, ClaimSpec]) -> None:
    rule = claims["critics-modern-look-imagenet-vit"].rule.model_copy(update={"metric": "sharpness_n_step"})
    general = {"rule": rule, "setting": None, "published": None, "admissible": claims["guide-cost-2x"].admissible}
    claim = claims["critics-modern-look-imagenet-vit"].model_copy(update=general)
    accuracy = {"sgd": 0.90, "sam-a": 0.91, "sam-b": 0.92, "sam-c": 0.93, "sam-d": 0.94}
    runs, table = row_of(accuracy)
    for signs in ((1, 2, 3, 4, 5), (5, 4, 3, 2, 1)):
        runs["sharpness_n_step"] = runs["method"].map(dict(zip(accuracy, map(float, signs), strict=True)))
        assert headline(claim, (runs, table)).verdict == "not-reproduced"
    runs["sharpness_n_step"] = runs["method"].map(dict(zip(accuracy, (3.0, 1.0, 5.0, 2.0, 4.0), strict=True)))
    assert headline(claim, (runs, table)).verdict == "inconclusive"


def test_sharpness_is_held_against_its_first_order(claims: dict[str, ClaimSpec]) -> None:
    found = headline(claims["guide-sharpness-is-gradient-norm"], row_of(ACCURACY))
    assert found.measured.mean == pytest.approx(3)  # of the synthetic runs
    assert found.verdict == "not-reproduced"


def test_rho_is_matched_exactly(claims: dict[str, ClaimSpec]) -> None:
    claim = claims["sam-t8-noise60-rho01-rho005"]
    runs, table = row_of({"sgd": 0.9, "sam": 0.94, "sam-b": 0.92, "sam-c": 0.8}, row=NOISY)
    runs["rho"] = runs["method"].map({"sgd": 0.0, "sam": 0.1, "sam-b": 0.05, "sam-c": 0.2})
    found = headline(claim, (runs, table))
    assert (found.treatment, found.baseline) == ("sam", "sam-b")
    assert "published: trained again on the labels that a first model predicts" in found.departures


def test_mixup_is_meant_to_differ(claims: dict[str, ClaimSpec]) -> None:
    info = {"sgd-mixup": MethodInfo(training={"augmentation": "basic+mixup"})}
    runs, table = row_of({**ACCURACY, "sgd-mixup": 0.92}, info, row=replace(NOISY, source="cifar10"))
    found = headline(claims["sam-mixup-noise60"], (runs, table))
    assert (found.treatment, found.baseline) == ("sam", "sgd-mixup")
    assert not any("augmentation" in text for text in found.departures)


def test_a_collapsed_run_counts_as_it_is_and_sign_flips_decide(claims: dict[str, ClaimSpec]) -> None:
    """10 classes and 50,000 images: chance is 10% with a standard error of 0.13 points."""
    claim = claims["sam-t1-cifar-10-wrn-28-10-200ep-basic"]
    runs, table = row_of(ACCURACY, row=replace(WRN, classes=10, source_images=50_000), seeds=6)
    one = (runs["method"] == "sgd") & (runs["seed"] == 0)
    runs.loc[one, ["test_accuracy", "test_error", "train_accuracy"]] = [0.1, 0.9, 0.105]
    assert headline(claim, (runs, table)).evidence.test == "t"
    runs.loc[one, "train_accuracy"] = 0.104
    found = headline(claim, (runs, table))
    assert (found.collapsed, found.diverged) == (1, 0)
    assert found.evidence.test == "sign-flip"
    assert found.measured.mean == pytest.approx((84 + 5 * 4) / 6, abs=0.5)
    assert found.verdict == "inconclusive"
    unknown = replace(table, rows={CELL: replace(WRN, source_images=50_000)})
    assert headline(claim, (runs, unknown)).collapsed == 0


def shifts_of(runs: pd.DataFrame, gain: float) -> pd.DataFrame:
    """Two severities of one main corruption and one that does not count, of which SAM gains on the former."""
    lines = []
    for run in runs.to_dict("records"):
        better = gain * (run["ascent"] == "sam") + run["seed"] * 1e-4 * (1 + (run["ascent"] == "sam"))
        for corruption, severity, main in (("fog", 1, True), ("fog", 5, True), ("spatter", 1, False)):
            known = {name: run[name] for name in ("table", "dataset", "model", "method", "seed")}
            place = {"form": "corruptions", "epoch": "last", "corruption": corruption, "severity": severity}
            lines.append({**known, **place, "main": main, "accuracy": 0.8 - severity / 100 + better * main})
    return pd.DataFrame(lines)


def test_a_gain_on_corrupted_images(claims: dict[str, ClaimSpec]) -> None:
    runs, table = row_of(ACCURACY)
    found = judged(claims["guide-shift-robust"], (runs, table), shifts=shifts_of(runs, 0.05)).headline
    assert found is not None
    assert found.measured.mean == pytest.approx(5, abs=0.05)
    assert found.details["baseline_mean"] == pytest.approx(77, abs=0.1)
    without = judged(claims["guide-shift-robust"], (runs, table))
    assert without.label == "not-run"
    assert "no seed has a finite accuracy on corrupted test images" in without.reason


@pytest.mark.parametrize(
    ("claim", "reason"),
    [
        ("sam-fig3-lambda-max", "not measured here: the largest eigenvalue of the Hessian"),
        ("sam-t2-imagenet-resnet-50-100ep", "no row has images of imagenet"),
        ("sam-t3-cifar-10-efficientnet-b7", "no row has images of cifar10, a pretrained model"),
        (
            "sam-c4-second-order",
            "not measured here: SAM with the second-order terms of its gradient (no such ascent here)",
        ),
        ("guide-m-sharpness", "not measured here: the sharpness of parts of m images and the generalisation gap"),
        ("esam-cost", "not measured here: the time of training"),
        ("guide-layer-rho", "t: cifar10 / wrn28_10: sam (depth 4) and sam have no finished runs to compare"),
    ],
)
def test_why_a_claim_is_not_run(claims: dict[str, ClaimSpec], claim: str, reason: str) -> None:
    found = judged(claims[claim], row_of(ACCURACY))
    assert found.outcomes == ()
    assert found.reason == reason


def test_a_row_without_a_finished_run_is_named(claims: dict[str, ClaimSpec]) -> None:
    runs, table = row_of(ACCURACY)
    other = replace(table, name="u")
    found = judge([claims["critics-smaller-m"]], measured(runs), {"u": other})[0]
    assert found.reason == "no run of u: cifar10 / wrn28_10 has finished"


def test_a_study_names_its_own_primary_claims(claims: dict[str, ClaimSpec]) -> None:
    runs, table = row_of(ACCURACY)
    everything, frame = list(claims.values()), measured(runs)
    chosen = judge(everything, frame, {"t": table}, primary=["guide-cost-2x", "guide-rho-005-default"])
    assert {j.claim.id for j in chosen if j.claim.primary} == {"guide-cost-2x", "guide-rho-005-default"}
    with pytest.raises(ClaimsError, match="no claim is called 'guide-cost-3x'; did you mean 'guide-cost-2x'"):
        judge(everything, frame, {"t": table}, primary=["guide-cost-3x"])
    with pytest.raises(ClaimsError, match="at most 6 claims may be primary, not 7"):
        judge(everything, frame, {"t": table}, primary=[claim.id for claim in everything[:7]])
