"""What `flatmin.results` computes from: the study's planned runs with the numbers that MLflow holds of them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from safetensors import safe_open

from flatmin.catalogue import papers_name
from flatmin.collect import evaluations, noise_rate, read_history
from flatmin.data.corruptions.registry import MAIN
from flatmin.data.errors import DataError
from flatmin.data.manifest import images_folder, read_manifest
from flatmin.data.sources import registry as sources
from flatmin.data.test_set import Corruptions, HumanJudgements, TestSet
from flatmin.data.test_sets import registry as test_sets
from flatmin.planning import KeyedRun, read_choices
from flatmin.records import read_head
from flatmin.results.inputs import MEASURED, MethodInfo, RowInfo, RowKey, TableInfo
from flatmin.results.shift import COLUMNS
from flatmin.results.shift import MEASURED as MEASURED_BEYOND
from flatmin.selection import on_edge
from flatmin.settings import SELECTED, DatasetSpec, ModelSpec, TrainingSpec
from flatmin.study import Study
from flatmin.workspace import Workspace

FURTHER = ("epochs", "best_epoch", "best_validation_accuracy", "validation_loss", "sharpness_steps", "sharpness_rho")
"""Numbers of a run that are not averaged."""

RUNNING_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
"""Saved with a model's weights, but not trained."""

PAPERS_CUTOUT = 16
"""The side of the square that the papers cut out of CIFAR's images."""

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


def shifts_frame(runs: Sequence[KeyedRun], workspace: Workspace) -> pd.DataFrame:
    """Return what the runs achieve on further test sets, as `flatmin.results.shift.COLUMNS` says."""
    lines = [line for run in runs for path in evaluations(run, workspace) for line in _shifted(run, path, workspace)]
    return pd.DataFrame(lines, columns=list(COLUMNS))


def _shifted(run: KeyedRun, path: Path, workspace: Workspace) -> Iterator[dict[str, Any]]:
    """Yield the lines of one evaluation; none of that on the run's own test set, or of a run that is gone."""
    name = path.name.removeprefix(f"{run.id}.").removesuffix(".json")
    if name not in test_sets.names():
        return
    test_set, plan = test_sets.load(name), run.plan
    record = workspace.runs(plan.table) / run.id / "record.json"
    if not record.exists():
        return
    known = {
        "table": plan.table,
        "dataset": plan.dataset,
        "model": plan.model,
        "method": plan.method,
        "seed": plan.seed,
        "test_set": name,
        "title": test_set.title_for(_source_title(plan.settings.dataset)),
        "form": _form(test_set),
        "diverged": read_head(record)["result"]["diverged"],
    }
    head = read_head(path)
    for row in head.get("rows", []):
        yield {**known, **row, "main": row["corruption"] in MAIN}
    if "rows" not in head:
        for epoch, prefix in (("last", ""), ("early", "early_")):
            numbers = {metric: head["metrics"][f"{prefix}{name}_{metric}"] for metric in MEASURED_BEYOND}
            yield {**known, "epoch": epoch, "corruption": "", "severity": 0, "main": False, **numbers}


def _source_title(dataset: DatasetSpec) -> str:
    source = dataset.source
    return sources.load(source).title or source if isinstance(source, str) else source.name


def _form(test_set: TestSet) -> str:
    if isinstance(test_set, Corruptions):
        return "corruptions"
    return "people" if isinstance(test_set, HumanJudgements) else "images"


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
        training={**training.model_dump(exclude={"epochs"}), "augmentation": augmentation_word(training)},
        edge={row: on_edge(study, table, method, choices.get((*row, method), {})) for row in study.rows(table)},
    )


def _row_info(study: Study, table: str, row: RowKey, runs: Sequence[KeyedRun], workspace: Workspace) -> RowInfo:
    dataset, model = study.params.datasets[row[0]], study.params.models[row[1]]
    training = study.training(table, study.table(table).baseline[0])
    counts = _train_counts(dataset.source_name, workspace)
    return RowInfo(
        source=dataset.source_name,
        model=architecture(model),
        epochs=training.epochs,
        noise_kind=dataset.noise.kind if dataset.noise else "none",
        noise_rate=noise_rate(dataset),
        noise_definition=getattr(dataset.noise, "definition", ""),
        train_size=dataset.train_size,
        source_images=None if counts is None else sum(counts),
        classes=None if counts is None else len(counts),
        validation_fraction=dataset.validation.fraction,
        validation_labels=dataset.validation.labels,
        augmentation=augmentation_word(training),
        batch_size=training.batch_size,
        lr=training.lr,
        weight_decay=training.weight_decay,
        draw_fixed=dataset.draw_seed is not None,
        parameters=_parameters(table, row, runs, workspace),
    )


def architecture(model: ModelSpec) -> str:
    """Return what a model is, in a word where its name says all.

    Different networks have different words. So have two ways to write one network, but for synonyms and unused tags.
    """
    network = papers_name(model.name if model.pretrained else model.name.split(".")[0])
    changes = [f"{name}={value}" for name, value in sorted(model.args.items())]
    changes += ["stem for small images"] if model.stem == "cifar" else []
    changes += ["pretrained"] if model.pretrained else []
    return " with ".join([network, *([", ".join(changes)] if changes else [])])


def _train_counts(source: str, workspace: Workspace) -> list[int] | None:
    """Return how many training images a source has of each class, if it is prepared."""
    try:
        manifest = read_manifest(images_folder(workspace.prepared, source), "images")
    except DataError:
        return None
    return [int(count) for count in manifest["counts"]["train"]]


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


def augmentation_word(training: TrainingSpec) -> str:
    """Return the papers' word: ``basic`` is flip and padded crop; ``cutout`` and ``aa`` (AutoAugment) have these too.

    What they have no word for is spelled out: ``basic+mixup``, ``aa+cutout``, ``flip+erasing``.
    """
    spec = training.augmentation
    basics = [word for word, there in (("flip", spec.flip), ("crop", spec.pad)) if there]
    extras = {
        "aa": spec.policy == "autoaugment",
        spec.policy: spec.policy in ("randaugment", "trivialaugment"),
        "cutout" if spec.cutout == PAPERS_CUTOUT else f"cutout{spec.cutout}": spec.cutout,
        "erasing": spec.erasing,
        "mixup": spec.mixup,
        "cutmix": spec.cutmix,
    }
    more = [word for word, there in extras.items() if there]
    if len(basics) == 2 and {*more} & {"aa", "cutout"}:
        return "+".join(more)
    if len(basics) == 2:
        return "+".join(["basic", *more])
    return "+".join([*(basics or ["none"]), *more])


def _notes(study: Study, table: str, row: RowKey, runs: Sequence[KeyedRun], workspace: Workspace) -> list[str]:
    dataset = study.params.datasets[row[0]]
    notes = [_validation_note(dataset)]
    if dataset.train_size is not None:
        notes.append(f"{dataset.train_size:,} training images, validation part included")
    if dataset.draw_seed is not None:
        notes.append("conditional on one draw of subset, split and noise")
    suites = [name for name in study.params.evaluation.test_sets if name != test_sets.OWN and _is_suite(name)]
    if suites and (images := study.params.evaluation.corruptions.images):
        notes.append(f"{' and '.join(suites)}: the first {images:,} test images")
    for method in study.table(table).methods:
        notes += _method_notes(study, table, row, method, runs, workspace)
    return notes


def _is_suite(name: str) -> bool:
    return isinstance(test_sets.load(name), Corruptions)


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
