"""What happens over the epochs: accuracy, and wrong labels learnt by heart, as means over seeds with bands."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from scipy import stats

from flatmin.results.blocks import Layout
from flatmin.results.cells import PERCENT, select
from flatmin.results.figures.drawn import (
    WIDTH,
    Drawn,
    extremes,
    finished,
    grid,
    groups,
    label,
    leftmost,
    legend,
    legend_height,
    panels,
    row_title,
    runs_each,
    sentences,
)
from flatmin.results.statistics import ALPHA
from flatmin.results.style import INK, Look, drawing, looks

PANELS = (("train_accuracy", "training accuracy (%)"), ("validation_accuracy", "validation accuracy (%)"))
MARKS = 6
"""Markers along a curve, by which methods are told apart without colour."""

BAND = (
    "Lines are means over seeds, bands 95% Student intervals, at each epoch over the runs that reached it "
    "({} per method)."
)


def learning_curves(laid: Layout, runs: pd.DataFrame, histories: Mapping[str, pd.DataFrame]) -> Drawn | None:
    """Draw training and validation accuracy by epoch: a row of panels per dataset x model."""
    own = _recorded(laid, runs, histories)
    rows = [row for row in laid.cells if len(select(own, row.key))]
    if not rows:
        return None
    style = looks(laid.table.methods)
    shown = [(row, group) for row in rows for group in groups(laid.table)]
    with drawing(WIDTH, legend_height(style) + 2.5 * len(shown)) as figure:
        axes = figure.subplots(len(shown), len(PANELS), squeeze=False, sharex="row")
        for (row, group), pair in zip(shown, axes, strict=True):
            for (column, name), ax in zip(PANELS, pair, strict=True):
                for place, method in enumerate(group):
                    found = band(select(own, row.key, method), histories, column)
                    _draw(ax, found, style[method], place / len(group))
                label(ax, "epoch", name, row_title(row) if column == PANELS[0][0] else "")
                ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        legend(figure, style)
        caption = (
            f"Accuracy by epoch. {BAND.format(_runs(own))} Under label noise, training accuracy counts the noisy "
            "labels as right; whether validation labels are noisy too is noted with the table."
        )
        said = [
            extremes(
                row_title(row),
                "final validation accuracy",
                {method: cell.percent("validation_accuracy") for method, cell in row.cells.items()},
            )
            for row in rows
        ]
        return finished(
            figure, f"Learning curves of table {laid.table.name}", caption, sentences(said), laid.table.name
        )


def memorisation(laid: Layout, runs: pd.DataFrame, histories: Mapping[str, pd.DataFrame]) -> Drawn | None:
    """Draw the share of wrong labels that the model repeats, by epoch, with each method's early-stopping epoch."""
    own = _recorded(laid, runs, histories)
    known = [run for run in own["run_id"] if histories[run]["memorised"].notna().any()]
    noisy = own[own["run_id"].isin(known) & own["memorised"].notna()]
    rows = [row for row in laid.cells if len(select(noisy, row.key))]
    if not rows:
        return None
    style = looks(laid.table.methods)
    stops = "best_epoch" in noisy
    shown = [(row, group) for row in rows for group in groups(laid.table)]
    with drawing(WIDTH, legend_height(style) + 2.7 * grid(len(shown))[1]) as figure:
        for index, ((row, group), ax) in enumerate(zip(shown, panels(figure, len(shown)), strict=True)):
            for place, method in enumerate(group):
                chosen = select(noisy, row.key, method)
                found = band(chosen, histories, "memorised")
                _draw(ax, found, style[method], place / len(group))
                if stops and len(chosen):
                    _mark_stop(ax, found, float(chosen["best_epoch"].median()), style[method])
            y = "wrong labels repeated (%)" if leftmost(index, len(shown)) else ""
            label(ax, "epoch", y, row_title(row))
            ax.set_ylim(bottom=0)
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        legend(figure, style, [_stop_key()] if stops else [])
        caption = (
            "Share of the wrong training labels that the model repeats: high means that it learnt the noise by heart. "
            f"{BAND.format(_runs(noisy))}"
        )
        caption += " The ring marks the median early-stopping epoch, chosen on validation data." if stops else ""
        said = [
            extremes(
                row_title(row),
                "the share of wrong labels repeated at the end",
                {method: cell.percent("memorised") for method, cell in row.cells.items()},
            )
            for row in rows
        ]
        title = f"Wrong labels learnt by heart, table {laid.table.name}"
        return finished(figure, title, caption, sentences(said), laid.table.name)


def band(runs: pd.DataFrame, histories: Mapping[str, pd.DataFrame], column: str) -> pd.DataFrame:
    """Return ``mean``, ``low``, ``high`` and ``n`` by epoch, in percent; ends are NaN where fewer than two runs are."""
    curves = [histories[run].set_index("epoch")[column] * PERCENT for run in runs["run_id"]]
    if not curves:
        return pd.DataFrame(columns=["mean", "low", "high", "n"])
    frame = pd.concat(curves, axis=1).sort_index()
    mean, n = frame.mean(axis=1), frame.count(axis=1)
    half = frame.std(axis=1, ddof=1) / np.sqrt(n) * stats.t.ppf(1 - ALPHA / 2, np.maximum(n - 1, 1))
    low, high = (mean - half).clip(0, PERCENT), (mean + half).clip(0, PERCENT)
    return pd.DataFrame({"mean": mean, "low": low, "high": high, "n": n})


def _recorded(laid: Layout, runs: pd.DataFrame, histories: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    return runs[(runs["table"] == laid.table.name) & runs["run_id"].isin(list(histories))]


def _draw(ax: Axes, shown: pd.DataFrame, look: Look, offset: float) -> None:
    """Draw a curve and its band; markers start at an ``offset`` of their own, so that they do not hide each other."""
    if shown.empty:
        return
    step = max(1, len(shown) // MARKS)
    ax.plot(
        shown.index,
        shown["mean"],
        color=look.colour,
        linestyle=look.line,
        marker=look.marker,
        markersize=4,
        markevery=(int(offset * step), step),
    )
    wide = shown["low"].notna()
    if wide.any():
        ax.fill_between(
            shown.index, shown["low"], shown["high"], where=wide, color=look.colour, alpha=0.18, linewidth=0
        )


def _mark_stop(ax: Axes, shown: pd.DataFrame, epoch: float, look: Look) -> None:
    height = float(np.interp(epoch, shown.index.to_numpy(dtype=float), shown["mean"].to_numpy(dtype=float)))
    ax.plot(epoch, height, marker="o", markersize=11, markerfacecolor="none", markeredgewidth=1.5, color=look.colour)
    ax.plot([epoch, epoch], [0, height], color=look.colour, linewidth=0.7)


def _stop_key() -> Line2D:
    return Line2D(
        [], [], color=INK, marker="o", markersize=9, markerfacecolor="none", linestyle="none", label="early stopping"
    )


def _runs(own: pd.DataFrame) -> str:
    return runs_each(own.groupby(["dataset", "model", "method"]).size())
