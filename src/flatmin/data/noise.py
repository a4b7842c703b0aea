"""Label noise, and how much of it there really is.

Exactly round(rate n) labels are selected (half to even), over the whole set for symmetric noise and within each named
class for asymmetric noise; they are not n independent coin tosses. What varies between seeds is which labels, never
how many. Under the ``any-class`` definition a selected label may keep its value, so there the number of *changed*
labels varies around rate (k - 1) / k.

From one generator state, the labels changed at a lower rate are also changed, to the same values, at every higher rate.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from flatmin.data.stratified import Labels, order_of


class TransitionMatrix(NamedTuple):
    """How classes became labels: ``counts[i, j]`` images of class i carry label j; ``rates`` has rows that sum to 1.

    ``counts`` is int64 [k, k], ``rates`` float64 [k, k]. The row of a class without images is zero in both.
    """

    counts: NDArray[np.int64]
    rates: NDArray[np.float64]


def symmetric(
    labels: Labels,
    rate: float,
    definition: Literal["any-class", "another-class"],
    classes: int,
    generator: np.random.Generator,
) -> Labels:
    """Return ``labels`` with a fraction ``rate`` of them replaced by a uniformly drawn label.

    Args:
        labels: Int64 [n].
        rate: The fraction that is selected, 0 to 1.
        definition: ``any-class`` draws over all ``classes``; ``another-class`` over those that differ from the label.
        classes: Number of classes k.
        generator: Advanced by 2 n numbers, whatever the rate.
    """
    selected = order_of(generator.random(len(labels)))[: round(rate * len(labels))]
    uniform = generator.random(len(labels))
    if definition == "any-class":
        replacement = np.floor(uniform * classes).astype(np.int64)
    else:
        replacement = (labels + 1 + np.floor(uniform * (classes - 1)).astype(np.int64)) % classes
    noisy = labels.copy()
    noisy[selected] = replacement[selected]
    return noisy


def asymmetric(labels: Labels, rate: float, pairs: Mapping[int, int], generator: np.random.Generator) -> Labels:
    """Return ``labels`` with a fraction ``rate`` of each class in ``pairs`` relabelled as the class it maps to.

    All classes are looked up in the given labels: with cat -> dog and dog -> cat, no label goes there and back.

    Args:
        labels: Int64 [n].
        rate: The fraction of each named class, 0 to 1.
        pairs: {from: to}.
        generator: Advanced by n numbers, whatever the rate and pairs.
    """
    order = order_of(generator.random(len(labels)))
    noisy = labels.copy()
    for original, look_alike in pairs.items():
        members = order[labels[order] == original]
        noisy[members[: round(rate * len(members))]] = look_alike
    return noisy


def transition_matrix(clean: Labels, noisy: Labels, classes: int) -> TransitionMatrix:
    """Count how often each class (row, from ``clean``) carries each label (column, from ``noisy``)."""
    counts = np.bincount(clean * classes + noisy, minlength=classes**2).astype(np.int64).reshape(classes, classes)
    return TransitionMatrix(counts, counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))


def realised_rate(clean: Labels, noisy: Labels) -> float:
    """Return the fraction of labels that differ from the clean ones."""
    return float(np.mean(clean != noisy))
