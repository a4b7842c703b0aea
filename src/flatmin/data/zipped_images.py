"""Reading many small images out of one zip file, without unpacking it to disk.

A file system is slow with the 110,000 files of Tiny-ImageNet, and their names need no trust if none is ever created.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from zipfile import ZipFile

import numpy as np
from numpy.typing import NDArray

from flatmin.data.errors import DataError
from flatmin.data.untrusted import AGAIN, read_entry

MOST_IMAGE_BYTES = 2**20
MOST_TEXT_BYTES = 16 * 2**20

_REPORT_EVERY = 5_000

Counter = Callable[[int, int], None]
"""Called with the number of images that are read, and of all."""


def read_zipped_images(
    archive: ZipFile, names: Sequence[str], size: int, *, progress: Counter | None = None
) -> NDArray[np.uint8]:
    """Decode JPEG images from an open zip file (`untrusted.open_zip`), one after another.

    Grey images become coloured ones with three equal channels; other colour spaces are converted likewise.

    Args:
        archive: The zip file.
        names: The entries, in the order that is wanted.
        size: Height and width that every image must have.
        progress: Called after every 5,000 images, and after the last.

    Returns:
        Uint8 [n, 3, size, size].

    Raises:
        DataError: An entry is missing, damaged, larger than 1 MiB, no JPEG image, or of another size.
    """
    images = np.empty((len(names), 3, size, size), np.uint8)
    for number, name in enumerate(names):
        images[number] = _decoded(archive, name, size)
        done = number + 1
        if progress is not None and (done % _REPORT_EVERY == 0 or done == len(names)):
            progress(done, len(names))
    return images


def read_zipped_lines(archive: ZipFile, name: str) -> list[str]:
    """Return the lines of an ASCII text in an open zip file, without those that are empty.

    Raises:
        DataError: The entry is missing, damaged, larger than 16 MiB, or no such text.
    """
    try:
        text = read_entry(archive, name, MOST_TEXT_BYTES).decode("ascii")
    except UnicodeDecodeError as error:
        raise DataError(f"{archive.filename}: {name} is no ASCII text: {error}", AGAIN) from error
    return [line for line in text.splitlines() if line]


def _decoded(archive: ZipFile, name: str, size: int) -> NDArray[np.uint8]:
    """Return one image, uint8 [3, size, size]. Its size is compared before a pixel of it is decoded."""
    from PIL import Image  # describing a source needs no image library

    content = read_entry(archive, name, MOST_IMAGE_BYTES)
    try:
        with Image.open(io.BytesIO(content), formats=("JPEG",)) as image:
            if image.size != (size, size):
                width, height = image.size
                raise DataError(f"{archive.filename}: {name} has {width} x {height} pixels, not {size} x {size}", AGAIN)
            return np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    except DataError:
        raise
    except Exception as error:  # damaged images raise almost any exception
        raise DataError(f"{archive.filename}: {name} is not a readable JPEG image: {error!r}", AGAIN) from error
