"""Random perturbation: the control that asks whether the gradient's direction matters."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ..ascent import NeighborhoodAscent, Point, option
from ..displacement import Displacement
from ..geometry import euclidean_length, random_direction


@dataclass(frozen=True)
class RandomAscent(NeighborhoodAscent):
    """A control for SAM: eps = rho z / ||z||_2 with a direction uniform on the sphere, anew in every step.

    It has SAM's two passes, though z needs no gradient, so that it differs from SAM in the direction alone.
    Andriushchenko and Flammarion (2022), https://arxiv.org/abs/2206.06232, find that such noise helps little; their
    code draws it with a fixed standard deviation instead of a fixed length.

    Attributes:
        rho: length of eps, as SAM's.
    """

    name: ClassVar[str] = "random"
    draws: ClassVar[bool] = True

    rho: float = option(0.05, introduced=0.05, at_least=0.0)

    def perturbation(self, point: Point) -> Displacement:
        """Eps = rho z / ||z||."""
        return random_direction(point)

    def length(self, point: Point, eps: list[Tensor]) -> Tensor:
        """||eps||_2."""
        return euclidean_length(eps)
