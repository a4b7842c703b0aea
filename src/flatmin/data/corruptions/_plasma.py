"""Plasma: cloudy maps by the diamond-square algorithm."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_FIRST_WIBBLE = 100.0


def plasma(count: int, size: int, decay: float, generator: np.random.Generator) -> NDArray[np.float32]:
    """Return maps float32 [count, size, size] with values from 0 to 1, both of which occur in each.

    Points halfway between known ones are their four neighbours' mean plus uniform noise, first the centres of squares,
    then those of diamonds, over ever finer grids; opposite edges are neighbours. The noise is uniform in
    +- wibble^2, and the wibble, 100 at first, is divided by ``decay`` from grid to grid: the larger, the smoother.

    Args:
        count: Number of maps.
        size: A power of two.
        decay: Of the wibble.
        generator: Source of the noise.
    """
    maps = np.zeros((count, size, size), dtype=np.float32)
    step, wibble = size, _FIRST_WIBBLE

    def with_noise(sums: NDArray[np.float32]) -> NDArray[np.float32]:
        noise = generator.random(sums.shape, dtype=np.float32) * np.float32(2) - np.float32(1)
        return sums / np.float32(4) + np.float32(wibble**2) * noise

    while step >= 2:
        half = step // 2
        corners = maps[:, ::step, ::step]
        rows = corners + np.roll(corners, -1, axis=1)
        maps[:, half::step, half::step] = with_noise(rows + np.roll(rows, -1, axis=2))
        centres = maps[:, half::step, half::step]
        maps[:, ::step, half::step] = with_noise(
            centres + np.roll(centres, 1, axis=1) + corners + np.roll(corners, -1, axis=2)
        )
        maps[:, half::step, ::step] = with_noise(
            centres + np.roll(centres, 1, axis=2) + corners + np.roll(corners, -1, axis=1)
        )
        step, wibble = half, wibble / decay
    maps -= maps.min(axis=(1, 2), keepdims=True)
    maps /= maps.max(axis=(1, 2), keepdims=True)
    return maps
