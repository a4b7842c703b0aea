"""Which runs collapsed: they ended without a numerical failure, and without having learned anything."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from flatmin.results.inputs import RowInfo, TableInfo

STANDARD_ERRORS = 3
"""How far above chance a final train accuracy still says nothing, in binomial standard errors."""


def with_collapsed(runs: pd.DataFrame, tables: Mapping[str, TableInfo]) -> pd.DataFrame:
    """Return ``runs`` with a column ``collapsed`` (0 or 1).

    A run collapsed if its final train accuracy lies below 1 / classes or within `STANDARD_ERRORS` binomial standard
    errors above it. Where a row's number of classes or of training images is not known, none counts as collapsed; one
    that diverged is not counted twice. Classes of unequal frequency hide a run that always names the largest.
    """
    bounds = {(name, *key): _bound(row) for name, table in tables.items() for key, row in table.rows.items()}
    places = zip(runs["table"], runs["dataset"], runs["model"], strict=True)
    bound = np.array([bounds.get(place, float("nan")) for place in places], dtype=float)
    collapsed = (runs["train_accuracy"].to_numpy(dtype=float) <= bound) & (runs["diverged"].to_numpy() == 0)
    return runs.assign(collapsed=collapsed.astype(int))


def _bound(row: RowInfo) -> float:
    """The largest train accuracy that is no better than chance; NaN where it is not known."""
    if not row.classes or not row.train_images:
        return float("nan")
    chance = 1 / row.classes
    return chance + STANDARD_ERRORS * float(np.sqrt(chance * (1 - chance) / row.train_images))
