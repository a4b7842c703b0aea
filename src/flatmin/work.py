"""One item of work, as a worker performs it: under a lease, in a folder of its own, sealed when it is complete.

This module and what it loads for a kind of work import none of dvc, mlflow, dask, pandas and matplotlib.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import shutil
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flatmin.errors import DISK_FULL, FlatminError
from flatmin.records import CorruptRecordError, seal, verify
from flatmin.workplace import Workplace


@dataclass(frozen=True)
class Kind:
    """A kind of work: its function ``module:name``, the head that seals its result, and the files beside the seal.

    The function takes the item's task and a `Workplace`, writes its files into ``workplace.result`` and returns the
    content of the head.
    """

    function: str
    head: str
    aside: tuple[str, ...] = ()
    light: bool = False
    """Done in the driver's own process: it takes less time than a worker takes to start."""

    def load(self) -> Callable[[Mapping[str, Any], Workplace], dict[str, Any]]:
        """Import the function."""
        module, _, name = self.function.partition(":")
        function: Callable[[Mapping[str, Any], Workplace], dict[str, Any]] = getattr(
            importlib.import_module(module), name
        )
        return function


KINDS = {
    "download": Kind("flatmin.data.work:download", "download.json", light=True),
    "images": Kind("flatmin.data.work:images", "manifest.json", light=True),
    "draw": Kind("flatmin.data.work:draw", "manifest.json", light=True),
    "test_set": Kind("flatmin.data.work:test_set", "manifest.json", light=True),
    "corruption": Kind("flatmin.data.work:test_set", "manifest.json"),
    "hub_weights": Kind("flatmin.pretrained:fetch", "download.json", light=True),
    "weights": Kind("flatmin.pretrained:write", "manifest.json", light=True),
    "train": Kind("flatmin.training.run:train", "record.json", aside=("timings.json",)),
    "evaluate": Kind("flatmin.evaluation.run:evaluate", "evaluation.json"),
    "shift": Kind("flatmin.evaluation.shift:evaluate", "evaluation.json"),
    "sharpness": Kind("flatmin.sharpness.run:measure", "sharpness.json"),
}


def perform(kind: str, key: str, task: Mapping[str, Any], workplace: Workplace, log: Path) -> str | None:
    """Do one item; return None when its result is sealed, else why it failed (the traceback is in ``log``).

    Every exception of the work ends here, so that one failing item does not stop the others.
    """
    try:
        _perform(kind, key, task, workplace)
    except Exception as error:
        with contextlib.suppress(OSError):  # on a full disk, the reason must still come through
            log.parent.mkdir(parents=True, exist_ok=True)
            log.write_text(traceback.format_exc())
        logging.getLogger(__name__).debug("%s failed", key, exc_info=True)
        return explain(error)
    return None


def _perform(kind: str, key: str, task: Mapping[str, Any], workplace: Workplace) -> None:
    workplace.check()
    shutil.rmtree(workplace.result, ignore_errors=True)
    workplace.result.mkdir(parents=True)
    content = KINDS[kind].load()(task, workplace)
    workplace.check()
    seal(workplace.result, KINDS[kind].head, {"kind": kind, "key": key, **content}, KINDS[kind].aside)


def finished(kind: str, key: str, folder: Path) -> Path | None:
    """Return a complete result in a work folder, whichever driver's worker made it, or None.

    Results are a function of the key, so that of a driver that was killed is as good as a new one.
    """
    for result in sorted(folder.glob("result-*")):
        try:
            if verify(result, KINDS[kind].head)["key"] == key:
                return result
        except (FileNotFoundError, CorruptRecordError, KeyError):
            continue
    return None


def explain(error: Exception) -> str:
    """Return one line that tells a user what happened and, where it is known, what to do."""
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        return f"the disk is full ({error.filename or 'while writing a result'}): free some space and run again"
    if isinstance(error, MemoryError):
        return "out of memory: use fewer workers (FLATMIN_WORKERS=1) or a smaller batch_size"
    if isinstance(error, FlatminError):
        return str(error)
    return f"{type(error).__name__}: {error}"
