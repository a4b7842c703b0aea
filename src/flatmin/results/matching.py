"""Which rows can decide a claim, and which of their methods it compares."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pandas as pd

from flatmin.results.cells import better, select
from flatmin.results.claim_spec import ClaimSpec
from flatmin.results.departures import (
    FIDELITIES,
    Arm,
    Departure,
    Fidelity,
    fidelity,
    method_departures,
    protocol_departures,
    row_departures,
    selected,
    unequal,
    untuned,
)
from flatmin.results.inputs import RowInfo, RowKey, TableInfo
from flatmin.results.rules import Admissible, MethodMatch, Rule

__all__ = ["FIDELITIES", "Compared", "Fidelity", "admits", "compare", "departures", "fidelity"]


@dataclass(frozen=True)
class Compared:
    """The methods that a rule compares on a row, by their part in it.

    ``partner`` has the treatment (and, for an interaction, the baseline) of another row; ``ladder`` the methods of a
    trend with the value of what they differ in, rising.
    """

    treatment: Arm
    baseline: Arm | None = None
    reference: Arm | None = None
    partner: tuple[Arm, ...] = ()
    ladder: Mapping[str, float] = field(default_factory=dict)

    @cached_property
    def arms(self) -> tuple[Arm, ...]:
        """All that is compared, each once, the treatment first."""
        rungs = [self.treatment.beside(method) for method in self.ladder]
        named = [self.treatment, *rungs, *(arm for arm in (self.baseline, self.reference) if arm), *self.partner]
        return tuple({(arm.table.name, arm.key, arm.method): arm for arm in named}.values())

    @property
    def names(self) -> tuple[str, str]:
        """Treatment and what it is compared with, as printed."""
        if self.ladder:
            return ", ".join(self.ladder), ""
        against = self.baseline.method if self.baseline else ""
        if against == self.treatment.method:
            against = ""
        if self.reference:
            against = f"{against} and {self.reference.method}"
        if self.partner:
            there = self.partner[0]
            against = f"{against or there.method} and {there.table.name}: {' / '.join(there.key)}"
        return self.treatment.method, against


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
    if rule.pretrained is not None and rule.pretrained != ("pretrained" in row.model):
        return False
    return rule.most_parameters is None or (row.parameters or math.inf) <= rule.most_parameters


def compare(
    claim: ClaimSpec, table: TableInfo, key: RowKey, runs: pd.DataFrame, tables: Mapping[str, TableInfo]
) -> Compared | None:
    """The methods that a claim compares on the row ``key``; None where it lacks one of them.

    ``runs`` are those of the whole study, for the partner rows. Methods are chosen by the claim's setting alone and
    never by their results, but for the better baseline.
    """
    here = Row(table, key, select(runs[runs["table"] == table.name], key))
    rule = claim.rule
    if rule.kind == "trend":
        ladder = _ladder(here, rule)
        return Compared(here.arm(next(iter(ladder))), ladder=ladder) if len(ladder) > 1 else None
    treatment = _treatment(here, claim)
    if treatment is None or rule.correlates:
        return Compared(treatment) if treatment else None
    if rule.kind == "across":
        there = _there(here, claim, runs, tables)
        same = next((arm for arm in (_treatment(row, claim) for row in there) if arm), None)
        return Compared(treatment, partner=(same,)) if same else None
    baseline = _baseline(here, claim, treatment)
    if baseline is None or (baseline.method == treatment.method and rule.baseline != "itself"):
        return None
    if rule.reference is not None:
        reference = here.nearest(rule.reference, claim, None)
        apart = reference is not None and reference.method not in (treatment.method, baseline.method)
        return Compared(treatment, baseline, reference) if apart else None
    if rule.kind != "interaction":
        return Compared(treatment, baseline)
    gains = (_gain(row, claim) for row in _there(here, claim, runs, tables))
    pair = next((pair for pair in gains if pair), None)
    return Compared(treatment, baseline, partner=pair) if pair else None


def departures(claim: ClaimSpec, compared: Compared) -> list[Departure]:
    """Every stated property of the published setting that the row does not share, and every unequal comparison.

    A general statement (without a setting) is tested on instances: what sets a row apart from it is a cut training set,
    training of treatment and baseline that is not the same, and a rho at the edge of its grid.
    """
    treatment, setting = compared.treatment, claim.setting
    table, key = treatment.table, treatment.key
    found = list(row_departures(setting, treatment.row))
    if setting is not None:
        found += method_departures(setting, treatment, setting.rho)
        found += protocol_departures(setting, table, key, better=claim.rule.baseline == "better")
    if not claim.rule.correlates:
        found += _comparison(claim, compared)
    found += [Departure(text, "same-data") for text in table.departures.get(key, ())]
    return list(dict.fromkeys(found))


def _comparison(claim: ClaimSpec, compared: Compared) -> Iterator[Departure]:
    """What the compared methods do not share beyond what the claim is about, and what their selection leaves open."""
    rule, treatment = claim.rule, compared.treatment
    meant = ["augmentation"] if _varies_augmentation(rule) else []
    for arm in compared.arms[1:]:
        yield from unequal(treatment, arm, meant)
    yield from _untuned(claim, compared)
    for arm in compared.arms:
        yield from selected(arm)


def _untuned(claim: ClaimSpec, compared: Compared) -> Iterator[Departure]:
    """The radii that nobody tuned, of every method whose radius is not what the claim is about.

    One that the published setting gives for the treatment is compared with it where its training is.
    """
    rule = claim.rule
    if rule.by_construction or rule.along == "rho":
        return
    ours, theirs = (claim.setting.rho, claim.setting.baseline_rho) if claim.setting else (None, None)
    others = {
        arm.method: (match, part)
        for arm, match, part in (
            (compared.baseline, rule.baseline, "the baseline "),
            (compared.reference, rule.reference, "the reference "),
        )
        if arm is not None and arm.method != compared.treatment.method
    }
    for arm in compared.arms:
        match, part = others.get(arm.method, (rule.treatment, ""))
        published = theirs if part else ours
        compared_already = not part and ours is not None
        meant = published is None and isinstance(match, MethodMatch) and match.names_rho
        if not compared_already and not meant:
            yield from untuned(arm, published, part)


def _varies_augmentation(rule: Rule) -> bool:
    """Whether a claim compares augmentations, so that unequal ones are no flaw."""
    matches = [match for match in (rule.treatment, rule.baseline) if isinstance(match, MethodMatch)]
    if any(match.augmentation for match in matches):
        return True
    return rule.partner is not None and rule.partner.augmentations is not None


@dataclass(frozen=True)
class Row:
    """One dataset x model with its finished runs."""

    table: TableInfo
    key: RowKey
    runs: pd.DataFrame

    def arm(self, method: str) -> Arm:
        """One of its methods."""
        return Arm(self.table, self.key, method, self.runs)

    def matching(self, match: MethodMatch) -> list[Arm]:
        """The methods that fit ``match``, in the table's order; rho is read from the runs themselves."""
        rho = self.runs["rho"]
        fits = self.runs["ascent"] == match.ascent
        if match.rho is not None:
            fits &= (rho - match.rho).abs() <= 1e-9 * max(1.0, match.rho)
        if match.rho_above is not None:
            fits &= rho > match.rho_above
        if match.rho_below is not None:
            fits &= rho < match.rho_below
        found = set(self.runs.loc[fits, "method"])
        return [self.arm(m) for m in self.table.methods if m in found and self._is(m, match)]

    def _is(self, method: str, match: MethodMatch) -> bool:
        options = {name: value for name, value in self.table.options_of(method).items() if name not in match.free}
        trained = self.table.training_of(self.key, method)
        return options == match.options and match.augmentation in (None, trained["augmentation"])

    def nearest(self, match: MethodMatch, claim: ClaimSpec, rho: float | None) -> Arm | None:
        """Of the methods that fit: fewest departures from the published training, nearest rho, tuned, table order."""

        def distance(arm: Arm) -> tuple[int, float, bool, int]:
            gap = abs(math.log(arm.rho / rho)) if rho and arm.rho > 0 else 0.0
            found = list(method_departures(claim.setting, arm, rho)) if claim.setting else []
            return (len(found), gap, not arm.tuned, self.table.methods.index(arm.method))

        return min(self.matching(match), key=distance, default=None)


