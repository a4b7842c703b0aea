"""Runs as MLflow shows them, gathered from the records, evaluations and sharpness measurements."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from flatmin import selection
from flatmin.planning import KeyedRun, read_choices
from flatmin.records import read_head
from flatmin.selection import Score
from flatmin.study import Study
from flatmin.tracking import TrackedRun
from flatmin.workspace import Workspace

Metrics = dict[str, float | None]


def views(runs: Sequence[KeyedRun], workspace: Workspace) -> list[TrackedRun]:
    """Return a view per run key, in the order of ``runs``; a run that serves several tables appears once.

    A run that is not trained yet has its settings and tags, and no numbers.

    Raises:
        CorruptRecordError: a record is damaged.
    """
    tables: dict[str, list[str]] = {}
    for run in runs:
        tables.setdefault(run.key, []).append(run.plan.table)
    first = {run.key: run for run in reversed(runs)}
    return [_view(first[key], sorted(set(names)), workspace) for key, names in tables.items()]


def planned_view(run: KeyedRun) -> TrackedRun:
    """Return a run as it is known before it is trained: its name, tags and settings."""
    settings = run.plan.settings.model_dump(mode="json")
    return TrackedRun(key=run.key, name=run.id, tags=_tags(run, run.plan.table, "table"), params=settings)


def _view(run: KeyedRun, tables: Sequence[str], workspace: Workspace) -> TrackedRun:
    folder = workspace.runs(run.plan.table) / run.id
    record = _head(folder / "record.json")
    return TrackedRun(
        key=run.key,
        name=run.id,
        tags={**_tags(run, ",".join(tables), "table"), **_environment(record)},
        params=run.plan.settings.model_dump(mode="json"),
        metrics=measured(run, record, workspace),
        curve=read_history(folder / "history.csv") if record else (),
    )


def _tags(run: KeyedRun, tables: str, role: str) -> dict[str, str]:
    plan = run.plan
    return {
        "planned": "true",
        "role": role,
        "tables": tables,
        "dataset": plan.dataset,
        "model": plan.model,
        "method": plan.method,
        "seed": str(plan.seed),
        "tuned": plan.tuned,
    }


def _environment(record: dict[str, Any] | None) -> dict[str, str]:
    return {name: str(value) for name, value in record["environment"].items()} if record else {}


def measured(run: KeyedRun, record: dict[str, Any] | None, workspace: Workspace) -> Metrics:
    """Return all final numbers of a run: of its training, its evaluation and its sharpness."""
    metrics: Metrics = {}
    if record:
        metrics |= {name: _number(value) for name, value in record["result"].items()}
        for path in (*evaluations(run, workspace), workspace.sharpness(run.plan.table) / f"{run.id}.json"):
            head = _head(path)
            metrics |= head["metrics"] if head else {}
    return metrics


def evaluations(run: KeyedRun, workspace: Workspace) -> list[Path]:
    """Return a run's evaluations that there are: on its own test set, and on further ones."""
    folder = workspace.evaluations(run.plan.table)
    return [*folder.glob(f"{run.id}.json"), *sorted(folder.glob(f"{run.id}.*.json"))]


def _number(value: float | None) -> float | None:
    return None if value is None else float(value)


def _head(path: Path) -> dict[str, Any] | None:
    try:
        return read_head(path)
    except FileNotFoundError:
        return None


def read_history(path: Path) -> list[dict[str, float | None]]:
    """Return a run's learning curve, one row per epoch; an empty cell is None."""
    with path.open(encoding="utf-8", newline="") as file:
        return [{name: float(cell) if cell else None for name, cell in row.items()} for row in csv.DictReader(file)]


def trial_views(study: Study, table: str, workspace: Workspace) -> list[TrackedRun]:
    """Return a view per trial of a table's selection, with the score that its file holds."""
    path = workspace.selection(table)
    scores, choices = selection.read_scores(path), dict(read_choices(path))
    trials = [
        trial
        for methods in selection.phases(study, table)
        for trial in selection.plan_trials(study, table, methods, choices, workspace)
    ]
    return [_trial_view(run, scores[run.key]) for trial in trials for run in trial.runs if run.key in scores]


def _trial_view(run: KeyedRun, score: Score) -> TrackedRun:
    return TrackedRun(
        key=run.key,
        name=run.id,
        tags=_tags(run, run.plan.table, "trial"),
        params=run.plan.settings.model_dump(mode="json"),
        metrics={"validation_accuracy": score.validation_accuracy, "diverged": float(score.diverged)},
    )


def unique(runs: Iterable[TrackedRun]) -> list[TrackedRun]:
    """Return the first view of every key, in their order."""
    first: dict[str, TrackedRun] = {}
    for run in runs:
        first.setdefault(run.key, run)
    return list(first.values())
