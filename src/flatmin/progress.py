"""What a stage shows while it works: items done, the epoch of each run in progress, the time that is left.

On a terminal it is a bar that moves; elsewhere (a log, CI) a line now and then.
"""

from __future__ import annotations

import csv
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from flatmin.executor import Job

Row = dict[str, float]
"""One line of a training's history, by column name; an empty cell is left out."""


class RowReader:
    """Reads the rows that a worker appends to its progress file, each once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.offset = 0
        self.columns: list[str] = []

    def new_rows(self) -> list[Row]:
        """Return the complete rows appended since the last call."""
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                chunk = file.read()
        except FileNotFoundError:
            return []
        complete = chunk[: chunk.rfind(b"\n") + 1]
        self.offset += len(complete)
        lines = list(csv.reader(complete.decode().splitlines()))
        if lines and not self.columns:
            self.columns = lines.pop(0)
        return [{k: float(v) for k, v in zip(self.columns, line, strict=False) if v != ""} for line in lines]


class Watch:
    """Follows the progress files of the jobs in a thread and hands new rows to ``on_rows``."""

    def __init__(self, on_rows: Callable[[Job, list[Row]], None], every: float = 1.0) -> None:
        self.on_rows, self.every = on_rows, every
        self.readers: dict[Job, RowReader] = {}
        self.done = threading.Event()
        self.thread: threading.Thread | None = None

    def start(self, jobs: Sequence[Job]) -> None:
        """Begin to follow the jobs."""
        self.readers = {job: RowReader(job.workplace.progress) for job in jobs}
        self.thread = threading.Thread(target=self._follow, name="progress-watch", daemon=True)
        self.thread.start()

    def forget(self, job: Job) -> None:
        """Stop following a job that has ended."""
        self.readers.pop(job, None)

    def stop(self) -> None:
        """End the thread."""
        self.done.set()
        if self.thread is not None:
            self.thread.join()

    def _follow(self) -> None:
        while not self.done.wait(self.every):
            for job, reader in list(self.readers.items()):
                rows = reader.new_rows()
                if rows:
                    self.on_rows(job, rows)


class ShowProgress:
    """The observer that tells a person how far a stage is."""

    def __init__(self, stage: str, *, console: Console | None = None, line_every: float = 10.0) -> None:
        self.stage = stage
        self.console = console or Console(file=sys.stdout)
        self.line_every = line_every
        self.running: dict[str, int] = {}
        self.epochs: dict[str, int] = {}
        self.done = self.failed = self.fresh = self.total = 0
        self.watch = Watch(self._rows)
        self.started = self.last_line = time.monotonic()
        self.bar: Progress | None = None
        self.task: TaskID | None = None

    def begin(self, jobs: Sequence[Job], fresh: int) -> None:
        """Say what there is to do."""
        self.total, self.fresh = len(jobs), fresh
        self.epochs = {job.id: _epochs(job) for job in jobs}
        self.console.print(f"{self.stage}: {self.total} to do, {fresh} up to date", highlight=False, soft_wrap=True)
        if not jobs:
            return
        self.started = self.last_line = time.monotonic()
        if self.console.is_terminal:
            self.bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.fields[left]}"),
                TextColumn("[dim]{task.fields[running]}"),
                console=self.console,
            )
            self.task = self.bar.add_task(self.stage, total=self.total, left="", running="")
            self.bar.start()
        self.watch.start(jobs)

    def _rows(self, job: Job, rows: list[Row]) -> None:
        if job not in self.watch.readers:  # it ended while its rows were read
            return
        self.running[job.id] = int(rows[-1].get("epoch", 0))
        self._show()

    def end(self, job: Job, reason: str | None) -> None:
        """Count a job."""
        self.watch.forget(job)
        self.running.pop(job.id, None)
        self.done += reason is None
        self.failed += reason is not None
        if reason is not None:
            self.console.print(Text(f"{self.stage}: {job.id} failed: {reason}", style="red"), soft_wrap=True)
        self._show()

    def _show(self) -> None:
        ended = self.done + self.failed
        if self.bar is not None and self.task is not None:
            self.bar.update(self.task, completed=ended, left=self._left(), running=self._running())
        elif time.monotonic() - self.last_line >= self.line_every and ended < self.total:
            self.last_line = time.monotonic()
            self.console.print(
                f"{self.stage}: {ended} of {self.total} done, {self._left()}  {self._running()}".rstrip(),
                highlight=False,
                soft_wrap=True,
            )

    def _left(self) -> str:
        """Estimate the time that is left from the share that is done, epochs of running items included."""
        share = self.done + self.failed + sum(e / max(1, self.epochs[i]) for i, e in list(self.running.items()))
        if not share:
            return "estimating"
        seconds = (time.monotonic() - self.started) * (self.total - share) / share
        return f"{duration(seconds)} left"

    def _running(self) -> str:
        shown = [f"{i} {e}/{self.epochs[i]}" for i, e in list(self.running.items())[:2] if self.epochs[i]]
        more = len(self.running) - len(shown)
        return "  ".join(shown) + (f"  and {more} more" if more > 0 and shown else "")

    def close(self) -> None:
        """Say what was done."""
        self.watch.stop()
        if self.bar is not None:
            self.bar.stop()
        if self.total:
            failed = f", {self.failed} failed" if self.failed else ""
            took = duration(time.monotonic() - self.started)
            self.console.print(
                f"{self.stage}: {self.done} of {self.total} done{failed}, {took}", highlight=False, soft_wrap=True
            )


def _epochs(job: Job) -> int:
    settings = job.task.get("settings")
    return int(settings["training"]["epochs"]) if isinstance(settings, dict) else 0


def duration(seconds: float) -> str:
    """Return a time that a person reads at a glance: ``42 s``, ``3 min 10 s``, ``2 h 5 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
