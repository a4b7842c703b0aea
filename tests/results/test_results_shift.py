"""What tables print beyond their own test set, from frames whose numbers can be worked out by hand."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from synthetic import DIGITS, make_runs, make_table

from flatmin.data.corruptions.registry import EXTRA, MAIN
from flatmin.frames import shifts_frame
from flatmin.keys import RunIdentity
from flatmin.planning import KeyedRun
from flatmin.reading import load
from flatmin.records import seal
from flatmin.results.block import Block
from flatmin.results.blocks import layout
from flatmin.results.cells import Row
from flatmin.results.inputs import TableInfo
from flatmin.results.shift import COLUMNS, blocks, by_seed, relative_mce, shift_csv
from flatmin.results.tables import markdown, tex
from flatmin.vocabulary import vocabulary
from flatmin.workspace import Workspace

ROW = ("digits", "mlp")
METHODS = ("sgd", "sam", "asam")
T2, T1 = 4.302653, 12.706205
"""Student's 97.5% quantiles with two degrees of freedom and with one."""

TITLES = {"images": "New", "people": "People", "corruptions": "Suite"}


def table(seeds: int = 2, methods: Sequence[str] = METHODS, **changes: Any) -> TableInfo:
    return make_table("quick", {ROW: DIGITS}, methods=methods, seeds=seeds, **changes)


def rows(baseline: str | None = "sgd") -> list[Row]:
    return [Row(*ROW, baseline, baseline, {})]


def line(method: str, seed: int, error: float, form: str = "images", **changes: Any) -> dict[str, Any]:
    return {
        "table": "quick",
        "dataset": ROW[0],
        "model": ROW[1],
        "method": method,
        "seed": seed,
        "test_set": form,
        "title": TITLES[form],
        "form": form,
        "epoch": "last",
        "corruption": "",
        "severity": 0,
        "main": False,
        "diverged": False,
        "accuracy": 1 - error,
        "error": error,
        "nll": 10 * error,
        "ece": error / 2,
        **changes,
    }


def suite(method: str, seed: int, errors: Mapping[str, Sequence[float]], **changes: Any) -> list[dict[str, Any]]:
    """A run's errors by corruption, from severity 1 upward."""
    return [
        line(method, seed, error, "corruptions", corruption=name, severity=s, main=name in MAIN, **changes)
        for name, values in errors.items()
        for s, error in enumerate(values, start=1)
    ]


def frame(*parts: Any) -> pd.DataFrame:
    lines = itertools.chain(*(part if isinstance(part, list) else [part] for part in parts))
    return pd.DataFrame(list(lines), columns=list(COLUMNS))


def shown(block: Block, *stubs: str) -> dict[str, str]:
    """The cells of the one row with these words among its stubs, by column."""
    found = [row for row in block.rows if {*stubs} <= {*row[: block.stubs]}]
    assert len(found) == 1, found
    return dict(zip(block.header, found[0], strict=True))


def texts(found: Mapping[str, str]) -> list[str]:
    return [found[method] for method in METHODS]


# --- all test sets ----------------------------------------------------------------------------------------------------

NEW = frame(*(line(m, s, e) for m, s, e in [("sgd", 0, 0.2), ("sgd", 1, 0.3), ("sam", 0, 0.1), ("sam", 1, 0.2)]))


def test_new_images_have_accuracy_and_calibration_in_percent_over_seeds() -> None:
    (overview, _) = blocks(NEW, table(), rows())
    # the half-width of two values at a distance d is t d / 2, with t of one degree of freedom
    half = f"{T1 * 10 / 2:.2f}"
    assert texts(shown(overview, "accuracy %")) == [f"75.00 ± {half} (2)", f"85.00 ± {half} (2)", "–"]
    assert texts(shown(overview, "calibration error %")) == [
        f"12.50 ± {T1 * 5 / 2:.2f} (2)",
        f"7.50 ± {T1 * 5 / 2:.2f} (2)",
        "–",
    ]
    assert [row[:4] for row in overview.rows] == [(*ROW, "New", "accuracy %"), (*ROW, "New", "calibration error %")]
    assert overview.header == ("dataset", "model", "test set", "measure", *METHODS)


