"""SAM: the worst loss in a Euclidean ball."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ..ascent import NeighborhoodAscent, Point, option
from ..geometry import ball


@dataclass(frozen=True)
class SamAscent(NeighborhoodAscent):
    """Sharpness-Aware Minimization: eps = rho g / ||g||_2, the norm over all parameters together.

    Foret, Kleiner, Mobahi, Neyshabur (ICLR 2021), https://arxiv.org/abs/2010.01412, equation 2 with p = 2.
    Published: rho 0.05 by default, 0.1 on CIFAR-100 and under label noise (0.05 again at 80 %).

    Attributes:
        rho: radius of the ball, in the units of the weights.
    """

    name: ClassVar[str] = "sam"

    rho: float = option(0.05, introduced=0.05, at_least=0.0)

    def perturbation(self, point: Point) -> tuple[Tensor, ...]:
        """Eps = rho g / ||g||."""
        return ball(point)
