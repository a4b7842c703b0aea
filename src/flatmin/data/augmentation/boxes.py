"""Boxes: cutout, random erasing, and the box of CutMix."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from flatmin.data.augmentation.decisions import integers, on, uniform

ERASED_AREA = (0.02, 0.33)
"""Least and greatest share of the image that random erasing takes."""
ERASED_RATIO = (0.3, 3.3)
"""Least and greatest ratio of height to width."""
TRIES = 10
"""Boxes that random erasing draws until one fits."""


def cutout_boxes(count: int, side: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    """Return squares around pixels that are all equally likely, so that they may reach beyond the image.

    DeVries and Taylor (2017). Of an even side s, s / 2 pixels lie before the centre's and s / 2 - 1 after it, as in
    their code.

    Args:
        count: How many.
        side: In pixels.
        height: Of the image.
        width: Of the image.
        generator: Advanced by 2 ``count`` numbers.

    Returns:
        Int64 [count, 4] on the generator's device: top, bottom, left, right, first pixel inside and first behind.
    """
    sides = torch.full((count,), side, device=generator.device)
    return _around_pixels(sides, sides, height, width, generator)


def cutmix_boxes(areas: Tensor, height: int, width: int, generator: torch.Generator) -> Tensor:
    """Return boxes of the image's shape and the share ``areas`` of its area, around equally likely pixels.

    Yun et al. (ICCV 2019), with the sides rounded down to whole pixels.

    Args:
        areas: Float64 [k], on the generator's device.
        height: Of the image.
        width: Of the image.
        generator: Advanced by 2 k numbers.

    Returns:
        Int64 [k, 4], as of `cutout_boxes`.
    """
    heights, widths = ((size * areas.sqrt()).long() for size in (height, width))
    return _around_pixels(heights, widths, height, width, generator)


def erasing_boxes(count: int, probability: float, height: int, width: int, generator: torch.Generator) -> Tensor:
    """Return boxes within the image, of random area and shape; empty ones with probability 1 - ``probability``.

    Zhong et al. (AAAI 2020) with torchvision's ranges: 2 to 33 % of the area, and a ratio of height to width of 0.3 to
    3.3, uniform in its logarithm. A box that does not fit is drawn anew, up to ten times; then there is none.

    Args:
        count: How many.
        probability: That there is a box.
        height: Of the image.
        width: Of the image.
        generator: Advanced by 23 ``count`` numbers.

    Returns:
        Int64 [count, 4], as of `cutout_boxes`.
    """
    shares, shapes = uniform((2, TRIES, count), generator)
    top, left, asked = uniform((3, count), generator)
    areas = height * width * (ERASED_AREA[0] + (ERASED_AREA[1] - ERASED_AREA[0]) * shares)
    low, high = map(math.log, ERASED_RATIO)
    ratios = torch.exp(low + (high - low) * shapes)
    heights, widths = (areas * ratios).sqrt().round().long(), (areas / ratios).sqrt().round().long()
    fits = (heights < height) & (widths < width)
    first = fits.long().argmax(0, keepdim=True)
    there = fits.any(0) & (asked < probability)
    tall, wide = heights.gather(0, first)[0] * there, widths.gather(0, first)[0] * there
    top, left = (top * (height - tall + 1)).long(), (left * (width - wide + 1)).long()
    return torch.stack((top, top + tall, left, left + wide), dim=1)


def inside(boxes: Tensor, height: int, width: int, device: torch.device) -> Tensor:
    """Return 1 where a pixel lies in its image's box and 0 elsewhere: float32 [k, 1, h, w] on ``device``."""
    top, bottom, left, right = on(boxes, device)[:, :, None].unbind(1)
    rows, columns = torch.arange(height, device=device), torch.arange(width, device=device)
    in_rows, in_columns = (rows >= top) & (rows < bottom), (columns >= left) & (columns < right)
    # Products of float32 are made eight at a time, those of bool one by one
    return in_rows.float()[:, None, :, None] * in_columns.float()[:, None, None, :]


def _around_pixels(heights: Tensor, widths: Tensor, height: int, width: int, generator: torch.Generator) -> Tensor:
    count = len(heights)
    top = integers(height, (count,), generator) - heights // 2
    left = integers(width, (count,), generator) - widths // 2
    return torch.stack((top, top + heights, left, left + widths), dim=1)
