"""One plain sentence per row and kind of ascent: what a busy reader takes home."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from flatmin.results.blocks import Layout
from flatmin.results.cells import Cell, Row, select
from flatmin.results.inputs import MethodInfo, TableInfo
from flatmin.results.statistics import ALPHA, Interval
from flatmin.results.wording import count, method_title

Tone = Literal["better", "worse", "unclear"]


@dataclass(frozen=True)
class Answer:
    """A sentence, the number it turns on (signed accuracy points), and which way it points."""

    number: str
    sentence: str
    tone: Tone


def answers(layout: Layout, runs: pd.DataFrame) -> list[Answer]:
    """The sentences of a table, row by row."""
    own = runs[runs["table"] == layout.table.name]
    return [
        _answer(layout.table, row, row.cells[method])
        for row in layout.cells
        for method in representatives(layout.table, select(own, row.key))
        if row.cells[method].difference is not None
    ]


def representatives(table: TableInfo, runs: pd.DataFrame) -> Iterator[str]:
    """One method per ascent, options and m: the first that was tuned, else the first; never chosen by its result."""
    ascents = runs.drop_duplicates("method").set_index("method")["ascent"]
    tuned = set(runs.loc[runs["tuned"] == "selected", "method"])
    alike: dict[object, list[str]] = defaultdict(list)
    for method in table.methods:
        if method in ascents.index and ascents[method] != "none":
            images = table.method_info.get(method, MethodInfo()).m
            alike[ascents[method], images, frozenset(table.options_of(method).items())].append(method)
    for names in alike.values():
        yield next((name for name in names if name in tuned), names[0])


def _answer(table: TableInfo, row: Row, cell: Cell) -> Answer:
    difference = cell.difference
    assert difference is not None
    tone: Tone = "unclear"
    if difference.p < ALPHA:
        tone = "better" if difference.interval.mean > 0 else "worse"
    said = f"{_where(table, row)}{_claim(table, row, cell, tone)}; {_early(row, cell)}."
    sentence = f"{said}{_edge(table, row, cell)}{_trouble(cell)}"
    span = difference.interval
    return Answer(f"{span.mean:+.{_decimals(span)}f}", sentence, tone)


def _where(table: TableInfo, row: Row) -> str:
    data = table.rows[row.key].title if row.key in table.rows else row.dataset
    return f"On {data} ({row.model}), "


def _claim(table: TableInfo, row: Row, cell: Cell, tone: Tone) -> str:
    difference = cell.difference
    assert difference is not None
    method = method_title(cell.method)
    rivals = method_title(str(row.baseline))
    rival = f"the better baseline ({rivals})" if len(table.baseline) > 1 else rivals
    span = difference.interval
    size = f"{abs(span.mean):.{_decimals(span)}f} points"
    if tone == "better":
        return f"{method} beats {rival} by {size} ({_interval(span)})"
    if tone == "worse":
        mirrored = Interval(-span.mean, span.half_width, span.n, span.sd)
        return f"{method} falls behind {rival} by {size} ({_interval(mirrored)})"
    return f"{method} and {rival} cannot be told apart: {span.mean:+.{_decimals(span)}f} points ({_interval(span)})"


def _early(row: Row, cell: Cell) -> str:
    if cell.early_difference is None:
        return "early stopping was not measured"
    span = cell.early_difference.interval
    digits = _decimals(span)
    ends = "" if math.isnan(span.half_width) else f" ({span.low:.{digits}f} to {span.high:.{digits}f})"
    rival = "" if row.early_baseline == row.baseline else f" to {method_title(str(row.early_baseline))}"
    return f"with early stopping the gap{rival} is {span.mean:+.{digits}f}{ends}"


def _edge(table: TableInfo, row: Row, cell: Cell) -> str:
    names = [name.replace("_", " ") for name in table.edge_of(row.key, cell.method)]
    return f" Its {' and '.join(names)} lies at the edge of its grid." if names else ""


def _interval(span: Interval) -> str:
    if math.isnan(span.half_width):
        return f"{count(span.n, 'seed')}, no interval"
    digits = _decimals(span)
    return f"95% interval {span.low:.{digits}f} to {span.high:.{digits}f}, {count(span.n, 'seed')}"


def _decimals(span: Interval) -> int:
    """One decimal, or two where the interval is so narrow that one would hide its ends."""
    return 2 if span.half_width < 0.5 else 1


def _trouble(cell: Cell) -> str:
    said = f" {count(cell.diverged, 'run')} of {method_title(cell.method)} diverged." if cell.diverged else ""
    return said + (f" {count(cell.missing, 'run')} of {method_title(cell.method)} missing." if cell.missing else "")