def test_without_corruptions_nothing_is_said_of_them() -> None:
    found = blocks(NEW, table(), rows())
    assert len(found) == 2
    assert all("mCE" not in block.caption and "people" not in block.caption for block in found)


def test_judgements_add_a_cross_entropy_in_nats() -> None:
    people = frame(line("sgd", 0, 0.25, "people"), line("sgd", 1, 0.35, "people"))
    (overview, _) = blocks(people, table(), rows())
    assert shown(overview, "cross-entropy, nats")["sgd"] == f"3.000 ± {T1 * 1 / 2:.3f} (2)"
    assert shown(overview, "accuracy %")["sgd"] == f"70.00 ± {T1 * 10 / 2:.2f} (2)"
    assert "the class that most people saw" in overview.caption


def test_one_seed_has_no_interval() -> None:
    (overview, differences) = blocks(NEW[NEW["seed"] == 0], table(1), rows())
    assert shown(overview, "accuracy %")["sam"] == "90.00 (1)"
    assert shown(differences, "New")["sam"] == "+10.00 (one seed)"


# --- differences ------------------------------------------------------------------------------------------------------


def test_differences_are_paired_over_seeds() -> None:
    """Errors far apart between seeds and gaps of 4, 5 and 6 points: their interval is that of the gaps."""
    errors = {"sgd": [0.2, 0.5, 0.8], "sam": [0.16, 0.45, 0.74]}
    found = frame(*(line(m, s, e) for m, values in errors.items() for s, e in enumerate(values)))
    differences = blocks(found, table(3), rows())[1]
    half = T2 / 3**0.5
    # t = 5 sqrt(3), and with two degrees of freedom p = 1 - t / sqrt(t^2 + 2)
    t = 5 * 3**0.5
    p = 1 - t / (t**2 + 2) ** 0.5
    expected = f"+5.00 [{5 - half:+.2f}, {5 + half:+.2f}], p = {p:.3f} (3)"
    assert shown(differences, "New") == {
        "dataset": "digits",
        "model": "mlp",
        "test set": "New",
        "baseline": "sgd",
        "sam": expected,
        "asam": "–",
    }


def test_only_seeds_that_both_have_are_compared() -> None:
    found = frame(line("sgd", 0, 0.4), line("sgd", 1, 0.9), line("sam", 0, 0.3), line("sam", 2, 0.1))
    assert shown(blocks(found, table(3), rows())[1], "New")["sam"] == "+10.00 (one seed)"


def test_methods_without_a_common_seed_have_no_difference() -> None:
    found = frame(line("sgd", 0, 0.4), line("sam", 1, 0.3))
    assert shown(blocks(found, table(), rows())[1], "New")["sam"] == "–"


@pytest.mark.parametrize("baseline", [None, "sgd-2x"])
def test_without_its_baseline_a_row_has_no_differences(baseline: str | None) -> None:
    methods = ("sgd", "sgd-2x", "sam")
    (overview, differences) = blocks(NEW, table(methods=methods), rows(baseline))
    assert shown(differences, "New")["sam"] == "–"
    assert shown(differences, "New")["baseline"] == (baseline or "none")
    assert shown(overview, "accuracy %")["sgd-2x"] == "–"


def test_the_row_s_own_baseline_is_compared_with_and_said() -> None:
    found = frame(NEW.to_dict("records"), line("sgd-2x", 0, 0.1), line("sgd-2x", 1, 0.3))
    differences = blocks(found, table(methods=("sgd", "sgd-2x", "sam")), rows("sgd-2x"))[1]
    row = shown(differences, "New")
    assert (row["baseline"], row["sgd-2x"]) == ("sgd-2x", "baseline")
    assert row["sgd"].startswith("-5.00 [")
    assert row["sam"].startswith("+5.00 [")


