"""How far a comparison is from the published one, in words, and what fidelity that leaves."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import pandas as pd

from flatmin.results.inputs import MethodInfo, RowInfo, RowKey, TableInfo
from flatmin.results.published import Setting

Fidelity = Literal["exact", "same-data", "reduced", "proxy"]
FIDELITIES: tuple[Fidelity, ...] = ("exact", "same-data", "reduced", "proxy")
"""From the nearest to the published setting to the farthest."""

LEAST_HELD_OUT = 0.1
"""A validation part up to this size does not make a training set a cut one."""

MAY_BE_UNKNOWN = ("weight_decay_in", "schedule", "label_smoothing", "clip_norm")
"""Settings that only a caller with the whole training section gives; without it they are not compared."""


@dataclass(frozen=True)
class Departure:
    """One way in which our setting differs, in words, and the best fidelity that it still allows (maybe ``exact``)."""

    text: str
    fidelity: Fidelity


@dataclass(frozen=True)
class Arm:
    """One method on one row, with the row's finished runs."""

    table: TableInfo
    key: RowKey
    method: str
    runs: pd.DataFrame

    def beside(self, method: str) -> Arm:
        """Another method of the same row."""
        return replace(self, method=method)

    @property
    def row(self) -> RowInfo:
        """What the row is."""
        return self.table.rows[self.key]

    @cached_property
    def own(self) -> pd.DataFrame:
        """The method's runs."""
        return self.runs[self.runs["method"] == self.method]

    @property
    def epochs(self) -> int | None:
        """Its planned epochs."""
        return self.table.epochs_of(self.key, self.method)

    @property
    def rho(self) -> float:
        """The radius that its runs had."""
        return float(self.own["rho"].median())

    @property
    def tuned(self) -> bool:
        """Whether that radius was selected on validation data."""
        return bool((self.own["tuned"] == "selected").all())

    @property
    def base(self) -> str:
        """Its base optimizer."""
        return " and ".join(sorted(set(self.own["base"])))

    @property
    def training(self) -> dict[str, Any]:
        """What it was trained with, its base included."""
        return {**self.table.training_of(self.key, self.method), "base": self.base}

    @property
    def m(self) -> int | None:
        """Images per ascent; the whole batch without parts."""
        m = self.table.method_info.get(self.method, MethodInfo()).m or self.training["batch_size"]
        return int(m) if m else None

    def value_of(self, along: str) -> float:
        """Its place on a ladder of ``rho``, ``m`` or ``steps``; 0 where it is not known."""
        if along == "steps":
            return float(self.table.options_of(self.method).get("steps", 1))
        return self.rho if along == "rho" else float(self.m or 0)

    def all_but(self, along: str) -> dict[str, Any]:
        """All that sets a method apart but its place on the ladder. Two tuned radii count as the same."""
        options = {name: value for name, value in self.table.options_of(self.method).items() if name != along}
        known = {"rho": "selected" if self.tuned else self.rho, "m": self.m}
        known.pop(along, None)
        return {**known, "options": options, "training": self.training, "epochs": self.epochs}


def fidelity(found: Sequence[Departure]) -> Fidelity:
    """The farthest fidelity among the departures; ``exact`` without any that counts."""
    return max((d.fidelity for d in found), key=FIDELITIES.index, default="exact")


def row_departures(setting: Setting | None, row: RowInfo) -> Iterator[Departure]:
    """How a row's images and labels differ; of a general statement, without a setting, only a cut training set."""
    yield from _size(row, setting)
    if setting is not None:
        yield from _data(row, setting)
        yield from (Departure(f"published: {text}", "same-data") for text in setting.besides)


def method_departures(setting: Setting, arm: Arm, rho: float | None) -> Iterator[Departure]:
    """How a method differs from the published one: network, epochs, training, images per ascent, rho."""
    if setting.model and arm.row.model not in setting.model_names:
        yield Departure(f"model {arm.row.model} instead of {setting.model}", "same-data")
    epochs = arm.epochs or arm.row.epochs
    if setting.epochs is not None and epochs != setting.epochs:
        yield Departure(
            f"{epochs} epochs instead of {setting.epochs}", "reduced" if epochs < setting.epochs else "same-data"
        )
    yield from _training(setting, arm.training)
    if setting.m is not None and arm.m != setting.m:
        yield Departure(f"ascent over m = {arm.m or 'unknown'} images instead of {setting.m}", "same-data")
    if rho is not None and not arm.tuned and not math.isclose(arm.rho, rho):
        yield Departure(f"rho {arm.rho:g}, not tuned, instead of {rho:g}", "same-data")


