"""Every claim against every row that can speak to it: outcomes, the headline of each claim, Holm's adjustment."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from flatmin.results.beyond import with_beyond
from flatmin.results.claim_spec import SIZED, ClaimSpec, with_primary
from flatmin.results.contrasts import NEEDS_A_GAP, Contrast, Correlation, contrast, correlation
from flatmin.results.departures import FIDELITIES, Departure, Fidelity, fidelity
from flatmin.results.failures import with_collapsed
from flatmin.results.inputs import RowKey, TableInfo
from flatmin.results.matching import Compared, admits, compare, departures
from flatmin.results.not_run import why_not_run
from flatmin.results.statistics import ALPHA, Interval, holm, mean_interval
from flatmin.results.verdicts import (
    BY_CONSTRUCTION,
    Evidence,
    Verdict,
    counted,
    decide,
    direction_only,
    label,
    weigh,
    weigh_correlation,
)
from flatmin.results.wording import count


@dataclass(frozen=True)
class Outcome:
    """A claim on one row.

    ``measured`` is the interval as printed, in the rule's unit (treatment minus baseline, a ratio, or a tau, which has
    none). ``p_holm`` is set on the headline outcome of a primary claim, and its verdict rests on it. ``missing`` counts
    planned runs of the compared methods that are not there, ``diverged`` and ``collapsed`` such runs among those that
    entered, ``unmeasured`` compared runs without a finite measurement. ``obstacle`` says what forbids a verdict, if
    anything does. ``arms`` names the runs behind it: table, dataset, model and method of each group.
    """

    claim: ClaimSpec
    table: str
    dataset: str
    model: str
    treatment: str
    baseline: str
    measured: Interval
    evidence: Evidence
    p_holm: float | None
    verdict: Verdict
    fidelity: Fidelity
    departures: tuple[str, ...]
    diverged: int
    missing: int
    unmeasured: int
    details: Mapping[str, float]
    obstacle: str
    collapsed: int = 0
    arms: tuple[tuple[str, str, str, str], ...] = ()

    @property
    def label(self) -> str:
        """The verdict as printed, with its fidelity unless that is exact."""
        rule = self.claim.rule
        return label(
            self.verdict, self.fidelity, general=self.claim.setting is None, by_construction=rule.by_construction
        )

    @property
    def undecided(self) -> bool:
        """Whether the verdict leaves the claim open."""
        return self.verdict in ("inconclusive", "direction unclear")

    @property
    def more_seeds(self) -> int | None:
        """How many seeds beyond ours would decide with 80% power, if the difference is as it looks now.

        None where seeds are not what is lacking, and where Holm's adjustment raised p: other claims set that level.
        """
        needed = self.evidence.seeds_to_decide
        adjusted = self.p_holm is not None and self.p_holm > self.evidence.p
        if not self.undecided or self.obstacle or adjusted or needed is None:
            return None
        return needed - self.measured.n if needed > self.measured.n else None

    @property
    def remark(self) -> str:
        """What bears on the verdict: the obstacle, else how it was reached."""
        return self.obstacle or _remark(self)


@dataclass(frozen=True)
class Judged:
    """A claim with all its outcomes, the headline first; none means not-run, for the ``reason`` given."""

    claim: ClaimSpec
    outcomes: tuple[Outcome, ...]
    reason: str = ""

    @property
    def headline(self) -> Outcome | None:
        """The outcome nearest to the published setting."""
        return self.outcomes[0] if self.outcomes else None

    @property
    def general(self) -> bool:
        """Whether this is a statement without a setting on several rows, of which none speaks for the others."""
        return self.claim.setting is None and len(self.outcomes) > 1

    @property
    def label(self) -> str:
        """The headline's verdict as printed, the verdicts of all instances of a general claim, or not-run."""
        if self.headline is None:
            return "not-run"
        return _instances(self.outcomes) if self.general else self.headline.label


