"""From a study to the items of its stages: what has to exist, under which key, published where."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from flatmin.data.manifest import WEIGHTS, read_manifest, weights_folder
from flatmin.data.test_set import TestSet
from flatmin.data.test_sets.registry import OWN
from flatmin.data.test_sets.registry import load as load_test_set
from flatmin.data_items import folder_of, parts_of
from flatmin.errors import FlatminError
from flatmin.fanout import Item
from flatmin.keys import RunIdentity, evaluation_key, run_identity, sharpness_key, shift_key
from flatmin.settings import CorruptionSpec, Settings
from flatmin.study import Choices, NotSelectedError, PlannedRun, Study
from flatmin.work import KINDS
from flatmin.workspace import Workspace

RUN_FILES = ("record.json", "history.csv", "model.safetensors", "best.safetensors")


class NotReadyError(FlatminError):
    """A stage was asked for before the one that it depends on."""


@dataclass(frozen=True)
class KeyedRun:
    """A planned run whose key is known."""

    plan: PlannedRun
    identity: RunIdentity

    @property
    def key(self) -> str:
        """The run key."""
        return self.identity.key

    @property
    def id(self) -> str:
        """``<dataset>.<model>.<method>.s<seed>-<first 8 of key>``."""
        return f"{self.plan.name}-{self.key[:8]}"


def read_choices(path: Path) -> Choices:
    """Return what ``select`` chose for a table; empty where it has not run."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {(c["dataset"], c["model"], c["method"]): c["chosen"] for c in content["choices"]}
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError):
        raise FlatminError(f"{path} is not a selection: delete it and run `dvc repro`, which chooses anew") from None


def planned_runs(study: Study, table: str, workspace: Workspace) -> list[KeyedRun]:
    """Return the runs of a table with their keys.

    Raises:
        NotReadyError: a value is not selected yet.
        DataError: data is not prepared yet.
    """
    try:
        runs = study.runs(table, read_choices(workspace.selection(table)))
    except NotSelectedError as error:
        raise NotReadyError(f"{error}: run `flatmin select {table}` (or `dvc repro`, which does)") from None
    return [keyed_run(run, workspace) for run in runs]


def keyed_run(run: PlannedRun, workspace: Workspace) -> KeyedRun:
    """Return a planned run with its key."""
    return KeyedRun(run, run_identity(run.settings, workspace.prepared, run.dataset))


def train_items(runs: Iterable[KeyedRun], workspace: Workspace, *, published: bool = True) -> list[Item]:
    """Return the items that train runs; trials of a selection are not ``published``, they stay in the store."""
    return [
        Item(
            id=run.id,
            kind="train",
            key=run.key,
            task={
                "settings": run.plan.settings.model_dump(mode="json"),
                "dataset": run.plan.dataset,
                "prepared": str(workspace.prepared.absolute()),
                "weights": _start(run, workspace),
                "identity": run.identity.recorded,
            },
            outputs=_run_outputs(run, workspace) if published else {},
        )
        for run in runs
    ]


def _start(run: KeyedRun, workspace: Workspace) -> str | None:
    """Return the file of the weights that a run starts from, or None where it draws them."""
    model = run.plan.settings.model
    return (
        str((weights_folder(workspace.prepared, model.weights_name) / WEIGHTS).absolute()) if model.pretrained else None
    )


def _run_outputs(run: KeyedRun, workspace: Workspace) -> dict[str, Path]:
    folder = workspace.runs(run.plan.table) / run.id
    timings = workspace.timings(run.plan.table) / f"{run.id}.json"
    return {**{name: folder / name for name in RUN_FILES}, "timings.json": timings}


def evaluate_items(runs: Iterable[KeyedRun], study: Study, workspace: Workspace) -> list[Item]:
    """Return the items that evaluate runs: on their own test set, and on each further one that fits their source.

    Raises:
        DataError: a test set is not prepared yet.
    """
    spec = study.params.evaluation
    further = [load_test_set(name) for name in spec.test_sets if name != OWN]
    prepared = cache(partial(_prepared_folders, spec=spec.corruptions, workspace=workspace))
    items = []
    for run in runs:
        own = _measurement("evaluate", run, evaluation_key(run.key, spec), spec, workspace.evaluations, workspace)
        items.append(own)
        source = run.plan.settings.dataset.source_name
        for test_set in further:
            if test_set.fits(source):
                folders, contents = prepared(test_set, source)
                key = shift_key(run.key, spec, test_set.name, contents)
                items.append(_on_further_set(own, test_set, key, folders))
    return items


def _prepared_folders(
    test_set: TestSet, source: str, *, spec: CorruptionSpec, workspace: Workspace
) -> tuple[list[Path], list[str]]:
    """Return the folders of a prepared test set, and the hashes of what they hold."""
    folders = [folder_of(test_set, source, part, workspace) for part in parts_of(test_set, spec)]
    return folders, [read_manifest(folder, "test_set")["content_hash"] for folder in folders]


def _on_further_set(own: Item, test_set: TestSet, key: str, folders: Sequence[Path]) -> Item:
    """Return the item that evaluates a run on a further test set, from the one for its own."""
    (place,) = own.outputs.values()
    return Item(
        id=f"{own.id}.{test_set.name}",
        kind="shift",
        key=key,
        task={**own.task, "test_set": test_set.name, "folders": [str(folder.absolute()) for folder in folders]},
        outputs={KINDS["shift"].head: place.with_name(f"{own.id}.{test_set.name}.json")},
    )


def sharpness_items(runs: Iterable[KeyedRun], study: Study, workspace: Workspace) -> list[Item]:
    """Return the items that measure the sharpness of runs."""
    spec = study.params.sharpness
    return [
        _measurement("sharpness", run, sharpness_key(run.key, spec), spec, workspace.sharpness, workspace)
        for run in runs
    ]


def _measurement(
    kind: str, run: KeyedRun, key: str, spec: Settings, folder: Callable[[str], Path], workspace: Workspace
) -> Item:
    """Return an item that measures a trained run as ``spec`` says, and publishes one file below ``folder(table)``."""
    return Item(
        id=run.id,
        kind=kind,
        key=key,
        task={
            "settings": run.plan.settings.model_dump(mode="json"),
            "dataset": run.plan.dataset,
            "prepared": str(workspace.prepared.absolute()),
            "run": str((workspace.runs(run.plan.table) / run.id).absolute()),
            "spec": spec.model_dump(mode="json"),
        },
        outputs={KINDS[kind].head: folder(run.plan.table) / f"{run.id}.json"},
    )


def trained(runs: Sequence[KeyedRun], workspace: Workspace) -> tuple[list[KeyedRun], list[KeyedRun]]:
    """Return the runs whose record is published, and those whose is not."""
    there = [run for run in runs if (workspace.runs(run.plan.table) / run.id / "record.json").exists()]
    return there, [run for run in runs if run not in there]
