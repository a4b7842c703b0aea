"""One printed table as plain text cells."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

MOST_COLUMNS = 8
"""More columns than these beside each other cannot be read: rows and columns change places."""


@dataclass(frozen=True)
class Block:
    """One printed table: a caption, a header, and rows of text; the first ``stubs`` columns say what a row is.

    ``id`` names a table that is a file of its own, ``title`` heads it; ``notes`` are printed below the rows.
    """

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    stubs: int
    id: str = ""
    title: str = ""
    notes: tuple[str, ...] = ()


def readable(blocks: Sequence[Block], place: int = 2) -> list[Block]:
    """Return the blocks, each that has too many columns transposed: columns as rows, a block per row's place.

    Args:
        blocks: Tables whose columns beyond the stubs are alike (methods).
        place: How many of the stubs say where a row belongs (dataset, model); the others become the columns' names.
    """
    return [part for block in blocks for part in _readable(block, place)]


def _readable(block: Block, place: int) -> Iterator[Block]:
    if len(block.header) - block.stubs <= MOST_COLUMNS:
        yield block
        return
    for key in dict.fromkeys(row[:place] for row in block.rows):
        rows = [row for row in block.rows if row[:place] == key]
        for first in range(0, len(rows), MOST_COLUMNS):
            yield _transposed(block, key, rows[first : first + MOST_COLUMNS], place)


def _transposed(block: Block, key: tuple[str, ...], rows: Sequence[tuple[str, ...]], place: int) -> Block:
    methods = block.header[block.stubs :]
    names = [", ".join(row[place : block.stubs]) for row in rows]
    body = [(method, *(row[block.stubs + i] for row in rows)) for i, method in enumerate(methods)]
    return Block(f"{' / '.join(key)}. {block.caption}", ("method", *names), tuple(body), 1)
