"""The published optimizers under their published names."""

from collections.abc import Callable, Iterable
from typing import Any, Literal

from torch import nn
from torch.optim import Optimizer

from .ascents.asam import AsamAscent
from .ascents.sam import SamAscent
from .step import SharpnessAware


class SAM(SharpnessAware):
    """Sharpness-Aware Minimization around any torch optimizer; see `SamAscent` and `SharpnessAware`.

    Example:
        >>> optimizer = SAM(model, torch.optim.SGD, rho=0.05, lr=0.1, momentum=0.9)
        >>> loss = optimizer.step(closure)
    """

    def __init__(
        self,
        model_or_params: nn.Module | Iterable[Any],
        base: Callable[..., Optimizer],
        rho: float = 0.05,
        *,
        clip_norm: float | None = None,
        module: nn.Module | None = None,
        **base_kwargs: Any,
    ) -> None:
        super().__init__(model_or_params, base, SamAscent(rho=rho), clip_norm=clip_norm, module=module, **base_kwargs)


class ASAM(SharpnessAware):
    """Adaptive SAM around any torch optimizer; see `AsamAscent` and `SharpnessAware`.

    Example:
        >>> optimizer = ASAM(model, torch.optim.SGD, rho=0.5, eta=0.01, lr=0.1, momentum=0.9)
        >>> loss = optimizer.step(closure)
    """

    def __init__(
        self,
        model_or_params: nn.Module | Iterable[Any],
        base: Callable[..., Optimizer],
        rho: float = 0.5,
        eta: float = 0.01,
        *,
        parameters: Literal["weights", "all"] = "weights",
        clip_norm: float | None = None,
        module: nn.Module | None = None,
        **base_kwargs: Any,
    ) -> None:
        ascent = AsamAscent(rho=rho, eta=eta, parameters=parameters)
        super().__init__(model_or_params, base, ascent, clip_norm=clip_norm, module=module, **base_kwargs)
