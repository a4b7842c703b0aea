"""Gaussian blur. The constant is the kernel's standard deviation in pixels."""

from __future__ import annotations

import numpy as np

from flatmin.data.corruptions._filters import gaussian
from flatmin.data.corruptions._pixels import to_bytes
from flatmin.data.corruptions.corruption import Corruption, Images


def apply(images: Images, sigma: float, generator: np.random.Generator) -> Images:
    """Blur with a kernel that ends at four standard deviations; outside, the edge's pixels go on."""
    return to_bytes(gaussian(images, sigma))


CORRUPTION = Corruption(
    name="gaussian_blur",
    title="Gaussian blur",
    family="blur",
    severities=(0.4, 0.6, 0.7, 0.8, 1.0),
    apply=apply,
)
