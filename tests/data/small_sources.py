"""Small sources in the official formats, whole and broken."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from pathlib import Path

import numpy as np

from flatmin.data.published import Archive, Member
from flatmin.data.source import Arrays, Source

MEMBERS = {"toy/images": bytes(range(256)) * 3, "toy/labels": b"labels" * 11}
"""The content of the small source: two files in a folder."""


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def tar_gz(entries: list[tuple[tarfile.TarInfo | str, bytes]]) -> bytes:
    """Return a ``.tar.gz``; an entry is a name or a whole header, and its content."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for entry, content in entries:
            header = tarfile.TarInfo(entry) if isinstance(entry, str) else entry
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))
    return buffer.getvalue()


def tar_source(packed: bytes, *, urls: tuple[str, ...] = ("http://unused.invalid/toy.tar.gz",)) -> Source:
    """Return a source whose one archive is ``packed``, and whose members should be `MEMBERS`."""
    members = tuple(Member(path, md5(content), len(content)) for path, content in MEMBERS.items())
    archive = Archive("toy.tar.gz", urls, md5(packed), len(packed), members)
    return Source(
        name="toy",
        read=_read_nothing,
        classes=("a", "b"),
        image_shape=(1, 1, 1),
        split="none",
        licence="none",
        citation="none",
        archives=(archive,),
        layouts=("other/raw",),
    )


def _read_nothing(folder: Path) -> Arrays:
    raise AssertionError("the small source is never read")


def idx(array: np.ndarray) -> bytes:
    """Return ``array`` of unsigned bytes as an IDX file."""
    header = bytes((0, 0, 8, array.ndim)) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    return header + array.astype(np.uint8).tobytes()


def toy_arrays(classes: int = 3, train: int = 60, test: int = 12, size: int = 6) -> Arrays:
    """Return random images with labels in turn: 0, 1, 2, 0, 1, ..."""
    generator = np.random.default_rng(1)

    def images(count: int) -> np.ndarray:
        return generator.integers(0, 256, (count, 2, size, size), dtype=np.uint8)

    return Arrays(images(train), np.arange(train) % classes, images(test), np.arange(test) % classes)


def gzipped(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)
