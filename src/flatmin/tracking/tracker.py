"""`Tracker`: the one writer, and reader, of the study's experiment in one MLflow store."""

from __future__ import annotations

import hashlib
import math
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from flatmin.tracking import server
from flatmin.tracking.seen import Curve, Seen, TrackedRun, as_seen, params_of, tags_of
from flatmin.tracking.server import EXPERIMENT, FILE, warn

BATCH = 1000
"""Metrics that MLflow takes in one call."""

KEY = "flatmin.run_key"
"""The tag that a run is found by."""

SUMMARY = "flatmin.summary"
"""The tag that a summary is found by: the table's name, or empty for the whole study."""

EPOCHS = "flatmin.epochs"
"""The tag that says up to which epoch a run's curve is written."""

NOTE = "mlflow.note.content"
"""What MLflow shows as the description of a run or of an experiment."""

NOTED = "flatmin.noted"
"""The tag with the digest of the note that was written: another one is a reader's own, and stays."""

FILES = "flatmin.files"
"""The tag with the digest of a summary's files."""

CURVES = "epoch/"
"""Prefix of the metrics by epoch."""


class Tracker:
    """Writes to and reads from one experiment of one MLflow store."""

    def __init__(self, uri: str, root: Path = Path()) -> None:
        from mlflow import MlflowClient

        self.client = MlflowClient(tracking_uri=uri)
        self.uri = uri
        self.commit = _git_commit(root)
        self.experiment = self._experiment(root)
        runs = list(self._all_runs())
        self.known = {run.data.tags[KEY]: run for run in runs if KEY in run.data.tags}
        self.summaries = {run.data.tags[SUMMARY]: run for run in runs if SUMMARY in run.data.tags}
        self.epochs = {key: int(run.data.tags.get(EPOCHS, 0)) for key, run in self.known.items()}
        self.statuses = {run.info.run_id: run.info.status for run in runs}

    def _experiment(self, root: Path) -> str:
        found = self.client.get_experiment_by_name(EXPERIMENT)
        if found is not None:
            return str(found.experiment_id)
        # a server has a place of its own for files
        place = (root.absolute() / "mlruns").as_uri() if self.uri.startswith(FILE) else None
        # for UIs that go by it: the others are told by the address (`present.runs_page`)
        tags = {"mlflow.experimentKind": "custom_model_development"}
        return str(self.client.create_experiment(EXPERIMENT, artifact_location=place, tags=tags))

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
        self._drop(found for key, found in self.known.items() if key not in planned)

    def _drop(self, runs: Iterable[Any]) -> None:
        for found in runs:
            self._tag(found, {"flatmin.planned": "false"})

    def extend(self, run: TrackedRun, rows: Curve) -> None:
        """Append rows to the curve of a run in progress."""
        found = self.known.get(run.key) or self._create(run)
        self._status(found, "RUNNING")
        self._log(found, run.key, {}, rows, {})

    def write(self, run: TrackedRun) -> None:
        """Write what MLflow does not hold of a run yet; a number that the run has no more becomes NaN.

        A run without numbers is scheduled, one with numbers finished.
        """
        found = self.known.get(run.key) or self._create(run)
        held = _final(found)
        metrics = {name: value for name, value in run.metrics.items() if value is not None}
        missing = {name: value for name, value in metrics.items() if held.get(name) != value}
        missing |= dict.fromkeys(held.keys() - metrics.keys(), math.nan)
        self._add_params(found, run)
        self._log(found, run.key, missing, run.curve, tags_of(run))
        self._status(found, "FINISHED" if run.metrics else "SCHEDULED", run.seconds)

    def _create(self, run: TrackedRun) -> Any:
        source = f"flatmin {'select' if run.tags.get('role') == 'trial' else 'train'}"
        found = self._new_run(run.name, {KEY: run.key, **tags_of(run), **_noted(run.note, {})}, source)
        self.known[run.key] = found
        self._add_params(found, run)
        return found

    def _new_run(self, name: str, tags: Mapping[str, str], source: str) -> Any:
        tags = {**tags, "mlflow.source.name": source, "mlflow.source.type": "LOCAL"}
        if self.commit:
            tags["mlflow.source.git.commit"] = self.commit
        return self.client.create_run(self.experiment, run_name=name, tags=tags)

    def _add_params(self, found: Any, run: TrackedRun) -> None:
        """Add the settings that MLflow lacks of a run; it changes none that it has."""
        from mlflow.entities import Param

        missing = {name: value for name, value in params_of(run).items() if name not in found.data.params}
        if missing:
            self.client.log_batch(found.info.run_id, params=[Param(*setting) for setting in missing.items()])
            found.data.params.update(missing)

    def _status(self, found: Any, status: str, seconds: float | None = None) -> None:
        """Set a run's status; one that finished lasted as long as its training took."""
        run_id = found.info.run_id
        if self.statuses.get(run_id) == status:
            return
        if status == "FINISHED":
            end = None if seconds is None else found.info.start_time + round(1000 * seconds)
            self.client.set_terminated(run_id, end_time=end)
        else:
            self.client.update_run(run_id, status=status)
        self.statuses[run_id] = status

    def _log(self, found: Any, key: str, metrics: Mapping[str, float], curve: Curve, tags: Mapping[str, str]) -> None:
        """Log final numbers, the epochs that MLflow does not hold yet, and tags, in as few calls as it takes."""
        from mlflow.entities import Metric

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
        self._tag(found, tags)
        found.data.metrics.update(metrics)

    def _tag(self, found: Any, tags: Mapping[str, str]) -> None:
        """Set the tags that MLflow does not hold like this."""
        from mlflow.entities import RunTag

        stale = {name: value for name, value in tags.items() if found.data.tags.get(name) != value}
        if stale:
            self.client.log_batch(found.info.run_id, tags=[RunTag(name, value) for name, value in stale.items()])
            found.data.tags.update(stale)

    def planned(self) -> Seen:
        """Return what MLflow holds of the planned runs by run key: ``metrics``, ``params`` and ``tags``."""
        found = {}
        for run in self._all_runs():
            if KEY in run.data.tags and run.data.tags.get("flatmin.planned") == "true":
                key = run.data.tags[KEY]
                found[key] = {"metrics": _final(run), "params": run.data.params, "tags": run.data.tags}
        return found

    def describe(self, notes: Mapping[str, str]) -> None:
        """Write the notes of runs, by run key; a note that a reader wrote over stays as it is."""
        for key in notes.keys() & self.known.keys():
            self._tag(self.known[key], _noted(notes[key], self.known[key].data.tags))

    def describe_experiment(self, note: str, tags: Mapping[str, str], prefix: str) -> None:
        """Write the experiment's note and tags, and remove other tags that begin with ``prefix``."""
        held = self.client.get_experiment(self.experiment).tags
        for name, value in {**tags, **_noted(note, held)}.items():
            if held.get(name) != value:
                self.client.set_experiment_tag(self.experiment, name, value)
        for name in [name for name in held if name.startswith(prefix) and name not in tags]:
            self.client.delete_experiment_tag(self.experiment, name)

    def summarise(self, table: str, name: str, note: str, files: Mapping[str, Path]) -> None:
        """Bring the summary of a table, or of the whole study where ``table`` is empty, to hold a note and files.

        Args:
            table: the table.
            name: what the summary is called.
            note: Markdown.
            files: by their place among the artifacts, such as ``figures/quick-curves.svg``.
        """
        tags = {SUMMARY: table, "flatmin.role": "summary", "flatmin.planned": "true"}
        tags |= {"flatmin.table": table, "flatmin.tables": table} if table else {}
        found = self.summaries.get(table) or self._new_run(name, tags, "flatmin report")
        self.summaries[table] = found
        digest = _files_digest(files)
        if found.data.tags.get(FILES) != digest:
            self._replace_files(found, files)
        self._tag(found, {**tags, FILES: digest, **_noted(note, found.data.tags)})
        self._status(found, "FINISHED", 0.0)

    def drop_summaries(self, tables: Iterable[str]) -> None:
        """Mark the summaries of all but these tables as not planned."""
        kept = {*tables}
        self._drop(found for table, found in self.summaries.items() if table not in kept)

    def _replace_files(self, found: Any, files: Mapping[str, Path]) -> None:
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        run_id = found.info.run_id
        folders = [item.path for item in self.client.list_artifacts(run_id) if item.is_dir]
        held = [item.path for folder in ("", *folders) for item in self.client.list_artifacts(run_id, folder)]
        place = get_artifact_repository(found.info.artifact_uri, tracking_uri=self.uri)
        for path in {*held} - {*folders} - {*files}:
            place.delete_artifacts(path)
        for path, file in files.items():
            self.client.log_artifact(run_id, str(file), str(Path(path).parent) if "/" in path else None)


