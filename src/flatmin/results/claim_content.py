"""The claims as the report shows them: how many of each verdict, one line per claim, and what was not run."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from flatmin.results.block import Block
from flatmin.results.claim_files import FIDELITY_WORDS, VERDICT_WORDS, facts, measured_text, published_text, row_text
from flatmin.results.claim_spec import ClaimSpec
from flatmin.results.claims import Judged, Outcome
from flatmin.results.matching import FIDELITIES
from flatmin.results.verdicts import Verdict
from flatmin.results.wording import count

NOT_RUN = "not-run"

GENERAL = "general"
"""Where a statement without a published setting is counted: no row can be near to or far from it."""

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
    columns = (*FIDELITIES, GENERAL)
    found = Counter((head.verdict, head.fidelity if head.claim.setting else GENERAL) for head in heads)
    shown = [verdict for verdict in get_args(Verdict) if any(verdict == head.verdict for head in heads)]
    rows = [_counted(verdict, [found[verdict, near] for near in columns]) for verdict in shown]
    silent = len(judged) - len(heads)
    caption = (
        f"Verdicts on {count(len(judged), 'claim')}, by how near the nearest row of this study is to the published "
        "setting; a general statement has no such setting. A claim that speaks of several rows counts once, by that "
        "row."
    )
    return Block(caption, ("verdict", "claims", *columns), (*rows, (NOT_RUN, str(silent), *("–" for _ in columns))), 1)


def words(judged: Sequence[Judged]) -> dict[str, str]:
    """What each verdict and fidelity means that some claim has here."""
    outcomes = [outcome for j in judged for outcome in j.outcomes]
    verdicts = {outcome.verdict for outcome in outcomes} | ({NOT_RUN} if any(not j.outcomes for j in judged) else set())
    near = {str(outcome.fidelity) for outcome in outcomes if outcome.claim.setting or outcome.fidelity != "exact"}
    if any(outcome.claim.setting is None for outcome in outcomes):
        near.add("in this instance")
    said = {word: text for word, text in VERDICT_WORDS.items() if {*_names(word)} & verdicts}
    return said | {word: text for word, text in FIDELITY_WORDS.items() if word.partition(" (")[0] in near}


def _names(word: str) -> Iterator[str]:
    """The verdicts that one entry explains: "direction agrees / disagrees" has two."""
    first, *others = word.split(" / ")
    yield first
    yield from (f"{first.rpartition(' ')[0]} {other}" for other in others)


@dataclass(frozen=True)
class NotRun:
    """Claims that no row speaks to for one reason; ``details`` has what else the reason says of each, by id."""

    reason: str
    details: Mapping[str, str]


def not_run(judged: Sequence[Judged]) -> list[NotRun]:
    """The claims that no row speaks to, by reason: first those that lack runs, then a row, then a measurement."""
    groups: dict[str, dict[str, str]] = defaultdict(dict)
    for j in judged:
        if not j.outcomes:
            reason, detail = _reason(j)
            groups[reason][j.claim.id] = detail
    order = sorted(groups, key=lambda reason: (*_place(reason), -len(groups[reason])))
    return [NotRun(reason, groups[reason]) for reason in order]


NO_RUNS = "A row is there, without finished runs to compare"


def _place(reason: str) -> tuple[bool, bool]:
    """What is nearer to being run comes first: runs that are missing, then a row, then what no study here can have."""
    return reason.endswith(" here"), reason != NO_RUNS


def _reason(judged: Judged) -> tuple[str, str]:
    """The reason in a form that many claims share, and the rest of it.

    Of a row that is missing, the data or the noise alone: model and augmentation are in claims.md.
    """
    never = re.fullmatch("(not .* here): (.*)", judged.reason)
    if never:
        return never[1].capitalize(), never[2]
    missing = re.match("no row has (?:no label noise, )?([^,]*)", judged.reason)
    if missing:
        return f"No fitting row with {missing[1]}", ""
    return NO_RUNS, judged.reason.rpartition(": ")[2].removesuffix(" have no finished runs to compare")


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
