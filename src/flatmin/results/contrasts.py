"""What a rule computes from the runs of one row: one number per seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from flatmin.results.cells import PERCENT, by_seed
from flatmin.results.claim_spec import FRACTIONS, Rule

FEWEST_METHODS = 3
"""A rank correlation over fewer methods is +1 or -1 whatever happens."""


@dataclass(frozen=True)
class Contrast:
    """One number per seed, as printed (``values``, in the rule's unit) and on the claim's axis (``oriented``).

    ``diverged`` counts the diverged runs that entered; ``details`` holds further numbers worth printing.
    """

    values: np.ndarray
    oriented: np.ndarray
    diverged: int
    details: Mapping[str, float] = field(default_factory=dict)


def contrast(rule: Rule, runs: pd.DataFrame, treatment: str, baseline: str) -> Contrast:
    """Compare two methods of one row over the seeds that both have."""
    if rule.kind == "early-stopping":
        return _early_stopping(rule, runs, treatment, baseline)
    ours, theirs = by_seed(runs, treatment, rule.metric), by_seed(runs, baseline, rule.metric)
    if rule.kind == "ratio":
        ratios = (ours / theirs).dropna()
        values = ratios.to_numpy()
        return Contrast(values, values - float(rule.target or 0), _diverged(runs, ratios.index, treatment, baseline))
    gaps = ((ours - theirs) * _scale(rule.metric)).dropna()
    values = gaps.to_numpy()
    details = {
        "treatment_mean": ours.mean() * _scale(rule.metric),
        "baseline_mean": theirs.mean() * _scale(rule.metric),
    }
    return Contrast(values, rule.sign * values, _diverged(runs, gaps.index, treatment, baseline), details)


def correlation(rule: Rule, runs: pd.DataFrame) -> Contrast:
    """Kendall's tau-b between two measurements over the methods of a row, one tau per seed.

    Runs of one seed share data and initial weights, so seeds are the independent units. ``details`` adds the tau over
    all runs pooled, and the mean tau within a method, which the difference between methods cannot explain.
    """
    columns = [rule.metric, str(rule.against)]
    finite = runs[np.isfinite(runs[columns]).all(axis=1)]
    used = finite[finite.groupby("seed")["method"].transform("nunique") >= FEWEST_METHODS]
    taus = np.asarray([_tau(group, columns) for _, group in used.groupby("seed")])
    taus = taus[~np.isnan(taus)]
    within = [_tau(group, columns) for _, group in finite.groupby("method") if len(group) >= FEWEST_METHODS]
    details = {"pooled_tau": _tau(finite, columns), "runs": float(len(finite))}
    if any(np.isfinite(within)):
        details["mean_tau_within_methods"] = float(np.nanmean(within))
    return Contrast(taus, rule.sign * taus, int(used["diverged"].sum()), details)


def _early_stopping(rule: Rule, runs: pd.DataFrame, treatment: str, baseline: str) -> Contrast:
    """Half the last-epoch gap minus the early-stopped gap: above zero, early stopping explains more than half of it."""
    last, early = rule.metric, f"early_{rule.metric}"
    gap_last = (by_seed(runs, treatment, last) - by_seed(runs, baseline, last)) * _scale(last)
    gap_early = (by_seed(runs, treatment, early) - by_seed(runs, baseline, early)) * _scale(last)
    both = pd.DataFrame({"last": gap_last, "early": gap_early}).dropna()
    values = (both["last"] / 2 - both["early"]).to_numpy()
    details = {"last_epoch_gap": float(both["last"].mean()), "early_stopped_gap": float(both["early"].mean())}
    if len(both) >= 2:
        details["last_epoch_gap_p"] = float(stats.ttest_1samp(both["last"], 0.0).pvalue) if both["last"].std() else 0.0
    return Contrast(values, values, _diverged(runs, both.index, treatment, baseline), details)


def _scale(metric: str) -> float:
    return PERCENT if metric.endswith(FRACTIONS) else 1.0


def _diverged(runs: pd.DataFrame, seeds: pd.Index, *methods: str) -> int:
    return int(runs.loc[runs["seed"].isin(seeds) & runs["method"].isin(methods), "diverged"].sum())


def _tau(runs: Any, columns: list[str]) -> float:
    if len(runs) < 2:
        return float("nan")
    return float(stats.kendalltau(runs[columns[0]], runs[columns[1]]).statistic)
