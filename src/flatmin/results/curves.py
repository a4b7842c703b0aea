"""A run's learning curve as the rules of `symptoms` see it: late means, rises, falls, and how restless it is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.lib.stride_tricks import sliding_window_view

from flatmin.results.inputs import RowInfo

LATE = 0.2
"""The end of a run: the last fifth of its epochs, over which levels are averaged."""

FEWEST_EPOCHS = 5
"""Levels of a shorter run say nothing: most of its epochs are warm-up."""

FEWEST_FOR_TRENDS = 20
"""What rises, falls or jumps is judged from so many epochs on, so that its end (`TREND_EPOCHS`) is at most half."""

TREND_EPOCHS = 10
"""The least epochs at the end in which jumps are counted: of fewer, noise of one point passes for two too often."""

WHITE = 0.6745 * math.sqrt(6)
"""The median size of a second difference of white noise with deviation 1."""


class Values(NamedTuple):
    """A column's values, and the epochs that they are of."""

    epochs: np.ndarray
    values: np.ndarray


@dataclass(frozen=True)
class RunCurve:
    """One run: its learning curve, and of its settings what the rules turn on.

    Attributes:
        history: One line per epoch with the columns of `flatmin.training.history`; unknown values are NaN.
        row: The data and the model.
        diverged: Whether the run was ended because its steps were not finite.
        skipped_steps: Steps with a non-finite loss or gradient.
        batch_size: Images per step, if known.
    """

    history: pd.DataFrame
    row: RowInfo
    diverged: bool = False
    skipped_steps: int = 0
    batch_size: int | None = None

    @property
    def chance_loss(self) -> float:
        """The loss of guessing all classes alike, log(classes); NaN if the classes are unknown."""
        return math.log(self.row.classes) if self.row.classes and self.row.classes > 1 else math.nan

    @property
    def least_loss(self) -> float:
        """The training loss of a network that knows the true classes and how often a label is another one.

        The entropy of symmetric noise at the row's nominal rate, an upper bound for other kinds; 0 without noise.
        """
        rate, classes = self.row.noise_rate, self.row.classes
        if classes is None or classes < 2 or not 0 < rate < 1:
            return 0.0
        return -(1 - rate) * math.log(1 - rate) - rate * math.log(rate / (classes - 1))

    @property
    def steps(self) -> int | None:
        """Steps of the recorded epochs, if known."""
        images = self.row.train_images
        return math.ceil(images / self.batch_size) * len(self.history) if images and self.batch_size else None

    @property
    def validation_sd(self) -> float:
        """Sampling deviation of the late validation accuracy, from the number of validation images; 0 if unknown."""
        share, images = self.late("validation_accuracy"), self.row.validation_images
        return math.sqrt(share * (1 - share) / images) if images and 0 <= share <= 1 else 0.0

    def known(self, column: str) -> Values:
        """The known values of a column, in the order of the epochs."""
        if column not in self.history:
            return Values(np.empty(0), np.empty(0))
        epochs, values = (self.history[name].to_numpy(dtype=float) for name in ("epoch", column))
        order = np.argsort(epochs)[np.isfinite(values[np.argsort(epochs)])]
        return Values(epochs[order], values[order])

    def at_end(self, column: str, fewest: int = 1) -> np.ndarray:
        """The known values of the last fifth of the epochs, or of the last ``fewest``.

        Empty if the run is too short, or half of these values are unknown.
        """
        last = int(self.history["epoch"].max()) if len(self.history) else 0
        window = max(fewest, math.ceil(last * LATE))
        epochs, values = self.known(column)
        values = values[epochs > last - window]
        return values if last >= FEWEST_EPOCHS and 2 * len(values) > window else values[:0]

    def late(self, column: str) -> float:
        """The mean at the end; NaN if it is unknown."""
        values = self.at_end(column)
        return float(values.mean()) if len(values) else math.nan

    def smoothed(self, column: str) -> Values:
        """Medians of three neighbouring values, so that one odd epoch is neither the best nor the worst."""
        epochs, values = self.known(column)
        if len(values) < 3:
            return Values(epochs[:0], values[:0])
        return Values(epochs[1:-1], np.median(sliding_window_view(values, 3), axis=1))

    def jitter(self, column: str, *, late: bool) -> float:
        """How much neighbouring epochs differ beside any trend: the deviation of white noise that would look so.

        The median size of second differences over `WHITE`, over the whole run or at its end; NaN if that is short.
        """
        values = self.at_end(column, TREND_EPOCHS) if late else self.known(column).values
        if len(self.history) < FEWEST_FOR_TRENDS or len(values) < TREND_EPOCHS:
            return math.nan
        return float(np.median(np.abs(np.diff(values, 2)))) / WHITE

    def last_learning(self, column: str) -> float:
        """How much a column rose while the last fifth of all learning rate was spent.

        A rate that decays to zero ends every rise; by epochs, no run would ever seem to be unfinished. The ends are
        the first and last thirds of that part, so that noise does not decide. NaN if the run is short.
        """
        (rated, lr), (epochs, values) = self.known("lr"), self.known(column)
        if len(self.history) < FEWEST_FOR_TRENDS or not lr.sum() > 0:
            return math.nan
        part = values[np.isin(epochs, rated[np.cumsum(lr) >= (1 - LATE) * lr.sum()])]
        third = len(part) // 3
        return float(part[-third:].mean() - part[:third].mean()) if third else math.nan
