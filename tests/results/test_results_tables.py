"""Tables: numbers recomputed with numpy and scipy, the three dresses, metrics and cost."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from synthetic import ASCENTS, DIGITS, WRN, make_runs, make_study, make_table

from flatmin.results.block import MOST_COLUMNS, Block, readable
from flatmin.results.blocks import EARLY, LAST, Layout, layout
from flatmin.results.failures import difference
from flatmin.results.inputs import RowInfo, measured
from flatmin.results.tables import markdown, metrics, tidy
from flatmin.results.wording import difference_text

NOISY = ("digits-noise60", "mlp")


@pytest.fixture(scope="module")
def study() -> tuple[pd.DataFrame, Layout]:
    runs, tables = make_study()
    gone = (runs["table"] == "quick") & (runs["method"] == "asam") & (runs["seed"] == 4)
    lost = (runs["dataset"] == "digits-noise60") & (runs["method"] == "sam") & (runs["seed"] == 2)
    runs.loc[lost, ["diverged", "test_accuracy", "test_error"]] = [1, 0.1, 0.9]
    finished = measured(runs[~gone])
    return finished, layout(finished, tables["quick"])


def accuracies(runs: pd.DataFrame, method: str, column: str = "test_accuracy") -> np.ndarray:
    own = runs[(runs["table"] == "quick") & (runs["dataset"] == NOISY[0]) & (runs["method"] == method)]
    return own.sort_values("seed")[column].to_numpy() * 100


def line_of(study: tuple[pd.DataFrame, Layout], method: str) -> pd.Series:
    frame = pd.read_csv(io.StringIO(tidy(study[1])))
    return frame[(frame["dataset"] == NOISY[0]) & (frame["method"] == method)].iloc[0]


def guessable(row: RowInfo) -> RowInfo:
    """The row with what tells a run that guesses."""
    return replace(row, classes=10, source_images=1797, validation_fraction=0.1)


def half_width(values: np.ndarray) -> float:
    return float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))


def test_means_and_half_widths(study: tuple[pd.DataFrame, Layout]) -> None:
    for method, column in (("sgd", "test_accuracy"), ("asam", "test_accuracy"), ("sam", "early_test_accuracy")):
        values, line = accuracies(study[0], method, column), line_of(study, method)
        assert line[f"{column}_percent_mean"] == pytest.approx(values.mean(), rel=1e-12)
        assert line[f"{column}_percent_half_width"] == pytest.approx(half_width(values), rel=1e-12)


def test_differences_are_paired_over_the_seeds_that_both_have(study: tuple[pd.DataFrame, Layout]) -> None:
    line = line_of(study, "asam")
    gaps = accuracies(study[0], "asam") - accuracies(study[0], "sgd")[:4]
    assert line["baseline"] == "sgd"
    assert line["difference_n"] == 4
    assert line["difference_points"] == pytest.approx(gaps.mean())
    assert line["difference_low"] == pytest.approx(gaps.mean() - half_width(gaps))
    assert line["difference_p"] == pytest.approx(stats.ttest_1samp(gaps, 0).pvalue)


def test_diverged_and_missing_runs_are_counted(study: tuple[pd.DataFrame, Layout]) -> None:
    sam, asam = line_of(study, "sam"), line_of(study, "asam")
    assert (sam["n"], sam["diverged_runs"], sam["missing"]) == (5, 1, 0)
    assert (asam["n"], asam["diverged_runs"], asam["missing"]) == (4, 0, 1)
    assert sam["difference_test"] == "sign-flip"
    text = markdown(study[1])
    assert "sam: 1 diverged run counted as it is" in text
    assert "asam: 1 of 5 runs missing" in text
    assert (sam["difference_failed_n"], sam["collapsed_runs"]) == (1, 0)
    assert "2.00x (5); 1 diverged, 0 collapsed, 0 missing" in text


def test_a_collapsed_run_counts_as_one_that_diverged() -> None:
    """Ten classes, 1,617 images: what names the right one in 0.1 of them guesses."""
    runs, tables = make_study()
    table = replace(tables["quick"], rows={key: guessable(row) for key, row in tables["quick"].rows.items()})
    hit = runs["method"].eq("sam") & runs["dataset"].eq(NOISY[0]) & runs["seed"].eq(1)
    runs.loc[hit, ["test_accuracy", "train_accuracy"]] = 0.1
    laid = layout(measured(runs), table)
    line = line_of((runs, laid), "sam")
    assert (line["collapsed_runs"], line["diverged_runs"]) == (1, 0)
    assert (line["difference_test"], line["difference_failed_n"]) == ("sign-flip", 1)
    assert line["difference_p_without_failed"] == 1 / 16  # four gaps above zero, of 2^4 patterns of signs
    assert "sam: 1 collapsed run counted as it is" in markdown(laid)
    assert metrics({"quick": laid})["quick"][NOISY[0]]["mlp"]["sam"]["collapsed"] == 1


def test_a_significant_gain_that_failed_runs_alone_make_says_so() -> None:
    """Ten of twelve baselines fail; sign flips give p = 2 / 4,096, and two sound pairs can show nothing."""
    values, failed = np.array([80.0] * 10 + [0.1, -0.1]), np.array([True] * 10 + [False] * 2)
    found = difference(values, failed)
    assert found.p < 0.05
    assert found.rests_on_failures
    assert difference_text(found).endswith("(12, sign-flip, failures alone)")
    assert not difference(-values, failed).rests_on_failures  # its own runs failed: it is the worse one
    assert not difference(np.array([80.0, *[0.5] * 11]), np.array([True] + [False] * 11)).rests_on_failures


def test_gradients_are_relative_to_the_first_baseline(study: tuple[pd.DataFrame, Layout]) -> None:
    assert [line_of(study, m)["relative_gradients"] for m in ("sgd", "sgd-2x", "sam")] == [1, 2, 2]


def test_full_precision(study: tuple[pd.DataFrame, Layout]) -> None:
    header, first, *_ = csv.reader(tidy(study[1]).splitlines())
    line = dict(zip(header, first, strict=True))
    cell = study[1].cells[0].cells[line["method"]]
    assert float(line["test_accuracy_percent_mean"]) == cell.percent("test_accuracy").mean


def test_markdown_prints_the_csvs_numbers(study: tuple[pd.DataFrame, Layout]) -> None:
    line = line_of(study, "sgd")
    mean, half = line["test_accuracy_percent_mean"], line["test_accuracy_percent_half_width"]
    assert f"| {mean:.2f} ± {half:.2f} (5) |" in markdown(study[1])


def test_notes_are_printed_with_their_row(study: tuple[pd.DataFrame, Layout]) -> None:
    assert "- digits-noise60 / mlp: validation labels noisy; rho selected" in markdown(study[1])


def test_markdown_rows_have_as_many_cells_as_the_header(study: tuple[pd.DataFrame, Layout]) -> None:
    for block in re.split(r"\n\n", markdown(study[1])):
        widths = {line.count("|") for line in block.splitlines() if line.startswith("|")}
        assert len(widths) <= 1


def test_one_seed_prints_no_interval() -> None:
    table = make_table("one", {("cifar10", "wrn28_10"): WRN}, seeds=1)
    runs = make_runs(table, {"sgd": 0.96, "sgd-2x": 0.961, "sam": 0.97, "asam": 0.971})
    text = markdown(layout(measured(runs), table))
    assert re.search(r"\| \d\d\.\d\d \(1\) \|", text)
    assert "(one seed)" in text
    assert "nan" not in text


def test_no_runs_at_all() -> None:
    runs, tables = make_study()
    laid = layout(measured(runs.head(0)), tables["quick"])
    assert "nan" not in markdown(laid)
    assert "5 of 5 runs missing" in markdown(laid)
    assert len(tidy(laid).splitlines()) == 1 + 2 * 4
    assert metrics({"quick": laid})["quick"]["digits-noise0"]["mlp"]["sgd"] == {
        "n": 0,
        "diverged": 0,
        "collapsed": 0,
        "missing": 5,
    }


def test_a_mixed_environment_is_said() -> None:
    runs, tables = make_study()
    runs.loc[runs["seed"] == 0, "device"] = "cuda"
    assert "device differs between runs: cpu, cuda" in markdown(layout(measured(runs), tables["quick"]))


def test_metrics_are_nested_and_have_no_dots(study: tuple[pd.DataFrame, Layout]) -> None:
    found = metrics({"quick": study[1]})
    sam = found["quick"]["digits-noise60"]["mlp"]["sam"]
    assert sam["accuracy"] == pytest.approx(accuracies(study[0], "sam").mean(), abs=1e-6)
    assert {"half_width", "early_accuracy", "n", "difference", "difference_half_width"} <= set(sam)

    def names(node: object) -> list[str]:
        return [n for k, v in node.items() for n in (k, *names(v))] if isinstance(node, dict) else []

    assert not [name for name in names(found) if "." in name]


# --- equal compute ----------------------------------------------------------------------------------------------------


def equal_compute(laid: Layout) -> Block:
    (block,) = [block for block in laid.blocks if block.caption.startswith("At equal compute")]
    return block


def test_equal_compute_compares_with_the_baseline_that_used_as_many_gradients() -> None:
    """On noisy digits sgd is the better baseline, and sgd-2x costs what sam does: their differences are two."""
    runs, tables = make_study()
    laid = layout(measured(runs), tables["quick"])
    gaps = accuracies(runs, "sam") - accuracies(runs, "sgd-2x")
    row = next(row for row in equal_compute(laid).rows if row[0] == NOISY[0] and row[2] == "sam")
    low, high = gaps.mean() - half_width(gaps), gaps.mean() + half_width(gaps)
    assert row[3:5] == ("2.00x (5)", "sgd-2x")
    assert row[5] == f"{gaps.mean():+.2f} [{low:+.2f}, {high:+.2f}], p < 0.001 (5)"
    assert gaps.mean() != pytest.approx((accuracies(runs, "sam") - accuracies(runs, "sgd")).mean())


def test_equal_compute_leaves_out_baselines_and_methods_without_a_counterpart() -> None:
    runs, tables = make_study()
    runs.loc[runs["method"] == "asam", "gradients"] *= 1.02
    methods = {row[2] for row in equal_compute(layout(measured(runs), tables["quick"])).rows}
    assert methods == {"sam"}


def test_a_run_that_ended_early_leaves_its_method_its_counterpart() -> None:
    runs, tables = make_study()
    runs.loc[(runs["method"] == "sam") & (runs["seed"] == 0), "gradients"] = 100
    laid = layout(measured(runs), tables["quick"])
    assert {row[2] for row in equal_compute(laid).rows} == {"sam", "asam"}


def test_without_a_longer_baseline_there_is_no_such_block() -> None:
    table = make_table("one", {NOISY: DIGITS}, methods=("sgd", "sam"))
    laid = layout(measured(make_runs(table, {"sgd": 0.9, "sam": 0.91})), table)
    assert not [block for block in laid.blocks if "equal compute:" in block.caption]


# --- wide tables ------------------------------------------------------------------------------------------------------

MANY = ("sgd", "sgd-2x", *(f"sam-{i}" for i in range(7)))


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> Layout:
    for name in MANY[2:]:
        monkeypatch.setitem(ASCENTS, name, "sam")
    table = make_table("many", {("a", "mlp"): DIGITS, ("b", "mlp"): DIGITS}, methods=MANY)
    return layout(measured(make_runs(table, {name: 0.9 + i / 100 for i, name in enumerate(MANY)})), table)


def test_many_methods_are_rows_of_a_block_for_each_dataset(wide: Layout) -> None:
    assert len(MANY) > MOST_COLUMNS
    for block, dataset in zip(wide.blocks, "ab", strict=False):
        assert [row[0] for row in block.rows] == [*MANY]
        assert block.caption.startswith(f"{dataset} / mlp. ")
    assert all(len(block.header) <= MOST_COLUMNS for block in wide.blocks)


def test_a_transposed_table_prints_the_same_numbers(wide: Layout) -> None:
    frame = pd.read_csv(io.StringIO(tidy(wide))).set_index(["dataset", "method"])
    for block, dataset in zip(wide.blocks, "ab", strict=False):
        for row in block.rows:
            shown, line = dict(zip(block.header, row, strict=True)), frame.loc[dataset, row[0]]
            assert shown[LAST] == printed_mean(line, "test_accuracy_percent")
            assert shown[EARLY] == printed_mean(line, "early_test_accuracy_percent")
            assert shown[f"difference, {LAST}"] == printed_difference(line, "difference", line["baseline"])


def test_columns_become_rows_and_none_is_lost() -> None:
    methods = tuple(f"m{i}" for i in range(9))
    rows = tuple(("d", "m", f"set {i}", *(f"{i}{name}" for name in methods)) for i in range(10))
    found = readable([Block("Caption.", ("dataset", "model", "test set", *methods), rows, 3)])
    assert [block.header for block in found] == [
        ("method", *(f"set {i}" for i in range(8))),
        ("method", "set 8", "set 9"),
    ]
    assert [*found[0].rows[3], *found[1].rows[3][1:]] == ["m3", *(f"{i}m3" for i in range(10))]
    assert found[0].caption == "d / m. Caption."


def test_a_table_that_can_be_read_stays_as_it_is() -> None:
    block = Block("", ("dataset", "model", *"abcdefgh"), (("d", "m", *"12345678"),), 2)
    assert readable([block]) == [block]


# --- golden: what is printed is what the csv has ----------------------------------------------------------------------


def printed_mean(line: pd.Series, name: str) -> str:
    mean, half, n = (line[f"{name}_{part}"] for part in ("mean", "half_width", "n"))
    return "–" if n == 0 else f"{mean:.2f} ({n})" if np.isnan(half) else f"{mean:.2f} ± {half:.2f} ({n})"


def printed_difference(line: pd.Series, name: str, baseline: object) -> str:
    if baseline == line.name or baseline == line.name[-1]:
        return "baseline"
    mean, low, high, n, p = (line[f"{name}_{part}"] for part in ("points", "low", "high", "n", "p"))
    if n == 1:
        return f"{mean:+.2f} (one seed)"
    shown = "p < 0.001" if p < 0.001 else f"p = {p:#.2g}"
    mark = ", sign-flip" if line[f"{name}_test"] == "sign-flip" else ""
    return "–" if n == 0 else f"{mean:+.2f} [{low:+.2f}, {high:+.2f}], {shown} ({n}{mark})"


def golden(line: pd.Series, block: Block, row: tuple[str, ...]) -> str:
    """What a cell must be, from the csv's line of its method alone."""
    if block.caption.startswith("Gradient"):
        cost = "–" if line["n"] == 0 else f"{line['relative_gradients']:.2f}x ({line['n']})"
        failed = f"{line['diverged_runs']} diverged, {line['collapsed_runs']} collapsed"
        return f"{cost}; {failed}, {line['missing']} missing"
    early = "early_" if row[2] == EARLY else ""
    if block.caption.startswith("Test"):
        return printed_mean(line, f"{early}test_accuracy_percent")
    return printed_difference(line, f"{early}difference", line[f"{early}baseline"])


