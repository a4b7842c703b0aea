"""Does SAM beat SGD here, by how much, how sure, at what cost: what a busy reader takes home, in plain sentences."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from flatmin.results.block import Block
from flatmin.results.blocks import Layout
from flatmin.results.cells import Cell, Row, select
from flatmin.results.claim_files import TEST_WORDS
from flatmin.results.failures import Difference
from flatmin.results.inputs import MethodInfo, RowKey, TableInfo
from flatmin.results.statistics import ALPHA, Interval
from flatmin.results.wording import (
    count,
    decimals_of,
    difference_text,
    interval_words,
    method_title,
    p_text,
    signed,
)

Tone = Literal["better", "worse", "unclear"]

SAM = "sam"
"""The ascent that a study is about where it has it; else its first one."""


@dataclass(frozen=True)
class Answer:
    """One method in one row against the better baseline.

    ``number`` and ``interval`` are ``difference`` in signed accuracy points. ``sentence`` says which is better by how
    much; ``sure``, ``early`` and ``cost`` are the other three facts, of which ``early_difference`` is behind the second
    (None: not measured). ``equal`` is the plain method with as many gradients, and the difference from it (None: there
    is none, or it is the better baseline). ``gradients`` are relative to the first baseline's (NaN: unknown).
    ``trouble`` must be known before any of this is believed (empty if there is none). ``tone`` says where the
    difference lies, by its own p.
    """

    table: str
    place: str
    method: str
    difference: Difference
    number: str
    interval: str
    sentence: str
    sure: str
    early: str
    cost: str
    equal: tuple[str, str] | None
    gradients: float
    trouble: str
    tone: Tone
    early_difference: Difference | None


def headlines(layout: Layout, runs: pd.DataFrame) -> list[Answer]:
    """The answers of a table, one per row: SAM's where the table has it, else those of its first ascent."""
    return [
        _answer(layout.table, row, cell)
        for row, cells in _compared(layout, runs)
        for cell in cells
        if cell.method == headline(layout.table, runs, row.key)
    ]


def unanswered(layout: Layout, runs: pd.DataFrame) -> list[str]:
    """The rows of a table that have no answer yet, in words."""
    answered = [
        row.key
        for row, cells in _compared(layout, runs)
        if headline(layout.table, runs, row.key) in [cell.method for cell in cells]
    ]
    return [_place(layout.table, row) for row in layout.cells if row.key not in answered]


def headline(table: TableInfo, runs: pd.DataFrame, row: RowKey) -> str | None:
    """The method of a row that its answer is about; named by what it is, never chosen by its result."""
    own = runs[runs["table"] == table.name]
    ascents = own.drop_duplicates("method").set_index("method")["ascent"].to_dict()
    present = [ascents[method] for method in table.methods if ascents.get(method, "none") != "none"]
    wanted = SAM if SAM in present else next(iter(present), None)
    fitting = [name for name in representatives(table, select(own, row)) if ascents[name] == wanted]
    return min(fitting, key=lambda name: len(table.options_of(name)), default=None)


def others(layouts: Sequence[Layout], runs: pd.DataFrame) -> Block | None:
    """Every other ascent against the better baseline of its row, one line each; None where there is none."""
    several = len(layouts) > 1
    body = [
        (
            *([layout.table.name] if several else []),
            row.dataset,
            row.model,
            cell.method,
            row.baseline or "none",
            difference_text(cell.difference),
            difference_text(cell.early_difference),
            f"{_times(cell.relative_gradients)} ({cell.n})",
        )
        for layout in layouts
        for row, cells in _compared(layout, runs)
        for cell in cells
        if cell.method != headline(layout.table, runs, row.key)
    ]
    caption = (
        "The other methods, one per ascent and options, against the better baseline of their row: accuracy points with "
        "95% interval and two-sided p (seeds), at the last and at the early-stopped epoch (against the better baseline "
        "at that epoch), paired over seeds; gradients relative to the first baseline's."
    )
    stubs = (*(["table"] if several else []), "dataset", "model", "method", "baseline")
    header = (*stubs, "last epoch", "early-stopped", "gradients")
    return Block(caption, header, tuple(body), len(stubs)) if body else None


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


def _compared(layout: Layout, runs: pd.DataFrame) -> Iterator[tuple[Row, list[Cell]]]:
    """Yield each row with the cells that are compared with its baseline, a representative of each ascent."""
    own = runs[runs["table"] == layout.table.name]
    for row in layout.cells:
        cells = [row.cells[method] for method in representatives(layout.table, select(own, row.key))]
        yield row, [cell for cell in cells if cell.difference is not None]


