"""The sources that there are: the modules of this folder."""

from __future__ import annotations

from flatmin.data.registry import Registry
from flatmin.data.source import Source

_SOURCES = Registry("flatmin.data.sources", "source", "SOURCE", Source)

names, load = _SOURCES.names, _SOURCES.load