def test_every_printed_number_is_the_csvs(study: tuple[pd.DataFrame, Layout]) -> None:
    """Each dress shows each cell, and each cell is recomputed from the csv's full precision."""
    laid = study[1]
    frame = pd.read_csv(io.StringIO(tidy(laid))).set_index(["dataset", "model", "method"], drop=False)
    frame.index.names = [None, None, None]
    for block in laid.blocks:
        for row in block.rows:
            assert f"| {' | '.join(row)} |" in markdown(laid)
            if block.caption.startswith("At equal compute"):
                line = frame.loc[row[:3]]
                assert row[4] == line["equal_baseline"]
                assert row[5] == printed_difference(line, "equal_difference", None)
                assert row[6] == printed_difference(line, "early_equal_difference", None)
                continue
            for method, text in zip(block.header[block.stubs :], row[block.stubs :], strict=True):
                assert text == golden(frame.loc[(*row[:2], method)], block, row), (block.caption, row[:3], method)


@pytest.mark.parametrize("seeds", [0, 1, 5])
def test_no_number_is_printed_without_its_n(seeds: int) -> None:
    runs, tables = make_study()
    for table in tables.values():
        laid = layout(measured(runs[runs["seed"] < seeds]), table)
        for block in laid.blocks:
            for text in (text for row in block.rows for text in row[block.stubs :]):
                bare = text in ("–", "baseline", "none") or text in table.methods or text.startswith("–; ")
                assert bare or re.search(r"\(\d+(, sign-flip)?\)|\(one seed\)", text), text


def test_the_csv_has_an_n_beside_every_mean(study: tuple[pd.DataFrame, Layout]) -> None:
    header = next(csv.reader(tidy(study[1]).splitlines()))
    means = [name.removesuffix("_mean") for name in header if name.endswith("_mean")]
    points = [name.removesuffix("_points") for name in header if name.endswith("_points")]
    assert len(means) > 15
    assert {f"{name}_n" for name in [*means, *points]} <= {*header}


def test_a_measurement_that_a_run_lacks_is_not_counted() -> None:
    runs, tables = make_study()
    runs.loc[(runs["method"] == "sam") & (runs["seed"] == 1), "sharpness_n_step"] = np.nan
    frame = pd.read_csv(io.StringIO(tidy(layout(measured(runs), tables["quick"]))))
    sam = frame[frame["method"] == "sam"].iloc[0]
    assert (sam["n"], sam["sharpness_n_step_n"], sam["test_accuracy_percent_n"]) == (5, 4, 5)
