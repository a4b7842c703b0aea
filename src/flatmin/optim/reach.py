"""Which parameters an ascent may move, and how far each of them."""

from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor, nn

from .ascent import Ascent
from .layers import depth_factors, norm_parameters
from .parameters import Group
from .regime import Regime


class Reach:
    """The radius of every parameter: that of its group, times its factor of depth, and none where it may not move."""

    def __init__(self, ascent: Ascent, regime: Regime, names: Mapping[Tensor, str], module: nn.Module | None) -> None:
        """Note what the parameters are.

        Raises:
            ValueError: the regime moves norm layers alone, and there is no module, or it has none.
        """
        self._ascent = ascent
        self._depth = depth_factors(names, regime.depth) if regime.depth != 1 else {}
        self._only = _norm_layers(module) if regime.only == "norm" else None

    def of_groups(self, groups: Iterable[Group]) -> list[float]:
        """Rho of each group."""
        return [self._ascent.radius(group) for group in groups]

    def of(self, parameters: Sequence[Tensor], groups: Sequence[Group]) -> list[float]:
        """Rho of each parameter."""
        by_group = self.of_groups(groups)
        if len(by_group) == 1 and not self._depth:
            return by_group * len(parameters)
        radius = {p: rho for group, rho in zip(groups, by_group, strict=True) for p in group["params"]}
        return [radius[parameter] * self._depth.get(parameter, 1.0) for parameter in parameters]

    def movable(self, parameters: Sequence[Tensor]) -> list[int] | None:
        """The places of the parameters that may move; None where all may."""
        if self._only is None:
            return None
        return [i for i, parameter in enumerate(parameters) if parameter in self._only]


def _norm_layers(module: nn.Module | None) -> set[Tensor]:
    if module is None:
        raise ValueError("only = 'norm' must know which layers are norm layers: give the module")
    found = norm_parameters(module)
    if not found:
        raise ValueError("only = 'norm', and the model has no norm layer with parameters: take only = 'all'")
    return found
