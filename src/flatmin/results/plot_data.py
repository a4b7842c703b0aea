"""What ``dvc plots`` draws: accuracies and mean learning curves as csv, each number with its n."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pandas as pd

from flatmin.results.blocks import EARLY, LAST, Layout
from flatmin.results.cells import PERCENT, Row, select

DECIMALS = 4
ACCURACY = ("row", "method", "epoch", "accuracy", "low", "high", "n")
CURVES = ("row", "method", "epoch", "training", "validation", "n")


def accuracy_csv(layouts: Sequence[Layout]) -> str:
    """Test accuracy in % with the ends of its 95% interval, by row, method and epoch (last, early-stopped)."""
    return _csv(_accuracies(layouts), ACCURACY)


def curves_csv(layouts: Sequence[Layout], runs: pd.DataFrame, histories: Mapping[str, pd.DataFrame]) -> str:
    """Training and validation accuracy in % by epoch: means over the ``n`` seeds that have the epoch."""
    return _csv(_curves(layouts, runs, histories), CURVES)


def _csv(lines: Iterator[tuple[object, ...]], columns: Sequence[str]) -> str:
    frame = pd.DataFrame(list(lines), columns=list(columns)).round(DECIMALS)
    return str(frame.to_csv(index=False, lineterminator="\n"))


def _accuracies(layouts: Sequence[Layout]) -> Iterator[tuple[object, ...]]:
    for layout in layouts:
        for row in layout.cells:
            for cell in row.cells.values():
                for epoch, column in ((LAST, "test_accuracy"), (EARLY, "early_test_accuracy")):
                    span = cell.percent(column)
                    if span.n:
                        yield _name(layout, row), cell.method, epoch, span.mean, span.low, span.high, span.n


def _curves(
    layouts: Sequence[Layout], runs: pd.DataFrame, histories: Mapping[str, pd.DataFrame]
) -> Iterator[tuple[object, ...]]:
    for layout in layouts:
        own = runs[(runs["table"] == layout.table.name) & runs["run_id"].isin(list(histories))]
        for row in layout.cells:
            for method in layout.table.methods:
                found = [histories[run_id] for run_id in select(own, row.key, method)["run_id"]]
                if found:
                    epochs = pd.concat(found).groupby("epoch")[["train_accuracy", "validation_accuracy"]]
                    table = (epochs.mean() * PERCENT).assign(n=epochs.size())
                    for epoch, train, validation, n in table.itertuples():
                        yield _name(layout, row), method, epoch, train, validation, n


def _name(layout: Layout, row: Row) -> str:
    return f"{layout.table.name}: {row.dataset} / {row.model}"
