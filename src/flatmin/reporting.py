"""The stages ``aggregate`` and ``report``: from the measured runs to tables, verdicts and the page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flatmin import frames
from flatmin.collect import trial_views, unique, views
from flatmin.data.errors import DataError
from flatmin.driver import driver_lock
from flatmin.fanout import FailedItemsError
from flatmin.housekeeping import remove_left_tables
from flatmin.planning import KeyedRun, NotReadyError, planned_runs
from flatmin.presets import preset_in_place
from flatmin.results.aggregate import aggregate
from flatmin.results.report import report
from flatmin.stages import Stages
from flatmin.study import Study
from flatmin.tracking import TrackedRun, as_seen, connect, present, synchronised
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
            frames.shifts_frame(runs, workspace),
            study.params.claims.primary,
        )
        if tracker:
            present(tracker, shown, _titles(study), workspace.results)
    print(f"aggregate: {len(runs)} runs in {workspace.results / 'tables'}")


def report_study(study: Study, workspace: Workspace) -> None:
    """Write the page, and show its figures in MLflow."""
    _write_page(study, workspace, workspace.results, partial=False)
    with driver_lock(workspace.state, "report"):
        if tracker := connect(workspace.root):
            runs = all_runs(study, workspace)
            present(tracker, _views(study, runs, workspace), _titles(study), workspace.results)


def report_partial(study: Study, workspace: Workspace) -> None:
    """Write the page of what there is into a folder of its own, after measuring the runs that are trained.

    Where a run failed, DVC does not go on to what depends on its stage. Tables that are not ready at all are left out.
    """
    ready = []
    for table in study.tables:
        try:
            for measure in (Stages(study, workspace).evaluate, Stages(study, workspace).sharpness):
                measure(table)
            ready.append(table)
        except FailedItemsError as error:
            print(error)
            ready.append(table)
        except (NotReadyError, DataError) as error:
            print(f"report: {table} is left out: {error}")
    if not ready:
        raise NotReadyError("no table has a trained run: there is nothing to report yet")
    _write_page(study.only(ready), workspace, workspace.results / "partial", partial=True)


def _write_page(study: Study, workspace: Workspace, out: Path, *, partial: bool) -> None:
    """Write the page; where it is partial, what it links too, since no ``aggregate`` has written that."""
    runs = all_runs(study, workspace)
    measured = frames.runs_frame(runs, as_seen(_views(study, runs, workspace)))
    tables, shifts = frames.table_infos(study, runs, workspace), frames.shifts_frame(runs, workspace)
    primary = study.params.claims.primary
    if partial:
        seconds = frames.seconds_frame(runs, workspace)
        aggregate(measured, tables, seconds, workspace.claims, out, shifts, primary)
    report(
        measured,
        tables,
        frames.histories(runs, workspace),
        workspace.claims,
        out,
        commands=_commands(workspace),
        partial=partial,
        shifts=shifts,
        primary=primary,
    )
    print(f"report: {out / 'report.html'}")


def _commands(workspace: Workspace) -> list[str]:
    """Return what a reader types to get the same page."""
    preset = preset_in_place(workspace)
    return ["make environment", *([f"flatmin use {preset}"] if preset else []), "dvc repro"]


def all_runs(study: Study, workspace: Workspace) -> list[KeyedRun]:
    """Return the runs of all tables of the study."""
    return [run for table in study.tables for run in planned_runs(study, table, workspace)]


def _titles(study: Study) -> dict[str, str]:
    """Return the question of every table."""
    return {name: study.table(name).title or name for name in study.tables}


def _views(study: Study, runs: Sequence[KeyedRun], workspace: Workspace) -> list[TrackedRun]:
    trials = [view for table in study.tables for view in trial_views(study, table, workspace)]
    return unique([*views(runs, workspace), *trials])
