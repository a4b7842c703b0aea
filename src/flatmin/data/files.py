"""All published files by name: of sources, of further test sets, and of the labels that people gave."""

from __future__ import annotations

import difflib

from flatmin.data import human_labels
from flatmin.data.errors import DataError
from flatmin.data.published import Published
from flatmin.data.sources import registry as sources
from flatmin.data.test_sets import registry as test_sets


def published(name: str) -> Published:
    """Return what is published under a name.

    Raises:
        DataError: nothing is.
    """
    people = {files.name: files for files in human_labels.PUBLISHED.values()}
    if name in people:
        return people[name]
    if name in test_sets.names():
        return test_sets.load(name)
    if name in sources.names():
        return sources.load(name)
    known = (*sources.names(), *test_sets.names(), *people)
    near = difflib.get_close_matches(name, known, n=1)
    raise DataError(
        f"nothing is published under the name {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""),
        f"Use one of {', '.join(known)}.",
    )


def everything() -> list[Published]:
    """Return all sources, test sets and human labels that there are, in this order."""
    return [
        *(sources.load(name) for name in sources.names()),
        *(test_sets.load(name) for name in test_sets.names()),
        *human_labels.PUBLISHED.values(),
    ]
