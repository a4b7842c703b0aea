"""What a rule computes from the runs that it compares: one number per seed, or a rank correlation over methods."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from flatmin.results.cells import PERCENT, by_seed
from flatmin.results.departures import Arm
from flatmin.results.matching import Compared
from flatmin.results.rules import FRACTIONS, Rule
from flatmin.results.statistics import difference_p

FEWEST_METHODS = 3
"""A rank correlation over fewer methods is +1 or -1 whatever happens."""


@dataclass(frozen=True)
class Contrast:
    """One number per seed, as printed (``values``, in the rule's unit) and on the claim's axis (``oriented``).

    ``failed`` says of which seeds a compared run diverged or collapsed; ``diverged`` and ``collapsed`` count such runs
    among those that entered, ``unmeasured`` the compared runs without a finite measurement; ``details`` holds further
    numbers worth printing.
    """

    values: np.ndarray
    oriented: np.ndarray
    failed: np.ndarray
    diverged: int
    collapsed: int
    unmeasured: int
    details: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Correlation:
    """Kendall's tau between two measurements over ``methods`` (each with its two means over seeds).

    ``seeds`` is the number of runs behind the least measured method.
    """

    tau: float
    first: np.ndarray
    second: np.ndarray
    seeds: int
    diverged: int
    collapsed: int
    unmeasured: int
    details: Mapping[str, float]


def contrast(rule: Rule, compared: Compared) -> Contrast:
    """Compute the rule over the seeds that all compared methods have."""
    frame, columns = _FRAMES[rule.kind](rule, compared)
    values, oriented = frame["value"].to_numpy(), frame["value"].to_numpy() * rule.sign
    if rule.kind == "ratio":
        oriented = values - float(rule.target or 0)
    counts = {name: _failures(compared, frame.index, name) for name in ("diverged", "collapsed")}
    failed = np.sum([number.to_numpy() for number in counts.values()], axis=0) > 0
    details = {str(name): float(frame[name].mean()) for name in frame if name != "value"}
    if rule.kind in NEEDS_A_GAP:
        gap = NEEDS_A_GAP[rule.kind]
        details[f"{gap}_p"] = difference_p(frame[gap].to_numpy(), diverged=bool(failed.any()))[0]
    totals = {name: int(number.sum()) for name, number in counts.items()}
    return Contrast(values, oriented, failed, **totals, unmeasured=_unmeasured(compared, columns), details=details)


def correlation(rule: Rule, runs: pd.DataFrame) -> Correlation | None:
    """Kendall's tau-b between two measurements over the methods of a row; None with too few of them.

    The statement is about solutions that differ, and a row's methods are what differs: its seeds repeat the same few
    methods, so a tau per seed would count the same evidence again. ``details`` adds the mean tau within a method, which
    the difference between methods cannot explain.
    """
    columns = [rule.metric, str(rule.against)]
    finite = runs[np.isfinite(runs[columns]).all(axis=1)]
    means = finite.groupby("method")[columns].mean()
    if len(means) < FEWEST_METHODS:
        return None
    within = [_tau(group, columns) for _, group in finite.groupby("method") if len(group) >= FEWEST_METHODS]
    details = {"methods": float(len(means))}
    if np.isfinite(within).any():
        details["mean_tau_within_methods"] = float(np.nanmean(within))
    return Correlation(
        tau=_tau(means, columns),
        first=means[columns[0]].to_numpy(),
        second=means[columns[1]].to_numpy(),
        seeds=int(finite.groupby("method").size().min()),
        diverged=int(finite["diverged"].sum()),
        collapsed=int(finite["collapsed"].sum()),
        unmeasured=len(runs) - len(finite),
        details=details,
    )


def slope_weights(places: np.ndarray) -> np.ndarray:
    """Weights whose sum with values at ``places`` (above 0) is their least-squares slope per doubling.

    Two places make it the difference over the number of doublings between them.
    """
    doublings = np.log2(places)
    centred = doublings - doublings.mean()
    return np.asarray(centred / np.sum(centred**2))


Computed = tuple[pd.DataFrame, list[str]]
"""One line per seed with its ``value`` and what else is worth printing; and the measurements that it needs."""


def _difference(rule: Rule, compared: Compared) -> Computed:
    assert compared.baseline is not None
    columns = [rule.metric, *([rule.against] if rule.against else [])]
    both = _paired({"treatment": (compared.treatment, rule.metric), "baseline": (compared.baseline, columns[-1])})
    value = both["treatment"] / both["baseline"] if rule.kind == "ratio" else both["treatment"] - both["baseline"]
    names = {} if rule.kind == "ratio" else {f"{name}_mean": both[name] for name in both}
    return pd.DataFrame({"value": value, **names}), columns


def _early_stopping(rule: Rule, compared: Compared) -> Computed:
    """Half the last-epoch gap minus the early-stopped gap: above zero, early stopping explains more than half of it."""
    assert compared.baseline is not None
    columns = [rule.metric, f"early_{rule.metric}"]
    arms = {"ours": compared.treatment, "theirs": compared.baseline}
    both = _paired({f"{name} {column}": (arm, column) for name, arm in arms.items() for column in columns})
    last, early = (both[f"ours {column}"] - both[f"theirs {column}"] for column in columns)
    return pd.DataFrame({"value": last / 2 - early, "last_epoch_gap": last, "early_stopped_gap": early}), columns


def _share(rule: Rule, compared: Compared) -> Computed:
    """The treatment's gain minus a share of the reference's gain, both over one baseline."""
    assert compared.baseline is not None
    assert compared.reference is not None
    assert rule.share is not None
    arms = {"ours": compared.treatment, "theirs": compared.baseline, "full": compared.reference}
    each = _paired({name: (arm, rule.metric) for name, arm in arms.items()})
    gain, full = each["ours"] - each["theirs"], each["full"] - each["theirs"]
    return pd.DataFrame({"value": gain - rule.share * full, "gain": gain, "reference_gain": full}), [rule.metric]


def _trend(rule: Rule, compared: Compared) -> Computed:
    """The least-squares slope per doubling over a ladder of methods."""
    each = _paired({name: (compared.treatment.beside(name), rule.metric) for name in compared.ladder})
    weights = slope_weights(np.array(list(compared.ladder.values())))
    return pd.DataFrame({"value": each @ weights}), [rule.metric]


def _across(rule: Rule, compared: Compared) -> Computed:
    both = _paired({"here": (compared.treatment, rule.metric), "there": (compared.partner[0], rule.metric)})
    details = {f"{name}_mean": both[name] for name in both}
    return pd.DataFrame({"value": both["here"] - both["there"], **details}), [rule.metric]


def _interaction(rule: Rule, compared: Compared) -> Computed:
    assert compared.baseline is not None
    arms = dict(zip("abcd", (compared.treatment, compared.baseline, *compared.partner), strict=True))
    each = _paired({name: (arm, rule.metric) for name, arm in arms.items()})
    here, there = each["a"] - each["b"], each["c"] - each["d"]
    return pd.DataFrame({"value": here - there, "gain_here": here, "gain_there": there}), [rule.metric]


_FRAMES = {
    "effect": _difference,
    "no-effect": _difference,
    "no-benefit": _difference,
    "ratio": _difference,
    "early-stopping": _early_stopping,
    "share": _share,
    "trend": _trend,
    "across": _across,
    "interaction": _interaction,
}

NEEDS_A_GAP = {"early-stopping": "last_epoch_gap", "share": "reference_gain"}
"""Rules about a part of a gap, which must be there to have parts."""


def _paired(wanted: Mapping[str, tuple[Arm, str]]) -> pd.DataFrame:
    """One line per seed for which all have a finite measurement, in points where it is a fraction."""
    columns = {name: by_seed(arm.runs, arm.method, column) * _scale(column) for name, (arm, column) in wanted.items()}
    return pd.DataFrame(columns).dropna()


def _scale(metric: str) -> float:
    return PERCENT if metric.endswith(FRACTIONS) else 1.0


def _failures(compared: Compared, seeds: pd.Index, name: str) -> pd.Series:
    """How many runs of each seed failed in one way."""
    each = [arm.own.set_index("seed")[name].reindex(seeds) for arm in compared.arms]
    return pd.concat(each, axis=1).sum(axis=1)


def _unmeasured(compared: Compared, columns: list[str]) -> int:
    return sum(int((~np.isfinite(arm.own[columns])).any(axis=1).sum()) for arm in compared.arms)


def _tau(runs: Any, columns: list[str]) -> float:
    return float(stats.kendalltau(runs[columns[0]], runs[columns[1]]).statistic)
