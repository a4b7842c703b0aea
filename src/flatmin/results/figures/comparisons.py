"""Methods beside each other: last epoch against early stopping, and differences from the better baseline."""

from __future__ import annotations

import math
from collections.abc import Mapping

from matplotlib.axes import Axes

from flatmin.results.blocks import EARLY, LAST, Layout, accuracy
from flatmin.results.cells import Cell, Row
from flatmin.results.figures.drawn import (
    WIDTH,
    Drawn,
    dot,
    epoch_keys,
    finished,
    grid,
    label,
    leftmost,
    panels,
    row_title,
    runs_each,
    sentences,
)
from flatmin.results.statistics import ALPHA
from flatmin.results.style import INK, Look, drawing, looks
from flatmin.results.wording import listed, method_title, signed

EPOCHS = ((LAST, -0.13, True), (EARLY, 0.13, False))
"""Each with its place in a line, and whether its marker is filled."""

MOST_NAMED = 5
"""Methods that an alternative text names one by one."""


def last_and_early(laid: Layout) -> Drawn | None:
    """Draw test accuracy (or error) per method at the last and at the early-stopped epoch, with 95% intervals."""
    table = laid.table
    rows = [row for row in laid.cells if any(cell.n for cell in row.cells.values())]
    if not rows:
        return None
    style = looks(table.methods)
    with drawing(WIDTH, grid(len(rows))[1] * (1.0 + 0.36 * len(table.methods)) + 0.4) as figure:
        for index, (row, ax) in enumerate(zip(rows, panels(figure, len(rows)), strict=True)):
            for height, method in enumerate(table.methods):
                for epoch, shift, filled in EPOCHS:
                    span = accuracy(row.cells[method], table, epoch)
                    if span.n:
                        dot(ax, span, height + shift, style[method], filled=filled)
            names = [method_title(method) for method in table.methods]
            _lines(ax, names if leftmost(index, len(rows)) else [""] * len(names))
            label(ax, f"test {table.metric} (%)", "", row_title(row))
        figure.legend(handles=epoch_keys(), loc="outside lower center", ncols=2)
        caption = (
            f"Test {table.metric} at the last epoch (filled) and at the epoch with the best validation accuracy "
            f"(open): means with 95% Student intervals over {_runs(rows)}. Where filled and open lie apart, early "
            "stopping does part of what a method does."
        )
        title = f"Last epoch against early stopping, table {table.name}"
        return finished(figure, title, caption, sentences([_change(row, laid) for row in rows]), table.name)


def differences(laid: Layout) -> Drawn | None:
    """Draw paired differences from the better baseline with 95% intervals: a panel per row, each to its own scale."""
    shown = [
        (row, cells)
        for row in laid.cells
        if (cells := [cell for cell in row.cells.values() if cell.difference is not None])
    ]
    if not shown:
        return None
    style = looks(laid.table.methods)
    heights = [0.9 + 0.34 * len(cells) for _, cells in shown]
    with drawing(WIDTH, sum(heights) + 0.5) as figure:
        axes = figure.subplots(len(shown), 1, squeeze=False, height_ratios=heights)[:, 0]
        for (row, cells), ax in zip(shown, axes, strict=True):
            ax.axvline(0, color=INK, linewidth=0.9)
            for height, cell in enumerate(cells):
                _pair(ax, cell, height, style[cell.method])
            _lines(ax, [method_title(cell.method) for cell in cells])
            label(ax, "", "", f"{row_title(row)}, against {_rivals(row)}")
        axes[-1].set_xlabel("accuracy difference (points); right of zero the method is better")
        figure.legend(handles=epoch_keys(), loc="outside lower center", ncols=2)
        pairs = runs_each(
            cell.difference.interval.n for _, cells in shown for cell in cells if cell.difference is not None
        )
        caption = (
            "Paired accuracy differences from the better baseline (better at that epoch), with 95% intervals over "
            f"{pairs.replace('run', 'seed')}; filled: last epoch, open: early-stopped. An interval that crosses the "
            "line at zero leaves open which is better."
        )
        said = [_against(row, cells) for row, cells in shown]
        title = f"Paired differences from the better baseline, table {laid.table.name}"
        return finished(figure, title, caption, sentences(said), laid.table.name)


def _lines(ax: Axes, names: list[str]) -> None:
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.5, -0.5)


def _pair(ax: Axes, cell: Cell, height: float, look: Look) -> None:
    for difference, (_, shift, filled) in zip((cell.difference, cell.early_difference), EPOCHS, strict=True):
        if difference is not None:
            dot(ax, difference.interval, height + shift, look, filled=filled)


def _rivals(row: Row) -> str:
    last, early = (method_title(str(name)) for name in (row.baseline, row.early_baseline))
    return last if early == last or row.early_baseline is None else f"{last} (early-stopped: {early})"


def _change(row: Row, laid: Layout) -> str:
    """ "digits / mlp: from the early-stopped to the last epoch SGD goes from 80.02% to 41.00% (5 runs) and ..."."""
    spans = {
        method: (accuracy(cell, laid.table, EARLY), accuracy(cell, laid.table, LAST))
        for method, cell in row.cells.items()
    }
    named = _ends({method: last.mean - early.mean for method, (early, last) in spans.items()})
    if not named:
        return f"{row_title(row)}: no early-stopped measurement"
    parts = [
        f"{method_title(method)} goes from {early.mean:.2f}% to {last.mean:.2f}% ({runs_each([last.n])})"
        for method in named
        for early, last in [spans[method]]
    ]
    return f"{row_title(row)}: from the early-stopped to the last epoch {listed(parts)}"


def _against(row: Row, cells: list[Cell]) -> str:
    """ "digits / mlp: accuracy at the last epoch against SGD-2x, in points: SAM +0.30 (significant, 5 seeds) ..."."""
    known = {cell.method: cell.difference for cell in cells if cell.difference is not None}
    better = sum(difference.interval.mean > 0 for difference in known.values())
    parts = []
    for method in _ends({method: difference.interval.mean for method, difference in known.items()}):
        sure = "significant" if known[method].p < ALPHA else "not significant"
        seeds = runs_each([known[method].interval.n]).replace("run", "seed")
        parts.append(f"{method_title(method)} {signed(known[method].interval.mean)} ({sure}, {seeds})")
    of = f"{better} of {len(known)} methods are better, and the ends are " if len(known) > MOST_NAMED else ""
    rival = method_title(str(row.baseline))
    return f"{row_title(row)}: accuracy at the last epoch against {rival}, in points: {of}{listed(parts)}"


def _ends(values: Mapping[str, float]) -> list[str]:
    """The methods to name: all of a few, in their order; of many, those with the highest and the lowest value."""
    known = {method: value for method, value in values.items() if math.isfinite(value)}
    if len(known) <= MOST_NAMED:
        return list(known)
    return [pick(known, key=lambda method: known[method]) for pick in (max, min)]


def _runs(rows: list[Row]) -> str:
    return runs_each(cell.n for row in rows for cell in row.cells.values())
