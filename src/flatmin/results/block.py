"""One printed table as plain text cells."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Block:
    """One printed table: a caption, a header, and rows of text; the first ``stubs`` columns say what a row is."""

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    stubs: int
