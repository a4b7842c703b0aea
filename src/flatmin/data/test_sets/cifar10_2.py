"""CIFAR-10.2: 2,000 further test images for CIFAR-10, 200 per class.

Its own training part is not used.
"""

from __future__ import annotations

from pathlib import Path

from flatmin.data.npy import read_npz
from flatmin.data.published import plain_file
from flatmin.data.test_set import LabelledImages, NewImages

_FILE = "cifar102_test.npz"
_COMMIT = "521467a52ad494b78ff9c70051099c0d9ba74d40"
_IMAGES = 2000


def read(folder: Path) -> LabelledImages:
    """Read images and labels, whose numbers are those of CIFAR-10's classes; the file's texts are left alone."""
    arrays = read_npz(folder / _FILE, {"images": ("uint8", (_IMAGES, 32, 32, 3)), "labels": ("int64", (_IMAGES,))})
    return LabelledImages(arrays["images"].transpose(0, 3, 1, 2), arrays["labels"])


TEST_SET = NewImages(
    name="cifar10_2",
    title="CIFAR-10.2",
    source="cifar10",
    read=read,
    licence="none stated; the images are some of Tiny Images",
    citation="S. Lu, B. Nott, A. Olson, A. Todeschini, P. Vahabi, Y. Carmon and L. Schmidt. Harder or Different? A "
    "Closer Look at Distribution Shift in Dataset Reproduction. ICML Workshop on Uncertainty and Robustness in Deep "
    "Learning, 2020",
    archives=(
        plain_file(
            _FILE,
            (
                f"https://raw.githubusercontent.com/modestyachts/cifar-10.2/{_COMMIT}/{_FILE}",
                f"https://github.com/modestyachts/cifar-10.2/raw/master/{_FILE}",
            ),
            "e4fd6462bd5141ed293acd52ea570952f65d1bfd4ec9b068f87742f75a7a632e",
            6_393_664,
        ),
    ),
    layouts=("cifar-10.2",),
)
