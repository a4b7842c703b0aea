"""Which cells of a published table a claim speaks of, with what was published there and what was measured."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from flatmin.data.sources import registry as sources
from flatmin.results.cells import PERCENT, select
from flatmin.results.claim_spec import ClaimSpec
from flatmin.results.claims import Judged, Outcome
from flatmin.results.published import Setting, Value
from flatmin.results.rules import MethodMatch
from flatmin.results.statistics import Interval, mean_interval
from flatmin.results.wording import method_title

DIMENSIONS = ("data", "model", "epochs", "augmentation", "label noise", "measure")
"""What the rows and columns of the papers' tables differ in."""

MINUS = " − "
"""Between the two methods of a difference."""

ELSEWHERE = {"imagenet": "ImageNet"}
"""Titles of data that papers used and this project has no source of."""

_NUMBERED = re.compile(r"Table \d+|.+ results$")
"""Places in a paper that are tables; a number in its text has no layout to follow."""

_COMPARISONS = ("effect", "no-effect", "no-benefit")
"""Rules that compare two methods of one row, as two cells of a table do."""

_UNITS = ("test error %", "validation error %", "test accuracy %", "accuracy points")

Place = tuple[str, ...]
"""The values of `DIMENSIONS`; empty where the paper gives none."""


@dataclass(frozen=True)
class PaperCell:
    """One number of a published table: that of a method, or the difference between two.

    ``of`` is the method's name or both, ``place`` its setting. ``measured`` is ours in ``unit``, from the row of the
    study that the claim's verdict rests on, or None if there is none; ``method`` is what it is called there.
    """

    claim: ClaimSpec
    outcome: Outcome | None
    place: Place
    of: str
    unit: str
    published: Value | None
    measured: Interval | None
    method: str

    def at(self, dimension: str) -> str:
        """Its value in one of `DIMENSIONS`."""
        return self.place[DIMENSIONS.index(dimension)]

    @property
    def is_difference(self) -> bool:
        """Whether two methods are compared; only then there is a verdict."""
        return MINUS in self.of


@dataclass(frozen=True)
class PaperTable:
    """One published table: its paper, its name there, and its cells."""

    paper: str
    name: str
    cells: tuple[PaperCell, ...]

    @property
    def id(self) -> str:
        """The name of its files."""
        short = re.search(r"\((.+)\)", self.paper)
        words = f"{short.group(1) if short else self.paper} {self.name}"
        return f"paper-{re.sub('[^a-z0-9]+', '-', words.lower()).strip('-')}"

    @property
    def varying(self) -> list[str]:
        """The dimensions in which its settings differ."""
        places = [cell.place for cell in self.cells]
        return [name for name, values in zip(DIMENSIONS, zip(*places, strict=True), strict=True) if len({*values}) > 1]


def table_of(claim: ClaimSpec) -> tuple[str, str] | None:
    """The published table that a claim belongs to, as paper and name; None for what two cells do not show."""
    found = _NUMBERED.match(claim.where)
    if found is None or claim.published is None or claim.setting is None:
        return None
    rule, names = claim.rule, _names(claim, claim.setting)
    points = claim.published.unit in _UNITS and rule.metric.endswith(("accuracy", "error"))
    compares = rule.kind in _COMPARISONS and rule.baseline != "itself" and names[0] != names[1]
    return (claim.paper, found.group()) if points and compares else None


def paper_cells(judged: Sequence[Judged], runs: pd.DataFrame) -> list[PaperCell]:
    """The cells that the claims of one published table speak of; of several for one cell, the first that has runs."""
    found: dict[tuple[Place, str], PaperCell] = {}
    for one in judged:
        for cell in _cells(one, runs):
            key = (cell.place, cell.of)
            if key not in found or (found[key].measured is None and cell.measured is not None):
                found[key] = cell
    return list(found.values())


