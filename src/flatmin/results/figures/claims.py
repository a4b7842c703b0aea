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
from flatmin.results.claim_words import metric_text
from flatmin.results.claims import Judged, Outcome
from flatmin.results.figures.drawn import Drawn, finished, runs_each
from flatmin.results.style import COLOURS, INK, drawing
from flatmin.results.verdicts import AGREE
from flatmin.results.wording import count, listed

UNITS = {
    "points": ("effect (percentage points)", 0.0),
    "points per doubling": ("trend (percentage points per doubling)", 0.0),
    "x": ("ratio", 1.0),
    "tau": ("rank correlation (Kendall's tau)", 0.0),
}
"""The panels of several metrics, with the name of the axis and the value of no effect; others have one per metric."""

COMPARABLE = ("effect", "no-effect", "no-benefit", "ratio", "correlation", "trend", "across", "interaction")
"""Rules that compute what is in print; the others decide something about it."""

DISAGREE = ("not-reproduced", "reversed", "direction disagrees")

FILLS: Mapping[str, Any] = {"exact": "full", "same-data": "left", "reduced": "left", "proxy": "none"}
"""How much of a marker is filled: how near our setting is to the published one."""

NARROW = 4.7
"""Inches: the words stand above the marks, so that a phone shows the figure whole and readable."""

HEADING = 1.3
"""Lines that a paper's name takes."""

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
    def panel(self) -> str:
        """What it is drawn with: claims in the same unit, or about the same metric where that has none."""
        rule = self.claim.rule
        unit = rule.unit.partition(" of ")[0]
        return unit if unit in UNITS else f"{metric_text(rule.metric)} {unit}".strip()

    @property
    def height(self) -> float:
        """Its share of the panel's height, in lines: words, then the published mark and ours."""
        return self.words + 0.5 * len(self.outcomes) + 0.75

    @property
    def words(self) -> float:
        """The lines of its words: id and verdict beside each other, or verdicts that differ below the id."""
        verdicts = len(self.verdict.splitlines())
        return 0.75 * (1 if verdicts == 1 else 1 + verdicts)

    @property
    def verdict(self) -> str:
        """The verdict, or each verdict with the number of rows that gave it."""
        tally = Counter(outcome.verdict for outcome in self.outcomes)
        if len(self.outcomes) == 1:
            return next(iter(tally))
        return "\n".join(f"{verdict} ({number} of {len(self.outcomes)})" for verdict, number in tally.items())


def claims_forest(judged: Sequence[Judged]) -> Drawn | None:
    """Draw a line per claim that a row speaks to, grouped by paper; claims that were not run are only counted."""
    spoken = [Line(j) for j in judged if j.outcomes]
    units = [*UNITS, *sorted({line.panel for line in spoken} - {*UNITS})]
    panels = {unit: lines for unit in units if (lines := _lines(spoken, unit))}
    if not panels:
        return None
    heights = [_height(lines) for lines in panels.values()]
    with drawing(NARROW, 0.23 * sum(heights) + 0.6 * len(heights) + 0.9) as figure:
        axes = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
        for (unit, lines), ax in zip(panels.items(), axes, strict=True):
            _panel(ax, unit, lines)
        axes[-1].set_xlabel(axes[-1].get_xlabel() + _left_out(judged))
        drawn = [line for lines in panels.values() for line in lines]
        figure.legend(handles=_keys(drawn), loc="outside lower center", ncols=2)
        seeds = runs_each(outcome.measured.n for line in drawn for outcome in line.outcomes).replace("run", "seed")
        caption = (
            "Published effects (diamonds, with 95% of the published spread and rounding, where one was printed) "
            f"beside ours (circles, 95% intervals over {seeds}). The circle's filling says how near our setting is: "
            "full is exact, half has the same data or the same source, open is a proxy, which can neither confirm nor "
            "refute. Squares are general statements, which no setting was published for, on the rows of this study. "
            "An open diamond is a number that a statement names and nobody measured. What is not in percentage points "
            "has an axis of its own."
        )
        title = f"Published and measured effects of the {count(len(drawn), 'claim')} that rows of this study speak to"
        return finished(figure, title, caption, _alt(drawn, judged), None)


def _lines(spoken: Sequence[Line], unit: str) -> list[Line]:
    """The claims of a panel, papers in the order of the file."""
    lines = [line for line in spoken if line.panel == unit]
    papers = list(dict.fromkeys(line.claim.paper for line in lines))
    return sorted(lines, key=lambda line: papers.index(line.claim.paper))


def _height(lines: Sequence[Line]) -> float:
    return sum(line.height for line in lines) + HEADING * len({line.claim.paper for line in lines})


def _panel(ax: Axes, unit: str, lines: Sequence[Line]) -> None:
    name, nothing = UNITS.get(unit, (f"difference in {unit}", 0.0))
    ax.axvline(nothing, color=INK, linewidth=0.9)
    for top, entry in _places(lines):
        if isinstance(entry, Line):
            _entry(ax, entry, top)
        else:
            _write(ax, 0.0, top + 0.25, entry, fontsize=8.5, fontweight="bold")
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    ax.set_ylim(_height(lines), 0)
    _scale(ax, unit)
    wide = ax.get_xscale() == "symlog"
    ax.set_xlabel(name + (", linear up to 1 and logarithmic beyond" if wide else ""))


