from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
from scipy.stats import poisson

from flatmin.data.corruptions.registry import load
from flatmin.data.corruptions.suite import SEVERITIES, corrupt

COUNT = 60
ROUNDING_VARIANCE = 1 / 12
DROPPED_FRACTION = 0.5


def plain(value: int) -> np.ndarray:
    return np.full((COUNT, 3, 32, 32), value, dtype=np.uint8)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_gaussian_noise_has_its_deviation_and_no_mean(severity: int) -> None:
    deviation = 255 * load("gaussian_noise").severities[severity - 1]
    noisy = corrupt(plain(128), "gaussian_noise", severity, seed=0).astype(float)
    assert noisy.std() == pytest.approx(sqrt(deviation**2 + ROUNDING_VARIANCE), rel=0.02)
    assert noisy.mean() == pytest.approx(128 - DROPPED_FRACTION, abs=4 * deviation / sqrt(noisy.size))


def test_gaussian_noise_is_another_for_every_channel() -> None:
    noisy = corrupt(plain(128), "gaussian_noise", 3, seed=0).astype(float)
    correlation = np.corrcoef(noisy.transpose(1, 0, 2, 3).reshape(3, -1))
    assert np.all(np.abs(correlation[np.triu_indices(3, 1)]) < 4 / sqrt(noisy.size / 3))


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("value", [40, 100])
def test_speckle_is_proportional_to_the_pixel(severity: int, value: int) -> None:
    deviation = value * load("speckle_noise").severities[severity - 1]
    noisy = corrupt(plain(value), "speckle_noise", severity, seed=0).astype(float)
    assert noisy.std() == pytest.approx(sqrt(deviation**2 + ROUNDING_VARIANCE), rel=0.02)


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("value", [30, 120])
def test_the_variance_of_shot_noise_is_mean_over_photons(severity: int, value: int) -> None:
    photons = load("shot_noise").severities[severity - 1]
    noisy = corrupt(plain(value), "shot_noise", severity, seed=0).astype(float)
    variance = value * 255 / photons
    assert noisy.var() == pytest.approx(variance, rel=0.06)
    counts = np.arange(4 * photons)
    probability = poisson.pmf(counts, value * photons / 255)
    levels = np.minimum(255 * counts // photons, 255)  # the fraction is dropped
    mean = np.sum(probability * levels)
    exact = np.sum(probability * (levels - mean) ** 2)
    assert noisy.mean() == pytest.approx(mean, abs=4 * sqrt(exact / noisy.size))
    assert noisy.var() == pytest.approx(exact, rel=0.02)


def test_black_makes_no_photons() -> None:
    assert not corrupt(plain(0), "shot_noise", 5, seed=0).any()


@pytest.mark.parametrize("severity", SEVERITIES)
def test_impulses_are_as_many_as_stated_half_of_them_salt(severity: int) -> None:
    amount = load("impulse_noise").severities[severity - 1]
    noisy = corrupt(plain(128), "impulse_noise", severity, seed=0)
    error = 4 * sqrt(amount / 2 / noisy.size)
    assert np.mean(noisy == 255) == pytest.approx(amount / 2, abs=error)
    assert np.mean(noisy == 0) == pytest.approx(amount / 2, abs=error)
    assert set(np.unique(noisy)) == {0, 128, 255}


def test_impulses_hit_channels_one_by_one() -> None:
    hit = corrupt(plain(128), "impulse_noise", 5, seed=0) != 128
    assert np.mean(hit.all(axis=1)) < 0.07**3 + 4 * sqrt(0.07**3 / (hit.size / 3))
