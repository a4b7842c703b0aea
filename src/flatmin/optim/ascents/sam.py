"""SAM: the worst loss in a ball."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from ..ascent import NeighborhoodAscent, Point, option
from ..displacement import Displacement
from ..geometry import ball, cube, euclidean_length, gradient_itself, largest_entry


@dataclass(frozen=True)
class SamAscent(NeighborhoodAscent):
    """Sharpness-Aware Minimization: eps = rho g / ||g||_2, the norm over all parameters together.

    Foret, Kleiner, Mobahi, Neyshabur (ICLR 2021), https://arxiv.org/abs/2010.01412, equation 2.
    Published: rho 0.05 by default, 0.1 on CIFAR-100 and under label noise (0.05 again at 80 %).

    Attributes:
        rho: radius of the ball, in the units of the weights.
        norm: of the ball. ``l2``: the paper's p = 2. ``linf``: p = inf, eps = rho sign(g), whose Euclidean length is
            rho times the root of the number of weights, so that rho is far smaller. ``none``: the un-normalised
            eps = rho g, in no ball at all (Andriushchenko, Flammarion 2022, https://arxiv.org/abs/2206.06232;
            their training code clips it to length rho, this does not).
    """

    name: ClassVar[str] = "sam"

    rho: float = option(0.05, introduced=0.05, at_least=0.0)
    norm: Literal["l2", "linf", "none"] = option("l2", introduced="l2", choices=("l2", "linf", "none"))

    def perturbation(self, point: Point) -> Displacement:
        """The maximiser of <eps, g> over the ball."""
        return {"l2": ball, "linf": cube, "none": gradient_itself}[self.norm](point)

    def length(self, point: Point, eps: list[Tensor]) -> Tensor | None:
        """||eps||_2, ||eps||_inf, or none."""
        measure = {"l2": euclidean_length, "linf": largest_entry}.get(self.norm)
        return None if measure is None else measure(eps)
