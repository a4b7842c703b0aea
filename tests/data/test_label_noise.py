from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from math import sqrt

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import norm, truncnorm

from flatmin.data.errors import DataError
from flatmin.data.noise import asymmetric, instance_dependent, pair_flip, realised_rate, symmetric, transition_matrix
from flatmin.randomness import numpy_generator

CLASSES = 10
CLEAN = np.arange(50_000) % CLASSES


def generator(seed: int = 0) -> np.random.Generator:
    return numpy_generator(seed, "noise")


def random_images(count: int = 50_000, size: int = 3) -> NDArray[np.uint8]:
    return np.random.default_rng(7).integers(0, 256, (count, 3, size, size), dtype=np.uint8)


IMAGES = random_images()


def instance(rate: float, seed: int = 0, **options: int) -> NDArray[np.int64]:
    return instance_dependent(CLEAN, IMAGES, rate, CLASSES, generator(seed), **options)


def test_another_class_changes_exactly_the_nominal_rate() -> None:
    noisy = symmetric(CLEAN, 0.4, "another-class", CLASSES, generator())
    assert np.count_nonzero(noisy != CLEAN) == 20_000


def test_any_class_changes_nine_tenths_of_the_selected() -> None:
    noisy = symmetric(CLEAN, 0.4, "any-class", CLASSES, generator())
    # 20,000 labels are selected, each changes with probability 0.9
    standard_error = sqrt(0.9 * 0.1 * 20_000) / 50_000
    assert realised_rate(CLEAN, noisy) == pytest.approx(0.36, abs=3 * standard_error)


@pytest.mark.parametrize("definition", ["any-class", "another-class"])
def test_new_labels_are_uniform_over_those_allowed(definition) -> None:
    counts = transition_matrix(CLEAN, symmetric(CLEAN, 1.0, definition, CLASSES, generator()), CLASSES).counts
    allowed = CLASSES if definition == "any-class" else CLASSES - 1
    if definition == "another-class":
        assert np.all(np.diag(counts) == 0)
        counts = counts[~np.eye(CLASSES, dtype=bool)]
    expected = 5000 / allowed
    chi2 = float(np.sum((counts - expected) ** 2 / expected))
    freedom = CLASSES * (allowed - 1)
    assert abs(chi2 - freedom) < 4 * sqrt(2 * freedom)


@pytest.mark.parametrize("definition", ["any-class", "another-class"])
def test_labels_changed_at_a_lower_rate_are_changed_alike_at_a_higher_one(definition) -> None:
    low = symmetric(CLEAN, 0.2, definition, CLASSES, generator())
    high = symmetric(CLEAN, 0.6, definition, CLASSES, generator())
    changed = low != CLEAN
    assert changed.any()
    assert np.array_equal(low[changed], high[changed])


@pytest.mark.parametrize("definition", ["any-class", "another-class"])
def test_no_noise_at_rate_zero_and_the_clean_labels_are_never_written(definition) -> None:
    clean = CLEAN.copy()
    assert np.array_equal(symmetric(clean, 0.0, definition, CLASSES, generator()), CLEAN)
    symmetric(clean, 1.0, definition, CLASSES, generator())
    asymmetric(clean, 1.0, {0: 1}, generator())
    assert np.array_equal(clean, CLEAN)


def test_asymmetric_noise_touches_the_named_classes_alone_at_exactly_the_rate() -> None:
    pairs = {9: 1, 2: 0, 4: 7, 3: 5, 5: 3}
    counts = transition_matrix(CLEAN, asymmetric(CLEAN, 0.4, pairs, generator()), CLASSES).counts
    expected = np.diag(np.full(CLASSES, 5000))
    for original, look_alike in pairs.items():
        expected[original, original] = 3000
        expected[original, look_alike] = 2000
    assert np.array_equal(counts, expected)


def test_asymmetric_noise_does_not_depend_on_the_order_of_the_pairs() -> None:
    one = asymmetric(CLEAN, 0.3, {3: 5, 5: 3}, generator())
    other = asymmetric(CLEAN, 0.3, {5: 3, 3: 5}, generator())
    assert np.array_equal(one, other)


def test_the_transition_matrix_counts_classes_by_labels() -> None:
    matrix = transition_matrix(np.array([0, 0, 0, 2]), np.array([0, 1, 1, 2]), 3)
    assert matrix.counts.tolist() == [[1, 2, 0], [0, 0, 0], [0, 0, 1]]
    assert matrix.rates == pytest.approx(np.array([[1 / 3, 2 / 3, 0], [0, 0, 0], [0, 0, 1]]))


def test_noise_is_the_same_on_every_machine() -> None:
    noisy = symmetric(CLEAN, 0.4, "any-class", CLASSES, generator(3))
    paired = asymmetric(CLEAN, 0.4, {3: 5}, generator(3))
    digest = hashlib.sha256(noisy.astype("<i8").tobytes() + paired.astype("<i8").tobytes()).hexdigest()
    assert digest == "b3cd462bf59665c2ce623641b86e60392e92fe2eb07e9781cdbf6c01890fdec0"
    assert not np.array_equal(noisy, symmetric(CLEAN, 0.4, "any-class", CLASSES, generator(4)))


