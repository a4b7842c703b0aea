"""The papers' tables: published numbers as printed, ours recomputed from the runs, and never a number without a run."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from synthetic import DIGITS, WRN, make_runs, make_study, make_table

from flatmin.results.block import Block
from flatmin.results.claim_spec import ClaimSpec, load_claims
from flatmin.results.claims import Judged, judge
from flatmin.results.inputs import TableInfo, measured
from flatmin.results.paper_tables import paper_files, paper_tables
from flatmin.results.paper_words import MARKS

TABLE_1, TABLE_4, ASAM_6 = "paper-sam-table-1", "paper-sam-table-4", "paper-asam-table-6"

Study = tuple[list[Judged], Mapping[str, TableInfo], pd.DataFrame]
"""The arguments of `paper_tables`."""


@pytest.fixture(scope="module")
def claims(claims_path: Path) -> list[ClaimSpec]:
    return load_claims(claims_path)


@pytest.fixture(scope="module")
def study(claims: list[ClaimSpec]) -> Study:
    runs, tables = make_study()
    finished = measured(runs)
    return judge(claims, finished, tables), tables, finished


def blocks(study: Study) -> dict[str, Block]:
    return {block.id: block for block in paper_tables(*study)}


def lines(block: Block, *stubs: str) -> dict[str, dict[str, str]]:
    """The lines of one row by what they are: published, measured, verdict."""
    rows = [row for row in block.rows if {*stubs} <= {*row[: block.stubs]}]
    found = {row[block.stubs - 1]: dict(zip(block.header, row, strict=True)) for row in rows}
    assert len(found) == len(rows), rows
    return found


def printed(values: np.ndarray, sign: str = "") -> str:
    half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    return f"{values.mean():{sign}.2f} ± {half:.2f} ({len(values)})"


def values(runs: pd.DataFrame, table: str, dataset: str, method: str, column: str) -> np.ndarray:
    own = runs[(runs["table"] == table) & (runs["dataset"] == dataset) & (runs["method"] == method)]
    return own.sort_values("seed")[column].to_numpy() * 100


SETTING = {"sources": ["cifar10"], "model": "WRN-28-10", "model_names": ["wrn28_10"], "augmentation": "basic"}


def claim(name: str, **changes: Any) -> ClaimSpec:
    record: dict[str, Any] = {
        "id": name,
        "paper": "Somebody 2030 (XY)",
        "where": "Table 9",
        "statement": "SAM is better",
        "published": {
            "unit": "test error %",
            "treatment": {"value": 3.0, "spread": 0.04, "kind": "std", "runs": 7},
            "baseline": {"value": 16.0},
            "resolution": 0.01,
        },
        "setting": SETTING,
        "source": "here",
        "confidence": "verified-from-text",
    }
    return ClaimSpec.model_validate(record | changes)


def laid_out(*claims: ClaimSpec) -> Block:
    """The one table of these claims, on the runs of the synthetic study."""
    runs, tables = make_study()
    finished = measured(runs)
    (block,) = paper_tables(judge(claims, finished, tables), tables, finished)
    return block


# --- the papers' layout -----------------------------------------------------------------------------------------------


def test_table_1_has_models_and_augmentations_as_rows_and_data_by_method_as_columns(study: Study) -> None:
    block = blocks(study)[TABLE_1]
    assert block.header == (
        "model", "epochs", "augmentation", "number",
        "CIFAR-10: SAM", "CIFAR-10: SGD", "CIFAR-10: SAM − SGD",
        "CIFAR-100: SAM", "CIFAR-100: SGD", "CIFAR-100: SAM − SGD",
    )  # fmt: skip
    assert len({row[:3] for row in block.rows}) == 15
    row = lines(block, "WRN-28-10", "200", "basic")
    assert row["published"]["CIFAR-100: SAM"] == "16.5 ± 0.2 (5)"
    assert row["published"]["CIFAR-100: SAM − SGD"] == "+2.3"
    assert "half-width of a 95% interval" in block.caption


def test_table_4_has_methods_as_rows_and_noise_as_columns(study: Study) -> None:
    block = blocks(study)[TABLE_4]
    assert block.header == ("method", "number", *(f"noise {rate}%" for rate in (20, 40, 60, 80)))
    methods = [*dict.fromkeys(row[0] for row in block.rows)]
    assert methods == ["SGD", "SGD (basic+mixup)", "SAM", "SAM − SGD", "SAM − SGD (basic+mixup)"]
    published = [lines(block, method)["published"]["noise 60%"] for method in ("SGD", "SAM", "SAM − SGD")]
    assert published == ["48.2", "90.5", "+42.3"]
    assert "no spread was printed" in block.caption


def test_asams_table_has_three_methods_and_says_which_epoch_and_whose_quote(study: Study) -> None:
    block = blocks(study)[ASAM_6]
    methods = [*dict.fromkeys(row[0] for row in block.rows)]
    assert methods == ["SGD", "SAM", "ASAM", "SAM − SGD", "ASAM − SGD", "ASAM − SAM"]
    assert lines(block, "ASAM")["published"]["noise 80%"] == "67.69 ± 1.34 (3)"
    notes = " ".join(block.notes)
    assert "best epoch by test accuracy, measured the one chosen on validation data" in notes
    assert "as other documents quote them" in notes
    assert "200 epochs" not in block.caption
    assert "epochs and other training that these do not state are assumed" in notes


def test_what_the_published_runs_had_and_ours_have_not_is_said_with_the_numbers() -> None:
    setting = {**SETTING, "besides": ["trained again on predicted labels"]}
    (note,) = [text for text in laid_out(claim("one", setting=setting)).notes if text.startswith("The published runs")]
    assert note == "The published runs have what no run of this study has: trained again on predicted labels."
    assert not [text for text in laid_out(claim("one")).notes if text.startswith("The published runs")]


# --- our numbers ------------------------------------------------------------------------------------------------------


def test_measured_errors_are_those_of_the_row_that_the_verdict_rests_on(study: Study) -> None:
    judged, _, runs = study
    row = lines(blocks(study)[TABLE_1], "WRN-28-10", "200", "basic")
    sam, sgd = (values(runs, "table1", "cifar10", method, "test_error") for method in ("sam", "sgd-2x"))
    assert row["measured"]["CIFAR-10: SAM"] == printed(sam)
    assert row["measured"]["CIFAR-10: SGD"] == printed(sgd)
    assert row["measured"]["CIFAR-10: SAM − SGD"] == printed(sgd - sam, "+")
    (head,) = [j for j in judged if j.claim.id == "sam-t1-cifar-10-wrn-28-10-200ep-basic"]
    assert row["verdict"]["CIFAR-10: SAM − SGD"] == head.label


def test_a_proxy_is_marked_and_explained(study: Study) -> None:
    """Digits stand in for CIFAR-10 under 60% noise: their numbers are no measurement of it."""
    runs, block = study[2], blocks(study)[TABLE_4]
    sam = values(runs, "quick", "digits-noise60", "sam", "test_accuracy")
    assert lines(block, "SAM")["measured"]["noise 60%"] == f"{printed(sam)}{MARKS['proxy']}"
    assert lines(block, "SAM − SGD")["verdict"]["noise 60%"] == "direction agrees (proxy)"
    assert f"{MARKS['proxy']} other data or noise: only the direction can be compared." in block.notes
    assert any("quick: digits-noise60 / mlp, sam against sgd (claim sam-t4-noise60)" in note for note in block.notes)


def test_an_early_stopped_claim_prints_early_stopped_numbers(study: Study) -> None:
    asam = values(study[2], "quick", "digits-noise60", "asam", "early_test_accuracy")
    assert lines(blocks(study)[ASAM_6], "ASAM")["measured"]["noise 60%"].startswith(printed(asam))


def test_what_was_not_run_is_a_dash_and_its_published_number_stays(study: Study) -> None:
    block = blocks(study)[TABLE_4]
    sam = lines(block, "SAM")
    assert (sam["published"]["noise 20%"], sam["measured"]["noise 20%"]) == ("95.1", "–")
    assert lines(block, "SAM − SGD")["verdict"]["noise 20%"] == "not-run"
    assert [*lines(blocks(study)[TABLE_1], "PyramidNet", "cutout")] == ["published"]


def test_missing_and_diverged_runs_are_said(claims: list[ClaimSpec]) -> None:
    runs, tables = make_study()
    noisy = (runs["dataset"] == "digits-noise60") & (runs["method"] == "sam")
    runs.loc[noisy & (runs["seed"] == 0), ["diverged", "test_accuracy", "test_error"]] = [1, 0.1, 0.9]
    finished = measured(runs[~(noisy & (runs["seed"] == 4))])
    block = blocks((judge(claims, finished, tables), tables, finished))[TABLE_4]
    (note,) = [note for note in block.notes if "sam-t4-noise60" in note]
    assert "1 diverged run included" in note
    assert "1 run missing" in note
    assert lines(block, "SAM")["measured"]["noise 60%"].endswith(f"(4){MARKS['proxy']}")


@pytest.mark.parametrize("planned", [True, False])
def test_without_runs_a_table_stays_only_if_the_study_is_about_it(claims: list[ClaimSpec], planned: bool) -> None:
    rows = {("cifar10", "wrn28_10"): WRN} if planned else {("digits", "mlp"): DIGITS}
    table = make_table("mine", rows)
    nothing = measured(make_runs(table, dict.fromkeys(table.methods, 0.9)).head(0))
    found = blocks((judge(claims, nothing, {"mine": table}), {"mine": table}, nothing))
    assert (TABLE_1 in found) == planned
    assert all(row[block.stubs - 1] == "published" for block in found.values() for row in block.rows)


# --- published numbers ------------------------------------------------------------------------------------------------


def test_a_published_number_keeps_its_printed_decimals_and_an_unstated_n_is_said() -> None:
    block = laid_out(claim("one"))
    published = lines(block)["published"]
    assert (published["SAM"], published["SGD"], published["SAM − SGD"]) == ("3.00 ± 0.04 (7)", "16.00", "+13.00")
    assert "standard deviation" in block.caption
    assert "without a number in parentheses the runs are not known" in block.caption


def test_spreads_of_two_kinds_are_told_apart_in_the_cells() -> None:
    sides = {"treatment": {"value": 2.7, "spread": 0.1, "kind": "ci95", "runs": 5}, "baseline": {"value": 3.5}}
    other = claim(
        "two",
        published={"unit": "test error %", **sides},
        setting={"sources": ["cifar10"], "model": "WRN-28-10", "model_names": ["wrn28_10"], "augmentation": "cutout"},
    )
    block = laid_out(claim("one"), other)
    assert lines(block, "basic")["published"]["SAM"] == "3.00 ± 0.04 std (7)"
    assert lines(block, "cutout")["published"]["SAM"] == "2.7 ± 0.1 ci95 (5)"


def test_a_bound_stays_a_bound(study: Study) -> None:
    row = lines(blocks(study)[TABLE_1], "Shake-Shake (26 2x96d)", "basic")
    assert row["published"]["CIFAR-10: SAM"] == "2.3 ± <0.1 (5)"


def test_an_effect_without_its_sides_is_a_difference_alone() -> None:
    block = laid_out(claim("one", published={"unit": "accuracy points", "effect": 0.2}))
    assert block.header[-1:] == ("SAM − SGD",)
    assert lines(block)["published"]["SAM − SGD"] == "+0.2"


def test_many_sources_are_rows() -> None:
    def of(source: str) -> ClaimSpec:
        return claim(f"on-{source}", setting={"sources": [source], "model": "WRN-28-10", "model_names": ["wrn28_10"]})

    block = laid_out(*(of(source) for source in ("cifar10", "cifar100", "svhn", "flowers")))
    assert block.header[:2] == ("data", "number")
    assert [*dict.fromkeys(row[0] for row in block.rows)] == ["CIFAR-10", "CIFAR-100", "SVHN", "flowers"]


def test_options_of_one_method_stand_together_in_their_order_and_noise_by_its_rate() -> None:
    def of(rho: float, rate: float, effect: float) -> ClaimSpec:
        match = {"ascent": "sam", "rho": rho}
        setting = {"sources": ["cifar10"], "model": "ResNet-32", "noise_kind": "symmetric", "noise_rate": rate}
        sides = {"treatment": {"value": 50 - effect}, "baseline": {"value": 50.0}}
        return claim(
            f"r{rho * 100:.0f}-n{rate * 100:.0f}",
            published={"unit": "validation error %", **sides},
            setting=setting,
            rule={"treatment": match, "direction": "higher" if effect > 0 else "lower"},
        )

    runs, tables = make_study()
    ones = [of(0.5, 0.6, -2.0), of(0.1, 0.6, 3.0), of(0.2, 0.6, 1.0), of(0.1, 0.2, 4.0)]
    (block,) = paper_tables(judge(ones, measured(runs), tables), {}, measured(runs))
    assert block.header[2:] == ("noise 20%", "noise 60%")
    methods = [*dict.fromkeys(row[0] for row in block.rows)]
    assert methods[:4] == ["SGD", "SAM (rho 0.1)", "SAM (rho 0.2)", "SAM (rho 0.5)"]
    assert "Published is measured on validation data, ours on test data." in block.notes
    assert lines(block, "SAM (rho 0.5)")["published"]["noise 60%"] == "52.0"


def test_no_difference_has_no_sign() -> None:
    same = {"unit": "test error %", "treatment": {"value": 2.77}, "baseline": {"value": 2.77}, "resolution": 0.01}
    rule = {"kind": "no-effect", "treatment": {"ascent": "asam"}, "baseline": {"ascent": "sam"}, "margin": 0.1}
    assert lines(laid_out(claim("one", published=same, rule=rule)))["published"]["ASAM − SAM"] == "+0.00"


def test_statements_and_ratios_are_in_no_table() -> None:
    runs, tables = make_study()
    ratio = {"kind": "ratio", "metric": "gradients", "target": 2.0, "margin": 0.1}
    ones = [
        claim("text", where="Section 3"),
        claim("ratio", published={"unit": "ratio", "effect": 2.0}, rule=ratio),
        claim("words", published=None, confidence="statement"),
    ]
    assert paper_tables(judge(ones, measured(runs), tables), tables, measured(runs)) == []


# --- as files, and against the csv ------------------------------------------------------------------------------------


def test_every_number_is_the_csvs(study: Study) -> None:
    """Each line of the csv is found in the Block, in Markdown too, with its numbers rounded and its n."""
    files = paper_files(*study)
    for name, block in blocks(study).items():
        frame = pd.read_csv(io.StringIO(files[f"{name}.csv"]), keep_default_na=False, na_values=[""])
        texts = [text for row in block.rows for text in row[block.stubs :] if text]
        for line in frame.to_dict("records"):
            number = float(line["published"])
            difference = "−" in line["of"]
            assert any(_reads(text, number) for text in texts), line
            if line["measured_n"]:
                mean, half, n = line["measured_mean"], line["measured_half_width"], line["measured_n"]
                expected = f"{mean:{'+' if difference else ''}.2f} ± {half:.2f} ({n}){MARKS[line['fidelity']]}"
                assert expected in texts, (expected, texts)
            if difference and line["measured_n"]:
                assert any(text.startswith(line["verdict"]) for text in texts)
        for row in block.rows:
            assert f"| {' | '.join(row)} |" in files[f"{name}.md"]


def _reads(text: str, number: float) -> bool:
    found = re.match(r"[+-]?\d+(\.\d+)?", text)
    return found is not None and float(found.group()) == pytest.approx(number, abs=1e-9)


def test_every_measured_number_has_its_n(study: Study) -> None:
    for block in blocks(study).values():
        for row in block.rows:
            if row[block.stubs - 1] == "measured":
                assert all(re.search(r"\(\d+\)[†‡§]?$", text) for text in row[block.stubs :] if text not in ("", "–"))


def test_files_are_the_same_bytes_every_time(study: Study) -> None:
    files = paper_files(*study)
    assert files == paper_files(*study)
    assert {*(name.rpartition(".")[2] for name in files)} == {"csv", "md", "tex"}
    assert {name.rpartition(".")[0] for name in files} == {*blocks(study)}


def test_claims_agree_on_what_a_cell_of_a_table_says(claims: list[ClaimSpec]) -> None:
    """ASAM's Table 6 has three claims per rate, which share the numbers of three methods."""
    seen: dict[tuple[object, ...], tuple[float, str]] = {}
    for one in claims:
        published, setting = one.published, one.setting
        if not one.where.startswith("Table") or published is None or setting is None or published.treatment is None:
            continue
        assert published.baseline is not None
        place = (one.paper, one.where, setting.sources, setting.model, setting.epochs, setting.augmentation)
        rule = one.rule
        for match, value in ((rule.treatment, published.treatment.value), (rule.baseline, published.baseline.value)):
            key = (
                *place,
                setting.noise_rate,
                rule.metric,
                setting.rho if match is rule.treatment else None,
                str(match),
            )
            before = seen.setdefault(key, (value, one.id))
            assert before[0] == value, (before, one.id)
