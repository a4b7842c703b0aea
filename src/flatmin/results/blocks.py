"""A table's printed parts as plain text cells, which Markdown, LaTeX and HTML then only dress."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd

from flatmin.results import shift
from flatmin.results.block import MOST_COLUMNS, Block, readable
from flatmin.results.cells import Cell, Row, mixed_environment, row_cells
from flatmin.results.failures import with_collapsed
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

    With more than `MOST_COLUMNS` methods these are the rows instead, in a block for each dataset x model.

    Args:
        runs: The measured runs (`inputs.measured`).
        table: The table.
        shifts: What the runs achieve on further test sets (`shift.COLUMNS`), if anything was measured there.
    """
    rows = row_cells(runs, table)
    beyond = readable(shift.blocks(with_failed(shifts, runs, table), table, rows)) if shifts is not None else []
    if len(table.methods) > MOST_COLUMNS:
        blocks = [*(_by_method(row, table) for row in rows), *_equal_compute(rows, table), *beyond]
    else:
        before, after = (_values(rows, table), _differences(rows, table)), _counts(rows, table)
        blocks = [*before, *_equal_compute(rows, table), *beyond, after]
    return Layout(table, rows, tuple(blocks), tuple(_remarks(runs, table, rows)))


def with_failed(shifts: pd.DataFrame, runs: pd.DataFrame, table: TableInfo) -> pd.DataFrame:
    """The table's measurements on further test sets; a run that collapsed counts as one that diverged does."""
    own, run = shifts[shifts["table"] == table.name], ["dataset", "model", "method", "seed"]
    collapsed = with_collapsed(runs[runs["table"] == table.name], {table.name: table}).set_index(run)["collapsed"]
    hit = collapsed.reindex(pd.MultiIndex.from_frame(own[run])).to_numpy(dtype=float) == 1
    return own.assign(diverged=own["diverged"].astype(bool) | hit)


def accuracy(cell: Cell, table: TableInfo, epoch: str) -> Interval:
    """The number a table prints for a cell, in percent: accuracy or error, at the last or the early-stopped epoch."""
    return cell.percent(f"{'early_' if epoch == EARLY else ''}test_{table.metric}")


def _values(rows: list[Row], table: TableInfo) -> Block:
    body = [
        (row.dataset, row.model, epoch, *(mean_text(accuracy(row.cells[m], table, epoch)) for m in table.methods))
        for row in rows
        for epoch in (LAST, EARLY)
    ]
    return Block(_values_caption(table), ("dataset", "model", "epoch", *table.methods), tuple(body), 3)


def _values_caption(table: TableInfo) -> str:
    return (
        f"Test {table.metric} in %: mean ± 95% half-width over seeds (runs). "
        "Last is the last epoch, early-stopped the epoch with the best validation accuracy."
    )


def _differences(rows: list[Row], table: TableInfo) -> Block:
    compared = [m for m in table.methods if table.baseline != (m,)]
    body = [
        (
            row.dataset,
            row.model,
            epoch,
            _baseline(row, epoch) or "none",
            *(_difference(row, m, epoch) for m in compared),
        )
        for row in rows
        for epoch in (LAST, EARLY)
    ]
    header = ("dataset", "model", "epoch", "baseline", *compared)
    return Block(_differences_caption(table), header, tuple(body), 4)


def _differences_caption(table: TableInfo) -> str:
    printed = f"in points, {_PAIRED}"
    if len(table.baseline) == 1:
        return f"Accuracy difference from {table.baseline[0]} {printed}."
    return (
        f"Accuracy difference from the baseline {printed}. The baseline of a row is the better of "
        f"{' and '.join(table.baseline)} by mean test accuracy at that epoch, which works against the other methods."
    )


_PAIRED = "paired over seeds, with 95% interval, two-sided p (and the number of pairs)"


def _baseline(row: Row, epoch: str) -> str | None:
    return row.baseline if epoch == LAST else row.early_baseline


