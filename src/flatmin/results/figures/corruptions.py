"""Corrupted images: where a method is better or worse than the baseline, a cell per corruption and severity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import CenteredNorm, to_hex

from flatmin.results.blocks import Layout
from flatmin.results.cells import PERCENT, Row, select
from flatmin.results.failures import Difference, difference
from flatmin.results.figures.drawn import PANELS_ACROSS, WIDTH, Drawn, finished, row_title, runs_each, sentences
from flatmin.results.statistics import ALPHA
from flatmin.results.style import GRID, INK, drawing, luminance
from flatmin.results.wording import method_title, signed

COLOURS = colormaps["cividis"]
"""From dark blue over grey to light yellow: its lightness rises all the way, so it reads the same in grey."""

DARK, LIGHT = "#101010", "#fefefe"
"""Numbers in cells, which keep their background in both modes of the page."""

EQUALLY_READABLE = 0.18
"""Luminance on which black and white have the same contrast."""

COLUMNS_ACROSS = 6
"""Columns of cells that stand side by side, over all panels, where these are small."""

MOST_COLUMNS = 8
"""Methods of one panel; the next ones have another."""

MOST_LETTERS = 80
"""Letters that have room side by side below a panel of its full width; longer names are turned."""


@dataclass(frozen=True)
class Heat:
    """A suite of one row: differences from ``baseline`` by line (corruption or severity) and method."""

    title: str
    baseline: str
    lines: tuple[str, ...]
    methods: tuple[str, ...]
    corruptions: int
    cells: dict[tuple[str, str], Difference]


def corruption_heat(laid: Layout, shifts: pd.DataFrame | None) -> Drawn | None:
    """Draw accuracy differences from the better baseline by corruption and severity, paired over seeds, as numbers."""
    found = heats(laid, shifts)
    if not found:
        return None
    top = max(abs(cell.interval.mean) for heat in found for cell in heat.cells.values())
    norm = CenteredNorm(0, max(top, 0.01))
    across = min(len(found), max(1, COLUMNS_ACROSS // max(len(heat.methods) for heat in found)), PANELS_ACROSS)
    heights = [max(len(heat.lines) for heat in found[i : i + across]) for i in range(0, len(found), across)]
    with drawing(WIDTH, sum(0.85 + 0.24 * lines for lines in heights)) as figure:
        axes = figure.subplots(len(heights), across, squeeze=False, height_ratios=heights).flat
        for heat, ax in zip_longest(found, axes):
            if heat is None:
                ax.axis("off")
            else:
                _draw(ax, heat, norm)
        seeds = runs_each(cell.interval.n for heat in found for cell in heat.cells.values()).replace("run", "seed")
        caption = (
            "Accuracy difference from the row's better baseline in points at the last epoch: above, each corruption "
            "(mean over severities); below, each severity (mean over the corruptions that count for the mCE). Light "
            f"is better than the baseline, dark is worse; paired over {seeds}. A star marks p < {ALPHA:g}, not "
            "adjusted for the number of cells; a dash, that no seed pairs."
        )
        said = [_said(heat, method) for heat in found for method in heat.methods]
        title = f"Differences under corruption, table {laid.table.name}"
        return finished(figure, title, caption, sentences(said), laid.table.name)


def heats(laid: Layout, shifts: pd.DataFrame | None) -> list[Heat]:
    """Return the suites of a table's rows that were measured for a baseline and another method."""
    if shifts is None:
        return []
    own = shifts[(shifts["table"] == laid.table.name) & (shifts["epoch"] == "last") & (shifts["form"] == "corruptions")]
    suites = [
        (row, str(title), part)
        for row in laid.cells
        for title, part in select(own, row.key).groupby("title", sort=False)
    ]
    found = [
        _heat(row, title, part, others[i : i + MOST_COLUMNS])
        for row, title, part in suites
        for others in [[method for method in laid.table.methods if method != row.baseline]]
        for i in range(0, len(others), MOST_COLUMNS)
    ]
    return [heat for heat in found if heat.cells]