def protocol_departures(setting: Setting, table: TableInfo, key: RowKey, *, better: bool) -> Iterator[Departure]:
    """How results are reported, and the longest training that the ``better`` baseline is chosen from."""
    if setting.result == "best-test":
        yield Departure("validation-chosen epoch instead of the best test epoch", "same-data")
    longest = max((table.epochs_of(key, name) or 0 for name in table.baseline), default=0)
    if better and setting.baseline_epochs and longest < setting.baseline_epochs:
        text = f"baseline trained for {longest} epochs at most instead of {setting.baseline_epochs}"
        yield Departure(text, "same-data")


def unequal(ours: Arm, theirs: Arm, meant: Sequence[str] = ()) -> Iterator[Departure]:
    """What two methods do not share in their training, beyond epochs and what the claim ``meant`` to differ."""
    mine, other = ours.training, theirs.training
    for name in mine:
        if name not in ("epochs", *meant) and mine[name] != other.get(name):
            text = f"{_shown(mine[name])} for {ours.method} but {_shown(other.get(name))} for {theirs.method}"
            yield Departure(f"{_words(name)} {text}", "same-data")


def selected(arm: Arm) -> Iterator[Departure]:
    """What selection leaves open."""
    for name in arm.table.edge_of(arm.key, arm.method):
        yield Departure(f"{_words(name)} of {arm.method} at the edge of its grid", "same-data")


def untuned(arm: Arm, published: float | None, part: str = "") -> Iterator[Departure]:
    """A radius that was neither tuned nor is the published one; ``part`` says whose it is, with a space behind."""
    if arm.rho > 0 and not arm.tuned and (published is None or not math.isclose(arm.rho, published)):
        instead = f", instead of {published:g}" if published is not None else ""
        yield Departure(f"rho {arm.rho:g} of {part}{arm.method}, not tuned{instead}", "same-data")


def _size(row: RowInfo, setting: Setting | None) -> Iterator[Departure]:
    """A cut training set. Holding out up to a tenth is printed and does not count: whether the papers did is open."""
    held_out = row.validation_fraction
    published = setting.train_size if setting and setting.train_size is not None else row.source_images
    drawn = row.train_size if row.train_size is not None else row.source_images
    cut = drawn != published and not (published is None and row.train_size is None)
    if not cut and not held_out:
        return
    ours = "an unknown number of" if row.train_images is None else f"{row.train_images:,}"
    said = f"{held_out:.0%} held out for validation"
    text = f"{ours} of {published:,} training images" if published else f"{ours} training images instead of all"
    if not cut and held_out <= LEAST_HELD_OUT:
        open_question = "; the paper does not say whether its final runs did" if setting else ""
        yield Departure(f"{text} ({said}{open_question})", "exact")
    else:
        yield Departure(f"{text} ({said})" if held_out else text, "reduced")


def _data(row: RowInfo, setting: Setting) -> Iterator[Departure]:
    if setting.sources and row.source not in setting.sources:
        yield Departure(f"data {row.source} instead of {' or '.join(setting.sources)}", "proxy")
    kind_differs = setting.noise_kind is not None and row.noise_kind != setting.noise_kind
    if kind_differs or not math.isclose(row.noise_rate, setting.noise_rate, abs_tol=1e-9):
        yield Departure(f"label noise {_noise(row)} instead of {_noise(setting)}", "proxy")
    elif setting.noise_kind is None:
        yield Departure(f"label noise {_noise(row)} (the source does not name the kind)", "same-data")
    if setting.noise_definition and row.noise_definition != setting.noise_definition:
        yield Departure(f"noise drawn over {row.noise_definition} instead of {setting.noise_definition}", "same-data")
    if setting.validation_labels and row.validation_labels != setting.validation_labels:
        yield Departure(
            f"validation labels {row.validation_labels} instead of {setting.validation_labels}", "same-data"
        )


def _noise(of: RowInfo | Setting) -> str:
    return "none" if of.noise_kind == "none" else f"{of.noise_kind or 'of'} {of.noise_rate:.0%}"


def _training(setting: Setting, training: Mapping[str, Any]) -> Iterator[Departure]:
    for name in ("base", "batch_size", "augmentation", *MAY_BE_UNKNOWN):
        theirs, missing = getattr(setting, name), "none" if name in MAY_BE_UNKNOWN else "unknown"
        if theirs is not None and training.get(name, theirs if name in MAY_BE_UNKNOWN else None) != theirs:
            yield Departure(
                f"{_words(name)} {_shown(training.get(name), missing)} instead of {_shown(theirs)}", "same-data"
            )
    for name in ("lr", "weight_decay"):
        ours, theirs = training[name], getattr(setting, name)
        if theirs is None or ours == "selected" or (ours is not None and math.isclose(ours, theirs)):
            continue  # chosen on validation data is how the papers came by their value
        yield Departure(f"{_words(name)} {_shown(ours, 'unknown')} instead of {theirs:g}", "same-data")


def _words(name: str) -> str:
    return "base optimizer" if name == "base" else name.replace("_", " ")


def _shown(value: object, nothing: str = "none") -> str:
    return nothing if value is None else f"{value:g}" if isinstance(value, float) else str(value)
