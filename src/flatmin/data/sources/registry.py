"""The sources that there are: the modules of this folder."""

from __future__ import annotations

import difflib
import importlib
from pathlib import Path

from flatmin.data.errors import DataError
from flatmin.data.source import Source

_NOT_SOURCES = {"__init__", "registry"}


def names() -> tuple[str, ...]:
    """Return the names of all sources, sorted, without importing any."""
    return tuple(sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem not in _NOT_SOURCES))


def load(name: str) -> Source:
    """Return the source ``name``.

    Raises:
        DataError: There is none of that name (the nearest is suggested), or its module does not define it.
    """
    known = names()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        raise DataError(
            f"no source is called {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""),
            f"Use one of {', '.join(known)}, or add flatmin/data/sources/{name}.py.",
        )
    source = getattr(importlib.import_module(f"flatmin.data.sources.{name}"), "SOURCE", None)
    if not isinstance(source, Source) or source.name != name:
        raise DataError(
            f"flatmin/data/sources/{name}.py defines no SOURCE named {name!r}", "Define SOURCE = Source(name=...)."
        )
    return source
