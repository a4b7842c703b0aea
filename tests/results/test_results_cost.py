"""Seconds and what they bought, from runs whose seconds are known to the digit."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from synthetic import DIGITS, make_runs, make_seconds, make_study, make_table

from flatmin.results.cost import COLUMNS, cost_csv, cost_frame, cost_markdown
from flatmin.results.inputs import TableInfo, measured

ROW = ("digits", "mlp")
METHODS = ("sgd", "sgd-2x", "sam")


Timed = tuple[pd.DataFrame, pd.DataFrame, dict[str, TableInfo]]
"""Runs, seconds, tables."""


@pytest.fixture
def timed() -> Timed:
    """Three seeds; sam's runs take 2, 4 and 5 seconds, the others' one."""
    table = make_table("quick", {ROW: DIGITS}, methods=METHODS, seeds=3)
    runs = measured(make_runs(table, {"sgd": 0.90, "sgd-2x": 0.8, "sam": 0.95}, gaps={"sam": [0.02, 0.04, 0.10]}))
    seconds = make_seconds(runs).assign(train_seconds=1.0)
    seconds.loc[runs["method"] == "sam", "train_seconds"] = [2.0, 4.0, 5.0]
    return runs, seconds, {"quick": table}


def line(frame: pd.DataFrame, method: str) -> pd.Series:
    (found,) = [row for _, row in frame.iterrows() if row["method"] == method]
    return found


def half_width(values: np.ndarray) -> float:
    return float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))


def test_seconds_are_divided_by_gradients() -> None:
    runs, tables = make_study()
    frame = cost_frame(measured(runs), make_seconds(runs), tables)
    assert frame["microseconds_per_gradient"].to_numpy() == pytest.approx(10.0)
    assert len(frame) == 3 * 4
    assert cost_markdown(frame).count("\n| quick") == 8


def test_accuracy_per_second_is_a_mean_over_runs(
    timed: Timed,
) -> None:
    runs, seconds, tables = timed
    own = runs[runs["method"] == "sam"].sort_values("seed")["test_accuracy"].to_numpy() * 100
    rates, found = own / [2.0, 4.0, 5.0], line(cost_frame(runs, seconds, tables), "sam")
    assert found["n"] == 3
    assert found["accuracy_percent_per_second_mean"] == pytest.approx(rates.mean(), rel=1e-12)
    assert found["accuracy_percent_per_second_half_width"] == pytest.approx(half_width(rates), rel=1e-12)


def test_points_gained_are_paired_and_over_the_method_s_own_seconds(
    timed: Timed,
) -> None:
    """Gaps of 2, 4 and 10 points in 2, 4 and 5 seconds are 1, 1 and 2 points per second."""
    frame = cost_frame(*timed)
    sam = line(frame, "sam")
    assert sam["baseline"] == "sgd"
    assert sam["points_gained_per_second_mean"] == pytest.approx(4 / 3)
    assert sam["points_gained_per_second_half_width"] == pytest.approx(half_width(np.array([1, 1, 2])))
    assert sam["points_gained_per_second_n"] == 3
    assert line(frame, "sgd-2x")["points_gained_per_second_mean"] < 0
    assert "| +1.33 ± 1.43 (3) |" in cost_markdown(frame)


def test_the_baseline_gains_nothing_over_itself(timed: Timed) -> None:
    frame = cost_frame(*timed)
    assert line(frame, "sgd")["points_gained_per_second_n"] == 0
    (printed,) = [text for text in cost_markdown(frame).splitlines() if "| mlp | sgd |" in text]
    assert printed.endswith("| sgd | – |")


def test_only_timed_pairs_on_one_device_count(timed: Timed) -> None:
    runs, seconds, tables = timed
    without = seconds[~((runs["method"] == "sgd") & (runs["seed"] == 2))]
    assert line(cost_frame(runs, without, tables), "sam")["points_gained_per_second_mean"] == pytest.approx(1.0)
    elsewhere = runs.assign(device=np.where(runs["method"] == "sam", "cuda", "cpu"))
    sam = line(cost_frame(elsewhere, seconds, tables), "sam")
    assert (sam["n"], sam["points_gained_per_second_n"]) == (3, 0)


def test_without_tables_or_seconds_nothing_is_gained(
    timed: Timed,
) -> None:
    runs, seconds, tables = timed
    frame = cost_frame(runs, seconds)
    assert (frame["points_gained_per_second_n"] == 0).all()
    assert frame["accuracy_percent_per_second_mean"].notna().all()
    assert cost_frame(runs, seconds.head(0), tables).empty


def test_the_csv_has_full_precision_and_every_mean_its_n(
    timed: Timed,
) -> None:
    frame = cost_frame(*timed)
    read = pd.read_csv(io.StringIO(cost_csv(frame)), keep_default_na=False, na_values=[""])
    assert tuple(read.columns) == COLUMNS
    name = "accuracy_percent_per_second_mean"
    assert read[name].tolist() == frame[name].tolist()
    lines = [text for text in cost_markdown(frame).splitlines() if text.startswith("| quick")]
    assert len(lines) == len(METHODS)
    for text in lines:
        cells = [cell.strip() for cell in text.strip("|").split("|")]
        assert all(cell.endswith("(3)") for cell in cells[5:] if cell not in ("–", "sgd")), cells
