from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from flatmin.data.corruptions._canny import edges
from flatmin.data.corruptions._chamfer import UNIT, distances
from flatmin.data.corruptions.registry import load
from flatmin.data.corruptions.spatter import equalised, glint
from flatmin.data.corruptions.suite import corrupt


def plain(value: int, channels: int = 3, count: int = 40) -> np.ndarray:
    return np.full((count, channels, 32, 32), value, dtype=np.uint8)


def test_a_step_has_one_line_of_edges_in_each_direction() -> None:
    image = np.zeros((4, 16, 16), dtype=np.uint8)
    image[0, :, 8:] = 200
    image[1, 8:] = 200
    image[2][np.tri(16, dtype=bool)] = 200
    image[3] = 77
    found = edges(image, 50, 150)
    assert np.array_equal(np.flatnonzero(found[0].all(axis=0)), [7])
    assert np.array_equal(np.flatnonzero(found[1].all(axis=1)), [7])
    assert found[0].sum() == found[1].sum() == 16
    rows, columns = np.nonzero(found[2])
    assert len(rows) >= 14
    assert np.ptp(rows - columns) <= 1
    assert not found[3].any()


def test_weak_edges_count_where_they_touch_a_strong_one_of_the_same_image() -> None:
    image = np.zeros((3, 16, 16), dtype=np.uint8)
    image[0, :, 8:] = 25  # a magnitude of 100, between the thresholds
    image[1, :, 8:] = 25
    image[1, 0, 8:] = 200
    image[2, :, 8:] = np.linspace(60, 0, 16)[:, None]  # from 240 at the top to 0
    found = edges(image, 50, 150)
    assert not found[0].any()
    assert found[1, 4:, 7].all()
    assert found[2, :11].any(axis=1).all()  # 80 and more: weak ones belong to the strong ones above
    assert not found[2, 14:].any()  # 16 and less, below both


def test_the_chamfer_has_its_closed_form_around_a_point() -> None:
    marked = np.zeros((2, 25, 25), dtype=bool)
    marked[0, 12, 12] = True
    far = distances(marked, 20) / UNIT
    down, right = np.abs(np.mgrid[-12:13, -12:13])
    small, large = np.minimum(down, right), np.maximum(down, right)
    knights = np.minimum(small, large - small)
    closed = knights * 2.1969 + (small - knights) * 1.4 + (large - small - knights)
    assert far[0] == pytest.approx(closed, abs=13 * 2 / UNIT)
    assert np.all(far[1] == 20)


def test_the_chamfer_is_within_two_percent_of_the_distance() -> None:
    marked = np.random.default_rng(0).random((3, 40, 31)) < 0.01
    exact = np.stack([distance_transform_edt(~one) for one in marked])
    assert distances(marked, 50) / UNIT == pytest.approx(exact, rel=0.02)
    assert np.array_equal(distances(marked, 4), np.minimum(distances(marked, 50), 4 * UNIT))


def test_equalising_spreads_levels_by_rank() -> None:
    levels = np.repeat([3, 4, 9, 200], 4).reshape(4, 4)
    single = np.full((4, 4), 20)
    equal = equalised(np.stack([levels, single]).astype(np.uint8))
    assert np.unique(equal[0]).tolist() == [0, 85, 170, 255]
    assert np.array_equal(np.argsort(equal[0].ravel(), kind="stable"), np.arange(16))
    assert np.all(equal[1] == 20)


def test_water_shines_where_it_is_and_is_one_at_most() -> None:
    liquid = np.zeros((2, 32, 32), dtype=np.float32)
    liquid[0, 8:20, 10:22] = 0.8
    water = glint(liquid)
    assert water[0].max() == 1
    assert not water[0][liquid[0] == 0].any()
    assert not water[1].any()


def test_water_on_black_is_turquoise_and_half_as_bright_at_its_brightest() -> None:
    for severity in (1, 2, 3):
        wet = corrupt(plain(0), "spatter", severity, seed=0)
        brightest = wet.max(axis=(2, 3))
        reached = brightest[:, 1] > 0
        assert reached.mean() > 0.9
        assert np.all(brightest[reached] == [87, 119, 119])
        assert np.array_equal(wet[:, 1], wet[:, 2])


def test_mud_covers_and_what_it_leaves_is_the_image() -> None:
    for severity in (4, 5):
        constants = load("spatter").severities[severity - 1]
        on_white = load("spatter").apply(plain(255), constants, np.random.default_rng(0)).astype(int)
        on_black = load("spatter").apply(plain(0), constants, np.random.default_rng(0)).astype(int)
        muddy = on_black[:, 0] > 0
        assert 0.01 < muddy.mean() < 0.2
        assert np.all(on_white.transpose(0, 2, 3, 1)[~muddy] == 255)
        opacity = on_black[:, 0][muddy] / 63
        assert opacity.min() > 0.78
        assert on_black[:, 1][muddy] == pytest.approx(42 * opacity, abs=2)
        assert on_white[:, 0][muddy] == pytest.approx(255 * (1 - opacity) + 63 * opacity, abs=6)


def test_liquid_on_a_grey_image_has_the_luminance_of_its_colour() -> None:
    constants = load("spatter").severities[1]
    colour = load("spatter").apply(plain(30), constants, np.random.default_rng(0)).astype(float)
    grey = load("spatter").apply(plain(30, channels=1), constants, np.random.default_rng(0)).astype(float)
    weighted = 0.299 * colour[:, 0] + 0.587 * colour[:, 1] + 0.114 * colour[:, 2]
    assert grey[:, 0] == pytest.approx(weighted, abs=1)