def decimals(claim: ClaimSpec) -> int:
    """Decimals of a published number: those of its last printed digit."""
    resolution = claim.published.resolution if claim.published else 0
    return max(0, -math.floor(math.log10(resolution) + 1e-9)) if resolution else 2


def _cells(judged: Judged, runs: pd.DataFrame) -> Iterator[PaperCell]:
    claim, outcome = judged.claim, judged.headline
    published, setting = claim.published, claim.setting
    assert published is not None
    assert setting is not None
    place, names = _place(claim, setting), _names(claim, setting)
    ours = (outcome.treatment, outcome.baseline) if outcome else ("", "")
    sides = ((published.treatment, "treatment"), (published.baseline, "baseline"))
    for name, method, (value, side) in zip(names, ours, sides, strict=True):
        if value is not None:
            measured = _measured(claim, outcome, method, side, runs) if outcome else None
            yield PaperCell(claim, outcome, place, name, published.unit, value, measured, method)
    measured = _as_accuracy(claim, outcome.measured) if outcome else None
    effect = Value(value=published.effect + 0.0)  # a difference of nothing has no sign
    between = f"{ours[0]}{MINUS}{ours[1]}" if outcome else ""
    yield PaperCell(claim, outcome, place, MINUS.join(names), "accuracy points", effect, measured, between)


def _names(claim: ClaimSpec, setting: Setting) -> tuple[str, str]:
    baseline = claim.rule.baseline
    plain = baseline if isinstance(baseline, MethodMatch) else MethodMatch(ascent="none")
    return _name(claim.rule.treatment, setting), _name(plain, setting)


def _name(match: MethodMatch, setting: Setting) -> str:
    """A method in the papers' words, with what sets it apart: "SAM (rho 0.5)"; without an ascent, its base."""
    options = match.options.items()
    title = method_title((setting.base or "sgd") if match.ascent == "none" else match.ascent)
    bounds = (("", match.rho), ("> ", match.rho_above), ("< ", match.rho_below))
    said = [f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in options]
    said += [f"rho {sign}{value:g}" for sign, value in bounds if value is not None]
    said += [match.augmentation] if match.augmentation else []
    return f"{title} ({', '.join(said)})" if said else title


def _place(claim: ClaimSpec, setting: Setting) -> Place:
    rate = setting.noise_rate
    return (
        " or ".join(map(_title, setting.sources)),
        setting.model or "",
        str(setting.epochs or ""),
        setting.augmentation or "",
        f"{rate:.0%}",
        re.sub("^early_|_?(accuracy|error)$", "", claim.rule.metric).replace("_", " "),
    )


def _title(source: str) -> str:
    known = sources.load(source).title if source in sources.names() else ELSEWHERE.get(source, "")
    return known or source


def _measured(claim: ClaimSpec, outcome: Outcome, method: str, side: str, runs: pd.DataFrame) -> Interval:
    """The mean over all seeds of a method, in percent and in the published unit.

    Of a measurement that the runs themselves do not hold, the mean over the pairs that the verdict rests on.
    """
    metric, unit = claim.rule.metric, claim.published.unit if claim.published else ""
    if metric in runs.columns:
        row = select(runs[runs["table"] == outcome.table], (outcome.dataset, outcome.model), method)
        found = mean_interval(row[metric].to_numpy(dtype=float) * PERCENT)
    else:
        nothing = float("nan")
        found = Interval(outcome.details.get(f"{side}_mean", nothing), nothing, outcome.measured.n, nothing)
    if metric.endswith("error") == unit.endswith("error %"):
        return found
    return Interval(PERCENT - found.mean, found.half_width, found.n, found.sd)


def _as_accuracy(claim: ClaimSpec, measured: Interval) -> Interval:
    """A difference in accuracy points: one of errors turned round."""
    if not claim.rule.metric.endswith("error"):
        return measured
    return Interval(-measured.mean, measured.half_width, measured.n, measured.sd)
