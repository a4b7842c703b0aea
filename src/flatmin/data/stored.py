"""Reading the arrays of prepared folders: memory-mapped, and refused with advice where they cannot be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flatmin.data.errors import DataError
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
