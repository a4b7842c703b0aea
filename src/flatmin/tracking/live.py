"""Runs shown in MLflow while they train."""

from __future__ import annotations

import queue
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flatmin.tracking import tracker as store
from flatmin.tracking.seen import TrackedRun
from flatmin.tracking.server import tracking_uri, warn


class LiveView:
    """Shows runs in MLflow while they train: an observer of the fan-out with a thread of its own.

    Args:
        root: the project's folder.
        runs: what is known of each run before it starts, by run key.
    """

    def __init__(self, root: Path, runs: Mapping[str, TrackedRun], every: float = 2.0) -> None:
        from flatmin.progress import Watch

        self.root, self.runs, self.every = root, runs, every
        self.waiting: queue.SimpleQueue[tuple[str, Sequence[Mapping[str, float]]]] = queue.SimpleQueue()
        self.watch = Watch(lambda job, rows: self.waiting.put((job.key, rows)), every)
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._follow, name="mlflow-view", daemon=True)

    def begin(self, jobs: Sequence[Any], fresh: int) -> None:
        """Start to follow the jobs."""
        if jobs:
            self.watch.start(jobs)
            self.thread.start()

    def end(self, job: Any, reason: str | None) -> None:
        """Stop following a job; the synchronisation after the stage completes what MLflow shows of it."""
        self.watch.forget(job)

    def close(self) -> None:
        """End the view; what is not written yet is left to the next synchronisation."""
        self.watch.stop()
        self.done.set()
        if self.thread.is_alive():
            self.thread.join()

    def _follow(self) -> None:
        tracker = store.connect(self.root)
        while tracker is not None and not self.done.is_set():
            try:
                self._write(tracker)
            except Exception as error:
                warn(tracking_uri(self.root), error)
                return
            self.done.wait(self.every)

    def _write(self, tracker: store.Tracker) -> None:
        while not self.waiting.empty() and not self.done.is_set():
            key, rows = self.waiting.get()
            run = self.runs[key]
            tracker.extend(run, rows)
