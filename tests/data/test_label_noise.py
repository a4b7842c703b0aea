from __future__ import annotations

import hashlib
from math import sqrt

import numpy as np
import pytest

from flatmin.data.noise import asymmetric, realised_rate, symmetric, transition_matrix
from flatmin.randomness import numpy_generator

CLASSES = 10
CLEAN = np.arange(50_000) % CLASSES


def generator(seed: int = 0) -> np.random.Generator:
    return numpy_generator(seed, "noise")


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
