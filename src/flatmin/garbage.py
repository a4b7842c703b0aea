"""``flatmin gc``: the store gives back what neither params.yaml nor any preset plans."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from flatmin.driver import driver_lock
from flatmin.keys import plain
from flatmin.planning import read_choices
from flatmin.presets import presets
from flatmin.reading import load
from flatmin.records import digest_of
from flatmin.selection import Choice
from flatmin.settings import RunSettings
from flatmin.store import Store
from flatmin.study import NotSelectedError, Study
from flatmin.vocabulary import vocabulary
from flatmin.work import KINDS
from flatmin.workspace import Workspace

MEGABYTE = 1e6


def collect(workspace: Workspace, *, dry_run: bool = False) -> None:
    """Remove trainings that no study plans, and say how much that frees. Measurements are small and stay.

    Trainings are compared by their settings, so that one made by an older version of the code, which a checkout of that
    version would want again, stays as long as a study plans its settings.
    """
    with driver_lock(workspace.state, "gc"):
        store = Store(workspace.state)
        planned = {_identity(settings) for study in _studies(workspace) for settings in _settings(study, workspace)}
        doomed = [path for path in _entries(store, "train") if _identity_of(path) not in planned]
        freed = sum(_size(path) for path in doomed)
        for path in doomed if not dry_run else ():
            store.remove("train", path.name)
    verb = "would free" if dry_run else "freed"
    print(f"gc: {len(doomed)} trainings, {verb} {freed / MEGABYTE:,.1f} MB (shared with outputs that are still linked)")


def _studies(workspace: Workspace) -> Iterator[Study]:
    words = vocabulary()
    for path in (workspace.params, *presets(workspace).values()):
        yield load(path, words)


def _settings(study: Study, workspace: Workspace) -> Iterator[RunSettings]:
    for table in study.params.tables:
        choices = read_choices(workspace.selection(table))
        try:
            yield from (run.settings for run in study.runs(table, choices))
        except NotSelectedError:
            yield from _with_any_choice(study, table)
        for dataset, model in study.rows(table):
            for method in study.table(table).select:
                yield from _trials(study, table, dataset, model, method)


def _with_any_choice(study: Study, table: str) -> Iterator[RunSettings]:
    """Yield the runs of a table under every choice that its selection could make."""
    spec = study.table(table)
    for dataset, model in study.rows(table):
        for method in spec.methods:
            for values in _possible(study, table, method):
                for seed in spec.seeds:
                    yield study.resolve(table, dataset, model, method, seed, values)


def _trials(study: Study, table: str, dataset: str, model: str, method: str) -> Iterator[RunSettings]:
    for values in _possible(study, table, method):
        for seed in study.selection(table).seeds:
            yield study.tried(table, dataset, model, method, seed, values)


def _possible(study: Study, table: str, method: str) -> Iterable[Choice]:
    base = study.base_method(table, method)
    inherited = study.trials(table, base) if base else []
    own = study.trials(table, method)
    return [{**a, **b} for a in inherited or [{}] for b in own or [{}]]


def _entries(store: Store, kind: str) -> list[Path]:
    return sorted((store.root / kind).glob("[0-9a-f]*"))


def _identity(settings: RunSettings) -> str:
    return digest_of(plain(settings))


def _identity_of(entry: Path) -> str | None:
    try:
        record = json.loads((entry / KINDS["train"].head).read_text(encoding="utf-8"))
        return _identity(RunSettings.model_validate(record["settings"]))
    except (OSError, ValueError, KeyError):
        return None  # damaged: nobody could use it


def _size(entry: Path) -> int:
    return sum(path.stat().st_size for path in entry.rglob("*") if path.is_file())
