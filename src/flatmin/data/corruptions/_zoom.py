"""Zooming into the centre of an image of constant size, as a matrix."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import scipy.sparse
from numpy.typing import NDArray
from scipy.ndimage import zoom


def zoom_matrix(height: int, width: int, factor: float) -> scipy.sparse.csr_array:
    """Return the zoom by ``factor`` as a sparse matrix [h w, h w] that acts on flattened images.

    The middle ceil(side / factor) pixels of each side are magnified by `scipy.ndimage.zoom` of order 1, and what is
    more than the side is cut off at both ends. The paper's images are square; here each side is treated by itself.
    """
    matrix: scipy.sparse.csr_array = scipy.sparse.kron(
        scipy.sparse.csr_array(_along(height, factor)), scipy.sparse.csr_array(_along(width, factor)), format="csr"
    )
    return matrix


def _along(side: int, factor: float) -> NDArray[np.float64]:
    """Return the zoom along one side, [side, side]."""
    cropped = math.ceil(side / factor)
    first = (side - cropped) // 2
    magnified = zoom(np.eye(cropped), (factor, 1), order=1)
    trimmed = (len(magnified) - side) // 2
    matrix = np.zeros((side, side))
    matrix[:, first : first + cropped] = magnified[trimmed : trimmed + side]
    return matrix


@cache
def layer_zoom(height: int, width: int, factor: float) -> scipy.sparse.csr_array:
    """Return `zoom_matrix` in float32; made once."""
    return zoom_matrix(height, width, factor).astype(np.float32)


def applied(matrix: scipy.sparse.csr_array, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the images [..., h, w], each multiplied by a matrix [h w, h w]."""
    flat = np.ascontiguousarray(images.reshape(-1, matrix.shape[1]).T)
    product: NDArray[np.float32] = matrix @ flat
    return np.ascontiguousarray(product.T).reshape(images.shape)
