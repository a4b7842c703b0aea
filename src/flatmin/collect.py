"""Runs as MLflow shows them, gathered from the records, evaluations and sharpness measurements."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from flatmin import selection
from flatmin.data.human_labels import RATES
from flatmin.planning import KeyedRun, read_choices
from flatmin.records import read_head
from flatmin.selection import Score
from flatmin.settings import DatasetSpec, HumanNoise
from flatmin.study import PlannedRun, Study
from flatmin.tracking import TrackedRun, flatten
from flatmin.tracking.notes import run_note
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
    """Return a run as it is known before it is trained: its name, tags, settings and note."""
    return _known(run, run.plan.table, "table")


def _known(run: KeyedRun, tables: str, role: str) -> TrackedRun:
    return TrackedRun(
        key=run.key, name=run.id, tags=_tags(run, tables, role), params=_params(run.plan), note=run_note(run, role)
    )


def _params(plan: PlannedRun) -> dict[str, Any]:
    """Return a run's settings under dotted names, and the usual ones under short names, none of them missing.

    MLflow's chart with parallel coordinates leaves out runs that lack a value on one of its axes, so that sgd has a
    rho too, 0, and an m where the ascent sees the whole batch.
    """
    settings = plan.settings
    method, training = settings.method, settings.training
    short = {
        "dataset": plan.dataset,
        "model": plan.model,
        "method": plan.method,
        "ascent": method.ascent,
        "rho": method.rho,
        "m": method.options.get("m") or training.batch_size,
        "lr": training.lr,
        "weight_decay": training.weight_decay,
        "batch_size": training.batch_size,
        "epochs": training.epochs,
        "noise_rate": noise_rate(settings.dataset),
    }
    plain = {name: f"{value:.12g}" if isinstance(value, float) else value for name, value in short.items()}
    return {**dict(flatten(settings.recorded())), **plain}


def noise_rate(dataset: DatasetSpec) -> float:
    """Return the nominal rate of a dataset's noise; of labels that people gave, the rate that was counted in them."""
    if isinstance(dataset.noise, HumanNoise):
        return RATES[dataset.noise.labels]
    return dataset.noise.rate if dataset.noise else 0.0


def _view(run: KeyedRun, tables: Sequence[str], workspace: Workspace) -> TrackedRun:
    folder = workspace.runs(run.plan.table) / run.id
    record = _head(folder / "record.json")
    known = _known(run, ",".join(tables), "table")
    if record is None:
        return known
    return replace(
        known,
        tags={**known.tags, **_diverged(record["result"]["diverged"]), **_environment(record)},
        metrics=measured(run, record, workspace),
        curve=read_history(folder / "history.csv"),
        seconds=_seconds(workspace.timings(run.plan.table) / f"{run.id}.json"),
    )


def _tags(run: KeyedRun, tables: str, role: str) -> dict[str, str]:
    plan = run.plan
    return {
        "planned": "true",
        "role": role,
        "table": plan.table,
        "tables": tables,
        "dataset": plan.dataset,
        "model": plan.model,
        "method": plan.method,
        "base": plan.settings.method.base,
        "ascent": plan.settings.method.ascent,
        "seed": str(plan.seed),
        "tuned": plan.tuned,
    }


def _diverged(diverged: bool) -> dict[str, str]:
    return {"diverged": "true" if diverged else "false"}


def _environment(record: dict[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in record["environment"].items()}


def _seconds(path: Path) -> float | None:
    return float(json.loads(path.read_text(encoding="utf-8"))["train_seconds"]) if path.exists() else None


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
    known = _known(run, run.plan.table, "trial")
    return replace(
        known,
        tags={**known.tags, **_diverged(score.diverged)},
        metrics={"validation_accuracy": score.validation_accuracy, "diverged": float(score.diverged)},
    )


def unique(runs: Iterable[TrackedRun]) -> list[TrackedRun]:
    """Return the first view of every key, in their order."""
    first: dict[str, TrackedRun] = {}
    for run in runs:
        first.setdefault(run.key, run)
    return list(first.values())
