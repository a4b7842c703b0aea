"""Impulse noise: salt and pepper, as from bit errors. The constant is the fraction of values that are lost."""

from __future__ import annotations

import numpy as np

from flatmin.data.corruptions.corruption import Corruption, Images


def apply(images: Images, amount: float, generator: np.random.Generator) -> Images:
    """Set each channel of each pixel, with probability ``amount``, to 0 or 255, which are equally likely.

    Channels go separately, as in the paper's images: in colour, salt and pepper are coloured too.
    """
    draw = generator.random(images.shape, dtype=np.float32)
    noisy = images.copy()
    noisy[draw < amount] = 255
    noisy[draw < amount / 2] = 0
    return noisy


CORRUPTION = Corruption(
    name="impulse_noise",
    title="Impulse noise",
    family="noise",
    severities=(0.01, 0.02, 0.03, 0.05, 0.07),
    apply=apply,
)
