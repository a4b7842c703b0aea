"""The one error of this package, and the translation of a full disk into it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flatmin.errors import DISK_FULL, FlatminError


class DataError(FlatminError):
    """Data could not be obtained, trusted or used.

    Attributes:
        problem: What was wrong and where.
        fix: What the reader can do about it.
    """

    def __init__(self, problem: str, fix: str) -> None:
        super().__init__(problem, fix)  # both in args, so that the error survives the pickling between processes
        self.problem = problem
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.problem}\n{self.fix}"


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a full disk (or quota) met while writing ``path`` into a `DataError`; other errors pass unchanged."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        raise DataError(
            f"disk full while writing {path} ({error.strerror})",
            f"Free space on the file system that holds {path.parent} and run the same command again.",
        ) from error
