"""Reading files that nobody has vouched for: every failure is a `DataError`, and no size is believed.

What is here is shared by the readers of single formats: expected shapes, zip files, and what a damaged file raises.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from zipfile import ZipFile

from flatmin.data.errors import DataError

AGAIN = "Delete the file and download it again."

Shape = tuple[int | None, ...]
"""The expected shape of an array; None stands for any length but 0."""


def fits(found: tuple[int, ...], shape: Shape) -> bool:
    """Return whether ``found`` is the expected shape."""
    return len(found) == len(shape) and all(
        length > 0 if expected is None else length == expected for length, expected in zip(found, shape, strict=True)
    )


def spelled(shape: Shape) -> str:
    """Return an expected shape as messages show it, such as [n, 32, 32, 3]."""
    return f"[{', '.join('n' if length is None else str(length) for length in shape)}]"


@contextmanager
def reading(path: Path, kind: str, fix: str = AGAIN) -> Iterator[None]:
    """Turn whatever is raised while ``path`` is read as a ``kind`` of file into a `DataError` with the advice ``fix``.

    Parsers raise almost any exception on a damaged file, a missing one included; a `DataError` passes unchanged.
    """
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{path} is not a readable {kind}: {error!r}", fix) from error


class _Clamped(io.BufferedReader):
    """A file of which no more can be asked than it has: Python takes the memory for what is asked before it reads.

    zipfile asks for as much as the file says that its directory has, up to 4 GB.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self._size = path.stat().st_size

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next ``size`` bytes, or those that there are."""
        return super().read(size if size is None or size < 0 else min(size, self._size))


@contextmanager
def open_zip(path: Path) -> Iterator[ZipFile]:
    """Open a zip file for reading.

    Raises:
        DataError: It is no zip file, two entries have one name, or one is named as if it lay outside.
    """
    with ExitStack() as opened:
        with reading(path, "zip file"):
            archive = opened.enter_context(ZipFile(opened.enter_context(_Clamped(path))))
        names = archive.namelist()
        if len(set(names)) < len(names):
            raise DataError(f"{path} is not safe: two of its entries have the same name", AGAIN)
        for name in names:
            parts = PurePosixPath(name)
            if parts.is_absolute() or ".." in parts.parts or "\\" in name:
                raise DataError(f"{path} is not safe: {name!r} points out of its folder", AGAIN)
        yield archive


def read_entry(archive: ZipFile, name: str, limit: int) -> bytes:
    """Return the content of a zip's entry, which may have at most ``limit`` bytes however well it is compressed.

    It is read to its end, where zipfile compares its checksum.

    Raises:
        DataError: There is no such entry, it is larger, or it is damaged.
    """
    path = Path(archive.filename or "")
    if name not in archive.NameToInfo:
        raise DataError(f"{path} has no entry {name}", AGAIN)
    entry = archive.getinfo(name)
    if entry.file_size > limit:
        raise DataError(f"{path} is not safe: {name} has {entry.file_size} bytes, more than {limit}", AGAIN)
    with reading(path, "zip file"), archive.open(entry) as stream:
        return stream.read()
