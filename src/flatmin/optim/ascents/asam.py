"""ASAM: the worst loss in a neighbourhood that grows with the weights."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ..ascent import NeighborhoodAscent, Point, option
from ..displacement import Displacement
from ..geometry import cube, ellipsoid, euclidean_length, largest_entry, stretched


@dataclass(frozen=True)
class AsamAscent(NeighborhoodAscent):
    """Adaptive SAM: eps = rho T_w^2 g / ||T_w g||_2, so that ||T_w^-1 eps||_2 = rho.

    Kwon, Kim, Park, Choi (ICML 2021), https://arxiv.org/abs/2102.11600, with element-wise T_w
    as in the authors' code.
    Published: rho 0.5 on CIFAR-10, 1.0 on CIFAR-100 and ImageNet, eta 0.01.

    Attributes:
        rho: radius of the neighbourhood, in units of T_w: about ten times the rho of SAM.
        eta: added to the size of the weights, so that a weight at zero can move.
        parameters: which tensors T_w scales. ``weights``, the authors' rule: those with "weight" in their name (norm
            layers' too); T_w is one elsewhere, which leaves biases a Euclidean ball. ``all``, the rule of widely
            used ports (with eta 0): every tensor, which pins a bias near zero to its place. These are two methods:
            a rho tuned for one does not transfer to the other.
        norm: ``l2``; or ``linf``, eps = rho T_w sign(g), so that ||T_w^-1 eps||_inf = rho.
        unit: what T_w measures the size of. ``element``: |w| + eta for every single weight, as published results
            have it. ``filter``: the norm of a weight's filter (the slice along the first dimension; of a vector,
            the entry) plus eta. ``layer``: the norm of its whole tensor plus eta (SAM-ON's code multiplies by
            1 + eta there).
    """

    name: ClassVar[str] = "asam"

    rho: float = option(0.5, introduced=0.5, at_least=0.0)
    eta: float = option(0.01, introduced=0.01, at_least=0.0)
    parameters: Literal["weights", "all"] = option("weights", introduced="weights", choices=("weights", "all"))
    norm: Literal["l2", "linf"] = option("l2", introduced="l2", choices=("l2", "linf"))
    unit: Literal["element", "filter", "layer"] = option(
        "element", introduced="element", choices=("element", "filter", "layer")
    )

    @property
    def needs_names(self) -> bool:
        """The authors' rule tells weights from biases by name."""
        return self.parameters == "weights"

    def perturbation(self, point: Point) -> Displacement:
        """The maximiser of <eps, g> over the neighbourhood."""
        return (ellipsoid if self.norm == "l2" else cube)(point, self.scales(point))

    def length(self, point: Point, eps: list[Tensor]) -> Tensor:
        """||T_w^-1 eps||."""
        measure = euclidean_length if self.norm == "l2" else largest_entry
        return measure(stretched(eps, self.scales(point)))

    def scales(self, point: Point) -> list[Tensor]:
        """The diagonal of T_w, each tensor broadcasting to its parameter."""
        scales = self._sizes(point.weights)
        torch._foreach_add_(scales, self.eta)
        if self.parameters == "weights":
            for scale, name in zip(scales, point.names, strict=True):
                if "weight" not in name:
                    scale.fill_(1.0)
        return scales

    def _sizes(self, weights: list[Tensor]) -> list[Tensor]:
        match self.unit:
            case "element":
                return list(torch._foreach_abs(weights))
            case "layer":
                return list(torch._foreach_norm(weights))
            case _:
                return [_filter_norms(weight) for weight in weights]


def _filter_norms(weight: Tensor) -> Tensor:
    if weight.dim() < 2:
        return weight.abs()
    return torch.linalg.vector_norm(weight, dim=tuple(range(1, weight.dim())), keepdim=True)
