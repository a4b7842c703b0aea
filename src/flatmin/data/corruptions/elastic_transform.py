"""Elastic transform. Constants, as multiples of the side: displacement, sigma of its smoothing, affine shift.

For images that are not square, the side is the shorter one.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import grid_sample

from flatmin.data.corruptions._filters import gaussian
from flatmin.data.corruptions._pixels import to_bytes
from flatmin.data.corruptions.corruption import Corruption, Images

Coordinates = NDArray[np.float64]
"""Where pixels come from: (x, y) last, [n, h, w, 2], in pixels."""


def apply(images: Images, constants: tuple[float, float, float], generator: np.random.Generator) -> Images:
    """Warp images by a random affine map, and the result by a random smooth field of displacements."""
    count, _, height, width = images.shape
    displacement, smoothing, shift = (min(height, width) * constant for constant in constants)
    moved = affine_coordinates(count, height, width, shift, generator)
    warped = sampled(images.astype(np.float32), moved, "mirror")
    if displacement:
        field = displacement * smooth_field((count, 2, height, width), smoothing, generator)
        warped = sampled(warped, pixel_grid(height, width) + np.moveaxis(field, 1, -1), "reflect")
    return to_bytes(warped)


def affine_coordinates(
    count: int, height: int, width: int, shift: float, generator: np.random.Generator
) -> Coordinates:
    """Return where the pixels come from under random affine maps.

    Three corners of a centred square, of sides two thirds of the image's shorter one, move by uniform amounts of up to
    +- ``shift`` pixels in each direction; each image's map is the one that does this.
    """
    corners = np.array([[1, 1], [1, -1], [-1, -1]]) * (min(height, width) // 3) + [width // 2, height // 2]
    moved = corners + generator.uniform(-shift, shift, size=(count, 3, 2))
    back = np.linalg.solve(np.concatenate([moved, np.ones((count, 3, 1))], axis=2), corners[None].astype(np.float64))
    grid = pixel_grid(height, width)
    x, y = grid[..., :1], grid[..., 1:]
    return x * back[:, None, None, 0] + y * back[:, None, None, 1] + back[:, None, None, 2]


def smooth_field(shape: tuple[int, ...], sigma: float, generator: np.random.Generator) -> NDArray[np.float32]:
    """Return uniform noise in +-1, blurred over the last two axes by a Gaussian that ends at three deviations."""
    noise = generator.random(shape, dtype=np.float32) * np.float32(2) - np.float32(1)
    return gaussian(noise, sigma, mode="reflect", truncate=3.0)


def pixel_grid(height: int, width: int) -> Coordinates:
    """Return the coordinates of the pixels themselves, [h, w, 2]."""
    return np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).astype(np.float64)


def sampled(
    images: NDArray[np.float32], coordinates: Coordinates, outside: Literal["mirror", "reflect"]
) -> NDArray[np.float32]:
    """Return the images at the coordinates, interpolated linearly.

    Args:
        images: [n, c, h, w].
        coordinates: [n, h, w, 2].
        outside: Images go on mirrored at the centres of their edge pixels (``mirror``, OpenCV's REFLECT_101), or at
            their rims, so that edge pixels repeat (scipy's ``reflect``).

    OpenCV rounds the affine map's coordinates to 1/32 of a pixel, which is not done here.
    """
    size = np.array(images.shape[:1:-1], dtype=np.float64)  # width, height
    mirror = outside == "mirror"
    relative = 2 * coordinates / (size - 1) - 1 if mirror else (2 * coordinates + 1) / size - 1
    grid = torch.from_numpy(np.ascontiguousarray(relative, dtype=np.float32))
    values = torch.from_numpy(images)
    result: NDArray[np.float32] = grid_sample(
        values, grid, mode="bilinear", padding_mode="reflection", align_corners=mirror
    ).numpy()
    return result


CORRUPTION = Corruption(
    name="elastic_transform",
    title="Elastic transform",
    family="digital",
    severities=((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)),
    apply=apply,
)
