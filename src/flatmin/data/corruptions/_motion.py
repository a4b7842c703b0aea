"""Motion blur as ImageMagick defines it: half a Gaussian, laid along a direction of its own for every image."""

from __future__ import annotations

import math

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from flatmin.data.corruptions.corruption import Images

_NEGLIGIBLE = 1e-7
"""Of a weight: ImageMagick keeps 16 bits of the result."""


def half_gaussian(radius: float, sigma: float) -> NDArray[np.float32]:
    """Return the weights of 0, 1, 2, ... pixels from where a pixel is: exp(-k^2 / 2 sigma^2), their sum 1.

    They end with k = 2 ceil(radius), or before, where they no longer count.
    """
    distance = np.arange(2 * math.ceil(radius) + 1)
    weights = np.exp(-(distance**2) / (2 * sigma**2))
    weights /= weights.sum()
    return weights[weights > _NEGLIGIBLE].astype(np.float32)


def steps(count: int, degrees: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where the pixels at distance 0, 1, ... lie: (rows down, columns to the right), each int [n, count].

    Args:
        count: Number of pixels.
        degrees: Directions [n]: 0 points right, 90 down. Halves are rounded down.
    """
    angle = np.deg2rad(degrees)[:, None]
    distance = np.arange(count)
    rows = np.ceil(distance * np.sin(angle) - 0.5).astype(np.int64)
    columns = np.ceil(distance * np.cos(angle) - 0.5).astype(np.int64)
    return rows, columns


def motion_blurred(images: Images, radius: float, sigma: float, degrees: NDArray[np.float64]) -> NDArray[np.float32]:
    """Blur images along lines; outside, the edge's pixels go on.

    Args:
        images: Uint8 [n, c, h, w].
        radius: Half the length of the line, in pixels.
        sigma: Of the half Gaussian, in pixels.
        degrees: The directions, [n].

    Returns:
        Float32 [n, c, h, w], 0 to 255.
    """
    weights = half_gaussian(radius, sigma)
    rows, columns = steps(len(weights), degrees)
    reach = len(weights) - 1
    padded = np.pad(images, ((0, 0), (0, 0), (reach, reach), (reach, reach)), mode="edge")
    windows = sliding_window_view(padded, images.shape[2:], axis=(2, 3))  # [n, c, 2 reach + 1, 2 reach + 1, h, w]
    every = np.arange(len(images))
    blurred = np.zeros(images.shape, dtype=np.float32)
    for step, weight in enumerate(weights):
        blurred += weight * windows[every, :, reach + rows[:, step], reach + columns[:, step]]
    return blurred
