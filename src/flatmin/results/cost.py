"""Measured seconds, and what they bought: the one result that differs between two executions, kept apart."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping
from typing import Any

import pandas as pd

from flatmin.results.cells import PERCENT, better, select
from flatmin.results.inputs import TableInfo
from flatmin.results.statistics import Interval, mean_interval
from flatmin.results.wording import decimals_of, mean_text, signed_mean_text

COLUMNS = (
    "table",
    "dataset",
    "model",
    "method",
    "device",
    "n",
    "train_seconds_mean",
    "train_seconds_half_width",
    "gradients_mean",
    "microseconds_per_gradient",
    "test_accuracy_percent_mean",
    "test_accuracy_percent_half_width",
    "accuracy_percent_per_second_mean",
    "accuracy_percent_per_second_half_width",
    "baseline",
    "points_gained_per_second_mean",
    "points_gained_per_second_half_width",
    "points_gained_per_second_n",
)
"""Of the csv. The means are over the runs whose seconds are known (``n``), the points gained over those of them that
have a timed baseline run at their seed and on their device."""

_ROW = ["table", "dataset", "model"]
_GAIN = "points_gained_per_second"


def cost_frame(
    runs: pd.DataFrame, seconds: pd.DataFrame, tables: Mapping[str, TableInfo] | None = None
) -> pd.DataFrame:
    """Mean training seconds per table, row and method, with the gradient evaluations and the accuracy that they bought.

    A run is trained by one worker with one thread on the CPU, so its seconds are core-seconds there and GPU-seconds on
    CUDA. Accuracy per second is a run's test accuracy in percent over its training seconds. Points gained per second
    are its accuracy less the baseline's at the same seed, over the same seconds: what the method bought for all that it
    cost. Both are averaged over runs.

    Args:
        runs: The measured runs (`inputs.measured`).
        seconds: ``table``, ``run_id``, ``train_seconds``.
        tables: The study's tables, whose baselines are compared with; without them nothing is gained over anything.
    """
    if runs.empty or seconds.empty:
        return pd.DataFrame(columns=list(COLUMNS))
    timed = runs.merge(seconds[["table", "run_id", "train_seconds"]], on=["table", "run_id"], how="inner")
    timed = timed[timed["train_seconds"].notna()]
    lines = []
    for key, row in timed.groupby(_ROW, sort=True):
        name, dataset, model = map(str, key)
        table = tables.get(name) if tables else None
        everything = select(runs[runs["table"] == name], (dataset, model))
        lines += [*_lines(row, better(everything, table.baseline) if table else None)]
    return pd.DataFrame(lines, columns=list(COLUMNS))


def cost_csv(frame: pd.DataFrame) -> str:
    """The frame as csv, in full precision."""
    return str(frame.to_csv(index=False, lineterminator="\n"))


def cost_markdown(frame: pd.DataFrame) -> str:
    """The frame as a Markdown table, with what its numbers can and cannot be compared with."""
    lines = [
        "# Cost in seconds",
        "",
        "Measured on the machines that trained the runs, several runs at a time where the study ran in parallel: "
        "compare methods within a row, not machines. The report counts gradients instead, which do not depend on it. "
        "A run has one worker with one thread, so a second is a core-second on the CPU and a GPU-second on CUDA.",
        "",
        "Mean ± 95% half-width over seeds (runs). Accuracy per second is a run's test accuracy over its training "
        "seconds. Points gained per second are its accuracy less the baseline's at the same seed, over those seconds; "
        "the baseline is the better of the table's baselines by mean test accuracy.",
        "",
        "| table | dataset | model | method | device | seconds per run | gradients per run | µs per gradient "
        "| accuracy, % | accuracy, % per second | baseline | points gained per second |",
        "|---|---|---|---|---|--:|--:|--:|--:|--:|---|--:|",
    ]
    lines += [_markdown_line(record) for record in frame.to_dict("records")]
    return "\n".join(lines) + "\n"


def _lines(row: pd.DataFrame, baseline: str | None) -> Iterator[tuple[Any, ...]]:
    """The lines of one dataset x model, by method and device."""
    rival = row[row["method"] == baseline].set_index(["device", "seed"])["test_accuracy"]
    for key, own in row.groupby([*_ROW, "method", "device"], sort=True):
        spent, accuracy = own["train_seconds"], own["test_accuracy"] * PERCENT
        rivals = rival.reindex(pd.MultiIndex.from_frame(own[["device", "seed"]])).to_numpy(dtype=float) * PERCENT
        gained = (accuracy - rivals) / spent if key[3] != baseline else spent[:0]
        seconds, gain = _interval(spent), _interval(gained)
        yield (
            *key,
            seconds.n,
            *_spread(seconds),
            float(own["gradients"].mean()),
            float(spent.sum() / own["gradients"].sum() * 1e6),
            *_spread(_interval(accuracy)),
            *_spread(_interval(accuracy / spent)),
            baseline or "",
            *_spread(gain),
            gain.n,
        )


def _interval(values: pd.Series) -> Interval:
    return mean_interval(values.to_numpy(dtype=float))


def _spread(interval: Interval) -> tuple[float, float]:
    return interval.mean, interval.half_width


def _markdown_line(record: Mapping[Hashable, Any]) -> str:
    def interval(name: str, n: str = "n") -> Interval:
        return Interval(record[f"{name}_mean"], record[f"{name}_half_width"], record[n], math.nan)

    rate, gain = interval("accuracy_percent_per_second"), interval(_GAIN, f"{_GAIN}_n")
    cells = [
        *(str(record[name]) for name in (*_ROW, "method", "device")),
        mean_text(interval("train_seconds"), 1),
        f"{record['gradients_mean']:,.0f} ({record['n']})",
        f"{record['microseconds_per_gradient']:.1f} ({record['n']})",
        mean_text(interval("test_accuracy_percent")),
        mean_text(rate, decimals_of(rate)),
        record["baseline"] or "none",
        signed_mean_text(gain, decimals_of(gain)),
    ]
    return f"| {' | '.join(cells)} |"
