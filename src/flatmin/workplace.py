"""Where a worker works on an item, and the lease under which it may write there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from flatmin.records import write_atomically

LEASE = "lease"


class LeaseLostError(Exception):
    """Another driver has taken this item over: the worker must not write any more."""


@dataclass(frozen=True)
class Workplace:
    """Where an item is worked on: ``.flatmin/work/<kind>/<key>``, and the lease under which.

    A worker that outlives its driver meets the next driver's worker in the same folder. Whoever holds the lease goes
    on; the other finds its token replaced, before it writes a checkpoint or a result, and stops.
    """

    folder: Path
    token: str
    device: str = "cpu"

    @property
    def checkpoint(self) -> Path:
        """The file from which an interrupted item resumes, whoever wrote it."""
        return self.folder / "checkpoint.pt"

    @property
    def progress(self) -> Path:
        """The file to which a training appends a row per epoch, for the driver to show."""
        return self.folder / f"progress-{self.token}.csv"

    @property
    def result(self) -> Path:
        """The folder in which the outputs are made; complete when its head is sealed."""
        return self.folder / f"result-{self.token}"

    def take(self) -> None:
        """Give this lease the item (the driver does, before it sends the item out)."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self.folder / LEASE, self.token)

    def check(self) -> None:
        """Raise LeaseLostError unless the lease is still this one."""
        try:
            held = (self.folder / LEASE).read_text()
        except FileNotFoundError:
            held = ""
        if held != self.token:
            raise LeaseLostError(f"{self.folder.name}: taken over by another driver")
