from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from flatmin import driver
from flatmin.driver import BusyError, driver_lock

HOLD = """
import signal, sys, time
from pathlib import Path
from flatmin import driver
state, ignores = Path(sys.argv[1]), sys.argv[2:] == ["ignores-sigterm"]
signal.signal(signal.SIGHUP, signal.SIG_IGN if sys.argv[2:] == ["nohup"] else signal.SIG_DFL)
if ignores:
    driver.GRACE_SECONDS = 3600.0
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
with driver.driver_lock(state, "train quick"):
    (state / "held").touch()
    time.sleep(120)
"""

LAUNCH = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", *sys.argv[1:]])
print(child.pid, flush=True)
time.sleep(120)
"""


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> float:
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < seconds, "waited in vain"
        time.sleep(0.02)
    return time.monotonic() - start


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts ``python -c`` with arguments, and kills it at the end."""
    started: list[subprocess.Popen[str]] = []

    def run(*arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen([sys.executable, "-c", *arguments], stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def holder(start: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> subprocess.Popen[str]:
    """A driver of this process that holds the lock."""
    process = start(HOLD, str(tmp_path))
    wait_for((tmp_path / "held").exists)
    return process


@pytest.fixture
def orphaned(start: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> Iterator[Callable[..., psutil.Process]]:
    """Makes drivers that hold the lock and whose launcher has just been killed."""
    orphans: list[psutil.Process] = []

    def make(*arguments: str) -> psutil.Process:
        launcher = start(LAUNCH, HOLD, str(tmp_path), *arguments)
        assert launcher.stdout is not None
        orphans.append(psutil.Process(int(launcher.stdout.readline())))
        wait_for((tmp_path / "held").exists)
        launcher.kill()
        launcher.wait()
        return orphans[-1]

    yield make
    for orphan in orphans:
        if orphan.is_running():
            orphan.kill()


def gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_a_second_driver_is_refused_with_the_name_and_process_of_the_first(
    holder: subprocess.Popen[str], tmp_path: Path
) -> None:
    with pytest.raises(BusyError, match=rf"train quick \(process {holder.pid}\)") as raised, driver_lock(tmp_path, "b"):
        pass
    assert raised.value.exit_code == 2


def test_a_refusal_leaves_the_first_one_at_work(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(BusyError), driver_lock(tmp_path, "b"):
            pass
    assert holder.poll() is None


def test_the_lock_of_a_killed_driver_is_free(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    holder.kill()
    holder.wait()
    with driver_lock(tmp_path, "b"):
        assert json.loads((tmp_path / "driver.lock").read_text())["what"] == "b"


def test_the_lock_is_free_after_the_block(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), driver_lock(tmp_path, "a"):
        1 / 0  # noqa: B018
    with driver_lock(tmp_path, "b"):
        pass


@pytest.fixture
def not_under_nohup() -> Iterator[None]:
    """The tests themselves may run under nohup, which a driver takes at its word."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("not_under_nohup")
def test_the_holder_signs_with_its_process_and_its_launcher(tmp_path: Path) -> None:
    with driver_lock(tmp_path, "evaluate quick"):
        signed = json.loads((tmp_path / "driver.lock").read_text())
    assert (signed["what"], signed["pid"]) == ("evaluate quick", os.getpid())
    assert signed["launcher"] in [parent.pid for parent in psutil.Process().parents()]


def test_an_orphan_stops_by_itself_within_seconds(orphaned: Callable[..., psutil.Process]) -> None:
    orphan = orphaned()
    assert wait_for(lambda: gone(orphan), 10.0) < 10.0


def test_a_driver_under_nohup_outlives_its_shell(orphaned: Callable[..., psutil.Process], tmp_path: Path) -> None:
    survivor = orphaned("nohup")
    time.sleep(4 * driver.POLL_SECONDS)
    assert survivor.is_running()
    with pytest.raises(BusyError, match=str(survivor.pid)), driver_lock(tmp_path, "evaluate quick"):
        pass


def test_a_new_driver_gets_the_lock_of_an_orphan(orphaned: Callable[..., psutil.Process], tmp_path: Path) -> None:
    orphan = orphaned()
    with driver_lock(tmp_path, "b"):
        assert gone(orphan)


def test_an_orphan_that_ignores_sigterm_is_killed_after_the_grace(
    orphaned: Callable[..., psutil.Process], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "GRACE_SECONDS", 1.0)
    orphan = orphaned("ignores-sigterm")
    start = time.monotonic()
    with driver_lock(tmp_path, "b"):
        assert time.monotonic() - start >= 1.0
        wait_for(lambda: gone(orphan), 5.0)


def test_an_orphan_that_ignores_sigterm_ends_itself_after_a_third_of_its_grace(
    start: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    stubborn = HOLD.replace("3600.0", "1.0")
    launcher = start(LAUNCH, stubborn, str(tmp_path), "ignores-sigterm")
    assert launcher.stdout is not None
    orphan = psutil.Process(int(launcher.stdout.readline()))
    wait_for((tmp_path / "held").exists)
    launcher.kill()
    launcher.wait()
    wait_for(lambda: gone(orphan), 10.0)


@pytest.mark.parametrize("content", ["", '{"what": "train quick", "pi', "null", "17"])
def test_a_holder_whose_signature_is_cut_off_is_waited_for_and_then_refused(
    holder: subprocess.Popen[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    monkeypatch.setattr(driver, "GRACE_SECONDS", 0.5)
    (tmp_path / "driver.lock").write_text(content)
    with pytest.raises(BusyError, match="another flatmin is at work here"), driver_lock(tmp_path, "b"):
        pass
    assert holder.poll() is None


def test_a_signature_that_comes_late_is_read(
    holder: subprocess.Popen[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "driver.lock"
    signature = path.read_text()
    path.write_text("")
    monkeypatch.setattr(driver.time, "sleep", lambda seconds: path.write_text(signature))
    with pytest.raises(BusyError, match="train quick"), driver_lock(tmp_path, "b"):
        pass


def test_a_lock_file_left_cut_off_by_nobody_is_taken(tmp_path: Path) -> None:
    (tmp_path / "driver.lock").write_text('{"what": "tr')
    with driver_lock(tmp_path, "b"):
        assert json.loads((tmp_path / "driver.lock").read_text())["what"] == "b"


def test_a_process_number_taken_by_another_process_is_not_the_launcher() -> None:
    own = os.getpid()
    assert driver._lives(own, driver._start_ticks(own))
    assert not driver._lives(own, driver._start_ticks(own) - 1)


def test_a_holder_on_another_host_is_no_orphan(
    holder: subprocess.Popen[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signature = json.loads((tmp_path / "driver.lock").read_text())
    gone = {**signature, "host": "elsewhere", "launcher": 1, "launched": 0}
    (tmp_path / "driver.lock").write_text(json.dumps(gone))
    started = time.monotonic()
    with pytest.raises(BusyError, match="train quick"), driver_lock(tmp_path, "evaluate quick"):
        pass
    assert time.monotonic() - started < driver.GRACE_SECONDS / 2
    assert holder.poll() is None


def test_a_driver_under_dvc_watches_dvc_and_not_the_shell_between(
    tmp_path: Path,
) -> None:
    dvc = tmp_path / "dvc"
    dvc.write_text(LAUNCH)
    command = [sys.executable, str(dvc), LAUNCH, HOLD, str(tmp_path)]
    launcher = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        wait_for((tmp_path / "held").exists)
        assert json.loads((tmp_path / "driver.lock").read_text())["launcher"] == launcher.pid
    finally:
        for process in [*psutil.Process(launcher.pid).children(recursive=True), launcher]:
            process.send_signal(signal.SIGKILL)
        launcher.communicate()