@pytest.mark.parametrize("rate", [0.0, 0.2, 0.45, 1.0])
def test_pair_flip_has_two_diagonals_with_exact_counts(rate) -> None:
    counts = transition_matrix(CLEAN, pair_flip(CLEAN, rate, CLASSES, generator()), CLASSES).counts
    moved = round(5000 * rate)
    expected = (5000 - moved) * np.eye(CLASSES, dtype=np.int64) + moved * np.roll(np.eye(CLASSES, dtype=np.int64), 1, 1)
    assert np.array_equal(counts, expected)


def test_pair_flip_changes_at_a_higher_rate_what_it_changes_at_a_lower_one() -> None:
    low, high = (pair_flip(CLEAN, rate, CLASSES, generator()) for rate in (0.2, 0.45))
    assert np.array_equal(low[low != CLEAN], high[low != CLEAN])
    assert not np.array_equal(low, pair_flip(CLEAN, 0.2, CLASSES, generator(1)))


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.2, 0.4, 0.8, 1.0])
def test_instance_noise_flips_at_the_mean_of_the_truncated_normal(rate) -> None:
    expected = float(truncnorm.mean(-rate / 0.1, (1 - rate) / 0.1, loc=rate, scale=0.1))
    standard_error = sqrt(expected * (1 - expected) / len(CLEAN))
    assert realised_rate(CLEAN, instance(rate)) == pytest.approx(expected, abs=3 * standard_error)


def test_instance_noise_of_rate_zero_changes_nothing_and_the_clean_labels_are_never_written() -> None:
    clean = CLEAN.copy()
    assert np.array_equal(instance_dependent(clean, IMAGES, 0.0, CLASSES, generator()), CLEAN)
    instance_dependent(clean, IMAGES, 1.0, CLASSES, generator())
    assert np.array_equal(clean, CLEAN)


def test_labels_changed_by_instance_noise_are_changed_alike_at_a_higher_rate() -> None:
    low, high = instance(0.1), instance(0.5)
    assert np.array_equal(low[low != CLEAN], high[low != CLEAN])
    assert np.count_nonzero(high != CLEAN) > np.count_nonzero(low != CLEAN) > 0


def algorithm_2(labels, images, rate, classes, generator):
    """Xia et al.'s algorithm image by image, from the same uniform numbers."""
    n, features = len(labels), images[0].size
    rates = truncnorm.ppf(generator.random(n), -rate / 0.1, (1 - rate) / 0.1, loc=rate, scale=0.1)
    coins, uniform = generator.random(n), generator.random(n)
    projections = [norm.ppf(generator.random((features, classes))) for _ in range(classes)]
    distributions, noisy = np.zeros((n, classes)), labels.copy()
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        scores = projections[label].T @ image.astype(float).ravel()
        others = [j for j in range(classes) if j != label]
        weights = np.exp(scores[others] - scores[others].max())
        distributions[i, others] = weights / weights.sum()
        if coins[i] < rates[i]:
            noisy[i] = others[int(np.searchsorted(np.cumsum(distributions[i, others]), uniform[i]))]
    return noisy, distributions


@pytest.mark.parametrize("brightest", [1, 255])
def test_instance_noise_is_algorithm_2(brightest) -> None:
    # Dark images have scores near each other, so that the softmax is no argmax
    images = np.random.default_rng(3).integers(0, brightest + 1, (3000, 1, 2, 2), dtype=np.uint8)
    labels = np.random.default_rng(4).integers(0, 4, 3000)
    expected, distributions = algorithm_2(labels, images, 0.4, 4, generator())
    if brightest == 1:
        assert np.median(distributions.max(axis=1)) < 0.9
    assert np.array_equal(instance_dependent(labels, images, 0.4, 4, generator()), expected)


def test_equal_images_of_a_class_share_one_distribution_and_other_images_have_another() -> None:
    one, other = (np.full((20_000, 1, 1, 2), np.array(pixels, dtype=np.uint8)) for pixels in ([0, 1], [1, 0]))
    labels = np.zeros(40_000, dtype=np.int64)
    images = np.concatenate([one, other])
    noisy = instance_dependent(labels, images, 1.0, 5, generator())
    _, distributions = algorithm_2(labels, images, 1.0, 5, generator())
    for part, distribution in ((noisy[:20_000], distributions[0]), (noisy[20_000:], distributions[-1])):
        counts = np.bincount(part[part != 0], minlength=5)
        expected = counts.sum() * distribution[1:]
        assert float(np.sum((counts[1:] - expected) ** 2 / expected)) < 3 + 4 * sqrt(2 * 3)
    assert np.abs(distributions[0] - distributions[-1]).max() > 0.1


