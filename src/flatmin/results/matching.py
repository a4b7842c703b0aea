"""Which rows can decide a claim, with which of their methods, and how far their setting is from the published one."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from flatmin.results.cells import better
from flatmin.results.claim_spec import Admissible, ClaimSpec, MethodMatch, Setting
from flatmin.results.inputs import MethodInfo, RowInfo, RowKey, TableInfo

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
    return [method for method in table.methods if method in found and table.options_of(method) == match.options]


def choose_treatment(runs: pd.DataFrame, table: TableInfo, key: RowKey, claim: ClaimSpec) -> str | None:
    """The method of a row that the claim is about, chosen by its setting alone and never by its result."""
    candidates = matching_methods(runs, table, claim.rule.treatment)
    return _nearest(candidates, runs, table, key, claim, claim.setting.rho if claim.setting else None)


def choose_baseline(runs: pd.DataFrame, table: TableInfo, key: RowKey, claim: ClaimSpec, treatment: str) -> str | None:
    """The method that the treatment is compared with, or None if the row has none.

    One that is named by what it does is chosen as the treatment is; ``better`` looks at test accuracy, as the paper
    does, which works against the treatment.
    """
    rule = claim.rule
    if isinstance(rule.baseline, MethodMatch):
        candidates = matching_methods(runs, table, rule.baseline)
        return _nearest(candidates, runs, table, key, claim, claim.setting.baseline_rho if claim.setting else None)
    if rule.baseline == "better":
        return better(runs, table.baseline, f"{'early_' if rule.metric.startswith('early_') else ''}test_accuracy")
    base = runs.loc[runs["method"] == treatment, "base"]
    plain = runs[(runs["ascent"] == "none") & runs["base"].isin(base)]
    epochs = table.epochs_of(key, treatment)
    same = [m for m in table.methods if m in set(plain["method"]) and table.epochs_of(key, m) == epochs]
    return same[0] if same else None


def _nearest(
    candidates: list[str], runs: pd.DataFrame, table: TableInfo, key: RowKey, claim: ClaimSpec, rho: float | None
) -> str | None:
    """Fewest departures from the published training first, then the nearest rho, a tuned rho, table order."""

    def distance(method: str) -> tuple[int, float, bool, int]:
        own = _rho(runs, method)
        gap = abs(math.log(own / rho)) if rho and own > 0 else 0.0
        found = list(_method(claim.setting, table, key, method, runs, rho)) if claim.setting else []
        return (len(found), gap, not _tuned(runs, method), table.methods.index(method))

    return min(candidates, key=distance, default=None)


def departures(
    claim: ClaimSpec, table: TableInfo, key: RowKey, treatment: str, baseline: str, runs: pd.DataFrame
) -> list[Departure]:
    """Every stated property of the published setting that the row does not share, and every unequal comparison.

    A general statement (without a setting) is tested on instances: what sets a row apart from it is a cut training set,
    training of treatment and baseline that is not the same, and a rho at the edge of its grid.
    """
    row = table.rows[key]
    found = list(_size(row, claim.setting))
    if claim.setting is not None:
        found += _data(row, claim.setting)
        found += _method(claim.setting, table, key, treatment, runs, claim.setting.rho)
        found += _protocol(claim, claim.setting, table, key)
    if claim.rule.kind != "correlation":
        found += _comparison(claim.setting, table, key, treatment, baseline, runs)
    found += [Departure(text, "same-data") for text in table.departures.get(key, ())]
    return found


def fidelity(found: list[Departure]) -> Fidelity:
    """The farthest fidelity among the departures; ``exact`` without any that counts."""
    return max((d.fidelity for d in found), key=FIDELITIES.index, default="exact")


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


def _method(
    setting: Setting, table: TableInfo, key: RowKey, method: str, runs: pd.DataFrame, rho: float | None
) -> Iterator[Departure]:
    """How a method differs from the published one: network, epochs, training, images per ascent, rho."""
    row, training = table.rows[key], table.training_of(key, method)
    if setting.model and row.model not in setting.model_names:
        yield Departure(f"model {row.model} instead of {setting.model}", "same-data")
    epochs = table.epochs_of(key, method) or row.epochs
    if setting.epochs is not None and epochs != setting.epochs:
        yield Departure(
            f"{epochs} epochs instead of {setting.epochs}", "reduced" if epochs < setting.epochs else "same-data"
        )
    yield from _training(setting, {**training, "base": _base(runs, method)})
    m = table.method_info.get(method, MethodInfo()).m or training["batch_size"]
    if setting.m is not None and m != setting.m:
        yield Departure(f"ascent over m = {m or 'unknown'} images instead of {setting.m}", "same-data")
    if rho is not None and not _tuned(runs, method) and not math.isclose(_rho(runs, method), rho):
        yield Departure(f"rho {_rho(runs, method):g}, not tuned, instead of {rho:g}", "same-data")


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


def _comparison(
    setting: Setting | None, table: TableInfo, key: RowKey, treatment: str, baseline: str, runs: pd.DataFrame
) -> Iterator[Departure]:
    """What treatment and baseline do not share beyond ascent and epochs, and what their selection leaves open."""
    ours, theirs = ({**table.training_of(key, method), "base": _base(runs, method)} for method in (treatment, baseline))
    for name in ours:
        if name != "epochs" and ours[name] != theirs.get(name):
            text = f"{_words(name)} {_shown(ours[name])} for {treatment} but {_shown(theirs.get(name))} for {baseline}"
            yield Departure(text, "same-data")
    published = setting.baseline_rho if setting else None
    if _rho(runs, baseline) > 0 and not _tuned(runs, baseline):
        rho = _rho(runs, baseline)
        if published is None or not math.isclose(rho, published):
            instead = f" instead of {published:g}" if published is not None else ""
            yield Departure(f"rho {rho:g} of the baseline {baseline}, not tuned,{instead}".rstrip(","), "same-data")
    for method in (treatment, baseline):
        for name in table.edge_of(key, method):
            yield Departure(f"{_words(name)} of {method} at the edge of its grid", "same-data")


def _protocol(claim: ClaimSpec, setting: Setting, table: TableInfo, key: RowKey) -> Iterator[Departure]:
    if setting.result == "best-test":
        yield Departure("validation-chosen epoch instead of the best test epoch", "same-data")
    longest = max((table.epochs_of(key, name) or 0 for name in table.baseline), default=0)
    if claim.rule.baseline == "better" and setting.baseline_epochs and longest < setting.baseline_epochs:
        text = f"baseline trained for {longest} epochs at most instead of {setting.baseline_epochs}"
        yield Departure(text, "same-data")


def _rho(runs: pd.DataFrame, method: str) -> float:
    return float(runs.loc[runs["method"] == method, "rho"].median())


def _tuned(runs: pd.DataFrame, method: str) -> bool:
    return bool((runs.loc[runs["method"] == method, "tuned"] == "selected").all())


def _base(runs: pd.DataFrame, method: str) -> str:
    return " and ".join(sorted(set(runs.loc[runs["method"] == method, "base"])))


def _words(name: str) -> str:
    return "base optimizer" if name == "base" else name.replace("_", " ")


def _shown(value: object, nothing: str = "none") -> str:
    return nothing if value is None else f"{value:g}" if isinstance(value, float) else str(value)
