"""The runs of one method in one row with what the rules find in each, and the method without ascent to compare with."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import pandas as pd

from flatmin.results.cells import select
from flatmin.results.curves import RunCurve
from flatmin.results.inputs import RowInfo, RowKey, TableInfo
from flatmin.results.symptoms import Sign, signs

LEARNING_RATE_DIGITS = 2
"""A warm-up that ends within an epoch never shows the peak itself at an epoch's end."""


@dataclass(frozen=True)
class MethodRuns:
    """One method in one row of a table.

    Attributes:
        table: The table.
        row: The row.
        method: The method's name.
        runs: Its runs that have a result, one line each.
        curves: Their learning curves, by seed.
        found: What the rules of single runs find, by seed and symptom.
        rival: The method without ascent that differs in little else, if there is one: same base, same learning rate,
            and as many epochs, where one has these.
    """

    table: TableInfo
    row: RowKey
    method: str
    runs: pd.DataFrame
    curves: Mapping[int, RunCurve]
    found: Mapping[int, Mapping[str, Sign]]
    rival: str | None = None

    @property
    def info(self) -> RowInfo:
        """The row's data and model."""
        return self.table.rows[self.row]

    @property
    def ascent(self) -> str:
        """The method's ascent; ``none`` for a plain optimizer."""
        return str(self.runs["ascent"].iloc[0])

    @property
    def rho(self) -> float | None:
        """The radius; None where the runs differ or have none."""
        values = set(self.runs["rho"].astype(float))
        rho = values.pop() if len(values) == 1 else 0.0
        return rho if rho > 0 else None

    @property
    def lr(self) -> float | None:
        """The highest learning rate at the end of an epoch, to two digits; None where the runs differ."""
        known = [run.known("lr").values for run in self.curves.values()]
        rates = {f"{lr.max():.{LEARNING_RATE_DIGITS}g}" for lr in known if len(lr)}
        return float(rates.pop()) if len(rates) == 1 else None

    def shows(self, symptom: str) -> list[Sign]:
        """The signs of the runs that show a symptom."""
        return [found[symptom] for found in self.found.values() if symptom in found and found[symptom].shown]

    def has(self, symptom: str) -> bool:
        """Whether more than half of the runs show a symptom."""
        return 2 * len(self.shows(symptom)) > len(self.found)

    def late_loss(self, seeds: Iterable[int]) -> float:
        """The sum of the training losses at the end; NaN if one is unknown."""
        return sum(self.curves[seed].late("train_loss") for seed in seeds)


def row_methods(
    runs: pd.DataFrame, histories: Mapping[str, pd.DataFrame], table: TableInfo, row: RowKey, seed: int | None = None
) -> dict[str, MethodRuns]:
    """Return the methods of a row that have a result (of one ``seed``, if given), in the table's order."""
    own = select(runs[(runs["table"] == table.name) & runs["diverged"].notna()], row)
    own = own if seed is None else own[own["seed"] == seed]
    groups = {
        method: _group(lines.sort_values("seed", kind="stable"), histories, table, row, method)
        for method in table.methods
        if len(lines := own[own["method"] == method])
    }
    return {method: replace(group, rival=_rival(group, groups)) for method, group in groups.items()}


def _group(
    runs: pd.DataFrame, histories: Mapping[str, pd.DataFrame], table: TableInfo, row: RowKey, method: str
) -> MethodRuns:
    curves = {
        int(run["seed"]): RunCurve(
            history=histories.get(str(run["run_id"]), pd.DataFrame()),
            row=table.rows[row],
            diverged=bool(run["diverged"]),
            skipped_steps=0 if math.isnan(run["skipped_steps"]) else int(run["skipped_steps"]),
            batch_size=table.training_of(row, method)["batch_size"],
        )
        for run in runs.to_dict("records")
    }
    return MethodRuns(table, row, method, runs, curves, {seed: signs(curve) for seed, curve in curves.items()})


def _rival(group: MethodRuns, groups: Mapping[str, MethodRuns]) -> str | None:
    if group.ascent == "none":
        return None
    table, row = group.table, group.row
    alike = [
        other.method
        for other in groups.values()
        if other.ascent == "none"
        and other.runs["base"].iloc[0] == group.runs["base"].iloc[0]
        and table.training_of(row, other.method)["lr"] == table.training_of(row, group.method)["lr"]
    ]
    as_long = [name for name in alike if table.epochs_of(row, name) == table.epochs_of(row, group.method)]
    return next(iter([*as_long, *alike]), None)
