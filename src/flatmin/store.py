"""The local store of finished work, ``.flatmin/store/<kind>/<key>``, and its hard links in the working tree.

An entry is a sealed folder. It is written once, by one rename, verified whenever it is read, and replaced when found
damaged, never edited: its files may share their inodes with DVC's cache and with the published outputs.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from flatmin.records import CorruptRecordError, file_digest, verify

STATE = Path(".flatmin")
"""The folder of everything that is neither params, code, nor a DVC output: store, work in progress, logs, locks."""


class Store:
    """Finished work by kind (``train``, ``evaluate``, ...) and key."""

    def __init__(self, state: Path = STATE) -> None:
        self.root = state / "store"

    def entry(self, kind: str, key: str) -> Path:
        """Return the folder of an entry, which need not exist."""
        return self.root / kind / key

    def read(self, kind: str, key: str, head: str) -> dict[str, Any] | None:
        """Return the verified head of an entry, or None where there is none.

        A damaged entry is removed, so that it is made anew.
        """
        try:
            return verify(self.entry(kind, key), head)
        except (FileNotFoundError, CorruptRecordError):
            self.remove(kind, key)  # without its head, an entry would be in the way of a new one
            return None

    def put(self, kind: str, key: str, folder: Path) -> bool:
        """Move a sealed folder into the store by one rename; return False where the key was there already."""
        entry = self.entry(kind, key)
        entry.parent.mkdir(parents=True, exist_ok=True)
        try:
            folder.rename(entry)
        except OSError:
            if not entry.exists():
                raise
            shutil.rmtree(folder)
            return False
        return True

    def remove(self, kind: str, key: str) -> None:
        """Remove an entry; it disappears from readers' sight at once, by a rename."""
        entry = self.entry(kind, key)
        doomed = entry.with_name(f".{entry.name}.{os.getpid()}.removed")
        try:
            entry.rename(doomed)
        except FileNotFoundError:
            return
        shutil.rmtree(doomed)


def link(source: Path, target: Path) -> None:
    """Hard-link ``source`` to ``target`` by a rename over it; copy where the file system has no hard links."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    part.unlink(missing_ok=True)
    try:
        try:
            os.link(source, part)
        except OSError:
            shutil.copy2(source, part)
        part.replace(target)  # does nothing when both are links to one inode: then `part` stays
    finally:
        part.unlink(missing_ok=True)


def publish(entry: Path, outputs: Mapping[str, Path], digests: Mapping[str, str]) -> None:
    """Bring the published files of an entry up to date: ``outputs`` maps a name in the entry to its place.

    A folder of outputs (a run's) appears by one rename where it was not there; a file whose content is right is left
    alone.
    """
    missing = [name for name, target in outputs.items() if not _holds(target, digests[name])]
    fresh = {outputs[name].parent for name in missing if not outputs[name].parent.exists()}
    staging = {folder: folder.with_name(f".{folder.name}.{os.getpid()}.part") for folder in fresh}
    for name in missing:
        target = outputs[name]
        link(entry / name, staging.get(target.parent, target.parent) / target.name)
    for folder, part in staging.items():
        part.rename(folder)


def _holds(path: Path, digest: str) -> bool:
    return path.is_file() and file_digest(path) == digest


def prune(folders: Iterable[Path], keep: Iterable[Path]) -> list[Path]:
    """Remove every file below ``folders`` that is not in ``keep``, and the folders left empty; return the files."""
    wanted = {path.absolute() for path in keep}
    removed = []
    for folder in folders:
        for path in sorted(folder.rglob("*"), reverse=True):
            if path.is_dir() and not path.is_symlink():
                if not any(path.iterdir()):
                    path.rmdir()
            elif path.absolute() not in wanted:
                path.unlink()
                removed.append(path)
    return removed
