"""What a drawn figure is, and the marks, axes and words that several figures share."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, FixedLocator, FuncFormatter, NullLocator

from flatmin.results.blocks import EARLY
from flatmin.results.cells import Row
from flatmin.results.inputs import TableInfo
from flatmin.results.statistics import Interval
from flatmin.results.style import INK, Look, svg_text
from flatmin.results.wording import count, method_title

WIDTH = 8.2
"""Inches: at the page's width a point of type is then a little more than a pixel."""

DOTTED: Any = (0, (1, 1.5))

ROUND: Sequence[Sequence[float]] = ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7), (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8))
"""First digits of a log axis's ticks, from sparse to dense."""

PANELS_ACROSS = 3
KEYS_ACROSS = 6
LETTERS_ACROSS = 100

MOST_LINES = 8
"""Lines that can be followed in one panel."""

MOST_SENTENCES = 6
"""Of an alternative text; nobody listens to more. The table beside the figure has every number."""


@dataclass(frozen=True)
class Drawn:
    """A figure as the page takes it.

    Attributes:
        svg: The file's text.
        caption: What to see, how it was computed, and from how many runs.
        alt: The main finding in words computed from the numbers, for who cannot see the figure.
        table: The table whose runs are drawn; None if those of the whole study are.
        title: What it is, in a few words.
    """

    svg: str
    caption: str
    alt: str
    table: str | None
    title: str = ""


def finished(figure: Figure, title: str, caption: str, alt: str, table: str | None) -> Drawn:
    """Render ``figure``; its title and alternative text are in the svg too."""
    return Drawn(svg_text(figure, title, alt), caption, alt, table, title)


def panels(figure: Figure, number: int) -> list[Axes]:
    """Return ``number`` axes in rows of at most three."""
    across, down = grid(number)
    return [figure.add_subplot(down, across, index + 1) for index in range(number)]


def grid(number: int) -> tuple[int, int]:
    """Return how many panels stand side by side, and in how many rows."""
    across = min(PANELS_ACROSS, number)
    return across, math.ceil(number / across)


def leftmost(index: int, number: int) -> bool:
    """Whether a panel of `panels` is the first of its row, which alone names the vertical axis."""
    return index % grid(number)[0] == 0


def label(ax: Axes, x: str, y: str, title: str) -> None:
    """Name both axes and the panel."""
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    ax.set_title(title)


def dot(ax: Axes, span: Interval, height: float, look: Look, *, filled: bool) -> None:
    """Draw a mean with its 95% interval across; one run has no interval."""
    error = None if math.isnan(span.half_width) else span.half_width
    face = look.colour if filled else "none"
    ax.errorbar(
        span.mean,
        height,
        xerr=error,
        fmt=look.marker,
        color=look.colour,
        markerfacecolor=face,
        markersize=5.5,
        capsize=2.5,
    )


def means(ax: Axes, x: Sequence[float], spans: Sequence[Interval], look: Look, *, filled: bool = True) -> None:
    """Draw a line through means with their 95% intervals upright: solid and filled, or dotted and open."""
    ax.errorbar(
        x,
        [span.mean for span in spans],
        yerr=np.nan_to_num([span.half_width for span in spans]),
        color=look.colour,
        marker=look.marker,
        linestyle="-" if filled else DOTTED,
        markerfacecolor=look.colour if filled else "none",
        markersize=5.5,
        capsize=2.5,
    )


def log_axis(ax: Axes) -> None:
    """Set a log scale across what is drawn already, with plain numbers (from 10k on with a letter) at round places."""
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(FixedLocator(log_ticks(*ax.get_xlim())))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    ax.xaxis.set_minor_locator(NullLocator())


