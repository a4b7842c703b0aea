"""What wrong labels cost: test accuracy against the noise rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from matplotlib.axes import Axes

from flatmin.results.blocks import EARLY, LAST, Layout, accuracy
from flatmin.results.cells import PERCENT, Row
from flatmin.results.figures.drawn import (
    WIDTH,
    Drawn,
    epoch_keys,
    finished,
    grid,
    label,
    leftmost,
    legend,
    legend_height,
    means,
    panels,
    runs_each,
    sentences,
)
from flatmin.results.inputs import RowInfo, TableInfo
from flatmin.results.style import Look, drawing, looks
from flatmin.results.wording import method_title


@dataclass(frozen=True)
class Series:
    """Rows of one source, model and kind of noise at rising rates; the first may be the clean labels."""

    title: str
    rates: tuple[float, ...]
    rows: tuple[Row, ...]


def noise_robustness(laid: Layout) -> Drawn | None:
    """Draw test accuracy against the noise rate: the last epoch solid, the early-stopped one dotted and open."""
    table = laid.table
    found = series(laid.cells, table)
    if not found:
        return None
    style = looks(table.methods)
    with drawing(WIDTH, 0.2 + legend_height(style) + 3.0 * grid(len(found))[1]) as figure:
        for index, (one, ax) in enumerate(zip(found, panels(figure, len(found)), strict=True)):
            for method, look in style.items():
                _lines(ax, one, table, method, look)
            y = f"test {table.metric} (%)" if leftmost(index, len(found)) else ""
            label(ax, "wrong labels (nominal rate, %)", y, one.title)
            ax.set_xticks([rate * PERCENT for rate in one.rates], [f"{rate * PERCENT:g}" for rate in one.rates])
        legend(figure, style, epoch_keys(lines=True), solid=True)
        numbers = [cell.n for one in found for row in one.rows for cell in row.cells.values()]
        caption = (
            f"Test {table.metric} against the nominal share of wrong training labels: means with 95% Student "
            f"intervals over {runs_each(numbers)} each. Solid and filled: the last epoch; dotted and open: the epoch "
            "with the best validation accuracy. What lies between the two is what late training lost to the noise."
        )
        said = [text for one in found for text in _gaps(one, table)]
        title = f"Robustness to label noise, table {table.name}"
        return finished(figure, title, caption, sentences(said), table.name)


def series(rows: Sequence[Row], table: TableInfo) -> list[Series]:
    """Return the noise series of a table with at least two rates, in the order of their first row."""
    noisy: dict[tuple[str, RowInfo], list[tuple[float, Row]]] = {}
    known = [(row, table.rows[row.key]) for row in rows if row.key in table.rows and _measured(row)]
    for row, info in known:
        if info.noise_rate:
            noisy.setdefault((row.model, replace(info, noise_rate=0.0, parameters=None)), []).append(
                (info.noise_rate, row)
            )
    found = []
    for (model, shared), points in noisy.items():
        clean = [(0.0, row) for row, info in known if row.model == model and _is_clean(info, shared)]
        ordered = sorted([*clean[:1], *points], key=lambda point: point[0])
        if len({rate for rate, _ in ordered}) > 1:
            definition = f" ({shared.noise_definition})" if shared.noise_definition else ""
            title = f"{shared.source} / {model}\n{shared.noise_kind} noise{definition}"
            found.append(Series(title, *(tuple(part) for part in zip(*ordered, strict=True))))
    return found


def _measured(row: Row) -> bool:
    return any(cell.n for cell in row.cells.values())


def _is_clean(info: RowInfo, shared: RowInfo) -> bool:
    """Whether a row is the noiseless start of a series; without noise, all validation labels are clean."""
    if info.noise_rate:
        return False
    return _but_for_noise(info) == _but_for_noise(shared)


def _but_for_noise(info: RowInfo) -> RowInfo:
    return replace(info, noise_kind="", noise_rate=0.0, noise_definition="", validation_labels="", parameters=None)


def _lines(ax: Axes, one: Series, table: TableInfo, method: str, look: Look) -> None:
    for epoch in (LAST, EARLY):
        spans = [
            (rate, accuracy(row.cells[method], table, epoch)) for rate, row in zip(one.rates, one.rows, strict=True)
        ]
        known = [(rate * PERCENT, span) for rate, span in spans if span.n]
        if known:
            means(ax, [rate for rate, _ in known], [span for _, span in known], look, filled=epoch == LAST)


def _gaps(one: Series, table: TableInfo) -> list[str]:
    """Each method against the row's better baseline over the rates, at the last epoch."""
    found = []
    for method in table.methods:
        differences = [(rate, row.cells[method].difference) for rate, row in zip(one.rates, one.rows, strict=True)]
        gaps = [(rate, paired.interval) for rate, paired in differences if paired is not None]
        if len(gaps) < 2 or method in table.baseline:
            continue
        above = sum(gap.mean > 0 for _, gap in gaps)
        side = "above" if above else "below"
        rates = "every rate" if above in (0, len(gaps)) else f"{above} of {len(gaps)} rates"
        (start, first), (end, last) = gaps[0], gaps[-1]
        place = one.title.replace("\n", ", ")
        seeds = runs_each(gap.n for _, gap in gaps).replace("run", "seed")
        found.append(
            f"{place}: {method_title(method)} lies {side} the better baseline at {rates}; the difference in accuracy "
            f"goes from {first.mean:+.2f} points at {start:.0%} to {last.mean:+.2f} at {end:.0%} ({seeds}, last epoch)"
        )
    return found
