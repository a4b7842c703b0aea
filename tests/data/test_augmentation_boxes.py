"""Boxes of cutout, random erasing and CutMix: their areas and places in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import chi2, kstest

from flatmin.data.augmentation.boxes import cutmix_boxes, cutout_boxes, erasing_boxes, inside
from flatmin.randomness import torch_generator

CPU = torch.device("cpu")


def generator(seed: int = 0) -> torch.Generator:
    return torch_generator(seed, "boxes")


def mean_length(size: int, side: int) -> float:
    """Mean length of what of a box is inside a line, when all pixels of the line are equally likely its centre's."""
    starts = [centre - side // 2 for centre in range(size)]
    return sum(min(start + side, size) - max(start, 0) for start in starts) / size


@pytest.mark.parametrize(("side", "height", "width"), [(16, 32, 32), (8, 32, 32), (5, 9, 20), (40, 32, 24)])
def test_the_mean_area_of_cutout_is_the_product_of_mean_lengths(side: int, height: int, width: int) -> None:
    count = 40_000
    areas = inside(cutout_boxes(count, side, height, width, generator()), height, width, CPU).sum(dim=(1, 2, 3))
    expected = mean_length(height, side) * mean_length(width, side)
    error = areas.double().std().item() / math.sqrt(count)
    assert areas.double().mean().item() == pytest.approx(expected, abs=4 * error)


def test_cutout_of_16_takes_a_fifth_of_an_image_of_32() -> None:
    """Not the quarter that 16 x 16 of 32 x 32 is: 14 of 16 pixels a side are inside in the mean."""
    assert mean_length(32, 16) == 14
    assert (mean_length(32, 16) / 32) ** 2 == pytest.approx(0.1914, abs=1e-4)


def test_every_pixel_is_a_centre_equally_often() -> None:
    boxes, count = cutout_boxes(64_000, 4, 8, 8, generator()), 64_000
    rows, columns = boxes[:, 0] + 2, boxes[:, 2] + 2
    seen = torch.bincount(rows * 8 + columns, minlength=64).double()
    assert len(seen) == 64
    assert chi2.sf(((seen - count / 64) ** 2 / (count / 64)).sum().item(), 63) > 1e-4


def test_the_sides_of_a_box_are_where_the_papers_code_has_them() -> None:
    boxes = cutout_boxes(1000, 6, 20, 30, generator())
    assert torch.equal(boxes[:, 1] - boxes[:, 0], torch.full((1000,), 6))
    assert torch.equal(boxes[:, 3] - boxes[:, 2], torch.full((1000,), 6))
    # three pixels before the centre's, which is a pixel of the image
    assert (boxes[:, 0].min().item(), boxes[:, 0].max().item()) == (-3, 16)
    assert (boxes[:, 2].min().item(), boxes[:, 2].max().item()) == (-3, 26)


def test_inside_is_the_box_by_hand() -> None:
    boxes = torch.tensor([[1, 3, 0, 2], [-2, 1, 3, 9], [2, 2, 0, 4]])
    expected = np.zeros((3, 1, 4, 5), dtype=np.float32)
    expected[0, 0, 1:3, 0:2] = 1
    expected[1, 0, 0:1, 3:5] = 1
    out = inside(boxes, 4, 5, CPU)
    assert out.dtype == torch.float32
    assert np.array_equal(out.numpy(), expected)


def test_erased_boxes_lie_inside_and_have_torchvision_s_areas_and_ratios() -> None:
    height, width, count = 400, 300, 20_000
    top, bottom, left, right = erasing_boxes(count, 1.0, height, width, generator()).T.double()
    assert bool(((top >= 0) & (bottom <= height) & (left >= 0) & (right <= width)).all())
    tall, wide = bottom - top, right - left
    # of those that are far from not fitting, where nothing was drawn anew
    shares, ratios = tall * wide / (height * width), tall / wide
    assert 0.019 < shares.min().item() < 0.021
    assert shares.max().item() == pytest.approx(0.33, abs=0.003)
    assert ratios.min().item() == pytest.approx(0.3, abs=0.02)
    assert ratios.max().item() == pytest.approx(3.3, abs=0.1)
    small = shares < 0.15  # a box of 15 % fits at every ratio
    assert kstest((shares[small].numpy() - 0.02) / 0.13, "uniform").pvalue > 1e-4
    logarithms = (ratios[small].log().numpy() - math.log(0.3)) / (math.log(3.3) - math.log(0.3))
    assert kstest(logarithms, "uniform").pvalue > 1e-4
    places = (top[small] / (height - tall[small])).numpy()
    assert kstest(places, "uniform").pvalue > 1e-4
    assert kstest((left[small] / (width - wide[small])).numpy(), "uniform").pvalue > 1e-4


def test_erasing_happens_with_its_probability_and_else_not_at_all() -> None:
    count = 10_000
    boxes = erasing_boxes(count, 0.3, 32, 32, generator())
    areas = inside(boxes, 32, 32, CPU).sum(dim=(1, 2, 3))
    erased = (areas > 0).double().mean().item()
    assert erased == pytest.approx(0.3, abs=4 * math.sqrt(0.21 / count))
    assert areas[areas > 0].min().item() >= 0.015 * 1024


def test_a_box_that_does_not_fit_is_drawn_anew() -> None:
    """In a wide image most boxes are too tall. How many come through ten tries tells how many were made."""
    numbers, count = np.random.default_rng(0), 20_000
    areas, logarithms = numbers.uniform(80, 1320, 10**6), numbers.uniform(math.log(0.3), math.log(3.3), 10**6)
    fits = np.mean(np.round(np.sqrt(areas * np.exp(logarithms))) < 20)  # of 20 x 200 pixels
    boxes = erasing_boxes(count, 1.0, 20, 200, generator())
    assert bool((boxes[:, 1] - boxes[:, 0] < 20).all())
    expected = 1 - (1 - fits) ** 10
    assert 0.9 < expected < 0.999
    found = (boxes[:, 1] > boxes[:, 0]).double().mean().item()
    assert found == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / count))


def test_where_no_box_fits_nothing_is_erased() -> None:
    boxes = erasing_boxes(500, 1.0, 1, 60, generator())
    assert torch.equal(boxes[:, 0], boxes[:, 1])


@pytest.mark.parametrize(("height", "width"), [(32, 32), (20, 48)])
def test_cutmix_boxes_have_the_image_s_shape_and_the_area_asked_for(height: int, width: int) -> None:
    areas = torch.tensor([0.0, 0.1, 0.5, 0.9, 1.0], dtype=torch.float64)
    top, bottom, left, right = cutmix_boxes(areas, height, width, generator()).T
    assert (bottom - top).tolist() == [int(height * math.sqrt(area)) for area in areas.tolist()]
    assert (right - left).tolist() == [int(width * math.sqrt(area)) for area in areas.tolist()]
