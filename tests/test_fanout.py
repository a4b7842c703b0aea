from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

import cheap_work
from flatmin import executor, fanout, work
from flatmin.executor import Executor, Job, SchedulerError
from flatmin.fanout import FailedItemsError, Item, Outcome, StoppedError, bring_up_to_date
from flatmin.records import CorruptRecordError, digest_of, read_head, seal, verify
from flatmin.store import Store
from flatmin.work import explain, finished, perform
from flatmin.workplace import LeaseLostError, Workplace


@pytest.fixture(autouse=True)
def _cheap_kinds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, kind in cheap_work.CHEAP.items():
        monkeypatch.setitem(work.KINDS, name, kind)
    monkeypatch.setenv("FLATMIN_SCHEDULER", "inline")
    monkeypatch.setenv("FLATMIN_DEVICE", "cpu")
    monkeypatch.delenv("FLATMIN_WORKERS", raising=False)
    monkeypatch.chdir(tmp_path)


class Study:
    """A folder with a store, published outputs, and a note of every call of the work."""

    def __init__(self, root: Path) -> None:
        self.state, self.out, self.calls = root / ".flatmin", root / "out", root / "calls"
        self.out.mkdir()

    def item(self, name: str, place: str = "a", kind: str = "cheap", **task: Any) -> Item:
        folder = self.out / place / name
        outputs = {"cheap.json": folder / "cheap.json", "data.txt": folder / "data.txt"}
        outputs["seconds.json"] = self.out / "seconds" / place / f"{name}.json"
        return Item(name, kind, digest_of(name), {"text": name, "calls": str(self.calls), **task}, outputs)

    def update(self, *items: Item, **options: Any) -> Outcome:
        return bring_up_to_date(items, folders=[self.out], state=self.state, **options)

    def worked_on(self) -> list[str]:
        return [line.split()[1] for line in self.calls.read_text().splitlines()] if self.calls.exists() else []

    def files(self) -> dict[str, str]:
        return {str(p.relative_to(self.out)): p.read_text() for p in sorted(self.out.rglob("*")) if p.is_file()}

    def folder(self, item: Item) -> Path:
        return self.state / "work" / item.kind / item.key

    def entry(self, item: Item) -> Path:
        return Store(self.state).entry(item.kind, item.key)

    def damage(self, path: Path) -> None:
        """Change a file and not the others that share its inode."""
        path.unlink()
        path.write_text("other content")


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return Study(tmp_path)


# --- what is done, and how often ----------------------------------------------------------------------------------


def test_missing_items_are_done_and_published(study: Study) -> None:
    a, b = study.item("a"), study.item("b")
    outcome = study.update(a, b)
    assert (outcome.fresh, outcome.done, outcome.failed) == ([], [a, b], [])
    assert [verify(study.out / "a" / name, "cheap.json")["key"] for name in "ab"] == [a.key, b.key]


def test_a_file_aside_is_published_at_its_own_place_and_not_sealed(study: Study) -> None:
    study.update(study.item("a"))
    assert (study.out / "seconds" / "a" / "a.json").read_text() == str(os.getpid())
    assert list(read_head(study.out / "a" / "a" / "cheap.json")["files"]) == ["data.txt"]


def test_a_second_call_does_nothing(study: Study) -> None:
    a, b = study.item("a"), study.item("b")
    study.update(a, b)
    before = {path: path.stat().st_mtime_ns for path in study.out.rglob("*")}
    outcome = study.update(a, b)
    assert (outcome.fresh, outcome.done) == ([a, b], [])
    assert study.worked_on() == ["a", "b"]
    assert {path: path.stat().st_mtime_ns for path in study.out.rglob("*")} == before


def test_a_new_item_is_the_only_one_worked_on(study: Study) -> None:
    study.update(study.item("a"))
    outcome = study.update(study.item("a"), study.item("b"))
    assert [item.id for item in outcome.done] == ["b"]
    assert study.worked_on() == ["a", "b"]


def test_equal_keys_are_worked_on_once_and_published_at_both_places(study: Study) -> None:
    here, there = study.item("a"), study.item("a", place="b")
    outcome = study.update(here, there)
    assert outcome.done == [here, there]
    assert study.worked_on() == ["a"]
    assert here.outputs["data.txt"].read_text() == there.outputs["data.txt"].read_text() == "a"


