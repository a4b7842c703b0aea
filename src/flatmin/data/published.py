"""Files that somebody publishes: where they are served, how they are packed, and the checksums they are known by."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal, Self

if TYPE_CHECKING:
    from _hashlib import HASH
    from collections.abc import Iterable

_ALGORITHMS = {32: "md5", 40: "git", 64: "sha256"}


def algorithm(checksum: str) -> str:
    """Return what kind of checksum it is, by its length: ``md5``, ``sha256``, or ``git`` for git's blob hash."""
    return _ALGORITHMS[len(checksum)]


def hasher(checksum: str, size: int) -> HASH:
    """Return an object that hashes a content of ``size`` bytes in the way of ``checksum``."""
    kind = algorithm(checksum)
    if kind == "git":  # what `git hash-object` prints, and GitHub for every file of a repository
        return hashlib.sha1(b"blob %d\x00" % size, usedforsecurity=False)
    return hashlib.new(kind, usedforsecurity=False)


def file_checksum(file: Path, like: str) -> str:
    """Return the checksum of a file's content, of the same kind as ``like``."""
    digest = hasher(like, file.stat().st_size)
    with file.open("rb") as stream:
        while chunk := stream.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()


@dataclass(frozen=True)
class Member:
    """A file inside an archive: the form in which published files are kept and read.

    Attributes:
        path: Its path in the archive, with forward slashes.
        checksum: MD5, SHA-256 or git blob hash of its content.
        size: Its size in bytes, or None where it is not published.
        limit: The most bytes that are ever written for it, where ``size`` is None.
    """

    path: str
    checksum: str
    size: int | None = None
    limit: int = 64 * 2**20

    @property
    def name(self) -> str:
        """Its file name in the folder of what was published."""
        return PurePosixPath(self.path).name

    @property
    def most_bytes(self) -> int:
        """The most bytes that it may have."""
        return self.limit if self.size is None else self.size


@dataclass(frozen=True)
class Archive:
    """A file that the authors publish: a tar of members, one gzipped member, or one that is packed in nothing.

    Attributes:
        name: File name; its ending tells the packing.
        urls: Where it is served, the official address first.
        checksum: The checksum on the official page: MD5, SHA-256 or git blob hash.
        size: Size in bytes of the official file, or None where it is not known.
        members: The files that are taken out of it. All others are left inside.
        repackaged: Checksums of packages of the same members that a distribution compressed anew.
    """

    name: str
    urls: tuple[str, ...]
    checksum: str
    size: int | None
    members: tuple[Member, ...]
    repackaged: tuple[str, ...] = ()

    @property
    def most_bytes(self) -> int:
        """The most bytes that are ever read of it."""
        return self.size if self.size is not None else sum(member.most_bytes for member in self.members)

    @property
    def packing(self) -> Literal["tar", "tar.gz", "gz", "none"]:
        """How the members are packed. A plain ``tar`` is read as it streams by and never kept."""
        if self.name.endswith((".tar.gz", ".tgz")):
            return "tar.gz"
        if self.name.endswith(".tar"):
            return "tar"
        return "gz" if self.name.endswith(".gz") else "none"


def plain_file(
    name: str, urls: tuple[str, ...], checksum: str, size: int | None, *, limit: int = 64 * 2**20
) -> Archive:
    """Return a published file that is packed in nothing: its own and only member."""
    return Archive(name, urls, checksum, size, (Member(name, checksum, size, limit),))


@dataclass(frozen=True, kw_only=True)
class Published:
    """Published files that belong together.

    Attributes:
        name: What ``params.yaml`` and the folder of the files call it.
        licence: Under which terms it is published.
        citation: The work to cite.
        archives: The files to download; none for what an installed package carries or what is made here.
        layouts: Folders, relative to a mirror, in which other programs keep these files.
    """

    name: str
    licence: str
    citation: str
    archives: tuple[Archive, ...] = ()
    layouts: tuple[str, ...] = ()

    @property
    def members(self) -> tuple[Member, ...]:
        """The files of the folder, of all archives."""
        return tuple(member for archive in self.archives for member in archive.members)

    @property
    def download_bytes(self) -> int:
        """How many bytes a download transfers, at most."""
        return sum(archive.most_bytes for archive in self.archives)

    def only(self, names: Iterable[str]) -> Self:
        """Return it with the members of these names alone, and without archives that have none of them."""
        wanted = set(names)
        kept = (
            replace(archive, members=tuple(member for member in archive.members if member.name in wanted))
            for archive in self.archives
        )
        return replace(self, archives=tuple(archive for archive in kept if archive.members))
