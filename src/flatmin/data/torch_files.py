"""Reading a ``.pt`` file of plain arrays, the format of CIFAR-10N, without torch and without running it.

Such a file is a zip whose ``data.pkl`` is a pickle. Arrays of numpy, unlike tensors, lie in the pickle itself. Neither
numpy nor the codecs act on its word: stand-ins note what it says, and an array is made when that is known to fit.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flatmin.data.errors import DataError
from flatmin.data.pickles import ClosedUnpickler, refuse_wide_memo
from flatmin.data.untrusted import AGAIN, open_zip, read_entry, reading

MOST_BYTES = 64 * 2**20

_NUMBERS = "biuf"  # kinds of data types: truth values, integers with and without sign, and floating-point numbers


def read_torch_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Return what ``torch.save`` wrote of a dict of numpy arrays and of lists of whole numbers.

    Args:
        path: The file, in torch's zip format (torch 1.6 and later).

    Returns:
        The arrays by key; a list as int64 [n].

    Raises:
        DataError: It is no such file, it is larger than 64 MiB when unpacked, or it asks for anything but arrays.
    """
    with open_zip(path) as archive:
        pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise DataError(f"{path} is a zip file with {len(pickles)} entries data.pkl, not one", AGAIN)
        content = read_entry(archive, pickles[0], MOST_BYTES)
    with reading(path, "pickle of arrays"):
        refuse_wide_memo(content, path)
        found = _ArraysUnpickler(io.BytesIO(content), path).load()
        if not isinstance(found, dict):
            raise DataError(f"{path} holds a {type(found).__name__}, not a dict of arrays", AGAIN)
        return {_key(key, path): _as_array(value, key, path) for key, value in found.items()}


class _Array:
    """What a pickle says of an array."""

    def __init__(self, kind: object, shape: object, code: object) -> None:
        """Stand in for numpy's ``_reconstruct``, whose arguments describe an empty array."""
        self._state: tuple[Any, ...] = ()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._state = state

    def made(self) -> NDArray[Any]:
        """Return the array.

        Raises:
            ValueError: The parts do not fit together, or it is no array of numbers.
        """
        _, shape, dtype, fortran_order, content = self._state
        if not isinstance(dtype, _Dtype) or not isinstance(content, bytes):
            raise ValueError(f"an array of {type(content).__name__} is none of numbers")
        array = np.frombuffer(content, dtype.made()).reshape(shape, order="F" if fortran_order else "C")
        if array.shape != shape:
            raise ValueError(f"an array of shape {array.shape} is said to have the shape {shape}")
        return array.copy()


class _Dtype:
    """What a pickle says of a data type."""

    def __init__(self, code: str, align: object = 0, copy: object = 0) -> None:
        self._code = code
        self._order = "|"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._order = state[1]

    def made(self) -> np.dtype[Any]:
        """Return the data type, or raise ValueError where it is none of a number."""
        dtype = np.dtype(f"{self._order}{self._code}")
        if dtype.kind not in _NUMBERS:
            raise ValueError(f"an array of {dtype} is none of numbers")
        return dtype


_STAND_INS: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy", "ndarray"): None,  # an argument of the above
    ("numpy", "dtype"): _Dtype,
}


class _ArraysUnpickler(ClosedUnpickler):
    """The unpickler of CIFAR's files, with stand-ins for numpy too: nobody need have verified the pickle."""

    def find_class(self, module: str, name: str) -> Any:
        return _STAND_INS[module, name] if (module, name) in _STAND_INS else super().find_class(module, name)


def _key(key: object, path: Path) -> str:
    if not isinstance(key, str):
        raise DataError(f"{path} has the key {key!r}, which is no string", AGAIN)
    return key


def _as_array(value: object, key: object, path: Path) -> NDArray[Any]:
    if isinstance(value, _Array):
        return value.made()
    if isinstance(value, list) and value and all(type(item) is int for item in value):
        return np.array(value, dtype=np.int64)
    raise DataError(f"{path}, {key!r} is neither an array nor a list of whole numbers", AGAIN)
