"""What a source of images is: its files, its classes, and how to read them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from flatmin.data.errors import DataError


@dataclass(frozen=True)
class Member:
    """A file inside an archive: the form in which a source is kept and read.

    Attributes:
        path: Its path in the archive, with forward slashes.
        md5: Checksum of its content.
        size: Its size in bytes, or None where it is not published.
        limit: The most bytes that are ever written for it, where ``size`` is None.
    """

    path: str
    md5: str
    size: int | None = None
    limit: int = 64 * 2**20

    @property
    def name(self) -> str:
        """Its file name in the folder of a source."""
        return PurePosixPath(self.path).name

    @property
    def most_bytes(self) -> int:
        """The most bytes that it may have."""
        return self.limit if self.size is None else self.size


@dataclass(frozen=True)
class Archive:
    """A file that the authors publish: a ``.tar.gz`` of members, or one gzipped member.

    Attributes:
        name: File name.
        urls: Where it is served, the official address first.
        md5: The checksum on the official page.
        size: Size in bytes of the official file.
        members: The files that are taken out of it. All others are left inside.
        repackaged: Checksums of packages of the same members that a distribution compressed anew.
    """

    name: str
    urls: tuple[str, ...]
    md5: str
    size: int
    members: tuple[Member, ...]
    repackaged: tuple[str, ...] = ()


@dataclass(frozen=True)
class Arrays:
    """A source in memory: images uint8 [n, c, h, w], labels int64 [n]."""

    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]

    def by_name(self) -> dict[str, NDArray[np.generic]]:
        """Return the four arrays under the names of their files."""
        return {
            "train_images": self.train_images,
            "train_labels": self.train_labels,
            "test_images": self.test_images,
            "test_labels": self.test_labels,
        }


@dataclass(frozen=True)
class Source:
    """A set of labelled images that a dataset is made from.

    Attributes:
        name: The name in ``params.yaml``; also that of the module that defines it.
        read: Makes the arrays from a folder that holds the verified members of all archives.
        classes: Class names by label.
        image_shape: (channels, height, width).
        split: Where the division into training and test images comes from.
        licence: Under which terms the images are published.
        citation: The work to cite.
        archives: The files to download; none for a source that an installed package carries.
        usual_pairs: The look-alikes {from: to} of asymmetric noise in the literature, or None if there is no usage.
        layouts: Folders, relative to a mirror, in which other programs keep these files.
        train_images: How many training images it has, for an estimate before it is here.
    """

    name: str
    read: Callable[[Path], Arrays]
    classes: tuple[str, ...]
    image_shape: tuple[int, int, int]
    split: str
    licence: str
    citation: str
    archives: tuple[Archive, ...] = ()
    usual_pairs: Mapping[int, int] | None = None
    layouts: tuple[str, ...] = field(default=())
    train_images: int = 50_000

    @property
    def members(self) -> tuple[Member, ...]:
        """The files of the source's folder, of all archives."""
        return tuple(member for archive in self.archives for member in archive.members)


def check_arrays(source: Source, arrays: Arrays) -> None:
    """Refuse arrays that are not what ``source`` promises.

    Raises:
        DataError: A shape, a data type, or a label is wrong.
    """
    for part, images, labels in (
        ("train", arrays.train_images, arrays.train_labels),
        ("test", arrays.test_images, arrays.test_labels),
    ):
        problem = _problem(source, images, labels)
        if problem:
            raise DataError(
                f"source {source.name}, {part} part: {problem}",
                f"Correct read() or the description in flatmin/data/sources/{source.name}.py.",
            )


def _problem(source: Source, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> str | None:
    if images.dtype != np.uint8 or images.shape[1:] != source.image_shape:
        return f"images are {images.dtype} {images.shape}, not uint8 [n, {', '.join(map(str, source.image_shape))}]"
    if labels.dtype != np.int64 or labels.shape != images.shape[:1]:
        return f"labels are {labels.dtype} {labels.shape}, not int64 ({len(images)},)"
    if len(labels) == 0 or labels.min() < 0 or labels.max() >= len(source.classes):
        return f"labels are not all in 0..{len(source.classes) - 1}, or there are none"
    return None
