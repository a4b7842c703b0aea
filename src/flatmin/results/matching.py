"""Which rows can decide a claim, with which of their methods, and how far their setting is from the published one."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from flatmin.results.cells import better
from flatmin.results.claim_spec import Admissible, ClaimSpec, MethodMatch, Rule, Setting
from flatmin.results.inputs import MethodInfo, RowInfo, RowKey, TableInfo

Fidelity = Literal["exact", "same-data", "reduced", "proxy"]
FIDELITIES: tuple[Fidelity, ...] = ("exact", "same-data", "reduced", "proxy")
"""From the nearest to the published setting to the farthest."""


@dataclass(frozen=True)
class Departure:
    """One way in which our setting differs, in words, and the best fidelity that it still allows."""

    text: str
    fidelity: Fidelity


def admits(rule: Admissible, row: RowInfo) -> bool:
    """Whether a row may speak to a claim."""
    if rule.sources is not None and row.source not in rule.sources:
        return False
    if rule.models is not None and row.model not in rule.models:
        return False
    if rule.augmentations is not None and row.augmentation not in rule.augmentations:
        return False
    if rule.noise_kinds is not None and row.noise_kind not in rule.noise_kinds:
        return False
    if rule.noise_rate is not None and not rule.noise_rate[0] - 1e-9 <= row.noise_rate <= rule.noise_rate[1] + 1e-9:
        return False
    if rule.least_epochs is not None and row.epochs < rule.least_epochs:
        return False
    return rule.most_parameters is None or (row.parameters or math.inf) <= rule.most_parameters


def matching_methods(runs: pd.DataFrame, table: TableInfo, match: MethodMatch) -> list[str]:
    """The methods of a row that fit ``match``, in the table's order; rho is read from the runs themselves."""
    fits = runs["ascent"] == match.ascent
    if match.rho_above is not None:
        fits &= runs["rho"] > match.rho_above
    if match.rho_below is not None:
        fits &= runs["rho"] < match.rho_below
    found = set(runs.loc[fits, "method"])
    return [method for method in table.methods if method in found]


def choose_treatment(runs: pd.DataFrame, table: TableInfo, key: RowKey, claim: ClaimSpec) -> str | None:
    """The method of a row that the claim is about, chosen by its setting alone and never by its result.

    Fewest departures from the published setting first, then the rho nearest to the published one, then a tuned rho,
    then table order.
    """
    candidates = matching_methods(runs, table, claim.rule.treatment)
    rho = claim.setting.rho if claim.setting else None

    def distance(method: str) -> tuple[int, float, bool, int]:
        own = float(runs.loc[runs["method"] == method, "rho"].median())
        gap = abs(math.log(own / rho)) if rho and own > 0 else 0.0
        untuned = not (runs.loc[runs["method"] == method, "tuned"] == "selected").any()
        return (len(departures(claim, table, key, method, runs)), gap, untuned, table.methods.index(method))

    return min(candidates, key=distance, default=None)


def choose_baseline(runs: pd.DataFrame, table: TableInfo, key: RowKey, rule: Rule, treatment: str) -> str | None:
    """The method that the treatment is compared with, or None if the row has none."""
    if isinstance(rule.baseline, MethodMatch):
        return next(iter(matching_methods(runs, table, rule.baseline)), None)
    if rule.baseline == "better":
        return better(runs, table.baseline)
    base = runs.loc[runs["method"] == treatment, "base"]
    plain = runs[(runs["ascent"] == "none") & runs["base"].isin(base)]
    epochs = table.epochs_of(key, treatment)
    same = [m for m in table.methods if m in set(plain["method"]) and table.epochs_of(key, m) == epochs]
    return same[0] if same else None


def departures(claim: ClaimSpec, table: TableInfo, key: RowKey, treatment: str, runs: pd.DataFrame) -> list[Departure]:
    """Every stated property of the published setting that the row does not share.

    A general statement (without a setting) is tested on instances: only a cut training set sets a row apart from it.
    """
    row = table.rows[key]
    found = list(_size(row, claim.setting.train_size if claim.setting else None))
    if claim.setting is not None:
        found += _data(row, claim.setting)
        found += _training(row, claim.setting, table.epochs_of(key, treatment) or row.epochs)
        found += _method(row, claim.setting, table, key, treatment, runs)
        found += _protocol(claim, claim.setting, table, key)
    found += [Departure(text, "same-data") for text in table.departures.get(key, ())]
    return found


