"""Bringing a source's files into a folder, verified, from a mirror or from the network.

The folder ends up with the *extracted members* of the source's archives, each under its plain file name: the CIFAR
pickles, the uncompressed IDX files of Fashion-MNIST. Whatever way they came (an archive of whoever compressed it, a
folder that another program extracted) the bytes are the same, for every member's checksum is known.

Nothing unverified is ever put in place: work goes on in a subfolder, ``.part``, and a file moves up from there when it
is known to be right.
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import os
import shutil
import tarfile
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Protocol
from urllib.request import Request, urlopen

from flatmin.data.errors import DataError, writing
from flatmin.data.source import Archive, Member, Source

MIRROR_VARIABLE = "FLATMIN_MIRROR"
TIMEOUT_SECONDS = 30.0
SLOW_BYTES_PER_SECOND = 300_000
"""A host slower than this is left for the next one, and asked again only when no other host has the file."""
PATIENCE_SECONDS = 20.0

_CHUNK = 2**20
_SLACK = 2**20  # tar headers, padding, and the short files in an archive that are left inside
_PART = ".part"

Opener = Callable[..., AbstractContextManager[Any]]
Progress = Callable[[str], None]


class _Readable(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


class _RefusedError(Exception):
    """One place did not have the file, or had a wrong one; the next place is tried."""


class _TooSlowError(_RefusedError):
    """A host is not worth waiting for while there are others."""


def mirrors_from_environment() -> tuple[Path, ...]:
    """Return the folders named in FLATMIN_MIRROR, separated as in PATH (by colons on POSIX systems)."""
    return tuple(Path(part).expanduser() for part in os.environ.get(MIRROR_VARIABLE, "").split(os.pathsep) if part)


def obtain(
    source: Source,
    destination: Path,
    *,
    mirrors: Sequence[Path] = (),
    opener: Opener = urlopen,
    progress: Progress | None = None,
) -> None:
    """Bring the verified files of ``source`` into ``destination``.

    Files that are already there and right are kept. Every other archive is looked for in each mirror, extracted or not,
    in the mirror itself or in the folders that torchvision and Debian use; then at each of its addresses in turn.

    Args:
        source: What to bring. A source without archives leaves an empty folder.
        destination: The source's own folder; made if need be.
        mirrors: Folders to look in first, usually `mirrors_from_environment`.
        opener: Opens a `urllib.request.Request`, with a ``timeout``.
        progress: Called with a line of text when something is worth telling.

    Raises:
        DataError: No place has the right files (each is listed with the reason), or the disk is full.
    """
    tell = progress or (lambda line: None)
    with writing(destination):
        destination.mkdir(parents=True, exist_ok=True)
    with _work_folder(destination) as work:
        for archive in source.archives:
            if _wrong_members(archive.members, destination):
                _obtain_archive(source, archive, destination, work, mirrors, opener, tell)


def verify(source: Source, folder: Path) -> None:
    """Check that every file of ``source`` in ``folder`` has its checksum.

    Raises:
        DataError: A file is missing or wrong; all such files are named.
    """
    if wrong := _wrong_members(source.members, folder):
        raise DataError(f"{folder}: {'; '.join(wrong)}", "Delete these files and run: dvc repro download")


def _wrong_members(members: Sequence[Member], folder: Path) -> list[str]:
    wrong = []
    for member in members:
        path = folder / member.name
        if not path.is_file():
            wrong.append(f"{member.name} is missing")
        elif (found := _md5(path)) != member.md5:
            wrong.append(f"{member.name} has md5 {found}, not {member.md5}")
    return wrong


@contextmanager
def _work_folder(destination: Path) -> Iterator[Path]:
    """Give an empty subfolder; what a killed process left in it is removed."""
    work = destination / _PART
    shutil.rmtree(work, ignore_errors=True)
    with writing(work):
        work.mkdir()
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _obtain_archive(
    source: Source,
    archive: Archive,
    destination: Path,
    work: Path,
    mirrors: Sequence[Path],
    opener: Opener,
    tell: Progress,
) -> None:
    tried: list[str] = []
    for place, bring in _places(source, archive, work, mirrors, opener, tell):
        tell(f"{source.name}: {archive.name} from {place}")
        try:
            bring()
        except (_RefusedError, OSError, http.client.HTTPException) as error:  # the last two: no network, no permission
            reason = str(error) or repr(error)
            tried.append(f"  {place}: {reason}")
            tell(f"{source.name}: {reason}")
            continue
        for member in archive.members:
            (work / member.name).replace(destination / member.name)
        return
    raise _nowhere(source, archive, tried, mirrors)


def _nowhere(source: Source, archive: Archive, tried: list[str], mirrors: Sequence[Path]) -> DataError:
    looked = (
        ", ".join(f"{mirror}" if mirror.is_dir() else f"{mirror} (no such folder)" for mirror in mirrors)
        or f"none is set ({MIRROR_VARIABLE})"
    )
    return DataError(
        f"{source.name}: no place has the right {archive.name}; mirrors: {looked}; tried:\n"
        + ("\n".join(tried) or "  nothing"),
        f"Put {archive.name} (md5 {archive.md5}, {archive.size} bytes; for example downloaded elsewhere from "
        f"{archive.urls[0]}), or the files extracted from it, into a folder, set {MIRROR_VARIABLE}=/that/folder, and "
        "run the same command again.",
    )


def _places(
    source: Source, archive: Archive, work: Path, mirrors: Sequence[Path], opener: Opener, tell: Progress
) -> Iterator[tuple[str, Callable[[], None]]]:
    """Yield every place that may have the archive's members, and the function that brings them into ``work``."""
    for mirror in mirrors:
        for folder in (mirror, mirror / source.name, *(mirror / layout for layout in source.layouts)):
            for files in _extracted(archive, folder):
                yield str(files[0].parent), partial(_copy_members, archive, files, work)
            if (file := folder / archive.name).is_file():
                yield str(file), partial(_unpack_verified, archive, file, work)
    slow: list[str] = []
    for url in archive.urls:
        yield url, partial(_fetch, archive, url, work, opener, tell, slow)
    for url in slow:  # filled while the loop above ran
        yield url, partial(_fetch, archive, url, work, opener, tell, None)


