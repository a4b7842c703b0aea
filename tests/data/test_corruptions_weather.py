from __future__ import annotations

import colorsys
from math import sqrt

import numpy as np
import pytest

from flatmin.data.corruptions._frost_textures import textures
from flatmin.data.corruptions._pixels import in_channels, luminance
from flatmin.data.corruptions._plasma import plasma
from flatmin.data.corruptions.registry import load
from flatmin.data.corruptions.snow import falling
from flatmin.data.corruptions.suite import SEVERITIES, corrupt
from flatmin.randomness import numpy_generator


def images(count: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (count, *shape), dtype=np.uint8)


def plain(value: int, channels: int = 3, count: int = 40) -> np.ndarray:
    return np.full((count, channels, 32, 32), value, dtype=np.uint8)


def correlation(layers: np.ndarray, down: int, right: int) -> float:
    """Of pixels with those some pixels away, around."""
    return float(np.corrcoef(layers.ravel(), np.roll(layers, (down, right), axis=(-2, -1)).ravel())[0, 1])


@pytest.mark.parametrize("severity", SEVERITIES)
def test_brightness_is_added_to_the_value_of_hsv(severity: int) -> None:
    batch = images(2, 3, 9, 10)
    batch[0, :, 0] = 0
    batch[0, :, 1] = batch[0, :1, 1]
    added = load("brightness").severities[severity - 1]
    brighter = corrupt(batch, "brightness", severity, seed=0)
    for number, row, column in np.ndindex(2, 9, 10):
        hue, saturation, value = colorsys.rgb_to_hsv(*(batch[number, :, row, column] / 255))
        exact = 255 * np.array(colorsys.hsv_to_rgb(hue, saturation, min(value + added, 1)))
        assert np.all(exact - brighter[number, :, row, column] > -2e-3)
        assert np.all(exact - brighter[number, :, row, column] < 1)


def test_brightness_of_a_grey_image_is_its_pixel_plus_the_constant() -> None:
    batch = images(2, 1, 8, 8)
    assert np.array_equal(corrupt(batch, "brightness", 4, seed=0), np.minimum(batch.astype(int) + 51, 255))


