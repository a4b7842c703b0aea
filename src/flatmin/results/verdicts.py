"""The verdict rule: from a handful of differences to one word, the same for every claim."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from flatmin.results.claim_spec import ClaimSpec
from flatmin.results.contrasts import Correlation
from flatmin.results.departures import Fidelity
from flatmin.results.rules import SAMENESS
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
    and where a run diverged or collapsed). ``least_p`` is the smallest p that a permutation test could have given,
    ``failed`` counts the seeds with a run that diverged or collapsed, ``sound`` is the one-sided p of the claimed side
    from the other seeds (NaN below two of them, and where none failed).
    """

    values: tuple[float, ...]
    interval: Interval
    p: float
    test: Test
    equivalence: float
    size: float
    seeds_to_decide: int | None
    least_p: float = 0.0
    failed: int = 0
    sound: float = float("nan")

    @property
    def rests_on_failures(self) -> bool:
        """Whether runs failed, and the seeds without one do not show the claimed side by themselves."""
        return self.failed > 0 and not self.sound < ALPHA / 2


def weigh(claim: ClaimSpec, values: np.ndarray, failed: np.ndarray | None = None, *, forecast: bool = True) -> Evidence:
    """Run the tests that the verdict rule needs on oriented ``values``.

    Args:
        claim: says what is tested.
        values: one number per seed.
        failed: of which seeds a run diverged or collapsed; with any, sign flips decide instead of t.
        forecast: whether to compute how many seeds would decide, which takes longer than all else.
    """
    diverged = failed is not None and bool(failed.any())
    interval = mean_interval(values)
    threshold, margin = claim.rule.at_least, claim.margin
    p, test = difference_p(values - threshold, diverged=diverged)
    equivalence = equivalence_p(values, margin, diverged=diverged) if margin else float("nan")
    size = float("nan")
    if claim.published is not None and claim.sized and not diverged:
        published = claim.published
        size = against_published(interval, claim.rule.sign * published.effect, published.standard_error, published.runs)
    needed = None if diverged or not forecast else seeds_to_decide(interval, margin, threshold=threshold)
    least = 2 / 2**interval.n if test == "sign-flip" else 0.0
    sound = math.nan
    if failed is not None and diverged:
        sound, _ = difference_p(values[~failed] - threshold, diverged=True, alternative="greater")
    return Evidence(
        values=tuple(map(float, values)),
        interval=interval,
        p=p,
        test=test,
        equivalence=equivalence,
        size=size,
        seeds_to_decide=needed,
        least_p=least,
        failed=int(failed.sum()) if failed is not None else 0,
        sound=sound,
    )


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
        doubtful = evidence.rests_on_failures and claim.rule.failures == "doubtful"
        return "inconclusive" if doubtful else _sized(claim, evidence)
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
    two_sided = claim.rule.kind not in SAMENESS and claim.rule.at_least == 0
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
