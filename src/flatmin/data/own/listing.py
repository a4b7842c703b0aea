"""What a user's folder holds: its folders and files in order of name, and a hash of all that."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from flatmin.data.errors import DataError

_PASSED_OVER = frozenset({"thumbs.db", "desktop.ini", "__macosx"})
"""What operating systems leave in folders, besides hidden files; in lower case."""

_LINKS = "Put the file itself in its place. The folder as a whole may be a link."


class Content(NamedTuple):
    """The folders and files directly in a folder, each in order of name (code points)."""

    folders: list[Path]
    files: list[Path]


def content(folder: Path, root: Path) -> Content:
    """Return what is in ``folder``, without hidden files, Thumbs.db and the like.

    Links to files are followed as long as they stay within ``root``: a copy of the folder then has the same content.
    Links to folders are refused, so there are no loops.

    Args:
        folder: ``root`` itself or a folder in it.
        root: The user's folder.

    Raises:
        DataError: It is no folder that can be listed; or it holds a link that leads to a folder, to nothing or out of
            ``root``, something that is neither file nor folder, or a name that is not valid Unicode.
    """
    try:
        entries = sorted(folder.iterdir(), key=lambda path: path.name)
    except FileNotFoundError:
        raise DataError(f"there is no folder {folder}", "Correct the path, or put the images there.") from None
    except OSError as error:
        raise DataError(
            f"{folder} is no folder that can be listed ({error.strerror})", "Give the path of a readable folder."
        ) from error
    found = Content([], [])
    for entry in entries:
        if entry.name.startswith(".") or entry.name.lower() in _PASSED_OVER:
            continue
        _refuse_strange_name(entry)
        if entry.is_symlink():
            _refuse_link(entry, root)
        if entry.is_dir():
            found.folders.append(entry)
        elif entry.is_file():
            found.files.append(entry)
        else:
            raise DataError(f"{entry} is neither a file nor a folder", "Remove it.")
    return found


def fingerprint(folder: Path) -> str:
    """Return the SHA-256 (hex) over the relative names and the contents of all files under ``folder``.

    What `content` passes over does not count, nor do dates, permissions, empty folders and the folder's own name.
    Files are read in pieces.

    Raises:
        DataError: As `content`; or a file cannot be read.
    """
    digest = hashlib.sha256()
    for path in _files_under(folder, folder):
        name = path.relative_to(folder).as_posix()
        digest.update(f"{name}\0{_file_digest(path)}\n".encode())
    return digest.hexdigest()


def _files_under(folder: Path, root: Path) -> Iterator[Path]:
    found = content(folder, root)
    yield from found.files
    for inner in found.folders:
        yield from _files_under(inner, root)


def _file_digest(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})", "Make it readable, or remove it.") from error


def _refuse_strange_name(entry: Path) -> None:
    try:
        entry.name.encode()
    except UnicodeEncodeError:
        raise DataError(
            f"the name {os.fsencode(entry.name)!r} in {entry.parent} is not valid UTF-8", "Rename it."
        ) from None


def _refuse_link(link: Path, root: Path) -> None:
    try:
        target = link.resolve(strict=True)
    except (OSError, RuntimeError):  # RuntimeError: a loop
        raise DataError(f"{link} is a link that leads nowhere", _LINKS) from None
    if target.is_dir():
        raise DataError(f"{link} is a link to a folder", "Put the folder itself in its place.")
    if not target.is_relative_to(root.resolve()):
        raise DataError(f"{link} is a link that leads out of {root}, to {target}", _LINKS)
