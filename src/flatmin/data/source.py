"""What a source of images is: published files, its classes, and how to read them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flatmin.data.errors import DataError
from flatmin.data.published import Published


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


@dataclass(frozen=True, kw_only=True)
class Source(Published):
    """A set of labelled images that a dataset is made from.

    Its name is also that of the module that defines it.

    Attributes:
        read: Makes the arrays from a folder that holds the verified members of all archives.
        classes: Class names by label.
        image_shape: (channels, height, width).
        split: Where the division into training and test images comes from.
        usual_pairs: The look-alikes {from: to} of asymmetric noise in the literature, or None if there is no usage.
        train_images: How many training images it has, for an estimate before it is here.
        title: What tables call it, where that is not its name.
    """

    read: Callable[[Path], Arrays]
    classes: tuple[str, ...]
    image_shape: tuple[int, int, int]
    split: str
    usual_pairs: Mapping[int, int] | None = None
    train_images: int = 50_000
    title: str = ""


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
