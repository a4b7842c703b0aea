"""Fisher-SAM: the worst loss in a neighbourhood that the Fisher information shapes."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ..ascent import NeighborhoodAscent, Point, option
from ..displacement import Displacement
from ..geometry import euclidean_length, fisher_ball, fisher_metric


@dataclass(frozen=True)
class FisherAscent(NeighborhoodAscent):
    """Fisher-SAM: eps = rho F^-1 g / sqrt(g^T F^-1 g) with F = 1 + eta f, so that sqrt(eps^T F eps) = rho.

    Kim, Li, Hu, Hospedales (ICML 2022), https://arxiv.org/abs/2206.04920. f = g*g, the squared gradient of the batch's
    mean loss, stands for the diagonal of the Fisher information. So eta acts on the scale of g: where eta g*g is
    small everywhere, this is SAM. The paper's text could not be read; formula and defaults are those of a community
    implementation, and another one normalises by ||F^-1 g||_2 instead.

    Attributes:
        rho: radius of the neighbourhood, called gamma elsewhere.
        eta: weight of the Fisher information against the identity; at 0 this is SAM.
    """

    name: ClassVar[str] = "fisher"

    rho: float = option(0.1, introduced=0.1, at_least=0.0)
    eta: float = option(1.0, introduced=1.0, at_least=0.0)

    def perturbation(self, point: Point) -> Displacement:
        """Eps = rho F^-1 g / sqrt(g^T F^-1 g)."""
        return fisher_ball(point, self.eta)

    def length(self, point: Point, eps: list[Tensor]) -> Tensor:
        """sqrt(eps^T F eps)."""
        metric = fisher_metric(point, self.eta)
        return euclidean_length([e * f.sqrt() for e, f in zip(eps, metric, strict=True)])
