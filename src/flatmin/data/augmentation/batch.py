"""From the images of a batch to what the network sees and should say: all augmentation, in its order.

1. Crop of the padded image, and flip.
2. The policy, on grey levels.
3. Normalisation to float32.
4. Cutout, then random erasing: boxes of zeros, which after normalisation are the mean of the training images.
5. MixUp or CutMix, with the labels.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from flatmin.data.augmentation.boxes import cutout_boxes, erasing_boxes, inside
from flatmin.data.augmentation.crops import crop_and_flip
from flatmin.data.augmentation.mixing import Targets, mix
from flatmin.data.augmentation.operations import Repertoire, apply
from flatmin.data.augmentation.policies import Policy, autoaugment, randaugment, trivialaugment
from flatmin.data.errors import DataError

if TYPE_CHECKING:
    from flatmin.settings import Augmentation


def augmented_batch(
    images: Tensor,
    labels: Tensor,
    augmentation: Augmentation,
    generator: torch.Generator,
    normalise: Callable[[Tensor], Tensor],
) -> tuple[Tensor, Targets]:
    """Augment a batch, once for all passes of a step.

    Args:
        images: Uint8 [n, c, h, w], not changed.
        labels: Int64 [n].
        augmentation: What to do.
        generator: Advanced by an amount that depends on ``augmentation`` and n alone.
        normalise: From uint8 to a new float32 tensor, which is written to.

    Returns:
        What ``normalise`` returned, augmented, and the targets.

    Raises:
        DataError: The images are too small for ``pad``, or neither grey nor RGB where there is a policy.
    """
    inputs = normalise(augment(images, augmentation, generator))
    inputs = occlude(inputs, augmentation, generator)
    if augmentation.mixup == 0 and augmentation.cutmix == 0:
        return inputs, Targets(labels)
    return mix(
        inputs,
        labels,
        mixup=augmentation.mixup,
        cutmix=augmentation.cutmix,
        per_image=augmentation.mix_per == "image",
        generator=generator,
    )


def augment(images: Tensor, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    """Crop, flip, and apply the policy: what is done to grey levels.

    Args:
        images: Uint8 [n, c, h, w], not changed.
        augmentation: What to do.
        generator: Advanced as `crop_and_flip` and the policy say.

    Returns:
        Uint8 [n, c, h, w]; ``images`` itself where there is nothing to do.

    Raises:
        DataError: The images are too small for ``pad``, or neither grey nor RGB where there is a policy.
    """
    images = crop_and_flip(
        images, flip=augmentation.flip, pad=augmentation.pad, padding=augmentation.padding, generator=generator
    )
    if augmentation.policy == "none":
        return images
    count, channels, height, width = images.shape
    if channels not in (1, 3):
        raise DataError(
            f"augmentation.policy: {augmentation.policy} is for images of 1 or 3 channels, and these have {channels}",
            "Set policy: none.",
        )
    policy, repertoire = _prepared(
        augmentation.policy, augmentation.operations, augmentation.magnitude, height, width, images.device
    )
    # With a generator on the CPU nothing waits here; with one on the device the host must know what was decided
    for chosen in policy.draw(count, generator).cpu():
        images = apply(images, chosen, repertoire)
    return images


def occlude(inputs: Tensor, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    """Set boxes to zero: cutout, and random erasing.

    Args:
        inputs: Float32 [n, c, h, w], written to. Zero should be the mean, as after normalisation.
        augmentation: What to do.
        generator: Advanced as `cutout_boxes` and `erasing_boxes` say, where they are asked for.

    Returns:
        ``inputs``.
    """
    count, _, height, width = inputs.shape
    if augmentation.cutout:
        boxes = count if augmentation.cutout_per == "image" else 1
        _clear(inputs, cutout_boxes(boxes, augmentation.cutout, height, width, generator))
    if augmentation.erasing:
        _clear(inputs, erasing_boxes(count, augmentation.erasing, height, width, generator))
    return inputs


def _clear(inputs: Tensor, boxes: Tensor) -> None:
    height, width = inputs.shape[2:]
    # On a CPU multiplying is fifteen times as fast as filling where a mask says so
    inputs.mul_(1 - inside(boxes, height, width, inputs.device))


@lru_cache(maxsize=8)
def _prepared(
    name: str, operations: int, magnitude: int, height: int, width: int, device: torch.device
) -> tuple[Policy, Repertoire]:
    """Return a policy for images of one size, and what it needs on a device, made once."""
    match name:
        case "autoaugment":
            policy = autoaugment(height, width)
        case "randaugment":
            policy = randaugment(operations, magnitude, height, width)
        case _:
            policy = trivialaugment()
    return policy, Repertoire.of(policy.operations, height, width, device)
