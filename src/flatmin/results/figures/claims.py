"""All claims in one figure: the published effect beside ours, with both uncertainties and the verdict."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator
from scipy import stats

from flatmin.results.claim_spec import ClaimSpec
from flatmin.results.claims import Judged, Outcome
from flatmin.results.figures.drawn import WIDTH, Drawn, finished, listed, runs_each
from flatmin.results.style import COLOURS, INK, drawing
from flatmin.results.verdicts import AGREE
from flatmin.results.wording import count

UNITS = {
    "points": ("effect (percentage points)", 0.0),
    "points per doubling": ("trend (percentage points per doubling)", 0.0),
    "x": ("ratio", 1.0),
    "tau": ("rank correlation (Kendall's tau)", 0.0),
}
"""The panels: what is drawn together, with the name of its axis and the value of no effect."""

COMPARABLE = ("effect", "no-effect", "no-benefit", "ratio", "correlation", "trend", "across", "interaction")
"""Rules that compute what is in print; the others decide something about it."""

DISAGREE = ("not-reproduced", "reversed", "direction disagrees")

FILLS: Mapping[str, Any] = {"exact": "full", "same-data": "left", "reduced": "left", "proxy": "none"}
"""How much of a marker is filled: how near our setting is to the published one."""

WIDE = 6.0
"""Points beyond which the axis is linear up to 1 and logarithmic from there, so that small effects stay visible."""

TICKS = (1.0, 3.0, 10.0, 30.0, 100.0)

CI95 = float(stats.norm.ppf(0.975))


@dataclass(frozen=True)
class Line:
    """A claim that a row speaks to; a general one has a mark per row, since none of them speaks for the others."""

    judged: Judged

    @property
    def claim(self) -> ClaimSpec:
        """The claim."""
        return self.judged.claim

    @property
    def outcomes(self) -> Sequence[Outcome]:
        """The headline alone, or every instance of a general claim."""
        return self.judged.outcomes if self.judged.general else self.judged.outcomes[:1]

    @property
    def height(self) -> float:
        """Its share of the panel's height, in lines."""
        return max(1.0, 0.45 * len(self.outcomes) + 0.4)

    @property
    def verdict(self) -> str:
        """The verdict, or each verdict with the number of rows that gave it."""
        tally = Counter(outcome.verdict for outcome in self.outcomes)
        if len(self.outcomes) == 1:
            return next(iter(tally))
        return "\n".join(f"{verdict} ({number} of {len(self.outcomes)})" for verdict, number in tally.items())


def claims_forest(judged: Sequence[Judged]) -> Drawn | None:
    """Draw a line per claim that a row speaks to, grouped by paper; claims that were not run are only counted."""
    panels = {unit: lines for unit in UNITS if (lines := _lines(judged, unit))}
    if not panels:
        return None
    heights = [_height(lines) for lines in panels.values()]
    with drawing(WIDTH, 0.23 * sum(heights) + 0.6 * len(heights) + 0.9) as figure:
        axes = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
        for (unit, lines), ax in zip(panels.items(), axes, strict=True):
            _panel(ax, unit, lines)
        axes[-1].set_xlabel(axes[-1].get_xlabel() + _left_out(judged, panels))
        figure.legend(handles=_keys(), loc="outside lower center", ncols=4)
        drawn = [line for lines in panels.values() for line in lines]
        seeds = runs_each(outcome.measured.n for line in drawn for outcome in line.outcomes).replace("run", "seed")
        caption = (
            "Published effects (diamonds, with 95% of the published spread and rounding, where one was printed) "
            f"beside ours (circles, 95% intervals over {seeds}). The circle's filling says how near our setting is: "
            "full is exact or a statement without a setting, half has the same data or the same source, open is a "
            "proxy, which can neither confirm nor refute. Trends, ratios and correlations have axes of their own."
        )
        return finished(figure, "Published and measured effects of all claims", caption, _alt(drawn, judged), None)


def _lines(judged: Sequence[Judged], unit: str) -> list[Line]:
    """The claims of a panel, papers in the order of the file."""
    lines = [Line(j) for j in judged if j.outcomes and j.claim.rule.unit.partition(" of ")[0] == unit]
    papers = list(dict.fromkeys(line.claim.paper for line in lines))
    return sorted(lines, key=lambda line: papers.index(line.claim.paper))


def _height(lines: Sequence[Line]) -> float:
    return sum(line.height for line in lines) + 1.2 * len({line.claim.paper for line in lines})


def _panel(ax: Axes, unit: str, lines: Sequence[Line]) -> None:
    name, nothing = UNITS[unit]
    ax.axvline(nothing, color=INK, linewidth=0.9)
    heights, names, headings = [], [], []
    for height, entry in _places(lines):
        heights.append(height)
        names.append(entry if isinstance(entry, str) else entry.claim.id)
        headings.append(isinstance(entry, str))
        if isinstance(entry, Line):
            _entry(ax, entry, height)
    ax.set_yticks(heights, names)
    for text, heading in zip(ax.get_yticklabels(), headings, strict=True):
        text.set_fontsize(8.5 if heading else 8)
        text.set_fontweight("bold" if heading else "normal")
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(_height(lines), 0)
    _scale(ax, unit)
    wide = ax.get_xscale() == "symlog"
    ax.set_xlabel(name + (", linear up to 1 and logarithmic beyond" if wide else ""))


