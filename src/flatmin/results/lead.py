"""The report's first two lines: the study's question, and its answer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd

from flatmin.results.answers import Answer, Tone, headlines, tone_of
from flatmin.results.blocks import Layout
from flatmin.results.failures import Difference
from flatmin.results.statistics import holm
from flatmin.results.wording import listed, method_title


def question(layouts: Sequence[Layout], runs: pd.DataFrame) -> str:
    """The study's question, as its title: "Does SAM beat SGD here?"."""
    methods, rivals = set(), set()
    for layout in layouts:
        rivals.add(method_title(layout.table.baseline[0]))
        methods |= {answer.method for answer in headlines(layout, runs)}
    if len(methods) == len(rivals) == 1:
        return f"Does {methods.pop()} beat {rivals.pop()} here?"
    return "Do flat minima hold up here?"


def lead(found: Sequence[Answer]) -> str:
    """The answer in a few sentences: how many comparisons are won and lost, what early stopping leaves, the cost.

    Where there are several, they are counted after Holm's adjustment over them, at the last and the early-stopped epoch
    each: of ten that differ in nothing, one by chance would otherwise often speak for all.
    """
    if not found:
        return "Not known yet: no pair of finished runs can be compared."
    tones = _tones([answer.difference for answer in found])
    if len(found) == 1:
        answer = found[0]
        said = f"{_yes(tones)} {answer.sentence.rstrip('.')} ({answer.interval})."
        return f"{said} With early stopping: {answer.early}. Cost: {answer.cost}."
    method = found[0].method if len({answer.method for answer in found}) == 1 else "the method"
    sides = [_side(found, tones, tone, words) for tone, words in _SIDES.items()]
    seeds = _range([answer.difference.interval.n for answer in found], "{:d}")
    each = f"{seeds} seed{'' if seeds == '1' else 's'} each"
    said = f"{_yes(tones)} Of {len(found)} comparisons, {each}, {method} {listed([side for side in sides if side])}"
    times = _range([answer.gradients for answer in found if not math.isnan(answer.gradients)], "{:.3g}")
    cost = f" It takes {times} times the gradients." if times else ""
    return f"{said}, adjusted for their number (Holm).{_early_lead(found)}{cost}"


def _tones(differences: Sequence[Difference]) -> list[Tone]:
    """Where each difference lies after Holm's adjustment; what has no p, as of one seed, is unclear and not counted."""
    known = [difference.p for difference in differences if not math.isnan(difference.p)]
    adjusted = iter(holm(known))
    return [tone_of(d, math.nan if math.isnan(d.p) else next(adjusted)) for d in differences]


_SIDES: Mapping[Tone, str] = {"better": "wins {}", "worse": "loses {}", "unclear": "leaves {} undecided"}


def _side(found: Sequence[Answer], tones: Sequence[Tone], tone: Tone, words: str) -> str:
    """How many comparisons came out so, and by how much."""
    own = [abs(a.difference.interval.mean) for a, its in zip(found, tones, strict=True) if its == tone]
    if not own:
        return ""
    return words.format(len(own)) + ("" if tone == "unclear" else f" by {_range(own, '{:.2f}')} points")


def _early_lead(found: Sequence[Answer]) -> str:
    tones = _tones([answer.early_difference for answer in found if answer.early_difference is not None])
    if not tones:
        return ""
    lost = f" and loses {tones.count('worse')}" if "worse" in tones else ""
    return f" With early stopping it wins {tones.count('better')} of {len(tones)}{lost}."


def _range(values: Sequence[float], form: str) -> str:
    """ "5", or "3 to 5" where they differ."""
    ends = [form.format(end) for end in (min(values), max(values))] if values else [""]
    return " to ".join(dict.fromkeys(ends))


def _yes(tones: Sequence[Tone]) -> str:
    if {*tones} == {"better"}:
        return "Yes."
    if "better" in tones:
        return "It depends." if "worse" in tones else "Sometimes."
    return "No." if "worse" in tones else "It cannot be told from these runs."