def _places(lines: Sequence[Line]) -> Iterator[tuple[float, str | Line]]:
    """Yield the top of every line, and above the first line of a paper that of the paper's name."""
    top, paper = 0.0, None
    for line in lines:
        if line.claim.paper != paper:
            paper = line.claim.paper
            yield top, paper
            top += HEADING
        yield top, line
        top += line.height


def _entry(ax: Axes, line: Line, top: float) -> None:
    """A claim: its id and verdict, and below them the published mark and ours."""
    _write(ax, 0.0, top, line.claim.id)
    _write(ax, 1.0, top + (0.75 if "\n" in line.verdict else 0.0), line.verdict, ha="right")
    height = top + line.words + 0.15
    _published(ax, line.claim, height)
    for place, outcome in enumerate(line.outcomes):
        span, colour = outcome.measured, _colour(outcome)
        ax.errorbar(
            span.mean,
            height + 0.3 + 0.5 * place,
            xerr=None if math.isnan(span.half_width) else span.half_width,
            fmt="o" if line.claim.setting else "s",
            color=colour,
            fillstyle=FILLS[outcome.fidelity],
            markerfacecoloralt="none",
            markersize=5.5,
            capsize=2,
        )


def _write(ax: Axes, place: float, height: float, text: str, **style: Any) -> None:
    """Write on the panel, from its left end (0) or up to its right one (1)."""
    look = {"fontsize": 8, "va": "top", "ha": "left", "linespacing": 1.1, **style}
    ax.text(place, height, text, transform=ax.get_yaxis_transform(), **look)


def _published(ax: Axes, claim: ClaimSpec, height: float) -> None:
    value, published = _claimed(claim), claim.published
    if value is None:
        return
    spread = CI95 * published.standard_error if published is not None and published.has_spread else None
    face = INK if published is not None else "none"
    ax.errorbar(value, height, xerr=spread, color=INK, markerfacecolor=face, **PUBLISHED)


PUBLISHED: Mapping[str, Any] = {"fmt": "D", "markersize": 3.6, "capsize": 0, "linewidth": 1, "alpha": 0.75}


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
    ax.autoscale_view()
    ticks = [0.0, *TICKS, *(-tick for tick in TICKS)]
    low, high = ax.get_xlim()
    ax.xaxis.set_major_locator(FixedLocator([tick for tick in ticks if low <= tick <= high]))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+g}" if value else "0"))


def _left_out(judged: Sequence[Judged]) -> str:
    """What is not drawn, as a line below the last axis."""
    missing = sum(not j.outcomes for j in judged)
    return f"\nnot drawn: {count(missing, 'claim')} not run" if missing else ""


def _keys(drawn: Sequence[Line]) -> list[Line2D]:
    """Every mark that is drawn; the fillings always, since they mean something by their order."""
    ours: list[tuple[str, str, Any]] = [
        ("ours, exact", "o", "full"),
        ("ours, same data, or reduced", "o", "left"),
        ("ours, proxy", "o", "none"),
    ]
    if any(line.claim.setting is None for line in drawn):
        ours.append(("ours, a general statement", "s", "full"))
    look: dict[str, Any] = {"color": INK, "linestyle": "none"}
    keys = [Line2D([], [], marker="D", markersize=3.6, alpha=0.75, label="published", **look)]
    if any(line.claim.published is None and _claimed(line.claim) is not None for line in drawn):
        keys.append(Line2D([], [], marker="D", markersize=3.6, fillstyle="none", label="named, not measured", **look))
    return keys + [
        Line2D([], [], marker=marker, fillstyle=fill, markerfacecoloralt="none", label=name, **look)
        for name, marker, fill in ours
    ]


def _alt(drawn: Sequence[Line], judged: Sequence[Judged]) -> str:
    """ "Of 10 claims that rows speak to, 4 are reproduced, 1 is reversed ...; 57 claims were not run."."""
    tally = Counter(outcome.verdict for line in drawn for outcome in line.outcomes)
    instances = sum(tally.values())
    words = listed([f"{verdict} {_times(number)}" for verdict, number in tally.items()])
    missing = sum(not j.outcomes for j in judged)
    text = f"{count(len(drawn), 'claim')}, {count(instances, 'verdict')}: {words}. {count(missing, 'claim')} not run."
    both = [
        line for line in drawn if line.claim.published and len(line.outcomes) == 1 and line.claim.rule.unit == "points"
    ]
    if both:
        larger = sum(abs(line.outcomes[0].measured.mean) > abs(_claimed(line.claim) or 0.0) for line in both)
        text += f" Of {len(both)} published effects in points, ours is larger in size {_times(larger)}."
    return text


def _times(number: int) -> str:
    return {0: "never", 1: "once", 2: "twice"}.get(number, f"{number} times")
