from __future__ import annotations

import json
import math
import os
import shutil
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flatmin import collect
from flatmin.executor import Job
from flatmin.keys import RunIdentity
from flatmin.planning import KeyedRun
from flatmin.records import seal
from flatmin.settings import (
    DatasetSpec,
    ModelSpec,
    ResolvedMethod,
    RunSettings,
    SymmetricNoise,
    TrainingSpec,
)
from flatmin.settings.data import ImageFolder
from flatmin.study import PlannedRun
from flatmin.tracking import (
    LiveView,
    TrackedRun,
    Tracker,
    TrackingWarning,
    as_seen,
    connect,
    flatten,
    server,
    synchronised,
)
from flatmin.tracking import tracker as store
from flatmin.tracking.seen import params_of
from flatmin.tracking.tracker import EPOCHS
from flatmin.training import history
from flatmin.workplace import Workplace
from flatmin.workspace import Workspace

CURVE = [
    {"epoch": 1, "lr": 0.1, "train_loss": 2.0000000000000004, "memorised": None},
    {"epoch": 2, "lr": 1 / 3, "train_loss": 1e-300, "memorised": 0.1},
    {"epoch": 3, "lr": 0.0, "train_loss": 12345.678901234567, "memorised": 0.2},
]


def run(key: str, **changes: Any) -> TrackedRun:
    first = TrackedRun(
        key=key,
        name=f"digits.mlp.sam.s0-{key}",
        tags={"planned": "true", "method": "sam", "seed": "0", "tables": "quick"},
        params={"training": {"lr": 0.1, "epochs": 3, "clip_norm": None}, "seed": 0},
        metrics={"test_accuracy": 0.1 + 0.2, "test_nll": 1 / 3, "sharpness": None, "diverged": 0.0},
        curve=CURVE,
    )
    return replace(first, **changes)


