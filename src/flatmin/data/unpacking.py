"""Taking the members out of an archive, without trusting anything in it."""

from __future__ import annotations

import gzip
import tarfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Protocol

from flatmin.data.errors import writing
from flatmin.data.published import Archive, Member, algorithm, file_checksum, hasher

CHUNK = 2**20
_SLACK = 2**20  # tar headers, padding, and the short files in an archive that are left inside


class Readable(Protocol):
    """What gives bytes: an open file, the answer of a host."""

    def read(self, size: int = -1, /) -> bytes:
        """Return at most ``size`` bytes, none at the end."""


class RefusedError(Exception):
    """One place did not have the file, or had a wrong one; the next place is tried."""


def unpack_file(archive: Archive, file: Path, work: Path) -> None:
    """Take the members out of an archive on disk into the folder ``work``.

    Raises:
        RefusedError: its checksum is none of the known ones, it is damaged, hostile, or lacks a member.
        DataError: the disk is full.
    """
    if archive.packing == "tar":
        with file.open("rb") as stream:
            unpack_stream(archive, stream, work)
        return
    found = file_checksum(file, archive.checksum)
    if found not in (archive.checksum, *archive.repackaged):
        raise _wrong(file.name, found, archive.checksum, ". Delete it or replace it")
    limit = sum(member.most_bytes for member in archive.members) + _SLACK
    try:
        if archive.packing == "none":
            with file.open("rb") as stream:
                write_member(stream, archive.members[0], work)
            return
        with gzip.open(file) as unzipped:
            if archive.packing == "tar.gz":
                _untar(archive, _Bounded(unzipped, limit), work)
            else:
                write_member(unzipped, archive.members[0], work)
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise RefusedError(f"{file.name} is damaged: {error}") from error


def unpack_stream(archive: Archive, stream: Readable, work: Path) -> None:
    """Take the members out of an uncompressed tar as it streams by; the rest of it is hashed and never kept.

    Whether the archive is the right one is known at its end: until this returns, what lies in ``work`` is not to be
    trusted.

    Raises:
        RefusedError: the archive's size or checksum is wrong, it is damaged, hostile, or lacks a member.
        DataError: the disk is full.
    """
    bounded = _Bounded(stream, archive.most_bytes)
    hashed = _Hashed(bounded, archive)
    try:
        _untar(archive, hashed, work)
    except tarfile.TarError as error:
        raise RefusedError(f"{archive.name} is damaged: {error}") from error
    while hashed.read(CHUNK):
        pass
    if (found := hashed.digest.hexdigest()) != archive.checksum:
        raise _wrong(archive.name, found, archive.checksum)


def write_member(stream: Readable, member: Member, work: Path) -> None:
    """Write a member's content to ``work`` and check its checksum.

    Raises:
        RefusedError: it is wrong, or the content is larger than the member.
        DataError: the disk is full.
    """
    path = work / member.name
    written = 0
    with writing(path), path.open("wb") as out:
        while chunk := stream.read(CHUNK):
            written += len(chunk)
            if written > member.most_bytes:
                raise RefusedError(f"{member.name} has more than the expected {member.most_bytes} bytes")
            out.write(chunk)
    if (found := file_checksum(path, member.checksum)) != member.checksum:
        raise _wrong(member.name, found, member.checksum)


def wrong_members(members: Sequence[Member], folder: Path) -> list[str]:
    """Return what is wrong with the files of ``folder``, a sentence each."""
    wrong = []
    for member in members:
        path = folder / member.name
        if not path.is_file():
            wrong.append(f"{member.name} is missing")
        elif (found := file_checksum(path, member.checksum)) != member.checksum:
            wrong.append(f"{member.name} has {algorithm(member.checksum)} {found}, not {member.checksum}")
    return wrong


def _wrong(name: str, found: str, checksum: str, advice: str = "") -> RefusedError:
    return RefusedError(f"wrong checksum: {name} has {algorithm(checksum)} {found}, not {checksum}{advice}")


def _untar(archive: Archive, stream: Readable, work: Path) -> None:
    """Write the expected members, and refuse an archive in which any entry is not an honest file or folder."""
    wanted = {member.path: member for member in archive.members}
    with tarfile.open(fileobj=stream, mode="r|") as tar:  # type: ignore[call-overload]  # needs read() alone
        for entry in tar:
            _refuse_dishonest(entry)
            member = wanted.pop(entry.name, None)
            if member is None:
                continue
            content = tar.extractfile(entry)
            if content is None:
                raise RefusedError(f"{entry.name} is not a regular file")
            write_member(content, member, work)
    if wanted:
        raise RefusedError(f"the archive lacks {', '.join(wanted)}")


def _refuse_dishonest(entry: tarfile.TarInfo) -> None:
    path = PurePosixPath(entry.name)
    if path.is_absolute() or ".." in path.parts or "\\" in entry.name:
        raise RefusedError(f"the archive is not safe: {entry.name!r} points out of its folder")
    if not (entry.isreg() or entry.isdir()):
        raise RefusedError(
            f"the archive is not safe: {entry.name!r} is neither a file nor a folder (a link or a device)"
        )


class _Bounded:
    """A stream that refuses to give more than ``limit`` bytes, however well they were compressed."""

    def __init__(self, stream: Readable, limit: int) -> None:
        self._stream = stream
        self._limit = limit
        self._left = limit

    def read(self, size: int = -1, /) -> bytes:
        content = self._stream.read(min(size, self._left + 1) if size >= 0 else self._left + 1)
        self._left -= len(content)
        if self._left < 0:
            raise RefusedError(f"the archive is not safe: it extracts to more than the expected {self._limit} bytes")
        return content


class _Hashed:
    """A stream that hashes what it gives, in the way of an archive's checksum."""

    def __init__(self, stream: Readable, archive: Archive) -> None:
        self._stream = stream
        self.digest = hasher(archive.checksum, archive.most_bytes)

    def read(self, size: int = -1, /) -> bytes:
        content = self._stream.read(size)
        self.digest.update(content)
        return content
