"""The figures of a table, each as svg text that depends on its input alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from scipy import stats

from flatmin.results.blocks import EARLY, LAST, Layout, accuracy
from flatmin.results.cells import PERCENT, Cell, Row, select
from flatmin.results.statistics import ALPHA
from flatmin.results.style import INK, Look, drawing, empty_figure, looks, svg_text
from flatmin.results.wording import count, method_title

CURVES = (("train_accuracy", "training accuracy (%)"), ("validation_accuracy", "validation accuracy (%)"))
PANELS_ACROSS = 3


def learning_curves(layout: Layout, runs: pd.DataFrame, histories: Mapping[str, pd.DataFrame]) -> str:
    """Training and validation accuracy by epoch: a row of panels per dataset x model, mean and 95% t band."""
    title = f"Learning curves of table {layout.table.name}"
    own = runs[(runs["table"] == layout.table.name) & runs["run_id"].isin(list(histories))]
    rows = [row for row in layout.cells if len(select(own, row.key))]
    if not rows:
        return empty_figure(title)
    style = looks(layout.table.methods)
    with drawing(8.2, 0.5 + 2.5 * len(rows)) as figure:
        axes = figure.subplots(len(rows), len(CURVES), squeeze=False, sharex="row")
        for row, pair in zip(rows, axes, strict=True):
            for (column, name), ax in zip(CURVES, pair, strict=True):
                for method, look in style.items():
                    ids = select(own, row.key, method)["run_id"]
                    _curve(ax, [histories[i].set_index("epoch")[column] * PERCENT for i in ids], look)
                _label(ax, "epoch", name, _title(row) if column == CURVES[0][0] else "")
                ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        _legend(figure, style)
        return svg_text(figure, title, "Lines are means over seeds, bands 95% Student intervals.")


def last_and_early(layout: Layout) -> str:
    """Test accuracy (or error) per method at the last and at the early-stopped epoch, with 95% intervals."""
    title = f"Last epoch against early stopping, table {layout.table.name}"
    rows = [row for row in layout.cells if any(cell.n for cell in row.cells.values())]
    if not rows:
        return empty_figure(title)
    methods = layout.table.methods
    style = looks(methods)
    across = min(PANELS_ACROSS, len(rows))
    down = -(-len(rows) // across)
    with drawing(8.2, down * (1.0 + 0.36 * len(methods)) + 0.4) as figure:
        for index, row in enumerate(rows):
            ax = figure.add_subplot(down, across, index + 1)
            for height, method in enumerate(methods):
                for epoch, shift, filled in ((LAST, -0.13, True), (EARLY, 0.13, False)):
                    interval = accuracy(row.cells[method], layout.table, epoch)
                    if interval.n:
                        _dot(ax, interval.mean, interval.half_width, height + shift, style[method], filled=filled)
            names = [method_title(method) for method in methods] if index % across == 0 else []
            ax.set_yticks(range(len(methods)), names or [""] * len(methods))
            ax.set_ylim(len(methods) - 0.5, -0.5)
            _label(ax, f"test {layout.table.metric} (%)", "", _title(row))
        figure.legend(handles=_epoch_keys(), loc="outside lower center", ncols=2)
        return svg_text(figure, title, "Filled markers are the last epoch, open ones the validation-chosen epoch.")


def forest(layouts: Sequence[Layout]) -> str:
    """Paired differences from the better baseline with 95% intervals: a panel per row of every table, own scales."""
    title = "Paired differences from the better baseline"
    panels = [
        (layout, row, cells)
        for layout in layouts
        for row in layout.cells
        if (cells := [cell for cell in row.cells.values() if cell.difference is not None])
    ]
    if not panels:
        return empty_figure(title)
    style = looks(_all_methods(layouts))
    heights = [0.9 + 0.34 * len(cells) for _, _, cells in panels]
    with drawing(8.2, sum(heights) + 0.5) as figure:
        axes = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
        for (layout, row, cells), ax in zip(panels, axes, strict=True):
            ax.axvline(0, color=INK, linewidth=0.9)
            for height, cell in enumerate(cells):
                _pair(ax, cell, height, style[cell.method])
            ax.set_yticks(range(len(cells)), [method_title(cell.method) for cell in cells])
            ax.set_ylim(len(cells) - 0.5, -0.5)
            prefix = f"{layout.table.name}: " if len(layouts) > 1 else ""
            _label(ax, "", "", f"{prefix}{_title(row)}, against {_rivals(row)}")
        axes[-1].set_xlabel("accuracy difference (points); right of zero the method is better")
        figure.legend(handles=_epoch_keys(), loc="outside lower center", ncols=2)
        return svg_text(figure, title, "Filled markers are the last epoch, open ones the validation-chosen epoch.")


def against_sharpness(layout: Layout, runs: pd.DataFrame) -> str:
    """Test accuracy of every run against its n-step sharpness, one panel per row."""
    title = f"Test accuracy against sharpness, table {layout.table.name}"
    return _scatter(layout, runs, "sharpness_n_step", "sharpness, n-step (log scale)", title)


def against_cost(layout: Layout, runs: pd.DataFrame) -> str:
    """Test accuracy of every run against the gradient evaluations it took, one panel per row."""
    title = f"Test accuracy against gradient evaluations, table {layout.table.name}"
    return _scatter(layout, runs, "gradients", "gradient evaluations (log scale)", title)


def _scatter(layout: Layout, runs: pd.DataFrame, column: str, name: str, title: str) -> str:
    known = runs[(runs["table"] == layout.table.name) & np.isfinite(runs[column])]
    own = known[known[column] > 0]
    rows = [row for row in layout.cells if len(select(own, row.key))]
    if not rows:
        return empty_figure(title)
    style = looks(layout.table.methods)
    across = min(PANELS_ACROSS, len(rows))
    down = -(-len(rows) // across)
    with drawing(8.2, 0.5 + 2.6 * down) as figure:
        for index, row in enumerate(rows):
            ax = figure.add_subplot(down, across, index + 1)
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
            _log_axis(ax)
            zeros = len(select(known, row.key)) - len(select(own, row.key))
            left_out = f"\n{count(zeros, 'run')} at 0 or below left out" if zeros else ""
            _label(ax, name + left_out, "test accuracy (%)" if index % across == 0 else "", _title(row))
        _legend(figure, style, lines=False)
        return svg_text(figure, title, "One marker per run; the last epoch's weights.")


def _curve(ax: Axes, curves: list[pd.Series], look: Look) -> None:
    """Mean and t band over seeds, at each epoch over the runs that reached it."""
    if not curves:
        return
    frame = pd.concat(curves, axis=1)
    mean, n = frame.mean(axis=1), frame.count(axis=1)
    ax.plot(mean.index, mean, color=look.colour, linestyle=look.line)
    wide = n >= 2
    if wide.any():
        half = frame.std(axis=1, ddof=1) / np.sqrt(n) * stats.t.ppf(1 - ALPHA / 2, np.maximum(n - 1, 1))
        low, high = (mean - half).clip(0, PERCENT), (mean + half).clip(0, PERCENT)
        ax.fill_between(mean.index, low, high, where=wide, color=look.colour, alpha=0.18, linewidth=0)


def _pair(ax: Axes, cell: Cell, height: float, look: Look) -> None:
    for difference, shift, filled in ((cell.difference, -0.13, True), (cell.early_difference, 0.13, False)):
        if difference is not None:
            span = difference.interval
            _dot(ax, span.mean, span.half_width, height + shift, look, filled=filled)


def _dot(ax: Axes, mean: float, half_width: float, height: float, look: Look, *, filled: bool) -> None:
    error = None if np.isnan(half_width) else half_width
    face = look.colour if filled else "none"
    ax.errorbar(
        mean, height, xerr=error, fmt=look.marker, color=look.colour, markerfacecolor=face, markersize=5.5, capsize=2.5
    )


def _log_axis(ax: Axes) -> None:
    """A log scale with plain numbers at 1, 2 and 5 times the powers of ten."""
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())


def _label(ax: Axes, x: str, y: str, title: str) -> None:
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    ax.set_title(title)


def _legend(figure: Figure, style: Mapping[str, Look], *, lines: bool = True) -> None:
    keys = [
        Line2D(
            [],
            [],
            color=look.colour,
            linestyle=look.line if lines else "none",
            marker=None if lines else look.marker,
            label=method_title(method),
        )
        for method, look in style.items()
    ]
    figure.legend(handles=keys, loc="outside lower center", ncols=min(6, len(keys)), handlelength=3)


def _epoch_keys() -> list[Line2D]:
    return [
        Line2D([], [], color=INK, marker="o", linestyle="none", markerfacecolor=face, label=name)
        for name, face in (("last epoch", INK), ("early-stopped", "none"))
    ]


def _all_methods(layouts: Sequence[Layout]) -> list[str]:
    return list(dict.fromkeys(method for layout in layouts for method in layout.table.methods))


def _rivals(row: Row) -> str:
    last, early = (method_title(str(name)) for name in (row.baseline, row.early_baseline))
    return last if early == last or row.early_baseline is None else f"{last} (early-stopped: {early})"


def _title(row: Row) -> str:
    return f"{row.dataset} / {row.model}"
