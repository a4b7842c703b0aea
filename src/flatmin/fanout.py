"""The one mechanism of every stage: plan the items, keep the fresh ones, fan the rest out, publish each.

A stage *brings its outputs up to date*. An item whose key is in the store, in the published outputs (a fresh clone
after ``dvc pull``) or finished in a work folder (of a driver that was killed) is not computed again. The others are
worked on in parallel; each is published when it is complete, by a rename; one that fails is named with its log and
stops nobody. In the end the outputs are exactly the planned ones.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from flatmin.errors import DISK_FULL, FlatminError
from flatmin.executor import Executor, Job
from flatmin.records import CorruptRecordError, file_digest, verify
from flatmin.store import STATE, Store, link, prune, publish
from flatmin.work import KINDS, explain, finished
from flatmin.workplace import Workplace

SHOWN = 10
"""Failures that are told one by one; where more fail, the reason is rarely another."""


@dataclass(frozen=True)
class Item:
    """One planned piece of work.

    Attributes:
        id: what people call it: a run id, a dataset.
        kind: its `flatmin.work.Kind`.
        key: hash of all that determines its result.
        task: what the worker needs, as plain data; locations in it do not count for the key.
        outputs: where the files of its result are published, by their names in the result.
    """

    id: str
    kind: str
    key: str
    task: Mapping[str, Any]
    outputs: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class Failure:
    """An item that could not be done: why, and where its traceback is."""

    item: Item
    reason: str
    log: Path

    def __str__(self) -> str:
        log = f"\n    log: {self.log}" if self.log.exists() else ""  # a worker that was killed wrote none
        return f"  {self.item.id}: {self.reason}{log}"


@dataclass
class Outcome:
    """What a stage did: the items found fresh, those done now, and those that failed."""

    fresh: list[Item] = field(default_factory=list)
    done: list[Item] = field(default_factory=list)
    failed: list[Failure] = field(default_factory=list)


class FailedItemsError(FlatminError):
    """Some items of a stage failed; the others are done and published."""

    exit_code = 1

    def __init__(self, stage: str, outcome: Outcome) -> None:
        lines = [str(failure) for failure in outcome.failed[:SHOWN]]
        lines += [f"  and {len(outcome.failed) - SHOWN} more"] if len(outcome.failed) > SHOWN else []
        ready = len(outcome.fresh) + len(outcome.done)
        super().__init__(
            f"{stage}: {len(outcome.failed)} of {len(outcome.failed) + ready} failed (the other {ready} are kept, and "
            "the next `dvc repro` does only what is missing):\n" + "\n".join(lines)
        )


class StoppedError(FlatminError):
    """The driver itself could not go on; what was published before is whole."""

    exit_code = 1


class Observer(Protocol):
    """Is told what happens while a stage works: progress on the terminal, the live MLflow view."""

    def begin(self, jobs: Sequence[Job], fresh: int) -> None:
        """The jobs about to be worked on, and how many items needed none."""

    def end(self, job: Job, reason: str | None) -> None:
        """A job is published (``reason`` None) or failed."""

    def close(self) -> None:
        """All jobs have ended, or the stage is being stopped."""


def bring_up_to_date(
    items: Sequence[Item],
    *,
    folders: Iterable[Path] = (),
    observers: Sequence[Observer] = (),
    executor: Executor | None = None,
    state: Path = STATE,
) -> Outcome:
    """Make, publish and keep exactly ``items``; remove what else lies in ``folders``.

    Items with equal keys are worked on once and published at each of their places. An ``executor`` of the caller keeps
    its workers for the caller's next call.

    Raises:
        StoppedError: the disk is full.
    """
    fanout = _Fanout(items, observers, state)
    try:
        fanout.find_fresh()
        with ExitStack() as stack:
            fanout.work(executor or stack.enter_context(Executor()))
    except OSError as error:
        if error.errno in DISK_FULL:
            raise StoppedError(explain(error)) from error
        raise
    ready = [*fanout.outcome.fresh, *fanout.outcome.done]
    prune(folders, (path for item in ready for path in item.outputs.values()))
    return fanout.outcome


class _Fanout:
    def __init__(self, items: Sequence[Item], observers: Sequence[Observer], state: Path) -> None:
        self.state = state
        self.store = Store(state)
        self.observers = observers
        self.outcome = Outcome()
        self.by_key: dict[tuple[str, str], list[Item]] = defaultdict(list)
        for item in items:
            self.by_key[item.kind, item.key].append(item)
        self.missing: list[tuple[str, str]] = []

    def find_fresh(self) -> None:
        for (kind, key), items in self.by_key.items():
            if self.store.read(kind, key, KINDS[kind].head) or self._adopt(items) or self._collect(kind, key):
                self._publish(kind, key)
                self.outcome.fresh += items
            else:
                self.missing.append((kind, key))

    def _adopt(self, items: Sequence[Item]) -> bool:
        """Take a published result, as ``dvc pull`` brings it to a new machine, into the store."""
        for item in items:
            head = item.outputs.get(KINDS[item.kind].head)
            if head is not None and self._is_sealed(item, head):
                folder = self._work_folder(item.kind, item.key)
                shutil.rmtree(folder, ignore_errors=True)
                for name, path in item.outputs.items():
                    if path.exists():
                        link(path, folder / "adopted" / name)
                self.store.put(item.kind, item.key, folder / "adopted")
                shutil.rmtree(folder)
                return True
        return False

    @staticmethod
    def _is_sealed(item: Item, head: Path) -> bool:
        try:
            sealed = verify(head.parent, head.name)
        except (FileNotFoundError, CorruptRecordError):
            return False
        return sealed.get("key") == item.key and set(sealed["files"]) <= set(item.outputs)

    def _collect(self, kind: str, key: str) -> bool:
        """Publish into the store what a worker finished and its driver, which was killed, did not collect."""
        folder = self._work_folder(kind, key)
        result = finished(kind, key, folder)
        if result is None:
            return False
        self._put(kind, key, result)
        return True

    def work(self, executor: Executor) -> None:
        jobs = [self._job(kind, key) for kind, key in self.missing]
        fresh = len(self.outcome.fresh)
        with ExitStack() as stack:
            for observer in self.observers:
                observer.begin(jobs, fresh)
                stack.callback(observer.close)
            for job, reason in executor.execute(jobs) if jobs else ():
                reason = self._end(job, reason)
                for observer in self.observers:
                    observer.end(job, reason)

    def _job(self, kind: str, key: str) -> Job:
        item = self.by_key[kind, key][0]
        workplace = Workplace(self._work_folder(kind, key).absolute(), uuid.uuid4().hex[:12])
        workplace.take()
        log = (self.state / "logs" / kind / f"{item.id}.log").absolute()
        log.unlink(missing_ok=True)
        return Job(item.id, kind, key, item.task, workplace, log)

    def _end(self, job: Job, reason: str | None) -> str | None:
        items = self.by_key[job.kind, job.key]
        if reason is None:
            try:
                self._put(job.kind, job.key, job.workplace.result)
            except (FileNotFoundError, CorruptRecordError) as error:
                reason = f"its result is not whole ({error})"
        if reason is None:
            self._publish(job.kind, job.key)
            self.outcome.done += items
        else:
            log = Path(os.path.relpath(job.log))
            self.outcome.failed += [Failure(item, reason, log) for item in items]
        return reason

    def _put(self, kind: str, key: str, result: Path) -> None:
        verify(result, KINDS[kind].head)
        if self.store.put(kind, key, result):
            self._journal(kind, key)
        shutil.rmtree(self._work_folder(kind, key), ignore_errors=True)

    def _publish(self, kind: str, key: str) -> None:
        entry = self.store.entry(kind, key)
        for item in self.by_key[kind, key]:
            outputs = {name: path for name, path in item.outputs.items() if (entry / name).exists()}
            publish(entry, outputs, {name: file_digest(entry / name) for name in outputs})

    def _journal(self, kind: str, key: str) -> None:
        """Note each entry of the store once, when it is made: the evidence that nothing is computed twice."""
        with (self.state / "journal.log").open("a") as journal:
            journal.write(f"{kind} {key}\n")

    def _work_folder(self, kind: str, key: str) -> Path:
        return self.state / "work" / kind / key
