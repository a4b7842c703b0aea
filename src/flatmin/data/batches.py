"""The order of an epoch, its batches, and their normalisation."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor


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
