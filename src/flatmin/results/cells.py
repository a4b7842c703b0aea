"""The cells of a table: measurements averaged over seeds, and each method's paired difference from the baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from flatmin.results.failures import Difference, difference, with_collapsed
from flatmin.results.inputs import MEASURED, RowKey, TableInfo
from flatmin.results.statistics import Interval, mean_interval

PERCENT = 100.0
ENVIRONMENT = ("device", "torch", "timm")

EQUAL_COMPUTE = 0.01
"""Relative difference up to which two methods used as many gradients: steps skipped or rounded do not matter."""


@dataclass(frozen=True)
class Cell:
    """One method in one row.

    ``planned`` counts the table's seeds, ``n`` the runs that finished, ``diverged`` and ``collapsed`` those of them
    that did. ``means`` holds every measurement in its own unit. Differences (in accuracy points) are method minus
    baseline over the seeds that both have, and None for the baseline itself (at that epoch) or where no seed pairs.

    ``equal`` is the baseline method that used as many gradients, None if there is none and for baselines; the two
    ``equal`` differences are from it.
    """

    method: str
    planned: int
    n: int
    diverged: int
    collapsed: int
    means: Mapping[str, Interval]
    difference: Difference | None
    early_difference: Difference | None
    relative_gradients: float
    equal: str | None = None
    equal_difference: Difference | None = None
    early_equal_difference: Difference | None = None

    @property
    def missing(self) -> int:
        """Planned runs without a result."""
        return self.planned - self.n

    def percent(self, metric: str) -> Interval:
        """A fraction's interval in percent."""
        mean = self.means[metric]
        return Interval(mean.mean * PERCENT, mean.half_width * PERCENT, mean.n, mean.sd * PERCENT)


@dataclass(frozen=True)
class Row:
    """One dataset x model of a table.

    ``baseline`` is the method its last-epoch differences refer to, ``early_baseline`` that of the early-stopped ones:
    the better of the table's baselines at that epoch (None if none finished).
    """

    dataset: str
    model: str
    baseline: str | None
    early_baseline: str | None
    cells: Mapping[str, Cell]

    @property
    def key(self) -> RowKey:
        """(dataset, model)."""
        return (self.dataset, self.model)


def row_cells(runs: pd.DataFrame, table: TableInfo) -> list[Row]:
    """Average the measured ``runs`` of ``table``; rows without a single run are kept, with empty cells."""
    own = with_collapsed(runs[runs["table"] == table.name], {table.name: table})
    return [_row(select(own, key), table, key) for key in table.row_keys]


def select(runs: pd.DataFrame, row: RowKey, method: str | None = None) -> pd.DataFrame:
    """The runs of one dataset x model, and of one ``method`` if given."""
    own = runs[(runs["dataset"] == row[0]) & (runs["model"] == row[1])]
    return own if method is None else own[own["method"] == method]


def better(runs: pd.DataFrame, methods: Sequence[str], column: str = "test_accuracy") -> str | None:
    """The method with the highest mean test accuracy; the first named wins a tie, None has no runs."""
    means = {name: runs.loc[runs["method"] == name, column].mean() for name in methods}
    known = {name: mean for name, mean in means.items() if pd.notna(mean)}
    return max(known, key=lambda name: known[name]) if known else None


def by_seed(runs: pd.DataFrame, method: str, column: str) -> pd.Series:
    """One method's measurement, indexed by seed, where it is finite."""
    chosen = runs[(runs["method"] == method) & np.isfinite(runs[column])]
    return chosen.set_index("seed")[column].sort_index()


def mixed_environment(runs: pd.DataFrame) -> list[str]:
    """Say where runs that are compared were made on different device types or library versions."""
    found = []
    for name in ENVIRONMENT:
        if name in runs.columns and runs[name].nunique() > 1:
            found.append(f"{name} differs between runs: {', '.join(sorted(map(str, runs[name].unique())))}")
    return found


def _row(runs: pd.DataFrame, table: TableInfo, key: RowKey) -> Row:
    baselines = (better(runs, table.baseline), better(runs, table.baseline, "early_test_accuracy"))
    unit = runs.loc[runs["method"] == table.baseline[0], "gradients"].mean()
    cells = {method: _cell(runs, table, method, baselines, unit) for method in table.methods}
    return Row(key[0], key[1], *baselines, cells)


def _cell(
    runs: pd.DataFrame, table: TableInfo, method: str, baselines: tuple[str | None, str | None], unit: float
) -> Cell:
    own = runs[runs["method"] == method]
    equal = None if method in table.baseline else _equal(runs, method, table.baseline)
    return Cell(
        method=method,
        planned=len(table.seeds),
        n=len(own),
        diverged=int(own["diverged"].sum()),
        collapsed=int(own["collapsed"].sum()),
        means={name: mean_interval(own[name].to_numpy(dtype=float)) for name in MEASURED},
        difference=_difference(runs, method, baselines[0], "test_accuracy"),
        early_difference=_difference(runs, method, baselines[1], "early_test_accuracy"),
        relative_gradients=float(own["gradients"].mean() / unit) if len(own) else float("nan"),
        equal=equal,
        equal_difference=_difference(runs, method, equal, "test_accuracy"),
        early_equal_difference=_difference(runs, method, equal, "early_test_accuracy"),
    )


def _equal(runs: pd.DataFrame, method: str, baselines: Sequence[str]) -> str | None:
    """The baseline with as many gradients as ``method``; medians, as a run that diverged may have ended early."""
    gradients = runs.groupby("method")["gradients"].median()
    if method not in gradients:
        return None
    gaps = {name: abs(gradients[name] / gradients[method] - 1) for name in baselines if name in gradients}
    nearest = min(gaps, key=lambda name: gaps[name], default=None)
    return nearest if nearest is not None and gaps[nearest] <= EQUAL_COMPUTE else None


def _difference(runs: pd.DataFrame, method: str, baseline: str | None, column: str) -> Difference | None:
    if baseline is None or method == baseline:
        return None
    gaps = ((by_seed(runs, method, column) - by_seed(runs, baseline, column)) * PERCENT).dropna()
    if gaps.empty:
        return None
    compared = runs[runs["method"].isin([method, baseline])].set_index("seed")
    failed = (compared[["diverged", "collapsed"]].sum(axis=1) > 0).groupby("seed").any()
    return difference(gaps.to_numpy(), failed.reindex(gaps.index).to_numpy())
