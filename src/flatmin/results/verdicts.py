"""The verdict rule: from a handful of differences to one word, the same for every claim."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from flatmin.results.claim_spec import ClaimSpec
from flatmin.results.matching import Fidelity
from flatmin.results.statistics import (
    ALPHA,
    Interval,
    Test,
    against_published,
    difference_p,
    equivalence_p,
    mean_interval,
    seeds_to_decide,
)

Verdict = Literal[
    "reproduced",
    "reproduced-smaller",
    "reproduced-larger",
    "not-reproduced",
    "reversed",
    "inconclusive",
    "not-run",
    "direction agrees",
    "direction disagrees",
    "direction unclear",
]
AGREE = ("reproduced", "reproduced-smaller", "reproduced-larger")


@dataclass(frozen=True)
class Evidence:
    """What the runs say about a claim.

    ``values`` (one per seed) are oriented: above zero is the claimed side (for ``no-effect`` and ``ratio``: the
    distance from what is claimed). ``p`` is that their mean is ``at_least``; ``equivalence`` that it lies outside the
    margin; ``size`` that it equals the published effect (NaN where nothing was published or below two seeds).
    """

    values: tuple[float, ...]
    interval: Interval
    p: float
    test: Test
    equivalence: float
    size: float
    seeds_to_decide: int | None


def weigh(claim: ClaimSpec, values: np.ndarray, *, diverged: bool) -> Evidence:
    """Run the tests that the verdict rule needs on oriented ``values``."""
    interval = mean_interval(values)
    p, test = difference_p(values - claim.rule.at_least, diverged=diverged)
    margin = claim.margin
    equivalence = equivalence_p(values, margin, diverged=diverged) if margin else float("nan")
    size = float("nan")
    if claim.published is not None and claim.rule.kind == "effect":
        published = claim.published
        size = against_published(interval, claim.rule.sign * published.effect, published.standard_error, published.runs)
    shifted = Interval(interval.mean - claim.rule.at_least, interval.half_width, interval.n, interval.sd)
    needed = None if diverged else seeds_to_decide(shifted, margin)
    return Evidence(tuple(map(float, values)), interval, p, test, equivalence, size, needed)


def decide(claim: ClaimSpec, evidence: Evidence, p: float) -> Verdict:
    """Apply the rule; ``p`` is the evidence's own p, or that p after Holm's adjustment. NaN decides nothing."""
    if claim.rule.kind in ("no-effect", "ratio"):
        return _decide_sameness(claim, evidence, p)
    return _decide_side(claim, evidence, p)


def _decide_side(claim: ClaimSpec, evidence: Evidence, p: float) -> Verdict:
    threshold = claim.rule.at_least
    if p < ALPHA and evidence.interval.mean > threshold:
        return _sized(claim, evidence)
    if p < ALPHA and threshold == 0:
        return "reversed"
    if p < ALPHA or evidence.equivalence < ALPHA:
        return "not-reproduced"
    return "inconclusive"


def _sized(claim: ClaimSpec, evidence: Evidence) -> Verdict:
    if claim.published is None or not evidence.size < ALPHA:
        return "reproduced"
    smaller = evidence.interval.mean < abs(claim.published.effect)
    return "reproduced-smaller" if smaller else "reproduced-larger"


def _decide_sameness(claim: ClaimSpec, evidence: Evidence, p: float) -> Verdict:
    if counted(claim, evidence):
        return "reproduced" if abs(evidence.interval.mean) < (claim.margin or 0) else "not-reproduced"
    if evidence.equivalence < ALPHA:
        return "reproduced"
    if not p < ALPHA:
        return "inconclusive"
    harmful = claim.rule.kind == "no-effect" and evidence.interval.mean < 0
    return "reproduced" if harmful else "not-reproduced"


def counted(claim: ClaimSpec, evidence: Evidence) -> bool:
    """Whether a ratio is the same for every seed: then it is a count, such as that of gradients, and no estimate."""
    return claim.rule.kind == "ratio" and len(set(evidence.values)) == 1


def direction_only(claim: ClaimSpec, verdict: Verdict) -> Verdict:
    """What a proxy may say: its size means nothing beside the published one, so equivalence to zero is unclear too."""
    if verdict in AGREE:
        return "direction agrees"
    two_sided = claim.rule.kind in ("effect", "correlation") and claim.rule.at_least == 0
    if verdict == "reversed" or (verdict == "not-reproduced" and not two_sided):
        return "direction disagrees"
    return "direction unclear"


def label(verdict: Verdict, fidelity: Fidelity, *, general: bool) -> str:
    """The verdict as printed: only ``exact`` stands without a qualification.

    A ``general`` statement (one without a setting) is never settled by a row: its verdict is that of an instance.
    """
    qualified = fidelity if fidelity != "exact" else "in this instance" if general else ""
    return f"{verdict} ({qualified})" if qualified else verdict
