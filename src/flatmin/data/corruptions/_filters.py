"""Blurs with one kernel for all images."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

_NEGLIGIBLE = 1e-9


def gaussian(
    values: NDArray[Any], sigma: float, mode: Literal["nearest", "reflect"] = "nearest", truncate: float = 4.0
) -> NDArray[np.float32]:
    """Blur the last two axes with a Gaussian.

    Args:
        values: [..., h, w].
        sigma: Standard deviation in pixels; 0 leaves the values alone.
        mode: What lies outside: the ``nearest`` pixel, or the image ``reflect``-ed with its edge pixels repeated.
        truncate: The kernel ends after this many standard deviations.
    """
    sigmas = [0.0] * (values.ndim - 2) + [sigma, sigma]
    blurred: NDArray[np.float32] = gaussian_filter(
        values.astype(np.float32, copy=False), sigmas, mode=mode, truncate=truncate
    )
    return blurred


def correlated(values: NDArray[Any], kernel: NDArray[Any]) -> NDArray[Any]:
    """Correlate the last two axes with a kernel of odd sides, the image mirrored about the centres of its edge pixels.

    OpenCV's ``filter2D`` with its default border. Integers stay integers if both arguments are.
    """
    up, left = kernel.shape[0] // 2, kernel.shape[1] // 2
    height, width = values.shape[-2:]
    padded = np.pad(values, [(0, 0)] * (values.ndim - 2) + [(up, up), (left, left)], mode="reflect")
    total = np.zeros(values.shape, dtype=np.result_type(values, kernel))
    for row, column in np.argwhere(np.abs(kernel) > _NEGLIGIBLE):
        total += kernel[row, column] * padded[..., row : row + height, column : column + width]
    return total
