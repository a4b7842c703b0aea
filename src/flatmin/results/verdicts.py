"""The verdict rule: from a handful of differences to one word, the same for every claim."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from flatmin.results.claim_spec import SAMENESS, ClaimSpec
from flatmin.results.contrasts import Correlation
from flatmin.results.matching import Fidelity
from flatmin.results.statistics import (
    ALPHA,
    Interval,
    Test,
    against_published,
    difference_p,
    equivalence_p,
    least_relabelling_p,
    mean_interval,
    relabelling_p,
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

    ``values`` (one per seed; for a correlation the one tau) are oriented: above zero is the claimed side (for claims of
    sameness: the distance from what is claimed). ``p`` is that their mean is ``at_least``; ``equivalence`` that it lies
    outside the margin; ``size`` that it equals the published effect (NaN where nothing was published, below two seeds,
    and where a run diverged). ``least_p`` is the smallest p that a permutation test could have given.
    """

    values: tuple[float, ...]
    interval: Interval
    p: float
    test: Test
    equivalence: float
    size: float
    seeds_to_decide: int | None
    least_p: float = 0.0


def weigh(claim: ClaimSpec, values: np.ndarray, *, diverged: bool) -> Evidence:
    """Run the tests that the verdict rule needs on oriented ``values``."""
    interval = mean_interval(values)
    threshold, margin = claim.rule.at_least, claim.margin
    p, test = difference_p(values - threshold, diverged=diverged)
    equivalence = equivalence_p(values, margin, diverged=diverged) if margin else float("nan")
    size = float("nan")
    if claim.published is not None and claim.rule.kind == "effect" and not diverged:
        published = claim.published
        size = against_published(interval, claim.rule.sign * published.effect, published.standard_error, published.runs)
    needed = None if diverged else seeds_to_decide(interval, margin, threshold=threshold)
    least = 2 / 2**interval.n if test == "sign-flip" else 0.0
    return Evidence(tuple(map(float, values)), interval, p, test, equivalence, size, needed, least)


def weigh_correlation(claim: ClaimSpec, found: Correlation) -> Evidence:
    """Test a rank correlation over methods by relabelling them, which takes no method for more than one."""
    tau = claim.rule.sign * found.tau
    nothing = float("nan")
    return Evidence(
        values=(tau,),
        interval=Interval(tau, nothing, found.seeds, nothing),
        p=relabelling_p(found.first, found.second),
        test="relabelling",
        equivalence=nothing,
        size=nothing,
        seeds_to_decide=None,
        least_p=least_relabelling_p(len(found.first)),
    )


def decide(claim: ClaimSpec, evidence: Evidence, p: float) -> Verdict:
    """Apply the rule; ``p`` is the evidence's own p, or that p after Holm's adjustment. NaN decides nothing."""
    if claim.rule.kind in SAMENESS:
        return _decide_sameness(claim, evidence, p)
    return _decide_side(claim, evidence, p)


def _decide_side(claim: ClaimSpec, evidence: Evidence, p: float) -> Verdict:
    threshold = claim.rule.at_least
    if p < ALPHA and evidence.interval.mean > threshold:
        return _sized(claim, evidence)
    if p < ALPHA:
        return "not-reproduced" if threshold else "reversed"
    no_difference = not evidence.p < ALPHA  # what only Holm's adjustment made insignificant is no absence of an effect
    return "not-reproduced" if no_difference and evidence.equivalence < ALPHA else "inconclusive"


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
    harmful = claim.rule.kind == "no-benefit" and evidence.interval.mean < 0
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
    said = [fidelity] if fidelity != "exact" else []
    qualified = ", ".join([*said, *(["in this instance"] if general else [])])
    return f"{verdict} ({qualified})" if qualified else verdict
