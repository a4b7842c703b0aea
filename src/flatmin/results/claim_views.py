"""The verdicts as the report shows them: how many of each, then one line per claim with all that led to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from flatmin.results.block import Block
from flatmin.results.claim_files import facts, measured_text, published_text, row_text
from flatmin.results.claim_spec import ClaimSpec
from flatmin.results.claims import Judged, Outcome
from flatmin.results.matching import FIDELITIES
from flatmin.results.verdicts import Verdict
from flatmin.results.wording import count

NOT_RUN = "not-run"

VERDICTS: tuple[Verdict, ...] = (
    "reproduced",
    "reproduced-smaller",
    "reproduced-larger",
    "not-reproduced",
    "reversed",
    "inconclusive",
    "direction agrees",
    "direction disagrees",
    "direction unclear",
)
"""The order in which verdicts are counted."""

TONES = {
    "reproduced": "good",
    "reproduced-smaller": "good",
    "reproduced-larger": "good",
    "not-reproduced": "bad",
    "reversed": "bad",
    "direction agrees": "good",
    "direction disagrees": "bad",
}
"""The colour of a verdict; all others are neutral. The word itself is always printed."""


@dataclass(frozen=True)
class OutcomeView:
    """A claim on one row, in words."""

    label: str
    row: str
    measured: str
    facts: tuple[str, ...]
    departures: tuple[str, ...]


@dataclass(frozen=True)
class ClaimView:
    """A claim that some row speaks to, in words; the first outcome is the one nearest to the published setting."""

    claim: ClaimSpec
    label: str
    tone: str
    proxy: bool
    published: str
    outcomes: tuple[OutcomeView, ...]


def claim_views(judged: Sequence[Judged]) -> list[ClaimView]:
    """The claims that a row speaks to: the primary ones first, each group in the order of the file."""
    spoken = [_view(j) for j in judged if j.outcomes]
    return sorted(spoken, key=lambda view: not view.claim.primary)


def verdict_counts(judged: Sequence[Judged]) -> Block:
    """How many claims have which verdict at which fidelity, by the row nearest to the published setting."""
    heads = [j.headline for j in judged if j.headline]
    found = Counter((head.verdict, head.fidelity) for head in heads)
    shown = [verdict for verdict in VERDICTS if any(verdict == head.verdict for head in heads)]
    rows = [_counted(verdict, [found[verdict, near] for near in FIDELITIES]) for verdict in shown]
    silent = len(judged) - len(heads)
    caption = (
        f"Verdicts on {count(len(judged), 'claim')}, by how near the nearest row of this study is to the published "
        "setting. A claim that speaks of several rows counts once, by that row."
    )
    return Block(
        caption,
        ("verdict", "claims", *FIDELITIES),
        (*rows, (NOT_RUN, str(silent), *("–" for _ in FIDELITIES))),
        1,
    )


def _counted(verdict: str, numbers: Sequence[int]) -> tuple[str, ...]:
    return verdict, str(sum(numbers)), *map(str, numbers)


def _view(judged: Judged) -> ClaimView:
    spoken = judged.outcomes if judged.general else judged.outcomes[:1]
    tones = {TONES.get(outcome.verdict, "neutral") for outcome in spoken}
    return ClaimView(
        claim=judged.claim,
        label=judged.label,
        tone=tones.pop() if len(tones) == 1 else "neutral",
        proxy=judged.outcomes[0].fidelity == "proxy",
        published=published_text(judged.claim),
        outcomes=tuple(map(_outcome, judged.outcomes)),
    )


def _outcome(outcome: Outcome) -> OutcomeView:
    return OutcomeView(
        label=outcome.label,
        row=row_text(outcome),
        measured=measured_text(outcome),
        facts=tuple(facts(outcome)),
        departures=outcome.departures,
    )