def _answer(table: TableInfo, row: Row, cell: Cell) -> Answer:
    difference = cell.difference
    assert difference is not None
    tone = tone_of(difference, difference.p)
    place = _place(table, row)
    troubles = [*_edge(table, row, cell), *_troubles(cell), *_troubles(row.cells[str(row.baseline)])]
    return Answer(
        table=table.name,
        place=place,
        method=method_title(cell.method),
        difference=difference,
        number=_number(difference.interval),
        interval=interval_words(difference.interval),
        sentence=f"On {place}, {_claim(table, row, cell, tone)}.",
        sure=_sure(difference),
        early=_early(row, cell),
        cost=_cost(table, row, cell),
        equal=_at_equal_cost(row, cell),
        gradients=cell.relative_gradients,
        trouble=" ".join(troubles),
        tone=tone,
        early_difference=cell.early_difference,
    )


def _place(table: TableInfo, row: Row) -> str:
    """The row in plain words; by its dataset's name where another row reads the same."""
    titles = [(info.title, model) for (_, model), info in table.rows.items()]
    title = table.rows[row.key].title if row.key in table.rows else row.dataset
    return f"{title if titles.count((title, row.model)) <= 1 else row.dataset} ({row.model})"


def tone_of(difference: Difference, p: float) -> Tone:
    """Where a difference lies, by its ``p`` or that after an adjustment; failed runs alone show no method better."""
    if not p < ALPHA or difference.rests_on_failures:
        return "unclear"
    return "better" if difference.interval.mean > 0 else "worse"


def _claim(table: TableInfo, row: Row, cell: Cell, tone: Tone) -> str:
    assert cell.difference is not None
    method = method_title(cell.method)
    rivals = method_title(str(row.baseline))
    rival = f"the better baseline ({rivals})" if len(table.baseline) > 1 else rivals
    span, failed = cell.difference.interval, cell.difference.failed
    size = f"{_number(span).lstrip('+-')} points"
    if tone == "unclear" and failed:
        return f"nothing is shown of {method} and {rival}: in {failed} of {count(span.n, 'pair')} a run failed"
    if tone == "unclear":
        return f"{method} and {rival} cannot be told apart"
    return f"{method} {'beats' if tone == 'better' else 'falls behind'} {rival} by {size}"


def _sure(difference: Difference) -> str:
    n = count(difference.interval.n, "seed")
    if math.isnan(difference.p):
        return f"{n}: no test is possible"
    said = f"{p_text(difference.p)}, paired {TEST_WORDS[difference.test]} over {n}"
    alone = difference.p < ALPHA and difference.rests_on_failures
    return said + (", which those without a failed run do not show" if alone else "")


def _early(row: Row, cell: Cell) -> str:
    if cell.early_difference is None:
        return "not measured"
    span = cell.early_difference.interval
    rival = "" if row.early_baseline == row.baseline else f" against {method_title(str(row.early_baseline))}"
    return f"{_number(span)} points{rival} ({interval_words(span)})"


def _cost(table: TableInfo, row: Row, cell: Cell) -> str:
    unit = method_title(table.baseline[0])
    if math.isnan(cell.relative_gradients):
        return f"unknown: no finished run of {unit}"
    rival = row.cells[str(row.baseline)]
    beside = f" ({method_title(rival.method)}: {_times(rival.relative_gradients)})"
    said = f"{_times(cell.relative_gradients)} the gradients of {unit}, {count(cell.n, 'run')}"
    return said + (beside if rival.method != table.baseline[0] else "")


def _at_equal_cost(row: Row, cell: Cell) -> tuple[str, str] | None:
    if cell.equal_difference is None or cell.equal == row.baseline:
        return None
    span = cell.equal_difference.interval
    return method_title(str(cell.equal)), f"{_number(span)} points ({interval_words(span)})"


def _times(ratio: float) -> str:
    return "–" if math.isnan(ratio) else f"{ratio:.2f}".rstrip("0").rstrip(".") + "x"


def _edge(table: TableInfo, row: Row, cell: Cell) -> Iterator[str]:
    names = [name.replace("_", " ") for name in table.edge_of(row.key, cell.method)]
    if names:
        yield f"Its {' and '.join(names)} lies at the edge of its grid."


def _troubles(cell: Cell) -> Iterator[str]:
    method = method_title(cell.method)
    for number, what in ((cell.diverged, "diverged"), (cell.collapsed, "collapsed (no better than guessing)")):
        if number:
            yield f"{count(number, 'run')} of {method} {what} and {'is' if number == 1 else 'are'} counted."
    if cell.missing:
        yield f"{count(cell.missing, 'run')} of {method} missing."


def _number(span: Interval) -> str:
    return signed(span.mean, decimals_of(span))
