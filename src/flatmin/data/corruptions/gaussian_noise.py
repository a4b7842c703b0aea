"""Gaussian noise: what a sensor adds in low light. The constant is its standard deviation, white being 1."""

from __future__ import annotations

import numpy as np

from flatmin.data.corruptions._pixels import to_bytes
from flatmin.data.corruptions.corruption import Corruption, Images


def apply(images: Images, deviation: float, generator: np.random.Generator) -> Images:
    """Add independent normal noise to every channel of every pixel."""
    noise = generator.standard_normal(images.shape, dtype=np.float32)
    return to_bytes(images + np.float32(255 * deviation) * noise)


CORRUPTION = Corruption(
    name="gaussian_noise",
    title="Gaussian noise",
    family="noise",
    severities=(0.04, 0.06, 0.08, 0.09, 0.10),
    apply=apply,
)
