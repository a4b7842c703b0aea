"""What the two versions of CIFAR-10.1 have in common."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from flatmin.data.npy import read_npy
from flatmin.data.published import Archive, plain_file
from flatmin.data.test_set import LabelledImages, NewImages

# Of the last commit that touched the data: a branch may move, a commit may not
_COMMIT = "d9982abb0bfc4846b8d13a11e66b887d946205d0"
_HOSTS = (
    f"https://raw.githubusercontent.com/modestyachts/CIFAR-10.1/{_COMMIT}/datasets",
    "https://github.com/modestyachts/CIFAR-10.1/raw/master/datasets",
)


def cifar10_1(name: str, version: str, *, count: int, data: tuple[str, int], labels: tuple[str, int]) -> NewImages:
    """Return a version of CIFAR-10.1 with ``count`` images; its two files by SHA-256 and size."""
    return NewImages(
        name=name,
        title=f"CIFAR-10.1 {version}",
        source="cifar10",
        read=partial(_read, version=version, count=count),
        licence="none for the images, which are some of Tiny Images; the authors ask for the citation",
        citation="B. Recht, R. Roelofs, L. Schmidt and V. Shankar. Do CIFAR-10 Classifiers Generalize to CIFAR-10? "
        "arXiv:1806.00451, 2018",
        archives=(_file(f"cifar10.1_{version}_data.npy", *data), _file(f"cifar10.1_{version}_labels.npy", *labels)),
        layouts=("CIFAR-10.1/datasets", "CIFAR-10.1"),
    )


def _file(name: str, sha256: str, size: int) -> Archive:
    return plain_file(name, tuple(f"{host}/{name}" for host in _HOSTS), sha256, size)


def _read(folder: Path, *, version: str, count: int) -> LabelledImages:
    """Read the two files of a version: images [n, 32, 32, 3], labels in the order of CIFAR-10's classes."""
    images = read_npy(folder / f"cifar10.1_{version}_data.npy", "uint8", (count, 32, 32, 3))
    labels = read_npy(folder / f"cifar10.1_{version}_labels.npy", "int32", (count,))
    return LabelledImages(images.transpose(0, 3, 1, 2), labels.astype("int64"))
