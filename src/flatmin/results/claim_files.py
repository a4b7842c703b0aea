"""The verdicts in print: ``claims.json`` with every number, ``claims.md`` for reading."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from flatmin.results.claim_spec import ClaimSpec
from flatmin.results.claims import Judged, Outcome
from flatmin.results.rules import SAMENESS
from flatmin.results.statistics import Interval
from flatmin.results.verdicts import counted
from flatmin.results.wording import count, decimals_of, p_value, signed

VERDICT_WORDS = {
    "reproduced": "the claimed side, significantly (t, sign flips, relabelling or Holm, as printed)",
    "reproduced-smaller": "so, and significantly smaller than published",
    "reproduced-larger": "so, and significantly larger than published",
    "not-reproduced": (
        "equivalent to no effect within the margin (of a threshold: significantly short of it; of sameness: "
        "significantly beyond the margin)"
    ),
    "reversed": "the other side, significantly",
    "inconclusive": "too few seeds or methods, or too much spread, to say",
    "direction agrees / disagrees / unclear": "all that a proxy can say",
    "not-run": "no row of the study speaks to it",
}
"""What each verdict means, as printed under the list."""

FIDELITY_WORDS = {
    "exact (printed without a word)": "no departure from the published setting that counts",
    "same-data": "the same data; another model, schedule, batch or selection",
    "reduced": "the same source with fewer training images (more than 10% held out among them) or fewer epochs",
    "proxy": "other data or noise: a direction, which neither confirms nor refutes",
    "by construction": "the number follows from what the methods are: counted, and no finding",
    "in this instance": "a general statement, without a published setting: it holds, or fails, on the named rows",
}
"""What each fidelity means."""

TEST_WORDS = {"t": "t test", "sign-flip": "sign-flip test", "relabelling": "methods relabelled", "none": "no test"}
"""The tests in print."""

MEANS = ("treatment_mean", "baseline_mean", "here_mean", "there_mean")
"""Details that are printed among the facts; the others stand with the measured number."""


def claims_json(judged: Sequence[Judged]) -> str:
    """All claims in the file's order, with every outcome and every number in full precision."""
    return json.dumps([claim_record(j) for j in judged], indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def claims_markdown(judged: Sequence[Judged]) -> str:
    """The claims that a row speaks to, then the others in a compact list."""
    ran = [j for j in judged if j.outcomes]
    lines = ["# Claims", "", f"{coverage_text(judged)}.", "", EXPLORATORY, ""]
    for j in ran:
        lines += _section(j)
    lines += ["## What the words mean", ""]
    lines += [f"- **{word}**: {meaning}" for word, meaning in (VERDICT_WORDS | FIDELITY_WORDS).items()]
    lines += ["", "## Not run", ""]
    lines += [
        f"- `{j.claim.id}` ({_place(j.claim)}): {j.claim.statement} ({j.reason})" for j in judged if not j.outcomes
    ]
    return "\n".join(lines).rstrip() + "\n"


EXPLORATORY = (
    "Claims that are not marked primary are exploratory: their p-values are not adjusted, and about one in twenty "
    "comes out significant by chance."
)
"""How to read a p-value of a claim that is not primary."""


def coverage_text(judged: Sequence[Judged]) -> str:
    """ "Rows of this study speak to 10 of 67 claims (5 only as proxy)"."""
    heads = [j.headline for j in judged if j.headline]
    proxies = sum(head.fidelity == "proxy" for head in heads)
    beside = f" ({proxies} only as proxy)" if proxies else ""
    return f"Rows of this study speak to {len(heads)} of {len(judged)} claims{beside}"


def measured_text(outcome: Outcome) -> str:
    """The measured number with its interval and seeds: "+0.82 points (95% interval +0.51 to +1.13, 5 seeds)"."""
    kind, details, measured = outcome.claim.rule.kind, outcome.details, outcome.measured
    if outcome.claim.rule.correlates:
        methods = count(int(details["methods"]), "method")
        within = details.get("mean_tau_within_methods")
        beside = "" if within is None else f"; within methods {signed(within)} on average"
        return f"tau {signed(measured.mean)} over {methods}, each the mean of {count(measured.n, 'seed')}{beside}"
    if counted(outcome.claim, outcome.evidence):
        return f"{measured.mean:.3g}x ({'the same for all ' if measured.n > 1 else ''}{count(measured.n, 'seed')})"
    text = interval_text(measured, outcome.claim.rule.unit, ratio=kind == "ratio")
    if kind == "early-stopping":
        gaps = f"{signed(details['last_epoch_gap'])} at the last epoch, {signed(details['early_stopped_gap'])}"
        return f"gap {gaps} early-stopped; half the former minus the latter: {text}"
    if kind == "share":
        gains = f"{signed(details['gain'])} where the reference has {signed(details['reference_gain'])}"
        return f"gain {gains}; the former minus {outcome.claim.rule.share:.0%} of the latter: {text}"
    if kind == "interaction":
        return f"gain {signed(details['gain_here'])} here, {signed(details['gain_there'])} there; difference {text}"
    return text


def interval_text(interval: Interval, unit: str, *, ratio: bool = False) -> str:
    """A difference (signed) or a ratio with its 95% interval and number of seeds."""
    digits = decimals_of(interval)

    def show(value: float) -> str:
        return f"{value:.3g}" if ratio else signed(value, digits)

    number = f"{show(interval.mean)}{'x' if unit == 'x' else f' {unit}' if unit else ''}"
    if math.isnan(interval.half_width):
        return f"{number} ({count(interval.n, 'seed')}, no interval)"
    return f"{number} (95% interval {show(interval.low)} to {show(interval.high)}, {count(interval.n, 'seed')})"


def published_text(claim: ClaimSpec) -> str:
    """The published number in words, or that none was printed."""
    published = claim.published
    if published is None:
        return "no number published"
    if published.unit == "ratio":
        return f"{published.effect:g}x"
    effect, digits = signed(published.effect, published.digits), published.digits
    if published.unit == "tau":
        return f"tau {effect}"
    text = f"{effect} points" if published.in_points else effect
    if published.treatment is not None and published.baseline is not None:
        sides = [side.text(digits) for side in (published.treatment, published.baseline)]
        text += f" ({published.unit}: {sides[0]} against {sides[1]})"
    return text


def facts(outcome: Outcome) -> list[str]:
    """What else a reader needs to weigh an outcome: p, sizes, diverged and missing runs, seeds still needed."""
    found = _tests(outcome)
    found += [f"{name.replace('_', ' ')} {value:.4g}" for name, value in outcome.details.items() if name in MEANS]
    if outcome.diverged:
        found.append(f"{count(outcome.diverged, 'diverged run')} included")
    if outcome.collapsed:
        found.append(f"{count(outcome.collapsed, 'collapsed run')} included")
    if outcome.missing:
        found.append(f"{count(outcome.missing, 'run')} missing")
    if outcome.more_seeds is not None:
        found.append(f"about {count(outcome.more_seeds, 'more seed')} would decide (80% power)")
    elif outcome.undecided and not outcome.obstacle and outcome.evidence.interval.n >= 2:
        adjusted = outcome.p_holm is not None and outcome.p_holm > outcome.evidence.p
        why = ": the other primary claims set Holm's level" if adjusted else ""
        found.append(f"no number of seeds is forecast{why}")
    return found + ([outcome.remark] if outcome.remark else [])


def _tests(outcome: Outcome) -> list[str]:
    """The p-values and what they are held against."""
    claim, evidence = outcome.claim, outcome.evidence
    found = []
    if not math.isnan(evidence.p):
        side = f"{_side(outcome)}, " if claim.rule.kind in SAMENESS else ""
        found.append(f"p {p_value(evidence.p)} ({side}{TEST_WORDS[evidence.test]})")
    if outcome.p_holm is not None:
        found.append(f"{p_value(outcome.p_holm)} after Holm over the primary claims")
    elif claim.primary:
        found.append("not adjusted: Holm covers the first row alone")
    if claim.rule.at_least:
        found.append(f"claimed: at least {claim.rule.at_least:g} {claim.rule.unit}".rstrip())
    elif claim.rule.kind == "ratio":
        found.append(f"claimed: {claim.rule.target:g}x ±{claim.margin:g}")
    elif claim.rule.kind == "no-benefit":
        found.append(f"margin {claim.margin:g} {claim.rule.unit}".rstrip())
    elif claim.margin and (claim.rule.kind == "no-effect" or outcome.verdict == "not-reproduced"):
        found.append(f"margin ±{claim.margin:g} {claim.rule.unit}".rstrip())
    return found


def _side(outcome: Outcome) -> str:
    """On which side of the margin a claim of sameness was tested."""
    if outcome.evidence.beyond < outcome.evidence.equivalence:
        return "beyond the margin"
    return "below the margin" if outcome.claim.rule.kind == "no-benefit" else "within the margin, TOST"


def row_text(outcome: Outcome) -> str:
    """Where an outcome comes from: table, row and the two methods."""
    against = f" against {outcome.baseline}" if outcome.baseline else ""
    return f"{outcome.table}: {outcome.dataset} / {outcome.model}, {outcome.treatment}{against}"


def _place(claim: ClaimSpec) -> str:
    return f"{claim.paper}, {claim.where}"


def _section(judged: Judged) -> list[str]:
    claim = judged.claim
    status = "primary" if claim.primary else "exploratory"
    lines = [
        f"## {judged.label}: {claim.statement}",
        "",
        f"`{claim.id}` · {_place(claim)} · {claim.confidence} · {status} · published: {published_text(claim)}",
        "",
        "| row | verdict | measured | facts | departures |",
        "|---|---|---|---|---|",
    ]
    for o in judged.outcomes:
        cells = (row_text(o), o.label, measured_text(o), "; ".join(facts(o)), "; ".join(o.departures) or "none")
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return [*lines, *(["", claim.note] if claim.note else []), ""]


def claim_record(judged: Judged) -> dict[str, Any]:
    """One claim as ``claims.json`` has it."""
    claim = judged.claim
    return {
        "id": claim.id,
        "paper": claim.paper,
        "where": claim.where,
        "statement": claim.statement,
        "published": published_text(claim),
        "published_unit": claim.published.unit if claim.published else None,
        "published_effect": claim.published.effect if claim.published else None,
        "margin": claim.margin,
        "setting": claim.setting.model_dump(mode="json", exclude_defaults=True) if claim.setting else None,
        "admissible": claim.admissible.model_dump(mode="json", exclude_none=True),
        "rule": claim.rule.model_dump(mode="json", exclude_none=True),
        "source": claim.source,
        "confidence": claim.confidence,
        "primary": claim.primary,
        "verdict": judged.headline.verdict if judged.headline else "not-run",
        "fidelity": judged.headline.fidelity if judged.headline else None,
        "label": judged.label,
        "reason": judged.reason,
        "outcomes": [_outcome_record(outcome) for outcome in judged.outcomes],
    }


def _outcome_record(outcome: Outcome) -> dict[str, Any]:
    measured, evidence = outcome.measured, outcome.evidence
    return {
        "label": outcome.label,
        "row": row_text(outcome),
        "measured": measured_text(outcome),
        "facts": facts(outcome),
        "table": outcome.table,
        "dataset": outcome.dataset,
        "model": outcome.model,
        "treatment": outcome.treatment,
        "baseline": outcome.baseline or None,
        "verdict": outcome.verdict,
        "fidelity": outcome.fidelity,
        "departures": list(outcome.departures),
        "unit": outcome.claim.rule.unit,
        "mean": _number(measured.mean),
        "low": _number(measured.low),
        "high": _number(measured.high),
        "n": measured.n,
        "p": _number(evidence.p),
        "test": evidence.test,
        "p_holm": _number(outcome.p_holm),
        "p_equivalence": _number(evidence.equivalence),
        "p_beyond": _number(evidence.beyond),
        "p_published_size": _number(evidence.size),
        "more_seeds": outcome.more_seeds,
        "diverged": outcome.diverged,
        "missing": outcome.missing,
        "collapsed": outcome.collapsed,
        "unmeasured": outcome.unmeasured,
        "arms": [dict(zip(("table", "dataset", "model", "method"), arm, strict=True)) for arm in outcome.arms],
        "details": {name: _number(value) for name, value in outcome.details.items()},
        "remark": outcome.remark,
    }


def _number(value: float | None) -> float | None:
    """JSON has no NaN: what is unknown is null."""
    return None if value is None or not math.isfinite(value) else float(value)
