"""No ascent: the method is the base optimizer."""

from dataclasses import dataclass
from typing import ClassVar

from ..ascent import Ascent


@dataclass(frozen=True)
class NoAscent(Ascent):
    """eps = 0: one pass, then the base optimizer's own step (SGD, Adam, ...), to the bit.

    The guard against non-finite gradients, clipping and the counters are those of every other method.
    """

    name: ClassVar[str] = "none"
