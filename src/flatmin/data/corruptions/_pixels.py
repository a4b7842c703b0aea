"""From computed brightness back to pixels, and from colour to grey."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from flatmin.data.corruptions.corruption import Images

_ROUNDING = 2.0**-10
_LUMA = (0.299, 0.587, 0.114)


def to_bytes(values: NDArray[np.floating[Any]]) -> Images:
    """Clip to 0..255 and drop the fraction, as the authors' ``np.uint8`` does.

    A value within 2^-10 below a whole number counts as that number: it is there by rounding. So pixels that a
    corruption leaves alone stay what they are, and platforms that round differently agree almost always.
    """
    return np.clip(values + np.float32(_ROUNDING), 0, 255).astype(np.uint8)


def luminance(images: NDArray[Any]) -> NDArray[np.float32]:
    """Return the grey version [n, 1, h, w], by the weights of ITU-R BT.601; grey images are their own."""
    if images.shape[1] == 1:
        return images.astype(np.float32)
    red, green, blue = (np.float32(weight) * images[:, channel] for channel, weight in enumerate(_LUMA))
    grey: NDArray[np.float32] = (red + green + blue)[:, None]
    return grey


def in_channels(colour: tuple[float, float, float], channels: int) -> NDArray[np.float32]:
    """Return an RGB colour as [1, c, 1, 1], for images of one channel its luminance."""
    rgb = np.array(colour, dtype=np.float32).reshape(1, 3, 1, 1)
    return rgb if channels == 3 else luminance(rgb)