@pytest.mark.parametrize("method", ["sgd", "sam"])
def test_a_diverged_run_is_counted_and_its_difference_tested_by_signs(method: str) -> None:
    """Of three signs all equal, 2 of 8 patterns are as extreme: p = 0.25."""
    errors = {"sgd": [0.2, 0.3, 0.4], "sam": [0.1, 0.15, 0.19]}
    parts = [
        line(m, s, e, diverged=(m, s) == (method, 1), nll=None)
        for m, values in errors.items()
        for s, e in enumerate(values)
    ]
    found = blocks(frame(*parts), table(3), rows())
    assert shown(found[1], "New")["sam"].endswith("p = 0.25 (3, sign-flip)")
    assert shown(found[0], "accuracy %")["sgd"].endswith("(3)")


def test_another_method_s_diverged_run_does_not_matter() -> None:
    parts = [line(m, s, e + s / 10) for m, e in (("sgd", 0.3), ("sam", 0.21)) for s in (0, 1)]
    parts[3] |= {"error": 0.3, "accuracy": 0.7}
    parts += [line("asam", s, 0.9, diverged=True) for s in (0, 1)]
    row = shown(blocks(frame(*parts), table(), rows())[1], "New")
    assert "sign-flip" not in row["sam"]
    assert "sign-flip" in row["asam"]


# --- suites -----------------------------------------------------------------------------------------------------------


def halved(seeds: Sequence[int] = (0, 1)) -> pd.DataFrame:
    """``sam`` makes half of the baseline's errors in fog and as many in snow; seeds differ in all else."""
    parts = []
    for seed in seeds:
        fog, snow = [0.1 + 0.1 * seed, 0.3], [0.4, 0.6 + 0.2 * seed]
        parts += suite("sgd", seed, {"fog": fog, "snow": snow})
        parts += suite("sam", seed, {"fog": [e / 2 for e in fog], "snow": snow})
    return frame(parts)


def test_half_of_the_errors_in_one_of_two_corruptions_is_75_percent() -> None:
    overview = blocks(halved(), table(), rows())[0]
    assert texts(shown(overview, "mCE / sgd's, %")) == ["100.00 ± 0.00 (2)", "75.00 ± 0.00 (2)", "–"]
    # at seed 0: (0.1 + 0.3 + 0.4 + 0.6) / 4 = 0.35 and 0.30, at seed 1: (0.2 + 0.3 + 0.4 + 0.8) / 4 = 0.425 and 0.3625
    shares = {"sgd": (35.0, 42.5), "sam": (30.0, 36.25)}
    for method, (one, other) in shares.items():
        mean, _, half, n = shown(overview, "mCE %")[method].split()
        assert float(mean) == pytest.approx((one + other) / 2, abs=0.0051)
        assert float(half) == pytest.approx(T1 * (other - one) / 2, abs=0.0051)
        assert n == "(2)"


def test_relative_errors_sum_over_severities_before_they_are_divided() -> None:
    """(0.1 + 0.1) / (0.1 + 0.3) is 1/2, while the mean of 1 and 1/3 is 2/3."""
    found = frame(suite("sgd", 0, {"fog": [0.1, 0.3]}), suite("sam", 0, {"fog": [0.1, 0.1]}))
    assert relative_mce(found, "sgd").to_dict() == {("sgd", 0): 1.0, ("sam", 0): pytest.approx(0.5)}


def test_relative_errors_are_averaged_over_corruptions_after_they_are_divided() -> None:
    """Half of 0.8 and twice 0.1 give (0.5 + 2) / 2, whatever (0.4 + 0.2) / (0.8 + 0.1) is."""
    found = frame(suite("sgd", 0, {"fog": [0.8], "snow": [0.1]}), suite("sam", 0, {"fog": [0.4], "snow": [0.2]}))
    assert relative_mce(found, "sgd")["sam", 0] == pytest.approx(1.25)


