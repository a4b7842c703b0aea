"""How large a network is, in the two numbers that papers print: parameters, and multiply-adds of one image."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

FLOPS_PER_MULTIPLY_ADD = 2
"""torch counts the multiplication and the addition; what papers on networks call a FLOP is often the pair."""


def parameter_count(model: nn.Module) -> int:
    """Return the number of parameters; the statistics of batch norms are none."""
    return sum(parameter.numel() for parameter in model.parameters())


def multiply_adds(model: nn.Module, image_shape: Sequence[int]) -> int:
    """Return the multiply-adds of one image's forward pass in evaluation mode.

    Counted are convolutions and matrix products, which attention consists of too; biases, norms, activations, pooling
    and shortcuts without weights are not. A model on the meta device is counted without being computed.

    Args:
        model: maps images [n, c, h, w] to anything; its mode is left as it was.
        image_shape: (c, h, w).
    """
    was_training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model(torch.zeros(1, *image_shape, device=_device(model)))
    finally:
        for module, training in was_training.items():
            module.training = training
    return counter.get_total_flops() // FLOPS_PER_MULTIPLY_ADD


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters(), Tensor()).device