def test_a_place_added_later_is_served_from_the_store(study: Study) -> None:
    study.update(study.item("a"))
    outcome = study.update(study.item("a"), study.item("a", place="b"))
    assert len(outcome.fresh) == 2
    assert (study.out / "b" / "a" / "data.txt").read_text() == "a"
    assert study.worked_on() == ["a"]


def test_published_files_share_their_inodes_with_the_store(study: Study) -> None:
    a = study.item("a")
    study.update(a)
    assert a.outputs["data.txt"].samefile(study.entry(a) / "data.txt")


def test_an_item_without_outputs_stays_in_the_store(study: Study) -> None:
    a = study.item("a")
    unpublished = Item(a.id, a.kind, a.key, a.task)
    study.update(unpublished)
    assert study.files() == {}
    assert study.update(unpublished).fresh == [unpublished]


def test_the_outputs_are_exactly_the_planned_ones(study: Study) -> None:
    study.update(study.item("a"), study.item("b"))
    (study.out / "stray.txt").write_text("")
    (study.out / "a" / "a" / "stray.txt").write_text("")
    study.update(study.item("b"))
    assert set(study.files()) == {"a/b/cheap.json", "a/b/data.txt", "seconds/a/b.json"}
    assert not (study.out / "a" / "a").exists()


def test_a_dropped_item_comes_back_without_work(study: Study) -> None:
    study.update(study.item("a"), study.item("b"))
    study.update(study.item("b"))
    assert len(study.update(study.item("a"), study.item("b")).fresh) == 2
    assert study.worked_on() == ["a", "b"]


def test_the_work_folders_of_finished_items_are_gone(study: Study) -> None:
    a = study.item("a")
    study.update(a)
    assert not study.folder(a).exists()


def test_the_journal_has_each_key_once(study: Study) -> None:
    items = [study.item("a"), study.item("a", place="b"), study.item("b")]
    study.update(*items)
    study.update(*items)
    lines = (study.state / "journal.log").read_text().splitlines()
    assert lines == [f"cheap {digest_of('a')}", f"cheap {digest_of('b')}"]


# --- results found elsewhere --------------------------------------------------------------------------------------


def test_published_outputs_are_adopted_when_the_store_is_gone(study: Study) -> None:
    a = study.item("a")
    study.update(a)
    before = study.files()
    shutil.rmtree(study.state)
    outcome = study.update(a)
    assert outcome.fresh == [a]
    assert study.worked_on() == ["a"]
    assert study.files() == before


def test_an_adopted_result_is_in_the_store(study: Study) -> None:
    a = study.item("a")
    study.update(a)
    shutil.rmtree(study.state)
    study.update(a)
    assert verify(study.entry(a), "cheap.json")["key"] == a.key
    assert not study.folder(a).exists()


def test_an_adopted_result_is_published_at_the_other_places_too(study: Study) -> None:
    study.update(study.item("a"))
    shutil.rmtree(study.state)
    study.update(study.item("a", place="b"), study.item("a"))
    assert (study.out / "b" / "a" / "data.txt").read_text() == "a"
    assert study.worked_on() == ["a"]


def test_a_published_result_of_another_key_is_not_adopted(study: Study) -> None:
    a = study.item("a")
    study.update(a)
    other = Item(a.id, a.kind, digest_of("edited"), {**a.task, "text": "edited"}, a.outputs)
    outcome = study.update(other)
    assert outcome.done == [other]
    assert a.outputs["data.txt"].read_text() == "edited"


def finish_without_a_driver(item: Item, folder: Path, token: str = "gone") -> Workplace:
    workplace = Workplace(folder, token)
    workplace.take()
    assert perform(item.kind, item.key, item.task, workplace, folder / "log") is None
    return workplace


def test_a_finished_result_that_its_driver_did_not_collect_is_taken(study: Study) -> None:
    a = study.item("a")
    finish_without_a_driver(a, study.folder(a))
    outcome = study.update(a)
    assert outcome.fresh == [a]
    assert study.worked_on() == ["a"]
    assert a.outputs["data.txt"].read_text() == "a"


