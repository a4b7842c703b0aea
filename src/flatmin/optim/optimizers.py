"""The published optimizers under their published names.

Each takes a module (or what torch optimizers take), the class of a base optimizer, the method's own settings, and the
base's. ``common`` below stands for what `SharpnessAware` offers besides: ``regime``, ``clip_norm``, ``l2``,
``micro_batch``, ``scaler``, ``perturbation``, ``module``, ``seed``.
"""

from collections.abc import Callable, Iterable
from typing import Any, Literal

from torch import nn
from torch.optim import Optimizer

from .ascents.asam import AsamAscent
from .ascents.esam import EsamAscent
from .ascents.fisher import FisherAscent
from .ascents.gsam import GsamAscent
from .ascents.looksam import LookSamAscent
from .ascents.sam import SamAscent
from .step import SharpnessAware

Trained = nn.Module | Iterable[Any]
Base = Callable[..., Optimizer]


class SAM(SharpnessAware):
    """Sharpness-Aware Minimization around any torch optimizer; see `SamAscent` and `SharpnessAware`.

    Example:
        >>> optimizer = SAM(model, torch.optim.SGD, rho=0.05, lr=0.1, momentum=0.9)
        >>> loss = optimizer.step(closure)
    """

    def __init__(
        self,
        model_or_params: Trained,
        base: Base,
        rho: float = 0.05,
        *,
        norm: Literal["l2", "linf", "none"] = "l2",
        **common: Any,
    ) -> None:
        super().__init__(model_or_params, base, SamAscent(rho=rho, norm=norm), **common)


class ASAM(SharpnessAware):
    """Adaptive SAM around any torch optimizer; see `AsamAscent` and `SharpnessAware`.

    Example:
        >>> optimizer = ASAM(model, torch.optim.SGD, rho=0.5, eta=0.01, lr=0.1, momentum=0.9)
        >>> loss = optimizer.step(closure)
    """

    def __init__(
        self,
        model_or_params: Trained,
        base: Base,
        rho: float = 0.5,
        eta: float = 0.01,
        *,
        parameters: Literal["weights", "all"] = "weights",
        norm: Literal["l2", "linf"] = "l2",
        unit: Literal["element", "filter", "layer"] = "element",
        **common: Any,
    ) -> None:
        ascent = AsamAscent(rho=rho, eta=eta, parameters=parameters, norm=norm, unit=unit)
        super().__init__(model_or_params, base, ascent, **common)


class FisherSAM(SharpnessAware):
    """Fisher-SAM around any torch optimizer; see `FisherAscent` and `SharpnessAware`."""

    def __init__(self, model_or_params: Trained, base: Base, rho: float = 0.1, eta: float = 1.0, **common: Any) -> None:
        super().__init__(model_or_params, base, FisherAscent(rho=rho, eta=eta), **common)


class LookSAM(SharpnessAware):
    """LookSAM around any torch optimizer; see `LookSamAscent` and `SharpnessAware`."""

    def __init__(
        self, model_or_params: Trained, base: Base, rho: float = 0.1, k: int = 5, alpha: float = 0.7, **common: Any
    ) -> None:
        super().__init__(model_or_params, base, LookSamAscent(rho=rho, k=k, alpha=alpha), **common)


class GSAM(SharpnessAware):
    """GSAM around any torch optimizer; see `GsamAscent` and `SharpnessAware`, and `RhoScheduler` for its rho."""

    def __init__(
        self, model_or_params: Trained, base: Base, rho: float = 0.05, alpha: float = 0.4, **common: Any
    ) -> None:
        super().__init__(model_or_params, base, GsamAscent(rho=rho, alpha=alpha), **common)


class ESAM(SharpnessAware):
    """ESAM around any torch optimizer; see `EsamAscent` and `SharpnessAware`.

    Example:
        >>> def closure(part):
        ...     optimizer.zero_grad()
        ...     losses = cross_entropy(model(inputs[part]), targets[part], reduction="none")
        ...     if torch.is_grad_enabled():
        ...         losses.mean().backward()
        ...     return losses
        >>> loss = optimizer.step(closure, size=len(inputs))
    """

    def __init__(
        self,
        model_or_params: Trained,
        base: Base,
        rho: float = 0.05,
        beta: float = 0.6,
        gamma: float = 0.5,
        **common: Any,
    ) -> None:
        super().__init__(model_or_params, base, EsamAscent(rho=rho, beta=beta, gamma=gamma), **common)
