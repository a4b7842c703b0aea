"""Speckle noise: the brighter a pixel, the more. The constant is its standard deviation relative to the pixel."""

from __future__ import annotations

import numpy as np

from flatmin.data.corruptions._pixels import to_bytes
from flatmin.data.corruptions.corruption import Corruption, Images


def apply(images: Images, deviation: float, generator: np.random.Generator) -> Images:
    """Multiply every channel of every pixel by 1 plus independent normal noise."""
    noise = generator.standard_normal(images.shape, dtype=np.float32)
    return to_bytes(images * (1 + np.float32(deviation) * noise))


CORRUPTION = Corruption(
    name="speckle_noise",
    title="Speckle noise",
    family="noise",
    severities=(0.06, 0.1, 0.12, 0.16, 0.2),
    apply=apply,
)
