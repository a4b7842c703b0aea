"""Evaluation mode, entered and left without a trace."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Put the model in evaluation mode and give every module its own mode back at the end, whatever happened.

    A module can be in another mode than its parent (a frozen batch norm, say), so ``model.train()`` would not do.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
