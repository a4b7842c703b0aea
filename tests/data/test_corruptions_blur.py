from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage

from flatmin.data.corruptions._filters import correlated, gaussian
from flatmin.data.corruptions._motion import half_gaussian, motion_blurred, steps
from flatmin.data.corruptions._zoom import applied, zoom_matrix
from flatmin.data.corruptions.defocus_blur import disk
from flatmin.data.corruptions.glass_blur import displaced
from flatmin.data.corruptions.registry import load
from flatmin.data.corruptions.suite import SEVERITIES, corrupt

GENERATOR_SEED = 3


def images(count: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(GENERATOR_SEED).integers(0, 256, (count, *shape), dtype=np.uint8)


def assert_truncated(corrupted: np.ndarray, exact: np.ndarray) -> None:
    """Where the fraction is not within rounding of a whole number, it must have been dropped."""
    safe = np.abs(exact - np.rint(exact)) > 2e-3
    assert safe.mean() > 0.75
    assert np.array_equal(corrupted[safe], np.floor(np.clip(exact[safe], 0, 255)))


@pytest.mark.parametrize("severity", SEVERITIES)
def test_gaussian_blur_is_scipys_on_a_single_channel(severity: int) -> None:
    batch = images(3, 3, 20, 24)
    sigma = load("gaussian_blur").severities[severity - 1]
    exact = scipy.ndimage.gaussian_filter(batch[2, 1].astype(float), sigma, mode="nearest", truncate=4)
    assert_truncated(corrupt(batch, "gaussian_blur", severity, seed=0)[2, 1], exact)


def test_the_gaussian_has_its_closed_form() -> None:
    impulse = np.zeros((1, 1, 21, 21), dtype=np.float32)
    impulse[0, 0, 10, 10] = 1
    bell = np.exp(-(np.arange(-10, 11) ** 2) / (2 * 1.2**2))
    bell[np.abs(np.arange(-10, 11)) > 5] = 0  # four deviations, rounded
    bell /= bell.sum()
    assert gaussian(impulse, 1.2)[0, 0] == pytest.approx(np.outer(bell, bell), abs=1e-7)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_defocus_is_a_correlation_with_the_mirrored_image(severity: int) -> None:
    batch = images(2, 3, 16, 11)
    kernel = disk(*load("defocus_blur").severities[severity - 1])
    exact = scipy.ndimage.correlate(batch[1, 2].astype(float), kernel, mode="mirror")
    assert_truncated(corrupt(batch, "defocus_blur", severity, seed=0)[1, 2], exact)


def test_the_disk_is_the_points_within_its_radius_with_a_smooth_rim() -> None:
    for constants in load("defocus_blur").severities:
        kernel = disk(*constants)
        assert kernel.sum() == pytest.approx(1)
        assert np.array_equal(kernel, kernel.T)
        assert np.array_equal(kernel, kernel[::-1])
    assert disk(1.5, 0.1)[1:4, 1:4] == pytest.approx(np.full((3, 3), 1 / 9))
    plus = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]]) / 5
    assert disk(1, 0.1)[1:4, 1:4] == pytest.approx(plus)
    bell = np.exp(-np.array([1, 0, 1]) / (2 * 0.5**2))
    assert disk(0.4, 0.5) == pytest.approx(np.outer(bell, bell) / bell.sum() ** 2)


def test_whole_numbers_stay_whole_in_a_correlation_and_an_uneven_kernel_is_not_turned() -> None:
    values = images(2, 6, 7).astype(np.int32)
    kernel = np.array([[0, 0, 0], [0, 0, 5], [0, 0, 0]])
    result = correlated(values, kernel)
    assert np.issubdtype(result.dtype, np.integer)
    assert np.array_equal(result[..., :-1], 5 * values[..., 1:])
    assert np.array_equal(result[..., -1], 5 * values[..., -2])  # mirrored about the last pixel's centre


