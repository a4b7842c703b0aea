"""Reading arrays of bytes from MATLAB's level 5 files, the format of SVHN.

scipy reads these files too, but a made-up one can crash it, and takes all the memory that it asks for. The little that
SVHN needs is read here: little-endian, compressed arrays of unsigned bytes. (MAT-File Level 5 format, in MATLAB's
documentation.)

After a header of 128 bytes, a file is a row of elements, each with a tag: type and length, four bytes each. A
compressed element holds one other, here a matrix, which is again a row of elements: flags, dimensions, name, values.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from flatmin.data.errors import DataError
from flatmin.data.untrusted import AGAIN, Shape, fits, reading, spelled

MOST_BYTES = 2**30
"""The most that one array may have; SVHN's training images have 225 MB."""

_HEADER, _CHUNK = 128, 2**18
_INT8, _UINT8, _INT32, _UINT32, _MATRIX, _COMPRESSED = 1, 2, 5, 6, 14, 15  # types of elements
_UINT8_CLASS, _COMPLEX = 9, 0x800  # in a matrix's flags
_MOST_DIMENSIONS, _LONGEST_NAME = 32, 63
_DEFLATED_AT_MOST = 1032  # to 1: what zlib makes of zeros


class _Matrix(NamedTuple):
    """What a matrix says of itself before its values."""

    name: str
    shape: tuple[int, ...]
    bytes_class: bool


def read_mat(path: Path, shapes: Mapping[str, Shape]) -> dict[str, NDArray[np.uint8]]:
    """Return arrays of unsigned bytes from a compressed, little-endian MATLAB level 5 file.

    Args:
        path: The file. What else it holds is passed over.
        shapes: The expected shape of every array that is wanted, by name; None in it stands for any length but 0.

    Returns:
        The arrays, in MATLAB's order: the first index varies fastest in memory.

    Raises:
        DataError: It is no such file, an array is missing or has another type or shape, or it is damaged.
    """
    found: dict[str, NDArray[np.uint8]] = {}
    with reading(path, "MATLAB level 5 file"), path.open("rb") as stream:
        header = stream.read(_HEADER)
        if not header.startswith(b"MATLAB 5.0 MAT-file") or header[124:] != b"\x00\x01IM":
            raise DataError(f"{path} does not begin as a little-endian MATLAB level 5 file", AGAIN)
        while tag := stream.read(8):
            kind, size = struct.unpack("<II", tag)
            if kind != _COMPRESSED:
                raise DataError(f"{path} has an element of type {kind}, not a compressed one", AGAIN)
            after = stream.tell() + size
            element = _Inflated(stream, size)
            matrix = _describe(element)
            if matrix.name in shapes:
                if matrix.name in found:
                    raise DataError(f"{path} has two arrays {matrix.name!r}", AGAIN)
                _check(path, matrix, shapes[matrix.name], min(MOST_BYTES, size * _DEFLATED_AT_MOST))
                found[matrix.name] = _values(element, matrix.shape)
            stream.seek(after)
    if missing := [name for name in shapes if name not in found]:
        raise DataError(f"{path} has no array {missing[0]!r}", AGAIN)
    return found


class _Inflated:
    """The content of a compressed element, from its start to its end."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream = stream
        self._left = size  # bytes that are not yet taken from the stream
        self._waiting = b""
        self._inflate = zlib.decompressobj()

    def read(self, size: int) -> bytes:
        """Return the next ``size`` bytes.

        Raises:
            EOFError: There are fewer.
        """
        content = self._some(size)
        if len(content) < size:
            raise EOFError(f"an element ends {size - len(content)} bytes early")
        return content

    def finish(self) -> None:
        """Check that nothing is left but padding, and with it the checksum that ends a compressed element.

        Raises:
            ValueError: There is more, or less.
        """
        if len(self._some(8)) == 8 or not self._inflate.eof or self._inflate.unused_data or self._left:
            raise ValueError("an element does not end where it should")

    def _some(self, size: int) -> bytes:
        """Return the next ``size`` bytes, or those that there are."""
        content = bytearray()
        while len(content) < size and not self._inflate.eof:
            if not self._waiting:
                self._waiting = self._stream.read(min(self._left, _CHUNK))
                self._left -= len(self._waiting)
            compressed = len(self._waiting)
            inflated = self._inflate.decompress(self._waiting, size - len(content))
            self._waiting = self._inflate.unconsumed_tail
            if not inflated and not compressed:
                break
            content += inflated
        return bytes(content)


def _describe(element: _Inflated) -> _Matrix:
    """Read a matrix up to its values."""
    if (kind := struct.unpack("<II", element.read(8))[0]) != _MATRIX:
        raise ValueError(f"an element of type {kind} is compressed, not a matrix")
    flags = int(np.frombuffer(_part(element, _UINT32, 8), "<u4")[0])
    dimensions = np.frombuffer(_part(element, _INT32, 4 * _MOST_DIMENSIONS), "<i4")
    name = _part(element, _INT8, _LONGEST_NAME).decode("ascii")
    is_bytes = flags & 0xFF == _UINT8_CLASS and not flags & _COMPLEX
    return _Matrix(name, tuple(int(length) for length in dimensions), is_bytes)


def _part(element: _Inflated, kind: int, limit: int) -> bytes:
    """Read a short element of a matrix. One of up to four bytes may share its tag's eight bytes."""
    tag = element.read(8)
    found, size = struct.unpack("<II", tag)
    if found >> 16:
        found, size = found & 0xFFFF, found >> 16
        content = tag[4 : 4 + size]
        if size > 4:
            raise ValueError(f"{size} bytes do not fit into a tag")
    elif size <= limit:
        content = element.read(size + -size % 8)[:size]
    if found != kind or size > limit:
        raise ValueError(f"an element of type {found} and {size} bytes is where one of type {kind} should be")
    return content


def _check(path: Path, matrix: _Matrix, shape: Shape, limit: int) -> None:
    if not matrix.bytes_class:
        raise DataError(f"{path}: {matrix.name!r} is no array of unsigned bytes", AGAIN)
    if not fits(matrix.shape, shape):
        raise DataError(f"{path}: {matrix.name!r} is {matrix.shape}, not {spelled(shape)}", AGAIN)
    if prod(matrix.shape) > limit:
        raise DataError(f"{path} is not safe: {matrix.name!r} is {matrix.shape}, more than {limit} bytes", AGAIN)


def _values(element: _Inflated, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Read the values that end a matrix."""
    count = prod(shape)
    if count <= 4:
        array = np.frombuffer(_part(element, _UINT8, count), np.uint8).copy()
    else:
        array = np.empty(count, np.uint8)
        found, size = struct.unpack("<II", element.read(8))
        if (found, size) != (_UINT8, count):
            raise ValueError(f"{size} bytes of type {found} are where {count} unsigned bytes should be")
        for start in range(0, count, _CHUNK):
            end = min(start + _CHUNK, count)
            array[start:end] = np.frombuffer(element.read(end - start), np.uint8)
    element.finish()
    return array.reshape(shape, order="F")  # refuses fewer values than the shape has
