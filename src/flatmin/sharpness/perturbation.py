"""Moving weights by a perturbation and putting them back, and the few vector operations that takes.

A perturbation is one tensor per parameter, together one vector in the space of all weights.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

Perturbation = list[Tensor]


@contextmanager
def perturbed(parameters: Sequence[Tensor], perturbation: Sequence[Tensor]) -> Iterator[None]:
    """Set the parameters to w + eps, and back to w at the end, bit for bit, whatever happened in between.

    Args:
        parameters: w; their storage stays the same.
        perturbation: eps, one tensor per parameter.
    """
    originals = [parameter.detach().clone() for parameter in parameters]
    try:
        with torch.no_grad():
            for parameter, step in zip(parameters, perturbation, strict=True):
                parameter.add_(step)
        yield
    finally:
        with torch.no_grad():
            for parameter, original in zip(parameters, originals, strict=True):
                parameter.copy_(original)


def norm(tensors: Sequence[Tensor]) -> float:
    """Return the l2 norm of the tensors taken as one vector, accumulated in float64."""
    return math.sqrt(sum(float(tensor.double().square().sum()) for tensor in tensors))


def scaled(tensors: Sequence[Tensor], factor: float) -> Perturbation:
    """Return factor * tensors, the product taken in float64: 1 / ||g|| may be out of float32's range."""
    return [(tensor.double() * factor).to(tensor.dtype) for tensor in tensors]


def added(first: Sequence[Tensor], second: Sequence[Tensor]) -> Perturbation:
    """Return first + second."""
    return [a + b for a, b in zip(first, second, strict=True)]


def projected(tensors: Sequence[Tensor], radius: float) -> Perturbation:
    """Return the nearest vector of l2 norm at most ``radius``."""
    length = norm(tensors)
    return list(tensors) if length <= radius else scaled(tensors, radius / length)