def log_ticks(low: float, high: float) -> list[float]:
    """Return at least three round numbers from ``low`` to ``high``, if they are not too near each other for that."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks: list[float] = []
    for digits in ROUND:
        ticks = [digit * 10.0**decade for decade in decades for digit in digits if low <= digit * 10.0**decade <= high]
        if len(ticks) >= 3:
            break
    return ticks


def short(value: float) -> str:
    """ "0.05", "500", "36k", "1.2M"."""
    return EngFormatter(sep="")(value) if value >= 10_000 else f"{value:,.6g}"


def legend(
    figure: Figure,
    style: Mapping[str, Look],
    extra: Sequence[Artist] = (),
    *,
    lines: bool = True,
    solid: bool = False,
) -> None:
    """Name the methods below the panels (with their ``lines``, if not ``solid`` ones), then what ``extra`` explains."""
    keys: list[Artist] = []
    for method, look in style.items():
        line: Any = "none" if not lines else "-" if solid else look.line
        name = method_title(method)
        keys.append(Line2D([], [], color=look.colour, linestyle=line, marker=look.marker, markersize=5, label=name))
    keys += extra
    columns = _columns([str(key.get_label()) for key in keys])
    figure.legend(handles=keys, loc="outside lower center", ncols=columns, handlelength=3.4)


def legend_height(methods: Collection[str]) -> float:
    """Return the inches that `legend` takes."""
    return 0.3 + 0.2 * math.ceil(len(methods) / _columns(methods))


def _columns(names: Collection[str]) -> int:
    """How many names of a legend have room side by side; a line and the space around it are as wide as 8 letters."""
    if sum(len(name) + 8 for name in names) <= LETTERS_ACROSS:
        return len(names)
    return max(1, min(KEYS_ACROSS, LETTERS_ACROSS // (max(map(len, names)) + 8)))


def groups(table: TableInfo) -> list[Sequence[str]]:
    """Return the methods in groups that one panel can hold as lines, each with the table's first baseline."""
    if len(table.methods) <= MOST_LINES:
        return [table.methods]
    first = table.baseline[0]
    others = [method for method in table.methods if method != first]
    return [(first, *others[i : i + MOST_LINES - 1]) for i in range(0, len(others), MOST_LINES - 1)]


def epoch_keys(*, lines: bool = False) -> list[Line2D]:
    """Return the legend's entries for filled and open markers."""
    looks: list[tuple[str, str, Any]] = [("last epoch", INK, "-"), (EARLY, "none", DOTTED)]
    return [
        Line2D([], [], color=INK, marker="o", linestyle=line if lines else "none", markerfacecolor=face, label=name)
        for name, face, line in looks
    ]


def row_title(row: Row) -> str:
    """ "digits / mlp"."""
    return f"{row.dataset} / {row.model}"


def runs_each(numbers: Iterable[int]) -> str:
    """ "5 runs", or "3 to 5 runs": how many stand behind each mean."""
    known = sorted({*numbers} - {0})
    if not known:
        return "no run"
    return count(known[0], "run") if len(known) == 1 else f"{known[0]} to {count(known[-1], 'run')}"


def sentences(said: Sequence[str], more: str = "more rows are in the table") -> str:
    """Join the first few; of the others only say that there are some."""
    kept = [*said[:MOST_SENTENCES], *([f"{len(said) - MOST_SENTENCES} {more}"] if len(said) > MOST_SENTENCES else [])]
    return ". ".join(kept) + "."


def extremes(title: str, measure: str, spans: Mapping[str, Interval]) -> str:
    """ "digits / mlp: test accuracy is highest for SAM (95.81%, 5 runs) and lowest for SGD (95.50%, 5 runs)"."""
    known = {method: span for method, span in spans.items() if span.n and math.isfinite(span.mean)}
    if not known:
        return f"{title}: {measure} is not known"
    order = sorted(known, key=lambda method: known[method].mean)

    def words(method: str) -> str:
        return f"{method_title(method)} ({known[method].mean:.2f}%, {count(known[method].n, 'run')})"

    if len(order) > 1 and known[order[-1]].mean - known[order[0]].mean < 0.005:
        runs = runs_each(span.n for span in known.values())
        return f"{title}: {measure} is {known[order[0]].mean:.2f}% for every method ({runs} each)"
    if len(order) == 1:
        return f"{title}: {measure} of {words(order[0])}"
    return f"{title}: {measure} is highest for {words(order[-1])} and lowest for {words(order[0])}"
