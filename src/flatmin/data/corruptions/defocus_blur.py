"""Defocus blur: out of focus, a point is a disk. Constants: radius of the disk, sigma of the blur of its rim."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from flatmin.data.corruptions._filters import correlated
from flatmin.data.corruptions._pixels import to_bytes
from flatmin.data.corruptions.corruption import Corruption, Images


def apply(images: Images, constants: tuple[float, float], generator: np.random.Generator) -> Images:
    """Correlate with the disk, mirroring images about their edge pixels; radius and sigma are pixels at any size."""
    radius, rim = constants
    return to_bytes(correlated(images.astype(np.float32), disk(radius, rim).astype(np.float32)))


def disk(radius: float, rim: float) -> NDArray[np.float64]:
    """Return the kernel, float64 with odd sides and sum 1.

    All points of the grid within ``radius`` have the same weight; then a Gaussian of three pixels a side (five for a
    radius above 8) smooths the rim.
    """
    edge = 1 if radius <= 8 else 2
    reach = math.floor(radius) + edge
    grid = np.arange(-reach, reach + 1)
    sharp = (grid[:, None] ** 2 + grid**2 <= radius**2).astype(np.float64)
    bell = np.exp(-(np.arange(-edge, edge + 1) ** 2) / (2 * rim**2))
    for axis in (0, 1):
        sharp = np.apply_along_axis(np.convolve, axis, sharp, bell, mode="same")
    return sharp / sharp.sum()


CORRUPTION = Corruption(
    name="defocus_blur",
    title="Defocus blur",
    family="blur",
    severities=((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
    apply=apply,
)
