"""Measured seconds: the one result that differs between two executions, kept apart from all others."""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import Any

import pandas as pd

from flatmin.results.statistics import mean_interval

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
)


def cost_frame(runs: pd.DataFrame, seconds: pd.DataFrame) -> pd.DataFrame:
    """Mean training seconds per table, row and method, with the gradient evaluations they bought."""
    if runs.empty or seconds.empty:
        return pd.DataFrame(columns=list(COLUMNS))
    timed = runs.merge(seconds[["table", "run_id", "train_seconds"]], on=["table", "run_id"], how="inner")
    timed = timed[timed["train_seconds"].notna()]
    lines = []
    for key, group in timed.groupby(["table", "dataset", "model", "method", "device"], sort=True):
        interval = mean_interval(group["train_seconds"].to_numpy(dtype=float))
        gradients = float(group["gradients"].mean())
        each = float(group["train_seconds"].sum() / group["gradients"].sum() * 1e6)
        lines.append((*key, interval.n, interval.mean, interval.half_width, gradients, each))
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
        "compare methods within a row, not machines. The report counts gradients instead, which do not depend on it.",
        "",
        "| table | dataset | model | method | device | runs | seconds per run | gradients per run | µs per gradient |",
        "|---|---|---|---|---|--:|--:|--:|--:|",
    ]
    lines += [_markdown_line(record) for record in frame.to_dict("records")]
    return "\n".join(lines) + "\n"


def _markdown_line(record: dict[Hashable, Any]) -> str:
    half_width = record["train_seconds_half_width"]
    spread = "" if math.isnan(half_width) else f" ± {half_width:.1f}"
    names = " | ".join(str(record[name]) for name in COLUMNS[:6])
    seconds = f"{record['train_seconds_mean']:.1f}{spread}"
    return f"| {names} | {seconds} | {record['gradients_mean']:,.0f} | {record['microseconds_per_gradient']:.1f} |"
