"""What a rule computes from the runs of one row: one number per seed, or a rank correlation over methods."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from flatmin.results.cells import PERCENT, by_seed
from flatmin.results.claim_spec import FRACTIONS, Rule
from flatmin.results.statistics import difference_p

FEWEST_METHODS = 3
"""A rank correlation over fewer methods is +1 or -1 whatever happens."""


@dataclass(frozen=True)
class Contrast:
    """One number per seed, as printed (``values``, in the rule's unit) and on the claim's axis (``oriented``).

    ``diverged`` counts the diverged runs that entered, ``unmeasured`` the compared runs without a finite measurement;
    ``details`` holds further numbers worth printing.
    """

    values: np.ndarray
    oriented: np.ndarray
    diverged: int
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
    unmeasured: int
    details: Mapping[str, float]


def contrast(rule: Rule, runs: pd.DataFrame, treatment: str, baseline: str) -> Contrast:
    """Compare two methods of one row over the seeds that both have."""
    if rule.kind == "early-stopping":
        return _early_stopping(rule, runs, treatment, baseline)
    scale = _scale(rule.metric)
    both = _paired(runs, treatment, baseline, rule.metric) * scale
    counts = (_diverged(runs, both.index, treatment, baseline), _unmeasured(runs, [rule.metric], treatment, baseline))
    if rule.kind == "ratio":
        values = (both["ours"] / both["theirs"]).to_numpy()
        return Contrast(values, values - float(rule.target or 0), *counts)
    values = (both["ours"] - both["theirs"]).to_numpy()
    details = {"treatment_mean": both["ours"].mean(), "baseline_mean": both["theirs"].mean()}
    return Contrast(values, rule.sign * values, *counts, details)


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
        unmeasured=len(runs) - len(finite),
        details=details,
    )


def _early_stopping(rule: Rule, runs: pd.DataFrame, treatment: str, baseline: str) -> Contrast:
    """Half the last-epoch gap minus the early-stopped gap: above zero, early stopping explains more than half of it."""
    columns = [rule.metric, f"early_{rule.metric}"]
    last, early = (_paired(runs, treatment, baseline, column) * _scale(rule.metric) for column in columns)
    both = pd.DataFrame({"last": last["ours"] - last["theirs"], "early": early["ours"] - early["theirs"]}).dropna()
    values = (both["last"] / 2 - both["early"]).to_numpy()
    diverged = _diverged(runs, both.index, treatment, baseline)
    details = {
        "last_epoch_gap": float(both["last"].mean()),
        "early_stopped_gap": float(both["early"].mean()),
        "last_epoch_gap_p": difference_p(both["last"].to_numpy(), diverged=diverged > 0)[0],
    }
    return Contrast(values, values, diverged, _unmeasured(runs, columns, treatment, baseline), details)


def _paired(runs: pd.DataFrame, treatment: str, baseline: str, column: str) -> pd.DataFrame:
    """One line per seed that both have a finite measurement for: ``ours`` and ``theirs``."""
    return pd.DataFrame({"ours": by_seed(runs, treatment, column), "theirs": by_seed(runs, baseline, column)}).dropna()


def _scale(metric: str) -> float:
    return PERCENT if metric.endswith(FRACTIONS) else 1.0


def _diverged(runs: pd.DataFrame, seeds: pd.Index, *methods: str) -> int:
    return int(runs.loc[runs["seed"].isin(seeds) & runs["method"].isin(methods), "diverged"].sum())


def _unmeasured(runs: pd.DataFrame, columns: list[str], *methods: str) -> int:
    own = runs.loc[runs["method"].isin(methods), columns]
    return int((~np.isfinite(own)).any(axis=1).sum())


def _tau(runs: Any, columns: list[str]) -> float:
    return float(stats.kendalltau(runs[columns[0]], runs[columns[1]]).statistic)
