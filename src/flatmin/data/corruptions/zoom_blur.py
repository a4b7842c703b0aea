"""Zoom blur: the camera moved towards the object. The constant is where the zoom factors end."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import scipy.sparse

from flatmin.data.corruptions._pixels import to_bytes
from flatmin.data.corruptions._zoom import applied, zoom_matrix
from flatmin.data.corruptions.corruption import Corruption, Images


def apply(images: Images, stop: float, generator: np.random.Generator) -> Images:
    """Replace images by the mean of themselves and their zooms by 1.00, 1.01, ..."""
    return to_bytes(applied(blur_matrix(*images.shape[2:], stop), images.astype(np.float32)))


@lru_cache(maxsize=4)  # at 224 x 224 a matrix takes tens of megabytes
def blur_matrix(height: int, width: int, stop: float) -> scipy.sparse.csr_array:
    """Return the whole blur as one sparse matrix, float32 [h w, h w]."""
    factors = np.arange(1, stop, 0.01)  # as published: rounding decides whether ``stop`` itself is among them
    total = scipy.sparse.eye_array(height * width, format="csr")
    for factor in factors:
        total = total + zoom_matrix(height, width, float(factor))
    mean: scipy.sparse.csr_array = (total / (len(factors) + 1)).tocsr().astype(np.float32)
    return mean


CORRUPTION = Corruption(
    name="zoom_blur",
    title="Zoom blur",
    family="blur",
    severities=(1.06, 1.11, 1.16, 1.21, 1.26),
    apply=apply,
)
