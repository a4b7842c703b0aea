"""SVHN: house numbers photographed from the street, cropped to one digit at 32 x 32.

73,257 images for training and 26,032 for testing; the 531,131 easier ``extra`` images are not used. Kept as the two
official MATLAB files. Neighbouring digits show at the sides of many images.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flatmin.data.errors import DataError
from flatmin.data.mat import read_mat
from flatmin.data.published import Archive, plain_file
from flatmin.data.source import Arrays, Source
from flatmin.data.untrusted import AGAIN

_HOST = "http://ufldl.stanford.edu/housenumbers"
_ZERO = 10  # how the files write the digit 0


def read(folder: Path) -> Arrays:
    """Read the two official files of ``folder``."""
    return Arrays(*_part(folder / "train_32x32.mat"), *_part(folder / "test_32x32.mat"))


def _part(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return a part's images, uint8 [n, 3, 32, 32], and the digits that they show, int64 [n]."""
    found = read_mat(path, {"X": (32, 32, 3, None), "y": (None, 1)})  # X: row, column, channel, image
    images, labels = found["X"].transpose(3, 2, 0, 1), found["y"][:, 0].astype(np.int64)
    if len(images) != len(labels):
        raise DataError(f"{path} has {len(images)} images and {len(labels)} labels", AGAIN)
    if labels.min() < 1 or labels.max() > _ZERO:
        raise DataError(f"{path}: labels are not all in 1..{_ZERO}", AGAIN)
    labels[labels == _ZERO] = 0
    return images, labels


def _archive(name: str, *, md5: str, size: int) -> Archive:
    return plain_file(name, (f"{_HOST}/{name}",), md5, size)


SOURCE = Source(
    train_images=73_257,
    name="svhn",
    title="SVHN",
    read=read,
    classes=tuple("0123456789"),
    image_shape=(3, 32, 32),
    split="official: 73,257 training and 26,032 test images; the 531,131 extra ones are left out",
    licence="for non-commercial use only",
    citation="Y. Netzer, T. Wang, A. Coates, A. Bissacco, B. Wu and A. Y. Ng. Reading Digits in Natural Images with "
    "Unsupervised Feature Learning. NIPS Workshop on Deep Learning and Unsupervised Feature Learning, 2011",
    archives=(
        _archive("train_32x32.mat", md5="e26dedcc434d2e4c54c9b2d4a06d8373", size=182_040_794),
        _archive("test_32x32.mat", md5="eb5a983be6a315427106f1b164d9cef3", size=64_275_384),
    ),
    layouts=("SVHN",),
)
