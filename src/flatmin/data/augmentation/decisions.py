"""The random decisions of a batch: drawn on the generator's device, used on that of the images.

How many numbers are drawn depends on the settings and the number of images, never on what the images show. A generator
on the CPU makes the same decisions whatever device trains, and nothing waits for that device.
"""

from __future__ import annotations

import torch
from torch import Tensor


def integers(high: int, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Return int64 numbers from 0 to ``high`` - 1, equally likely, on the generator's device."""
    return torch.randint(high, shape, generator=generator, device=generator.device)


def uniform(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Return float64 numbers, uniform on [0, 1), on the generator's device."""
    return torch.rand(shape, generator=generator, device=generator.device, dtype=torch.float64)


def on(tensor: Tensor, device: torch.device) -> Tensor:
    """Return ``tensor`` on ``device``, without waiting for the device where the numbers come from the host."""
    # The other way a copy that is not waited for could be read before it is there
    return tensor.to(device, non_blocking=tensor.device.type == "cpu")
