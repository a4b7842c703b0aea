"""LookSAM: SAM's gradient every k steps, and what it added to the plain one in between."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..ascent import Memory, NeighborhoodAscent, Point, option
from ..displacement import Displacement
from ..geometry import ball, euclidean_length
from ..gradient import Gradient, inverse, measured_norm, orthogonal_part, scaled, shared


@dataclass(frozen=True)
class LookSamAscent(NeighborhoodAscent):
    """LookSAM: eps = rho g / ||g||_2 in every k-th step; in the others, g + alpha ||g|| g_v / ||g_v||.

    Liu, Mai, Chen, Hsieh, You (CVPR 2022), https://arxiv.org/abs/2203.02714. g_v is the part of SAM's gradient that is
    orthogonal to g, in the latest step that ascended (the first one does). Norms and products are over all parameters
    together, as the paper writes them (not read in full); two ports take them tensor by tensor.

    Attributes:
        rho: radius of SAM's ball.
        k: an ascent every so many steps: k + 1 gradients in k steps.
        alpha: length of the reused part, over the length of g.
    """

    name: ClassVar[str] = "looksam"
    keeps_clean_gradient: ClassVar[bool] = True
    remembers: ClassVar[bool] = True

    rho: float = option(0.1, introduced=0.1, at_least=0.0)
    k: int = option(5, introduced=5, at_least=1)
    alpha: float = option(0.7, introduced=0.7, at_least=0.0)

    @property
    def period(self) -> int:
        """K."""
        return self.k

    def perturbation(self, point: Point) -> Displacement:
        """Eps = rho g / ||g||."""
        return ball(point)

    def length(self, point: Point, eps: list[Tensor]) -> Tensor:
        """||eps||_2."""
        return euclidean_length(eps)

    def descent(self, clean: Gradient, sharp: Gradient, memory: Memory) -> None:
        """Descend along g_s, and keep g_v / ||g_v||; a g_v of zero stays zero."""
        parameters, (g, g_s) = shared(clean, sharp)
        g_v = orthogonal_part(g_s, to=g, norm=clean.total)
        norm = measured_norm(clean.loss, g_v).total
        memory.clear()
        memory.update(zip(parameters, scaled(g_v, inverse(norm)), strict=True))

    def without_ascent(self, clean: Gradient, memory: Memory) -> None:
        """G + alpha ||g|| g_v / ||g_v||."""
        known = [i for i, parameter in enumerate(clean.parameters) if parameter in memory]
        if known:
            g, unit = [clean.values[i] for i in known], [memory[clean.parameters[i]] for i in known]
            torch._foreach_add_(g, scaled(unit, self.alpha * clean.total))