def fidelity(found: list[Departure]) -> Fidelity:
    """The farthest fidelity among the departures; ``exact`` without any."""
    return max((d.fidelity for d in found), key=FIDELITIES.index, default="exact")


def _size(row: RowInfo, published: int | None) -> Iterator[Departure]:
    if row.train_size != published:
        ours = "all" if row.train_size is None else f"{row.train_size:,}"
        theirs = "all" if published is None else f"{published:,}"
        yield Departure(f"{ours} training images instead of {theirs}", "reduced")


def _data(row: RowInfo, setting: Setting) -> Iterator[Departure]:
    if setting.sources and row.source not in setting.sources:
        yield Departure(f"data {row.source} instead of {' or '.join(setting.sources)}", "proxy")
    if row.noise_kind != setting.noise_kind or not math.isclose(row.noise_rate, setting.noise_rate, abs_tol=1e-9):
        yield Departure(f"label noise {_noise(row)} instead of {_noise(setting)}", "proxy")
    if setting.noise_definition and row.noise_definition != setting.noise_definition:
        yield Departure(f"noise drawn over {row.noise_definition} instead of {setting.noise_definition}", "same-data")
    if setting.validation_labels and row.validation_labels != setting.validation_labels:
        yield Departure(
            f"validation labels {row.validation_labels} instead of {setting.validation_labels}", "same-data"
        )


def _noise(of: RowInfo | Setting) -> str:
    return "none" if of.noise_kind == "none" else f"{of.noise_kind} {of.noise_rate:.0%}"


def _training(row: RowInfo, setting: Setting, epochs: int) -> Iterator[Departure]:
    if setting.model and row.model not in setting.model_names:
        yield Departure(f"model {row.model} instead of {setting.model}", "same-data")
    if setting.epochs is not None and epochs != setting.epochs:
        yield Departure(
            f"{epochs} epochs instead of {setting.epochs}", "reduced" if epochs < setting.epochs else "same-data"
        )
    for name in ("batch_size", "augmentation"):
        ours, theirs = getattr(row, name), getattr(setting, name)
        if theirs is not None and ours != theirs:
            shown = "unknown" if ours is None else ours
            yield Departure(f"{name.replace('_', ' ')} {shown} instead of {theirs}", "same-data")
    for name in ("lr", "weight_decay"):
        ours, theirs = getattr(row, name), getattr(setting, name)
        if theirs is None or ours == "selected" or (ours is not None and math.isclose(ours, theirs)):
            continue  # chosen on validation data is how the papers came by their value
        shown = "unknown" if ours is None else f"{ours:g}"
        yield Departure(f"{name.replace('_', ' ')} {shown} instead of {theirs:g}", "same-data")


def _method(
    row: RowInfo, setting: Setting, table: TableInfo, key: RowKey, treatment: str, runs: pd.DataFrame
) -> Iterator[Departure]:
    m = table.method_info.get(treatment, MethodInfo()).m or row.batch_size
    if setting.m is not None and m != setting.m:
        yield Departure(f"ascent over m = {m or 'unknown'} images instead of {setting.m}", "same-data")
    own = runs[runs["method"] == treatment]
    if setting.rho is not None and len(own) and not (own["tuned"] == "selected").all():
        rho = float(own["rho"].median())
        if not math.isclose(rho, setting.rho):
            yield Departure(f"rho {rho:g}, not tuned, instead of {setting.rho:g}", "same-data")


def _protocol(claim: ClaimSpec, setting: Setting, table: TableInfo, key: RowKey) -> Iterator[Departure]:
    if setting.result == "best-test":
        yield Departure("validation-chosen epoch instead of the best test epoch", "same-data")
    longest = max((table.epochs_of(key, name) or 0 for name in table.baseline), default=0)
    if claim.rule.baseline == "better" and setting.baseline_epochs and longest < setting.baseline_epochs:
        text = f"baseline trained for {longest} epochs at most instead of {setting.baseline_epochs}"
        yield Departure(text, "same-data")
