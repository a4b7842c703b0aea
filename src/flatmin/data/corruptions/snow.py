"""Snow. Constants: mean and deviation of the flakes' noise, zoom, threshold, motion's radius and sigma, share kept."""

from __future__ import annotations

import numpy as np

from flatmin.data.corruptions._motion import motion_blurred
from flatmin.data.corruptions._pixels import luminance, to_bytes
from flatmin.data.corruptions._zoom import applied, layer_zoom
from flatmin.data.corruptions.corruption import Corruption, Images

Constants = tuple[float, float, float, float, float, float, float]


def apply(images: Images, constants: Constants, generator: np.random.Generator) -> Images:
    """Whiten images and let flakes fall over them.

    A share of the image makes way for one that is nowhere darker than 1.5 times its luminance plus a half. Then the
    flakes are added, once as they are and once turned by 180 degrees. Flake sizes are pixels at any image size. A grey
    image is its own luminance.
    """
    kept = np.float32(constants[6])
    flakes = falling(images.shape, constants, generator).astype(np.float32)
    whitened = np.maximum(images, np.float32(1.5) * luminance(images) + np.float32(127.5))
    return to_bytes(kept * images + (1 - kept) * whitened + flakes + flakes[:, :, ::-1, ::-1])


def falling(shape: tuple[int, ...], constants: Constants, generator: np.random.Generator) -> Images:
    """Return layers of flakes, uint8 [n, 1, h, w].

    What exceeds a threshold in magnified normal noise is a flake. It is blurred along a direction from -135 to -45
    degrees, another for every image. Fractions are dropped before the motion and after it.
    """
    mean, deviation, factor, threshold, radius, sigma, _ = constants
    count, _, height, width = shape
    noise = mean + deviation * generator.standard_normal((count, 1, height, width), dtype=np.float32)
    zoomed = applied(layer_zoom(height, width, factor), noise.astype(np.float32))
    flakes = to_bytes(255 * np.where(zoomed < threshold, 0, zoomed))
    return to_bytes(motion_blurred(flakes, radius, sigma, generator.uniform(-135, -45, count)))


CORRUPTION = Corruption(
    name="snow",
    title="Snow",
    family="weather",
    severities=(
        (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
        (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    ),
    apply=apply,
)
