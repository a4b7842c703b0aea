"""The driver's lock on the store: one driver at a time, and an orphan gives way.

A driver is the process of one stage. Killing ``dvc`` leaves its child alive, and ``dvc`` drops its own stale lock, so
the next ``dvc repro`` would find two drivers on one store. The lock is the kernel's (``flock``): it cannot be left
behind. A driver whose launcher is gone notices and stops; a new driver waits for that, and refuses only a driver that
somebody still wants.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import psutil

from flatmin.errors import FlatminError

GRACE_SECONDS = 15.0
POLL_SECONDS = 0.25
LAUNCHERS = ("dvc",)


class BusyError(FlatminError):
    """Another driver is at work on the same store."""


@contextlib.contextmanager
def driver_lock(state: Path, what: str) -> Iterator[None]:
    """Hold the store's lock for the block; meanwhile, stop this process if its launcher dies.

    Raises:
        BusyError: another driver, whose launcher lives, holds it.
    """
    state.mkdir(parents=True, exist_ok=True)
    with (state / "driver.lock").open("a+") as file:
        _acquire(file)
        _sign(file, what)
        watch = _watch_launcher()
        try:
            yield
        finally:
            watch.set()


def _acquire(file: TextIO) -> None:
    deadline = time.monotonic() + GRACE_SECONDS
    killed = False
    while not _try(file):
        holder, late = _read(file), time.monotonic() > deadline
        if not _is_orphan(holder) or (late and (killed or not holder)):
            raise BusyError(
                f"another flatmin is at work here: {holder.get('what', 'unknown')} (process {holder.get('pid', '?')}). "
                "Wait for it to end, or stop it; two drivers must not share one store"
            )
        if late:
            _kill(holder)
            killed = True
            deadline = time.monotonic() + GRACE_SECONDS
        time.sleep(POLL_SECONDS)


def _try(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sign(file: TextIO, what: str) -> None:
    file.truncate(0)
    launcher = _launcher()
    json.dump(
        {
            "what": what,
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "started": _start_ticks(os.getpid()),
            "launcher": launcher and launcher.pid,
            "launched": launcher and _start_ticks(launcher.pid),
        },
        file,
    )
    file.flush()


def _read(file: TextIO) -> dict[str, Any]:
    file.seek(0)
    try:
        holder = json.load(file)
    except ValueError:  # between the holder's lock and its signature, or damaged
        return {}
    return holder if isinstance(holder, dict) else {}


def _launcher() -> psutil.Process | None:
    """Return the nearest ancestor that is ``dvc``, or the parent where none is (a shell, a test, a batch system).

    None under ``nohup``, which asks for a process that outlives the shell that started it.
    """
    with contextlib.suppress(psutil.Error):
        parents = psutil.Process().parents()
        for parent in parents:
            with contextlib.suppress(psutil.Error):
                if any(Path(word).name in LAUNCHERS for word in parent.cmdline()[:2]):
                    return parent
        outlives_its_shell = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        return parents[0] if parents and not outlives_its_shell else None
    return None


def _lives(pid: float | None, started: float | None) -> bool:
    if pid is None or started is None:
        return True  # nobody to watch: it runs until it ends
    try:
        return _start_ticks(int(pid)) == started and psutil.Process(int(pid)).status() != psutil.STATUS_ZOMBIE
    except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
        return False


def _start_ticks(pid: int) -> int:
    """Return when a process started, in ticks since boot: a number that setting the clock does not change."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[19])  # field 22 of proc(5), counted after the name


def _is_orphan(holder: dict[str, Any]) -> bool:
    """Whether a holder's launcher is gone; of a holder on another host nothing can be known."""
    if not holder:
        return True  # it has not signed yet
    return holder.get("host") == socket.gethostname() and not _lives(holder.get("launcher"), holder.get("launched"))


def _kill(holder: dict[str, Any]) -> None:
    if holder and _lives(holder.get("pid"), holder.get("started")):
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(holder["pid"]), signal.SIGKILL)


def _watch_launcher() -> threading.Event:
    """Stop this process by SIGTERM soon after its launcher is gone; set the event to end the watch."""
    done = threading.Event()
    launcher = _launcher()
    if launcher is not None:
        pid, started = launcher.pid, _start_ticks(launcher.pid)

        def watch() -> None:
            while not done.wait(POLL_SECONDS):
                if not _lives(pid, started):
                    os.kill(os.getpid(), signal.SIGTERM)
                    done.wait(GRACE_SECONDS / 3)
                    os._exit(128 + signal.SIGTERM)

        threading.Thread(target=watch, name="launcher-watch", daemon=True).start()
    return done
