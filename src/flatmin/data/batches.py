"""From a uint8 tensor of images to the batches of a step, without touching single images in Python.

Random numbers are drawn on the generator's device and used on that of the images. A generator on the CPU gives the same
orders and augmentations whatever device trains.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import pad as zero_pad

if TYPE_CHECKING:
    from flatmin.settings import Augmentation


def epoch_order(size: int, generator: torch.Generator) -> Tensor:
    """Return a random order of ``size`` images, int64 [size], on the generator's device."""
    return torch.randperm(size, generator=generator, device=generator.device)


def index_batches(order: Tensor, batch_size: int, *, start: int = 0) -> Iterator[Tensor]:
    """Yield the batches of an epoch as slices of its ``order``.

    Args:
        order: Int64 [n].
        batch_size: Images per batch; the last may have fewer.
        start: How many batches to pass over, for an epoch that is resumed.
    """
    for first in range(start * batch_size, len(order), batch_size):
        yield order[first : first + batch_size]


def augment(images: Tensor, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    """Flip and crop every image at random, each on its own.

    With ``flip``, half of the images are mirrored left to right. With ``pad`` p, a window of the original size is taken
    from each image padded by p pixels on all sides, at one of (2 p + 1)^2 equally likely places; ``reflect`` mirrors
    about the edge pixel without repeating it, ``zero`` fills with black.

    Args:
        images: Uint8 [n, c, h, w], not changed.
        augmentation: What to do.
        generator: Advanced by n numbers for the flips and 2 n for the crops, where they are asked for.

    Returns:
        Uint8 [n, c, h, w]; ``images`` itself where there is nothing to do.

    Raises:
        ValueError: ``reflect`` needs p smaller than height and width.
    """
    if not augmentation.flip and augmentation.pad == 0:
        return images
    count, _, height, width = images.shape
    pad, device = augmentation.pad, images.device
    rows = torch.arange(height, device=device).expand(count, height)
    columns = torch.arange(width, device=device).expand(count, width)
    if augmentation.flip:
        flipped = torch.randint(2, (count, 1), generator=generator, device=generator.device).to(device)
        columns = torch.where(flipped == 1, width - 1 - columns, columns)
    if pad:
        offsets = torch.randint(2 * pad + 1, (2, count, 1), generator=generator, device=generator.device).to(device)
        rows, columns = rows + offsets[0], columns + offsets[1]
        if augmentation.padding == "zero":
            images = zero_pad(images, (pad, pad, pad, pad))
        else:
            rows, columns = _reflected(height, pad, device)[rows], _reflected(width, pad, device)[columns]
    return _pick(images, rows, columns)


def _reflected(size: int, pad: int, device: torch.device) -> Tensor:
    """Map positions in a reflected line, 0..size + 2 pad - 1, to the pixels 0..size - 1 that stand there."""
    if pad >= size:
        raise ValueError(f"augmentation.pad: {pad} reflects more than an image of {size} pixels has; lower it")
    distance = torch.arange(-pad, size + pad, device=device).abs()
    return torch.where(distance < size, distance, 2 * (size - 1) - distance)


def _pick(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return out[i, c, y, x] = images[i, c, rows[i, y], columns[i, x]]."""
    count, channels = images.shape[:2]
    # Whole rows first, since copying a row costs no more than looking it up; then the columns within them
    image = torch.arange(count, device=images.device)[:, None, None]
    channel = torch.arange(channels, device=images.device)[:, None]
    picked = images[image, channel, rows[:, None, :]]
    return picked.gather(3, columns[:, None, None, :].expand(-1, channels, rows.shape[1], -1))


def normalise(
    images: Tensor, mean: Tensor, std: Tensor, *, memory_format: torch.memory_format = torch.contiguous_format
) -> Tensor:
    """Return (images / 255 - mean) / std as float32 [n, c, h, w] in ``memory_format``.

    Args:
        images: Uint8 [n, c, h, w].
        mean: Float32 [c], of pixels divided by 255.
        std: Float32 [c], likewise.
        memory_format: Contiguous or channels last.
    """
    scale = (1 / (255 * std)).view(-1, 1, 1)
    shift = (mean / std).view(-1, 1, 1)
    return images.to(torch.float32, memory_format=memory_format).mul_(scale).sub_(shift)
