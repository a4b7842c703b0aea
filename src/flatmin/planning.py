"""From a study to the items of its stages: what has to exist, under which key, published where."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from flatmin.errors import FlatminError
from flatmin.fanout import Item
from flatmin.keys import RunIdentity, evaluation_key, run_identity, sharpness_key
from flatmin.settings import Settings
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
                "identity": {"data": run.identity.data, "code": run.identity.code},
            },
            outputs=_run_outputs(run, workspace) if published else {},
        )
        for run in runs
    ]


def _run_outputs(run: KeyedRun, workspace: Workspace) -> dict[str, Path]:
    folder = workspace.runs(run.plan.table) / run.id
    timings = workspace.timings(run.plan.table) / f"{run.id}.json"
    return {**{name: folder / name for name in RUN_FILES}, "timings.json": timings}


def evaluate_items(runs: Iterable[KeyedRun], study: Study, workspace: Workspace) -> list[Item]:
    """Return the items that evaluate runs on test data."""
    spec = study.params.evaluation
    return [
        _measurement("evaluate", run, evaluation_key(run.key, spec), spec, workspace.evaluations, workspace)
        for run in runs
    ]


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
