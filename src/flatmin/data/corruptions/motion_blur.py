"""Motion blur: the camera moved. Constants: radius and sigma in pixels, as ImageMagick takes them."""

from __future__ import annotations

import numpy as np

from flatmin.data.corruptions._motion import motion_blurred
from flatmin.data.corruptions._pixels import to_bytes
from flatmin.data.corruptions.corruption import Corruption, Images


def apply(images: Images, constants: tuple[float, float], generator: np.random.Generator) -> Images:
    """Blur every image along its own direction, drawn from -45 to 45 degrees."""
    radius, sigma = constants
    return to_bytes(motion_blurred(images, radius, sigma, generator.uniform(-45, 45, len(images))))


CORRUPTION = Corruption(
    name="motion_blur",
    title="Motion blur",
    family="blur",
    severities=((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
    apply=apply,
)
