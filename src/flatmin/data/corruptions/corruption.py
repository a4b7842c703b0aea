"""What a corruption of images is: its name, its five strengths, and what it does to a batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]
"""A batch of images, [n, c, h, w], c being 1 (grey) or 3 (RGB)."""

Apply = Callable[[Images, Any, np.random.Generator], Images]
"""From images, one of the severities' constants, and the source of all randomness, to corrupted images."""


@dataclass(frozen=True, kw_only=True)
class Corruption:
    """One way in which test images go bad (Hendrycks and Dietterich, ICLR 2019, arXiv:1903.12261).

    Its name is also that of the module that defines it.

    Attributes:
        name: As in the file names of CIFAR-10-C.
        title: As in a table.
        family: The paper's four kinds.
        severities: The published constants for 32 x 32 images, from severity 1 to severity 5; what they mean stands in
            the docstring of the module.
        apply: Corrupts a batch. It draws from the generator alone and leaves its input as it is.
    """

    name: str
    title: str
    family: Literal["noise", "blur", "weather", "digital"]
    severities: tuple[Any, Any, Any, Any, Any]
    apply: Apply
