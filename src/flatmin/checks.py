"""What one section of a study must hold for another: names that exist, grids that fit, seeds that do not overlap."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from flatmin.errors import Problem, nearest
from flatmin.problems import problems_of
from flatmin.settings import HUMAN_LABELS, SELECTED, DatasetSpec, HumanNoise, MethodSpec, TrainingSpec
from flatmin.study import TUNABLE, Study

NAMED = ("tables", "datasets", "models", "methods")
"""The sections that define names."""


def check_names(study: Study) -> Iterator[Problem]:
    """Yield a problem for every name that no section or registry defines.

    A name is defined where the file has it, even if what it stands for is refused.
    """
    params, vocabulary = study.params, study.vocabulary
    tables, datasets, models, methods = ({*map(str, study.raw[section])} for section in NAMED)
    yield from _unknown("study", params.study, tables, "table")
    for name, table in params.tables.items():
        where = f"tables.{name}"
        yield from _unknown(f"{where}.datasets", table.datasets, datasets, "dataset")
        yield from _unknown(f"{where}.models", table.models, models, "model")
        yield from _unknown(f"{where}.methods", table.methods, methods, "method")
        yield from _unknown(f"{where}.baseline", table.baseline, table.methods, "method of this table")
        yield from _unknown(f"{where}.select", table.select, table.methods, "method of this table")
    for name, dataset in params.datasets.items():
        named = [dataset.source] if isinstance(dataset.source, str) else []
        yield from _unknown(f"datasets.{name}.source", named, vocabulary.sources, "source", list_=False)
    evaluation = params.evaluation
    yield from _unknown("evaluation.test_sets", evaluation.test_sets, vocabulary.test_sets, "test set")
    if not isinstance(evaluation.corruptions.names, str):
        where = "evaluation.corruptions.names"
        yield from _unknown(where, evaluation.corruptions.names, vocabulary.corruptions, "corruption")
    for name, model in params.models.items():
        hint = vocabulary.unknown_model(model.name)
        if hint is not None:
            yield Problem(f"models.{name}.name", f"unknown model {model.name!r}", hint)
        elif model.pretrained is True and (advice := vocabulary.without_weights(model.name)):
            yield Problem(f"models.{name}.pretrained", f"there are no published weights of {model.name!r}", advice)
    for name, method in params.methods.items():
        ascents = vocabulary.ascents
        yield from _unknown(f"methods.{name}.ascent", [method.ascent], ascents, "ascent", list_=False)
        for option in method.options if method.ascent in ascents else ():
            if option not in ascents[method.ascent]:
                valid = {*ascents[method.ascent], *MethodSpec.model_fields}
                yield Problem(f"methods.{name}.{option}", "unknown key", nearest(option, valid))


def _unknown(where: str, names: Any, valid: Any, what: str, list_: bool = True) -> Iterator[Problem]:
    for i, name in enumerate(names):
        if name not in valid:
            path = (f"{where}.{name}" if isinstance(names, Mapping) else f"{where}[{i}]") if list_ else where
            yield Problem(path, f"unknown {what} {name!r}", nearest(name, valid))


def check_values(study: Study, found: Iterable[Problem]) -> list[Problem]:
    """Return a problem for every value that is wrong in its context.

    A table is checked as a whole only where no problem was ``found`` in it or in what it names.
    """
    params = study.params
    problems = [p for name in params.methods for p in _check_method(study, name)]
    for section, overriding in (("tables", params.tables), ("methods", params.methods)):
        for name, spec in overriding.items():
            problems += _check_override(study, (section, name, "training"), spec.training)
    for name, dataset in params.datasets.items():
        problems += _check_human_labels(name, dataset)
    problems += _check_evaluation(study)
    problems += _check_twice("study", params.study)
    problems += _check_twice("selection.seeds", params.selection.seeds)
    unsound = [problem.path for problem in (*found, *problems)]
    for name in params.tables:
        if _is_sound(study, name, unsound):
            problems += list(_check_training(study, name)) or list(_check_table(study, name))
    return problems


def _is_sound(study: Study, name: str, unsound: Sequence[str]) -> bool:
    params, table = study.params, study.params.tables[name]
    places = [f"tables.{name}", *(f"methods.{method}.training" for method in table.methods)]
    return (
        {*table.methods} <= {*params.methods}
        and {params.methods[method].ascent for method in table.methods} <= {*study.vocabulary.ascents}
        and not any(path == place or path.startswith(f"{place}.") for path in unsound for place in places)
    )


def _check_method(study: Study, name: str) -> Iterator[Problem]:
    method = study.params.methods[name]
    declared = study.vocabulary.ascents.get(method.ascent)
    if declared is None:
        return
    if method.rho is not None and "rho" not in declared:
        yield Problem(f"methods.{name}.rho", f"the ascent {method.ascent!r} has no rho", "remove it")
    written = {**method.options, **({"rho": method.rho} if isinstance(method.rho, float) else {})}
    for option, value in written.items():
        problem = declared[option].problem(declared[option].read(value)) if option in declared else None
        if problem:
            yield Problem(f"methods.{name}.{option}", f"{value!r} is not valid: {problem}")


def _check_human_labels(name: str, dataset: DatasetSpec) -> Iterator[Problem]:
    if not isinstance(dataset.noise, HumanNoise):
        return
    sets = HUMAN_LABELS.get(dataset.source_name, ())
    if dataset.noise.labels not in sets:
        there = f"{dataset.source_name} has {', '.join(sets) or 'none'}"
        all_sets = "; ".join(f"{source}: {', '.join(names)}" for source, names in HUMAN_LABELS.items())
        yield Problem(
            f"datasets.{name}.noise.labels",
            f"{dataset.noise.labels!r}: people gave no such labels ({there})",
            f"human labels are published for {all_sets}",
        )


def _check_evaluation(study: Study) -> Iterator[Problem]:
    """Yield a problem for what is listed twice, and for a test set that no dataset of the tables is measured on."""
    spec, vocabulary = study.params.evaluation, study.vocabulary
    yield from _check_twice("evaluation.test_sets", spec.test_sets)
    yield from _check_twice("evaluation.corruptions.severities", spec.corruptions.severities)
    if not isinstance(spec.corruptions.names, str):
        yield from _check_twice("evaluation.corruptions.names", spec.corruptions.names)
    sources = {dataset.source_name for dataset in study.params.datasets.values()}
    for i, name in enumerate(spec.test_sets):
        source = vocabulary.test_set_source(name) if name in vocabulary.test_sets else ""
        if source and source not in sources:
            yield Problem(
                f"evaluation.test_sets[{i}]",
                f"{name!r} is for runs on {source}, and no dataset has that source",
                "remove it, or add such a dataset",
            )


def _check_override(study: Study, where: tuple[str, ...], override: Mapping[str, Any]) -> list[Problem]:
    """Return the problems of the settings that one override of the training section writes."""
    try:
        study.overridden(override)
    except ValidationError as error:
        # whether settings fit together is seen when all overrides are in place
        return problems_of(TrainingSpec, [e for e in error.errors() if e["loc"]], where)
    return []


def _check_training(study: Study, table: str) -> Iterator[Problem]:
    """Yield where a table's overrides and a method's do not fit together."""
    for method in study.params.tables[table].methods:
        try:
            study.training(table, method)
        except ValidationError as error:
            owner = ("methods", method) if study.params.methods[method].training else ("tables", table)
            yield from problems_of(TrainingSpec, error.errors(), (*owner, "training"))


def _check_twice(where: str, values: Sequence[Any]) -> Iterator[Problem]:
    twice = [value for i, value in enumerate(values) if value in values[:i]]
    if twice:
        yield Problem(where, f"{twice[0]!r} is listed twice", "name it once")


def _check_table(study: Study, name: str) -> Iterator[Problem]:
    table = study.params.tables[name]
    where = f"tables.{name}"
    for key in ("datasets", "models", "methods", "seeds", "baseline"):
        yield from _check_twice(f"{where}.{key}", getattr(table, key))
    if table.selection:
        yield from _check_twice(f"{where}.selection.seeds", table.selection.seeds)
    shared = sorted(set(table.seeds) & set(study.selection(name).seeds))
    if table.select and shared:
        yield Problem(
            f"{where}.selection.seeds" if table.selection else "selection.seeds",
            f"seeds {shared} are seeds of the table too",
            "rho must be chosen on seeds of its own: use others, for example 1000 and up",
        )
    yield from _check_grids(study, name)
    yield from _check_selected(study, name)


def _check_grids(study: Study, name: str) -> Iterator[Problem]:
    table = study.params.tables[name]
    counts = {method: math.prod(len(values) for values in grid.values()) for method, grid in table.select.items()}
    for method, grid in table.select.items():
        where = f"tables.{name}.select.{method}"
        if not grid:
            yield Problem(where, "has no grid", f"add one of {', '.join(TUNABLE)}, or remove it")
        for key, values in grid.items():
            if key not in TUNABLE:
                yield Problem(f"{where}.{key}", "cannot be selected", nearest(key, TUNABLE))
            elif key == "rho" and not study.has_rho(method):
                yield Problem(f"{where}.rho", f"{method!r} has no ascent, so no rho", "remove it")
            elif list(values) != sorted(set(values)):
                yield Problem(
                    f"{where}.{key}", f"{values!r} must be ascending and distinct", f"write {sorted(set(values))}"
                )
            elif key == "lr" and values[0] == 0:
                yield Problem(f"{where}.lr", f"{values!r} must be above 0", "a run at 0 does not train")
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{method}: {count}" for method, count in counts.items())
        yield Problem(
            f"tables.{name}.select",
            f"every method needs the same number of trials (now {listed})",
            "a method that is tuned harder wins for that reason: make the grids equally large",
        )


def _check_selected(study: Study, name: str) -> Iterator[Problem]:
    """Yield a problem for every ``selected`` setting that the table has no grid for."""
    table = study.params.tables[name]
    without: dict[tuple[str, str], list[str]] = defaultdict(list)
    for method in table.methods:
        base = study.base_method(name, method)
        own = table.select.get(method, {})
        grids = {*own, *(table.select[base] if base else {})}
        for key in ("lr", "weight_decay"):
            if getattr(study.training(name, method), key) == SELECTED and key not in grids:
                without[_writer(study, name, method, key), key].append(method)
        if study.params.methods[method].rho == SELECTED and study.has_rho(method) and "rho" not in own:
            without[f"methods.{method}.rho", "rho"].append(method)
    for (where, key), methods in without.items():
        yield Problem(
            where,
            f"is 'selected', but table {name!r} has no grid of {key} for {', '.join(map(repr, methods))}",
            f"add tables.{name}.select.{methods[0]}.{key}: [...], or write a number",
        )


def _writer(study: Study, table: str, method: str, key: str) -> str:
    """Return the place that gives a training setting its value."""
    for section, name in (("methods", method), ("tables", table)):
        if key in getattr(study.params, section)[name].training:
            return f"{section}.{name}.training.{key}"
    return f"training.{key}"
