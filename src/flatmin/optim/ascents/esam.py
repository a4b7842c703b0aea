"""ESAM: SAM on a random part of the weights, and on the samples that it matters to."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..ascent import NeighborhoodAscent, Point, option
from ..displacement import Displacement
from ..gradient import inverse
from ..options import share_of


@dataclass(frozen=True)
class EsamAscent(NeighborhoodAscent):
    """Efficient SAM: eps = rho b g / (beta ||g||_2) with random b, then the samples whose loss rose most.

    Du et al. (ICLR 2022), https://arxiv.org/abs/2110.03141. Stochastic weight perturbation: each weight joins with
    probability beta (b is 1 or 0), so that the mean of eps is SAM's. Sharpness-sensitive data selection: a forward
    pass of all images at w + eps, then the gradient there on the fraction gamma whose loss rose most. The authors'
    code draws one b per tensor, and ||g|| over the tensors that join; their paper was not read in full.
    Published (their scripts): beta 0.6, gamma 0.5 with rho 0.05 for ResNet-18; beta 0.5, gamma 0.5 with rho 0.1 for
    WRN-28-10 and 0.2 for PyramidNet. (Their classes' defaults, beta = gamma = 1, are SAM.)

    Attributes:
        rho: radius of SAM's ball.
        beta: the probability with which a weight joins the perturbation.
        gamma: the share of the samples in the second pass, at least one.
    """

    name: ClassVar[str] = "esam"
    draws: ClassVar[bool] = True

    rho: float = option(0.05, introduced=0.05, at_least=0.0)
    beta: float = option(0.6, introduced=0.6, above=0.0, at_most=1.0)
    gamma: float = option(0.5, introduced=0.5, above=0.0, at_most=1.0)

    @property
    def needs_losses(self) -> bool:
        """To compare samples, unless all of them are taken."""
        return self.gamma < 1

    @property
    def second_share(self) -> float:
        """Gamma."""
        return self.gamma

    def perturbation(self, point: Point) -> Displacement:
        """Eps = rho b g / (beta ||g||)."""
        scale = inverse(point.norm)
        if self.beta == 1:
            return Displacement(point.gradients, point.radii, scale)
        generators = point.generators()
        joining = [
            g * torch.empty_like(g).bernoulli_(self.beta, generator=generators[g.device]) for g in point.gradients
        ]
        return Displacement(joining, point.radii, scale / self.beta)

    def second_part(self, before: Tensor, after: Tensor) -> Tensor | None:
        """The samples whose loss rose most."""
        return (after - before).topk(share_of(len(before), self.gamma)).indices.sort().values
