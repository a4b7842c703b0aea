"""What MLflow shows beside the runs' numbers: notes with verdicts, tables and figures, saved searches."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from flatmin.tracking import notes, searches
from flatmin.tracking.seen import TrackedRun
from flatmin.tracking.server import warn
from flatmin.tracking.tracker import Tracker

OF_THE_STUDY = ("report.html", "report.md", "claims.md", "claims.json", "cost.md", "cost.csv")
MACHINE_LEARNING = "workflowType=machine_learning"
"""Of an address: the UI of MLflow shows its view for language models without it, whatever an experiment's tags say."""


def present(tracker: Tracker, runs: Sequence[TrackedRun], tables: Mapping[str, str], results: Path) -> None:
    """Bring notes, summaries and saved searches up to date with what lies in ``results``; warns where that fails.

    Args:
        tracker: holds the runs.
        runs: the study's runs and trials.
        tables: the titles of the study's tables by name.
        results: the folder with ``claims.json``, ``tables/`` and ``figures/``; what is not there yet is not shown.
    """
    try:
        claims = notes.read_claims(results / "claims.json")
        tracker.describe({run.key: notes.with_claims(run.note, run.tags, claims) for run in runs})
        _summarise(tracker, tables, results)
        _describe_experiment(tracker, [*tables])
    except Exception as error:
        warn(tracker.uri, error)


def _summarise(tracker: Tracker, tables: Mapping[str, str], results: Path) -> None:
    printed = sorted((results / "tables").glob("*.*"))
    figures = sorted((results / "figures").glob("*.svg"))
    of_table = {file: file.name.split(".")[0] for file in printed} | {f: owner(f.stem, tables) for f in figures}
    for table, title in tables.items():
        page = results / "tables" / f"{table}.md"
        text = page.read_text(encoding="utf-8") if page.exists() else ""
        files = [file for file, name in of_table.items() if name == table]
        tracker.summarise(table, f"table {table}", notes.table_note(table, title, text), _placed(files, results))
    files = [file for file in (results / name for name in OF_THE_STUDY) if file.exists()]
    files += [file for file, name in of_table.items() if name not in tables]
    tracker.summarise("", "the whole study", notes.study_note(tables), _placed(files, results))
    tracker.drop_summaries(["", *tables])


def owner(figure: str, tables: Collection[str]) -> str | None:
    """Return the table that a figure is of, by its name ``<table>-<kind>``; None for one of the whole study."""
    return max((table for table in tables if figure.startswith(f"{table}-")), key=len, default=None)


def _placed(files: Sequence[Path], results: Path) -> dict[str, Path]:
    return {file.relative_to(results).as_posix(): file for file in files}


def _describe_experiment(tracker: Tracker, tables: Sequence[str]) -> None:
    saved = searches.of_tables(tables)
    addresses = {
        search.id: f"{runs_page(tracker.experiment)}&viewStateShareKey=flatmin-{search.id}" for search in saved
    }
    note = searches.experiment_note(saved, addresses)
    tracker.describe_experiment(note, searches.view_tags(saved), searches.PREFIX)


def runs_page(experiment: str) -> str:
    """Return the address of the page of runs, without the server."""
    return f"#/experiments/{experiment}/runs?{MACHINE_LEARNING}"
