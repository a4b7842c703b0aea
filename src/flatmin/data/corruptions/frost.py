"""Frost: a window pane with ice on it. Constants: weight of the image, weight of the frost.

The published benchmark lays photographs over the images. They are not ours to pass on, so the frost is grown
(`flatmin.data.corruptions._frost_textures`), and a table calls what comes of it generated.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from flatmin.data.corruptions._frost_textures import TEXTURES, textures
from flatmin.data.corruptions._pixels import luminance, to_bytes
from flatmin.data.corruptions.corruption import Corruption, Images

_SMALLEST_PANE = 256


def apply(images: Images, constants: tuple[float, float], generator: np.random.Generator) -> Images:
    """Add to each image, weakened, a random part of one of five panes; to grey images the part's luminance.

    Crystals have the same size in pixels at any image size.
    """
    image_weight, frost_weight = (np.float32(constant) for constant in constants)
    count, channels, height, width = images.shape
    panes = textures(max(_SMALLEST_PANE, 2 << (max(height, width) - 1).bit_length()))
    parts = sliding_window_view(panes, (height, width), axis=(2, 3))  # [pane, channel, top, left, h, w]
    pane = generator.integers(TEXTURES, size=count)
    top, left = generator.integers([[parts.shape[2]], [parts.shape[3]]], size=(2, count))
    frost = parts[pane, :, top, left]
    return to_bytes(image_weight * images + frost_weight * (frost if channels == 3 else luminance(frost)))


CORRUPTION = Corruption(
    name="frost",
    title="Frost",
    family="weather",
    severities=((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),
    apply=apply,
)
