"""Canny's edge detector on batches, with the choices of OpenCV's ``Canny`` (3 x 3 Sobel, the sum of magnitudes)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label

_IN_PLANE = np.zeros((3, 3, 3), dtype=bool)
_IN_PLANE[1] = True

_FRACTION_BITS = 15
_TANGENT = round(np.tan(np.pi / 8) * 2**_FRACTION_BITS)


def edges(images: NDArray[np.uint8], low: int, high: int) -> NDArray[np.bool_]:
    """Return where the edges are, bool [n, h, w].

    An edge pixel is a local maximum of the gradient's magnitude |dx| + |dy| along the gradient, rounded to one of four
    directions, with a magnitude above ``low``; of these, those that touch, through others, one above ``high``.

    Args:
        images: Uint8 [n, h, w].
        low: The lower threshold.
        high: The upper threshold.
    """
    dx, dy = _sobel(images)
    magnitude = np.abs(dx) + np.abs(dy)
    candidates = _is_maximum(dx, dy, magnitude) & (magnitude > low)
    groups, count = label(candidates, structure=_IN_PLANE)
    strong = np.zeros(count + 1, dtype=bool)
    strong[groups[candidates & (magnitude > high)]] = True
    found: NDArray[np.bool_] = strong[groups]
    return found


def _sobel(images: NDArray[np.uint8]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return the derivatives to the right and down, int32 [n, h, w]; outside, the edge's pixels go on."""
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)), mode="edge").astype(np.int32)
    down = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    across = padded[:, :, :-2] + 2 * padded[:, :, 1:-1] + padded[:, :, 2:]
    return down[:, :, 2:] - down[:, :, :-2], across[:, 2:] - across[:, :-2]


def _is_maximum(dx: NDArray[np.int32], dy: NDArray[np.int32], magnitude: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Return where no neighbour along the gradient is larger; of equal ones in a row or column, the last counts."""
    height, width = magnitude.shape[1:]
    padded = np.pad(magnitude, ((0, 0), (1, 1), (1, 1)))

    def neighbour(down: int, right: int) -> NDArray[np.int32]:
        return padded[:, 1 + down : 1 + down + height, 1 + right : 1 + right + width]

    across, along = np.abs(dx), np.abs(dy) << _FRACTION_BITS
    horizontal = along < across * _TANGENT
    vertical = along > across * (_TANGENT + (2 << _FRACTION_BITS))  # tan 67.5 = tan 22.5 + 2
    rising = (dx ^ dy) < 0
    in_row = (magnitude > neighbour(0, -1)) & (magnitude >= neighbour(0, 1))
    in_column = (magnitude > neighbour(-1, 0)) & (magnitude >= neighbour(1, 0))
    on_rise = (magnitude > neighbour(-1, 1)) & (magnitude > neighbour(1, -1))
    on_fall = (magnitude > neighbour(-1, -1)) & (magnitude > neighbour(1, 1))
    return np.where(horizontal, in_row, np.where(vertical, in_column, np.where(rising, on_rise, on_fall)))
