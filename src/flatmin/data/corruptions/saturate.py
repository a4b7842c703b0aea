"""Saturate: paler or more colourful. Constants: factor on the saturation of HSV, and what is added to it."""

from __future__ import annotations

import numpy as np

from flatmin.data.corruptions._pixels import to_bytes
from flatmin.data.corruptions.corruption import Corruption, Images


def apply(images: Images, constants: tuple[float, float], generator: np.random.Generator) -> Images:
    """Change the saturation, 0 to 1; hue and value stay.

    The saturation of a pixel with largest channel v and smallest m is (v - m) / v, and at constant hue each channel's
    distance from v is proportional to it. A grey pixel of a colour image has hue 0 by convention: what is added turns
    it reddish, as in the paper's images. An image of one channel has no saturation that could change: it stays.
    """
    if images.shape[1] == 1:
        return images.copy()
    factor, added = (np.float32(constant) for constant in constants)
    value = images.max(axis=1, keepdims=True).astype(np.float32)
    spread = value - images.min(axis=1, keepdims=True)
    saturation = np.clip(factor * spread / np.maximum(value, 1) + added, 0, 1)
    ratio = saturation * value / np.maximum(spread, 1)
    colourful = value - (value - images) * ratio
    reddish = value * (1 - saturation * np.array([0, 1, 1], dtype=np.float32).reshape(1, 3, 1, 1))
    return to_bytes(np.where(spread > 0, colourful, reddish))


CORRUPTION = Corruption(
    name="saturate",
    title="Saturate",
    family="digital",
    severities=((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)),
    apply=apply,
)
