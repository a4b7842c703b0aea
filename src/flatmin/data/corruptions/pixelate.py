"""Pixelate: enlarged from fewer pixels. The constant is the smaller side as a fraction of the side."""

from __future__ import annotations

import numpy as np
from PIL import Image

from flatmin.data.corruptions._pillow import each_image
from flatmin.data.corruptions.corruption import Corruption, Images


def apply(images: Images, factor: float, generator: np.random.Generator) -> Images:
    """Resize images to int(factor times side) and back, both by Pillow's box filter, one by one."""
    height, width = images.shape[2:]
    fewer = (int(factor * width), int(factor * height))
    box = Image.Resampling.BOX
    return each_image(images, lambda image: image.resize(fewer, box).resize((width, height), box))


CORRUPTION = Corruption(
    name="pixelate",
    title="Pixelate",
    family="digital",
    severities=(0.95, 0.9, 0.85, 0.75, 0.65),
    apply=apply,
)
