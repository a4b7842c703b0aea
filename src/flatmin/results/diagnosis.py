"""What is wrong with the runs of a study, why, and what to do: the guide's diagnostic table, with numbers.

A symptom of single runs (`symptoms`) is a finding about a method where more than half of its runs show it; a comparison
with the method without ascent is one by its 95% interval over paired seeds. Validation data alone decide: advice is
there to be followed, and what follows from test data would spoil them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from flatmin.results.advice import Subject, advise
from flatmin.results.cells import PERCENT, by_seed
from flatmin.results.inputs import RowInfo, TableInfo
from flatmin.results.method_runs import MethodRuns, row_methods
from flatmin.results.statistics import mean_interval
from flatmin.results.symptoms import SYMPTOMS, WRONG, Severity, Symptom
from flatmin.results.wording import count, method_title

SAME = 0.5
"""Points of accuracy within which two methods are alike: less than the SAM paper's gains on CIFAR-10 without strong
augmentation (0.8 to 1.1 for WRN-28-10), and the margin of the claim that a small rho is about SGD."""

FEWEST_SEEDS = 3
"""The interval of two seeds reaches nine standard deviations to either side: it decides nothing."""

MAJORITY = "in more than half of the runs"
FEWER = f"{MAJORITY}, and a hint in fewer"

COMPARISONS: Mapping[str, tuple[str, Severity, str, str]] = {
    "worse": (
        "Worse than without ascent",
        "trouble",
        f"the 95% interval of the paired difference in validation accuracy lies below -{SAME:g} points",
        "a loss that small would not be seen in a table",
    ),
    "no-difference": (
        "No difference from the method without ascent",
        "hint",
        f"the 95% interval of the paired difference in validation accuracy includes 0 and lies within ±{SAME:g} points",
        "an interval that merely includes 0 is no evidence of sameness, and one without it is a difference",
    ),
    "edge": (
        "The selected value is at the edge of its grid",
        "hint",
        "the selection chose the smallest or the largest value that it tried",
        "an optimum inside a grid has a worse value on either side",
    ),
}
"""What single runs do not show, by symptom: title, severity, rule and why. With wrong labels in the validation part, a
point of accuracy on true labels is less than a point there, and the limits shrink with it."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with one method in one row of a table.

    Attributes:
        symptom: Its name in files; ``title`` is its name in print.
        cause: The likely cause.
        advice: What to do, and what the sources support of what the guide says of it.
        evidence: The numbers (means over the runs that show it) and the rule with its threshold.
        severity: ``trouble``, ``hint`` or ``fine`` (seen, and no reason to act).
        shown: Runs that show it. (For a comparison: the pairs of runs.)
        runs: Runs that there are.
    """

    symptom: str
    title: str
    cause: str
    advice: str
    evidence: str
    severity: Severity
    table: str
    dataset: str
    model: str
    method: str
    shown: int
    runs: int


def diagnose(
    runs: pd.DataFrame, histories: Mapping[str, pd.DataFrame], tables: Mapping[str, TableInfo]
) -> list[Finding]:
    """Return what is wrong, in the order of the study: by table, row, method and symptom.

    Args:
        runs: One line per run and table (`flatmin.results.inputs`); of those without a result nothing is said.
        histories: By run id, one line per epoch; a run without one can only have diverged.
        tables: The study's tables by name. A row without `RowInfo` is left out.
    """
    rows = [(table, row) for table in tables.values() for row in table.row_keys if row in table.rows]
    return [found for table, row in rows for found in _row_findings(row_methods(runs, histories, table, row))]


def diagnose_run(
    run_id: str, runs: pd.DataFrame, histories: Mapping[str, pd.DataFrame], table: TableInfo
) -> list[Finding]:
    """Return what is wrong with one run of a table; the run without ascent of its own seed tells causes apart.

    What takes several seeds is left out: ``worse`` and ``no-difference``.

    Raises:
        KeyError: the table has no such run with a result.
    """
    own = runs[(runs["table"] == table.name) & (runs["run_id"] == run_id) & runs["diverged"].notna()]
    if own.empty:
        raise KeyError(run_id)
    line = own.iloc[0]
    row = (str(line["dataset"]), str(line["model"]))
    found = _row_findings(row_methods(runs, histories, table, row, seed=int(line["seed"])))
    return [finding for finding in found if finding.method == line["method"]]


def rules() -> list[tuple[str, str, str]]:
    """Return every rule as (title, rule, why it has that threshold), for a reader of the results."""
    single = [(of.title, f"{of.rule}, {FEWER if of in WRONG else MAJORITY}", of.why) for of in SYMPTOMS]
    return [*single, *((title, rule, why) for title, _, rule, why in COMPARISONS.values())]


def _row_findings(methods: Mapping[str, MethodRuns]) -> Iterator[Finding]:
    for group in methods.values():
        rival = methods[group.rival] if group.rival else None
        yield from (_of_runs(group, rival, symptom) for symptom in SYMPTOMS if _tells(group, symptom))
        if rival and not any(group.has(symptom.id) for symptom in WRONG):
            yield from _compared(group, rival)
        yield from _on_edge(group)


def _tells(group: MethodRuns, symptom: Symptom) -> bool:
    """Whether a symptom is worth a finding; where training itself went wrong, one run of many is."""
    return group.has(symptom.id) or (symptom in WRONG and bool(group.shows(symptom.id)))


def _of_runs(group: MethodRuns, rival: MethodRuns | None, symptom: Symptom) -> Finding:
    shown = group.shows(symptom.id)
    means = {name: sum(sign.numbers[name] for sign in shown) / len(shown) for name in shown[0].numbers}
    said = f"{'on average, ' if len(shown) > 1 else ''}{symptom.evidence.format_map(means)}"
    subject = replace(_subject(group), shared=_shared(group, rival, symptom) if rival else None)
    return _finding(
        group,
        symptom.id,
        subject,
        title=symptom.title,
        severity=symptom.severity if group.has(symptom.id) else "hint",
        evidence=f"{len(shown)} of {count(len(group.found), 'run')}: {said}. Rule for a run: {symptom.rule}.",
        shown=len(shown),
    )


def _shared(group: MethodRuns, rival: MethodRuns, symptom: Symptom) -> bool:
    """Whether the rival shows a symptom as often; training that goes wrong in another way is the same symptom."""
    names = [other.id for other in WRONG] if symptom in WRONG else [symptom.id]
    theirs = sum(len(rival.shows(name)) for name in names)
    return 2 * theirs > len(rival.found) or (theirs > 0 and not group.has(symptom.id))


def _compared(group: MethodRuns, rival: MethodRuns) -> Iterator[Finding]:
    """What the paired differences in final validation accuracy say; nothing if a run diverged, or few seeds pair."""
    both = pd.concat([group.runs, rival.runs])
    ours, theirs = (by_seed(both, of.method, "validation_accuracy") for of in (group, rival))
    gaps, trust = (ours - theirs).dropna() * PERCENT, _worth_of_a_point(group.info)
    if len(gaps) < FEWEST_SEEDS or trust <= 0 or both.loc[both["seed"].isin(gaps.index), "diverged"].any():
        return
    interval, margin = mean_interval(gaps.to_numpy()), SAME * trust
    if interval.high < -margin:
        symptom = "worse"
    elif -margin < interval.low <= 0 <= interval.high < margin:
        symptom = "no-difference"
    else:
        return
    span = f"95% interval {interval.low:+.2f} to {interval.high:+.2f}, {count(interval.n, 'pair')} of runs"
    said = f"Validation accuracy {interval.mean:+.2f} points against {method_title(rival.method)} ({span})"
    noise = f"{group.info.noise_rate:.0%} of the validation labels are wrong"
    limit = f"; here {margin:.2f} points, because {noise}" if trust < 1 else ""
    subject = replace(_subject(group), loss_ratio=_loss_ratio(group, rival, [int(seed) for seed in gaps.index]))
    yield _comparison(group, symptom, subject, said, limit, interval.n)


def _worth_of_a_point(row: RowInfo) -> float:
    """How much accuracy on the validation labels changes with accuracy on true ones, for symmetric noise.

    At rate r of ``another-class`` among C classes, accuracy a becomes a (1 - r) + (1 - a) r / (C - 1).
    """
    if row.validation_labels == "clean" or row.noise_rate == 0:
        return 1.0
    if row.noise_definition == "another-class" and row.classes:
        return 1 - row.noise_rate * row.classes / (row.classes - 1)
    return 1 - row.noise_rate


def _loss_ratio(group: MethodRuns, rival: MethodRuns, seeds: Sequence[int]) -> float | None:
    """The mean late training loss over the rival's, over the same seeds; None if one is unknown."""
    ours, theirs = group.late_loss(seeds), rival.late_loss(seeds)
    return ours / theirs if theirs > 0 and not math.isnan(ours) else None


