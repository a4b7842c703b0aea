"""What `flatmin.results` computes from: the study's planned runs with the numbers that MLflow holds of them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from safetensors import safe_open

from flatmin.collect import read_history
from flatmin.data.errors import DataError
from flatmin.data.manifest import images_folder, read_manifest
from flatmin.planning import KeyedRun, read_choices
from flatmin.results.inputs import MEASURED, MethodInfo, RowInfo, RowKey, TableInfo
from flatmin.selection import on_edge
from flatmin.settings import SELECTED, DatasetSpec, TrainingSpec
from flatmin.study import Study
from flatmin.workspace import Workspace

FURTHER = ("epochs", "best_epoch", "best_validation_accuracy", "validation_loss", "sharpness_steps", "sharpness_rho")
"""Numbers of a run that are not averaged."""

RUNNING_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
"""Saved with a model's weights, but not trained."""

PARTS = ("m", "ragged")
"""Options that make no method another one: the images per ascent are a setting of the published runs too."""

Seen = Mapping[str, Mapping[str, Any]]
"""What is known of each run, by run key: its ``metrics`` and its ``tags``, as `Tracker.planned` returns them."""


def runs_frame(runs: Sequence[KeyedRun], seen: Seen) -> pd.DataFrame:
    """Return one line per planned run and table; numbers that a run does not have are NaN."""
    names = [*MEASURED, *(name for name in FURTHER if name not in MEASURED)]
    lines = [_line(run, seen.get(run.key, {"metrics": {}, "tags": {}}), names) for run in runs]
    return pd.DataFrame(lines)