def test_relative_errors_refer_to_the_baseline_at_the_same_seed() -> None:
    found = frame(
        suite("sgd", 0, {"fog": [0.2]}), suite("sgd", 1, {"fog": [0.8]}),
        suite("sam", 0, {"fog": [0.1]}), suite("sam", 1, {"fog": [0.4]}), suite("sam", 2, {"fog": [0.4]}),
    )  # fmt: skip
    relative = relative_mce(found, "sgd")
    assert (relative["sam", 0], relative["sam", 1]) == (pytest.approx(0.5), pytest.approx(0.5))
    assert np.isnan(relative["sam", 2]), "the baseline has no run of this seed"


def test_without_an_error_of_the_baseline_there_is_no_ratio() -> None:
    found = frame(suite("sgd", 0, {"fog": [0.0], "snow": [0.2]}), suite("sam", 0, {"fog": [0.1], "snow": [0.1]}))
    assert relative_mce(found, "sgd").isna().all()
    assert texts(shown(blocks(found, table(1), rows())[0], "mCE / sgd's, %")) == ["–", "–", "–"]


def test_without_a_baseline_nothing_is_relative() -> None:
    measures = {row[3] for row in blocks(halved(), table(), rows(None))[0].rows}
    assert measures == {"mCE %", "calibration error %"}


def test_further_corruptions_do_not_count_and_are_shown() -> None:
    extra = [*suite("sgd", 0, {"spatter": [1.0, 1.0]}), *suite("sam", 0, {"spatter": [0.0, 0.0]})]
    with_extra = frame(halved([0]).to_dict("records"), extra)
    without, found = blocks(halved([0]), table(1), rows()), blocks(with_extra, table(1), rows())
    assert found[0] == without[0]
    assert found[1] == without[1]
    by_corruption = found[2]
    assert texts(shown(by_corruption, "spatter")) == ["100.0 (1)", "0.0 (1)", "–"]
    assert texts(shown(by_corruption, "fog")) == ["20.0 (1)", "10.0 (1)", "–"]
    assert texts(shown(by_corruption, "snow")) == ["50.0 (1)", "50.0 (1)", "–"]


def test_severities_average_to_the_mean_corruption_error() -> None:
    """What the reader takes the mean of is what is printed above, further corruptions or not."""
    extra = suite("sgd", 0, {"spatter": [1.0, 1.0]})
    found = blocks(frame(halved([0]).to_dict("records"), extra), table(1), rows())
    means = [float(shown(found[2], f"severity {s}")["sgd"].split()[0]) for s in (1, 2)]
    mce = float(shown(found[0], "mCE %")["sgd"].split()[0])
    assert sum(means) / 2 == pytest.approx(mce, abs=0.06)


def test_only_further_corruptions_count_where_there_are_no_others() -> None:
    found = frame(suite("sgd", 0, {name: [0.1 * i] for i, name in enumerate(EXTRA, start=1)}))
    assert by_seed(found, "error")["sgd", 0] == pytest.approx(0.25)


def test_errors_by_corruption_and_by_severity_are_means_over_the_other() -> None:
    by_corruption = blocks(halved([0]), table(1), rows())[2]
    named = [row[3] for row in by_corruption.rows]
    assert named == ["fog", "snow", "severity 1", "severity 2"]
    assert texts(shown(by_corruption, "severity 1")) == ["25.0 (1)", "22.5 (1)", "–"]
    assert texts(shown(by_corruption, "severity 2")) == ["45.0 (1)", "37.5 (1)", "–"]


def test_corruptions_are_written_as_words_in_the_order_of_the_frame() -> None:
    found = frame(suite("sgd", 0, {"gaussian_noise": [0.1], "fog": [0.1], "brightness": [0.1]}))
    names = [row[3] for row in blocks(found, table(1), rows())[2].rows]
    assert names == ["gaussian noise", "fog", "brightness", "severity 1"]