def test_a_collected_result_is_in_the_journal(study: Study) -> None:
    a = study.item("a")
    finish_without_a_driver(a, study.folder(a))
    study.update(a)
    assert (study.state / "journal.log").read_text() == f"cheap {a.key}\n"


def test_an_unsealed_result_is_not_taken(study: Study) -> None:
    a = study.item("a")
    workplace = finish_without_a_driver(a, study.folder(a))
    (workplace.result / "cheap.json").unlink()
    assert study.update(a).done == [a]
    assert study.worked_on() == ["a", "a"]


def test_a_damaged_finished_result_is_passed_over_for_a_sound_one(study: Study) -> None:
    a = study.item("a")
    first = finish_without_a_driver(a, study.folder(a), "1")
    second = finish_without_a_driver(a, study.folder(a), "2")
    study.damage(first.result / "data.txt")
    assert finished(a.kind, a.key, study.folder(a)) == second.result


# --- damage -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cheap.json", "data.txt"])
def test_a_corrupt_file_in_the_outputs_is_replaced(study: Study, name: str) -> None:
    a = study.item("a")
    study.update(a)
    before = study.files()
    study.damage(a.outputs[name])
    assert study.update(a).fresh == [a]
    assert study.files() == before
    assert study.worked_on() == ["a"]


@pytest.mark.parametrize("name", ["cheap.json", "data.txt"])
def test_a_corrupt_store_entry_is_taken_from_sound_outputs(study: Study, name: str) -> None:
    a = study.item("a")
    study.update(a)
    study.damage(study.entry(a) / name)
    assert study.update(a).fresh == [a]
    assert verify(study.entry(a), "cheap.json")["key"] == a.key
    assert study.worked_on() == ["a"]


@pytest.mark.parametrize("name", ["cheap.json", "data.txt"])
def test_a_result_corrupt_everywhere_is_made_anew(study: Study, name: str) -> None:
    a = study.item("a")
    study.update(a)
    before = study.files()
    a.outputs[name].write_text("cut off")  # the store's file is the same inode
    assert study.update(a).done == [a]
    assert study.worked_on() == ["a", "a"]
    assert study.files() == before


def test_a_missing_file_of_a_store_entry_is_made_anew(study: Study) -> None:
    a = study.item("a")
    study.update(a)
    (study.entry(a) / "data.txt").unlink()
    a.outputs["data.txt"].unlink()
    assert study.update(a).done == [a]


# --- failures -----------------------------------------------------------------------------------------------------


def test_a_failing_item_does_not_stop_the_others(study: Study) -> None:
    a, b, c = study.item("a"), study.item("b", does="fails"), study.item("c")
    outcome = study.update(a, b, c)
    assert outcome.done == [a, c]
    assert [failure.item for failure in outcome.failed] == [b]
    assert outcome.failed[0].reason == "ValueError: the sky fell"


def test_the_log_of_a_failed_item_holds_its_traceback(study: Study) -> None:
    (failure,) = study.update(study.item("b", does="fails")).failed
    assert failure.log == Path(".flatmin/logs/cheap/b.log")
    assert "Traceback" in failure.log.read_text()
    assert "in fails" in failure.log.read_text()