def test_plasma_is_the_diamond_square_of_single_points() -> None:
    size, decay = 8, 2.5
    expected, noise = np.zeros((size, size)), numpy_generator(0, "plasma")

    def fill(step: int, rows: range, columns: range, neighbours: list[tuple[int, int]], wibble: float) -> None:
        draws = 2 * noise.random((1, size // step, size // step), dtype=np.float32)[0].astype(float) - 1
        for i, row in enumerate(rows):
            for j, column in enumerate(columns):
                around = [expected[(row + down) % size, (column + right) % size] for down, right in neighbours]
                expected[row, column] = np.mean(around) + wibble**2 * draws[i, j]

    step, wibble = size, 100.0
    while step >= 2:
        half = step // 2
        on, between = range(0, size, step), range(half, size, step)
        fill(step, between, between, [(-half, -half), (-half, half), (half, -half), (half, half)], wibble)
        fill(step, on, between, [(-half, 0), (half, 0), (0, -half), (0, half)], wibble)
        fill(step, between, on, [(-half, 0), (half, 0), (0, -half), (0, half)], wibble)
        step, wibble = half, wibble / decay
    expected = (expected - expected.min()) / (expected.max() - expected.min())
    assert plasma(1, size, decay, numpy_generator(0, "plasma"))[0] == pytest.approx(expected, abs=1e-5)


def test_plasma_fills_zero_to_one_and_is_smoother_with_more_decay() -> None:
    smoothness = []
    for decay in (1.75, 2, 2.5, 3):
        maps = plasma(50, 32, decay, np.random.default_rng(0))
        assert np.all(maps.min(axis=(1, 2)) == 0)
        assert np.all(maps.max(axis=(1, 2)) == 1)
        smoothness.append(correlation(maps, 0, 1))
    assert smoothness == sorted(smoothness)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_fog_moves_the_mean_by_what_its_clouds_weigh(severity: int) -> None:
    thickness, decay = load("fog").severities[severity - 1]
    batch = np.concatenate([plain(60), plain(0)[:, :, :4]], axis=2)  # 36 x 32: a map of 64, of which a part is used
    batch[:, 0, 5, 5] = 200
    clouds = plasma(40, 64, decay, np.random.default_rng(8))[:, :36, :32].astype(float)
    foggy = load("fog").apply(batch, (thickness, decay), np.random.default_rng(8)).astype(float)
    brightest = 200 / 255
    exact = (batch.mean() / 255 + thickness * clouds.mean()) * brightest / (brightest + thickness) * 255
    assert foggy.mean() == pytest.approx(exact - 0.5, abs=0.02)
    assert foggy.max() <= 200


def test_fog_leaves_black_images_black_and_white_ones_no_brighter_than_white() -> None:
    assert not corrupt(plain(0), "fog", 5, seed=0).any()
    foggy = corrupt(plain(255), "fog", 5, seed=0)
    assert foggy.max() == 255
    assert foggy.min() == int(255 / 2.5)


def test_flakes_are_streaks_that_fall() -> None:
    for severity, constants in zip(SEVERITIES, load("snow").severities, strict=True):
        layers = falling((300, 3, 32, 32), constants, np.random.default_rng(severity))
        assert layers.shape == (300, 1, 32, 32)
        assert correlation(layers.astype(float), 3, 0) > correlation(layers.astype(float), 0, 3) + 0.08


def test_as_many_flakes_fall_as_normal_noise_exceeds_the_threshold() -> None:
    generator = np.random.default_rng(0)
    still = (0.1, 0.2, 1, 0.5, 0, 1e-6, 0.9)  # no magnification, no motion
    share = np.mean(falling((400, 3, 32, 32), still, generator) > 0)
    beyond = 0.02275  # of a normal distribution, two deviations above the mean
    assert share == pytest.approx(beyond, abs=4 * sqrt(beyond / (400 * 32 * 32)))


def test_without_flakes_snow_whitens_by_the_luminance() -> None:
    batch = images(4, 3, 12, 12)
    kept = 0.8
    snowy = load("snow").apply(batch, (0.1, 0.1, 1, 99, 8, 3, kept), np.random.default_rng(0))
    grey = (batch * np.array([0.299, 0.587, 0.114]).reshape(3, 1, 1)).sum(axis=1, keepdims=True)
    exact = kept * batch + (1 - kept) * np.maximum(batch, 1.5 * grey + 127.5)
    assert np.all(np.clip(exact, 0, 255) - snowy < 1)
    assert np.all(np.clip(exact, 0, 255) - snowy > -2e-3)


def test_flakes_on_black_are_seen_twice_the_second_time_upside_down() -> None:
    snow = corrupt(plain(0), "snow", 4, seed=0)
    assert snow.max() > snow.min() == int(127.5 * 0.15)
    assert np.array_equal(snow, snow[:, :, ::-1, ::-1])
    assert np.array_equal(snow[:, 0], snow[:, 2])


def test_there_are_five_panes_that_continue_at_their_edges() -> None:
    panes = textures(256)
    assert panes.shape == (5, 3, 256, 256)
    means = panes.mean(axis=(1, 2, 3))
    assert len(set(means)) == 5
    assert np.all((means > 90) & (means < 150))
    assert np.all(panes.std(axis=(2, 3)) > 30)
    seam = np.abs(panes[..., 0].astype(float) - panes[..., -1]).mean()
    inside = np.abs(np.diff(panes.astype(float), axis=-1)).mean()
    assert seam == pytest.approx(inside, rel=0.35)
    assert np.all(panes[:, 2].mean(axis=(1, 2)) > panes[:, 0].mean(axis=(1, 2)))  # ice is bluish


def test_frost_on_black_is_a_part_of_a_pane_and_panes_are_equally_likely() -> None:
    panes = textures(256).astype(np.float32)
    frosted = load("frost").apply(plain(0, count=200), (0.5, 1.0), np.random.default_rng(0))
    found = [0] * 5
    for part in frosted[:12]:
        corner = np.all(panes[:, :, :-31, :-31] == part[:, :1, :1], axis=1)
        places = [
            place
            for place in np.argwhere(corner)
            if np.array_equal(panes[place[0], :, place[1] : place[1] + 32, place[2] : place[2] + 32], part)
        ]
        assert len(places) == 1
        found[places[0][0]] += 1
    assert sum(value > 0 for value in found) >= 3


def test_frost_adds_to_what_is_left_of_the_image() -> None:
    with_black = load("frost").apply(plain(0, 1), (0.75, 0.45), np.random.default_rng(0)).astype(int)
    with_grey = load("frost").apply(plain(100, 1), (0.75, 0.45), np.random.default_rng(0)).astype(int)
    assert np.array_equal(with_grey - with_black, np.full(with_grey.shape, 75))


def test_frost_on_grey_images_is_the_luminance_of_its_colour() -> None:
    colour = load("frost").apply(plain(0), (1, 1.0), np.random.default_rng(0))
    grey = load("frost").apply(plain(0, channels=1), (1, 1.0), np.random.default_rng(0))
    assert grey.astype(float) + 0.5 == pytest.approx(luminance(colour), abs=0.51)


def test_luminance_weighs_green_most_and_grey_is_its_own() -> None:
    primaries = np.eye(3, dtype=np.float32).reshape(1, 3, 3, 1) * 100
    assert luminance(primaries)[0, 0, :, 0] == pytest.approx([29.9, 58.7, 11.4])
    assert in_channels((10, 10, 10), 1).ravel() == pytest.approx([10])
    assert in_channels((1, 2, 3), 3).ravel().tolist() == [1, 2, 3]