@pytest.mark.parametrize("severity", [1, 5])
@pytest.mark.parametrize("shape", [(32, 32), (20, 33)])
def test_zoom_blur_is_the_mean_of_the_image_and_its_zooms(severity: int, shape: tuple[int, int]) -> None:
    batch = images(2, 3, *shape)
    single = batch[1, 0].astype(float)
    total, factors = single.copy(), np.arange(1, load("zoom_blur").severities[severity - 1], 0.01)
    for factor in factors:
        crops = [int(np.ceil(side / factor)) for side in shape]
        first = [(side - crop) // 2 for side, crop in zip(shape, crops, strict=True)]
        middle = single[first[0] : first[0] + crops[0], first[1] : first[1] + crops[1]]
        zoomed = scipy.ndimage.zoom(middle, factor, order=1)
        top, left = ((have - side) // 2 for have, side in zip(zoomed.shape, shape, strict=True))
        total += zoomed[top : top + shape[0], left : left + shape[1]]
    exact = total / (len(factors) + 1)
    assert_truncated(corrupt(batch, "zoom_blur", severity, seed=0)[1, 0], exact)


def test_a_zoom_by_one_is_the_identity_and_rows_of_all_zooms_sum_to_one() -> None:
    assert (zoom_matrix(9, 12, 1.0) != np.eye(108)).sum() == 0
    for factor in (1.07, 1.25, 1.75, 2.25):
        assert zoom_matrix(9, 12, factor).sum(axis=1) == pytest.approx(np.ones(108))


def test_a_zoom_magnifies_about_the_centre() -> None:
    ramp = np.broadcast_to(np.arange(64.0, dtype=np.float32), (1, 64, 64))
    zoomed = applied(zoom_matrix(64, 64, 2.0).astype(np.float32), ramp)
    middle = zoomed[0, 0]
    assert np.diff(middle) == pytest.approx(np.full(63, 31 / 63), abs=1e-5)
    assert middle.mean() == pytest.approx(31.5, abs=0.01)


def test_what_a_zoom_makes_too_large_is_cut_off_at_both_ends() -> None:
    ramp = np.broadcast_to(np.arange(32.0, dtype=np.float32), (1, 32, 32))
    zoomed = applied(zoom_matrix(32, 32, 2.25).astype(np.float32), ramp)
    # the 15 pixels from the ninth on become 34, of which the first and the last go
    assert zoomed[0, 0] == pytest.approx(8 + np.arange(1, 33) * 14 / 33, abs=1e-5)


def test_the_half_gaussian_falls_as_a_gaussian_and_ends_with_the_radius() -> None:
    weights = half_gaussian(6, 2)
    assert weights.sum() == pytest.approx(1)
    assert weights[3] / weights[0] == pytest.approx(np.exp(-9 / 8))
    assert len(half_gaussian(3, 100)) == 7
    assert half_gaussian(3, 100)[6] == pytest.approx(1 / 7, rel=0.01)


def test_zero_degrees_points_right_ninety_down_and_halves_round_down() -> None:
    rows, columns = steps(5, np.array([0.0, 90.0, 45.0, -45.0, -90.0, 60.0]))
    assert rows.tolist() == [
        [0] * 5,
        [0, 1, 2, 3, 4],
        [0, 1, 1, 2, 3],
        [0, -1, -1, -2, -3],
        [0, -1, -2, -3, -4],
        [0, 1, 2, 3, 3],
    ]
    assert columns[0].tolist() == [0, 1, 2, 3, 4]
    assert columns[4].tolist() == [0] * 5
    assert columns[5].tolist()[::2] == [0, 1, 2]


def test_motion_blur_is_the_sum_along_each_images_own_line() -> None:
    batch, degrees = images(3, 2, 7, 9), np.array([-33.0, 12.5, 101.0])
    blurred = motion_blurred(batch, 4, 2.5, degrees)
    weights = np.exp(-(np.arange(9) ** 2) / (2 * 2.5**2))
    for number, angle in enumerate(np.deg2rad(degrees)):
        for row in range(7):
            for column in range(9):
                total = 0.0
                for step, weight in enumerate(weights / weights.sum()):
                    below = min(max(row + int(np.ceil(step * np.sin(angle) - 0.5)), 0), 6)
                    right = min(max(column + int(np.ceil(step * np.cos(angle) - 0.5)), 0), 8)
                    total += weight * batch[number, 1, below, right]
                assert blurred[number, 1, row, column] == pytest.approx(total, abs=1e-3)


def test_directions_of_motion_are_uniform_over_ninety_degrees() -> None:
    points = np.zeros((400, 1, 41, 41), dtype=np.uint8)
    points[:, :, 20, 20] = 255
    streaks = corrupt(points, "motion_blur", 5, seed=0)[:, 0].astype(float)
    grid = np.arange(41) - 20
    down, right = (streaks * grid[:, None]).sum(axis=(1, 2)), (streaks * grid).sum(axis=(1, 2))
    angles = np.rad2deg(np.arctan2(-down, -right))  # light from a point spreads against the direction of the sum
    assert np.all(np.abs(angles) < 47)
    assert angles.std() == pytest.approx(90 / np.sqrt(12), rel=0.1)
    assert np.abs(angles.mean()) < 4 * 26 / np.sqrt(400)


def test_glass_blur_does_what_the_published_assignment_does_pixel_by_pixel() -> None:
    batch = images(3, 3, 12, 9)
    offsets = np.random.default_rng(0).integers(-1, 1, (2, 3, 12, 9), dtype=np.int8)
    expected = np.moveaxis(batch, 1, -1).copy()
    for number, image in enumerate(expected):
        for row in range(11, 1, -1):
            for column in range(8, 1, -1):
                down, right = offsets[:, number, row, column]
                here, there = (row, column), (row + down, column + right)
                image[here], image[there] = image[there], image[here]
    assert np.array_equal(displaced(batch, offsets, 1), np.moveaxis(expected, -1, 1))


def test_glass_blur_moves_colours_as_a_whole_and_leaves_the_edge() -> None:
    number = np.arange(30 * 20)
    coded = np.stack([number % 256, number // 256, number % 7]).reshape(1, 3, 30, 20).astype(np.uint8)
    glass = load("glass_blur").apply(coded, (0, 1, 1), np.random.default_rng(0)).astype(int)
    source = glass[0, 0] + 256 * glass[0, 1]
    down, right = np.divmod(source, 20) - np.stack(np.divmod(number, 20)).reshape(2, 30, 20)
    assert np.array_equal(source % 7, glass[0, 2])
    assert set(np.unique(down[2:, 2:])) == set(np.unique(right[2:, 2:])) == {-1, 0}
    assert not down[:2].any()
    assert not right[:, :2].any()
    assert down[2:, 2:].mean() == pytest.approx(-0.5, abs=4 * 0.5 / np.sqrt(504))


def test_glass_blur_with_a_larger_reach_is_refused_rather_than_wrong() -> None:
    assert {reach for _, reach, _ in load("glass_blur").severities} == {1}
    with pytest.raises(ValueError, match="reach 2"):
        displaced(images(1, 3, 9, 9), np.zeros((2, 1, 9, 9), dtype=np.int8), 2)
