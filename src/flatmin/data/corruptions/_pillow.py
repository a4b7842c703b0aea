"""Corruptions that Pillow does, image by image."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

from flatmin.data.corruptions.corruption import Images


def each_image(images: Images, change: Callable[[Image.Image], Image.Image]) -> Images:
    """Return ``change`` of every image, whose size and mode (L for one channel, RGB for three) it must keep."""
    last = np.ascontiguousarray(np.moveaxis(images, 1, -1))
    changed = np.empty_like(last)
    pictures = last if last.shape[-1] == 3 else last[..., 0]
    for number, picture in enumerate(pictures):
        changed[number] = np.asarray(change(Image.fromarray(picture))).reshape(last.shape[1:])
    return np.ascontiguousarray(np.moveaxis(changed, -1, 1))
