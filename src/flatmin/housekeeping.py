"""Outputs and lock entries of tables that left the study are removed, so that results never depend on history.

DVC keeps the outputs and ``dvc.lock`` entries of matrix stages that no longer exist. A stage that depends on ``runs/``
would depend on them too, and a study that was left and taken up again would end in other bytes than one that was never
left. DVC reads ``dvc.lock`` anew for every stage that it records (DVC 3.67), so that a stage may edit it.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterable

from ruamel.yaml import YAML

from flatmin.records import write_atomically
from flatmin.study import Study
from flatmin.workspace import Workspace

PER_TABLE = ("select", "train", "evaluate", "sharpness")
ONCE_BEFORE, ONCE_AFTER = ("download", "prepare"), ("aggregate", "report")


def remove_left_tables(study: Study, workspace: Workspace) -> None:
    """Remove what belongs to tables that are not in the study, and put ``dvc.lock`` in the pipeline's order."""
    for folder in ("runs", "timings", "evaluations", "sharpness"):
        _remove_others(workspace, folder, study.tables)
    _remove_others(workspace, "selections", [f"{table}.json" for table in study.tables])
    _tidy_lock(study, workspace)


def _remove_others(workspace: Workspace, folder: str, keep: Iterable[str]) -> None:
    kept = set(keep)
    for path in (workspace.root / folder).glob("*"):
        if path.name not in kept:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _tidy_lock(study: Study, workspace: Workspace) -> None:
    path = workspace.root / "dvc.lock"
    if not path.exists():
        return
    yaml = YAML()
    yaml.default_flow_style = False
    lock = yaml.load(path.read_text(encoding="utf-8"))
    entries = lock.get("stages") or {}
    order = [
        *ONCE_BEFORE,
        *(f"{stage}@{table}" for table in study.tables for stage in PER_TABLE),
        *ONCE_AFTER,
    ]
    tidy = {name: entries[name] for name in order if name in entries}
    if list(tidy) != list(entries):
        lock["stages"] = tidy
        text = io.StringIO()
        yaml.dump(lock, text)
        write_atomically(path, text.getvalue())
