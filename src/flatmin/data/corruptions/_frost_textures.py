"""Frost on a window pane, grown by branching: the stand-in for the photographs of the published benchmark."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from flatmin.data.corruptions.corruption import Images
from flatmin.randomness import numpy_generator

TEXTURES = 5
"""As many as the published code draws from."""

_DENSITIES = (1.0, 1.4, 0.7, 1.2, 0.9)
"""Of the textures' crystals: photographs differ in how much of the pane is covered."""

_PIXELS_PER_CRYSTAL = 140
_BRANCH_ANGLE = np.pi / 3  # ice is hexagonal
_GLASS, _ICE = np.array([28.0, 44.0, 62.0]), np.array([236.0, 246.0, 255.0])


class _Needles(NamedTuple):
    """Straight pieces of ice: foot and direction, length in pixels, and how much ice a pixel of length holds."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    angle: NDArray[np.float64]
    length: NDArray[np.float64]
    ice: NDArray[np.float64]


@cache
def textures(side: int) -> Images:
    """Return the panes, uint8 RGB [5, 3, side, side], whose opposite edges fit; the same in every process.

    On each, crystals start at random points in random directions. A crystal is a needle with side needles at 60
    degrees, those nearer the tip shorter, which have side needles in turn. Over the crystals lies a haze that is
    thicker in some places, and where it is thin there are fewer crystals. Sizes are pixels, for any ``side``.
    """
    panes = np.stack([_texture(side, number) for number in range(TEXTURES)])
    panes.flags.writeable = False  # the cache hands the same array to every caller
    return panes


def _texture(side: int, number: int) -> Images:
    generator = numpy_generator(0, "frost-texture", number)
    cover = _cover(side, generator)
    stems = _stems(side, cover, round(_DENSITIES[number] * side**2 / _PIXELS_PER_CRYSTAL), generator)
    branches = _branches(stems, 2.5, 0.45, generator)
    twigs = _branches(branches, 2.0, 0.5, generator)
    ice = sum(_drawn(needles, side) for needles in (stems, branches, twigs))
    ice = gaussian_filter(ice, 0.45, mode="wrap") + 0.35 * cover**2 + 0.08 * generator.random((side, side)) * cover
    white = 1 - np.exp(-1.25 * ice)
    colours = _GLASS[:, None, None] + white * (_ICE - _GLASS)[:, None, None]
    return np.clip(colours, 0, 255).astype(np.uint8)


def _cover(side: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """Return how thick the frost is, 0 to 1, [side, side]: smooth noise of two scales."""
    coarse, fine = (
        _standardised(gaussian_filter(generator.standard_normal((side, side)), sigma, mode="wrap")) for sigma in (18, 5)
    )
    cover: NDArray[np.float64] = 1 / (1 + np.exp(-(1.0 * coarse + 0.7 * fine)))
    return cover


def _standardised(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return (values - values.mean()) / values.std()


def _stems(side: int, cover: NDArray[np.float64], count: int, generator: np.random.Generator) -> _Needles:
    """Return ``count`` needles, more and longer ones where the cover is thick."""
    x, y = generator.uniform(0, side, size=(2, 3 * count))
    thick = cover[y.astype(int), x.astype(int)]
    chosen = np.argsort(generator.random(3 * count) - thick, kind="stable")[:count]
    x, y, thick = x[chosen], y[chosen], thick[chosen]
    length = generator.uniform(12, 50, count) * (0.4 + 0.6 * thick)
    return _Needles(x, y, generator.uniform(0, 2 * np.pi, count), length, 0.5 + 0.5 * thick)


def _branches(stems: _Needles, spacing: float, share: float, generator: np.random.Generator) -> _Needles:
    """Return the side needles of needles, on alternating sides.

    Args:
        stems: What they grow from.
        spacing: Pixels of stem from one to the next.
        share: Their length is up to this share of what is left of the stem from their foot to its tip.
        generator: Of positions, angles and lengths.
    """
    counts = (stems.length / spacing).astype(int)
    x, y, angle, length, ice = (np.repeat(values, counts) for values in stems)
    rank = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    along = (rank + generator.uniform(0, 1, len(rank))) * spacing
    left = np.clip(length - along, 0, None)
    turned = angle + np.where(rank % 2, 1, -1) * _BRANCH_ANGLE + generator.normal(0, 0.06, len(rank))
    foot_x, foot_y = x + along * np.cos(angle), y + along * np.sin(angle)
    return _Needles(foot_x, foot_y, turned, share * left * generator.uniform(0.6, 1, len(rank)), 0.7 * ice)


def _drawn(needles: _Needles, side: int) -> NDArray[np.float64]:
    """Return the ice on every pixel, [side, side]: points half a pixel apart, each shared by the four pixels around."""
    counts = np.ceil(2 * needles.length).astype(int)
    x, y, angle, length, ice = (np.repeat(values, counts) for values in needles)
    along = 0.5 * (np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts))
    ice = 0.5 * ice * (1 - 0.6 * along / np.maximum(length, 1))  # needles are thinner at the tip
    x, y = x + along * np.cos(angle), y + along * np.sin(angle)
    left, top = np.floor(x), np.floor(y)
    drawn = np.zeros(side * side)
    for right in (0, 1):
        for down in (0, 1):
            share = np.abs(1 - right - (x - left)) * np.abs(1 - down - (y - top))
            pixel = (top + down).astype(int) % side * side + (left + right).astype(int) % side
            drawn += np.bincount(pixel, weights=ice * share, minlength=side * side)
    return drawn.reshape(side, side)
