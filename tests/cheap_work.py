"""Kinds of work that take no time, for the tests of the fan-out; Dask workers know them by preloading this module."""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flatmin.work import KINDS, Kind
from flatmin.workplace import Workplace

HEAD = "cheap.json"
CHEAP = {
    "cheap": Kind("cheap_work:work", HEAD, aside=("seconds.json",)),
    "light": Kind("cheap_work:work", HEAD, light=True),
}


def dask_setup(worker: object) -> None:
    """Teach a worker the kinds."""
    KINDS.update(CHEAP)


def work(task: Mapping[str, Any], workplace: Workplace) -> dict[str, Any]:
    """Write ``data.txt``, note the call in the file ``calls``, and do what ``task["does"]`` says."""
    if "calls" in task:
        with Path(task["calls"]).open("a") as calls:
            calls.write(f"{os.getpid()} {task['text']}\n")
    (workplace.result / "data.txt").write_text(task["text"])
    (workplace.result / "seconds.json").write_text(str(os.getpid()))
    does = task.get("does", "")
    if does:
        globals()[does](task, workplace)
    return {"length": len(task["text"])}


def fails(task: Mapping[str, Any], workplace: Workplace) -> None:
    raise ValueError("the sky fell")


def fills_the_disk(task: Mapping[str, Any], workplace: Workplace) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(workplace.result / "big.bin"))


def is_interrupted(task: Mapping[str, Any], workplace: Workplace) -> None:
    raise KeyboardInterrupt


def is_overtaken(task: Mapping[str, Any], workplace: Workplace) -> None:
    """Another driver takes the item while this worker works on it."""
    Workplace(workplace.folder, "of-another-driver").take()


def dies_once(task: Mapping[str, Any], workplace: Workplace) -> None:
    mark = Path(task["mark"])
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)


def dies(task: Mapping[str, Any], workplace: Workplace) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def waits(task: Mapping[str, Any], workplace: Workplace) -> None:
    time.sleep(60)
