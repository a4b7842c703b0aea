"""A run's learning curve, one row per epoch, as it is appended while training and as it is kept."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

COLUMNS = (
    "epoch",
    "lr",
    "train_loss",
    "train_accuracy",
    "validation_loss",
    "validation_accuracy",
    "memorised",
    "gradient_norm",
    "skipped_steps",
)
"""Training columns are means over the epoch's clean passes (with augmentation, at moving weights); ``memorised`` is the
share of wrongly labelled training images that the network assigns to their wrong label; ``gradient_norm`` is the mean
norm of the clean gradient; ``skipped_steps`` counts the epoch's non-finite steps."""

Row = Mapping[str, float | int | None]


def to_csv(rows: Sequence[Row]) -> str:
    """Return rows as csv with full precision; an undefined value is an empty cell."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(_cells(row) for row in rows)
    return out.getvalue()


def append(path: Path, row: Row) -> None:
    """Append a row to a progress file by one write, the header first in a new one."""
    text = to_csv([row])
    if path.exists():
        text = text.split("\n", 1)[1]
    with path.open("a", encoding="utf-8", newline="") as file:
        file.write(text)


def _cells(row: Row) -> list[str]:
    return ["" if row[name] is None else repr(row[name]) for name in COLUMNS]
