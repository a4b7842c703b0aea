"""The stages ``aggregate`` and ``report``: from the measured runs to tables, verdicts and the page."""

from __future__ import annotations

from collections.abc import Sequence

from flatmin import frames
from flatmin.collect import trial_views, unique, views
from flatmin.driver import driver_lock
from flatmin.housekeeping import remove_left_tables
from flatmin.planning import KeyedRun, planned_runs
from flatmin.presets import preset_in_place
from flatmin.results.aggregate import aggregate
from flatmin.results.report import report
from flatmin.study import Study
from flatmin.tracking import TrackedRun, as_seen, connect, synchronised
from flatmin.workspace import Workspace


def aggregate_study(study: Study, workspace: Workspace) -> None:
    """Bring MLflow up to date, read the runs back from it, and write tables, claims, metrics and cost."""
    with driver_lock(workspace.state, "aggregate"):
        remove_left_tables(study, workspace)
        runs = all_runs(study, workspace)
        shown = _views(study, runs, workspace)
        tracker = connect(workspace.root)
        seen = synchronised(tracker, shown) if tracker else as_seen(shown)
        aggregate(
            frames.runs_frame(runs, seen),
            frames.table_infos(study, runs, workspace),
            frames.seconds_frame(runs, workspace),
            workspace.claims,
            workspace.results,
        )
    print(f"aggregate: {len(runs)} runs in {workspace.results / 'tables'}")


def report_study(study: Study, workspace: Workspace, *, partial: bool = False) -> None:
    """Write the page; a ``partial`` one of what there is, into a folder of its own."""
    runs = all_runs(study, workspace)
    out = workspace.results / "partial" if partial else workspace.results
    report(
        frames.runs_frame(runs, as_seen(_views(study, runs, workspace))),
        frames.table_infos(study, runs, workspace),
        frames.histories(runs, workspace),
        workspace.claims,
        out,
        commands=_commands(workspace),
        partial=partial,
    )
    print(f"report: {out / 'report.html'}")


def _commands(workspace: Workspace) -> list[str]:
    """Return what a reader types to get the same page."""
    preset = preset_in_place(workspace)
    return ["make environment", *([f"flatmin use {preset}"] if preset else []), "dvc repro"]


def all_runs(study: Study, workspace: Workspace) -> list[KeyedRun]:
    """Return the runs of all tables of the study."""
    return [run for table in study.tables for run in planned_runs(study, table, workspace)]


def _views(study: Study, runs: Sequence[KeyedRun], workspace: Workspace) -> list[TrackedRun]:
    trials = [view for table in study.tables for view in trial_views(study, table, workspace)]
    return unique([*views(runs, workspace), *trials])
