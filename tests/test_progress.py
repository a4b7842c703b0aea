from __future__ import annotations

import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from flatmin import progress
from flatmin.executor import Job
from flatmin.progress import RowReader, ShowProgress, Watch, duration
from flatmin.training import history
from flatmin.workplace import Workplace


@pytest.fixture
def job_for(tmp_path: Path) -> Callable[..., Job]:
    """Makes jobs of so many epochs."""

    def make(name: str, epochs: int = 10) -> Job:
        folder = tmp_path / name
        folder.mkdir()
        task = {"settings": {"training": {"epochs": epochs}}}
        return Job(name, "train", name, task, Workplace(folder, "t"), tmp_path / "log")

    return make


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def view(terminal: bool = False, width: int = 80, **options: Any) -> tuple[ShowProgress, io.StringIO]:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=width, color_system=None)
    shown = ShowProgress("train@quick", console=console, **options)
    shown.watch.every = 3600.0
    return shown, out


# --- rows ---------------------------------------------------------------------------------------------------------


def test_a_file_that_is_not_there_yet_has_no_rows(tmp_path: Path) -> None:
    assert RowReader(tmp_path / "none.csv").new_rows() == []


@pytest.mark.parametrize("pieces", [1, 2, 3, 7, 100])
def test_every_row_of_a_growing_file_is_read_once(tmp_path: Path, pieces: int) -> None:
    path = tmp_path / "progress.csv"
    text = b"epoch,lr,train_loss\n1,0.1,2.5\n2,0.05,\n3,0.025,1.25\n"
    reader, rows = RowReader(path), []
    size = -(-len(text) // pieces)
    for start in range(0, len(text), size):
        with path.open("ab") as file:
            file.write(text[start : start + size])
        rows += reader.new_rows()
    assert rows == [
        {"epoch": 1.0, "lr": 0.1, "train_loss": 2.5},
        {"epoch": 2.0, "lr": 0.05},
        {"epoch": 3.0, "lr": 0.025, "train_loss": 1.25},
    ]
    assert reader.new_rows() == []


def test_a_partial_line_is_left_until_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "progress.csv"
    path.write_text("epoch,lr\n1,0.1")
    reader = RowReader(path)
    assert reader.new_rows() == []
    path.write_text("epoch,lr\n1,0.125\n")
    assert reader.new_rows() == [{"epoch": 1.0, "lr": 0.125}]


def test_rows_that_a_training_appends_are_read_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "progress.csv"
    row = dict.fromkeys(history.COLUMNS, 1 / 3) | {"epoch": 1, "memorised": None}
    history.append(path, row)
    history.append(path, row | {"epoch": 2})
    expected = {name: value for name, value in row.items() if value is not None}
    assert RowReader(path).new_rows() == [expected, expected | {"epoch": 2}]


def test_a_watch_hands_over_each_row_once(job_for: Callable[..., Job]) -> None:
    job, seen = job_for("a"), []
    watch = Watch(lambda job, rows: seen.extend((job.id, row["epoch"]) for row in rows), every=0.01)
    watch.start([job])
    for epoch in range(1, 4):
        history.append(job.workplace.progress, dict.fromkeys(history.COLUMNS, 0) | {"epoch": epoch})
        deadline = time.monotonic() + 10
        while len(seen) < epoch and time.monotonic() < deadline:
            time.sleep(0.01)
    watch.stop()
    assert seen == [("a", 1.0), ("a", 2.0), ("a", 3.0)]
    assert not watch.thread.is_alive()


def test_a_watch_hands_over_no_rows_of_a_forgotten_job(job_for: Callable[..., Job]) -> None:
    job, other, seen = job_for("a"), job_for("b"), []
    watch = Watch(lambda job, rows: seen.append(job.id), every=0.01)
    watch.start([job, other])
    watch.forget(job)
    for each in (job, other):
        history.append(each.workplace.progress, dict.fromkeys(history.COLUMNS, 1))
    deadline = time.monotonic() + 10
    while not seen and time.monotonic() < deadline:
        time.sleep(0.01)
    watch.stop()
    assert seen == ["b"]


# --- what a log shows ---------------------------------------------------------------------------------------------


def test_a_log_says_what_there_is_to_do_and_what_was_done(clock: Clock, job_for: Callable[..., Job]) -> None:
    shown, out = view()
    a, b = job_for("a"), job_for("b")
    shown.begin([a, b], fresh=3)
    clock.now += 70
    shown.end(a, None)
    shown.end(b, None)
    shown.close()
    assert out.getvalue().splitlines() == [
        "train@quick: 2 to do, 3 up to date",
        "train@quick: 1 of 2 done, 1 min 10 s left",
        "train@quick: 2 of 2 done, 1 min 10 s",
    ]


def test_where_there_is_nothing_to_do_one_line_says_so() -> None:
    shown, out = view()
    shown.begin([], fresh=5)
    shown.close()
    assert out.getvalue() == "train@quick: 0 to do, 5 up to date\n"


def test_failures_are_named_with_their_reason_and_counted(clock: Clock, job_for: Callable[..., Job]) -> None:
    shown, out = view()
    job = job_for("a[b]")
    shown.begin([job], fresh=0)
    shown.end(job, "ValueError: [red] is no colour")
    shown.close()
    assert out.getvalue().splitlines()[1:] == [
        "train@quick: a[b] failed: ValueError: [red] is no colour",
        "train@quick: 0 of 1 done, 1 failed, 0 s",
    ]


def test_a_log_gets_a_line_no_more_often_than_asked(clock: Clock, job_for: Callable[..., Job]) -> None:
    shown, out = view(line_every=10.0)
    jobs = [job_for(str(i)) for i in range(30)]
    shown.begin(jobs, fresh=0)
    for job in jobs:
        clock.now += 1
        shown.end(job, None)
    shown.close()
    middle = out.getvalue().splitlines()[1:-1]
    assert [line.split(",")[0] for line in middle] == ["train@quick: 10 of 30 done", "train@quick: 20 of 30 done"]


def test_a_long_line_is_not_broken(clock: Clock, job_for: Callable[..., Job]) -> None:
    shown, out = view(width=40)
    jobs = [job_for(f"digits-noise60.a-long-model-name.sam-rho0_1.s{i}") for i in range(3)]
    shown.begin(jobs, fresh=0)
    clock.now += 20
    shown._rows(jobs[0], [{"epoch": 5.0}])
    shown.close()
    assert out.getvalue().splitlines()[1].endswith("digits-noise60.a-long-model-name.sam-rho0_1.s0 5/10")


def test_a_terminal_gets_a_bar_with_the_running_items(clock: Clock, job_for: Callable[..., Job]) -> None:
    shown, out = view(terminal=True, width=120)
    job = job_for("a")
    shown.begin([job, job_for("b")], fresh=0)
    shown._rows(job, [{"epoch": 4.0}])
    shown.bar.refresh()
    shown.close()
    assert "0/2" in out.getvalue()
    assert "a 4/10" in out.getvalue()


# --- estimates ----------------------------------------------------------------------------------------------------


def test_the_time_left_counts_epochs_of_running_items(clock: Clock, job_for: Callable[..., Job]) -> None:
    shown, _ = view()
    jobs = [job_for(name) for name in "abcd"]
    shown.begin(jobs, fresh=2)
    assert shown._left() == "estimating"
    shown.end(jobs[0], None)
    shown._rows(jobs[1], [{"epoch": 4.0}, {"epoch": 5.0}])
    clock.now += 30  # 1.5 of 4 items in 30 s
    assert shown._left() == "50 s left"
    shown.close()


def test_rows_read_after_a_job_has_ended_do_not_bring_it_back(clock: Clock, job_for: Callable[..., Job]) -> None:
    shown, _ = view()
    jobs = [job_for("a"), job_for("b")]
    shown.begin(jobs, fresh=0)
    shown.end(jobs[0], None)
    shown._rows(jobs[0], [{"epoch": 10.0}])
    clock.now += 10
    assert shown._left() == "10 s left"
    assert shown._running() == ""
    shown.close()


def test_two_running_items_are_named_and_the_others_counted(job_for: Callable[..., Job]) -> None:
    shown, _ = view()
    jobs = [job_for(name) for name in "abcd"]
    shown.begin(jobs, fresh=0)
    for job in jobs:
        shown._rows(job, [{"epoch": 1.0}])
    assert shown._running() == "a 1/10  b 1/10  and 2 more"
    shown.close()


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (0, "0 s"),
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (190, "3 min 10 s"),
        (3599.6, "1 h 0 min"),
        (7500, "2 h 5 min"),
        (400_000, "111 h 6 min"),
    ],
)
def test_duration(seconds: float, written: str) -> None:
    assert duration(seconds) == written
