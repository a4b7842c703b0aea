"""`Study`: what ``params.yaml`` describes, resolved into runs and trials (`flatmin.reading` reads it)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from pydantic import Field

from flatmin.catalogue import Option
from flatmin.errors import Problem, StudyError, nearest
from flatmin.settings import (
    SELECTED,
    ClaimsSpec,
    DatasetSpec,
    EvaluationSpec,
    MethodSpec,
    ModelSpec,
    ResolvedMethod,
    RunSettings,
    SelectionSpec,
    Settings,
    SharpnessSpec,
    TableSpec,
    TrainingSpec,
)

PARAMS = "params.yaml"

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]  # DVC reads a dot as nesting
TUNABLE = ("rho", "lr", "weight_decay")

Choice = Mapping[str, float]
"""The selected values of one method on one dataset x model, such as ``{"rho": 0.2}``."""

Choices = Mapping[tuple[str, str, str], Choice]
"""Selected values by (dataset, model, method)."""


class Params(Settings):
    """The sections of ``params.yaml``. What runs depend on is required: DVC tracks it by name."""

    study: Annotated[tuple[Name, ...], Field(min_length=1)]
    tables: dict[Name, TableSpec]
    datasets: dict[Name, DatasetSpec]
    models: dict[Name, ModelSpec]
    methods: dict[Name, MethodSpec]
    training: TrainingSpec
    selection: SelectionSpec
    evaluation: EvaluationSpec
    sharpness: SharpnessSpec
    claims: ClaimsSpec = ClaimsSpec()


@dataclass(frozen=True)
class Vocabulary:
    """The names that a study may use, gathered from the packages that define them.

    Attributes:
        sources: names of data sources.
        test_sets: names of further test sets.
        corruptions: names of corruptions.
        test_set_source: returns the source whose runs a test set is for, empty for any.
        ascents: the options of every ascent.
        unknown_model: returns None for a model that can be built, else the nearest names in a sentence.
        without_weights: returns None for a model whose weights timm publishes, else what to do in a sentence.
    """

    sources: Sequence[str]
    test_sets: Sequence[str]
    corruptions: Sequence[str]
    test_set_source: Callable[[str], str]
    ascents: Mapping[str, Mapping[str, Option]]
    unknown_model: Callable[[str], str | None]
    without_weights: Callable[[str], str | None]


@dataclass(frozen=True)
class PlannedRun:
    """One training that a table needs: the names it goes by, its settings, and where its rho comes from."""

    table: str
    dataset: str
    model: str
    method: str
    seed: int
    settings: RunSettings
    tuned: str = ""

    @property
    def name(self) -> str:
        """``<dataset>.<model>.<method>.s<seed>``: the run id without its key."""
        return f"{self.dataset}.{self.model}.{self.method}.s{self.seed}"


class NotSelectedError(Exception):
    """A setting is ``selected`` and the stage ``select`` has not chosen it yet."""


@dataclass(frozen=True)
class Study:
    """A validated study. `load` makes one."""

    params: Params
    vocabulary: Vocabulary
    file: str = PARAMS
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def tables(self) -> tuple[str, ...]:
        """The tables that ``dvc repro`` brings up to date."""
        return self.params.study

    def only(self, tables: Sequence[str]) -> Study:
        """Return the study with these tables alone."""
        return replace(self, params=self.params.model_copy(update={"study": tuple(tables)}))

    def table(self, name: str) -> TableSpec:
        """Return a table of the study.

        Raises:
            StudyError: no table has that name.
        """
        if name not in self.params.tables:
            raise StudyError(self.file, [Problem(f"tables.{name}", "no such table", nearest(name, self.params.tables))])
        return self.params.tables[name]

    def rows(self, table: str) -> Iterator[tuple[str, str]]:
        """Yield the table's rows, (dataset, model), in the order of the file."""
        spec = self.table(table)
        yield from itertools.product(spec.datasets, spec.models)

    def selection(self, table: str) -> SelectionSpec:
        """Return where the table's hyperparameters are chosen: its own section, or the study's."""
        return self.table(table).selection or self.params.selection

    def training(self, table: str, method: str) -> TrainingSpec:
        """Return the training settings of a method in a table: the section, then the table's, then the method's."""
        return self.overridden(self.params.tables[table].training, self.params.methods[method].training)

    def overridden(self, *overrides: Mapping[str, Any]) -> TrainingSpec:
        """Return the section's training settings with overrides laid over it, the last on top.

        Raises:
            ValidationError: an override holds an unknown key or a bad value.
        """
        merged = self.params.training.model_dump()
        for override in overrides:
            merged = _merge(merged, override)
        return TrainingSpec.model_validate(merged)

    def runs(self, table: str, choices: Choices) -> list[PlannedRun]:
        """Return the runs of a table, with every ``selected`` setting taken from ``choices``.

        Raises:
            NotSelectedError: a setting is ``selected`` and ``choices`` lacks it.
        """
        spec = self.table(table)
        return [
            self._planned(table, dataset, model, method, seed, choices)
            for dataset, model in self.rows(table)
            for method in spec.methods
            for seed in spec.seeds
        ]

    def _planned(self, table: str, dataset: str, model: str, method: str, seed: int, choices: Choices) -> PlannedRun:
        chosen = self.chosen(table, dataset, model, method, choices)
        settings = self.resolve(table, dataset, model, method, seed, chosen)
        tuned = ""
        if self.has_rho(method):
            own = choices.get((dataset, model, method), {}).get("rho")
            tuned = SELECTED if own is not None and own == settings.method.rho else "not tuned"
        return PlannedRun(table, dataset, model, method, seed, settings, tuned)

    def chosen(self, table: str, dataset: str, model: str, method: str, choices: Choices) -> dict[str, float]:
        """Return what selection chose for a method: its own choice, over the one made for its base without ascent.

        The base's learning rate and weight decay are tuned before any rho, as in the SAM paper (appendix C.1), and
        every method on the same base uses them.
        """
        inherited = self.base_method(table, method)
        base = choices.get((dataset, model, inherited), {}) if inherited else {}
        own = choices.get((dataset, model, method), {})
        return {**{k: v for k, v in base.items() if k != "rho"}, **own}

    def base_method(self, table: str, method: str) -> str | None:
        """Return the table's tuned method with the same base and no ascent, if there is one other than ``method``."""
        base = self.params.methods[method].base
        for candidate in self.params.tables[table].select:
            spec = self.params.methods[candidate]
            if candidate != method and spec.ascent == "none" and spec.base == base:
                return candidate
        return None

    def resolve(self, table: str, dataset: str, model: str, method: str, seed: int, chosen: Choice) -> RunSettings:
        """Return a run's settings with every ``selected`` one replaced by its value in ``chosen``.

        Raises:
            NotSelectedError: ``chosen`` lacks it.
        """
        training = self.training(table, method)
        selected = [name for name in ("lr", "weight_decay") if getattr(training, name) == SELECTED]
        written = self.params.methods[method].rho
        values = {name: _selected(chosen, name, table, method) for name in selected}
        rho = _selected(chosen, "rho", table, method) if written == SELECTED else written
        return self._settings(dataset, model, method, seed, training.model_copy(update=values), rho)

    def tried(self, table: str, dataset: str, model: str, method: str, seed: int, values: Choice) -> RunSettings:
        """Return the settings of a selection trial.

        Of ``values``, those of the method's own grid replace what the file says; an inherited one replaces
        ``selected`` and no number: a method's rho is tuned at the learning rate that its runs will have.
        """
        training, own = self.training(table, method), self.table(table).select.get(method, {})
        selected = [name for name in ("lr", "weight_decay") if getattr(training, name) == SELECTED]
        known = {name: TrainingSpec.model_fields[name].default for name in selected}
        known |= {name: value for name, value in values.items() if name != "rho" and (name in own or name in selected)}
        written = self.params.methods[method].rho
        rho = values.get("rho", None if written == SELECTED else written)
        return self._settings(dataset, model, method, seed, training.model_copy(update=known), rho)

    def _settings(
        self, dataset: str, model: str, method: str, seed: int, training: TrainingSpec, rho: float | str | None
    ) -> RunSettings:
        spec = self.params.methods[method]
        return RunSettings(
            dataset=self.params.datasets[dataset],
            model=self.params.models[model],
            method=ResolvedMethod(
                base=spec.base, ascent=spec.ascent, rho=self._rho(spec, rho), options=self.options(method)
            ),
            training=training,
            seed=seed,
        )

    def has_rho(self, method: str) -> bool:
        """Return whether a method's ascent has a radius at all."""
        return "rho" in self.vocabulary.ascents[self.params.methods[method].ascent]

    def _rho(self, spec: MethodSpec, written: float | str | None) -> float:
        option = self.vocabulary.ascents[spec.ascent].get("rho")
        if option is None:
            return 0.0
        return float(written if written is not None else option.default)

    def options(self, method: str) -> dict[str, Any]:
        """Return a method's options, without rho and without those at the value they had when they were introduced."""
        spec = self.params.methods[method]
        values = {
            name: (option.read(spec.options[name]) if name in spec.options else option.default, option)
            for name, option in self.vocabulary.ascents[spec.ascent].items()
            if name != "rho"
        }
        return {name: value for name, (value, at) in values.items() if not value == at.introduced == at.default}

    def trial_runs(
        self, table: str, dataset: str, model: str, method: str, values: Choice, choices: Choices
    ) -> list[PlannedRun]:
        """Return the runs of one trial: a grid point ``values`` on top of the ``choices`` made so far, per seed."""
        tried = {**self.chosen(table, dataset, model, method, choices), **values}
        return [
            PlannedRun(table, dataset, model, method, seed, self.tried(table, dataset, model, method, seed, tried))
            for seed in self.selection(table).seeds
        ]

    def trials(self, table: str, method: str) -> list[dict[str, float]]:
        """Return the grid points that ``select`` tries for a method, in the order of the file."""
        grid = self.table(table).select.get(method, {})
        return [dict(zip(grid, point, strict=True)) for point in itertools.product(*grid.values())] if grid else []


def _selected(chosen: Choice, name: str, table: str, method: str) -> float:
    if name not in chosen:
        raise NotSelectedError(f"{name} of {method} in table {table} is not selected yet")
    return chosen[name]


def _merge(base: Mapping[str, Any], override: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``base`` with ``override`` laid over it, sections key by key."""
    merged = dict(base)
    for key, value in override.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merge(merged[key], value) if both else value
    return merged
