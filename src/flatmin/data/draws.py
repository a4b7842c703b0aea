"""What one seed trains on: a subset, a validation part, and labels with noise.

Four generators, named ``subset``, ``validation``, ``noise`` and ``validation-noise``, derived from the seed alone. So
all methods share a draw, and so do datasets that differ in the noise rate only: they have the same images in the same
parts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from flatmin.data.errors import DataError
from flatmin.data.noise import asymmetric, instance_dependent, pair_flip, symmetric
from flatmin.data.stratified import Indices, Labels, stratified_choice
from flatmin.randomness import numpy_generator
from flatmin.settings import (
    AsymmetricNoise,
    DatasetSpec,
    HumanNoise,
    InstanceNoise,
    PairFlipNoise,
    SymmetricNoise,
)


@dataclass(frozen=True)
class TrainingPart:
    """The training part of a source, from which draws are made.

    Attributes:
        labels: Int64 [n].
        classes: Number of classes.
        usual_pairs: The source's pairs for ``pairs: usual``, or None if it has none.
        images: Uint8 [n, c, h, w], for noise that looks at them; it may be memory-mapped.
        human_labels: Int64 [n] each, the labels that people gave, by the names that `HumanNoise` has for them.
    """

    labels: Labels
    classes: int
    usual_pairs: Mapping[int, int] | None = None
    images: NDArray[np.uint8] | None = None
    human_labels: Mapping[str, Labels] = field(default_factory=dict)


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


def draw(spec: DatasetSpec, source: TrainingPart, seed: int) -> Draw:
    """Draw the subset, then the validation part, then the noise of each part.

    Args:
        spec: The dataset. Its ``draw_seed``, if any, takes the place of ``seed``.
        source: What is drawn from.
        seed: The run's seed.

    Raises:
        DataError: A part would lack a class, the source is smaller than ``train_size``, the pairs are no pairs of
            classes of this source, or it lacks what the noise needs.
    """
    seed = seed if spec.draw_seed is None else spec.draw_seed
    train, validation = _split(spec, source.labels, source.classes, seed)
    clean_validation = source.labels[validation]
    noisy = spec.validation.labels == "noisy"
    return Draw(
        train_indices=train,
        validation_indices=validation,
        train_labels=_with_noise(spec, source, train, numpy_generator(seed, "noise")),
        train_clean_labels=source.labels[train],
        validation_labels=_with_noise(spec, source, validation, numpy_generator(seed, "validation-noise"))
        if noisy
        else clean_validation,
        validation_clean_labels=clean_validation,
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


def _with_noise(spec: DatasetSpec, source: TrainingPart, indices: Indices, generator: np.random.Generator) -> Labels:
    """Return the labels of some of the source's images, with the noise that ``spec`` asks for."""
    labels, classes, noise = source.labels[indices], source.classes, spec.noise
    match noise:
        case SymmetricNoise():
            return symmetric(labels, noise.rate, noise.definition, classes, generator)
        case AsymmetricNoise():
            return asymmetric(labels, noise.rate, _pairs(spec.source_name, noise, source), generator)
        case PairFlipNoise():
            return pair_flip(labels, noise.rate, classes, generator)
        case InstanceNoise():
            if source.images is None:
                raise DataError("noise: instance needs the images", "Pass them with the labels.")
            return instance_dependent(labels, source.images[indices], noise.rate, classes, generator)
        case HumanNoise():
            if noise.labels not in source.human_labels:
                raise DataError(
                    f"noise.labels: people gave no labels {noise.labels!r} to the source {spec.source_name}",
                    f"There are {', '.join(source.human_labels) or 'none'}.",
                )
            return source.human_labels[noise.labels][indices]
        case None:
            return labels


def _pairs(source_name: str, noise: AsymmetricNoise, source: TrainingPart) -> Mapping[int, int]:
    pairs, classes = source.usual_pairs if noise.pairs == "usual" else noise.pairs, source.classes
    if pairs is None:
        raise DataError(
            f"noise.pairs: the literature has no usual pairs for the source {source_name}",
            "Write the pairs out: noise.pairs: {from: to, ...} with class numbers.",
        )
    for original, look_alike in pairs.items():
        if original == look_alike or not (0 <= original < classes and 0 <= look_alike < classes):
            raise DataError(
                f"noise.pairs: {original} -> {look_alike} is no pair of different classes in 0..{classes - 1}",
                f"Use the class numbers of the source {source_name}.",
            )
    return pairs
