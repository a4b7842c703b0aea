"""The verdict rule: from a handful of differences to one word, the same for every claim."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from flatmin.results.claim_spec import ClaimSpec
from flatmin.results.contrasts import Correlation
from flatmin.results.departures import Fidelity
from flatmin.results.rules import SAMENESS, Rule
from flatmin.results.statistics import (
    ALPHA,
    Interval,
    Test,
    against_published,
    beyond_p,
    difference_p,
    equivalence_p,
    least_relabelling_p,
    mean_interval,
    relabelling_p,
    seeds_to_decide,
    seeds_to_place,
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
BY_CONSTRUCTION = "by construction"
ROUNDING = 1e-9
"""Relative size of a difference that only the order of sums makes."""

AGREE = ("reproduced", "reproduced-smaller", "reproduced-larger")


@dataclass(frozen=True)
class Evidence:
    """What the runs say about a claim.

    ``values`` (one per seed; for a correlation the one tau) are oriented: above zero is the claimed side (for claims of
    sameness: the distance from what is claimed). ``equivalence`` is the p that their mean lies outside the margin,
    ``beyond`` (for claims of sameness) that it lies within; ``p`` that the mean is ``at_least``, and for claims of
    sameness the smaller of those two, as one or the other decides. ``size`` is the p that the mean equals the published
    effect (NaN without a published spread, below two seeds, and where a run diverged or collapsed). ``least_p`` is the
    smallest p that a permutation test could have given, ``failed`` counts the seeds with a run that diverged or
    collapsed, ``sound`` is the one-sided p of what is claimed from the other seeds (NaN below two of them, and where
    none failed), and ``rests_on_failures`` says that they do not show it by themselves.
    """

    values: tuple[float, ...]
    interval: Interval
    p: float
    test: Test
    equivalence: float
    size: float
    seeds_to_decide: int | None
    beyond: float = float("nan")
    least_p: float = 0.0
    failed: int = 0
    sound: float = float("nan")
    rests_on_failures: bool = False


def weigh(
    claim: ClaimSpec,
    values: np.ndarray,
    failed: np.ndarray | None = None,
    *,
    forecast: bool = True,
    proxy: bool = False,
) -> Evidence:
    """Run the tests that the verdict rule needs on oriented ``values``.

    Args:
        claim: says what is tested.
        values: one number per seed.
        failed: of which seeds a run diverged or collapsed; with any, sign flips decide instead of t.
        forecast: whether to compute how many seeds would decide, which takes longer than all else.
        proxy: whether the row can only say a direction, for which equivalence to zero decides nothing.
    """
    broken = np.zeros(len(values), dtype=bool) if failed is None else failed
    diverged = bool(broken.any())
    interval = mean_interval(values)
    p, test, equivalence, beyond = _tests(claim, values, diverged=diverged)
    size = float("nan")
    if claim.published is not None and claim.sized and not diverged:
        published = claim.published
        size = against_published(interval, claim.rule.sign * published.effect, published.standard_error, published.runs)
    sides = 1 if claim.rule.kind in SAMENESS else 2
    sound = _sound_p(claim, values[~broken]) if diverged else math.nan
    return Evidence(
        values=tuple(map(float, values)),
        interval=interval,
        p=p,
        test=test,
        equivalence=equivalence,
        size=size,
        seeds_to_decide=None if diverged or not forecast else _forecast(claim, interval, proxy=proxy),
        beyond=beyond,
        least_p=sides / 2**interval.n if test == "sign-flip" else 0.0,
        failed=int(broken.sum()),
        sound=sound,
        rests_on_failures=diverged and not sound < ALPHA / sides,
    )


def _tests(claim: ClaimSpec, values: np.ndarray, *, diverged: bool) -> tuple[float, Test, float, float]:
    """The deciding p and its test, and the p of lying outside the margin and within it."""
    nothing, rule, margin = math.nan, claim.rule, claim.margin
    if _same_for_all(rule, values):
        return nothing, "none", nothing, nothing
    p, test = difference_p(values - rule.at_least, diverged=diverged)
    one_sided = rule.kind == "no-benefit"
    equivalence = equivalence_p(values, margin, diverged=diverged, one_sided=one_sided) if margin else nothing
    if rule.kind not in SAMENESS or not margin:
        return p, test, equivalence, nothing
    beyond = beyond_p(values, margin, diverged=diverged, one_sided=one_sided)
    return min(equivalence, beyond), test, equivalence, beyond


def _sound_p(claim: ClaimSpec, values: np.ndarray) -> float:
    """The p of what is claimed, by sign flips, from the seeds without a run that failed."""
    if claim.rule.kind in SAMENESS and claim.margin:
        return equivalence_p(values, claim.margin, diverged=True, one_sided=claim.rule.kind == "no-benefit")
    return difference_p(values - claim.rule.at_least, diverged=True, alternative="greater")[0]


def _forecast(claim: ClaimSpec, interval: Interval, *, proxy: bool) -> int | None:
    if claim.rule.kind in SAMENESS and claim.margin:
        return seeds_to_place(interval, claim.margin, one_sided=claim.rule.kind == "no-benefit")
    return seeds_to_decide(interval, None if proxy else claim.margin, threshold=claim.rule.at_least)


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
    if claim.rule.kind == "no-correlation":
        return "not-reproduced" if p < ALPHA else "inconclusive"
    if claim.rule.kind in SAMENESS:
        return _decide_sameness(claim, evidence, p)
    return _decide_side(claim, evidence, p)


def _decide_side(claim: ClaimSpec, evidence: Evidence, p: float) -> Verdict:
    threshold = claim.rule.at_least
    if p < ALPHA and evidence.interval.mean > threshold:
        return "inconclusive" if _doubtful(claim, evidence) else _sized(claim, evidence)
    if p < ALPHA:
        return "not-reproduced" if claim.rule.has_threshold else "reversed"
    no_difference = not evidence.p < ALPHA  # what only Holm's adjustment made insignificant is no absence of an effect
    return "not-reproduced" if no_difference and evidence.equivalence < ALPHA else "inconclusive"


def _sized(claim: ClaimSpec, evidence: Evidence) -> Verdict:
    if claim.published is None or not evidence.size < ALPHA:
        return "reproduced"
    smaller = evidence.interval.mean < abs(claim.published.effect)
    return "reproduced-smaller" if smaller else "reproduced-larger"


def _decide_sameness(claim: ClaimSpec, evidence: Evidence, p: float) -> Verdict:
    if counted(claim, evidence):
        within = abs(evidence.interval.mean) <= (claim.margin or 0) * (1 + ROUNDING)
        return "reproduced" if within else "not-reproduced"
    if not p < ALPHA:
        return "inconclusive"
    if evidence.beyond < evidence.equivalence:
        return "not-reproduced"
    return "inconclusive" if _doubtful(claim, evidence) else "reproduced"


def _doubtful(claim: ClaimSpec, evidence: Evidence) -> bool:
    return evidence.rests_on_failures and claim.rule.failures == "doubtful"


def counted(claim: ClaimSpec, evidence: Evidence) -> bool:
    """Whether a ratio is the same for every seed: then it is a count, such as that of gradients, and no estimate."""
    return _same_for_all(claim.rule, np.array(evidence.values))


def _same_for_all(rule: Rule, values: np.ndarray) -> bool:
    enough = len(values) > (0 if rule.by_construction else 1)
    return rule.kind == "ratio" and enough and bool(np.ptp(values) <= ROUNDING)


def direction_only(claim: ClaimSpec, verdict: Verdict) -> Verdict:
    """What a proxy may say: its size means nothing beside the published one, so equivalence to zero is unclear too."""
    if verdict in AGREE:
        return "direction agrees"
    two_sided = claim.rule.kind not in SAMENESS and not claim.rule.has_threshold
    if verdict == "reversed" or (verdict == "not-reproduced" and not two_sided):
        return "direction disagrees"
    return "direction unclear"


def label(verdict: Verdict, fidelity: Fidelity, *, general: bool, by_construction: bool = False) -> str:
    """The verdict as printed: only ``exact`` stands without a qualification.

    A ``general`` statement (one without a setting) is never settled by a row: its verdict is that of an instance. One
    that follows from what the methods are is no finding, and says ``by construction``.
    """
    said = {fidelity: fidelity != "exact", BY_CONSTRUCTION: by_construction, "in this instance": general}
    qualified = ", ".join(word for word, holds in said.items() if holds)
    return f"{verdict} ({qualified})" if qualified else verdict