def _places(lines: Sequence[Line]) -> Iterator[tuple[float, str | Line]]:
    """Yield the middle of every line, and above the first line of a paper that of the paper's name."""
    top, paper = 0.0, None
    for line in lines:
        if line.claim.paper != paper:
            paper = line.claim.paper
            yield top + 0.6, paper
            top += 1.2
        yield top + line.height / 2, line
        top += line.height


def _entry(ax: Axes, line: Line, height: float) -> None:
    """A claim: the published mark, above or among ours, and the verdict to the right of the panel."""
    _published(ax, line.claim, height - 0.5 * line.height + 0.3)
    for place, outcome in enumerate(line.outcomes):
        span, colour = outcome.measured, _colour(outcome)
        ax.errorbar(
            span.mean,
            height + 0.45 * (place - (len(line.outcomes) - 1) / 2) + 0.18,
            xerr=None if math.isnan(span.half_width) else span.half_width,
            fmt="o",
            color=colour,
            fillstyle=FILLS[outcome.fidelity],
            markerfacecoloralt="none",
            markersize=5.5,
            capsize=2,
        )
    ax.text(1.015, height, line.verdict, transform=ax.get_yaxis_transform(), va="center", fontsize=8)


def _published(ax: Axes, claim: ClaimSpec, height: float) -> None:
    value = _claimed(claim)
    if value is None:
        return
    published = claim.published
    spread = CI95 * published.standard_error if published is not None and published.has_spread else None
    ax.errorbar(value, height, xerr=spread, fmt="D", color=INK, markersize=3.6, capsize=0, linewidth=1, alpha=0.75)


def _claimed(claim: ClaimSpec) -> float | None:
    """The published effect; of a statement the number that it names, if it names one."""
    rule = claim.rule
    if rule.kind not in COMPARABLE:
        return None
    if claim.published is not None:
        return claim.published.effect
    return rule.target if rule.target is not None else rule.sign * rule.at_least if rule.at_least else None


def _colour(outcome: Outcome) -> str:
    if outcome.verdict in (*AGREE, "direction agrees"):
        return COLOURS[0]
    return COLOURS[1] if outcome.verdict in DISAGREE else INK


def _scale(ax: Axes, unit: str) -> None:
    ax.margins(x=0.06)
    ends = np.abs(ax.get_xlim())
    if unit != "points" or ends.max() <= WIDE:
        ax.xaxis.set_major_locator(MaxNLocator(7))
        return
    ax.set_xscale("symlog", linthresh=1.0)
    ticks = [0.0, *TICKS, *(-tick for tick in TICKS)]
    low, high = ax.get_xlim()
    ax.xaxis.set_major_locator(FixedLocator([tick for tick in ticks if low <= tick <= high]))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+g}" if value else "0"))


def _left_out(judged: Sequence[Judged], panels: Mapping[str, Sequence[Line]]) -> str:
    """What is not drawn, as a line below the last axis."""
    missing = sum(not j.outcomes for j in judged)
    others = len(judged) - missing - sum(map(len, panels.values()))
    said = [f"{count(missing, 'claim')} not run"] if missing else []
    said += [f"{count(others, 'claim')} in units of their own, in the list only"] if others else []
    return f"\nnot drawn: {'; '.join(said)}" if said else ""


def _keys() -> list[Line2D]:
    ours: list[tuple[str, Any]] = [("exact", "full"), ("same data, or reduced", "left"), ("proxy", "none")]
    keys = [Line2D([], [], color=INK, marker="D", markersize=3.6, alpha=0.75, label="published")]
    keys += [
        Line2D(
            [],
            [],
            color=INK,
            marker="o",
            linestyle="none",
            fillstyle=fill,
            markerfacecoloralt="none",
            label=f"ours, {name}",
        )
        for name, fill in ours
    ]
    return keys


def _alt(drawn: Sequence[Line], judged: Sequence[Judged]) -> str:
    """ "Of 10 claims that rows speak to, 4 are reproduced, 1 is reversed ...; 57 claims were not run."."""
    tally = Counter(outcome.verdict for line in drawn for outcome in line.outcomes)
    instances = sum(tally.values())
    words = listed([f"{verdict} {_times(number)}" for verdict, number in tally.items()])
    missing = sum(not j.outcomes for j in judged)
    text = f"{count(len(drawn), 'claim')} on {count(instances, 'row')}: {words}. {count(missing, 'claim')} not run."
    both = [
        line for line in drawn if line.claim.published and len(line.outcomes) == 1 and line.claim.rule.unit == "points"
    ]
    if both:
        larger = sum(abs(line.outcomes[0].measured.mean) > abs(_claimed(line.claim) or 0.0) for line in both)
        text += f" Of {len(both)} published effects in points, ours is larger in size {_times(larger)}."
    return text


def _times(number: int) -> str:
    return {0: "never", 1: "once", 2: "twice"}.get(number, f"{number} times")
