"""Reading arrays from MATLAB's level 5 files, the format of SVHN, by scipy.

Only files whose checksum was verified may come here: one that was made up can crash scipy's reader, not only fool it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flatmin.data.errors import DataError
from flatmin.data.untrusted import AGAIN, Shape, fits, reading, spelled


def read_mat(path: Path, shapes: Mapping[str, Shape]) -> dict[str, NDArray[np.uint8]]:
    """Return arrays of small whole numbers from a file.

    MATLAB stores numbers in the smallest type that holds them, whatever they are in its own memory; it is the stored
    type that must be unsigned bytes.

    Args:
        path: The file, verified. What else it holds is passed over.
        shapes: The expected shape of every array that is wanted, by name; None in it stands for any length but 0.

    Returns:
        The arrays, uint8.

    Raises:
        DataError: It is no such file, or an array is missing or has another type or shape.
    """
    from scipy.io import loadmat  # slow to import, and needed nowhere else

    with reading(path, "MATLAB file"):
        found = loadmat(path, variable_names=list(shapes), mat_dtype=False)
    for name, shape in shapes.items():
        array = found.get(name)
        if not isinstance(array, np.ndarray) or array.dtype != np.uint8:
            kind = getattr(array, "dtype", "missing")
            raise DataError(f"{path}: {name!r} is no array of unsigned bytes ({kind})", AGAIN)
        if not fits(array.shape, shape):
            raise DataError(f"{path}: {name!r} is {array.shape}, not {spelled(shape)}", AGAIN)
    return {name: found[name] for name in shapes}
