"""Which parameters belong to norm layers, and how deep in the network a parameter is."""

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

_NORM_LAYERS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def norm_parameters(module: nn.Module) -> set[Tensor]:
    """The parameters of norm layers: torch's classes, and any layer whose class is named so (``Norm`` in it)."""
    return {
        parameter
        for layer in module.modules()
        if isinstance(layer, _NORM_LAYERS) or "norm" in type(layer).__name__.lower()
        for parameter in layer.parameters(recurse=False)
    }


def depth_factors(names: Mapping[Tensor, str], ratio: float) -> dict[Tensor, float]:
    """A factor on rho per parameter, linear in its layer's place and of mean 1 over layers.

    A layer is what owns parameters: a convolution's weight and bias share theirs.

    Args:
        names: of the parameters, in the order of the network.
        ratio: the factor of the last layer over that of the first.
    """
    owners = {parameter: name.rpartition(".")[0] for parameter, name in names.items()}
    place = {owner: i for i, owner in enumerate(dict.fromkeys(owners.values()))}
    last = max(1, len(place) - 1)
    first_factor = 2 / (1 + ratio) if len(place) > 1 else 1.0
    return {p: first_factor * (1 + (ratio - 1) * place[owner] / last) for p, owner in owners.items()}
