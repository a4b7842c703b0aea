"""Worst directions of a linearised loss over neighbourhoods of w: argmax of <eps, g> under a constraint on eps.

Groups share one norm and differ in their radii: eps_i = rho_i * (unit-radius eps)_i.
"""

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from .ascent import Point


def ball(point: Point) -> tuple[Tensor, ...]:
    """Over ||eps||_2 <= rho, the norm taken over all parameters together: eps = rho g / ||g||."""
    return torch._foreach_mul(point.gradients, [radius / point.norm for radius in point.radii])


def ellipsoid(point: Point, scales: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Over ||T^-1 eps||_2 <= rho with a diagonal T: eps = rho T^2 g / ||T g||.

    Args:
        point: where the ascent starts.
        scales: the diagonal of T, shaped like the parameters, entries >= 0. eps is zero where T g vanishes.
    """
    # starting from g / ||g|| keeps T g far from the ends of the floating-point range, and its norm on the device
    scaled = torch._foreach_mul(point.gradients, 1 / point.norm)
    torch._foreach_mul_(scaled, scales)
    inverse_norm = get_total_norm(scaled).reciprocal().nan_to_num(nan=torch.nan, posinf=0.0)
    torch._foreach_mul_(scaled, scales)
    torch._foreach_mul_(scaled, inverse_norm)
    torch._foreach_mul_(scaled, point.radii)
    return scaled
