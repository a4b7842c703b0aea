"""The MLflow view of the records: one run per run key, found and updated, never duplicated.

Only the driver writes, in batches. Whatever is lost here, records hold: a missing or stale MLflow store is rebuilt from
them, and a server that does not answer delays the view and fails nothing.
"""

from __future__ import annotations

import math
import os
import queue
import subprocess
import threading
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# set before mlflow is imported: no telemetry, and a dead server is noticed in seconds
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")

EXPERIMENT = "flatmin"
ANSWER_SECONDS = 3.0
BATCH = 1000
"""Metrics that MLflow takes in one call."""

EPOCHS = "flatmin.epochs"
"""The tag that says up to which epoch a run's curve is written."""

CURVES = "epoch/"
"""Prefix of the metrics by epoch."""

Curve = Sequence[Mapping[str, float | int | None]]


class TrackingWarning(UserWarning):
    """MLflow could not be reached; the study goes on without it."""


@dataclass(frozen=True)
class TrackedRun:
    """One run as MLflow shows it.

    Attributes:
        key: the run key.
        name: the run id.
        tags: by name without the prefix ``flatmin.``.
        params: resolved settings, nested.
        metrics: final numbers; None where undefined.
        curve: a row per epoch.
    """

    key: str
    name: str
    tags: Mapping[str, str]
    params: Mapping[str, Any]
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    curve: Curve = ()


def tracking_uri(root: Path) -> str:
    """Return ``MLFLOW_TRACKING_URI``, or the study's own SQLite file."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{root.absolute()}/mlflow.db"


def answers(uri: str) -> bool:
    """Return whether a tracking server answers at all; a file always does."""
    if not uri.startswith(("http://", "https://")):
        return True
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=ANSWER_SECONDS):
            return True
    except urllib.error.HTTPError:
        return True  # it answers; what it says of this path is its own affair
    except OSError:
        return False


def flatten(nested: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted name, value) of nested settings, None left out."""
    for name, value in nested.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{name}.")
        elif value is not None:
            yield f"{prefix}{name}", value


