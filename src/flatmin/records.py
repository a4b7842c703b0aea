"""Sealed results: a folder of files with one JSON *head* that names them, so that any later damage is seen.

The head of a training is ``record.json``, that of an evaluation ``evaluation.json``, and so on. Records are the truth
of the study; MLflow is a view of them. A head holds nothing that differs between two executions: no time, host, path.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flatmin.errors import FlatminError

VERSION = 1


class CorruptRecordError(FlatminError):
    """A record does not hold what was sealed in it."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"{path}: {reason}. It was changed or cut off after it was written: `dvc repro` replaces it from the "
            "store, or computes it anew"
        )


def canonical(content: Any) -> str:
    """Return JSON with sorted keys and no spare bytes, in which equal contents are equal texts."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest_of(content: Any) -> str:
    """Return the SHA-256 (hex) of a content's canonical JSON."""
    return hashlib.sha256(canonical(content).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """Return the SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader, or a crash, finds the old content or the new one and never half of it.

    Raises:
        OSError: the disk is full or the folder cannot be written; the old file is then untouched.
    """
    data = content.encode() if isinstance(content, str) else content
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def seal(folder: Path, head: str, content: dict[str, Any], aside: Sequence[str] = ()) -> dict[str, Any]:
    """Write the head of a folder: ``content``, the digests of the folder's other files, and a digest of it all.

    Files named in ``aside`` stay out of it: what they hold (seconds) differs between two executions.
    """
    files = {
        str(path.relative_to(folder)): file_digest(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and str(path.relative_to(folder)) not in (head, *aside)
    }
    sealed: dict[str, Any] = json.loads(canonical({"version": VERSION, **content, "files": files}))
    sealed["digest"] = digest_of(sealed)
    write_atomically(folder / head, _text(sealed))
    return sealed


def _text(sealed: dict[str, Any]) -> str:
    return json.dumps(sealed, indent=1, sort_keys=True, allow_nan=False) + "\n"


def read_head(path: Path) -> dict[str, Any]:
    """Read a head and check that it is the one that was sealed.

    Raises:
        FileNotFoundError: there is none.
        CorruptRecordError: it was changed or cut off.
    """
    try:
        text = path.read_text(encoding="utf-8")
        sealed: dict[str, Any] = json.loads(text)
        content = {name: value for name, value in sealed.items() if name != "digest"}
        intact = sealed["digest"] == digest_of(content) and text == _text(sealed)
    except (ValueError, AttributeError, KeyError, TypeError):
        raise CorruptRecordError(path, "not a complete record") from None
    if not intact:
        raise CorruptRecordError(path, "its content does not match its digest")
    if sealed.get("version") != VERSION:
        raise CorruptRecordError(path, f"written in format {sealed.get('version')}, this flatmin reads {VERSION}")
    return sealed


def verify(folder: Path, head: str) -> dict[str, Any]:
    """Read a folder's head and check every file that it names.

    Raises:
        FileNotFoundError: there is no head.
        CorruptRecordError: the head or a file is not what was sealed.
    """
    sealed = read_head(folder / head)
    for name, expected in sealed["files"].items():
        path = folder / name
        if not path.is_file():
            raise CorruptRecordError(path, "is missing")
        if file_digest(path) != expected:
            raise CorruptRecordError(path, "its content does not match the record")
    return sealed
