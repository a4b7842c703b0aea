from __future__ import annotations

import colorsys
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import map_coordinates

from flatmin.data.corruptions.elastic_transform import affine_coordinates, pixel_grid, sampled, smooth_field
from flatmin.data.corruptions.registry import load
from flatmin.data.corruptions.suite import SEVERITIES, corrupt


def images(count: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (count, *shape), dtype=np.uint8)


def pictures(batch: np.ndarray) -> list[Image.Image]:
    return [Image.fromarray(image.transpose(1, 2, 0) if len(image) == 3 else image[0]) for image in batch]


def channels_first(picture: Image.Image) -> np.ndarray:
    array = np.asarray(picture)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_contrast_scales_about_each_channels_mean(severity: int) -> None:
    batch = images(3, 3, 10, 12)
    batch[:, 1] //= 4
    factor = load("contrast").severities[severity - 1]
    means = batch.mean(axis=(2, 3), keepdims=True)
    exact = factor * batch + (1 - factor) * means
    dull = corrupt(batch, "contrast", severity, seed=0)
    assert np.all((exact - dull < 1) & (exact - dull > -2e-3))


@pytest.mark.parametrize("severity", SEVERITIES)
def test_saturate_scales_the_saturation_of_hsv(severity: int) -> None:
    batch = images(2, 3, 9, 10)
    batch[0, :, 0] = 0
    batch[0, :, 1] = batch[0, :1, 1]
    batch[1, 1] = batch[1, 2]
    factor, added = load("saturate").severities[severity - 1]
    colourful = corrupt(batch, "saturate", severity, seed=0)
    for number, row, column in np.ndindex(2, 9, 10):
        hue, saturation, value = colorsys.rgb_to_hsv(*(batch[number, :, row, column] / 255))
        exact = 255 * np.array(colorsys.hsv_to_rgb(hue, min(saturation * factor + added, 1), value))
        assert np.all(exact - colourful[number, :, row, column] > -2e-3)
        assert np.all(exact - colourful[number, :, row, column] < 1)


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 20, 33), (3, 9, 8)])
@pytest.mark.parametrize("severity", SEVERITIES)
def test_pixelate_is_pillows_box_there_and_back(severity: int, shape: tuple[int, int, int]) -> None:
    batch = images(3, *shape)
    factor = load("pixelate").severities[severity - 1]
    _, height, width = shape
    coarse = corrupt(batch, "pixelate", severity, seed=0)
    for picture, result in zip(pictures(batch), coarse, strict=True):
        small = picture.resize((int(width * factor), int(height * factor)), Image.Resampling.BOX)
        assert np.array_equal(result, channels_first(small.resize((width, height), Image.Resampling.BOX)))


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 20, 33)])
@pytest.mark.parametrize("severity", SEVERITIES)
def test_jpeg_is_pillows_at_the_stated_quality(severity: int, shape: tuple[int, int, int]) -> None:
    batch = images(3, *shape)
    compressed = corrupt(batch, "jpeg_compression", severity, seed=0)
    for picture, result in zip(pictures(batch), compressed, strict=True):
        stream = BytesIO()
        picture.save(stream, "JPEG", quality=load("jpeg_compression").severities[severity - 1])
        assert np.array_equal(result, channels_first(Image.open(stream)))


def test_the_affine_map_takes_the_three_corners_to_where_they_moved() -> None:
    coordinates = affine_coordinates(5, 32, 41, 2.5, np.random.default_rng(0))
    assert np.diff(coordinates, n=2, axis=1) == pytest.approx(0, abs=1e-9)
    assert np.diff(coordinates, n=2, axis=2) == pytest.approx(0, abs=1e-9)
    shifts = np.random.default_rng(0).uniform(-2.5, 2.5, size=(5, 3, 2))
    corners = np.array([[30.0, 26.0], [30.0, 6.0], [10.0, 6.0]])  # a third of 32 around (20, 16)
    origin = coordinates[:, 0, 0]
    right, down = coordinates[:, 0, 1] - origin, coordinates[:, 1, 0] - origin
    for corner, shift in zip(corners, shifts.transpose(1, 0, 2), strict=True):
        moved = corner + shift
        assert origin + moved[:, :1] * right + moved[:, 1:] * down == pytest.approx(np.tile(corner, (5, 1)), abs=1e-9)


def test_elastic_severity_one_is_the_affine_map_alone() -> None:
    batch = images(4, 3, 32, 32)
    warped = load("elastic_transform").apply(batch, (0, 0, 0.08), np.random.default_rng(0))
    coordinates = affine_coordinates(4, 32, 32, 2.56, np.random.default_rng(0))
    where = [coordinates[1, ..., 1], coordinates[1, ..., 0]]
    exact = map_coordinates(batch[1, 2].astype(float), where, order=1, mode="mirror")
    assert np.abs(warped[1, 2] + 0.5 - exact).max() < 0.51


def test_without_shift_and_displacement_nothing_moves() -> None:
    batch = images(4, 3, 21, 32)
    assert np.array_equal(load("elastic_transform").apply(batch, (0, 0, 0), np.random.default_rng(0)), batch)


@pytest.mark.parametrize("outside", ["mirror", "reflect"])
def test_sampling_is_scipys_inside_and_outside(outside: str) -> None:
    generator = np.random.default_rng(0)
    values = generator.random((2, 3, 9, 12)).astype(np.float32)
    where = generator.uniform(-20, 30, (2, 9, 12, 2))
    result = sampled(values, where, outside)  # type: ignore[arg-type]
    exact = map_coordinates(values[1, 2].astype(float), [where[1, ..., 1], where[1, ..., 0]], order=1, mode=outside)
    assert result[1, 2] == pytest.approx(exact, abs=1e-5)


def test_the_field_has_the_variance_of_averaged_uniform_noise() -> None:
    sigma = 1.28
    field = smooth_field((200, 2, 32, 32), sigma, np.random.default_rng(0))
    bell = np.exp(-(np.arange(-4, 5) ** 2) / (2 * sigma**2))  # three deviations, rounded
    bell /= bell.sum()
    middle = field[..., 8:24, 8:24]  # the edges repeat what they reflect
    assert abs(middle.mean()) < 0.01
    assert middle.std() == pytest.approx(np.sqrt(1 / 3) * np.sum(bell**2), rel=0.02)


def test_displacements_scale_with_the_shorter_side() -> None:
    ramp = np.broadcast_to(np.linspace(0, 255, 96), (30, 1, 64, 96)).astype(np.uint8)
    displaced = load("elastic_transform").apply(ramp, (0.1, 0, 0), np.random.default_rng(0)).astype(float)
    pixels = (displaced - ramp)[..., 20:76] * 95 / 255
    assert pixels.std() == pytest.approx(6.4 / np.sqrt(3), rel=0.02)
    assert np.abs(pixels).max() < 6.4 + 0.5
    assert pixel_grid(2, 3)[1, 2].tolist() == [2, 1]
