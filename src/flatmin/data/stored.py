"""Reading the arrays of prepared folders: memory-mapped, and refused with advice where they cannot be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from flatmin.data.errors import DataError, writing
from flatmin.data.untrusted import reading


def read_stored(path: Path) -> NDArray[Any]:
    """Return the array of a prepared ``.npy`` file, mapped: pages are read when they are used, and shared by processes.

    Copy-on-write: writable in memory, as torch wants it, and never written to the file.

    Raises:
        DataError: the file is missing or damaged.
    """
    with reading(path, "array", _advice(path.parent)):
        array: NDArray[Any] = np.load(path, mmap_mode="c", allow_pickle=False)
    return array


def write_stored(path: Path, array: NDArray[Any]) -> None:
    """Write an array as `numpy.save` does, to the same bytes; that function hides a full disk from those who ask.

    Raises:
        DataError: the disk is full.
    """
    with writing(path), path.open("wb") as file:
        write_header(file, array.shape, array.dtype)
        file.write(np.ascontiguousarray(array).data.cast("B"))


def write_header(file: BinaryIO, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Write what stands before the values of a ``.npy`` file in C order."""
    descr = np.lib.format.dtype_to_descr(dtype)
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})


def read_stored_archive(path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of a prepared ``.npz`` file, by name.

    Raises:
        DataError: the file is missing or damaged.
    """
    with reading(path, "archive of arrays", _advice(path.parent)), np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def changed(folder: Path) -> DataError:
    """Return the refusal of arrays whose content is not what their manifest says."""
    return DataError(f"the arrays in {folder} are not those of its manifest", _advice(folder))


def _advice(folder: Path) -> str:
    return f"Delete {folder}. Run: dvc repro prepare"
