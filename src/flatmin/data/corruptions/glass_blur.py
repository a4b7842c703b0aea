"""Glass blur: seen through frosted glass. Constants: sigma of the blur before and after, reach, rounds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flatmin.data.corruptions._filters import gaussian
from flatmin.data.corruptions._pixels import to_bytes
from flatmin.data.corruptions.corruption import Corruption, Images


def apply(images: Images, constants: tuple[float, int, int], generator: np.random.Generator) -> Images:
    """Blur, drop the fraction, displace pixels, and blur again.

    In each round, every pixel that is not near the edge draws an offset. The published line means to swap it with the
    pixel there, but both sides of that assignment are views of one array, so that what numpy does, and CIFAR-10-C
    holds, is a copy: the pixel takes the other's colour, and the other keeps it. So it is here. Sigma and reach are
    pixels at any image size.
    """
    sigma, reach, rounds = constants
    glass = to_bytes(gaussian(images, sigma))
    for _ in range(rounds):
        offsets = generator.integers(-reach, reach, size=(2, len(images), *images.shape[2:]), dtype=np.int8)
        glass = displaced(glass, offsets, reach)
    return to_bytes(gaussian(glass, sigma))


def displaced(images: Images, offsets: NDArray[np.int8], reach: int) -> Images:
    """Let every pixel take the colour of the one at its offset.

    The published loop goes from the bottom right to the top left, one pixel at a time. With the reach of 1 that all
    severities for 32 x 32 images have, an offset is -1 or 0 in either direction, so it points to a pixel that has not
    had its turn, and the loop is the same as all pixels at once.

    Args:
        images: Uint8 [n, c, h, w].
        offsets: (rows, columns), [2, n, h, w].
        reach: Rows and columns from ``reach`` + 1 to the side minus ``reach`` take part, counted from 0.

    Raises:
        ValueError: The reach is not 1.
    """
    if reach != 1:
        raise ValueError(f"reach {reach}: pixels would be read after their turn, which needs the loop over pixels")
    count, channels, height, width = images.shape
    rows, columns = offsets.astype(np.intp)
    inside = np.zeros((height, width), dtype=np.intp)
    inside[reach + 1 : height - reach + 1, reach + 1 : width - reach + 1] = 1
    here = np.arange(height * width).reshape(height, width)
    there = (here + inside * (rows * width + columns)).reshape(count, 1, height * width)
    flat = images.reshape(count, channels, height * width)
    return np.take_along_axis(flat, np.broadcast_to(there, flat.shape), axis=2).reshape(images.shape)


CORRUPTION = Corruption(
    name="glass_blur",
    title="Glass blur",
    family="blur",
    severities=((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
    apply=apply,
)
