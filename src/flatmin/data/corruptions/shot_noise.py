"""Shot noise: light comes in whole photons. The constant is how many of them make white."""

from __future__ import annotations

import numpy as np

from flatmin.data.corruptions._pixels import to_bytes
from flatmin.data.corruptions.corruption import Corruption, Images


def apply(images: Images, photons: float, generator: np.random.Generator) -> Images:
    """Replace every channel of every pixel by a Poisson count of photons, of mean ``photons`` times its brightness."""
    counts = generator.poisson(images * (photons / 255))
    return to_bytes(counts.astype(np.float32) * np.float32(255 / photons))


CORRUPTION = Corruption(
    name="shot_noise",
    title="Shot noise",
    family="noise",
    severities=(500, 250, 100, 75, 50),
    apply=apply,
)
