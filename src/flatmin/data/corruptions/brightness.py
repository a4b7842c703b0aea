"""Brightness: as daylight changes. The constant is added to the value of HSV, white being 1."""

from __future__ import annotations

import numpy as np

from flatmin.data.corruptions._pixels import to_bytes
from flatmin.data.corruptions.corruption import Corruption, Images


def apply(images: Images, added: float, generator: np.random.Generator) -> Images:
    """Raise the value, the largest channel of a pixel, up to white at most; hue and saturation stay.

    At constant hue and saturation the channels are proportional to the value, so each is multiplied by new / old;
    black, which has no hue, becomes grey. A grey image has its only channel for a value.
    """
    value = images.max(axis=1, keepdims=True).astype(np.float32)
    brighter = np.minimum(value + np.float32(255 * added), 255)
    return to_bytes(np.where(value > 0, images * (brighter / np.maximum(value, 1)), brighter))


CORRUPTION = Corruption(
    name="brightness",
    title="Brightness",
    family="weather",
    severities=(0.05, 0.1, 0.15, 0.2, 0.3),
    apply=apply,
)
