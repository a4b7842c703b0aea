"""Tables: numbers recomputed with numpy and scipy, the three dresses, metrics and cost."""

from __future__ import annotations

import csv
import io
import re

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from synthetic import WRN, make_runs, make_seconds, make_study, make_table

from flatmin.results.blocks import Layout, layout
from flatmin.results.cost import cost_frame, cost_markdown
from flatmin.results.inputs import measured
from flatmin.results.tables import markdown, metrics, tex, tex_escape, tidy

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
    assert "2.00x; 1 diverged, 0 missing" in text


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


def test_tex_is_balanced_and_escaped(study: tuple[pd.DataFrame, Layout]) -> None:
    text = tex(study[1])
    plain = text.replace(r"\{", "").replace(r"\}", "")
    assert plain.count("{") == plain.count("}")
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == text.count(r"\toprule") == 3
    assert text.count(r"\midrule") == text.count(r"\bottomrule") == 3
    assert not re.search(r"(?<!\\)[%#_]", text.split("\n", 1)[1])
    assert text.count("$") % 2 == 0
    for table in re.findall(r"\\begin\{tabular\}\{([lr]+)\}(.*?)\\end\{tabular\}", text, re.DOTALL):
        for row in re.findall(r"^  (.*) \\\\$", table[1], re.MULTILINE):
            assert len(re.split(r"(?<!\\)&", row)) == len(table[0])


def test_tex_escape() -> None:
    assert tex_escape("a_b & 5% -1.5 ± 2 <") == r"a\_b \& 5\% $-$1.5 $\pm$ 2 $<$"
    assert tex_escape("sgd-2x \\ {x}") == r"sgd-2x \textbackslash{} \{x\}"


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
    assert metrics({"quick": laid})["quick"]["digits-noise0"]["mlp"]["sgd"] == {"n": 0, "diverged": 0, "missing": 5}


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


def test_cost_divides_seconds_by_gradients() -> None:
    runs, _ = make_study()
    frame = cost_frame(measured(runs), make_seconds(runs))
    assert frame["microseconds_per_gradient"].to_numpy() == pytest.approx(10.0)
    assert len(frame) == 3 * 4
    assert cost_markdown(frame).count("\n| quick") == 8
    assert cost_frame(measured(runs), make_seconds(runs).head(0)).empty
