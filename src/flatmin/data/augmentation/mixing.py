"""MixUp and CutMix: images that are mixed with others of their batch, and the loss of their two labels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from flatmin.data.augmentation.boxes import cutmix_boxes, inside
from flatmin.data.augmentation.decisions import on, uniform


@dataclass(frozen=True)
class Targets:
    """What the network should say of the images of a batch.

    Attributes:
        labels: Int64 [n], of the images themselves.
        partners: Int64 [n], of the images that they are mixed with; None where nothing is mixed.
        shares: Float32 [n], lambda: how much of each is its own.
    """

    labels: Tensor
    partners: Tensor | None = None
    shares: Tensor | None = None

    def losses(self, logits: Tensor, part: slice | Tensor, label_smoothing: float = 0.0) -> Tensor:
        """Return lambda CE(logits, label) + (1 - lambda) CE(logits, partner's label) of some of the images.

        Cross-entropy is linear in the target, so that this is the loss for the mixed, smoothed, one-hot labels.

        Args:
            logits: Float32 [k, classes].
            part: Which k images of the batch they belong to.
            label_smoothing: The share of every target that is spread over all classes.

        Returns:
            Float32 [k].
        """
        own = functional.cross_entropy(logits, self.labels[part], label_smoothing=label_smoothing, reduction="none")
        if self.partners is None or self.shares is None:
            return own
        other = functional.cross_entropy(logits, self.partners[part], label_smoothing=label_smoothing, reduction="none")
        shares = self.shares[part]
        return shares * own + (1 - shares) * other


def mix(
    inputs: Tensor, labels: Tensor, *, mixup: float, cutmix: float, per_image: bool, generator: torch.Generator
) -> tuple[Tensor, Targets]:
    """Mix every image with another, which a random permutation of the batch assigns.

    MixUp (Zhang et al., ICLR 2018): lambda x + (1 - lambda) x', with lambda from Beta(``mixup``, ``mixup``).
    CutMix (Yun et al., ICCV 2019): a box of x' in x, whose share of the area is 1 - lambda, with lambda from
    Beta(``cutmix``, ``cutmix``); the labels' lambda goes by the part of the box that is inside the image. Where both
    are above 0, a fair coin decides.

    Args:
        inputs: Float32 [n, c, h, w], normalised (which is affine, so that mixing before would be the same but for
            rounding to grey levels); written to.
        labels: Int64 [n].
        mixup: Alpha of MixUp, 0 for none.
        cutmix: Alpha of CutMix, 0 for none.
        per_image: Whether lambda, coin and box are drawn for every image, or once for all.
        generator: Advanced by one permutation and 4 numbers, or 4 n.

    Returns:
        Inputs in the memory format of those given, and targets.
    """
    count, _, height, width = inputs.shape
    draws, device = count if per_image else 1, generator.device
    quantiles, coins = uniform((2, draws), generator)
    cut = coins < (0.5 if mixup and cutmix else float(cutmix > 0))
    kept = symmetric_beta(quantiles, torch.where(cut, cutmix, torch.full_like(coins, mixup)))
    boxes = cutmix_boxes(1 - kept, height, width, generator)
    partner = on(torch.randperm(count, generator=generator, device=device), inputs.device)

    cut, kept = on(cut, inputs.device).view(-1, 1, 1, 1), on(kept.float(), inputs.device).view(-1, 1, 1, 1)
    weights = torch.where(cut, 1 - inside(boxes, height, width, inputs.device), kept)
    shares = torch.where(cut, weights.mean(dim=(1, 2, 3), keepdim=True), kept).view(-1).expand(count)
    others = inputs.index_select(0, partner).mul_(1 - weights)
    return inputs.mul_(weights).add_(others), Targets(labels, labels[partner], shares)


def symmetric_beta(quantiles: Tensor, alphas: Tensor) -> Tensor:
    """Return the values of Beta(alpha, alpha) at these quantiles: float64 [k], on their device.

    From uniform numbers it makes random ones, a fixed number of draws each, which rejection sampling does not.
    """
    from scipy.special import betaincinv  # a third of a second, which runs that mix nothing need not wait for

    alpha = alphas.cpu().numpy()
    return torch.from_numpy(betaincinv(alpha, alpha, quantiles.cpu().numpy())).to(quantiles.device)
