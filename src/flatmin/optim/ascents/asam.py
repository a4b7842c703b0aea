"""ASAM: the worst loss in a neighbourhood that grows with each weight."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ..ascent import NeighborhoodAscent, Point, option
from ..geometry import ellipsoid


@dataclass(frozen=True)
class AsamAscent(NeighborhoodAscent):
    """Adaptive SAM: eps = rho T_w^2 g / ||T_w g||_2, so that ||T_w^-1 eps||_2 = rho.

    Kwon, Kim, Park, Choi (ICML 2021), https://arxiv.org/abs/2102.11600, with element-wise T_w
    as in the authors' code.
    Published: rho 0.5 on CIFAR-10, 1.0 on CIFAR-100 and ImageNet, eta 0.01.

    Attributes:
        rho: radius of the neighbourhood, in units of T_w: about ten times the rho of SAM.
        eta: added to |w|, so that a weight at zero can move.
        parameters: which tensors T_w scales. ``weights``, the authors' rule: |w| + eta in every tensor with
            "weight" in its name (norm layers' too), one elsewhere, which leaves biases a Euclidean ball.
            ``all``, the rule of widely used ports (with eta 0): |w| + eta everywhere, which pins a bias near zero
            to its place. These are two methods: a rho tuned for one does not transfer to the other.
    """

    name: ClassVar[str] = "asam"

    rho: float = option(0.5, introduced=0.5, at_least=0.0)
    eta: float = option(0.01, introduced=0.01, at_least=0.0)
    parameters: Literal["weights", "all"] = option("weights", introduced="weights", choices=("weights", "all"))

    @property
    def needs_names(self) -> bool:
        """The authors' rule tells weights from biases by name."""
        return self.parameters == "weights"

    def perturbation(self, point: Point) -> tuple[Tensor, ...]:
        """Eps = rho T^2 g / ||T g||."""
        return ellipsoid(point, self._scales(point))

    def _scales(self, point: Point) -> tuple[Tensor, ...]:
        """The diagonal of T_w."""
        scales = torch._foreach_abs(point.parameters)
        torch._foreach_add_(scales, self.eta)
        if self.parameters == "weights":
            for scale, name in zip(scales, point.names, strict=True):
                if "weight" not in name:
                    scale.fill_(1.0)
        return scales
