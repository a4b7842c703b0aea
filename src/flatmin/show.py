"""``flatmin show``: one run on one screen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from flatmin import frames
from flatmin.collect import measured, read_history, views
from flatmin.errors import FlatminError, nearest
from flatmin.planning import KeyedRun, planned_runs
from flatmin.records import read_head
from flatmin.results.diagnosis import COMPARISONS, Finding, diagnose, diagnose_run
from flatmin.study import Study
from flatmin.tracking import as_seen, flatten
from flatmin.workspace import Workspace

CURVE = ("train_loss", "train_accuracy", "validation_accuracy", "memorised")
MARKS = " ▁▂▃▄▅▆▇█"


def show_run(study: Study, workspace: Workspace, wanted: str) -> None:
    """Print the run whose id is ``wanted`` or begins with it; a list where several do.

    Raises:
        FlatminError: no planned run matches.
    """
    runs = [run for table in study.tables for run in planned_runs(study, table, workspace)]
    matches = [run for run in runs if run.id.startswith(wanted)]
    console = Console()
    if not matches:
        raise FlatminError(f"no planned run begins with {wanted!r}: {nearest(wanted, {run.id for run in runs})}")
    if len({run.id for run in matches}) > 1:
        _list(console, matches, workspace)
    else:
        _show(console, matches[0], study, workspace)


def _list(console: Console, runs: Sequence[KeyedRun], workspace: Workspace) -> None:
    for run in runs:
        trained = (workspace.runs(run.plan.table) / run.id / "record.json").exists()
        console.print(f"{run.id}  {'trained' if trained else 'not trained yet'}", highlight=False)


def _show(console: Console, run: KeyedRun, study: Study, workspace: Workspace) -> None:
    folder = workspace.runs(run.plan.table) / run.id
    console.print(f"[bold]{run.id}[/bold]   table {run.plan.table}   key {run.key}", highlight=False, soft_wrap=True)
    console.print(_two_columns("settings", flatten(run.plan.settings.model_dump(mode="json"))))
    if not (folder / "record.json").exists():
        console.print(f"not trained yet: `flatmin train {run.plan.table}`")
        return
    record = read_head(folder / "record.json")
    console.print(_two_columns("measured", measured(run, record, workspace).items()))
    history = read_history(folder / "history.csv")
    for name in CURVE:
        values = [row[name] for row in history]
        known = [value for value in values if value is not None]
        if known:
            line = f"{name:20} {_sparkline(values)}  {known[0]:.4g} -> {known[-1]:.4g}"
            console.print(line, highlight=False, soft_wrap=True)
    _print_findings(console, *findings(run, study, workspace))


def findings(run: KeyedRun, study: Study, workspace: Workspace) -> tuple[list[Finding], list[Finding]]:
    """Return what is wrong with a trained run, and what only a comparison of its method's runs shows."""
    table = run.plan.table
    runs = planned_runs(study, table, workspace)
    info = frames.table_infos(study.only([table]), runs, workspace)[table]
    row = [other for other in runs if (other.plan.dataset, other.plan.model) == (run.plan.dataset, run.plan.model)]
    measurements, histories = frames.runs_frame(row, as_seen(views(row, workspace))), frames.histories(row, workspace)
    compared = [
        finding
        for finding in diagnose(measurements, histories, {table: info})
        if finding.method == run.plan.method and finding.symptom in COMPARISONS
    ]
    own = diagnose_run(run.id, measurements, histories, info)
    return [finding for finding in own if finding.symptom not in COMPARISONS], compared


def _print_findings(console: Console, own: Iterable[Finding], compared: Iterable[Finding]) -> None:
    found = [("this run", finding) for finding in own]
    found += [(f"all runs of {finding.method}", finding) for finding in compared]
    console.print("[italic]diagnosis[/italic]" if found else "[italic]diagnosis[/italic]: no rule finds anything wrong")
    for whom, finding in found:
        console.print(Text(f"{finding.severity}, {whom}: {finding.title}", style="bold"))
        parts = Table.grid(padding=(0, 2))
        for name in ("evidence", "cause", "advice"):
            parts.add_row(f"  {name}", Text(getattr(finding, name)))
        console.print(parts)


def _two_columns(title: str, values: object) -> Table:
    table = Table(title=title, title_justify="left", show_header=False, box=None, pad_edge=False)
    for name, value in values:  # type: ignore[attr-defined]
        table.add_row(name, f"{value:.6g}" if isinstance(value, float) else str(value))
    return table


def _sparkline(values: Sequence[float | None], width: int = 60) -> str:
    known = [value for value in values if value is not None]
    low, high = min(known), max(known)
    picked = [values[round(i * (len(values) - 1) / max(1, width - 1))] for i in range(min(width, len(values)))]
    span = (high - low) or 1.0
    return "".join("?" if v is None else MARKS[1 + round((v - low) / span * (len(MARKS) - 2))] for v in picked)