class Tracker:
    """Writes to and reads from one experiment of one MLflow store."""

    def __init__(self, uri: str, root: Path = Path()) -> None:
        from mlflow import MlflowClient

        self.client = MlflowClient(tracking_uri=uri)
        self.commit = _git_commit(root)
        self.experiment = self._experiment()
        self.known = {run.data.tags.get("flatmin.run_key", ""): run for run in self._all_runs()}
        self.epochs = {key: int(run.data.tags.get(EPOCHS, 0)) for key, run in self.known.items()}

    def _experiment(self) -> str:
        found = self.client.get_experiment_by_name(EXPERIMENT)
        if found is not None:
            return str(found.experiment_id)
        # the UI opens in its view for language models otherwise
        tags = {"mlflow.experimentKind": "custom_model_development"}
        return str(self.client.create_experiment(EXPERIMENT, tags=tags))

    def _all_runs(self) -> Iterator[Any]:
        token = None
        while True:
            page = self.client.search_runs([self.experiment], max_results=1000, page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    def synchronise(self, runs: Iterable[TrackedRun]) -> None:
        """Bring MLflow to hold exactly these runs as planned ones; others stay, marked as not planned."""
        planned = {run.key: run for run in runs}
        for run in planned.values():
            self.write(run)
        for key, found in self.known.items():
            if key not in planned and found.data.tags.get("flatmin.planned") != "false":
                self.client.set_tag(found.info.run_id, "flatmin.planned", "false")
                found.data.tags["flatmin.planned"] = "false"

    def extend(self, run: TrackedRun, rows: Curve) -> None:
        """Append rows to the curve of a run in progress."""
        found = self.known.get(run.key) or self._create(run)
        self._log(found, run.key, {}, rows, {})

    def write(self, run: TrackedRun) -> None:
        """Write what MLflow does not hold of a finished run yet; a number that the run has no more becomes NaN."""
        found = self.known.get(run.key) or self._create(run)
        held = _final(found)
        metrics = {name: value for name, value in run.metrics.items() if value is not None}
        missing = {name: value for name, value in metrics.items() if held.get(name) != value}
        missing |= dict.fromkeys(held.keys() - metrics.keys(), math.nan)
        tags = {f"flatmin.{name}": value for name, value in run.tags.items()}
        stale = {name: value for name, value in tags.items() if found.data.tags.get(name) != value}
        self._log(found, run.key, missing, run.curve, stale)
        if found.info.status != "FINISHED":
            self.client.set_terminated(found.info.run_id)

    def _create(self, run: TrackedRun) -> Any:
        from mlflow.entities import Param

        tags = {"flatmin.run_key": run.key, **{f"flatmin.{name}": value for name, value in run.tags.items()}}
        tags["mlflow.source.name"] = f"flatmin {'select' if run.tags.get('role') == 'trial' else 'train'}"
        tags["mlflow.source.type"] = "LOCAL"
        if self.commit:
            tags["mlflow.source.git.commit"] = self.commit
        found = self.client.create_run(self.experiment, run_name=run.name, tags=tags)
        params = [Param(name, str(value)) for name, value in flatten(run.params)]
        self.client.log_batch(found.info.run_id, params=params)
        self.known[run.key] = found
        return found

    def _log(self, found: Any, key: str, metrics: Mapping[str, float], curve: Curve, tags: Mapping[str, str]) -> None:
        """Log final numbers, the epochs that MLflow does not hold yet, and tags, in as few calls as it takes."""
        from mlflow.entities import Metric, RunTag

        start, now = found.info.start_time, int(time.time() * 1000)
        # of two values at one time MLflow shows the larger, so that a new value needs a later time
        points = [
            Metric(name, float(value), now if name in found.data.metrics else start, 0)
            for name, value in metrics.items()
        ]
        rows = [row for row in curve if int(row["epoch"] or 0) > self.epochs.get(key, 0)]
        for row in rows:
            epoch = int(row["epoch"] or 0)
            # a time that is a function of run and epoch: MLflow takes a point that is written twice for one
            points += [
                Metric(f"{CURVES}{name}", float(value), start + 1000 * epoch, epoch)
                for name, value in row.items()
                if name != "epoch" and value is not None
            ]
        for i in range(0, len(points), BATCH):
            self.client.log_batch(found.info.run_id, metrics=points[i : i + BATCH])
        if rows:  # a resumed run may go back in them
            self.epochs[key] = max(int(row["epoch"] or 0) for row in rows)
            tags = {**tags, EPOCHS: str(self.epochs[key])}
        if tags:
            self.client.log_batch(found.info.run_id, tags=[RunTag(name, value) for name, value in tags.items()])
        found.data.metrics.update(metrics)
        found.data.tags.update(tags)

    def planned(self) -> Seen:
        """Return what MLflow holds of the planned runs by run key: ``metrics``, ``params`` and ``tags``."""
        found = {}
        for run in self._all_runs():
            if run.data.tags.get("flatmin.planned") == "true":
                key = run.data.tags["flatmin.run_key"]
                found[key] = {"metrics": _final(run), "params": run.data.params, "tags": run.data.tags}
        return found


def _final(found: Any) -> dict[str, float]:
    """Return the final numbers that MLflow holds of a run, without its curve and what is NaN."""
    metrics: Mapping[str, float] = found.data.metrics
    return {name: v for name, v in metrics.items() if not name.startswith(CURVES) and not math.isnan(v)}


Seen = dict[str, dict[str, Any]]
"""What is known of each run, by run key: its ``metrics``, ``params`` and ``tags``."""


def synchronised(tracker: Tracker, runs: Sequence[TrackedRun]) -> Seen:
    """Bring MLflow up to date with ``runs`` and return what it holds of them; without it where it fails on the way."""
    try:
        tracker.synchronise(runs)
        return tracker.planned()
    except Exception as error:
        warn(str(tracker.client.tracking_uri), error)
        return as_seen(runs)


def as_seen(runs: Iterable[TrackedRun]) -> Seen:
    """Return the runs as MLflow would show them, without asking it."""
    return {
        run.key: {
            "metrics": {name: value for name, value in run.metrics.items() if value is not None},
            "params": {name: str(value) for name, value in flatten(run.params)},
            "tags": {f"flatmin.{name}": value for name, value in run.tags.items()},
        }
        for run in runs
    }


def connect(root: Path) -> Tracker | None:
    """Return a tracker, or None with a warning where MLflow cannot be reached."""
    uri = tracking_uri(root)
    try:
        if not answers(uri):
            raise ConnectionError("no answer")
        return Tracker(uri, root)
    except Exception as error:
        warn(uri, error)
        return None


def _git_commit(root: Path) -> str | None:
    """Return the commit that is checked out, or None outside of a clone."""
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def warn(uri: str, error: Exception) -> None:
    """Say that the MLflow view is late, and how it catches up."""
    warnings.warn(
        TrackingWarning(
            f"MLflow at {uri} cannot be written ({error}); the records are complete, and `flatmin aggregate` brings "
            "MLflow up to date when it answers again"
        ),
        stacklevel=2,
    )


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
        tracker = connect(self.root)
        while tracker is not None and not self.done.is_set():
            try:
                self._write(tracker)
            except Exception as error:
                warn(tracking_uri(self.root), error)
                return
            self.done.wait(self.every)

    def _write(self, tracker: Tracker) -> None:
        while not self.waiting.empty() and not self.done.is_set():
            key, rows = self.waiting.get()
            run = self.runs[key]
            tracker.extend(run, rows)
