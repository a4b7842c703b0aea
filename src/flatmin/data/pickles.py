"""Reading the CIFAR files, which are Python 2 pickles, without running what a pickle asks to run.

A pickle can name any callable and call it. This reader resolves the four names that an array of numbers needs, and
nothing else, to functions chosen here.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flatmin.data.errors import DataError
from flatmin.data.untrusted import AGAIN, reading


def _dtype(name: str, align: object = False, copy: object = False) -> np.dtype[Any]:
    """Stand in for numpy.dtype: the old files pass 0 and 1 where today's numpy wants False and True."""
    return np.dtype(name, align=bool(align), copy=bool(copy))


def latin1(text: str, encoding: str) -> bytes:
    """Stand in for codecs.encode, with which pickles write bytes; some other encodings double what they are given."""
    if encoding != "latin1":
        raise ValueError(f"bytes in a pickle are encoded as latin1, not {encoding}")
    return text.encode(encoding)


_RECONSTRUCT = np.empty(0).__reduce__()[0]

_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): _dtype,
    ("_codecs", "encode"): latin1,
}
_MEMO = {"PUT", "BINPUT", "LONG_BINPUT"}


class ClosedUnpickler(pickle.Unpickler):
    """An unpickler that resolves the names of its short list, and no other."""

    def __init__(self, stream: Any, path: Path) -> None:
        """Unpickle from ``stream``; ``path`` is for messages."""
        super().__init__(stream, encoding="latin1")  # Python 2's byte strings, as numpy expects them
        self._path = path

    def find_class(self, module: str, name: str) -> Any:
        """Return what a name stands for.

        Raises:
            DataError: it is not on the list.
        """
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise DataError(
                f"{self._path} is a pickle that asks for {module}.{name}, which no file of numbers needs",
                "Do not open this file with anything else. Delete it and download the official one.",
            ) from None


def load_pickle(path: Path) -> Any:
    """Return the content of a pickle of dicts, lists, strings, numbers and arrays.

    Raises:
        DataError: It asks for anything else (the class is named), or it is damaged.
    """
    with reading(path, "pickle"):
        content = path.read_bytes()
        refuse_wide_memo(content, path)
        return ClosedUnpickler(io.BytesIO(content), path).load()


def refuse_wide_memo(content: bytes, path: Path) -> None:
    """Refuse a pickle that numbers an object higher than it has objects.

    Unpicklers keep a table as long as the highest number and fill it: four bytes can ask for 64 GB.

    Raises:
        DataError: it does.
    """
    for place, (operation, argument, _) in enumerate(pickletools.genops(content)):
        if operation.name in _MEMO and (argument is None or not 0 <= argument <= place):
            raise DataError(f"{path} is not safe: its pickle numbers an object {argument}", AGAIN)


def read_batch(path: Path, labels: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Read a CIFAR batch.

    Args:
        path: The file.
        labels: The key of its labels: ``labels`` in CIFAR-10, ``fine_labels`` in CIFAR-100.

    Returns:
        Images uint8 [n, 3, 32, 32] and labels int64 [n].

    Raises:
        DataError: The file is no such batch.
    """
    batch = load_pickle(path)
    data = batch.get("data") if isinstance(batch, dict) else None
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != 3072:
        raise DataError(f"{path} has no uint8 [n, 3072] array under 'data'", AGAIN)
    if labels not in batch:
        raise DataError(f"{path} has no list under {labels!r}", AGAIN)
    return data.reshape(-1, 3, 32, 32), np.asarray(batch[labels], dtype=np.int64)


def check_class_names(path: Path, key: str, classes: tuple[str, ...]) -> None:
    """Check that the names in a CIFAR meta file are ``classes``, in this order.

    Raises:
        DataError: They are not.
    """
    with reading(path, "list of class names"):
        names = tuple(load_pickle(path)[key])
    if names != classes:
        raise DataError(f"{path} names the classes {names}, not {classes}", AGAIN)