def _extracted(archive: Archive, folder: Path) -> Iterator[tuple[Path, ...]]:
    """Yield the archive's members where all are in ``folder``, under their path in the archive or side by side."""
    candidates = {
        tuple(folder / member.path for member in archive.members),
        tuple(folder / member.name for member in archive.members),
    }
    yield from sorted(files for files in candidates if all(file.is_file() for file in files))


def _copy_members(archive: Archive, files: Sequence[Path], work: Path) -> None:
    for member, file in zip(archive.members, files, strict=True):
        with file.open("rb") as stream:
            _write_member(stream, member, work)


def _unpack_verified(archive: Archive, file: Path, work: Path) -> None:
    """Take the members out of an archive whose checksum is one of the known ones."""
    found = _md5(file)
    if found not in (archive.md5, *archive.repackaged):
        raise _RefusedError(f"wrong checksum: {file.name} has md5 {found}, not {archive.md5}. Delete it or replace it")
    limit = sum(member.most_bytes for member in archive.members) + _SLACK
    try:
        with gzip.open(file) as stream:
            if archive.name.endswith((".tar.gz", ".tgz")):
                _untar(archive, _Bounded(stream, limit), work)
            else:
                _write_member(stream, archive.members[0], work)
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise _RefusedError(f"{file.name} is damaged: {error}") from error


def _untar(archive: Archive, stream: _Bounded, work: Path) -> None:
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
                raise _RefusedError(f"{entry.name} is not a regular file")
            _write_member(content, member, work)
    if wanted:
        raise _RefusedError(f"the archive lacks {', '.join(wanted)}")


