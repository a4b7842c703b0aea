"""Reading numpy's own files, ``.npy`` and ``.npz``, whose headers may lie.

A header is read first and compared with what is expected. Only then is memory taken, and no more than the file has
bytes to fill. Arrays of Python objects, which are pickles, are never read.
"""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import IO, Any
from zipfile import ZipFile

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import DTypeLike, NDArray

from flatmin.data.errors import DataError
from flatmin.data.untrusted import AGAIN, Shape, fits, open_zip, reading, spelled

MOST_BYTES = 2**30
"""The most that one array may take, whatever a compressed file promises; the largest one wanted has 154 MB."""

_HEADERS = {(1, 0): npy_format.read_array_header_1_0, (2, 0): npy_format.read_array_header_2_0}


def read_npy(path: Path, dtype: DTypeLike, shape: Shape) -> NDArray[Any]:
    """Return the array of a ``.npy`` file.

    Args:
        path: The file.
        dtype: The data type that it must have, byte order included.
        shape: The shape that it must have.

    Raises:
        DataError: It is no such file, has another type or shape, or more or fewer bytes than its header promises.
    """
    with reading(path, "npy file"), path.open("rb") as stream:
        return _read_array(stream, path.stat().st_size, str(path), np.dtype(dtype), shape)


def read_npz(path: Path, expected: dict[str, tuple[DTypeLike, Shape]]) -> dict[str, NDArray[Any]]:
    """Return some arrays of a ``.npz`` file; others in it are left unread.

    Args:
        path: The file.
        expected: Data type and shape of every array that is wanted, by name.

    Raises:
        DataError: As `read_npy`, or an array is missing.
    """
    with open_zip(path) as archive, reading(path, "npz file"):
        return {
            name: _read_member(archive, path, name, np.dtype(dtype), shape) for name, (dtype, shape) in expected.items()
        }


def _read_member(archive: ZipFile, path: Path, name: str, dtype: np.dtype[Any], shape: Shape) -> NDArray[Any]:
    member = f"{name}.npy"
    if member not in archive.NameToInfo:
        raise DataError(f"{path} has no array {name!r}", AGAIN)
    with archive.open(member) as stream:
        return _read_array(stream, archive.getinfo(member).file_size, f"{path}, {name!r}", dtype, shape)


def _read_array(stream: IO[bytes], size: int, place: str, dtype: np.dtype[Any], shape: Shape) -> NDArray[Any]:
    """Read an array from the start of ``stream``, which is said to hold ``size`` bytes."""
    version = npy_format.read_magic(stream)
    if version not in _HEADERS:
        raise DataError(f"{place}: version {version} of the npy format is not read here", AGAIN)
    found_shape, fortran_order, found_dtype = _HEADERS[version](stream)
    if found_dtype != dtype or not fits(found_shape, shape):
        raise DataError(f"{place} is {found_dtype} {found_shape}, not {dtype} {spelled(shape)}", AGAIN)
    promised = prod(found_shape) * dtype.itemsize
    if promised > MOST_BYTES or promised != size - stream.tell():
        raise DataError(f"{place} holds {size - stream.tell()} bytes of data, its header promises {promised}", AGAIN)
    array = np.empty(prod(found_shape), dtype)
    _fill(array, stream, place)
    return array.reshape(found_shape, order="F" if fortran_order else "C")


def _fill(array: NDArray[Any], stream: IO[bytes], place: str) -> None:
    """Fill an array with the rest of ``stream``. With a zip entry's last byte, zipfile compares its checksum."""
    left = array.data.cast("B")
    while len(left):
        count = stream.readinto(left)  # type: ignore[attr-defined]  # files and zip entries have it
        if not count:
            raise DataError(f"{place} ends {len(left)} bytes early", AGAIN)
        left = left[count:]
