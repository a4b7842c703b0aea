"""Choosing images so that every class keeps its share.

Every choice takes the images with the smallest of n random numbers, one number for each image. A larger choice with
the same generator state then contains the smaller one, and the only thing asked of numpy is `Generator.random`: its
`permutation` and `choice` may give another result in another version.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flatmin.data.errors import DataError

Labels = NDArray[np.int64]
Indices = NDArray[np.int64]


def order_of(keys: NDArray[np.float64]) -> Indices:
    """Return the positions of ``keys`` from smallest to largest, equal keys in their given order."""
    return np.argsort(keys, kind="stable").astype(np.int64)


def shares(counts: NDArray[np.int64], total: int) -> NDArray[np.int64]:
    """Divide ``total`` over classes in proportion to ``counts``, by largest remainders.

    Every class gets the whole part of its quota; what is left goes to the largest remainders, equal ones to the lowest
    class. Integer arithmetic throughout.

    Args:
        counts: Images per class, int64 [classes].
        total: How many to choose, at most their sum.
    """
    available = int(counts.sum())
    share = counts * total // available
    remainder = counts * total % available
    left = total - int(share.sum())
    share[np.argsort(-remainder, kind="stable")[:left]] += 1
    return share


def stratified_choice(
    labels: Labels, total: int, classes: int, keys: NDArray[np.float64], *, purpose: str
) -> tuple[Indices, Indices]:
    """Divide images into ``total`` chosen ones and the rest, each class in its proportion.

    Args:
        labels: Int64 [n].
        total: How many to choose.
        classes: Number of classes.
        keys: Random numbers [n]: those with the smallest are chosen.
        purpose: The setting that asked for it, for the error message.

    Returns:
        Positions of the chosen and of the other images, both in order of their keys: the first m of either are a random
        sample of it.

    Raises:
        DataError: There are not as many images, or a class would be left without an image in the chosen part.
    """
    if total > len(labels):
        raise DataError(
            f"{purpose}: {total} images are asked for and there are {len(labels)}", f"Set at most {len(labels)}."
        )
    share = shares(np.bincount(labels, minlength=classes).astype(np.int64), total)
    if (empty := np.flatnonzero(share == 0)).size:
        raise DataError(
            f"{purpose}: with {total} of {len(labels)} images, class {', '.join(map(str, empty))} gets none",
            f"Choose more: at least one image for each of the {classes} classes.",
        )
    order = order_of(keys)
    chosen = np.zeros(len(labels), dtype=bool)
    for label in range(classes):
        chosen[order[labels[order] == label][: share[label]]] = True
    return order[chosen[order]], order[~chosen[order]]