def test_the_caption_counts_the_corruptions_that_count() -> None:
    extra = suite("sgd", 0, {"spatter": [1.0, 1.0]})
    caption = blocks(frame(halved().to_dict("records"), extra), table(), rows())[0].caption
    assert "mCE is the mean error over 2 corruptions at 2 severities" in caption


def test_the_accuracy_difference_of_a_suite_is_that_of_its_mean() -> None:
    # at both seeds the errors in fog fall by half of 0.4 and 0.5 over two severities, a quarter of the mean of four
    assert shown(blocks(halved([0]), table(1), rows())[1], "Suite")["sam"] == "+5.00 (one seed)"
    assert shown(blocks(halved([1]), table(2), rows())[1], "Suite")["sam"] == "+6.25 (one seed)"


def test_two_suites_are_kept_apart() -> None:
    other = [row | {"title": "Other", "test_set": "other", "error": 1.0} for row in halved([0]).to_dict("records")]
    found = blocks(frame(halved([0]).to_dict("records"), other), table(1), rows())
    assert shown(found[0], "Other", "mCE %")["sam"] == "100.00 (1)"
    assert shown(found[0], "Suite", "mCE %")["sam"] == "30.00 (1)"
    assert shown(found[2], "Other", "fog")["sam"] == "100.0 (1)"


# --- what is left out -------------------------------------------------------------------------------------------------


def test_nothing_measured_is_nothing_printed() -> None:
    assert blocks(frame(), table(), rows()) == []
    assert blocks(NEW.assign(table="another"), table(), rows()) == []
    assert blocks(NEW.assign(epoch="early"), table(), rows()) == []


def test_early_stopped_numbers_do_not_mix_with_the_last_epoch_s() -> None:
    early = NEW.assign(epoch="early", error=1.0, accuracy=0.0)
    assert blocks(pd.concat([NEW, early]), table(), rows()) == blocks(NEW, table(), rows())


def test_rows_have_their_own_numbers() -> None:
    other = make_table("quick", {ROW: DIGITS, ("other", "mlp"): DIGITS}, methods=METHODS, seeds=2)
    both = [*rows(), Row("other", "mlp", "sgd", "sgd", {})]
    found = blocks(pd.concat([NEW, NEW.assign(dataset="other", accuracy=0.5)]), other, both)[0]
    assert shown(found, "other", "accuracy %")["sgd"] == "50.00 ± 0.00 (2)"
    assert shown(found, "digits", "accuracy %")["sgd"].startswith("75.00")


def test_unknown_numbers_are_left_out_of_a_mean_and_counted() -> None:
    parts = [line("sgd", 0, 0.5, ece=None, nll=None), line("sgd", 1, 0.5), line("sam", 0, 0.5), line("sam", 1, 0.5)]
    overview = blocks(frame(*parts), table(), rows())[0]
    assert shown(overview, "calibration error %")["sgd"] == "25.00 (1)"
    assert shown(overview, "accuracy %")["sgd"] == "50.00 ± 0.00 (2)"


def test_a_suite_with_one_unknown_number_has_no_mean() -> None:
    run = suite("sgd", 0, {"fog": [0.5, 0.5]})
    run[0] |= {"ece": None, "nll": None}
    found = frame(run, suite("sgd", 1, {"fog": [0.5, 0.5]}))
    assert shown(blocks(found, table(), rows())[0], "calibration error %")["sgd"] == "25.00 (1)"


@pytest.mark.parametrize("form", ["images", "people", "corruptions"])
def test_a_table_of_which_every_run_diverged_is_printed(form: str) -> None:
    """JSON has null for what is not finite: then a column of the frame may hold nothing else."""
    names: dict[str, Any] = {"corruption": "fog", "severity": 1, "main": True} if form == "corruptions" else {}
    found = frame(*(line(m, s, 0.9, form, nll=None, ece=None, diverged=True, **names) for m in METHODS for s in (0, 1)))
    assert texts(shown(blocks(found, table(), rows())[0], "calibration error %")) == ["–", "–", "–"]
    assert "90.0" in shift_csv(found, "quick")