def _on_edge(group: MethodRuns) -> Iterator[Finding]:
    edge = group.table.edge_of(group.row, group.method)
    values = {"rho": group.rho, "lr": group.lr}
    named = [f"{name.replace('_', ' ')} {v:g}" if (v := values.get(name)) else name.replace("_", " ") for name in edge]
    if named:
        said = f"Selected {' and '.join(named)}, for {count(len(group.runs), 'run')}"
        yield _comparison(group, "edge", _subject(group), said, "", len(group.runs))


def _comparison(group: MethodRuns, symptom: str, subject: Subject, said: str, limit: str, shown: int) -> Finding:
    title, severity, rule, _ = COMPARISONS[symptom]
    evidence = f"{said}. Rule: {rule}{limit}."
    return _finding(group, symptom, subject, title=title, severity=severity, evidence=evidence, shown=shown)


def _finding(
    group: MethodRuns, symptom: str, subject: Subject, *, title: str, severity: Severity, evidence: str, shown: int
) -> Finding:
    cause, advice = advise(symptom, subject)
    return Finding(
        symptom=symptom,
        title=title,
        cause=cause,
        advice=advice,
        evidence=evidence,
        severity=severity,
        table=group.table.name,
        dataset=group.row[0],
        model=group.row[1],
        method=group.method,
        shown=shown,
        runs=len(group.runs),
    )


def _subject(group: MethodRuns) -> Subject:
    return Subject(
        method=group.method,
        ascent=group.ascent,
        rho=group.rho,
        lr=group.lr,
        noisy=group.info.noise_rate > 0,
        baseline=group.rival,
    )
