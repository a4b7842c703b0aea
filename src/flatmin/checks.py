"""What one section of a study must hold for another: names that exist, grids that fit, seeds that do not overlap."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from flatmin.errors import Problem, nearest
from flatmin.problems import problem_of
from flatmin.settings import SELECTED, MethodSpec, TrainingSpec
from flatmin.study import TUNABLE, Study


def check_names(study: Study) -> Iterator[Problem]:
    """Yield a problem for every name that no section or registry defines."""
    params, vocabulary = study.params, study.vocabulary
    yield from _unknown("study", params.study, params.tables, "table")
    for name, table in params.tables.items():
        where = f"tables.{name}"
        yield from _unknown(f"{where}.datasets", table.datasets, params.datasets, "dataset")
        yield from _unknown(f"{where}.models", table.models, params.models, "model")
        yield from _unknown(f"{where}.methods", table.methods, params.methods, "method")
        yield from _unknown(f"{where}.baseline", table.baseline, table.methods, "method of this table")
        yield from _unknown(f"{where}.select", table.select, table.methods, "method of this table")
    for name, dataset in params.datasets.items():
        yield from _unknown(f"datasets.{name}.source", [dataset.source], vocabulary.sources, "source", list_=False)
    for name, model in params.models.items():
        hint = vocabulary.unknown_model(model.name)
        if hint is not None:
            yield Problem(f"models.{name}.name", f"unknown model {model.name!r}", hint)
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


def check_values(study: Study) -> Iterator[Problem]:
    """Yield a problem for every value that is wrong in its context."""
    for name in study.params.methods:
        yield from _check_method(study, name)
    for name in study.params.tables:
        problems = list(_check_training(study, name)) or list(_check_table(study, name))
        yield from problems


def _check_method(study: Study, name: str) -> Iterator[Problem]:
    method = study.params.methods[name]
    declared = study.vocabulary.ascents[method.ascent]
    if method.rho is not None and "rho" not in declared:
        yield Problem(f"methods.{name}.rho", f"the ascent {method.ascent!r} has no rho", "remove it")
    written = {**method.options, **({"rho": method.rho} if isinstance(method.rho, float) else {})}
    for option, value in written.items():
        problem = declared[option].problem(value) if option in declared else None
        if problem:
            yield Problem(f"methods.{name}.{option}", f"{value!r} is not valid: {problem}")


def _check_training(study: Study, table: str) -> Iterator[Problem]:
    """Yield the problems of the training overrides, each under the section that wrote it."""
    seen = set()
    for method in study.params.tables[table].methods:
        try:
            study.training(table, method)
        except ValidationError as error:
            for e in error.errors():
                problem = problem_of(TrainingSpec, e, _training_owner(study, table, method, e["loc"]))
                if str(problem) not in seen:
                    seen.add(str(problem))
                    yield problem


def _training_owner(study: Study, table: str, method: str, loc: Sequence[str | int]) -> tuple[str, ...]:
    key = loc[0] if loc else None
    if key in study.params.methods[method].training:
        return ("methods", method, "training")
    return ("tables", table, "training")


def _check_table(study: Study, name: str) -> Iterator[Problem]:
    table = study.params.tables[name]
    where = f"tables.{name}"
    for key in ("datasets", "models", "methods", "seeds"):
        values = getattr(table, key)
        if len(set(values)) < len(values):
            twice = next(v for v in values if list(values).count(v) > 1)
            yield Problem(f"{where}.{key}", f"{twice!r} is listed twice", "name it once")
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
        for key, values in grid.items():
            if key not in TUNABLE:
                yield Problem(f"{where}.{key}", "cannot be selected", nearest(key, TUNABLE))
            elif key == "rho" and not study.has_rho(method):
                yield Problem(f"{where}.rho", f"{method!r} has no ascent, so no rho", "remove it")
            elif list(values) != sorted(set(values)) or min(values) < 0:
                yield Problem(f"{where}.{key}", f"{values!r} must be ascending, distinct and not negative")
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
    for method in table.methods:
        base = study.base_method(name, method)
        grids = {**(table.select.get(base, {}) if base else {}), **table.select.get(method, {})}
        wanted = [key for key in ("lr", "weight_decay") if getattr(study.training(name, method), key) == SELECTED]
        wanted += ["rho"] if study.params.methods[method].rho == SELECTED else []
        for key in wanted:
            if key not in grids or (key == "rho" and "rho" not in table.select.get(method, {})):
                where = f"methods.{method}.rho" if key == "rho" else f"training.{key}"
                yield Problem(
                    where,
                    f"is 'selected', but table {name!r} has no grid of {key} for {method!r}",
                    f"add tables.{name}.select.{method}.{key}: [...], or write a number",
                )
