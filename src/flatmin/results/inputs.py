"""What the results are computed from: the frame of measured runs, and what each table's rows and methods are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pandas as pd

IDENTITY = (
    "table",
    "dataset",
    "model",
    "method",
    "seed",
    "run_id",
    "base",
    "ascent",
    "rho",
    "tuned",
    "device",
    "torch",
)
"""Columns of ``runs`` that say what a run is."""

MEASURED = (
    "train_loss",
    "train_accuracy",
    "validation_accuracy",
    "memorised",
    "diverged",
    "skipped_steps",
    "gradients",
    "test_accuracy",
    "test_error",
    "test_nll",
    "test_ece",
    "early_test_accuracy",
    "early_test_error",
    "early_test_nll",
    "early_test_ece",
    "sharpness_first_order",
    "sharpness_one_step",
    "sharpness_n_step",
    "gradient_norm",
)
"""Columns of ``runs`` that are averaged over seeds."""

RowKey = tuple[str, str]
"""A row of a table: (dataset, model)."""


@dataclass(frozen=True)
class RowInfo:
    """The properties of one row (dataset x model) by which claims find it and measure their distance from it.

    Attributes:
        source: Where the images come from, for example ``cifar10``.
        model: The model's registered name, for example ``wrn28_10`` (not the study's short name for it).
        epochs: Planned epochs of the table, before a method's own override.
        noise_kind: ``none``, ``symmetric``, ``asymmetric`` or ``human``.
        noise_rate: Nominal fraction of training labels replaced, in [0, 1].
        noise_definition: ``any-class``, ``another-class`` or empty.
        train_size: Training images drawn from the source, validation part included; None means all of them.
        source_images: Training images that the source has, if known.
        validation_fraction: Part of the drawn images held out of training for validation.
        validation_labels: ``noisy`` or ``clean``.
        augmentation: ``none``, ``basic`` (flip and padded crop), or another name that the claims use.
        batch_size: Images per step; this and the next two are the first baseline's, where a method has none of its own.
        lr: Learning rate, or ``selected`` when it was chosen on validation data.
        weight_decay: Weight decay, or ``selected``.
        draw_fixed: Whether one draw of subset, split and noise serves all seeds.
        parameters: Parameters of the model, if known.
        classes: Classes of the images, if known.
    """

    source: str
    model: str
    epochs: int
    noise_kind: str = "none"
    noise_rate: float = 0.0
    noise_definition: str = ""
    train_size: int | None = None
    source_images: int | None = None
    validation_fraction: float = 0.0
    validation_labels: str = "noisy"
    augmentation: str = "none"
    batch_size: int | None = None
    lr: float | Literal["selected"] | None = None
    weight_decay: float | Literal["selected"] | None = None
    draw_fixed: bool = False
    parameters: int | None = None
    classes: int | None = None

    @property
    def train_images(self) -> int | None:
        """Images that a run trains on: those drawn, without the validation part."""
        drawn = self.train_size if self.train_size is not None else self.source_images
        return None if drawn is None else drawn - round(drawn * self.validation_fraction)

    @property
    def validation_images(self) -> int | None:
        """Images held out of training: those drawn that a run does not train on."""
        drawn = self.train_size if self.train_size is not None else self.source_images
        return None if drawn is None else round(drawn * self.validation_fraction)

    @property
    def title(self) -> str:
        """The row's data in plain words, for sentences: "digits, 60% label noise"."""
        if self.noise_kind == "none" or self.noise_rate == 0:
            return self.source
        kind = "" if self.noise_kind == "symmetric" else f"{self.noise_kind} "
        return f"{self.source}, {self.noise_rate:.0%} {kind}label noise"


@dataclass(frozen=True)
class MethodInfo:
    """What a method does, beyond the columns of ``runs``.

    ``epochs`` are its own; ``m``, the images per ascent, is None where the ascent sees the whole batch. ``options``
    are the ascent's others, by which it differs from the method that bears its name (``every``, ``only``, ...).
    ``training`` holds what it was trained with, by the names of ``params.yaml`` (``augmentation`` as one word).
    ``edge`` names, by row, what selection chose at the edge of its grid.
    """

    epochs: int | None = None
    m: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    edge: Mapping[RowKey, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class TableInfo:
    """One table of the study as planned.

    ``baseline`` names the methods of which the better (by mean test accuracy, per row and epoch) is what the others are
    compared with; the first of them is the unit of the gradient counts. ``notes`` are printed with their row;
    ``departures`` too, and they count against the row's fidelity to any published setting. ``metric`` is what the
    printed table shows; the csv has both.
    """

    name: str
    title: str
    datasets: tuple[str, ...]
    models: tuple[str, ...]
    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    baseline: tuple[str, ...] = ("sgd",)
    metric: Literal["accuracy", "error"] = "accuracy"
    rows: Mapping[RowKey, RowInfo] = field(default_factory=dict)
    method_info: Mapping[str, MethodInfo] = field(default_factory=dict)
    notes: Mapping[RowKey, list[str]] = field(default_factory=dict)
    departures: Mapping[RowKey, list[str]] = field(default_factory=dict)

    @property
    def row_keys(self) -> list[RowKey]:
        """The rows in print order."""
        return [(dataset, model) for dataset in self.datasets for model in self.models]

    def epochs_of(self, row: RowKey, method: str) -> int | None:
        """The planned epochs of ``method`` in ``row``: its own, else the row's; None if the caller gave neither."""
        own = self.method_info.get(method, MethodInfo()).epochs
        if own is not None:
            return own
        return self.rows[row].epochs if row in self.rows else None

    def training_of(self, row: RowKey, method: str) -> dict[str, Any]:
        """The training settings of ``method`` in ``row``: its own, over those of the row."""
        info = self.rows[row]
        shared = {name: getattr(info, name) for name in ("batch_size", "augmentation", "lr", "weight_decay")}
        return {**shared, **self.method_info.get(method, MethodInfo()).training}

    def edge_of(self, row: RowKey, method: str) -> Sequence[str]:
        """What selection chose for ``method`` in ``row`` at the edge of its grid."""
        return self.method_info.get(method, MethodInfo()).edge.get(row, ())

    def options_of(self, method: str) -> Mapping[str, Any]:
        """The options by which a method differs from the one that bears its ascent's name."""
        return self.method_info.get(method, MethodInfo()).options


def measured(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the runs that have a result, in a fixed order; a run without a test accuracy counts as missing.

    Raises:
        ValueError: a column that the tables need is absent, or one table holds the same run twice.
    """
    absent = [name for name in (*IDENTITY, *MEASURED) if name not in runs.columns]
    if absent:
        raise ValueError(f"runs: missing columns {', '.join(absent)}")
    cell = ["table", "dataset", "model", "method", "seed"]
    kept = runs[runs["test_accuracy"].notna()].sort_values(cell, kind="stable").reset_index(drop=True)
    for name in ("rho", *MEASURED):  # None, which JSON has for "not finite", becomes NaN
        kept[name] = pd.to_numeric(kept[name])
    twice = kept[kept.duplicated(cell)]
    if len(twice):
        raise ValueError(f"runs: more than one run for {dict(twice.iloc[0][cell])}")
    return kept
