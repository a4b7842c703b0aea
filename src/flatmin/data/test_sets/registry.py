"""The further test sets that there are: the modules of this folder."""

from __future__ import annotations

from flatmin.data.registry import Registry
from flatmin.data.test_set import TestSet

OWN = "test"
"""The name of every source's own test set, which has no module here."""

_TEST_SETS = Registry("flatmin.data.test_sets", "test set", "TEST_SET", TestSet, "NewImages")

names, load = _TEST_SETS.names, _TEST_SETS.load
