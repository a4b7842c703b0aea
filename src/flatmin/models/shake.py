"""Shaken branches: coefficients drawn anew for every image, and others for the backward pass than for the forward.

Shake-Shake (Gastaldi 2017) mixes two residual branches with coefficients alpha and 1 - alpha, ShakeDrop (Yamada et al.
2018) multiplies one branch. Both draw an independent coefficient for the gradient. The gradient is then not that of the
loss; SAM's code therefore uses the *true gradient*, with the forward coefficients in both directions, where it looks
for the way up, and the shaken one at w + eps, with the same coefficients as at w. `flatmin.optim` does the same: it
sets `ShakeNoise.true_gradient` in the passes of the ascent, and rewinds `ShakeNoise.generator` for later ones.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class Coefficients(NamedTuple):
    """What a block multiplies its branch by, per image: tensors [n, 1, 1, 1] for the two directions."""

    forward: Tensor
    backward: Tensor


class ShakeNoise(nn.Module):
    """The coefficients of all blocks of a network, drawn once per forward pass.

    They come from a generator of its own on the CPU, so that they are the same on every device, and that no other
    layer's random numbers depend on how many blocks there are. It is seeded from torch's default generator when the
    network is made. Whoever resumes a training saves ``generator.get_state()`` beside the weights; replicas that shall
    shake apart seed it by their rank.

    Args:
        survival: of every block, the probability that its branch is left as it is in this pass. 0 for Shake-Shake.
        low: the smallest forward coefficient of a shaken branch; the largest is 1. Backward ones are between 0 and 1.

    Attributes:
        generator: where coefficients come from.
        true_gradient: whether backward coefficients are the forward ones.
    """

    def __init__(self, survival: list[float], low: float = 0.0) -> None:
        super().__init__()
        self.survival, self.low = survival, low
        self.generator = torch.Generator()
        self.generator.manual_seed(int(torch.randint(2**62, (), device="cpu")))
        self.true_gradient = False

    @property
    def expected(self) -> list[float]:
        """The mean forward coefficient of every block, which replaces it in evaluation mode."""
        middle = (self.low + 1) / 2
        return [p + (1 - p) * middle for p in self.survival]

    @torch.compiler.disable
    def forward(self, x: Tensor) -> list[Coefficients]:
        """Draw the coefficients of every block for images [n, ...], on their device."""
        survives, alpha, beta = torch.rand(3, len(self.survival), len(x), generator=self.generator)
        survives = (survives < torch.tensor(self.survival)[:, None]).to(alpha.dtype)
        alpha = self.low + (1 - self.low) * alpha
        forward = survives + alpha - survives * alpha
        backward = forward if self.true_gradient else survives + beta - survives * beta
        both = torch.stack([forward, backward])[..., None, None, None].to(x.device, non_blocking=True)
        return [Coefficients(*block) for block in both.unbind(1)]


def shaken(branch: Tensor, coefficients: Coefficients) -> Tensor:
    """Multiply a branch [n, c, h, w] by the forward coefficients, and its gradient by the backward ones."""
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
