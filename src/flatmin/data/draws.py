"""What one seed trains on: a subset, a validation part, and labels with noise.

Four generators, named ``subset``, ``validation``, ``noise`` and ``validation-noise``, derived from the seed alone. So
all methods share a draw, and so do datasets that differ in the noise rate only: they have the same images in the same
parts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from flatmin.data.errors import DataError
from flatmin.data.noise import asymmetric, symmetric
from flatmin.data.stratified import Indices, Labels, stratified_choice
from flatmin.randomness import numpy_generator
from flatmin.settings import AsymmetricNoise, DatasetSpec, SymmetricNoise


@dataclass(frozen=True)
class Draw:
    """One seed's training and validation parts; all arrays are int64.

    Indices point into the source's training set. They are in random order, so that the first m images of a part are a
    random sample of it.

    Attributes:
        train_indices: [n].
        validation_indices: [v], disjoint from ``train_indices``.
        train_labels: [n], with noise.
        train_clean_labels: [n], without.
        validation_labels: [v], with noise unless ``validation.labels`` is ``clean``.
        validation_clean_labels: [v], without.
    """

    train_indices: Indices
    validation_indices: Indices
    train_labels: Labels
    train_clean_labels: Labels
    validation_labels: Labels
    validation_clean_labels: Labels


def draw(
    spec: DatasetSpec, clean_labels: Labels, classes: int, usual_pairs: Mapping[int, int] | None, seed: int
) -> Draw:
    """Draw the subset, then the validation part, then the noise of each part.

    Args:
        spec: The dataset. Its ``draw_seed``, if any, takes the place of ``seed``.
        clean_labels: The source's training labels, int64 [n].
        classes: Number of classes.
        usual_pairs: The source's pairs for ``pairs: usual``, or None if it has none.
        seed: The run's seed.

    Raises:
        DataError: A part would lack a class, the source is smaller than ``train_size``, or the pairs are no pairs of
            classes of this source.
    """
    seed = seed if spec.draw_seed is None else spec.draw_seed
    train, validation = _split(spec, clean_labels, classes, seed)
    train_clean, validation_clean = clean_labels[train], clean_labels[validation]

    def with_noise(labels: Labels, purpose: str) -> Labels:
        return _with_noise(spec, labels, classes, usual_pairs, numpy_generator(seed, purpose))

    noisy_validation = spec.validation.labels == "noisy"
    return Draw(
        train_indices=train,
        validation_indices=validation,
        train_labels=with_noise(train_clean, "noise"),
        train_clean_labels=train_clean,
        validation_labels=with_noise(validation_clean, "validation-noise") if noisy_validation else validation_clean,
        validation_clean_labels=validation_clean,
    )


def _split(spec: DatasetSpec, labels: Labels, classes: int, seed: int) -> tuple[Indices, Indices]:
    """Return the indices of the training and validation parts."""
    subset = np.arange(len(labels), dtype=np.int64)
    if spec.train_size is not None:
        keys = numpy_generator(seed, "subset").random(len(labels))
        subset, _ = stratified_choice(labels, spec.train_size, classes, keys, purpose="train_size")
        subset.sort()  # so that the order below rests on the generator "validation" alone
    # One key for every image of the source: an image keeps its key, whatever the subset
    keys = numpy_generator(seed, "validation").random(len(labels))[subset]
    total = round(spec.validation.fraction * len(subset))
    validation, train = stratified_choice(labels[subset], total, classes, keys, purpose="validation.fraction")
    if missing := sorted(set(range(classes)) - set(labels[subset[train]].tolist())):
        raise DataError(
            f"validation.fraction: {spec.validation.fraction} of {len(subset)} images leaves no training image of "
            f"class {', '.join(map(str, missing))}",
            "Lower validation.fraction or raise train_size.",
        )
    return subset[train], subset[validation]


def _with_noise(
    spec: DatasetSpec,
    labels: Labels,
    classes: int,
    usual_pairs: Mapping[int, int] | None,
    generator: np.random.Generator,
) -> Labels:
    noise = spec.noise
    if isinstance(noise, SymmetricNoise):
        return symmetric(labels, noise.rate, noise.definition, classes, generator)
    if isinstance(noise, AsymmetricNoise):
        return asymmetric(labels, noise.rate, _pairs(spec.source, noise, classes, usual_pairs), generator)
    return labels.copy()


def _pairs(
    source: str, noise: AsymmetricNoise, classes: int, usual_pairs: Mapping[int, int] | None
) -> Mapping[int, int]:
    pairs = usual_pairs if noise.pairs == "usual" else noise.pairs
    if pairs is None:
        raise DataError(
            f"noise.pairs: the literature has no usual pairs for the source {source}",
            "Write the pairs out: noise.pairs: {from: to, ...} with class numbers.",
        )
    for original, look_alike in pairs.items():
        if original == look_alike or not (0 <= original < classes and 0 <= look_alike < classes):
            raise DataError(
                f"noise.pairs: {original} -> {look_alike} is no pair of different classes in 0..{classes - 1}",
                f"Use the class numbers of the source {source}.",
            )
    return pairs
