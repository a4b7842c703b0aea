"""CIFAR-10N and CIFAR-100N: labels that people gave to the training images, mistakes included.

Three people labelled each image of CIFAR-10 (``random1`` to ``random3``). ``aggregate`` is their majority, ``worst``
one of their wrong labels where there is any. One person labelled each image of CIFAR-100 (``noisy``, the fine labels).
J. Wei et al., Learning with Noisy Labels Revisited, ICLR 2022.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from flatmin.data.errors import DataError
from flatmin.data.published import Published, plain_file
from flatmin.data.stratified import Labels
from flatmin.data.torch_files import read_torch_arrays
from flatmin.data.untrusted import AGAIN

RATES = {
    "aggregate": 0.0901,
    "random1": 0.1723,
    "random2": 0.1812,
    "random3": 0.1764,
    "worst": 0.4021,
    "noisy": 0.4020,
}
"""The fraction of wrong labels in each set, as counted in the published files (the paper has 0.0903 for the first)."""

CLEAN = "clean"
"""The name of the source's own labels, which the files repeat."""

_KEYS = {
    "cifar10": {
        CLEAN: "clean_label",
        "aggregate": "aggre_label",
        "random1": "random_label1",
        "random2": "random_label2",
        "random3": "random_label3",
        "worst": "worse_label",
    },
    "cifar100": {CLEAN: "clean_label", "noisy": "noisy_label"},
}
_CLASSES = {"cifar10": 10, "cifar100": 100}
_HOSTS = (
    "https://raw.githubusercontent.com/UCSC-REAL/cifar-10-100n/main/data",
    "https://github.com/UCSC-REAL/cifar-10-100n/raw/main/data",
)


def _published(name: str, file: str, sha256: str, size: int) -> Published:
    return Published(
        name=name,
        licence="CC BY-NC 4.0",
        citation="J. Wei, Z. Zhu, H. Cheng, T. Liu, G. Niu and Y. Liu. Learning with Noisy Labels Revisited: A Study "
        "Using Real-World Human Annotations. ICLR 2022",
        archives=(plain_file(file, tuple(f"{host}/{file}" for host in _HOSTS), sha256, size),),
    )


PUBLISHED = {
    "cifar10": _published(
        "cifar10n",
        "CIFAR-10_human.pt",
        "873e69c39cb9b5e97fb6bae2d60bb59b38a5cbc31d2b868f7903dcb2b9dd2310",
        2_401_007,
    ),
    "cifar100": _published(
        "cifar100n",
        "CIFAR-100_human.pt",
        "bd2d80409754d420292d622e15e25248ba21e37d27429efac49c8da723f44394",
        1_000_959,
    ),
}
"""The published file of human labels, by the source whose training images have them."""


def kinds(source: str) -> tuple[str, ...]:
    """Return the names of the sets of human labels that ``source`` has.

    Raises:
        DataError: It has none.
    """
    if source not in _KEYS:
        raise DataError(
            f"nobody published human labels for the source {source}", f"Use one of {', '.join(_KEYS)}, or other noise."
        )
    return tuple(name for name in _KEYS[source] if name != CLEAN)


def read_human_labels(path: Path, source: str) -> dict[str, Labels]:
    """Read the published file of a source's human labels.

    Args:
        path: ``CIFAR-10_human.pt`` or ``CIFAR-100_human.pt``.
        source: ``cifar10`` or ``cifar100``.

    Returns:
        Labels int64 [n] in the order of the source's training images, by name: those of `kinds`, and ``clean``, the
        labels that the file says are the source's own. Compare these with `check_clean_labels`.

    Raises:
        DataError: The source has no human labels, or the file is not the published one of this source.
    """
    kinds(source)
    found = read_torch_arrays(path)
    if missing := [key for key in _KEYS[source].values() if key not in found]:
        raise DataError(f"{path} has no labels {', '.join(missing)}: it is not the file of {source}", AGAIN)
    labels = {name: found[key] for name, key in _KEYS[source].items()}
    length = labels[CLEAN].shape[:1]
    for name, values in labels.items():
        if values.dtype != np.int64 or values.shape != length or len(values) == 0:
            raise DataError(f"{path}: labels {name} are {values.dtype} {values.shape}, not int64 {length}", AGAIN)
        if values.min() < 0 or values.max() >= _CLASSES[source]:
            raise DataError(f"{path}: labels {name} are not all in 0..{_CLASSES[source] - 1}", AGAIN)
    return labels


def check_clean_labels(labels: dict[str, Labels], source_labels: Labels, source: str) -> None:
    """Refuse human labels whose clean labels are not the source's: they would belong to other images, or another order.

    Args:
        labels: What `read_human_labels` returned.
        source_labels: Int64 [n], the source's own training labels.
        source: The source's name, for the message.

    Raises:
        DataError: A clean label differs, or there is another number of them.
    """
    clean = labels[CLEAN]
    fix = f"Human labels fit the official training images of {source} in their official order, and nothing else."
    if clean.shape != source_labels.shape:
        raise DataError(f"{len(clean)} human labels for {len(source_labels)} training images of {source}", fix)
    if different := int(np.count_nonzero(clean != source_labels)):
        first = int(np.argmax(clean != source_labels))
        raise DataError(
            f"the human labels are for other images than those of {source}: {different} clean labels differ, the first "
            f"that of image {first} ({clean[first]}, not {source_labels[first]})",
            fix,
        )