def _line(run: KeyedRun, seen: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    plan, method = run.plan, run.plan.settings.method
    tags = seen["tags"]
    return {
        "table": plan.table,
        "dataset": plan.dataset,
        "model": plan.model,
        "method": plan.method,
        "seed": plan.seed,
        "run_id": run.id,
        "key": run.key,
        "base": method.base,
        "ascent": method.ascent,
        "rho": method.rho,
        "tuned": plan.tuned,
        **{name: tags.get(f"flatmin.{name}", "") for name in ("device", "torch", "timm")},
        **{name: seen["metrics"].get(name, float("nan")) for name in names},
    }


def histories(runs: Sequence[KeyedRun], workspace: Workspace) -> dict[str, pd.DataFrame]:
    """Return the learning curves by run id; a run that diverged in its first epoch has none."""
    paths = {run.id: workspace.runs(run.plan.table) / run.id / "history.csv" for run in runs}
    rows = {run_id: read_history(path) for run_id, path in paths.items() if path.exists()}
    return {run_id: pd.DataFrame(curve).astype(float) for run_id, curve in rows.items() if curve}


def seconds_frame(runs: Sequence[KeyedRun], workspace: Workspace) -> pd.DataFrame:
    """Return the measured seconds of the runs: ``table``, ``run_id``, ``train_seconds``."""
    lines = []
    for run in runs:
        path = workspace.timings(run.plan.table) / f"{run.id}.json"
        if path.exists():
            seconds = json.loads(path.read_text(encoding="utf-8"))["train_seconds"]
            lines.append({"table": run.plan.table, "run_id": run.id, "train_seconds": seconds})
    return pd.DataFrame(lines, columns=["table", "run_id", "train_seconds"])


def table_infos(study: Study, runs: Sequence[KeyedRun], workspace: Workspace) -> dict[str, TableInfo]:
    """Return what the results need to know of every table of the study."""
    return {name: _table_info(study, name, runs, workspace) for name in study.tables}


def _table_info(study: Study, name: str, runs: Sequence[KeyedRun], workspace: Workspace) -> TableInfo:
    table = study.table(name)
    rows = list(study.rows(name))
    return TableInfo(
        name=name,
        title=table.title or name,
        datasets=table.datasets,
        models=table.models,
        methods=table.methods,
        seeds=table.seeds,
        baseline=table.baseline,
        rows={row: _row_info(study, name, row, runs, workspace) for row in rows},
        method_info={method: _method_info(study, name, method, workspace) for method in table.methods},
        notes={row: _notes(study, name, row, runs, workspace) for row in rows},
    )


def _method_info(study: Study, table: str, method: str, workspace: Workspace) -> MethodInfo:
    training = study.training(table, method)
    choices = read_choices(workspace.selection(table))
    options = study.options(method)
    return MethodInfo(
        epochs=training.epochs,
        m=options.get("m"),
        options={name: value for name, value in options.items() if name not in PARTS},
        training={**training.model_dump(exclude={"epochs"}), "augmentation": _augmentation(training)},
        edge={row: on_edge(study, table, method, choices.get((*row, method), {})) for row in study.rows(table)},
    )


def _row_info(study: Study, table: str, row: RowKey, runs: Sequence[KeyedRun], workspace: Workspace) -> RowInfo:
    dataset, model = study.params.datasets[row[0]], study.params.models[row[1]]
    training = study.training(table, study.table(table).baseline[0])
    return RowInfo(
        source=dataset.source,
        model=model.name,
        epochs=training.epochs,
        noise_kind=dataset.noise.kind if dataset.noise else "none",
        noise_rate=dataset.noise.rate if dataset.noise else 0.0,
        noise_definition=getattr(dataset.noise, "definition", ""),
        train_size=dataset.train_size,
        source_images=_source_images(dataset.source, workspace),
        validation_fraction=dataset.validation.fraction,
        validation_labels=dataset.validation.labels,
        augmentation=_augmentation(training),
        batch_size=training.batch_size,
        lr=training.lr,
        weight_decay=training.weight_decay,
        draw_fixed=dataset.draw_seed is not None,
        parameters=_parameters(table, row, runs, workspace),
    )


def _source_images(source: str, workspace: Workspace) -> int | None:
    """Return how many training images a source has, if it is prepared."""
    try:
        manifest = read_manifest(images_folder(workspace.prepared, source), "images")
    except DataError:
        return None
    return int(sum(manifest["counts"]["train"]))


def _parameters(table: str, row: RowKey, runs: Sequence[KeyedRun], workspace: Workspace) -> int | None:
    """Return the number of parameters of a row's model as its first trained run saved them; None if none is trained."""
    for run in runs:
        path = workspace.runs(table) / run.id / "model.safetensors"
        if (run.plan.table, run.plan.dataset, run.plan.model) == (table, *row) and path.exists():
            return count_parameters(path)
    return None


def count_parameters(path: Path) -> int:
    """Return the number of elements in a file of weights, without the running statistics of batch normalisation."""
    with safe_open(path, framework="numpy") as weights:
        names = [name for name in weights.keys() if not name.endswith(RUNNING_STATISTICS)]  # noqa: SIM118, no mapping
        return sum(math.prod(weights.get_slice(name).get_shape()) for name in names)


def _augmentation(training: TrainingSpec) -> str:
    """Return the papers' word: ``basic`` is flip and padded crop."""
    augmentation = training.augmentation
    if augmentation.flip and augmentation.pad:
        return "basic"
    if augmentation.flip:
        return "flip"
    return "crop" if augmentation.pad else "none"


def _notes(study: Study, table: str, row: RowKey, runs: Sequence[KeyedRun], workspace: Workspace) -> list[str]:
    dataset = study.params.datasets[row[0]]
    notes = [_validation_note(dataset)]
    if dataset.train_size is not None:
        notes.append(f"{dataset.train_size:,} training images, validation part included")
    if dataset.draw_seed is not None:
        notes.append("conditional on one draw of subset, split and noise")
    for method in study.table(table).methods:
        notes += _method_notes(study, table, row, method, runs, workspace)
    return notes


def _validation_note(dataset: DatasetSpec) -> str:
    labels = f"{dataset.validation.labels} labels" if dataset.noise else "labels as they are"
    return f"validation on {dataset.validation.fraction:.0%} of the training images, {labels}"


def _method_notes(
    study: Study, table: str, row: RowKey, method: str, runs: Sequence[KeyedRun], workspace: Workspace
) -> list[str]:
    settings = next(
        run.plan.settings
        for run in runs
        if (run.plan.table, run.plan.dataset, run.plan.model, run.plan.method) == (table, *row, method)
    )
    choice = read_choices(workspace.selection(table)).get((*row, method), {})
    edge = on_edge(study, table, method, choice) if choice else []
    chosen = [f"{name} {value:g}" for name, value in choice.items()]
    used = {"rho": settings.method.rho, "lr": settings.training.lr, "weight_decay": settings.training.weight_decay}
    hand_written = [name for name, value in choice.items() if value != used[name]]
    if study.has_rho(method) and "rho" not in choice:
        hand_written.append("rho")
    notes = []
    if chosen:
        warning = f" ({' and '.join(edge)} at the edge of the grid)" if edge else ""
        notes.append(f"{method}: selected {', '.join(chosen)}{warning}")
    elif inherited := _inherited(study, table, method):
        values = ", ".join(f"{name} {used[name]:g}" for name in inherited)
        notes.append(f"{method}: {values} inherited from {study.base_method(table, method)}")
    return [*notes, *(f"{method}: {name} {used[name]:g} is hand-written, not tuned" for name in hand_written)]


def _inherited(study: Study, table: str, method: str) -> list[str]:
    """Return the settings that a method without a grid of its own takes from what was selected for its base."""
    training = study.training(table, method)
    return [name for name in ("lr", "weight_decay") if getattr(training, name) == SELECTED]
