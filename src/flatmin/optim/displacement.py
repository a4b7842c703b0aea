"""eps as directions and factors, so that a scaled copy of a gradient need not be made to add it to the weights."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .gradient import Scalar


@dataclass(frozen=True, slots=True)
class Displacement:
    """eps_i = scale * radius_i * direction_i, times stretch_i entry by entry if there is one.

    Attributes:
        directions: a tensor per parameter, of the parameter's shape.
        radii: a factor per parameter.
        scale: one factor for all of them; a tensor with no dimension where only the device knows it.
        stretch: a tensor per parameter that broadcasts to it.
    """

    directions: list[Tensor]
    radii: Sequence[float]
    scale: Scalar = 1.0
    stretch: list[Tensor] | None = None

    def add_to(self, parameters: list[Tensor], share: float = 1.0) -> None:
        """Move the parameters by ``share`` times eps."""
        directions, factor = self.directions, share
        if isinstance(self.scale, Tensor):
            directions = list(torch._foreach_mul(directions, self.scale.to(directions[0].dtype)))
        else:
            factor *= self.scale
        for radius, members in self._by_radius().items():
            moved, along = [parameters[i] for i in members], [directions[i] for i in members]
            if self.stretch is None:
                torch._foreach_add_(moved, along, alpha=factor * radius)
            else:
                torch._foreach_addcmul_(moved, along, [self.stretch[i] for i in members], value=factor * radius)

    def tensors(self) -> list[Tensor]:
        """Eps itself, one tensor per parameter."""
        eps = [torch.zeros_like(direction) for direction in self.directions]
        self.add_to(eps)
        return eps

    def _by_radius(self) -> dict[float, list[int]]:
        if len(set(self.radii)) == 1 and self.radii[0]:
            return {self.radii[0]: list(range(len(self.radii)))}
        members: dict[float, list[int]] = defaultdict(list)
        for i, radius in enumerate(self.radii):
            if radius:
                members[radius].append(i)
        return members
