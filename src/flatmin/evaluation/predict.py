"""Logits of a model on a set of images."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from flatmin.evaluation.modes import evaluation_mode

PREDICTION_BATCH = 1000
"""Images per forward pass outside of training. In the code and not a setting: it must not change a result."""


def predict(
    model: nn.Module,
    images: Tensor,
    *,
    batch_size: int,
    transform: Callable[[Tensor], Tensor],
    autocast: torch.dtype | None = None,
    memory_format: torch.memory_format = torch.contiguous_format,
) -> Tensor:
    """Return the logits of ``model`` in evaluation mode.

    Args:
        model: maps floating-point images to logits; its parameters say on which device to compute.
        images: uint8 [n, c, h, w], on any device.
        batch_size: images per forward pass.
        transform: turns a batch of uint8 images, already on the model's device, into the model's input (scaling,
            normalisation).
        autocast: lower precision to compute in (``torch.bfloat16``), None for the model's own.
        memory_format: layout of the input, ``torch.channels_last`` for models in that layout.

    Returns:
        Logits [n, num_classes] on the CPU, in float32, or float64 if the model computes in it.

    Raises:
        ValueError: no images, images of another type or shape, or a batch size below 1.
    """
    _check(images, batch_size)
    device = next((parameter.device for parameter in model.parameters()), images.device)
    logits = []
    with evaluation_mode(model), torch.inference_mode():
        for batch in images.split(batch_size):
            inputs = transform(batch.to(device)).contiguous(memory_format=memory_format)
            with torch.autocast(device.type, dtype=autocast, enabled=autocast is not None):
                outputs = model(inputs)
            logits.append(outputs.cpu())
    result = torch.cat(logits)
    return result if result.dtype == torch.float64 else result.float()


def _check(images: Tensor, batch_size: int) -> None:
    if images.dtype != torch.uint8 or images.ndim != 4:
        raise ValueError(f"images must be uint8 [n, c, h, w], got {images.dtype} {list(images.shape)}")
    if len(images) == 0:
        raise ValueError("there are no images to predict")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
