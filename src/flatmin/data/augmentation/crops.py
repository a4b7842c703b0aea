"""Random crops of padded images and horizontal flips, in one gather."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import pad as zero_pad

from flatmin.data.augmentation.decisions import integers, on
from flatmin.data.errors import DataError

Padding = Literal["reflect", "zero", "edge"]


def crop_and_flip(images: Tensor, *, flip: bool, pad: int, padding: Padding, generator: torch.Generator) -> Tensor:
    """Crop and flip every image at random, each on its own.

    With ``pad`` p, a window of the original size is taken from each image padded by p pixels on all sides, at one of
    (2 p + 1)^2 equally likely places. With ``flip``, half of the windows are mirrored left to right.

    Args:
        images: Uint8 [n, c, h, w], not changed.
        flip: Whether to flip.
        pad: Pixels on each side; 0 for no crop.
        padding: ``reflect`` mirrors about the edge pixel without repeating it, ``edge`` repeats it, ``zero`` is black.
        generator: Advanced by n numbers for the flips and 2 n for the crops, where they are asked for.

    Returns:
        Uint8 [n, c, h, w]; ``images`` itself where there is nothing to do.

    Raises:
        DataError: ``reflect`` needs p smaller than height and width.
    """
    if not flip and pad == 0:
        return images
    count, _, height, width = images.shape
    device = images.device
    rows = torch.arange(height, device=device).expand(count, height)
    columns = torch.arange(width, device=device).expand(count, width)
    if flip:
        flipped = on(integers(2, (count, 1), generator), device)
        columns = torch.where(flipped == 1, width - 1 - columns, columns)
    if pad:
        offsets = on(integers(2 * pad + 1, (2, count, 1), generator), device)
        rows, columns = rows + offsets[0], columns + offsets[1]
        if padding == "zero":
            images = zero_pad(images, (pad, pad, pad, pad))
        else:
            rows = _pixels_of_padded(height, pad, padding, device)[rows]
            columns = _pixels_of_padded(width, pad, padding, device)[columns]
    return _pick(images, rows, columns)


def _pixels_of_padded(size: int, pad: int, padding: Padding, device: torch.device) -> Tensor:
    """Map positions in a padded line, 0..size + 2 pad - 1, to the pixels 0..size - 1 that stand there."""
    place = torch.arange(-pad, size + pad, device=device)
    if padding == "edge":
        return place.clamp(0, size - 1)
    if pad >= size:
        raise DataError(
            f"augmentation.pad: {pad} reflects more than an image of {size} pixels has",
            f"Lower it to {size - 1}, or set padding: edge or zero.",
        )
    distance = place.abs()
    return torch.where(distance < size, distance, 2 * (size - 1) - distance)


def _pick(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return out[i, c, y, x] = images[i, c, rows[i, y], columns[i, x]]."""
    count, channels, _, width = images.shape
    places = (rows[:, :, None] * width + columns[:, None, :]).flatten(1)
    picked = images.flatten(2).gather(2, places[:, None].expand(-1, channels, -1))
    return picked.view(count, channels, rows.shape[1], columns.shape[1])