def _treatment(row: Row, claim: ClaimSpec) -> Arm | None:
    return row.nearest(claim.rule.treatment, claim, claim.setting.rho if claim.setting else None)


def _baseline(row: Row, claim: ClaimSpec, treatment: Arm) -> Arm | None:
    """What the treatment is compared with, or None if the row has no such method.

    One that is named by what it does is chosen as the treatment is; ``better`` looks at test accuracy, as the paper
    does, which works against the treatment.
    """
    rule = claim.rule
    if isinstance(rule.baseline, MethodMatch):
        return row.nearest(rule.baseline, claim, claim.setting.baseline_rho if claim.setting else None)
    if rule.baseline == "itself":
        return treatment
    if rule.baseline == "better":
        epoch = "early_" if rule.metric.startswith("early_") else ""
        found = better(row.runs, row.table.baseline, f"{epoch}test_accuracy")
        return row.arm(found) if found else None
    plain = row.runs[(row.runs["ascent"] == "none") & (row.runs["base"] == treatment.base)]
    arms = [row.arm(method) for method in row.table.methods if method in set(plain["method"])]
    return next((arm for arm in arms if arm.epochs == treatment.epochs), None)


def _gain(row: Row, claim: ClaimSpec) -> tuple[Arm, Arm] | None:
    treatment = _treatment(row, claim)
    baseline = _baseline(row, claim, treatment) if treatment else None
    return (treatment, baseline) if treatment and baseline and baseline.method != treatment.method else None


