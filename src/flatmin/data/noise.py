"""Label noise, and how much of it there really is.

Symmetric, asymmetric and pair-flip noise select exactly round(rate n) labels (half to even), over the whole set for
symmetric noise and within each class for the others; they are not n independent coin tosses. What varies between seeds
is which labels, never how many. Under the ``any-class`` definition a selected label may keep its value, so there the
number of *changed* labels varies around rate (k - 1) / k. Instance-dependent noise tosses a coin for every image, as
its authors do: there the number varies too, and its mean is not quite the rate (`instance_dependent`).

Of all kinds it holds that from one generator state, the labels changed at a lower rate are also changed, to the same
values, at every higher rate.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from flatmin.data.errors import DataError
from flatmin.data.stratified import Indices, Labels, order_of

_FLIP_RATE_DEVIATION = 0.1
_SMALLEST_UNIFORM = 2.0**-53  # in place of 0, whose normal quantile is infinite
_PROJECTION_STEPS = 2**20


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


def pair_flip(labels: Labels, rate: float, classes: int, generator: np.random.Generator) -> Labels:
    """Return ``labels`` with a fraction ``rate`` of each class i relabelled as class i + 1 (the last one as class 0).

    The pair flipping of Han et al., Co-teaching, NeurIPS 2018; at a rate of 0.5 and more, most labels of a class are
    wrong. It is `asymmetric` noise with these pairs.

    Args:
        labels: Int64 [n].
        rate: The fraction of each class, 0 to 1.
        classes: Number of classes k, at least 2.
        generator: Advanced by n numbers, whatever the rate.

    Raises:
        DataError: There is one class only.
    """
    _refuse_one_class("pair_flip", classes)
    return asymmetric(labels, rate, {label: (label + 1) % classes for label in range(classes)}, generator)


def instance_dependent(
    labels: Labels,
    images: NDArray[np.uint8],
    rate: float,
    classes: int,
    generator: np.random.Generator,
    *,
    images_at_a_time: int = 1024,
) -> Labels:
    """Return ``labels`` of which some are replaced, each with a probability and by a class that depend on its image.

    Algorithm 2 of Xia et al., Part-dependent Label Noise, NeurIPS 2020. An image x of class y has a flip rate q from
    N(rate, 0.1^2) truncated to [0, 1]; its label stays with probability 1 - q and becomes j != y with probability
    q softmax(x W_y)_j, where the softmax leaves y out and W_y, one for each class, has standard normal entries.

    Pixels enter as 0..255, unscaled, as in the authors' code. Scores then differ by thousands, so the softmax is nearly
    an argmax: an image has one class that it can be taken for.

    The mean of q exceeds a low rate, because the normal is cut at 0: it is 0.129 for 0.1, 0.206 for 0.2 and 0.300 for
    0.3; near 1 it falls short likewise (0.920 for 1). A rate of 0, for which the definition would still flip 8% of the
    labels, changes none here.

    The entries of W are rounded to multiples of 2^-20. Their products with pixels and all sums of these are then exact
    in float64 (up to four million values in an image), so the result does not depend on the order of summation, hence
    neither on the threads of a BLAS library nor on ``images_at_a_time``.

    Args:
        labels: Int64 [n].
        images: Uint8 [n, c, h, w]; may be memory-mapped, and is read in parts.
        rate: The mean of the flip rates before truncation, 0 to 1.
        classes: Number of classes k, at least 2.
        generator: Advanced by 3 n + k (c h w) k numbers, whatever the rate.
        images_at_a_time: Bounds the memory, at 8 bytes for every value of so many images.

    Raises:
        DataError: There is one class only, or not one image for each label.
    """
    _refuse_one_class("instance_dependent", classes)
    if len(images) != len(labels):
        raise DataError(
            f"instance_dependent noise: {len(images)} images and {len(labels)} labels", "Pass one image for each label."
        )
    flip_rates = _truncated_normal(generator.random(len(labels)), rate)
    flipped = generator.random(len(labels)) < flip_rates
    uniform = generator.random(len(labels))
    noisy = labels.copy()
    for label in range(classes):
        projection = _projection(generator, images[0].size if len(images) else 0, classes)
        members = np.flatnonzero((labels == label) & flipped)
        for start in range(0, len(members), images_at_a_time):
            part = members[start : start + images_at_a_time]
            noisy[part] = _mistaken_for(label, images[part], projection, uniform[part])
    return noisy


def _refuse_one_class(kind: str, classes: int) -> None:
    if classes < 2:
        raise DataError(
            f"{kind} noise: there is no other class that a label could become (number of classes: {classes})",
            "Use a source with at least two classes, or no noise.",
        )


def _truncated_normal(uniform: NDArray[np.float64], mean: float) -> NDArray[np.float64]:
    """Return the quantiles of N(mean, 0.1^2) truncated to [0, 1]; zeros for the mean 0."""
    from scipy.special import ndtr, ndtri  # a third of a second, which other kinds of noise need not wait for

    if mean == 0:
        return np.zeros_like(uniform)
    below, up_to_one = ndtr((0 - mean) / _FLIP_RATE_DEVIATION), ndtr((1 - mean) / _FLIP_RATE_DEVIATION)
    quantiles = mean + _FLIP_RATE_DEVIATION * ndtri(below + uniform * (up_to_one - below))
    return np.clip(quantiles, 0.0, 1.0).astype(np.float64)


def _projection(generator: np.random.Generator, features: int, classes: int) -> NDArray[np.float64]:
    """Return W_y [features, classes]: standard normal quantiles of uniform numbers, in multiples of 2^-20."""
    from scipy.special import ndtri

    uniform = np.maximum(generator.random((features, classes)), _SMALLEST_UNIFORM)
    return np.asarray(np.rint(ndtri(uniform) * _PROJECTION_STEPS) / _PROJECTION_STEPS)


def _mistaken_for(
    label: int, images: NDArray[np.uint8], projection: NDArray[np.float64], uniform: NDArray[np.float64]
) -> Indices:
    """Draw the class that each image of class ``label`` is taken for, int64 [n], from the softmax of its scores."""
    scores = images.reshape(len(images), -1).astype(np.float64) @ projection
    scores[:, label] = -np.inf
    cumulative = np.cumsum(np.exp(scores - scores.max(axis=1, keepdims=True)), axis=1)
    # The first class whose sum exceeds the threshold: never ``label``, where the sum does not grow
    return np.sum(cumulative <= uniform[:, None] * cumulative[:, -1:], axis=1).astype(np.int64)


def transition_matrix(clean: Labels, noisy: Labels, classes: int) -> TransitionMatrix:
    """Count how often each class (row, from ``clean``) carries each label (column, from ``noisy``)."""
    counts = np.bincount(clean * classes + noisy, minlength=classes**2).astype(np.int64).reshape(classes, classes)
    return TransitionMatrix(counts, counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))


def realised_rate(clean: Labels, noisy: Labels) -> float:
    """Return the fraction of labels that differ from the clean ones."""
    return float(np.mean(clean != noisy))
