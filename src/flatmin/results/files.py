"""Writing results: whole files or none, and none left over from another study."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Write ``text`` (UTF-8, ending in one newline) beside ``path`` and move it into place in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = text.rstrip("\n") + "\n"
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as stream:
            stream.write(content)
        Path(name).chmod(0o644)  # mkstemp makes files that only their owner can read
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def prune(folder: Path, keep: Collection[str], suffixes: Collection[str]) -> None:
    """Remove the files of ``folder`` with one of ``suffixes`` that are not named in ``keep``."""
    if not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.suffix in suffixes and path.name not in keep:
            path.unlink()
