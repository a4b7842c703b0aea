"""Corrupted images, as a function of clean images, corruption, severity and seed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from flatmin.data.corruptions.corruption import Corruption, Images
from flatmin.data.corruptions.registry import load
from flatmin.data.errors import DataError
from flatmin.randomness import numpy_generator

CHUNK = 100
"""Images that share a generator. Another number is another data set."""

SEVERITIES = (1, 2, 3, 4, 5)


def corrupt(images: Images, name: str, severity: int, seed: int) -> Images:
    """Return the images corrupted.

    Args:
        images: Uint8 [n, c, h, w], c = 1 or 3.
        name: Of a corruption, see `flatmin.data.corruptions.registry`.
        severity: 1 to 5.
        seed: Another seed draws other noise, other weather, other displacements.

    Returns:
        Uint8 [n, c, h, w]. The first k * CHUNK images do not depend on those that follow.

    Raises:
        DataError: There is no such corruption or severity, or these are no images.
    """
    chunks = corrupted_chunks(images, name, severity, seed)
    corrupted = np.empty(images.shape, dtype=np.uint8)
    for number, chunk in enumerate(chunks):
        corrupted[number * CHUNK : (number + 1) * CHUNK] = chunk
    return corrupted


def corrupted_chunks(images: Images, name: str, severity: int, seed: int) -> Iterator[Images]:
    """Yield what `corrupt` returns, CHUNK images at a time, in memory for one chunk.

    What is wrong is raised by this call and not by the first step of the iteration.

    Args:
        images: Uint8 [n, c, h, w], c = 1 or 3; a memory map will do.
        name: Of a corruption.
        severity: 1 to 5.
        seed: Chunk k draws from a generator that is derived from seed, name, severity and k.

    Raises:
        DataError: As for `corrupt`.
    """
    corruption = load(name)
    _check(images, severity)
    return _chunks(images, corruption, severity, seed)


def _chunks(images: Images, corruption: Corruption, severity: int, seed: int) -> Iterator[Images]:
    constants = corruption.severities[severity - 1]
    for number, start in enumerate(range(0, len(images), CHUNK)):
        generator = numpy_generator(seed, "corruption", corruption.name, severity, number)
        yield corruption.apply(images[start : start + CHUNK], constants, generator)


def _check(images: Images, severity: int) -> None:
    if not isinstance(severity, int | np.integer) or severity not in SEVERITIES:
        raise DataError(f"severity {severity!r} does not exist", "Use 1 (weakest) to 5 (strongest).")
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8:
        kind = images.dtype if isinstance(images, np.ndarray) else type(images).__name__
        raise DataError(f"images to corrupt are {kind}, not a uint8 array", "Corrupt pixels of 0 to 255, unscaled.")
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise DataError(
            f"images to corrupt have the shape {images.shape}, not [n, c, h, w] with 1 or 3 channels",
            "Put channels second and add the axes that are missing.",
        )
    if min(images.shape[2:]) < 8:
        raise DataError(
            f"images to corrupt have {images.shape[2]} x {images.shape[3]} pixels, and need sides of at least 8",
            "Use larger images, or leave corruptions out of evaluation.test_sets.",
        )
