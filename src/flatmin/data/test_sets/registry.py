"""The further test sets that there are: the modules of this folder."""

from __future__ import annotations

import difflib
import importlib
from pathlib import Path

from flatmin.data.errors import DataError
from flatmin.data.test_set import TestSet

OWN = "test"
"""The name of every source's own test set, which has no module here."""


def names() -> tuple[str, ...]:
    """Return the names of all further test sets, sorted, without importing any."""
    modules = (path.stem for path in Path(__file__).parent.glob("*.py"))
    return tuple(sorted(name for name in modules if name != "registry" and not name.startswith("_")))


def load(name: str) -> TestSet:
    """Return the test set ``name``.

    Raises:
        DataError: There is none of that name (the nearest is suggested), or its module does not define it.
    """
    known = names()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        raise DataError(
            f"no test set is called {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""),
            f"Use one of {', '.join((OWN, *known))}, or add flatmin/data/test_sets/{name}.py.",
        )
    found = getattr(importlib.import_module(f"flatmin.data.test_sets.{name}"), "TEST_SET", None)
    if not isinstance(found, TestSet) or found.name != name:
        raise DataError(
            f"flatmin/data/test_sets/{name}.py defines no TEST_SET named {name!r}",
            "Define TEST_SET = NewImages(name=...).",
        )
    return found
