"""The report's first two lines: the study's question, and its answer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd

from flatmin.results.answers import Answer, Tone, headlines
from flatmin.results.blocks import Layout
from flatmin.results.wording import method_title


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
    """The answer in a few sentences: how many comparisons are won and lost, what early stopping leaves, the cost."""
    if not found:
        return "Not known yet: no pair of finished runs can be compared."
    if len(found) == 1:
        answer = found[0]
        said = f"{_yes(found)} {answer.sentence.rstrip('.')} ({answer.interval})."
        return f"{said} With early stopping: {answer.early}. Cost: {answer.cost}."
    method = found[0].method if len({answer.method for answer in found}) == 1 else "the method"
    sides = [_side(found, tone, words) for tone, words in _SIDES.items()]
    seeds = _range([answer.difference.interval.n for answer in found], "{:d}")
    each = f"{seeds} seed{'' if seeds == '1' else 's'} each"
    said = f"{_yes(found)} Of {len(found)} comparisons, {each}, {method} {', '.join(filter(None, sides))}."
    times = _range([answer.gradients for answer in found if not math.isnan(answer.gradients)], "{:.3g}")
    return said + _early_lead(found) + (f" It takes {times} times the gradients." if times else "")


_SIDES: Mapping[Tone, str] = {"better": "wins {}", "worse": "loses {}", "unclear": "leaves {} undecided"}


def _side(found: Sequence[Answer], tone: Tone, words: str) -> str:
    """How many comparisons came out so, and by how much, with the decimals that the answers themselves have."""
    own = sorted((a for a in found if a.tone == tone), key=lambda a: abs(a.difference.interval.mean))
    if not own:
        return ""
    ends = dict.fromkeys(answer.number.lstrip("+-") for answer in (own[0], own[-1]))
    return words.format(len(own)) + ("" if tone == "unclear" else f" by {' to '.join(ends)} points")


def _early_lead(found: Sequence[Answer]) -> str:
    tones = [answer.early_tone for answer in found if answer.early_tone is not None]
    if not tones:
        return ""
    lost = f" and loses {tones.count('worse')}" if "worse" in tones else ""
    return f" With early stopping it wins {tones.count('better')} of {len(tones)}{lost}."


def _range(values: Sequence[float], form: str) -> str:
    """ "5", or "3 to 5" where they differ."""
    ends = [form.format(end) for end in (min(values), max(values))] if values else [""]
    return " to ".join(dict.fromkeys(ends))


def _yes(found: Sequence[Answer]) -> str:
    tones = {answer.tone for answer in found}
    if tones == {"better"}:
        return "Yes."
    if "better" in tones:
        return "It depends." if "worse" in tones else "Sometimes."
    return "No." if "worse" in tones else "It cannot be told from these runs."
