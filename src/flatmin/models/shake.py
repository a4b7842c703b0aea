"""Shaken branches: coefficients drawn anew for every image, and others for the backward pass than for the forward.

Shake-Shake (Gastaldi 2017) mixes two residual branches with coefficients alpha and 1 - alpha, ShakeDrop (Yamada et al.
2019) multiplies one branch. Both draw an independent coefficient for the gradient. The gradient is then not that of the
loss; SAM's code therefore uses the *true gradient*, with the forward coefficients in both directions, where it looks
for the way up, and the shaken one at w + eps, with the same coefficients as at w. `flatmin.optim` does the same: it
sets `ShakeNoise.true_gradient` in the passes of the ascent, and rewinds `ShakeNoise.generator` for later ones.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from flatmin.models.classifier import check_choice

FORWARD_NOISE = ("shake", "even")
BACKWARD_NOISE = ("shake", "even", "keep")
LEVELS = ("image", "batch")


class Coefficients(NamedTuple):
    """What a block multiplies its branch by, in each direction: [n, 1, 1, 1] per image, [1, 1, 1, 1] per batch."""

    forward: Tensor
    backward: Tensor


class ShakeNoise(nn.Module):
    """The coefficients of all blocks of a network, drawn once per forward pass.

    They come from a generator of its own on the CPU, so that they are the same on every device, and that no other
    layer's random numbers depend on how many blocks there are. It is seeded from torch's default generator when the
    network is made. Whoever resumes a training saves ``generator.get_state()`` beside the weights; replicas that shall
    shake apart seed it by their rank. A pass takes the same number of draws whatever the kinds of
    noise and ``true_gradient`` are.

    Args:
        survival: of every block, the probability that its branch is left as it is in this pass. 0 for Shake-Shake.
        low: the smallest forward coefficient of a shaken branch; the largest is 1. Backward ones are between 0 and 1.
        forward_noise: ``shake`` draws forward coefficients, ``even`` replaces them by their mean.
        backward_noise: ``shake`` draws backward coefficients, ``even`` replaces them by their mean, ``keep`` takes the
            forward ones.
        level: whether every ``image`` has coefficients of its own, or all of a ``batch`` share them.

    Attributes:
        generator: where coefficients come from.
        true_gradient: whether backward coefficients are the forward ones, whatever ``backward_noise`` says.

    Raises:
        ValueError: a survival is no probability, ``low`` is above 1, or another argument is none of the named.
    """

    def __init__(
        self,
        survival: Sequence[float],
        low: float = 0.0,
        forward_noise: str = "shake",
        backward_noise: str = "shake",
        level: str = "image",
    ) -> None:
        super().__init__()
        if not all(0 <= p <= 1 for p in survival):
            raise ValueError(f"survival holds probabilities between 0 and 1, got {list(survival)}")
        if low > 1:
            raise ValueError(f"low is at most 1, the largest forward coefficient, got {low}")
        check_choice("forward_noise", forward_noise, FORWARD_NOISE)
        check_choice("backward_noise", backward_noise, BACKWARD_NOISE)
        check_choice("level", level, LEVELS)
        self.survival, self.low = tuple(survival), low
        self.forward_noise, self.backward_noise, self.level = forward_noise, backward_noise, level
        self.generator = torch.Generator()
        self.generator.manual_seed(int(torch.randint(2**62, (), device="cpu")))
        self.true_gradient = False

    def forward(self, x: Tensor) -> list[Coefficients] | list[None]:
        """Draw every block's coefficients for images [n, ...], on their device; None for each in evaluation mode."""
        return self._draw(x) if self.training else [None] * len(self.survival)

    @torch.compiler.disable
    def _draw(self, x: Tensor) -> list[Coefficients]:
        images = len(x) if self.level == "image" else 1
        # Image by image, so that a batch in parts has the numbers of the whole. Device and type are named, for a
        # default of the caller's would change the numbers, or not fit the generator.
        drawn = torch.rand(images, 3, len(self.survival), generator=self.generator, device="cpu", dtype=torch.float32)
        survives, alpha, beta = drawn.permute(1, 2, 0)
        survives = survives < torch.tensor(self.survival, device="cpu")[:, None]
        alpha = alpha if self.forward_noise == "shake" else torch.full_like(alpha, 0.5)
        beta = beta if self.backward_noise == "shake" else torch.full_like(beta, 0.5)
        alpha = self.low + (1 - self.low) * alpha
        forward = torch.where(survives, 1.0, alpha)
        keeps = self.true_gradient or self.backward_noise == "keep"
        backward = forward if keeps else torch.where(survives, 1.0, beta)
        both = torch.stack([forward, backward])[..., None, None, None].to(x.device, non_blocking=True)
        return [Coefficients(*block) for block in both.unbind(1)]


def shaken(branch: Tensor, coefficients: Coefficients) -> Tensor:
    """Multiply a branch [n, c, h, w] by the forward coefficients, and its gradient by the backward ones.

    Higher derivatives are those of the shaken gradient. Forward-mode differentiation is refused: torch.compile does not
    take functions that define it.
    """
    return _Shaken.apply(branch, *coefficients)


class _Shaken(torch.autograd.Function):
    """Two products, and nothing of the branch's size to remember."""

    generate_vmap_rule = True

    @staticmethod
    def forward(branch: Tensor, forward: Tensor, backward: Tensor) -> Tensor:
        return branch * forward.to(branch.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[2])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (backward,) = ctx.saved_tensors
        return gradient * backward.to(gradient.dtype), None, None
