"""Named randomness: one generator per purpose, each derived from a run's seed and the purpose's name.

SGD, SAM and ASAM at seed k see the same initial weights, batches, augmentations and noisy labels, because none of
them draws from a generator that another purpose has advanced. Paired comparison rests on it.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def derived_seed(seed: int, *purpose: str | int) -> int:
    """Return a 63-bit seed that depends on ``seed`` and on every word of ``purpose``.

    The first eight bytes of SHA-256 over the words: equal on every platform and Python version, and unrelated for
    neighbouring seeds.
    """
    words = "\x1f".join([str(seed), *map(str, purpose)])
    return int.from_bytes(hashlib.sha256(words.encode()).digest()[:8], "big") >> 1


def numpy_generator(seed: int, *purpose: str | int) -> np.random.Generator:
    """Return numpy's PCG64 generator for a purpose, for work done once on the host (label noise, subsets)."""
    return np.random.Generator(np.random.PCG64(derived_seed(seed, *purpose)))


def torch_generator(seed: int, *purpose: str | int, device: str | torch.device = "cpu") -> torch.Generator:
    """Return a torch generator for a purpose on ``device``, for work done in every step (order, augmentation)."""
    import torch  # the planning commands use the functions above and must not wait for torch

    return torch.Generator(device=device).manual_seed(derived_seed(seed, *purpose))
