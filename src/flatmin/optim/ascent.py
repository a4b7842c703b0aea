"""What an ascent is: the first half of a sharpness-aware step, from w to the perturbed w + eps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from .displacement import Displacement
from .gradient import Gradient, Scalar
from .options import check_options, option, require_in_range

__all__ = ["Ascent", "Memory", "NeighborhoodAscent", "Point", "option"]

Memory = dict[Tensor, Tensor]
"""What a method keeps from one step to the next: a tensor per parameter, of the parameter's shape."""


@dataclass(frozen=True, slots=True)
class Point:
    """Where an ascent starts: the weights w and the gradient g of the clean pass.

    The lists run in parallel, one entry per parameter that may move and received a gradient.
    """

    weights: list[Tensor]
    gradients: list[Tensor]
    radii: list[float]
    """rho of each parameter."""
    norm: Scalar
    """||g||_2 over these gradients: finite, and above zero unless the device has not said so yet."""
    names: Sequence[str] = ()
    """Dotted names of the parameters; filled for ascents with `Ascent.needs_names`."""
    seed: int = 0
    """Another one in every step."""

    def generators(self) -> dict[torch.device, torch.Generator]:
        """A generator for each device that the weights are on, in a state that depends on the seed alone."""
        devices = dict.fromkeys(weight.device for weight in self.weights)
        return {device: torch.Generator(device).manual_seed(self.seed) for device in devices}


@dataclass(frozen=True)
class Ascent:
    """From w to w + eps. Subclasses are frozen dataclasses whose fields, made by `option`, are their options.

    This base class stays where it is. An ascent says how far it goes (`radius`), where to (`perturbation`), and what
    becomes of the two gradients (`descent`); passes, norm statistics, restoring and skipping are the step's, and how
    often, on which parameters and on which images it is put to use is the regime's (`flatmin.optim.regime.Regime`).
    """

    name: ClassVar[str]
    """The name of the module that defines it."""
    keeps_clean_gradient: ClassVar[bool] = False
    """Whether `descent` needs g: it is then held in memory during the second pass."""
    remembers: ClassVar[bool] = False
    """Whether it keeps tensors between steps; they are saved with the optimizer's state."""
    draws: ClassVar[bool] = False
    """Whether `perturbation` draws random numbers, from `Point.generators`."""

    def __init_subclass__(cls) -> None:
        """Refuse a subclass whose methods would never be called.

        Raises:
            TypeError: it overrides `descent` and does not keep the clean gradient, or `without_ascent` and does not
                remember.
        """
        super().__init_subclass__()
        for method, flag in (("descent", "keeps_clean_gradient"), ("without_ascent", "remembers")):
            if getattr(cls, method) is not getattr(Ascent, method) and not getattr(cls, flag):
                raise TypeError(f"{cls.__name__} defines {method}(), which is called only where {flag} = True: set it")

    def __post_init__(self) -> None:
        """Check every option against the range that its field declares.

        Raises:
            ValueError: names the option, its value and what is allowed.
        """
        check_options(self, self.name)

    @property
    def needs_names(self) -> bool:
        """Whether the rule goes by the parameters' names."""
        return False

    @property
    def needs_losses(self) -> bool:
        """Whether the closure must return the losses of the single samples, for `second_part`."""
        return False

    @property
    def period(self) -> int:
        """Every how many steps it ascends."""
        return 1

    @property
    def second_share(self) -> float:
        """The share of the images on which the second pass computes its gradient."""
        return 1.0

    def radius(self, group: Mapping[str, Any]) -> float:
        """How far the parameters of a param group may move. Zero in every group: the step is the base's."""
        return 0.0

    def perturbation(self, point: Point) -> Displacement:
        """eps, for the parameters of ``point``.

        Must not change the tensors in ``point`` and should not wait for the device.
        """
        raise NotImplementedError

    def length(self, point: Point, eps: list[Tensor]) -> Tensor | None:
        """The length of ``eps`` in the norm in which `perturbation` makes it rho; None where it has no such norm.

        A declaration: no step asks for it, and the tests hold every ascent to it.
        """
        return None

    def second_part(self, before: Tensor, after: Tensor) -> Tensor | None:
        """Which samples the second pass is on: indices, or None for all of them.

        Asked where `needs_losses`, with the samples' losses at w and at w + eps.
        """
        return None

    def descent(self, clean: Gradient, sharp: Gradient, memory: Memory) -> None:
        """Change the gradient at w + eps, in place, into the direction to descend along.

        Called where `keeps_clean_gradient`.
        """

    def without_ascent(self, clean: Gradient, memory: Memory) -> None:
        """Change the gradient at w, in place, in the steps between two ascents (see `period`).

        Called where the method `remembers` something.
        """


@dataclass(frozen=True)
class NeighborhoodAscent(Ascent):
    """An ascent to the edge of a neighbourhood of radius rho. A param group may carry a ``rho`` of its own."""

    rho: float

    def radius(self, group: Mapping[str, Any]) -> float:
        """The group's own rho, or else the ascent's.

        Raises:
            ValueError: the group's rho is negative or not finite.
        """
        if "rho" not in group:
            return self.rho
        require_in_range("rho of a param group", group["rho"], at_least=0.0)
        return group["rho"]
