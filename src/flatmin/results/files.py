"""Writing results: whole files or none, and none left over from another study."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from flatmin.records import write_atomically


def write_text(path: Path, text: str) -> None:
    """Write ``text`` (UTF-8, ending in one newline) beside ``path`` and move it into place in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text.rstrip("\n") + "\n")


def prune(folder: Path, keep: Collection[str], suffixes: Collection[str]) -> None:
    """Remove the files of ``folder`` with one of ``suffixes`` that are not named in ``keep``."""
    if not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.suffix in suffixes and path.name not in keep:
            path.unlink()