def _instances(outcomes: Sequence[Outcome]) -> str:
    """ "reproduced in 1 of 2 instances (reduced), inconclusive in 1": every verdict, the headline's first."""
    tally = Counter(outcome.verdict for outcome in outcomes)
    (verdict, number), *others = tally.items()
    text = f"{verdict} in {number} of {len(outcomes)} instances"
    text += "".join(f", {verdict} in {number}" for verdict, number in others)
    apart: list[str] = sorted({outcome.fidelity for outcome in outcomes} - {"exact"}, key=FIDELITIES.index)
    apart += [BY_CONSTRUCTION] if outcomes[0].claim.rule.by_construction else []
    return f"{text} ({', '.join(apart)})" if apart else text


def judge(
    claims: Sequence[ClaimSpec],
    runs: pd.DataFrame,
    tables: Mapping[str, TableInfo],
    *,
    shifts: pd.DataFrame | None = None,
    primary: Sequence[str] | None = None,
) -> list[Judged]:
    """Decide every claim on the measured ``runs`` (`flatmin.results.inputs.measured`), in the order of the file.

    The headline of a claim is the outcome with the nearest fidelity, then the fewest departures, then the study's
    order: its numbers play no part. Holm's adjustment covers the headlines of the primary claims.

    Args:
        claims: the claims file.
        runs: one line per finished run and table.
        tables: the study's tables by name, in print order.
        shifts: what the runs achieve on further test sets (`flatmin.results.shift.COLUMNS`).
        primary: ids of the study's own primary claims, in place of the file's.

    Raises:
        ClaimsError: ``primary`` has an unknown id or too many.
    """
    chosen = list(claims) if primary is None else with_primary(claims, primary)
    finished = with_beyond(with_collapsed(runs, tables), shifts)
    judged = [_judged(claim, finished, tables) for claim in chosen]
    heads = [j for j in judged if j.claim.primary and j.headline and not math.isnan(j.headline.evidence.p)]
    adjusted = dict(zip([j.claim.id for j in heads], holm([j.outcomes[0].evidence.p for j in heads]), strict=True))
    return [_adjust(j, adjusted[j.claim.id]) if j.claim.id in adjusted else j for j in judged]


def _judged(claim: ClaimSpec, runs: pd.DataFrame, tables: Mapping[str, TableInfo]) -> Judged:
    outcomes = [] if claim.unmeasured else _ranked(_outcomes(claim, runs, tables))
    return Judged(claim, tuple(outcomes), "" if outcomes else why_not_run(claim, runs, tables))


def _adjust(judged: Judged, p: float) -> Judged:
    head = judged.outcomes[0]
    verdict = _verdict(head.claim, head.evidence, p, head.fidelity, head.obstacle)
    return replace(judged, outcomes=(replace(head, p_holm=p, verdict=verdict), *judged.outcomes[1:]))


def _ranked(outcomes: list[Outcome]) -> list[Outcome]:
    return sorted(outcomes, key=lambda o: (FIDELITIES.index(o.fidelity), len(o.departures)))


def _outcomes(claim: ClaimSpec, runs: pd.DataFrame, tables: Mapping[str, TableInfo]) -> list[Outcome]:
    found = []
    for table in tables.values():
        for key in table.row_keys:
            if key in table.rows and admits(claim.admissible, table.rows[key]):
                outcome = _outcome(claim, table, key, runs, tables)
                found += [outcome] if outcome else []
    return found


def _outcome(
    claim: ClaimSpec, table: TableInfo, key: RowKey, runs: pd.DataFrame, tables: Mapping[str, TableInfo]
) -> Outcome | None:
    """The claim on one row, or None where the row lacks a method that the rule needs or no seed pairs."""
    compared = compare(claim, table, key, runs, tables)
    if compared is None:
        return None
    apart = departures(claim, compared)
    if claim.rule.correlates:
        found = correlation(claim.rule, compared.treatment.runs)
        if found is None:
            return None
        nothing = float("nan")
        measured = Interval(found.tau, nothing, found.seeds, nothing)
        return _weighed(claim, compared, found, measured, weigh_correlation(claim, found), apart)
    result = contrast(claim.rule, compared)
    if not len(result.values):
        return None
    evidence = weigh(claim, result.oriented, result.failed, proxy=fidelity(apart) == "proxy")
    return _weighed(claim, compared, result, mean_interval(result.values), evidence, apart)


