"""Distance to the nearest marked pixel, by the chamfer of a 5 x 5 neighbourhood (Borgefors 1986)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

UNIT = 1 << 16
"""Distances are whole multiples of 1 / UNIT pixels."""

_STRAIGHT, _DIAGONAL, _KNIGHT = UNIT, int(1.4 * UNIT), int(2.1969 * UNIT)
_ABOVE = (
    (2, -1, _KNIGHT),
    (2, 1, _KNIGHT),
    (1, -2, _KNIGHT),
    (1, -1, _DIAGONAL),
    (1, 0, _STRAIGHT),
    (1, 1, _DIAGONAL),
    (1, 2, _KNIGHT),
)
"""Neighbours in the rows above: (rows up, columns to the right, distance)."""

_BORDER = 2


def distances(marked: NDArray[np.bool_], limit: int) -> NDArray[np.int32]:
    """Return the distance of every pixel to the nearest marked one, int32 [n, h, w] in 1 / UNIT pixels.

    A distance is the length of the shortest path of steps to a neighbour (1), a diagonal one (1.4), or a knight's move
    (2.1969): the weights of OpenCV's ``distanceTransform`` with a mask of 5.

    Args:
        marked: [n, h, w].
        limit: Larger distances, in pixels, are cut to it.
    """
    count, height, width = marked.shape
    far = limit * UNIT
    table = np.full(
        (height + 2 * _BORDER, count, width + 2 * _BORDER), far, dtype=np.int32
    )  # rows first, to go by rows
    inside = table[_BORDER:-_BORDER, :, _BORDER:-_BORDER]
    inside[marked.transpose(1, 0, 2)] = 0
    for direction in (table, table[::-1, :, ::-1]):
        _sweep(direction)
    return np.ascontiguousarray(inside.transpose(1, 0, 2))


def _sweep(table: NDArray[np.int32]) -> None:
    """Let distances spread down and to the right, in place."""
    width = table.shape[2] - 2 * _BORDER
    ramp = np.arange(width, dtype=np.int32) * np.int32(_STRAIGHT)
    for row in range(_BORDER, len(table) - _BORDER):
        here = table[row, :, _BORDER:-_BORDER]
        for up, right, cost in _ABOVE:
            there = table[row - up, :, _BORDER + right : _BORDER + right + width]
            np.minimum(here, there + np.int32(cost), out=here)
        here[:] = np.minimum.accumulate(here - ramp, axis=1) + ramp
