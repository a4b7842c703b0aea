"""Networks whose backward pass is not the gradient of their loss, and where the true gradient is wanted instead.

Shake-Shake and ShakeDrop multiply branches by other random numbers on the way back than on the way there. Along such a
gradient the loss need not grow, so SAM's official code climbs along the true one, with the forward numbers in both
directions, and shakes only the gradient to descend along. A module takes part by an attribute ``true_gradient``, a
bool that it looks at in its forward pass.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


def shaking_modules(module: nn.Module | None) -> list[nn.Module]:
    """The modules in a module that have an attribute ``true_gradient``."""
    modules = () if module is None else module.modules()
    return [inner for inner in modules if isinstance(getattr(inner, "true_gradient", None), bool)]


@contextmanager
def true_gradient(module: nn.Module | None) -> Iterator[None]:
    """Inside, forward passes of a module are those whose backward pass is the gradient of the loss."""
    with set_true(shaking_modules(module)):
        yield


@contextmanager
def set_true(modules: list[nn.Module]) -> Iterator[None]:
    """Inside, ``true_gradient`` of some modules is True."""
    before = [module.true_gradient for module in modules]
    try:
        for module in modules:
            module.true_gradient = True  # type: ignore[assignment]
        yield
    finally:
        for module, value in zip(modules, before, strict=True):
            module.true_gradient = value