def _there(here: Row, claim: ClaimSpec, runs: pd.DataFrame, tables: Mapping[str, TableInfo]) -> Iterator[Row]:
    """The partner rows, in the study's order: like the row here but for what the rule's partner names."""
    partner = claim.rule.partner
    assert partner is not None
    ours = _identity(here.table.rows[here.key], partner)
    for table in tables.values():
        for key in table.row_keys:
            info = table.rows.get(key)
            other = (table.name, key) != (here.table.name, here.key)
            if info and other and admits(partner, info) and _identity(info, partner) == ours:
                yield Row(table, key, select(runs[runs["table"] == table.name], key))


def _identity(row: RowInfo, but_for: Admissible) -> dict[str, Any]:
    """What a partner row shares."""
    named = {
        "source": but_for.sources,
        "model": but_for.models,
        "augmentation": but_for.augmentations,
        "noise_kind": but_for.noise_kinds,
        "noise_rate": but_for.noise_rate,
        "epochs": but_for.least_epochs,
        "train_size": None,
        "validation_fraction": None,
    }
    return {name: getattr(row, name) for name, free in named.items() if free is None}


def _ladder(row: Row, rule: Rule) -> dict[str, float]:
    """The methods that fit the treatment and differ in what the trend runs along alone, by its value, rising.

    Where the row has several such families, the one with the most values, then the first in the table's order.
    """
    assert rule.along is not None
    free = {*rule.treatment.free, *([] if rule.along in ("rho", "m") else [rule.along])}
    families: list[tuple[object, dict[float, str]]] = []
    for arm in row.matching(rule.treatment.model_copy(update={"free": tuple(sorted(free))})):
        value, rest = arm.value_of(rule.along), arm.all_but(rule.along)
        family = next((members for other, members in families if other == rest), None)
        if family is None:
            family = {}
            families.append((rest, family))
        if value > 0:
            family.setdefault(value, arm.method)
    widest = max((members for _, members in families), key=len, default={})
    return {widest[value]: value for value in sorted(widest)}
