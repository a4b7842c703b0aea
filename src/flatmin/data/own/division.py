"""The classes of a user's images, their division into training and test images, and the arrays that come of both."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flatmin.data.errors import DataError
from flatmin.data.own.decoding import Encoded, Form, Progress, decode_all, listed
from flatmin.data.source import Arrays
from flatmin.data.stratified import Indices, Labels, shares, stratified_choice
from flatmin.randomness import numpy_generator

_LEAST_TRAINING = 2  # one to train on, one for the validation part


@dataclass(frozen=True)
class OwnData:
    """A user's images in memory.

    Attributes:
        arrays: Images and labels of the training and the test part.
        classes: Class names by label.
        split: Where the division into training and test images comes from.
    """

    arrays: Arrays
    classes: tuple[str, ...]
    split: str


@dataclass(frozen=True)
class Division:
    """Which images are for training and which for the test: int64 positions in ascending order, and whence."""

    train: Indices
    test: Indices
    split: str


def in_class_order(names: Iterable[str]) -> tuple[str, ...]:
    """Return class names in the order of their labels: by number if all are whole numbers, else by code points.

    Code points are the order of torchvision's ImageFolder, which puts 10 before 2; where the names are the labels of
    somebody's table, a class should have the label that its name says.
    """
    distinct = set(names)
    if all(name.isascii() and name.isdigit() for name in distinct):
        return tuple(sorted(distinct, key=lambda name: (int(name), name)))
    return tuple(sorted(distinct))


def refuse_few_classes(classes: Collection[str], where: str, hint: str = "") -> None:
    """Refuse fewer than two classes.

    Raises:
        DataError: There are fewer.
    """
    if len(classes) < 2:
        raise DataError(
            f"{where} has {len(classes)} class{'' if len(classes) == 1 else 'es'}"
            f"{''.join(f' ({name})' for name in classes)}, and there is nothing to tell apart",
            f"Provide images of at least two classes. {hint}".strip(),
        )


def drawn_division(labels: Labels, classes: tuple[str, ...], test_fraction: float, where: str) -> Division:
    """Draw a stratified test part.

    A function of ``labels`` and ``test_fraction``: the generator's seed is 0, for everybody and every run.

    Args:
        labels: Int64 [n].
        classes: Class names.
        test_fraction: The part of the images that is for the test, between 0 and 1.
        where: What the images are, for error messages.

    Raises:
        DataError: ``test_fraction`` is not between 0 and 1, or a class has too few images for a test part, a validation
            part and something to train on.
    """
    if not 0 < test_fraction < 1:
        raise DataError(
            f"test_fraction: {test_fraction} is not between 0 and 1", "Set test_fraction: 0.2, for example."
        )
    counts = np.bincount(labels, minlength=len(classes)).astype(np.int64)
    total = round(test_fraction * len(labels))
    share = shares(counts, total)
    problems = [
        f"{name}: {count} image{'' if count == 1 else 's'}, of which {part} for the test"
        for name, count, part in zip(classes, counts, share, strict=True)
        if part < 1 or count - part < _LEAST_TRAINING
    ]
    if problems:
        raise DataError(
            f"{where}: with test_fraction {test_fraction}, {len(problems)} of {len(classes)} classes have too few "
            f"images for the test (1), validation (1) and training (1):\n{listed(problems)}",
            "Add images to these classes, remove the classes, or change test_fraction.",
        )
    keys = numpy_generator(0, "own", "test").random(len(labels))
    test, train = stratified_choice(labels, total, len(classes), keys, purpose="test_fraction")
    split = f"none is given: {total} test images, stratified, by flatmin's generator (seed 0, 'own', 'test')"
    return Division(np.sort(train), np.sort(test), split)


def given_division(
    labels: Labels, training_images: int, classes: tuple[str, ...], *, train: str, test: str, split: str
) -> Division:
    """Return the division of images that are given as two parts, the training part first.

    Args:
        labels: Int64 [n], of both parts.
        training_images: How many of these are for training.
        classes: Class names.
        train: What the training part is, for error messages.
        test: What the test part is.
        split: Where the division comes from.

    Raises:
        DataError: A class has no test image, or fewer than two training images.
    """
    for part, name, least in (
        (labels[:training_images], train, _LEAST_TRAINING),
        (labels[training_images:], test, 1),
    ):
        counts = np.bincount(part, minlength=len(classes))
        problems = [f"{classes[label]}: {counts[label]}" for label in np.flatnonzero(counts < least)]
        if problems:
            raise DataError(
                f"{name}: {len(problems)} of {len(classes)} classes have fewer than {least} "
                f"image{'' if least == 1 else 's'}:\n{listed(problems)}",
                "Every class needs an image for the test and two besides, for training and validation: add images, or "
                "remove these classes from both parts.",
            )
    positions = np.arange(len(labels), dtype=np.int64)
    return Division(positions[:training_images], positions[training_images:], split)


def divided_arrays(
    contents: Iterable[tuple[str, Path | bytes | None]],
    labels: Labels,
    division: Division,
    form: Form,
    *,
    where: str,
    progress: Progress | None,
) -> Arrays:
    """Decode images straight to their places in the training and the test array.

    Args:
        contents: A name for error messages, and the encoded image, for each label in turn.
        labels: Int64 [n].
        division: Of these n.
        form: What the images become.
        where: What they are part of, for error messages.
        progress: Told how many of n are done.

    Raises:
        DataError: Some are no images that can be read.
    """
    train = np.empty((len(division.train), *form.shape), dtype=np.uint8)
    test = np.empty((len(division.test), *form.shape), dtype=np.uint8)
    waiting = (
        Encoded(name, content, target)
        for (name, content), target in zip(contents, _targets(division, train, test), strict=True)
    )
    decode_all(waiting, form, total=len(labels), where=where, progress=progress)
    return Arrays(train, labels[division.train], test, labels[division.test])


def _targets(division: Division, train: NDArray[np.uint8], test: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """Yield the place of every image, in the images' order."""
    is_test = np.zeros(len(train) + len(test), dtype=bool)
    is_test[division.test] = True
    places = {False: iter(train), True: iter(test)}
    for chosen in is_test.tolist():
        yield next(places[chosen])