def test_a_label_that_instance_noise_flips_never_stays() -> None:

    noisy = instance_dependent(CLEAN, np.zeros_like(IMAGES), 0.4, CLASSES, generator())
    flips = np.count_nonzero(noisy != CLEAN)
    assert flips == np.count_nonzero(instance(0.4) != CLEAN)
    counts = transition_matrix(CLEAN, noisy, CLASSES).counts
    # Black images score 0 everywhere: the other classes are equally likely
    off_diagonal = counts[~np.eye(CLASSES, dtype=bool)]
    assert float(np.sum((off_diagonal - flips / 90) ** 2 / (flips / 90))) < 89 + 4 * sqrt(2 * 89)


def test_instance_noise_depends_on_the_image_and_on_the_generator() -> None:
    inverted = instance_dependent(CLEAN, 255 - IMAGES, 0.4, CLASSES, generator())
    noisy = instance(0.4)
    assert np.array_equal(inverted != CLEAN, noisy != CLEAN)
    assert np.mean(inverted[noisy != CLEAN] != noisy[noisy != CLEAN]) > 0.5
    assert not np.array_equal(instance(0.4, seed=1) != CLEAN, noisy != CLEAN)
    assert np.array_equal(instance(0.4), noisy)


@pytest.mark.parametrize("images_at_a_time", [1, 7, 100_000])
def test_instance_noise_does_not_depend_on_how_many_images_are_taken_at_a_time(images_at_a_time) -> None:
    images, labels = random_images(2000, 16), CLEAN[:2000]
    noisy = instance_dependent(labels, images, 0.5, CLASSES, generator())
    again = instance_dependent(labels, images, 0.5, CLASSES, generator(), images_at_a_time=images_at_a_time)
    assert np.array_equal(again, noisy)


def test_the_scores_of_instance_noise_are_exact_sums() -> None:
    from flatmin.data.noise import _projection

    projection = _projection(generator(), 3072, CLASSES)
    images = random_images(200, 32).reshape(200, -1)
    exact = images.astype(np.int64) @ (projection * 2**20).astype(np.int64)
    assert np.array_equal(images.astype(np.float64) @ projection * 2**20, exact)
    assert np.array_equal(images[:, ::-1].astype(np.float64) @ projection[::-1] * 2**20, exact)
    assert projection.std() == pytest.approx(1, abs=3 / sqrt(2 * projection.size))
    assert projection.mean() == pytest.approx(0, abs=3 / sqrt(projection.size))


IN_ANOTHER_PROCESS = """
import hashlib
import numpy as np
from flatmin.data.noise import instance_dependent
from flatmin.randomness import numpy_generator
images = np.random.default_rng(7).integers(0, 256, (4000, 3, 16, 16), dtype=np.uint8)
noisy = instance_dependent(np.arange(4000) % 10, images, 0.5, 10, numpy_generator(0, "noise"))
print(hashlib.sha256(noisy.astype("<i8").tobytes()).hexdigest())
"""


def test_instance_noise_does_not_depend_on_the_number_of_threads() -> None:
    digests = {
        subprocess.run(
            [sys.executable, "-c", IN_ANOTHER_PROCESS],
            env={**os.environ, "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for threads in ("1", "4")
    }
    assert digests == {"f0d97903eefda903f90b0fe2516759ce5df1f48282666bebee27c678169ef817\n"}


def test_the_generator_advances_alike_whatever_the_rate_and_the_labels() -> None:
    after = set()
    for rate, labels in ((0.0, CLEAN[:100]), (1.0, CLEAN[:100]), (0.5, np.zeros(100, dtype=np.int64))):
        random = generator()
        instance_dependent(labels, IMAGES[:100], rate, CLASSES, random)
        after.add(random.random())
    expected = generator()
    expected.random(3 * 100 + CLASSES * 27 * CLASSES)
    assert after == {expected.random()}


def test_a_single_class_is_refused() -> None:
    zeros = np.zeros(4, dtype=np.int64)
    with pytest.raises(DataError, match="no other class"):
        pair_flip(zeros, 0.2, 1, generator())
    with pytest.raises(DataError, match="no other class"):
        instance_dependent(zeros, IMAGES[:4], 0.2, 1, generator())


def test_images_and_labels_of_different_numbers_are_refused() -> None:
    with pytest.raises(DataError, match="3 images and 4 labels"):
        instance_dependent(CLEAN[:4], IMAGES[:3], 0.2, CLASSES, generator())


class Zeros:
    """A generator that gives 0.5 for every flip rate and the smallest number, 0, for all else."""

    def __init__(self) -> None:
        self.calls = 0

    def random(self, shape):
        self.calls += 1
        return np.full(shape, 0.5 if self.calls == 1 else 0.0)


def test_uniform_numbers_that_are_exactly_zero_give_another_class_too() -> None:
    noisy = instance_dependent(np.zeros(3, dtype=np.int64), IMAGES[:3], 0.5, 3, Zeros())  # type: ignore[arg-type]
    assert noisy.tolist() == [1, 1, 1]