def _heat(row: Row, title: str, part: pd.DataFrame, methods: Sequence[str]) -> Heat:
    counted = part[part["main"]] if part["main"].any() else part
    groups = {str(name).replace("_", " "): group for name, group in part.groupby("corruption", sort=False)}
    corruptions = len(groups)
    groups |= {f"severity {level}": group for level, group in counted.groupby("severity", sort=True)}
    cells = {
        (line, method): found
        for line, group in groups.items()
        for method in methods
        if (found := _difference(group, method, row.baseline)) is not None
    }
    shown = tuple(method for method in methods if any((line, method) in cells for line in groups))
    place = f"{row_title(row)}\n{title}, against {method_title(str(row.baseline))}"
    return Heat(place, str(row.baseline), tuple(groups), shown, corruptions, cells)


def _difference(group: pd.DataFrame, method: str, baseline: str | None) -> Difference | None:
    """Method minus baseline in points over the seeds that both have, each seed the mean over the group."""
    compared = group[group["method"].isin([method, baseline])]
    by_seed = compared.groupby(["method", "seed"])["accuracy"].agg(lambda values: values.mean(skipna=False)).unstack(0)
    if baseline is None or not {method, baseline} <= {*by_seed.columns}:
        return None
    gaps = ((by_seed[method] - by_seed[baseline]) * PERCENT).dropna()
    if gaps.empty:
        return None
    failed = compared.groupby("seed")["diverged"].any().reindex(gaps.index)
    return difference(gaps.to_numpy(dtype=float), failed.to_numpy(dtype=bool))


def _draw(ax: Axes, heat: Heat, norm: CenteredNorm) -> None:
    values = np.array([[_mean(heat, line, method) for method in heat.methods] for line in heat.lines])
    ax.pcolormesh(np.ma.masked_invalid(values), cmap=COLOURS, norm=norm, edgecolors=GRID, linewidth=0.7)
    for height, line in enumerate(heat.lines):
        for place, method in enumerate(heat.methods):
            text, colour = _cell_text(heat.cells.get((line, method)), norm)
            ax.text(place + 0.5, height + 0.5, text, ha="center", va="center", fontsize=8, color=colour)
    ax.axhline(heat.corruptions, color=INK, linewidth=2.5)
    names = [method_title(method) for method in heat.methods]
    ax.set_xticks(np.arange(len(names)) + 0.5, names)
    ax.set_yticks(np.arange(len(heat.lines)) + 0.5, heat.lines)
    ax.tick_params(length=0)
    if max(map(len, names)) * len(names) > MOST_LETTERS:
        ax.tick_params(axis="x", rotation=90)
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)
    ax.set_ylim(len(heat.lines), 0)
    ax.set_title(heat.title)


def _mean(heat: Heat, line: str, method: str) -> float:
    cell = heat.cells.get((line, method))
    return float("nan") if cell is None else cell.interval.mean


def _cell_text(cell: Difference | None, norm: CenteredNorm) -> tuple[str, str]:
    """A cell's number and the colour that can be read on it."""
    if cell is None:
        return "–", INK
    bright = luminance(to_hex(COLOURS(norm(cell.interval.mean)))) > EQUALLY_READABLE
    star = "*" if cell.p < ALPHA and not cell.rests_on_failures else ""
    return signed(cell.interval.mean, 1) + star, DARK if bright else LIGHT


def _said(heat: Heat, method: str) -> str:
    """ "digits / mlp, ...: SAM is better on 12 of 15 corruptions, from -0.31 points (fog) to +4.10 (shot noise)"."""
    known = {line: heat.cells[line, method] for line in heat.lines[: heat.corruptions] if (line, method) in heat.cells}
    spans = {line: cell.interval for line, cell in known.items()}
    worst, best = (pick(spans, key=lambda line: spans[line].mean) for pick in (min, max))
    better = sum(span.mean > 0 for span in spans.values())
    seeds = runs_each(span.n for span in spans.values()).replace("run", "seed")
    place = heat.title.replace("\n", ", ")
    return (
        f"{place}: {method_title(method)} is better on {better} of {len(spans)} corruptions, from "
        f"{signed(spans[worst].mean)} points ({worst}) to {signed(spans[best].mean)} ({best}), over {seeds}"
    )