def _final(found: Any) -> dict[str, float]:
    """Return the final numbers that MLflow holds of a run, without its curve and what is NaN."""
    metrics: Mapping[str, float] = found.data.metrics
    return {name: v for name, v in metrics.items() if not name.startswith(CURVES) and not math.isnan(v)}


def _noted(note: str, held: Mapping[str, str]) -> dict[str, str]:
    """Return the tags that bring a note to what it should be; none where a reader wrote one of their own."""
    there = held.get(NOTE)
    if there and _digest(there.encode()) != held.get(NOTED):
        return {}
    return {NOTE: note, NOTED: _digest(note.encode())}


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _files_digest(files: Mapping[str, Path]) -> str:
    parts = [path.encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest() for path, file in files.items()]
    return _digest(b"".join(sorted(parts)))


def synchronised(tracker: Tracker, runs: Sequence[TrackedRun]) -> Seen:
    """Bring MLflow up to date with ``runs`` and return what it holds of them; without it where it fails on the way."""
    try:
        tracker.synchronise(runs)
        return tracker.planned()
    except Exception as error:
        warn(tracker.uri, error)
        return as_seen(runs)


def connect(root: Path) -> Tracker | None:
    """Return a tracker, or None with a warning where MLflow cannot be reached."""
    uri = server.tracking_uri(root)
    try:
        if not server.answers(uri):
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