def _weighed(
    claim: ClaimSpec,
    compared: Compared,
    result: Contrast | Correlation,
    measured: Interval,
    evidence: Evidence,
    apart: Sequence[Departure],
) -> Outcome:
    everything = claim.rule.correlates
    table, key = compared.treatment.table, compared.treatment.key
    treatment, baseline = ("all methods", "") if everything else compared.names
    arms = [compared.treatment.beside(method) for method in table.methods] if everything else compared.arms
    near, obstacle = fidelity(apart), _obstacle(claim, evidence, result)
    return Outcome(
        claim=claim,
        table=table.name,
        dataset=key[0],
        model=key[1],
        treatment=treatment,
        baseline=baseline,
        measured=measured,
        evidence=evidence,
        p_holm=None,
        verdict=_verdict(claim, evidence, evidence.p, near, obstacle),
        fidelity=near,
        departures=tuple(departure.text for departure in apart),
        diverged=result.diverged,
        missing=sum(len(arm.table.seeds) - len(arm.own) for arm in arms),
        unmeasured=result.unmeasured,
        details=result.details,
        obstacle=obstacle,
        collapsed=result.collapsed,
        arms=tuple((arm.table.name, *arm.key, arm.method) for arm in arms if len(arm.own)),
    )


def _verdict(claim: ClaimSpec, evidence: Evidence, p: float, near: Fidelity, obstacle: str) -> Verdict:
    """The verdict, cut down to a direction for a proxy."""
    verdict: Verdict = "inconclusive" if obstacle else decide(claim, evidence, p)
    return direction_only(claim, verdict) if near == "proxy" else verdict


def _obstacle(claim: ClaimSpec, evidence: Evidence, result: Contrast | Correlation) -> str:
    """Why the numbers must not decide, or nothing."""
    if result.unmeasured:
        names = " or ".join(name for name in (claim.rule.metric, claim.rule.against) if name).replace("_", " ")
        return f"{count(result.unmeasured, 'run')} without a finite {names}: the others alone cannot decide"
    gap = NEEDS_A_GAP.get(claim.rule.kind)
    if gap and not (result.details[gap] > 0 and result.details[f"{gap}_p"] < ALPHA):
        if claim.rule.kind == "share":
            return "no gain of the reference is shown, so there is nothing to have a share of"
        return "no last-epoch gap in the treatment's favour is shown, so nothing to explain"
    if evidence.test == "relabelling" and evidence.least_p >= ALPHA:
        methods = count(int(result.details["methods"]), "method")
        return (
            f"the p of relabelling {methods} cannot fall below {evidence.least_p:.2g}, so this row cannot decide, "
            "however many seeds it has: more methods would"
        )
    return ""


def _remark(outcome: Outcome) -> str:
    claim, evidence = outcome.claim, outcome.evidence
    if counted(claim, evidence):
        known = "; it follows from what the methods are, so it is no finding" if claim.rule.by_construction else ""
        return f"the same for every seed: counted, not estimated{known}"
    if evidence.test == "relabelling":
        return ""
    if evidence.interval.n < 2:
        return "one seed gives no interval: nothing can be decided"
    doubtful = evidence.rests_on_failures and claim.rule.failures == "doubtful" and evidence.p < ALPHA
    if doubtful and outcome.undecided:
        return "the seeds without a diverged or collapsed run do not show it: failures alone reproduce no claim"
    if evidence.test == "sign-flip":
        floor = f"; with {evidence.interval.n} seeds its p cannot fall below {evidence.least_p:.2g}"
        return "the sign-flip permutation test decided, as t cannot be trusted here" + (
            floor if evidence.least_p > ALPHA else ""
        )
    unsized = claim.published is not None and not claim.published.has_spread and claim.rule.kind in SIZED
    if unsized and outcome.verdict == "reproduced":
        return "published without a spread on both sides: whether ours is smaller or larger is not judged"
    return ""