def test_the_log_of_an_earlier_failure_is_not_shown_for_another(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    study.update(study.item("b", does="fails"))
    monkeypatch.setattr(executor, "perform", lambda *args: "its worker died")
    assert "log:" not in str(FailedItemsError("train", study.update(study.item("b"))))


def test_a_failed_item_publishes_nothing(study: Study) -> None:
    b = study.item("b", does="fails")
    study.update(b)
    assert study.files() == {}
    assert not study.entry(b).exists()
    assert not (study.state / "journal.log").exists()


def test_a_failed_item_is_tried_again(study: Study) -> None:
    study.update(study.item("b", does="fails"))
    assert len(study.update(study.item("b")).done) == 1


def test_both_items_of_a_failed_key_are_named(study: Study) -> None:
    outcome = study.update(study.item("b", does="fails"), study.item("b", place="c", does="fails"))
    assert len(outcome.failed) == 2
    assert study.worked_on() == ["b"]


def test_the_error_names_item_reason_and_log(study: Study) -> None:
    error = FailedItemsError("train@quick", study.update(study.item("a"), study.item("b", does="fails")))
    assert str(error).splitlines() == [
        "train@quick: 1 of 2 failed (the other 1 are kept, and the next `dvc repro` does only what is missing):",
        "  b: ValueError: the sky fell",
        "    log: .flatmin/logs/cheap/b.log",
    ]
    assert error.exit_code == 1


def test_the_error_tells_ten_failures_and_counts_the_rest(study: Study) -> None:
    error = FailedItemsError("train", study.update(*(study.item(f"b{i}", does="fails") for i in range(12))))
    assert str(error).count("the sky fell") == fanout.SHOWN
    assert str(error).endswith("  and 2 more")


def test_a_full_disk_is_one_clear_reason_and_nothing_is_half_published(study: Study) -> None:
    a, b = study.item("a", does="fills_the_disk"), study.item("b")
    outcome = study.update(a, b)
    assert [failure.reason for failure in outcome.failed] == [
        f"the disk is full ({next(study.folder(a).glob('result-*'))}/big.bin): free some space and run again"
    ]
    assert {path.split("/")[1] for path in study.files() if path.startswith("a/")} == {"b"}


def test_a_disk_too_full_for_the_log_does_not_hide_the_reason(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, *args: Any, **options: Any) -> int:
        if path.suffix != ".log":
            return write_text(path, *args, **options)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    write_text = Path.write_text
    monkeypatch.setattr(Path, "write_text", full)
    outcome = study.update(study.item("a", does="fails"), study.item("b"))
    assert [failure.reason for failure in outcome.failed] == ["ValueError: the sky fell"]
    assert [item.id for item in outcome.done] == ["b"]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.EDQUOT, "quota", "f"), "the disk is full (f): free some space and run again"),
        (OSError(errno.ENOSPC, "full"), "the disk is full (while writing a result): free some space and run again"),
        (MemoryError(), "out of memory: use fewer workers (FLATMIN_WORKERS=1) or a smaller batch_size"),
        (SchedulerError("say it as it is"), "say it as it is"),
        (OSError(errno.EACCES, "denied", "f"), "PermissionError: [Errno 13] denied: 'f'"),
    ],
)
def test_a_reason_is_one_line_with_the_fix(error: Exception, said: str) -> None:
    assert explain(error) == said


