"""What CIFAR-10-C and CIFAR-100-C have in common."""

from __future__ import annotations

from collections.abc import Mapping

from flatmin.data.published import Archive, Member

LICENCE = "CC BY 4.0"
CITATION = (
    "D. Hendrycks and T. Dietterich. Benchmarking Neural Network Robustness to Common Corruptions and Perturbations. "
    "ICLR 2019"
)

_MOST_BYTES = 50_000 * 32 * 32 * 3 + 4096  # the images, and more than a header of any .npy


def cifar_c_archive(folder: str, *, url: str, md5: str, size: int, members: Mapping[str, str]) -> Archive:
    """Return the archive of one of the two: ``members`` maps names, without ``.npy``, to MD5 checksums."""
    files = (Member(f"{folder}/{name}.npy", checksum, limit=_MOST_BYTES) for name, checksum in members.items())
    return Archive(f"{folder}.tar", (url,), md5, size, tuple(files))