def _difference(row: Row, method: str, epoch: str) -> str:
    cell = row.cells[method]
    if method == _baseline(row, epoch):
        return "baseline"
    return difference_text(cell.difference if epoch == LAST else cell.early_difference)


def _equal_compute(rows: list[Row], table: TableInfo) -> list[Block]:
    """What remains of each difference when the plain method had as many gradients; no block where none had."""
    body = [
        (
            row.dataset,
            row.model,
            cell.method,
            _gradients(cell),
            cell.equal,
            difference_text(cell.equal_difference),
            difference_text(cell.early_equal_difference),
        )
        for row in rows
        for cell in row.cells.values()
        if cell.equal
    ]
    caption = (
        f"At equal compute: accuracy difference in points from the one of {' and '.join(table.baseline)} that used as "
        f"many gradients (within 1%), {_PAIRED}. Methods without such a counterpart are left out."
    )
    header = ("dataset", "model", "method", "gradients", "against", LAST, EARLY)
    return [Block(caption, header, tuple(body), 3)] if body else []


def _by_method(row: Row, table: TableInfo) -> Block:
    """All of one row, its methods one below the other."""
    body = [
        (
            cell.method,
            _gradients(cell),
            mean_text(accuracy(cell, table, LAST)),
            _difference(row, cell.method, LAST),
            mean_text(accuracy(cell, table, EARLY)),
            _difference(row, cell.method, EARLY),
            _troubles(cell),
        )
        for cell in row.cells.values()
    ]
    caption = (
        f"{row.dataset} / {row.model}. {_values_caption(table)} {_differences_caption(table)} Gradients are relative "
        f"to {table.baseline[0]} (1 = equal compute)."
    )
    header = ("method", "gradients", LAST, f"difference, {LAST}", EARLY, f"difference, {EARLY}", "went wrong")
    return Block(caption, header, tuple(body), 1)


def _counts(rows: list[Row], table: TableInfo) -> Block:
    caption = (
        f"Gradient evaluations relative to {table.baseline[0]} (1 = equal compute), as the mean of (runs), and runs "
        "that went wrong."
    )
    body = [
        (row.dataset, row.model, *(f"{_gradients(row.cells[m])}; {_troubles(row.cells[m])}" for m in table.methods))
        for row in rows
    ]
    return Block(caption, ("dataset", "model", *table.methods), tuple(body), 2)


def _gradients(cell: Cell) -> str:
    return "–" if math.isnan(cell.relative_gradients) else f"{cell.relative_gradients:.2f}x ({cell.n})"


def _troubles(cell: Cell) -> str:
    return f"{cell.diverged} diverged, {cell.collapsed} collapsed, {cell.missing} missing"


def _remarks(runs: pd.DataFrame, table: TableInfo, rows: list[Row]) -> list[str]:
    found = [f"Mixed environment: {text}." for text in mixed_environment(runs[runs["table"] == table.name])]
    for row in rows:
        said = [*table.notes.get(row.key, ())]
        said += [f"departure: {text}" for text in table.departures.get(row.key, ())]
        said += [f"{c.method}: {_trouble(c)}" for c in row.cells.values() if _trouble(c)]
        if row.key in table.rows and table.rows[row.key].draw_fixed:
            said.append("conditional on one draw")
        found += [f"{row.dataset} / {row.model}: {'; '.join(dict.fromkeys(said))}."] if said else []
    return found


def _trouble(cell: Cell) -> str:
    failed = {"diverged": cell.diverged, "collapsed": cell.collapsed}
    parts = [
        f"{count(number, f'{name} run')} counted as {'it is' if number == 1 else 'they are'}"
        for name, number in failed.items()
        if number
    ]
    parts += [f"{cell.missing} of {count(cell.planned, 'run')} missing"] if cell.missing else []
    return ", ".join(parts)
