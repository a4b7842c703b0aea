"""Every run as a marker: test accuracy against its sharpness, and against what it cost."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from flatmin.results.blocks import Layout
from flatmin.results.cells import PERCENT, Row, select
from flatmin.results.figures.drawn import (
    DOTTED,
    WIDTH,
    Drawn,
    finished,
    grid,
    label,
    leftmost,
    legend,
    legend_height,
    log_axis,
    panels,
    row_title,
    runs_each,
    sentences,
)
from flatmin.results.style import INK, drawing, looks
from flatmin.results.wording import count, listed, method_title

SHARPNESS, COST = "sharpness_n_step", "gradients"


def against_sharpness(laid: Layout, runs: pd.DataFrame) -> Drawn | None:
    """Draw the test accuracy of every run against its n-step sharpness, one panel per row."""
    caption = "If flat minima generalised better, the markers would fall to the right."
    title = f"Test accuracy against sharpness, table {laid.table.name}"
    return _scatter(laid, runs, SHARPNESS, "sharpness, n-step (log scale)", title, caption)


def against_cost(laid: Layout, runs: pd.DataFrame) -> Drawn | None:
    """Draw the test accuracy of every run against its gradient evaluations, with the front of what none beats."""
    caption = (
        "A per-example gradient evaluation is the unit, so machines do not matter. The dotted steps lead along the "
        "methods that no method of equal or lower cost beats in mean accuracy."
    )
    title = f"Test accuracy against gradient evaluations, table {laid.table.name}"
    return _scatter(laid, runs, COST, "gradient evaluations (log scale)", title, caption)


def front(points: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return the methods' means that no method of equal or lower ``column`` beats, by rising cost."""
    means = points.groupby("method", sort=False)[[column, "test_accuracy"]].mean()
    ordered = means.sort_values([column, "test_accuracy"], ascending=[True, False], kind="stable")
    best_before = ordered["test_accuracy"].cummax().shift(fill_value=-math.inf)
    return ordered[ordered["test_accuracy"] > best_before]


def _scatter(laid: Layout, runs: pd.DataFrame, column: str, name: str, title: str, caption: str) -> Drawn | None:
    known = runs[(runs["table"] == laid.table.name) & np.isfinite(runs[column])]
    own = known[known[column] > 0]
    rows = [row for row in laid.cells if len(select(own, row.key))]
    if not rows:
        return None
    style = looks(laid.table.methods)
    with drawing(WIDTH, legend_height(style) + 2.6 * grid(len(rows))[1]) as figure:
        for index, (row, ax) in enumerate(zip(rows, panels(figure, len(rows)), strict=True)):
            for method, look in style.items():
                points = select(own, row.key, method)
                ax.plot(
                    points[column],
                    points["test_accuracy"] * PERCENT,
                    linestyle="none",
                    marker=look.marker,
                    color=look.colour,
                    markersize=5,
                    alpha=0.85,
                )
            if column == COST:
                _draw_front(ax, front(select(own, row.key), column), column)
            log_axis(ax)
            zeros = len(select(known, row.key)) - len(select(own, row.key))
            left_out = f"\n{count(zeros, 'run')} at 0 or below left out" if zeros else ""
            y = "test accuracy (%)" if leftmost(index, len(rows)) else ""
            label(ax, name + left_out, y, row_title(row))
        legend(figure, style, [_front_key()] if column == COST else [], lines=False)
        sized = runs_each(own.groupby(["dataset", "model", "method"]).size())
        said = [_cheapest(row, own) if column == COST else _flattest(row, own) for row in rows]
        caption = f"One marker per run ({sized} per method), the last epoch's weights. {caption}"
        return finished(figure, title, caption, sentences(said), laid.table.name)


def _draw_front(ax: Axes, best: pd.DataFrame, column: str) -> None:
    ax.plot(
        best[column],
        best["test_accuracy"] * PERCENT,
        drawstyle="steps-post",
        color=INK,
        linewidth=1,
        linestyle=DOTTED,
        zorder=1,
    )


def _front_key() -> Line2D:
    return Line2D([], [], color=INK, linewidth=1, linestyle=DOTTED, label="best mean so far")


def _cheapest(row: Row, own: pd.DataFrame) -> str:
    points = select(own, row.key)
    parts = [
        f"{method_title(str(method))} ({line['test_accuracy'] * PERCENT:.2f}% for {line[COST]:,.0f} gradients, "
        f"{count(int((points['method'] == method).sum()), 'run')})"
        for method, line in front(points, COST).iterrows()
    ]
    return f"{row_title(row)}: no method of equal or lower cost beats {listed(parts)}"


def _flattest(row: Row, own: pd.DataFrame) -> str:
    points = select(own, row.key)
    means = points.groupby("method", sort=False)[[SHARPNESS, "test_accuracy"]].mean()

    def words(method: object) -> str:
        number = count(int((points["method"] == method).sum()), "run")
        line = means.loc[str(method)]
        return (
            f"{method_title(str(method))} (sharpness {line[SHARPNESS]:.3g}, accuracy "
            f"{line['test_accuracy'] * PERCENT:.2f}%, {number})"
        )

    flat, sharp, best = means[SHARPNESS].idxmin(), means[SHARPNESS].idxmax(), means["test_accuracy"].idxmax()
    flattest = "which is also the most accurate" if flat == best else f"while the most accurate is {words(best)}"
    return f"{row_title(row)}: the flattest is {words(flat)}, {flattest}; the sharpest is {words(sharp)}"
