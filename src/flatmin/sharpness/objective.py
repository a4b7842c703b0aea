"""The loss whose sharpness is measured: the mean over a fixed set of samples, as a function of the weights."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from flatmin.evaluation.modes import evaluation_mode

SampleLoss = Callable[[Tensor, Tensor], Tensor]

cross_entropy: SampleLoss = partial(functional.cross_entropy, reduction="none")


@dataclass(frozen=True)
class Objective:
    """L(w) = mean of the loss over all the given samples, in evaluation mode and without autocast.

    Batch norm uses its running statistics: L is a function of the weights, not of how samples fall into batches.
    Value and gradient are those of the full set, accumulated over batches. Gradients are returned, never left in
    ``.grad``. On a GPU, convolutions and products of float32 are computed in float32, not TF32.

    Attributes:
        model: in float32 or float64; what it trains (``requires_grad``) is w.
        images: uint8 [n, c, h, w].
        labels: class indices [n].
        batch_size: samples per pass; matters for memory and speed only.
        transform: turns a batch of uint8 images on the model's device into the model's input.
        loss: maps logits [b, k] and labels [b] to one loss per sample [b].
    """

    model: nn.Module
    images: Tensor
    labels: Tensor
    batch_size: int
    transform: Callable[[Tensor], Tensor]
    loss: SampleLoss = cross_entropy

    def __post_init__(self) -> None:
        """Check the arguments.

        Raises:
            ValueError: no samples, not one label per image, a batch size below 1, or a model that trains nothing or
                has half-precision weights.
        """
        if len(self.images) == 0 or len(self.images) != len(self.labels):
            raise ValueError(f"need as many labels as images, got {len(self.labels)} and {len(self.images)}")
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")
        if not self.parameters:
            raise ValueError("the model has no parameter that requires a gradient")
        half = {parameter.dtype for parameter in self.parameters} - {torch.float32, torch.float64}
        if half:
            raise ValueError(f"sharpness needs float32 or float64 weights, got {', '.join(map(str, half))}")

    @cached_property
    def parameters(self) -> list[nn.Parameter]:
        """The parameters that make up w, each once."""
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    def value(self) -> float:
        """Return L(w)."""
        with self._exact(), torch.no_grad():
            return sum(float(losses.double().sum()) for losses in self._losses()) / len(self.images)

    def value_and_gradient(self) -> tuple[float, list[Tensor]]:
        """Return L(w) and its gradient, one tensor per parameter."""
        total = 0.0
        gradient = [torch.zeros_like(parameter) for parameter in self.parameters]
        with self._exact(), torch.enable_grad():
            for losses in self._losses():
                total += float(losses.detach().double().sum())
                part = torch.autograd.grad(losses.sum(), self.parameters, allow_unused=True, materialize_grads=True)
                torch._foreach_add_(gradient, list(part))
        n = len(self.images)
        return total / n, [tensor / n for tensor in gradient]

    def _losses(self) -> Iterator[Tensor]:
        """Yield the per-sample losses of each batch."""
        device = self.parameters[0].device
        batches = zip(self.images.split(self.batch_size), self.labels.split(self.batch_size), strict=True)
        for images, labels in batches:
            losses = self.loss(self.model(self.transform(images.to(device))), labels.to(device))
            if losses.shape != labels.shape:
                raise ValueError(f"loss must return one value per sample [{len(labels)}], got {list(losses.shape)}")
            yield losses

    @contextmanager
    def _exact(self) -> Iterator[None]:
        device = self.parameters[0].device.type
        precision = without_tf32() if device == "cuda" else nullcontext()
        with evaluation_mode(self.model), torch.autocast(device, enabled=False), precision:
            yield


@contextmanager
def without_tf32() -> Iterator[None]:
    """Compute float32 convolutions and matrix products on a GPU in float32: TF32 keeps 10 bits of the mantissa."""
    convolution, product = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = convolution, product
