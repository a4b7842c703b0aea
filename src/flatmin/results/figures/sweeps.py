"""One setting of one ascent against test accuracy: rho, and m, the images per ascent."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from flatmin.results.blocks import LAST, Layout, accuracy
from flatmin.results.cells import Row, select
from flatmin.results.figures.drawn import (
    WIDTH,
    Drawn,
    finished,
    grid,
    label,
    leftmost,
    legend,
    log_axis,
    means,
    panels,
    row_title,
    runs_each,
    sentences,
)
from flatmin.results.inputs import MethodInfo, RowKey, TableInfo
from flatmin.results.statistics import Interval
from flatmin.results.style import INK, Look, drawing, looks
from flatmin.results.wording import method_title

Setting = Literal["rho", "m"]

LEAST_VALUES = 3
"""Two methods that differ in a setting are a pair; three are a sweep."""

SELECTED = "selected"

NAMES = {"rho": "rho (log scale)", "m": "images per ascent, m (log scale)"}


@dataclass(frozen=True)
class Sweep:
    """Methods of one row that differ in a setting alone, by its rising value.

    ``family`` is all that they share, in one string. ``chosen`` is the value that selection on validation data chose.
    """

    family: str
    ascent: str
    values: tuple[float, ...]
    methods: tuple[str, ...]
    chosen: float | None

    def spans(self, row: Row, table: TableInfo) -> list[Interval]:
        """What the table prints for these methods at the last epoch."""
        return [accuracy(row.cells[method], table, LAST) for method in self.methods]


def rho_sweep(laid: Layout, runs: pd.DataFrame) -> Drawn | None:
    """Draw test accuracy against rho for methods that differ in rho alone, with the better baseline as a band."""
    return _draw(laid, runs, "rho")


def m_sweep(laid: Layout, runs: pd.DataFrame) -> Drawn | None:
    """Draw test accuracy against m (Foret et al. 2020, section 4.1) for methods that differ in m alone."""
    return _draw(laid, runs, "m")


def sweeps(row: Row, table: TableInfo, runs: pd.DataFrame, setting: Setting) -> list[Sweep]:
    """Return the sweeps of a row with at least three values, in the order of the table's methods."""
    families: dict[str, dict[float, str]] = {}
    first: dict[str, pd.Series] = {}
    for method in table.methods:
        own = select(runs, row.key, method)
        if own.empty or own["ascent"].iloc[0] == "none":
            continue
        first[method] = own.iloc[0]
        value = _value(first[method], table, row.key, setting)
        if value is not None:
            families.setdefault(_family(first[method], table, setting), {}).setdefault(value, method)
    found = []
    for family, points in families.items():
        values = tuple(sorted(points))
        selected = [value for value in values if first[points[value]]["tuned"] == SELECTED]
        if len(values) >= LEAST_VALUES:
            chosen = selected[0] if setting == "rho" and selected else None
            methods = tuple(points[value] for value in values)
            found.append(Sweep(family, str(first[methods[0]]["ascent"]), values, methods, chosen))
    return found


def _value(run: pd.Series, table: TableInfo, row: RowKey, setting: Setting) -> float | None:
    """The setting's value; m is the whole batch where the ascent sees that. None: unknown, or without a logarithm."""
    if setting == "rho":
        return float(run["rho"]) if run["rho"] > 0 else None
    images = table.method_info.get(run["method"], MethodInfo()).m
    if images is None and row in table.rows:
        images = table.training_of(row, run["method"])["batch_size"]
    return None if images is None else float(images)


def _family(run: pd.Series, table: TableInfo, setting: Setting) -> str:
    """All else that a method is. A rho that was selected for each m is one way to have it, not a difference."""
    info = table.method_info.get(run["method"], MethodInfo())
    rest = info.m if setting == "rho" else SELECTED if run["tuned"] == SELECTED else run["rho"]
    options, training = (sorted(settings.items()) for settings in (info.options, info.training))
    return repr((run["base"], run["ascent"], rest, info.epochs, options, training))


