"""GSAM: SAM's gradient, less the part of the plain one that it lacks."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..ascent import Memory, NeighborhoodAscent, Point, option
from ..displacement import Displacement
from ..geometry import ball, euclidean_length
from ..gradient import Gradient, orthogonal_part, shared


@dataclass(frozen=True)
class GsamAscent(NeighborhoodAscent):
    """Surrogate gap guided SAM: eps = rho g / ||g||_2, then along g_s - alpha g_perp.

    Zhuang et al. (ICLR 2022), https://arxiv.org/abs/2203.08065. g_perp is the part of g that is orthogonal to g_s, over
    all parameters together: to descend against it lowers the perturbed loss minus the loss, and leaves the perturbed
    loss alone to first order.
    Published (table 4): ViT-B/16 alpha 0.4, rho from 0.6 down to 0.2; ResNet-50 alpha 0.01, rho from 0.04 to 0.02.
    rho follows the learning rate: in a study ``rho_schedule: lr`` and ``rho_end`` (0.33 for ViT-B/16), elsewhere
    `RhoScheduler`.

    Attributes:
        rho: radius of SAM's ball, at the largest learning rate.
        alpha: weight of g_perp; at 0 this is SAM.
    """

    name: ClassVar[str] = "gsam"
    keeps_clean_gradient: ClassVar[bool] = True

    rho: float = option(0.05, introduced=0.05, at_least=0.0)
    alpha: float = option(0.4, introduced=0.4, at_least=0.0)

    def perturbation(self, point: Point) -> Displacement:
        """Eps = rho g / ||g||."""
        return ball(point)

    def length(self, point: Point, eps: list[Tensor]) -> Tensor:
        """||eps||_2."""
        return euclidean_length(eps)

    def descent(self, clean: Gradient, sharp: Gradient, memory: Memory) -> None:
        """G_s - alpha g_perp."""
        _, (g, g_s) = shared(clean, sharp)
        torch._foreach_add_(g_s, orthogonal_part(g, to=g_s, norm=sharp.total), alpha=-self.alpha)
