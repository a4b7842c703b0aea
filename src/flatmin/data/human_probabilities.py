"""CIFAR-10H: how about 50 people each labelled every test image of CIFAR-10, as probabilities.

J. C. Peterson et al., Human Uncertainty Makes Classification More Robust, ICCV 2019.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flatmin.data.errors import DataError
from flatmin.data.npy import read_npy
from flatmin.data.untrusted import AGAIN

IMAGES, CLASSES = 10_000, 10

_ROUNDING = 1e-9


def read_human_probabilities(path: Path) -> NDArray[np.float64]:
    """Read the published probabilities (``cifar10h-probs.npy``).

    Returns:
        Float64 [10000, 10], in the order of CIFAR-10's test images and classes; every row sums to 1.

    Raises:
        DataError: The file is no such array.
    """
    probabilities: NDArray[np.float64] = read_npy(path, np.float64, (IMAGES, CLASSES))
    # Written so that NaN is refused too
    if not (probabilities.min() >= 0 and np.abs(probabilities.sum(axis=1) - 1).max() <= _ROUNDING):
        raise DataError(f"{path} is no table of probabilities: rows are negative or do not sum to 1", AGAIN)
    return probabilities