def _draw(laid: Layout, runs: pd.DataFrame, setting: Setting) -> Drawn | None:
    table = laid.table
    own = runs[runs["table"] == table.name]
    found = {row.key: sweeps(row, table, own, setting) for row in laid.cells}
    rows = [row for row in laid.cells if found[row.key]]
    if not rows:
        return None
    titles = _titles([sweep for row in rows for sweep in found[row.key]])
    style = looks(list(titles))
    with drawing(WIDTH, 0.6 + 2.7 * grid(len(rows))[1]) as figure:
        for index, (row, ax) in enumerate(zip(rows, panels(figure, len(rows)), strict=True)):
            _band(ax, row, table)
            for sweep in found[row.key]:
                _line(ax, sweep, sweep.spans(row, table), style[sweep.family])
            _axis(ax, setting, found[row.key])
            y = f"test {table.metric} (%)" if leftmost(index, len(rows)) else ""
            band = f"\nband: {method_title(row.baseline)}" if row.baseline else ""
            label(ax, NAMES[setting], y, row_title(row) + band)
        chosen = any(sweep.chosen is not None for row in rows for sweep in found[row.key])
        legend(figure, {titles[family]: look for family, look in style.items()}, _keys(chosen=chosen), solid=True)
        numbers = [row.cells[m].n for row in rows for sweep in found[row.key] for m in sweep.methods]
        caption = (
            f"Test {table.metric} at the last epoch against {setting}, of methods that differ in {setting} alone: "
            f"means with 95% Student intervals over {runs_each(numbers)} each. The band is the better baseline."
        )
        caption += " The ring marks the value that was chosen on validation data." if chosen else ""
        said = [
            _best(row_title(row), titles[sweep.family], sweep, row, table, setting)
            for row in rows
            for sweep in found[row.key]
        ]
        title = f"Test {table.metric} against {setting}, table {table.name}"
        return finished(figure, title, caption, sentences(said), table.name)


def _titles(found: Sequence[Sweep]) -> dict[str, str]:
    """A name for each family: its ascent, with its first method where two families share one."""
    families: dict[str, Sweep] = {}
    for sweep in found:
        families.setdefault(sweep.family, sweep)
    shared = Counter(sweep.ascent for sweep in families.values())
    return {
        sweep.family: method_title(sweep.ascent)
        if shared[sweep.ascent] == 1
        else f"{method_title(sweep.ascent)} ({sweep.methods[0]} ...)"
        for sweep in families.values()
    }


def _line(ax: Axes, sweep: Sweep, spans: Sequence[Interval], look: Look) -> None:
    means(ax, sweep.values, spans, look)
    if sweep.chosen is not None:
        height = spans[sweep.values.index(sweep.chosen)].mean
        ax.plot(sweep.chosen, height, marker="o", markersize=13, markerfacecolor="none", color=look.colour)


def _band(ax: Axes, row: Row, table: TableInfo) -> None:
    """The better baseline, which has no such setting, across the panel."""
    if row.baseline is None:
        return
    span = accuracy(row.cells[row.baseline], table, LAST)
    ax.axhline(span.mean, color=INK, linewidth=1, linestyle=(0, (5, 2)), zorder=1)
    if math.isfinite(span.half_width):
        ax.axhspan(span.low, span.high, color=INK, alpha=0.13, zorder=0, linewidth=0)


def _axis(ax: Axes, setting: Setting, found: Sequence[Sweep]) -> None:
    log_axis(ax)
    if setting == "m":
        values = sorted({value for sweep in found for value in sweep.values})
        ax.set_xticks(values, [f"{value:g}" for value in values])


def _keys(*, chosen: bool) -> list[Line2D | Patch]:
    keys: list[Line2D | Patch] = [Patch(facecolor=INK, alpha=0.13, label="better baseline")]
    if chosen:
        label = "chosen on validation data"
        keys.append(
            Line2D([], [], color=INK, marker="o", markersize=10, markerfacecolor="none", linestyle="none", label=label)
        )
    return keys


def _best(place: str, name: str, sweep: Sweep, row: Row, table: TableInfo, setting: Setting) -> str:
    """ "digits / mlp: of 4 values of rho, SAM does best at 0.1 (95.81%, 5 runs); 3 of them lie above ..."."""
    spans = sweep.spans(row, table)
    sign = -1 if table.metric == "error" else 1
    best = max(range(len(spans)), key=lambda i: sign * spans[i].mean)
    text = (
        f"{place}: of {len(spans)} values of {setting} from {sweep.values[0]:g} to {sweep.values[-1]:g}, {name} does "
        f"best at {sweep.values[best]:g} (test {table.metric} {spans[best].mean:.2f}%, {runs_each([spans[best].n])})"
    )
    if sweep.chosen is not None:
        text += f", and validation data chose {sweep.chosen:g}"
    if row.baseline:
        rival = accuracy(row.cells[row.baseline], table, LAST)
        ahead = sum(sign * span.mean > sign * rival.mean for span in spans)
        text += f"; {ahead} of {len(spans)} are better than {method_title(row.baseline)} ({rival.mean:.2f}%, "
        text += f"{runs_each([rival.n])})"
    return text
