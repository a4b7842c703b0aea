"""Contrast. The constant is what is left of a pixel's distance from its channel's mean over the image."""

from __future__ import annotations

import numpy as np

from flatmin.data.corruptions._pixels import to_bytes
from flatmin.data.corruptions.corruption import Corruption, Images


def apply(images: Images, factor: float, generator: np.random.Generator) -> Images:
    """Draw every channel of an image towards its mean."""
    means = images.mean(axis=(2, 3), keepdims=True, dtype=np.float64).astype(np.float32)
    return to_bytes((images - means) * np.float32(factor) + means)


CORRUPTION = Corruption(
    name="contrast",
    title="Contrast",
    family="digital",
    severities=(0.75, 0.5, 0.4, 0.3, 0.15),
    apply=apply,
)
