"""What flatmin says when the user's input cannot be used: one message, with the place, the value and the fix."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
"""What the system says of a disk, or a quota, that is full."""


class FlatminError(Exception):
    """An error that its message explains completely; the command line prints it without a traceback.

    ``exit_code`` is 2 for bad input and 1 where some items of a stage failed.
    """

    exit_code = 2


class Problem:
    """One thing that is wrong with the study: the key's path, what is wrong with its value, and the fix."""

    def __init__(self, path: str, message: str, fix: str = "") -> None:
        self.path, self.message, self.fix = path, message, fix

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" + (f"\n    {self.fix}" if self.fix else "")


class StudyError(FlatminError):
    """The study cannot be run as written; lists every problem found."""

    def __init__(self, file: str, problems: Iterable[Problem]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join([f"{file} cannot be used:", *(f"  {problem}" for problem in self.problems)]))


def nearest(name: object, valid: Iterable[str]) -> str:
    """Return a sentence that offers the valid names nearest to ``name``, or all of them when they are few."""
    names = sorted(valid)
    close = difflib.get_close_matches(str(name), names, n=3, cutoff=0.5)
    if close:
        # names that are much further away than the nearest would only distract
        best = difflib.SequenceMatcher(None, str(name), close[0]).ratio()
        close = [n for n in close if difflib.SequenceMatcher(None, str(name), n).ratio() > best - 0.1]
        return f"did you mean {' or '.join(map(repr, close))}?"
    if len(names) <= 12:
        return f"valid: {', '.join(names)}"
    return f"{len(names)} names are valid, for example {', '.join(names[:5])}"
