"""Fog. Constants: how thick, and the decay of the plasma's noise (the larger, the smoother)."""

from __future__ import annotations

import numpy as np

from flatmin.data.corruptions._pixels import to_bytes
from flatmin.data.corruptions._plasma import plasma
from flatmin.data.corruptions.corruption import Corruption, Images


def apply(images: Images, constants: tuple[float, float], generator: np.random.Generator) -> Images:
    """Add clouds, and darken so that the image's maximum stays the largest possible value.

    With the maximum m of an image, a pixel x under a cloud p in [0, 1] becomes (x + thickness p) m / (m + thickness);
    white is 1. The map is square, its side the power of two that is not below the image's longer side (32 for
    CIFAR), of which the top left is used.
    """
    thickness, decay = constants
    count, _, height, width = images.shape
    size = 1 << (max(height, width) - 1).bit_length()
    clouds = plasma(count, size, decay, generator)[:, None, :height, :width]
    brightest = images.max(axis=(1, 2, 3), keepdims=True).astype(np.float32)
    thick = np.float32(255 * thickness)
    return to_bytes((images + thick * clouds) * (brightest / (brightest + thick)))


CORRUPTION = Corruption(
    name="fog",
    title="Fog",
    family="weather",
    severities=((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
    apply=apply,
)