def _refuse_dishonest(entry: tarfile.TarInfo) -> None:
    path = PurePosixPath(entry.name)
    if path.is_absolute() or ".." in path.parts or "\\" in entry.name:
        raise _RefusedError(f"the archive is not safe: {entry.name!r} points out of its folder")
    if not (entry.isreg() or entry.isdir()):
        raise _RefusedError(
            f"the archive is not safe: {entry.name!r} is neither a file nor a folder (a link or a device)"
        )


class _Bounded:
    """A stream that refuses to give more than ``limit`` bytes, however well they were compressed."""

    def __init__(self, stream: _Readable, limit: int) -> None:
        self._stream = stream
        self._limit = limit
        self._left = limit

    def read(self, size: int = -1, /) -> bytes:
        content = self._stream.read(min(size, self._left + 1) if size >= 0 else self._left + 1)
        self._left -= len(content)
        if self._left < 0:
            raise _RefusedError(f"the archive is not safe: it extracts to more than the expected {self._limit} bytes")
        return content


def _write_member(stream: _Readable, member: Member, work: Path) -> None:
    """Write a member's content to ``work`` and check its size and checksum."""
    path = work / member.name
    digest = hashlib.md5(usedforsecurity=False)
    written = 0
    with writing(path), path.open("wb") as out:
        while chunk := stream.read(_CHUNK):
            written += len(chunk)
            if written > member.most_bytes:
                raise _RefusedError(f"{member.name} has more than the expected {member.most_bytes} bytes")
            digest.update(chunk)
            out.write(chunk)
    if digest.hexdigest() != member.md5:
        raise _RefusedError(f"wrong checksum: {member.name} has md5 {digest.hexdigest()}, not {member.md5}")


def _fetch(archive: Archive, url: str, work: Path, opener: Opener, tell: Progress, slow: list[str] | None) -> None:
    """Download an archive and take its members out. A slow host is added to ``slow``, or endured if that is None."""
    part = work / f"{archive.name}.part"
    try:
        _download(archive, url, part, opener, tell, patient=slow is None)
    except _TooSlowError:
        if slow is not None:
            slow.append(url)
        raise
    except http.client.IncompleteRead as error:
        raise _RefusedError(f"the download was cut short: {error}") from error
    file = part.replace(work / archive.name)
    _unpack_verified(archive, file, work)
    file.unlink()


def _download(archive: Archive, url: str, part: Path, opener: Opener, tell: Progress, *, patient: bool) -> None:
    """Write what ``url`` serves to ``part``, if it has the archive's size."""
    request = Request(url, headers={"User-Agent": "flatmin"})  # some hosts refuse Python's own
    started = time.monotonic()
    with opener(request, timeout=TIMEOUT_SECONDS) as response, writing(part), part.open("wb") as out:
        received = _receive(archive, response, out, tell, None if patient else started)
    if received != archive.size:
        _refuse_html(part)
        cut = "the download was cut short" if received < archive.size else "this is another file"
        raise _RefusedError(f"{received} bytes instead of {archive.size}: {cut}")


def _receive(archive: Archive, response: _Readable, out: BinaryIO, tell: Progress, started: float | None) -> int:
    """Copy a response; return its number of bytes, which is never far above the archive's size."""
    received, told = 0, 0
    while received <= archive.size and (chunk := response.read(_CHUNK)):
        out.write(chunk)
        received += len(chunk)
        if 10 * received // archive.size > told:
            told = 10 * received // archive.size
            tell(f"{archive.name}: {received / 2**20:.0f} of {archive.size / 2**20:.0f} MiB")
        if started is not None:
            _refuse_slow(received, archive.size, time.monotonic() - started)
    return received


def _refuse_slow(received: int, size: int, seconds: float) -> None:
    if seconds > PATIENCE_SECONDS and received < min(size, SLOW_BYTES_PER_SECOND * seconds):
        raise _TooSlowError(f"slow: {received / seconds / 1000:.0f} kB/s")


def _refuse_html(file: Path) -> None:
    with file.open("rb") as stream:
        start = stream.read(1024).lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html", b"<?xml", b"<head")):
        raise _RefusedError("this looks like an HTML page: the host answered with a message instead of the file")


def _md5(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
