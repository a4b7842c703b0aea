"""Every claim against every row that can speak to it: outcomes, the headline of each claim, Holm's adjustment."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from flatmin.results.cells import select
from flatmin.results.claim_spec import ClaimSpec
from flatmin.results.contrasts import Contrast, contrast, correlation
from flatmin.results.inputs import TableInfo
from flatmin.results.matching import (
    FIDELITIES,
    Fidelity,
    admits,
    choose_baseline,
    choose_treatment,
    departures,
    fidelity,
)
from flatmin.results.statistics import ALPHA, Interval, holm, mean_interval
from flatmin.results.verdicts import Evidence, Verdict, counted, decide, direction_only, label, weigh


@dataclass(frozen=True)
class Outcome:
    """A claim on one row.

    ``measured`` is the interval as printed, in the rule's unit (treatment minus baseline, a ratio, or tau).
    ``p_holm`` is set on the headline outcome of a primary claim, and its verdict rests on it.
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
    details: Mapping[str, float]
    remark: str

    @property
    def label(self) -> str:
        """The verdict as printed, with its fidelity unless that is exact."""
        return label(self.verdict, self.fidelity, general=self.claim.setting is None)

    @property
    def more_seeds(self) -> int | None:
        """How many seeds beyond ours would decide with 80% power, if the difference is as it looks now."""
        needed = self.evidence.seeds_to_decide
        undecided = self.verdict in ("inconclusive", "direction unclear")
        return max(1, needed - self.measured.n) if undecided and needed is not None else None


@dataclass(frozen=True)
class Judged:
    """A claim with all its outcomes, the headline first; none means not-run."""

    claim: ClaimSpec
    outcomes: tuple[Outcome, ...]

    @property
    def headline(self) -> Outcome | None:
        """The outcome nearest to the published setting."""
        return self.outcomes[0] if self.outcomes else None

    @property
    def label(self) -> str:
        """The headline's verdict as printed, or not-run."""
        return self.headline.label if self.headline else "not-run"


def judge(claims: Sequence[ClaimSpec], runs: pd.DataFrame, tables: Mapping[str, TableInfo]) -> list[Judged]:
    """Decide every claim on the measured ``runs`` (`flatmin.results.inputs.measured`), in the order of the file.

    The headline of a claim is the outcome with the nearest fidelity, then the fewest departures, then the study's
    order: its numbers play no part. Holm's adjustment covers the headlines of the primary claims.
    """
    judged = [Judged(claim, tuple(_ranked(_outcomes(claim, runs, tables)))) for claim in claims]
    heads = [j for j in judged if j.claim.primary and j.headline and not math.isnan(j.headline.evidence.p)]
    adjusted = dict(zip([j.claim.id for j in heads], holm([j.outcomes[0].evidence.p for j in heads]), strict=True))
    return [_adjust(j, adjusted[j.claim.id]) if j.claim.id in adjusted else j for j in judged]


def _adjust(judged: Judged, p: float) -> Judged:
    head = judged.outcomes[0]
    verdict, remark = _verdict(head.claim, head.evidence, p, head.fidelity, head.details)
    return Judged(judged.claim, (replace(head, p_holm=p, verdict=verdict, remark=remark), *judged.outcomes[1:]))


def _ranked(outcomes: list[Outcome]) -> list[Outcome]:
    return sorted(outcomes, key=lambda o: (FIDELITIES.index(o.fidelity), len(o.departures)))


def _outcomes(claim: ClaimSpec, runs: pd.DataFrame, tables: Mapping[str, TableInfo]) -> list[Outcome]:
    found = []
    for table in tables.values():
        own = runs[runs["table"] == table.name]
        for key in table.row_keys:
            if key in table.rows and admits(claim.admissible, table.rows[key]):
                outcome = _outcome(claim, table, key, select(own, key))
                found += [outcome] if outcome else []
    return found


def _outcome(claim: ClaimSpec, table: TableInfo, key: tuple[str, str], runs: pd.DataFrame) -> Outcome | None:
    """The claim on one row, or None where the row lacks a method that the rule needs or no seed pairs."""
    treatment = choose_treatment(runs, table, key, claim)
    if treatment is None:
        return None
    if claim.rule.kind == "correlation":
        baseline, result = "", correlation(claim.rule, runs)
        planned, used = len(table.seeds) * len(table.methods), len(runs)
    else:
        baseline = choose_baseline(runs, table, key, claim.rule, treatment) or ""
        if not baseline or baseline == treatment:
            return None
        result = contrast(claim.rule, runs, treatment, baseline)
        planned, used = 2 * len(table.seeds), int(runs["method"].isin([treatment, baseline]).sum())
    if not len(result.values):
        return None
    return _weighed(claim, table, key, runs, treatment, baseline, result, planned - used)


def _weighed(
    claim: ClaimSpec,
    table: TableInfo,
    key: tuple[str, str],
    runs: pd.DataFrame,
    treatment: str,
    baseline: str,
    result: Contrast,
    missing: int,
) -> Outcome:
    evidence = weigh(claim, result.oriented, diverged=result.diverged > 0)
    found = departures(claim, table, key, treatment, runs)
    near = fidelity(found)
    verdict, remark = _verdict(claim, evidence, evidence.p, near, result.details)
    return Outcome(
        claim=claim,
        table=table.name,
        dataset=key[0],
        model=key[1],
        treatment="all methods" if claim.rule.kind == "correlation" else treatment,
        baseline=baseline,
        measured=mean_interval(result.values),
        evidence=evidence,
        p_holm=None,
        verdict=verdict,
        fidelity=near,
        departures=tuple(departure.text for departure in found),
        diverged=result.diverged,
        missing=missing,
        details=result.details,
        remark=remark,
    )


def _verdict(
    claim: ClaimSpec, evidence: Evidence, p: float, near: Fidelity, details: Mapping[str, float]
) -> tuple[Verdict, str]:
    """The verdict, cut down to a direction for a proxy, and a remark on what bears on it."""
    verdict = decide(claim, evidence, p)
    remark = _remark(claim, evidence)
    if claim.rule.kind == "early-stopping" and not _has_a_gap(details):
        verdict, remark = "inconclusive", "no last-epoch gap in the treatment's favour is shown, so nothing to explain"
    return (direction_only(claim, verdict) if near == "proxy" else verdict), remark


def _has_a_gap(details: Mapping[str, float]) -> bool:
    return details["last_epoch_gap"] > 0 and details.get("last_epoch_gap_p", 1.0) < ALPHA


def _remark(claim: ClaimSpec, evidence: Evidence) -> str:
    if counted(claim, evidence):
        return "the same for every seed: counted, not estimated"
    if evidence.interval.n < 2:
        return "one seed gives no interval: nothing can be decided"
    if evidence.test == "sign-flip":
        least = 2 / 2**evidence.interval.n
        floor = f"; with {evidence.interval.n} seeds its p cannot fall below {least:.2g}" if least > ALPHA else ""
        return f"the sign-flip permutation test decided, as t cannot be trusted here{floor}"
    if claim.published is not None and claim.rule.kind == "effect" and not claim.published.has_spread:
        return "published without a spread: its effect is taken as known but for rounding"
    return ""