# --- as parts of a table, and as a file ------------------------------------------------------------------------------


def test_a_table_has_them_between_its_differences_and_its_counts() -> None:
    info = table(methods=("sgd", "sam", "asam"))
    runs = make_runs(info, {"sgd": 0.9, "sam": 0.91, "asam": 0.92})
    laid = layout(runs, info, halved())
    plain = layout(runs, info)
    assert laid.blocks[:2] + laid.blocks[-1:] == plain.blocks
    assert len(laid.blocks) == len(plain.blocks) + 3
    assert layout(runs, info, frame()).blocks == plain.blocks
    guessable = replace(
        info, rows={key: replace(row, classes=10, source_images=1797) for key, row in info.rows.items()}
    )
    guessed = runs.assign(train_accuracy=runs["train_accuracy"].where(runs["method"] != "sam", 0.1))
    assert "sign-flip" not in str(laid.blocks[2:-1])
    assert "(2, sign-flip)" in str(layout(guessed, guessable, halved()).blocks[2:-1])
    assert "| digits | mlp | Suite | mCE / sgd's, % | 100.00 ± 0.00 (2) | 75.00 ± 0.00 (2) | – |" in markdown(laid)
    assert r"mCE / sgd's, \%" in tex(laid)


def read(text: str) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(text), keep_default_na=False, na_values=[""])


def test_the_csv_has_every_number_in_full_precision() -> None:
    early = NEW.assign(epoch="early", error=1 / 3, accuracy=2 / 3)
    found = read(shift_csv(pd.concat([NEW, early, halved()]), "quick"))
    assert len(found) == 2 + 2 + 2 * 2 * 2
    one = found[(found["test_set"] == "images") & (found["epoch"] == "last") & (found["method"] == "sgd")].iloc[0]
    assert one["n"] == 2
    assert one["accuracy_percent_mean"] == pytest.approx(75, abs=1e-12)
    assert one["error_percent_half_width"] == pytest.approx(T1 * 5, rel=1e-6)
    assert (one["nll_mean"], one["ece_percent_mean"]) == (pytest.approx(2.5), pytest.approx(12.5))
    assert (
        found.loc[found["epoch"] == "early", "error_percent_mean"].tolist() == [pytest.approx(100 / 3, abs=1e-12)] * 2
    )
    fog = found[(found["corruption"] == "fog") & (found["severity"] == 1)].set_index("method")["error_percent_mean"]
    assert fog.to_dict() == {"sgd": pytest.approx(15), "sam": pytest.approx(7.5)}


def test_the_csv_counts_the_runs_that_a_mean_is_over() -> None:
    parts = [line("sgd", 0, 0.5, nll=None, ece=None, diverged=True), line("sgd", 1, 0.5)]
    one = read(shift_csv(frame(*parts), "quick")).iloc[0]
    assert (one["n"], one["accuracy_percent_mean"]) == (2, 50)
    assert (one["nll_mean"], one["nll_n"], one["accuracy_percent_n"]) == (5.0, 1, 2)


def test_the_csv_is_of_one_table_and_the_same_bytes_every_time() -> None:
    both = pd.concat([NEW, NEW.assign(table="another", error=1.0)])
    assert shift_csv(both, "quick") == shift_csv(NEW, "quick") == shift_csv(NEW.copy(), "quick")
    assert "\r" not in shift_csv(NEW, "quick")


# --- the frame, from the files of evaluations -------------------------------------------------------------------------

