"""Directions of ascent: argmax of <eps, g> over neighbourhoods of w of unit radius, and two that are none.

Groups share one norm and differ in their radii: eps_i = rho_i * (eps of unit radius)_i. Each geometry stands beside
the norm in which its eps has length rho.
"""

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from .ascent import Point
from .displacement import Displacement
from .gradient import inner, inverse, scaled, vector_norm


def ball(point: Point) -> Displacement:
    """Over ||eps||_2 <= rho, the norm taken over all parameters together: eps = rho g / ||g||."""
    return Displacement(point.gradients, point.radii, inverse(point.norm))


def cube(point: Point, scales: list[Tensor] | None = None) -> Displacement:
    """Over ||T^-1 eps||_inf <= rho with a diagonal T: eps = rho T sign(g); T = 1 where no ``scales`` are given."""
    signs = list(torch._foreach_sign(point.gradients))
    if scales is not None:
        torch._foreach_mul_(signs, scales)
    return Displacement(signs, point.radii)


def ellipsoid(point: Point, scales: list[Tensor]) -> Displacement:
    """Over ||T^-1 eps||_2 <= rho with a diagonal T: eps = rho T^2 g / ||T g||.

    Args:
        point: where the ascent starts.
        scales: the diagonal of T, entries >= 0, each tensor broadcasting to its parameter. eps is zero where T g is.
    """
    moderate = isinstance(point.norm, float) and 1e-9 < point.norm < 1e9
    # g / ||g|| in the place of g keeps T g far from the ends of the floating-point range
    start = point.gradients if moderate else scaled(point.gradients, inverse(point.norm))
    direction = list(torch._foreach_mul(start, scales))
    return Displacement(direction, point.radii, inverse(vector_norm(direction)), stretch=scales)


def fisher_ball(point: Point, eta: float) -> Displacement:
    """Over sqrt(eps^T F eps) <= rho with F = 1 + eta g*g: eps = rho F^-1 g / sqrt(g^T F^-1 g)."""
    metric = fisher_metric(point, eta)
    unit = scaled(point.gradients, inverse(point.norm))
    direction = list(torch._foreach_div(unit, metric))
    product = inner(unit, direction).sqrt()
    return Displacement(direction, point.radii, inverse(product.item() if product.is_cpu else product))


def fisher_metric(point: Point, eta: float) -> list[Tensor]:
    """The diagonal of F = 1 + eta f, with the squared batch gradient f = g*g in the place of the Fisher information."""
    metric = list(torch._foreach_mul(point.gradients, point.gradients))
    torch._foreach_mul_(metric, eta)
    torch._foreach_add_(metric, 1.0)
    return metric


def gradient_itself(point: Point) -> Displacement:
    """Over no neighbourhood: eps = rho g, whose length shrinks with the gradient."""
    return Displacement(point.gradients, point.radii)


def random_direction(point: Point) -> Displacement:
    """No maximiser of anything: eps = rho z / ||z||, with z normal and so z / ||z|| uniform on the sphere."""
    generators = point.generators()
    noise = [torch.empty_like(weight).normal_(generator=generators[weight.device]) for weight in point.weights]
    return Displacement(noise, point.radii, inverse(vector_norm(noise)))


def euclidean_length(eps: list[Tensor]) -> Tensor:
    """||eps||_2."""
    return get_total_norm(eps)


def largest_entry(eps: list[Tensor]) -> Tensor:
    """||eps||_inf."""
    return get_total_norm(eps, float("inf"))


def stretched(eps: list[Tensor], scales: list[Tensor]) -> list[Tensor]:
    """T^-1 eps, with 0 where T and eps are both 0."""
    return [torch.where(scale > 0, e / scale, e) for e, scale in zip(eps, scales, strict=True)]