def final(seen: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """The final numbers by run key."""
    return {key: run["metrics"] for key, run in seen.items()}


def stored(uri: str) -> list[Any]:
    tracker = Tracker(uri)
    return list(tracker.client.search_runs([tracker.experiment]))


def the_run(uri: str, key: str) -> Any:
    (found,) = [run for run in stored(uri) if run.data.tags.get("flatmin.run_key") == key]
    return found


def points(uri: str, key: str, name: str) -> list[tuple[int, float]]:
    history = Tracker(uri).client.get_metric_history(the_run(uri, key).info.run_id, name)
    return [(point.step, point.value) for point in history]


# --- one run per key ----------------------------------------------------------------------------------------------


def test_a_run_has_its_name_tags_and_settings(uri: str) -> None:
    Tracker(uri).synchronise([run("a")])
    found = the_run(uri, "a")
    assert found.info.run_name == "digits.mlp.sam.s0-a"
    assert found.info.status == "FINISHED"
    assert found.data.params == {"training.lr": "0.1", "training.epochs": "3", "seed": "0"}
    tags = {name: found.data.tags[f"flatmin.{name}"] for name in ("planned", "method", "seed", "tables", "run_key")}
    assert tags == {"planned": "true", "method": "sam", "seed": "0", "tables": "quick", "run_key": "a"}


def test_there_is_one_run_per_key_after_any_number_of_synchronisations(uri: str) -> None:
    for _ in range(2):
        tracker = Tracker(uri)
        for _ in range(2):
            tracker.synchronise([run("a"), run("b")])
    assert sorted(found.data.tags["flatmin.run_key"] for found in stored(uri)) == ["a", "b"]


def test_a_second_synchronisation_writes_nothing(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Tracker(uri).synchronise([run("a"), run("b")])
    tracker = Tracker(uri)
    for name in ("log_batch", "set_tag", "create_run", "set_terminated", "update_run"):
        monkeypatch.setattr(tracker.client, name, lambda *args, **options: pytest.fail("it wrote"))
    tracker.synchronise([run("a"), run("b")])


@pytest.mark.parametrize("same_tracker", [True, False])
def test_a_dropped_run_stays_and_is_marked(uri: str, same_tracker: bool) -> None:
    tracker = Tracker(uri)
    tracker.synchronise([run("a"), run("b")])
    tracker = tracker if same_tracker else Tracker(uri)
    tracker.synchronise([run("b")])
    assert the_run(uri, "a").data.tags["flatmin.planned"] == "false"
    assert the_run(uri, "a").data.metrics["test_nll"] == 1 / 3
    assert list(Tracker(uri).planned()) == ["b"]


@pytest.mark.parametrize("same_tracker", [True, False])
def test_a_run_that_is_planned_again_is_marked_so(uri: str, same_tracker: bool) -> None:
    tracker = Tracker(uri)
    for planned in ([run("a"), run("b")], [run("b")], [run("a"), run("b")]):
        tracker = tracker if same_tracker else Tracker(uri)
        tracker.synchronise(planned)
    assert set(Tracker(uri).planned()) == {"a", "b"}
    assert len(stored(uri)) == 2


def test_a_run_is_dropped_and_planned_again_any_number_of_times(uri: str) -> None:
    tracker, both = Tracker(uri), [run("a"), run("b")]
    for _ in range(2):
        tracker.synchronise(both)
        assert set(Tracker(uri).planned()) == {"a", "b"}
        tracker.synchronise(both[1:])
        assert set(Tracker(uri).planned()) == {"b"}


def test_a_tag_that_changed_is_updated(uri: str) -> None:
    Tracker(uri).synchronise([run("a")])
    Tracker(uri).synchronise([run("a", tags={"planned": "true", "tables": "quick,noise"})])
    assert the_run(uri, "a").data.tags["flatmin.tables"] == "quick,noise"


def test_more_runs_than_a_page_holds_are_all_found(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Tracker(uri).synchronise([run(key, curve=()) for key in "abcde"])
    tracker = Tracker(uri)
    search = tracker.client.search_runs
    monkeypatch.setattr(
        tracker.client, "search_runs", lambda ids, max_results, page_token: search(ids, "", 1, 2, None, page_token)
    )
    assert sorted(found.data.tags["flatmin.run_key"] for found in tracker._all_runs()) == list("abcde")


def test_a_run_is_scheduled_then_running_then_finished(uri: str) -> None:
    planned = run("a", metrics={}, curve=())
    Tracker(uri).synchronise([planned])
    assert the_run(uri, "a").info.status == "SCHEDULED"
    Tracker(uri).extend(planned, CURVE[:1])
    assert the_run(uri, "a").info.status == "RUNNING"
    Tracker(uri).synchronise([run("a")])
    assert the_run(uri, "a").info.status == "FINISHED"


def test_a_finished_run_lasted_as_long_as_its_training(uri: str) -> None:
    Tracker(uri).synchronise([run("a", seconds=12.5)])
    info = the_run(uri, "a").info
    assert info.end_time - info.start_time == 12_500


def test_settings_that_an_older_version_did_not_write_are_added(uri: str) -> None:
    Tracker(uri).synchronise([run("a", params={"seed": 0})])
    Tracker(uri).synchronise([run("a", params={"seed": 0, "rho": "0.1"})])
    assert the_run(uri, "a").data.params == {"seed": "0", "rho": "0.1"}


def test_runs_that_are_not_ours_are_left_alone(uri: str) -> None:
    tracker = Tracker(uri)
    tracker.client.create_run(tracker.experiment, run_name="by hand")
    tracker = Tracker(uri)
    tracker.synchronise([run("a")])
    assert set(tracker.planned()) == {"a"}
    (foreign,) = [found for found in stored(uri) if found.info.run_name == "by hand"]
    assert not [name for name in foreign.data.tags if name.startswith("flatmin.")]


# --- numbers ------------------------------------------------------------------------------------------------------


def test_final_numbers_come_back_to_the_bit(uri: str) -> None:
    numbers = {"a": 0.1 + 0.2, "b": 1 / 3, "c": 5e-324, "d": 1.7976931348623157e308, "e": -1e-5, "f": 2.0**53 + 2}
    tracker = Tracker(uri)
    tracker.synchronise([run("a", metrics=numbers)])
    found = final(tracker.planned())["a"]
    assert {name: value.hex() for name, value in found.items()} == {n: float(v).hex() for n, v in numbers.items()}


def test_mlflow_holds_what_the_records_hold(uri: str) -> None:
    runs = [run("a"), run("b", metrics={"test_accuracy": 0.7})]
    tracker = Tracker(uri)
    seen = synchronised(tracker, runs)
    expected = as_seen(runs)
    assert final(seen) == final(expected)
    assert {key: value["params"] for key, value in seen.items()} == {k: v["params"] for k, v in expected.items()}
    for key, known in expected.items():
        assert known["tags"].items() <= seen[key]["tags"].items()


@pytest.mark.parametrize(("before", "after"), [(0.5, 0.75), (0.75, 0.5)], ids=["larger", "smaller"])
@pytest.mark.parametrize("same_tracker", [True, False])
def test_a_number_that_was_measured_anew_replaces_the_old_one(
    uri: str, before: float, after: float, same_tracker: bool
) -> None:
    tracker = Tracker(uri)
    tracker.synchronise([run("a", metrics={"test_ece": before})])
    tracker = tracker if same_tracker else Tracker(uri)
    runs = [run("a", metrics={"test_ece": after})]
    assert final(synchronised(tracker, runs)) == final(as_seen(runs))


def test_a_number_that_is_not_measured_any_more_is_not_read_back(uri: str) -> None:
    Tracker(uri).synchronise([run("a", metrics={"test_accuracy": 0.5, "sharpness_n_step": 0.25})])
    for metrics in ({"test_accuracy": 0.5, "sharpness_n_step": None}, {"test_accuracy": 0.5}):
        runs = [run("a", metrics=metrics)]
        assert final(synchronised(Tracker(uri), runs)) == {"a": {"test_accuracy": 0.5}}


def test_a_number_that_is_measured_again_is_read_back(uri: str) -> None:
    for metrics in ({"x": 0.5}, {}, {"x": 0.5}):
        seen = synchronised(Tracker(uri), [run("a", metrics=metrics)])
    assert final(seen) == {"a": {"x": 0.5}}


def test_a_store_rebuilt_from_nothing_is_the_same(uri: str, empty_store: Path, tmp_path: Path) -> None:
    runs = [run("a"), run("b")]
    synchronised(Tracker(uri), [run("a", metrics={"test_accuracy": 0.9}), run("c")])
    first = synchronised(Tracker(uri), runs)
    shutil.copy(empty_store, tmp_path / "new.db")
    second = synchronised(Tracker(f"sqlite:///{tmp_path}/new.db"), runs)
    assert final(first) == final(second) == final(as_seen(runs))
    assert {key: value["params"] for key, value in first.items()} == {k: v["params"] for k, v in second.items()}


# --- curves -------------------------------------------------------------------------------------------------------


def test_a_curve_has_a_point_per_epoch_to_the_bit(uri: str) -> None:
    Tracker(uri).synchronise([run("a")])
    assert points(uri, "a", "epoch/train_loss") == [(row["epoch"], row["train_loss"]) for row in CURVE]
    assert points(uri, "a", "epoch/memorised") == [(2, 0.1), (3, 0.2)]
    assert points(uri, "a", "epoch/epoch") == []


def test_points_written_live_are_not_written_again(uri: str) -> None:
    live = Tracker(uri)
    live.extend(run("a"), CURVE[:1])
    live.extend(run("a"), CURVE[1:2])
    Tracker(uri).synchronise([run("a")])
    assert [step for step, _ in points(uri, "a", "epoch/lr")] == [1, 2, 3]


def test_a_run_that_is_shown_live_is_not_finished(uri: str) -> None:
    Tracker(uri).extend(run("a"), CURVE[:1])
    assert the_run(uri, "a").info.status == "RUNNING"
    Tracker(uri).write(run("a"))
    assert the_run(uri, "a").info.status == "FINISHED"


def test_points_whose_writing_was_interrupted_are_written_once(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    live = Tracker(uri)
    live.extend(run("a"), CURVE[:1])
    log_batch = live.client.log_batch

    def without_tags(run_id: str, metrics: Sequence[Any] = (), **options: Any) -> None:
        if options:
            raise KeyboardInterrupt
        log_batch(run_id, metrics=metrics)

    monkeypatch.setattr(live.client, "log_batch", without_tags)
    with pytest.raises(KeyboardInterrupt):
        live.extend(run("a"), CURVE[1:2])
    assert [step for step, _ in points(uri, "a", "epoch/lr")] == [1, 2], "the points were written, the tag was not"
    Tracker(uri).synchronise([run("a")])
    assert [step for step, _ in points(uri, "a", "epoch/lr")] == [1, 2, 3]


def test_a_resumed_run_that_reports_its_epochs_again_adds_nothing(uri: str) -> None:
    tracker = Tracker(uri)
    tracker.extend(run("a"), CURVE[:2])
    tracker.extend(run("a"), [*CURVE[:1], *CURVE[:2]])
    tracker.extend(run("a"), CURVE)
    assert [step for step, _ in points(uri, "a", "epoch/lr")] == [1, 2, 3]
    assert the_run(uri, "a").data.tags[EPOCHS] == "3"


def test_rows_that_go_back_in_one_report_do_not_take_the_written_epochs_back(uri: str) -> None:
    tracker = Tracker(uri)
    tracker.extend(run("a"), [*CURVE, *CURVE[:1]])
    assert the_run(uri, "a").data.tags[EPOCHS] == "3"


def test_a_long_curve_is_written_in_batches_that_mlflow_takes(uri: str) -> None:
    curve = [{"epoch": epoch, "x": float(epoch), "y": 0.5} for epoch in range(1, 1202)]
    Tracker(uri).synchronise([run("a", curve=curve)])
    assert len(points(uri, "a", "epoch/x")) == len(points(uri, "a", "epoch/y")) == 1201


def job_for(key: str, folder: Path) -> Job:
    folder.mkdir()
    return Job(key, "train", key, {}, Workplace(folder, "t"), folder / "log")


def test_a_live_view_writes_epochs_while_they_are_trained(uri: str, tmp_path: Path) -> None:
    job = job_for("a", tmp_path / "work")
    view = LiveView(tmp_path, {"a": run("a")}, every=0.05)
    view.begin([job], fresh=0)
    history.append(job.workplace.progress, dict.fromkeys(history.COLUMNS, 0.5) | {"epoch": 1})
    reader = Tracker(uri)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and not any(found.data.metrics for found in reader._all_runs()):
        time.sleep(0.1)
    view.end(job, None)
    view.close()
    assert points(uri, "a", "epoch/train_loss") == [(1, 0.5)]
    assert not view.thread.is_alive()


def test_a_live_view_without_jobs_asks_no_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(store, "connect", lambda root: pytest.fail("it asked"))
    view = LiveView(tmp_path, {})
    view.begin([], fresh=3)
    view.close()


# --- servers that do not answer -----------------------------------------------------------------------------------


@pytest.fixture
def closed_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture
def silent_server() -> Iterator[str]:
    """A server that accepts and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture(params=["closed_port", "silent_server"])
def dead(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    address: str = request.getfixturevalue(request.param)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    monkeypatch.setattr(server, "ANSWER_SECONDS", 0.5)
    return address


def test_a_server_that_does_not_answer_is_a_warning_within_seconds(dead: str, tmp_path: Path) -> None:
    start = time.monotonic()
    with pytest.warns(TrackingWarning, match=rf"MLflow at {dead} cannot be written .*the records are complete"):
        assert connect(tmp_path) is None
    assert time.monotonic() - start < 5


def test_a_live_view_without_an_answer_delays_nothing(dead: str, tmp_path: Path) -> None:
    job = job_for("a", tmp_path / "work")
    view = LiveView(tmp_path, {"a": run("a")}, every=0.05)
    start = time.monotonic()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        view.begin([job], fresh=0)
        view.end(job, None)
        view.close()
    assert [warning.category for warning in caught] == [TrackingWarning]
    assert time.monotonic() - start < 5


def test_the_time_a_server_has_to_answer_is_seconds() -> None:
    assert 1 <= server.ANSWER_SECONDS <= 5


def test_a_server_that_stops_on_the_way_is_a_warning_and_the_records_are_taken(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = Tracker(uri)
    monkeypatch.setattr(tracker.client, "create_run", lambda *args, **options: 1 / 0)
    with pytest.warns(TrackingWarning, match="division by zero"):
        seen = synchronised(tracker, [run("a")])
    assert seen == as_seen([run("a")])


def test_a_live_view_ends_with_a_warning_when_its_server_stops(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Tracker, "extend", lambda *args: 1 / 0)
    job = job_for("a", tmp_path / "work")
    history.append(job.workplace.progress, dict.fromkeys(history.COLUMNS, 0.5))
    view = LiveView(tmp_path, {"a": run("a")}, every=0.05)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", TrackingWarning)
        view.begin([job], fresh=0)
        view.thread.join(30)
        view.close()
    assert ["division by zero" in str(warning.message) for warning in caught] == [True]


@pytest.mark.parametrize("answer", ["404", "200"])
def test_a_server_that_answers_anything_answers(answer: str) -> None:
    import http.server
    import threading

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(int(answer))
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as there:
        threading.Thread(target=there.handle_request).start()
        assert server.answers(f"http://127.0.0.1:{there.server_port}")


# --- surroundings -------------------------------------------------------------------------------------------------


def test_by_default_runs_are_shown_in_the_studys_own_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert server.tracking_uri(tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"


def test_the_tracking_variable_is_respected(uri: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    tracker = connect(other)
    assert tracker is not None
    tracker.synchronise([run("a")])
    assert not (other / "mlflow.db").exists()
    assert the_run(uri, "a").info.run_name == "digits.mlp.sam.s0-a"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("MLFLOW_DISABLE_TELEMETRY", "true"),
        ("DO_NOT_TRACK", "true"),
        ("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true"),
        ("MLFLOW_HTTP_REQUEST_TIMEOUT", "10"),
        ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1"),
    ],
)
def test_the_variable_is_set_before_mlflow_reads_it(variable: str, value: str) -> None:
    script = f"import sys, os, flatmin.tracking; print(os.environ[{variable!r}], 'mlflow' in sys.modules)"
    environment = {name: text for name, text in os.environ.items() if name != variable}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [value, "False"]


def test_a_stage_does_not_wait_for_what_it_does_not_need() -> None:
    """Scipy and mlflow take seconds to import, in every stage that has nothing to do."""
    script = "import sys, flatmin.stages; print(*{'mlflow', 'scipy', 'pandas', 'torch'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_the_commit_is_noted_where_there_is_a_clone(uri: str, tmp_path: Path) -> None:
    git = ["git", "-c", "user.name=n", "-c", "user.email=e"]
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "m"], cwd=tmp_path, check=True)
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=tmp_path, capture_output=True, text=True, check=True)
    Tracker(uri, tmp_path).synchronise([run("a")])
    assert the_run(uri, "a").data.tags["mlflow.source.git.commit"] == head.stdout.strip()


def test_without_a_clone_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert store._git_commit(tmp_path) is None
    assert store._git_commit(tmp_path / "nowhere") is None


def test_settings_are_flattened_to_dotted_names() -> None:
    nested = {"a": {"b": {"c": 1}, "d": None}, "e": [1, 2], "f": False}
    assert dict(flatten(nested)) == {"a.b.c": 1, "e": [1, 2], "f": False}


# --- views of the records -----------------------------------------------------------------------------------------

SETTINGS = RunSettings(
    dataset=DatasetSpec(source="digits"),
    model=ModelSpec(name="mlp"),
    method=ResolvedMethod(base="sgd", ascent="sam", rho=0.1),
    training=TrainingSpec(),
    seed=3,
)


def keyed(table: str, key: str = "0123456789") -> KeyedRun:
    plan = PlannedRun(table, "digits", "mlp", "sam", 3, SETTINGS, "selected")
    return KeyedRun(plan, RunIdentity("d", "c", key))


def publish(workspace: Workspace, run: KeyedRun, **result: Any) -> None:
    """Write the files of a trained and measured run."""
    folder = workspace.runs(run.plan.table) / run.id
    folder.mkdir(parents=True)
    rows = [dict.fromkeys(history.COLUMNS, 1 / n) | {"epoch": n, "memorised": None} for n in (1, 2, 3)]
    (folder / "history.csv").write_text(history.to_csv(rows))
    environment = {"device": "cpu", "torch": "2", "timm": "1"}
    seal(folder, "record.json", {"key": run.key, "environment": environment, "result": result})
    for where, metrics in ((workspace.evaluations, {"test_nll": 1 / 3}), (workspace.sharpness, {"sharpness": None})):
        path = where(run.plan.table) / f"{run.id}.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({}))
        scratch = path.parent / "scratch"
        scratch.mkdir()
        seal(scratch, path.name, {"metrics": metrics})
        (scratch / path.name).replace(path)


def test_a_view_gathers_training_evaluation_and_sharpness(tmp_path: Path) -> None:
    workspace, keyed_run = Workspace(tmp_path), keyed("quick")
    publish(workspace, keyed_run, train_loss=0.25, diverged=True, epochs=3, validation_loss=None)
    (view,) = collect.views([keyed_run], workspace)
    assert dict(view.metrics) == {
        "train_loss": 0.25,
        "diverged": 1.0,
        "epochs": 3.0,
        "validation_loss": None,
        "test_nll": 1 / 3,
        "sharpness": None,
    }
    assert [row["train_loss"] for row in view.curve] == [1.0, 1 / 2, 1 / 3]
    assert [row["memorised"] for row in view.curve] == [None] * 3


def test_a_view_names_what_the_run_is(tmp_path: Path) -> None:
    workspace, keyed_run = Workspace(tmp_path), keyed("quick")
    publish(workspace, keyed_run, train_loss=0.25, diverged=True)
    (view,) = collect.views([keyed_run], workspace)
    assert (view.key, view.name) == ("0123456789", "digits.mlp.sam.s3-01234567")
    assert view.tags == {
        "planned": "true",
        "role": "table",
        "table": "quick",
        "tables": "quick",
        "dataset": "digits",
        "model": "mlp",
        "method": "sam",
        "base": "sgd",
        "ascent": "sam",
        "seed": "3",
        "tuned": "selected",
        "diverged": "true",
        "device": "cpu",
        "torch": "2",
        "timm": "1",
    }
    assert dict(flatten(view.params))["method.rho"] == 0.1


def test_the_usual_settings_have_short_names_and_numbers_for_every_method(tmp_path: Path) -> None:
    options = {"sgd": ("none", 0.0, {}), "sam": ("sam", 0.05, {}), "msam": ("sam", 1e-4, {"m": 32})}
    found = {}
    for name, (ascent, rho, more) in options.items():
        method = ResolvedMethod(base="sgd", ascent=ascent, rho=rho, options=more)
        noise = SymmetricNoise(kind="symmetric", rate=0.6, definition="any-class")
        noisy = DatasetSpec(source="digits", noise=noise if name == "sam" else None)
        settings = SETTINGS.model_copy(update={"method": method, "dataset": noisy})
        plan = replace(keyed("quick").plan, method=name, settings=settings)
        found[name] = params_of(collect.planned_view(KeyedRun(plan, RunIdentity("d", "c", name))))
    axes = ("rho", "m", "lr", "weight_decay", "batch_size", "epochs", "noise_rate")
    numbers = {name: tuple(float(params[axis]) for axis in axes) for name, params in found.items()}
    assert numbers == {
        "sgd": (0, 256, 0.1, 5e-4, 256, 200, 0),
        "sam": (0.05, 256, 0.1, 5e-4, 256, 200, 0.6),
        "msam": (1e-4, 32, 0.1, 5e-4, 256, 200, 0),
    }
    assert found["sgd"]["noise_rate"] == "0", "the saved search for label noise compares text"
    assert {name: params["method"] for name, params in found.items()} == {"sgd": "sgd", "sam": "sam", "msam": "msam"}
    assert found["msam"]["method.options.m"] == "32"


def test_the_folder_of_own_images_is_not_shown(tmp_path: Path) -> None:
    own = DatasetSpec(source=ImageFolder(kind="image_folder", path="/home/somebody/secret", size=32))
    model = ModelSpec(name="mlp", pretrained="/home/somebody/weights.safetensors")
    settings = SETTINGS.model_copy(update={"dataset": own, "model": model})
    view = collect.planned_view(KeyedRun(replace(keyed("quick").plan, settings=settings), RunIdentity("d", "c", "k")))
    params = params_of(view)
    assert "somebody" not in json.dumps([params, dict(view.tags), view.note])
    assert params["dataset.source.path"] == "own images"
    assert params["model.pretrained"] == "own weights"


def test_a_run_that_serves_two_tables_is_one_view_with_both(tmp_path: Path) -> None:
    views = collect.views([keyed("quick"), keyed("noise"), keyed("noise", "9876543210")], Workspace(tmp_path))
    assert [(view.key, view.tags["tables"]) for view in views] == [
        ("0123456789", "noise,quick"),
        ("9876543210", "noise"),
    ]


def test_a_run_that_is_not_trained_has_no_numbers(tmp_path: Path) -> None:
    (view,) = collect.views([keyed("quick")], Workspace(tmp_path))
    assert view.metrics == {}
    assert view.curve == ()
    assert "device" not in view.tags


def test_a_run_is_known_before_it_is_trained_as_its_view_will_say(tmp_path: Path) -> None:
    assert collect.views([keyed("quick")], Workspace(tmp_path)) == [collect.planned_view(keyed("quick"))]


def test_views_of_records_are_what_mlflow_holds(uri: str, tmp_path: Path) -> None:
    workspace, keyed_run = Workspace(tmp_path), keyed("quick")
    publish(workspace, keyed_run, train_loss=0.1 + 0.2, memorised=None, diverged=False)
    runs = collect.views([keyed_run], workspace)
    assert final(synchronised(Tracker(uri), runs)) == final(as_seen(runs))


def test_of_equal_keys_the_first_view_is_kept() -> None:
    first, second = run("a", name="first"), run("a", name="second")
    assert [view.name for view in collect.unique([first, run("b", name="b"), second])] == ["first", "b"]


def test_no_number_of_a_view_is_nan() -> None:
    seen = as_seen([run("a")])["a"]["metrics"]
    assert not any(math.isnan(value) for value in seen.values())


def test_a_healthy_store_gives_no_warning(uri: str, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", TrackingWarning)
        tracker = connect(tmp_path)
        assert tracker is not None
        synchronised(tracker, [run("a")])
