"""A table's printed parts as plain text cells, which Markdown, LaTeX and HTML then only dress."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd

from flatmin.results import shift
from flatmin.results.block import Block
from flatmin.results.cells import Cell, Row, mixed_environment, row_cells
from flatmin.results.inputs import TableInfo
from flatmin.results.statistics import Interval
from flatmin.results.wording import count, difference_text, mean_text

LAST = "last"
EARLY = "early-stopped"


@dataclass(frozen=True)
class Layout:
    """A table of the study as printed: its blocks, the remarks below them, and the numbers that they show."""

    table: TableInfo
    cells: list[Row]
    blocks: tuple[Block, ...]
    remarks: tuple[str, ...]


def layout(runs: pd.DataFrame, table: TableInfo, shifts: pd.DataFrame | None = None) -> Layout:
    """Lay a table out as the papers do: rows dataset x model, columns methods; ``shifts`` is measured elsewhere.

    Args:
        runs: The measured runs (`inputs.measured`).
        table: The table.
        shifts: What the runs achieve on further test sets (`shift.COLUMNS`), if anything was measured there.
    """
    rows = row_cells(runs, table)
    beyond = shift.blocks(shifts, table, rows) if shifts is not None else []
    blocks = (_values(rows, table), _differences(rows, table), *beyond, _counts(rows, table))
    return Layout(table, rows, blocks, tuple(_remarks(runs, table, rows)))


def accuracy(cell: Cell, table: TableInfo, epoch: str) -> Interval:
    """The number a table prints for a cell, in percent: accuracy or error, at the last or the early-stopped epoch."""
    return cell.percent(f"{'early_' if epoch == EARLY else ''}test_{table.metric}")


def _values(rows: list[Row], table: TableInfo) -> Block:
    caption = (
        f"Test {table.metric} in %: mean ± 95% half-width over seeds (runs). "
        "Last is the last epoch, early-stopped the epoch with the best validation accuracy."
    )
    body = [
        (row.dataset, row.model, epoch, *(mean_text(accuracy(row.cells[m], table, epoch)) for m in table.methods))
        for row in rows
        for epoch in (LAST, EARLY)
    ]
    return Block(caption, ("dataset", "model", "epoch", *table.methods), tuple(body), 3)


def _differences(rows: list[Row], table: TableInfo) -> Block:
    compared = [m for m in table.methods if table.baseline != (m,)]
    caption = (
        "Accuracy difference from the baseline in points, paired over seeds, with 95% interval and two-sided p. "
        "The baseline of a row is the better of "
        + " and ".join(table.baseline)
        + " by mean test accuracy at that epoch, which works against the other methods."
        if len(table.baseline) > 1
        else f"Accuracy difference from {table.baseline[0]} in points, paired over seeds, with 95% interval and p."
    )
    body = []
    for row in rows:
        for epoch in (LAST, EARLY):
            shown = [_difference(row.cells[m], row, epoch) for m in compared]
            baseline = row.baseline if epoch == LAST else row.early_baseline
            body.append((row.dataset, row.model, epoch, baseline or "none", *shown))
    return Block(caption, ("dataset", "model", "epoch", "baseline", *compared), tuple(body), 4)


def _difference(cell: Cell, row: Row, epoch: str) -> str:
    if cell.method == (row.baseline if epoch == LAST else row.early_baseline):
        return "baseline"
    return difference_text(cell.difference if epoch == LAST else cell.early_difference)


def _counts(rows: list[Row], table: TableInfo) -> Block:
    caption = f"Gradient evaluations relative to {table.baseline[0]} (1 = equal compute), and runs that went wrong."
    body = [(row.dataset, row.model, *(_count(row.cells[m]) for m in table.methods)) for row in rows]
    return Block(caption, ("dataset", "model", *table.methods), tuple(body), 2)


def _count(cell: Cell) -> str:
    cost = "–" if math.isnan(cell.relative_gradients) else f"{cell.relative_gradients:.2f}x"
    return f"{cost}; {cell.diverged} diverged, {cell.missing} missing"


def _remarks(runs: pd.DataFrame, table: TableInfo, rows: list[Row]) -> list[str]:
    found = [f"Mixed environment: {text}." for text in mixed_environment(runs[runs["table"] == table.name])]
    for row in rows:
        said = [*table.notes.get(row.key, ())]
        said += [f"departure: {text}" for text in table.departures.get(row.key, ())]
        said += [f"{c.method}: {_trouble(c)}" for c in row.cells.values() if c.diverged or c.missing]
        if row.key in table.rows and table.rows[row.key].draw_fixed:
            said.append("conditional on one draw")
        found += [f"{row.dataset} / {row.model}: {'; '.join(dict.fromkeys(said))}."] if said else []
    return found


def _trouble(cell: Cell) -> str:
    parts = [f"{count(cell.diverged, 'diverged run')} counted as it is"] if cell.diverged else []
    parts += [f"{cell.missing} of {count(cell.planned, 'run')} missing"] if cell.missing else []
    return ", ".join(parts)
