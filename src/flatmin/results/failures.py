"""Which runs failed, and what a difference is worth that rests on them.

A run collapsed if it ended without a numerical failure, and without having learned anything.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from flatmin.results.inputs import RowInfo, TableInfo
from flatmin.results.statistics import ALPHA, Paired, difference_p, paired

STANDARD_ERRORS = 3
"""How far above chance a final train accuracy still says nothing, in binomial standard errors."""


@dataclass(frozen=True)
class Difference(Paired):
    """A paired difference, with what failed behind it.

    ``failed`` counts the pairs with a run that diverged or collapsed, ``sound`` is the one-sided p that the method is
    the better one from the other pairs (NaN below two of them, and where none failed).
    """

    failed: int = 0
    sound: float = float("nan")

    @property
    def rests_on_failures(self) -> bool:
        """Whether the method looks better and the pairs without a failed run do not show it, as for claims.

        A method that is worse because its own runs failed is worse.
        """
        return self.failed > 0 and self.interval.mean > 0 and not self.sound < ALPHA / 2


def difference(values: np.ndarray, failed: np.ndarray) -> Difference:
    """Test whether paired ``values`` have mean zero; with ``failed`` pairs among them sign flips decide."""
    found, sound = paired(values, diverged=bool(failed.any())), math.nan
    if failed.any():
        sound, _ = difference_p(values[~failed], diverged=True, alternative="greater")
    return Difference(found.differences, found.interval, found.p, found.test, int(failed.sum()), sound)


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