def test_a_full_disk_while_publishing_leaves_whole_files_only(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    a = study.item("a")
    link, links = os.link, []

    def full(source: Path, target: Path) -> None:
        links.append(target)
        if len(links) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        link(source, target)

    def no_copy(source: Path, target: Path) -> None:
        target.write_text("ha")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", full)
        patch.setattr(shutil, "copy2", no_copy)
        with pytest.raises(StoppedError, match="the disk is full"):
            study.update(a)
    assert not (study.out / "a" / "a").exists()
    assert study.update(a).fresh == [a]
    assert set(study.files()) == {"a/a/cheap.json", "a/a/data.txt", "seconds/a/a.json"}


def test_an_interrupted_driver_leaves_no_half_published_output(study: Study) -> None:
    a, b = study.item("a"), study.item("b", does="is_interrupted")
    with pytest.raises(KeyboardInterrupt):
        study.update(a, b)
    assert set(study.files()) == {"a/a/cheap.json", "a/a/data.txt", "seconds/a/a.json"}
    assert not study.entry(b).exists()


def test_an_interrupted_publication_is_completed_by_the_next_driver(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = study.item("a")

    def interrupted(source: Path, target: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", interrupted)
        with pytest.raises(KeyboardInterrupt):
            study.update(a)
    assert study.files() == {}
    assert study.update(a).fresh == [a]
    assert set(study.files()) == {"a/a/cheap.json", "a/a/data.txt", "seconds/a/a.json"}
    assert study.worked_on() == ["a"]


def test_a_result_damaged_on_its_way_to_the_store_fails_alone(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    def damaging(kind: str, key: str, task: Any, workplace: Workplace, log: Path) -> str | None:
        reason = perform(kind, key, task, workplace, log)
        if task["text"] == "a":
            study.damage(workplace.result / "data.txt")
        return reason

    monkeypatch.setattr(executor, "perform", damaging)
    outcome = study.update(study.item("a"), study.item("b"))
    assert [item.id for item in outcome.done] == ["b"]
    assert "data.txt: its content does not match the record" in outcome.failed[0].reason
    assert not study.entry(study.item("a")).exists()


# --- observers ----------------------------------------------------------------------------------------------------


class Recorder:
    def __init__(self) -> None:
        self.told: list[Any] = []

    def begin(self, jobs: Sequence[Job], fresh: int) -> None:
        self.told.append(([job.id for job in jobs], fresh))

    def end(self, job: Job, reason: str | None) -> None:
        self.told.append((job.id, reason))

    def close(self) -> None:
        self.told.append("closed")


def test_observers_are_told_of_each_job_once(study: Study) -> None:
    study.update(study.item("a"))
    recorder = Recorder()
    study.update(study.item("a"), study.item("b"), study.item("c", does="fails"), observers=[recorder])
    assert recorder.told == [(["b", "c"], 1), ("b", None), ("c", "ValueError: the sky fell"), "closed"]


def test_observers_are_closed_when_the_driver_is_interrupted(study: Study) -> None:
    recorder = Recorder()
    with pytest.raises(KeyboardInterrupt):
        study.update(study.item("b", does="is_interrupted"), observers=[recorder])
    assert recorder.told[-1] == "closed"


# --- the lease ----------------------------------------------------------------------------------------------------


def test_a_worker_with_an_old_lease_does_not_start(study: Study) -> None:
    a = study.item("a")
    old, new = Workplace(study.folder(a), "old"), Workplace(study.folder(a), "new")
    old.take()
    new.take()
    reason = perform(a.kind, a.key, a.task, old, study.state / "log")
    assert reason is not None
    assert reason.startswith("LeaseLostError")
    assert study.worked_on() == []


def test_the_newest_lease_holds(study: Study) -> None:
    folder = study.state / "work"
    for token in ("1", "2"):
        Workplace(folder, token).take()
    Workplace(folder, "2").check()
    with pytest.raises(LeaseLostError, match="taken over by another driver"):
        Workplace(folder, "1").check()


def test_a_lease_on_a_folder_that_is_gone_is_lost(study: Study) -> None:
    with pytest.raises(LeaseLostError):
        Workplace(study.state / "work", "1").check()


def test_a_worker_overtaken_on_the_way_does_not_seal_its_result(study: Study) -> None:
    a = study.item("a", does="is_overtaken")
    (failure,) = study.update(a).failed
    assert failure.reason.startswith("LeaseLostError")
    assert study.files() == {}
    assert finished(a.kind, a.key, study.folder(a)) is None


def test_two_leases_have_results_of_their_own(study: Study) -> None:
    one, two = Workplace(study.state, "1"), Workplace(study.state, "2")
    assert one.result != two.result
    assert one.progress != two.progress
    assert one.checkpoint == two.checkpoint


# --- executors ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("FLATMIN_SCHEDULER", "lokal", "FLATMIN_SCHEDULER='lokal': use local, inline, slurm or tcp://host:port"),
        ("FLATMIN_WORKERS", "0", "FLATMIN_WORKERS='0' is not a number of workers: set it to 1 or more, or unset it"),
        ("FLATMIN_WORKERS", "two", "FLATMIN_WORKERS='two' is not a number of workers"),
        ("FLATMIN_WORKERS", "-1", "FLATMIN_WORKERS='-1' is not a number of workers"),
        ("FLATMIN_DEVICE", "gpu", "FLATMIN_DEVICE='gpu': use cpu or cuda, or unset it"),
    ],
)
def test_a_variable_that_cannot_be_used_is_named_with_its_value(
    study: Study, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SchedulerError) as raised:
        study.update(study.item("a"))
    assert str(raised.value).startswith(said)
    assert raised.value.exit_code == 2


def test_cuda_without_a_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setenv("FLATMIN_DEVICE", "cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SchedulerError, match="torch sees no GPU"):
        executor.device_type()


@pytest.mark.parametrize(("jobs", "written", "workers"), [(3, "8", 3), (8, "3", 3), (0, "3", 1), (5, " 2 ", 2)])
def test_there_are_as_many_workers_as_asked_for_and_no_more_than_jobs(
    monkeypatch: pytest.MonkeyPatch, jobs: int, written: str, workers: int
) -> None:
    monkeypatch.setenv("FLATMIN_WORKERS", written)
    assert executor.workers_wanted(jobs) == workers


def test_by_default_there_are_as_many_workers_as_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2})
    assert executor.workers_wanted(100) == 3


def test_a_scheduler_that_does_not_answer_is_named(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLATMIN_SCHEDULER", "nothing://127.0.0.1:9")
    with pytest.raises(SchedulerError, match=r"FLATMIN_SCHEDULER='nothing://127\.0\.0\.1:9' does not answer"):
        study.update(study.item("a"))
    assert study.files() == {}


def test_light_work_starts_no_worker(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLATMIN_SCHEDULER", "local")
    with Executor() as own:
        assert len(study.update(study.item("a", kind="light"), executor=own).done) == 1
        assert own.client is None


@pytest.fixture
def _two_workers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    import dask
    import distributed  # its defaults must be there before one of them is changed

    assert distributed.Client
    monkeypatch.setenv("FLATMIN_SCHEDULER", "local")
    monkeypatch.setenv("FLATMIN_WORKERS", "2")
    with dask.config.set({"distributed.worker.preload": ["cheap_work"]}):
        yield


@pytest.mark.usefixtures("_two_workers")
@pytest.mark.slow
def test_worker_processes_do_the_work_and_are_kept_for_the_next_call(study: Study) -> None:
    with Executor() as own:
        first = study.update(*(study.item(f"a{i}") for i in range(4)), executor=own)
        second = study.update(study.item("b"), study.item("c", does="fails"), executor=own)
        pids = {line.split()[0] for line in study.calls.read_text().splitlines()}
    assert (len(first.done), [item.id for item in second.done]) == (4, ["b"])
    assert [failure.reason for failure in second.failed] == ["ValueError: the sky fell"]
    assert len(pids) <= 2
    assert str(os.getpid()) not in pids


@pytest.mark.usefixtures("_two_workers")
@pytest.mark.slow
def test_the_job_of_a_killed_worker_is_done_by_another(study: Study, tmp_path: Path) -> None:
    outcome = study.update(study.item("a"), study.item("b", does="dies_once", mark=str(tmp_path / "mark")))
    assert sorted(item.id for item in outcome.done) == ["a", "b"]
    assert sorted(study.worked_on()) == ["a", "b", "b"]


@pytest.mark.usefixtures("_two_workers")
@pytest.mark.slow
def test_a_job_that_kills_every_worker_fails_alone(study: Study) -> None:
    outcome = study.update(study.item("a"), study.item("b", does="dies"))
    assert [item.id for item in outcome.done] == ["a"]
    assert [failure.reason for failure in outcome.failed] == [
        "its worker died repeatedly (KilledWorker): see the memory it needs"
    ]


DRIVER = """
import sys
sys.path.insert(0, sys.argv[1])
import cheap_work, dask
from pathlib import Path
from flatmin.fanout import Item, bring_up_to_date
if __name__ == "__main__":
    cheap_work.dask_setup(None)
    dask.config.set({"distributed.worker.preload": ["cheap_work"]})
    task = {"text": "a", "calls": str(Path("calls").absolute()), "does": "waits"}
    bring_up_to_date([Item("a", "cheap", "key", task)])
"""


@pytest.mark.usefixtures("_two_workers")
@pytest.mark.slow
def test_workers_die_with_their_driver(study: Study, tmp_path: Path) -> None:
    script = tmp_path / "driver.py"
    script.write_text(DRIVER)
    driver = subprocess.Popen([sys.executable, str(script), str(Path(__file__).parent)], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not study.worked_on() and time.monotonic() < deadline:
        time.sleep(0.1)
    worker = psutil.Process(int(study.calls.read_text().split()[0]))
    driver.kill()
    driver.wait()
    while worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE


# --- the seal -----------------------------------------------------------------------------------------------------


def test_a_kind_names_its_function_by_module() -> None:
    assert work.KINDS["cheap"].load() is cheap_work.work


def test_a_seal_covers_every_file_but_those_aside(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("1")
    (tmp_path / "y").write_text("2")
    seal(tmp_path, "head.json", {}, aside=("y",))
    (tmp_path / "y").write_text("3")
    verify(tmp_path, "head.json")
    (tmp_path / "x").write_text("4")
    with pytest.raises(CorruptRecordError):
        verify(tmp_path, "head.json")