STUDY = {
    "study": ["quick"],
    "tables": {"quick": {"datasets": ["digits"], "models": ["mlp"], "methods": ["sgd"], "seeds": [0]}},
    "datasets": {"digits": {"source": "digits"}},
    "models": {"mlp": {"name": "mlp"}},
    "methods": {"sgd": {"base": "sgd"}},
    "training": {"lr": 0.1},
    "selection": {},
    "evaluation": {},
    "sharpness": {},
}
NUMBERS = {"accuracy": 0.75, "error": 0.25, "nll": None, "ece": 0.5}


@pytest.fixture
def evaluated(tmp_path: Path) -> tuple[KeyedRun, Workspace]:
    """A run that diverged, with evaluations on its own test set, on judgements, and on a corruption."""
    workspace = Workspace(tmp_path)
    workspace.params.write_text(json.dumps(STUDY))
    (plan,) = load(workspace.params, vocabulary()).runs("quick", {})
    run = KeyedRun(plan, RunIdentity(key="0123456789", data="", code=""))
    folder = workspace.runs("quick") / run.id
    folder.mkdir(parents=True)
    seal(folder, "record.json", {"result": {"diverged": True}})
    early = dict.fromkeys(NUMBERS, 0.125)
    metrics = {
        f"{prefix}cifar10_h_{name}": v for prefix, m in (("", NUMBERS), ("early_", early)) for name, v in m.items()
    }
    rows = [
        {"epoch": epoch, "corruption": name, "severity": 5, "nonfinite": 0, **NUMBERS}
        for epoch in ("last", "early")
        for name in ("fog", "spatter")
    ]
    contents: dict[str, dict[str, Any]] = {
        "": {"metrics": {"test_accuracy": 1.0}},
        ".cifar10_h": {"metrics": metrics},
        ".corruptions": {"metrics": {"corruptions_error": 0.25}, "rows": rows},
    }
    workspace.evaluations("quick").mkdir(parents=True)
    for ending, content in contents.items():
        (tmp_path / "sealed").mkdir(exist_ok=True)
        seal(tmp_path / "sealed", "head.json", content)
        (tmp_path / "sealed" / "head.json").rename(workspace.evaluations("quick") / f"{run.id}{ending}.json")
    return run, workspace


def test_the_frame_has_a_line_per_epoch_and_condition_of_every_further_set(
    evaluated: tuple[KeyedRun, Workspace],
) -> None:
    run, workspace = evaluated
    found = shifts_frame([run], workspace)
    assert tuple(found.columns) == COLUMNS
    assert found["diverged"].dtype == bool
    assert found["main"].dtype == bool
    told = found[["test_set", "title", "form", "epoch", "corruption", "severity", "main"]].to_numpy().tolist()
    made = ["corruptions", "Digits-C (generated)", "corruptions"]
    assert told == [
        ["cifar10_h", "CIFAR-10H", "people", "last", "", 0, False],
        ["cifar10_h", "CIFAR-10H", "people", "early", "", 0, False],
        [*made, "last", "fog", 5, True],
        [*made, "last", "spatter", 5, False],
        [*made, "early", "fog", 5, True],
        [*made, "early", "spatter", 5, False],
    ]
    assert found["accuracy"].tolist() == [0.75, 0.125, 0.75, 0.75, 0.75, 0.75]
    assert found["nll"].isna().tolist() == [True, False, True, True, True, True]
    assert found["diverged"].all()
    assert {*found["method"], *found["dataset"], *found["table"]} == {"sgd", "digits", "quick"}
    printed = blocks(found, table(1), rows())
    assert shown(printed[0], "Digits-C (generated)", "mCE %")["sgd"] == "25.00 (1)"


def test_an_evaluation_whose_run_is_gone_is_left_out(evaluated: tuple[KeyedRun, Workspace]) -> None:
    """As the numbers of such a run are in the other tables (`collect.measured`)."""
    run, workspace = evaluated
    (workspace.runs("quick") / run.id / "record.json").unlink()
    assert shifts_frame([run], workspace).empty
