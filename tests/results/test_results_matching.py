"""Which methods a claim compares, and what sets a comparison apart from the published one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from synthetic import NOISY, WRN, make_runs, make_table

from flatmin.results.claim_spec import ClaimSpec, load_claims
from flatmin.results.claims import Outcome, judge
from flatmin.results.inputs import MethodInfo, RowInfo, TableInfo, measured

CELL = ("cifar10", "wrn28_10")
SAM = "sam-t1-cifar-10-wrn-28-10-200ep-basic"
ASAM = "asam-cifar-10-wrn-28-10-asam-sam"
ACCURACY = {"sgd": 0.964, "sgd-2x": 0.96, "sam": 0.97, "asam": 0.97, "sam-rho2": 0.6}
TRAINING = {"label_smoothing": 0.0, "clip_norm": None, "schedule": "cosine"}


@pytest.fixture(scope="module")
def claims(claims_path: Path) -> dict[str, ClaimSpec]:
    return {claim.id: claim for claim in load_claims(claims_path)}


def row_of(
    methods: tuple[str, ...] = ("sgd", "sgd-2x", "sam"), row: RowInfo = WRN, **training: dict[str, object]
) -> tuple[pd.DataFrame, TableInfo]:
    """One row, whose methods were all trained alike but for the changes given by method."""
    table = make_table("t", {CELL: row}, methods=methods, m=32)
    info = {name: replace(table.method_info[name], training=TRAINING | training.get(name, {})) for name in methods}
    return make_runs(table, ACCURACY), replace(table, method_info=info)


def headline(claim: ClaimSpec, runs: pd.DataFrame, table: TableInfo) -> Outcome:
    head = judge([claim], measured(runs), {"t": table})[0].headline
    assert head is not None
    return head


def test_the_same_training_is_no_departure(claims: dict[str, ClaimSpec]) -> None:
    assert headline(claims[SAM], *row_of()).departures == ()


def test_the_treatments_own_training_is_compared(claims: dict[str, ClaimSpec]) -> None:
    found = headline(claims[SAM], *row_of(sam={"lr": 0.3, "clip_norm": 1.0}))
    assert found.fidelity == "same-data"
    assert "lr 0.3 instead of 0.1" in found.departures
    assert "lr 0.3 for sam but 0.1 for sgd" in found.departures
    assert "clip norm 1 for sam but none for sgd" in found.departures


def test_another_base_optimizer_is_not_plainly_reproduced(claims: dict[str, ClaimSpec]) -> None:
    runs, table = row_of()
    runs["base"] = "adamw"
    assert "base optimizer adamw instead of sgd" in headline(claims[SAM], runs, table).departures
    runs["base"] = runs["method"].map(lambda name: "adamw" if name == "sam" else "sgd")
    found = headline(claims[SAM], runs, table)
    assert "base optimizer adamw for sam but sgd for sgd" in found.departures
    assert found.fidelity == "same-data"


def test_epochs_alone_may_differ_between_treatment_and_baseline(claims: dict[str, ClaimSpec]) -> None:
    runs, table = row_of()
    runs.loc[runs["method"] == "sgd-2x", ["test_accuracy", "test_error"]] = [0.99, 0.01]
    found = headline(claims[SAM], runs, table)
    assert found.baseline == "sgd-2x"
    assert found.departures == ()


def test_the_named_baseline_is_the_one_nearest_to_the_published_rho(claims: dict[str, ClaimSpec]) -> None:
    runs, table = row_of(("sgd", "sam-rho2", "sam", "asam"))
    runs.loc[runs["method"] == "sam", "rho"] = 0.1
    found = headline(claims[ASAM], runs, table)
    assert found.baseline == "sam"
    assert not any("of the baseline" in text for text in found.departures)


def test_an_untuned_rho_of_the_baseline_is_listed(claims: dict[str, ClaimSpec]) -> None:
    found = headline(claims[ASAM], *row_of(("sgd", "sam-rho2", "asam")))
    assert "rho 2 of the baseline sam-rho2, not tuned, instead of 0.05" in found.departures


def test_a_rho_at_the_edge_of_its_grid_stands_with_the_claim(claims: dict[str, ClaimSpec]) -> None:
    runs, table = row_of()
    info = dict(table.method_info)
    info["sam"] = MethodInfo(m=32, edge={CELL: ["rho"]})
    found = headline(claims[SAM], runs, replace(table, method_info=info))
    assert "rho of sam at the edge of its grid" in found.departures


def test_an_untuned_method_of_a_general_claim_is_said(claims: dict[str, ClaimSpec]) -> None:
    """Whichever part it has: of the treatment nobody said so, and it was the treatment that was not tuned."""
    runs, table = row_of(("sgd", "sam", "sam-rho2"))
    claim = claims["gsam-beats-sam"]
    rule = claim.rule.model_copy(update={"treatment": claims["guide-rho-above-1-unstable"].rule.treatment})
    named = headline(claim.model_copy(update={"rule": rule}), runs, table)
    assert not any("not tuned" in text for text in named.departures)  # the claim is about such radii
    assert not any("not tuned" in text for text in headline(claims["guide-label-noise"], *noisy("selected")).departures)
    found = headline(claims["guide-label-noise"], *noisy("not tuned"))
    assert "rho 0.5 of sam, not tuned" in found.departures
    assert found.fidelity == "same-data"
    assert not any("rho" in text for text in headline(claims["guide-cost-2x"], *noisy("not tuned")).departures)


def noisy(tuned: str) -> tuple[pd.DataFrame, TableInfo]:
    runs, table = row_of(row=NOISY)
    runs.loc[runs["method"] == "sam", "tuned"] = tuned
    return runs, table


def test_twenty_epochs_are_reduced_for_asam_too(claims: dict[str, ClaimSpec]) -> None:
    runs, table = row_of(("sgd", "sam", "asam"), replace(WRN, epochs=20))
    assert headline(claims[ASAM], runs, table).fidelity == "reduced"


def test_noise_of_an_unnamed_kind_is_said_and_compared_by_its_rate(claims: dict[str, ClaimSpec]) -> None:
    runs, table = row_of(("sgd", "sam", "asam"), replace(NOISY, source="cifar10"))
    found = headline(claims["asam-t6-noise60-asam-sam"], runs, table)
    assert "label noise symmetric 60% (the source does not name the kind)" in found.departures
    assert found.fidelity == "reduced"  # 30 epochs


def test_the_better_baseline_of_an_early_stopped_claim_is_better_early_stopped(claims: dict[str, ClaimSpec]) -> None:
    runs, table = row_of()
    longer = runs["method"] == "sgd-2x"
    runs.loc[longer, ["early_test_accuracy", "early_test_error"]] = [0.99, 0.01]
    assert headline(claims["asam-cifar-10-wrn-28-10-sam-sgd"], runs, table).baseline == "sgd-2x"
    assert headline(claims[SAM], runs, table).baseline == "sgd"
