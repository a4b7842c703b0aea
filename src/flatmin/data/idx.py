"""Reading IDX, the file format of MNIST and its descendants."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flatmin.data.errors import DataError

_UNSIGNED_BYTE = 8


def read_idx(path: Path, *, ndim: int) -> NDArray[np.uint8]:
    """Return the unsigned bytes of an uncompressed IDX file of ``ndim`` dimensions.

    The header is two zero bytes, the type (8: unsigned byte), the number of dimensions, and one big-endian 32-bit size
    for each.

    Raises:
        DataError: The header says otherwise, or the file has more or fewer bytes than its header promises.
    """
    content = path.read_bytes()
    start = 4 + 4 * ndim
    if len(content) < start or content[:4] != bytes((0, 0, _UNSIGNED_BYTE, ndim)):
        raise DataError(f"{path} is not an IDX file of unsigned bytes in {ndim} dimensions", "Download it again.")
    shape = struct.unpack(f">{ndim}I", content[4:start])
    if len(content) - start != int(np.prod(shape, dtype=np.int64)):
        raise DataError(f"{path} holds {len(content) - start} bytes, its header promises {shape}", "Download it again.")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
