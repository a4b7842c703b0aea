"""Fetching an archive from one of its addresses, with an eye on what a host does wrong: error pages, cuts, slowness."""

from __future__ import annotations

import http.client
import shutil
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from urllib.request import Request

from flatmin.data.errors import writing
from flatmin.data.published import Archive
from flatmin.data.unpacking import CHUNK, Readable, RefusedError, unpack_file, unpack_stream

TIMEOUT_SECONDS = 30.0
SLOW_BYTES_PER_SECOND = 300_000
"""A host slower than this is left for the next one, and asked again only when no other host has the file."""
PATIENCE_SECONDS = 20.0

_HTML = (b"<!doctype html", b"<html", b"<?xml", b"<head")

Opener = Callable[..., AbstractContextManager[Any]]
Progress = Callable[[str], None]


class TooSlowError(RefusedError):
    """A host is not worth waiting for while there are others."""


def fetch(archive: Archive, url: str, work: Path, opener: Opener, tell: Progress, *, patient: bool) -> None:
    """Download an archive and take its members out into ``work``.

    Args:
        archive: What to fetch.
        url: Where.
        work: An existing folder, in which members lie when this returns.
        opener: Opens a `urllib.request.Request`, with a ``timeout``.
        tell: Called with a line of text on every tenth of the way.
        patient: Endure a host that is slow.

    Raises:
        RefusedError: The host has not the file (`TooSlowError`: it is slow).
        DataError: The disk is full.
        OSError: There is no way to the host.
    """
    request = Request(url, headers={"User-Agent": "flatmin"})  # some hosts refuse Python's own
    started = None if patient else time.monotonic()
    with opener(request, timeout=TIMEOUT_SECONDS) as response:
        arriving = _Arriving(archive, response, tell, started)
        try:
            if archive.packing == "tar":
                unpack_stream(archive, arriving, work)
            else:
                _save(archive, arriving, work)
        except TooSlowError:
            raise
        except http.client.IncompleteRead as error:
            raise RefusedError(f"the download was cut short: {error}") from error
        except RefusedError:
            arriving.refuse_wrong_size()  # a better reason, where it holds
            raise
    if archive.packing != "tar":
        file = (work / f"{archive.name}.part").replace(work / f"{archive.name}.whole")
        unpack_file(archive, file, work)
        file.unlink()


def _save(archive: Archive, arriving: _Arriving, work: Path) -> None:
    part = work / f"{archive.name}.part"
    with writing(part), part.open("wb") as out:
        shutil.copyfileobj(arriving, out, CHUNK)
    arriving.refuse_wrong_size()


class _Arriving:
    """The answer of a host: watched as it is read, and never read far beyond the archive's size."""

    def __init__(self, archive: Archive, response: Readable, tell: Progress, started: float | None) -> None:
        self._archive, self._response, self._tell, self._started = archive, response, tell, started
        self._head = b""
        self._received = self._tenths = 0
        self._ended = False

    def read(self, size: int = -1, /) -> bytes:
        """Return at most ``size`` bytes, none at the end."""
        if self._received > self._archive.most_bytes:
            return b""
        chunk = self._response.read(min(size, CHUNK) if size >= 0 else CHUNK)
        self._received += len(chunk)
        self._ended = not chunk
        self._head = self._head or chunk[:1024]
        self._report()
        if self._started is not None:
            self._refuse_slow(time.monotonic() - self._started)
        return chunk

    def _report(self) -> None:
        tenths = 10 * self._received // self._archive.most_bytes
        if tenths > self._tenths:
            self._tenths = tenths
            received, size = self._received / 2**20, self._archive.most_bytes / 2**20
            self._tell(f"{self._archive.name}: {received:.0f} of {size:.0f} MiB")

    def _refuse_slow(self, seconds: float) -> None:
        enough = min(self._archive.most_bytes, SLOW_BYTES_PER_SECOND * seconds)
        if seconds > PATIENCE_SECONDS and self._received < enough:
            raise TooSlowError(f"slow: {self._received / seconds / 1000:.0f} kB/s")

    def refuse_wrong_size(self) -> None:
        """Refuse an answer that is no file at all, or has not the archive's size."""
        if self._received == self._archive.size:
            return
        if self._head.lstrip().lower().startswith(_HTML):
            raise RefusedError("this looks like an HTML page: the host answered with a message instead of the file")
        expected = self._archive.most_bytes
        if self._received > expected:
            raise RefusedError(f"{self._received} bytes instead of {expected}: this is another file")
        if self._ended and self._archive.size is not None:
            raise RefusedError(f"{self._received} bytes instead of {expected}: the download was cut short")
