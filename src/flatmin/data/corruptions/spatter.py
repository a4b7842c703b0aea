"""Spatter: drops of water or mud.

Constants: mean and deviation of the liquid's noise, sigma of its smoothing, threshold, then the strength of water or
the sigma of mud's rim, and 1 for mud.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flatmin.data.corruptions._canny import edges
from flatmin.data.corruptions._chamfer import UNIT, distances
from flatmin.data.corruptions._filters import correlated, gaussian
from flatmin.data.corruptions._pixels import in_channels, to_bytes
from flatmin.data.corruptions.corruption import Corruption, Images

_WATER = (175.0, 238.0, 238.0)
_MUD = (63.0, 42.0, 20.0)
_OPAQUE = np.float32(0.8)
_FARTHEST = 20
_EMBOSS = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]], dtype=np.int32)
_BOX = np.ones((3, 3), dtype=np.int32)

Constants = tuple[float, float, float, float, float, int]


def apply(images: Images, constants: Constants, generator: np.random.Generator) -> Images:
    """Add drops of pale turquoise water, or cover images with opaque brown mud.

    The liquid is smoothed normal noise above a threshold; sizes are pixels at any image size. On grey images it has its
    colour's luminance. An image on which no liquid falls stays as it is.
    """
    mean, deviation, smoothing, threshold, last, is_mud = constants
    count, channels, height, width = images.shape
    noise = mean + deviation * generator.standard_normal((count, height, width), dtype=np.float32)
    liquid = gaussian(noise, smoothing)
    if is_mud:
        mud = gaussian(liquid > threshold, last)[:, None]
        mud[mud < _OPAQUE] = 0
        return to_bytes(images * (1 - mud) + in_channels(_MUD, channels) * mud)
    water = glint(np.where(liquid < threshold, 0, liquid))[:, None]
    return to_bytes(images + np.float32(last) * water * in_channels(_WATER, channels))


def glint(liquid: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return how brightly water shines, float32 [n, h, w], 1 at the brightest point of each image.

    Distances from the liquid's edges, averaged, equalised and embossed, make the light on it; fractions are dropped
    after the first mean. The steps are those of OpenCV (Canny, distanceTransform, blur, equalizeHist, filter2D), to its
    bits except for the first mean, which OpenCV takes of rounded distances and which is exact here.

    Args:
        liquid: [n, h, w]; 0 where there is none, else 0 to 1.
    """
    layer = to_bytes(255 * liquid)
    far = distances(edges(layer, 50, 150), _FARTHEST)
    near = (correlated(far, _BOX) // (9 * UNIT)).astype(np.uint8)
    embossed = np.clip(correlated(equalised(near).astype(np.int32), _EMBOSS), 0, 255)
    light = np.rint(correlated(embossed, _BOX) / 9).astype(np.float32)
    shine = layer * light
    return shine / np.maximum(shine.max(axis=(1, 2), keepdims=True), 1)


def equalised(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Equalise the histogram of each image [n, h, w]: values become 255 times their rank, the smallest becoming 0.

    The rank of a value is the share of the pixels up to it, those of the smallest value left out on both sides. Images
    of a single value stay as they are.
    """
    count, pixels = len(images), images[0].size
    keys = images + 256 * np.arange(count).reshape(count, 1, 1)
    histogram = np.bincount(keys.ravel(), minlength=256 * count).reshape(count, 256)
    smallest = np.take_along_axis(histogram, (histogram > 0).argmax(axis=1)[:, None], axis=1)
    ranks = np.clip(histogram.cumsum(axis=1) - smallest, 0, None)
    scale = np.float32(255) / np.maximum(pixels - smallest, 1).astype(np.float32)  # OpenCV rounds in single precision
    levels = np.rint(ranks.astype(np.float32) * scale).astype(np.uint8)
    levels = np.where(smallest == pixels, np.arange(256, dtype=np.uint8), levels)
    equal: NDArray[np.uint8] = levels.ravel()[keys]
    return equal


CORRUPTION = Corruption(
    name="spatter",
    title="Spatter",
    family="weather",
    severities=(
        (0.62, 0.1, 0.7, 0.7, 0.5, 0),
        (0.65, 0.1, 0.8, 0.7, 0.5, 0),
        (0.65, 0.3, 1, 0.69, 0.5, 0),
        (0.65, 0.1, 0.7, 0.69, 0.6, 1),
        (0.65, 0.1, 0.5, 0.68, 0.6, 1),
    ),
    apply=apply,
)
