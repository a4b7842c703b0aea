"""The policies: which operations an image gets, and how strong they are.

AutoAugment (Cubuk et al., CVPR 2019) in its CIFAR-10 policy, RandAugment (Cubuk et al., NeurIPS 2020), and
TrivialAugment (Müller and Hutter, ICCV 2021) in its wide space, with the ranges and levels of
`torchvision.transforms.v2`. There one decision holds for all images of a batch; here every image has its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from flatmin.data.augmentation.decisions import integers, uniform
from flatmin.data.augmentation.operations import IDENTITY, SIGNED, Operation

Magnitudes = tuple[float, ...]
"""Of an operation, by level; ``(0.0,)`` where it has none."""

CIFAR10: tuple[tuple[tuple[str, float, int], tuple[str, float, int]], ...] = (
    (("Invert", 0.1, 0), ("Contrast", 0.2, 6)),
    (("Rotate", 0.7, 2), ("TranslateX", 0.3, 9)),
    (("Sharpness", 0.8, 1), ("Sharpness", 0.9, 3)),
    (("ShearY", 0.5, 8), ("TranslateY", 0.7, 9)),
    (("AutoContrast", 0.5, 0), ("Equalize", 0.9, 0)),
    (("ShearY", 0.2, 7), ("Posterize", 0.3, 7)),
    (("Color", 0.4, 3), ("Brightness", 0.6, 7)),
    (("Sharpness", 0.3, 9), ("Brightness", 0.7, 9)),
    (("Equalize", 0.6, 0), ("Equalize", 0.5, 0)),
    (("Contrast", 0.6, 7), ("Sharpness", 0.6, 5)),
    (("Color", 0.7, 7), ("TranslateX", 0.5, 8)),
    (("Equalize", 0.3, 0), ("AutoContrast", 0.4, 0)),
    (("TranslateY", 0.4, 3), ("Sharpness", 0.2, 6)),
    (("Brightness", 0.9, 6), ("Color", 0.2, 8)),
    (("Solarize", 0.5, 2), ("Invert", 0.0, 0)),
    (("Equalize", 0.2, 0), ("AutoContrast", 0.6, 0)),
    (("Equalize", 0.2, 0), ("Equalize", 0.6, 0)),
    (("Color", 0.9, 9), ("Equalize", 0.6, 0)),
    (("AutoContrast", 0.8, 0), ("Solarize", 0.2, 8)),
    (("Brightness", 0.1, 3), ("Color", 0.7, 0)),
    (("Solarize", 0.4, 5), ("AutoContrast", 0.9, 0)),
    (("TranslateY", 0.9, 9), ("TranslateY", 0.7, 9)),
    (("AutoContrast", 0.9, 0), ("Solarize", 0.8, 3)),
    (("Equalize", 0.8, 0), ("Invert", 0.1, 0)),
    (("TranslateY", 0.7, 9), ("AutoContrast", 0.9, 0)),
)
"""The 25 sub-policies for CIFAR-10: two operations, each with probability and level (0 where it has no magnitude)."""

AUTO_LEVELS, LEVELS = 10, 31


@dataclass(frozen=True)
class Policy:
    """A policy for images of one size.

    Attributes:
        operations: All that it may do to an image in one go.
        draw: Decides for n images: from n and a generator to int64 [steps, n], indices into ``operations``, on the
            generator's device. Steps follow one another.
    """

    operations: tuple[Operation, ...]
    draw: Callable[[int, torch.Generator], Tensor]


def autoaugment(height: int, width: int) -> Policy:
    """Return AutoAugment: one of 25 sub-policies, whose two operations are each applied with a probability.

    It draws 5 n numbers for n images.
    """
    space = {"Invert": (0.0,), **_space(AUTO_LEVELS, height, width)}
    signed = [[_both_signs(name, space[name][level]) for name, _, level in pair] for pair in CIFAR10]
    operations = _distinct([IDENTITY, *(operation for pair in signed for signs in pair for operation in signs)])
    choices = _positions(signed, operations)
    probabilities = torch.tensor([[probability for _, probability, _ in pair] for pair in CIFAR10], dtype=torch.float64)

    def draw(count: int, generator: torch.Generator) -> Tensor:
        device = generator.device
        pairs = integers(len(CIFAR10), (count,), generator)
        applied, negative = uniform((2, count, 2), generator)
        chosen = choices.to(device)[pairs[:, None], torch.arange(2, device=device), (negative < 0.5).long()]
        return torch.where(applied < probabilities.to(device)[pairs], chosen, 0).T

    return Policy(operations, draw)


def randaugment(operations: int, magnitude: int, height: int, width: int) -> Policy:
    """Return RandAugment: so many operations one after the other, all of one magnitude of 0 to 30.

    It draws 3 n numbers for n images and each operation.
    """
    space = _space(LEVELS, height, width)
    return _any_of({name: (every[min(magnitude, len(every) - 1)],) for name, every in space.items()}, operations)


def trivialaugment() -> Policy:
    """Return TrivialAugment in its wide space: one operation, of any of 31 magnitudes.

    Translations go up to 32 pixels whatever the size of the image. It draws 3 n numbers for n images.
    """
    factors = _spaced(0.99, LEVELS)
    wide = {
        **dict.fromkeys(("ShearX", "ShearY"), factors),
        **dict.fromkeys(("TranslateX", "TranslateY"), _spaced(32.0, LEVELS)),
        "Rotate": _spaced(135.0, LEVELS),
        **dict.fromkeys(("Brightness", "Color", "Contrast", "Sharpness"), factors),
        "Posterize": _bits_kept(6, LEVELS),
    }
    return _any_of(_space(LEVELS, 1, 1) | wide, 1)


def _any_of(space: dict[str, Magnitudes], steps: int) -> Policy:
    """Return the policy of ``steps`` operations, each any of ``space`` at any of its magnitudes and of either sign."""
    levels = max(map(len, space.values()))
    signed = [
        [_both_signs(name, magnitudes[level % len(magnitudes)]) for level in range(levels)]
        for name, magnitudes in space.items()
    ]
    operations = _distinct(operation for of_name in signed for signs in of_name for operation in signs)
    choices = _positions(signed, operations)

    def draw(count: int, generator: torch.Generator) -> Tensor:
        kinds = integers(len(space), (steps, count), generator)
        magnitudes = integers(levels, (steps, count), generator)
        signs = integers(2, (steps, count), generator)
        return choices.to(generator.device)[kinds, magnitudes, signs]

    return Policy(operations, draw)


def _space(levels: int, height: int, width: int) -> dict[str, Magnitudes]:
    """Return the magnitudes of AutoAugment and RandAugment, by operation."""
    factors = _spaced(0.9, levels)
    return {
        **dict.fromkeys(("Identity", "AutoContrast", "Equalize"), (0.0,)),
        **dict.fromkeys(("ShearX", "ShearY"), _spaced(0.3, levels)),
        "TranslateX": _spaced(150.0 / 331.0 * width, levels),
        "TranslateY": _spaced(150.0 / 331.0 * height, levels),
        "Rotate": _spaced(30.0, levels),
        **dict.fromkeys(("Brightness", "Color", "Contrast", "Sharpness"), factors),
        "Posterize": _bits_kept(4, levels),
        "Solarize": _spaced(1.0, levels, of="falling"),
    }


def _spaced(greatest: float, levels: int, of: Literal["rising", "falling"] = "rising") -> Magnitudes:
    """Return ``levels`` magnitudes from 0 to ``greatest`` or the other way, to float32 as torchvision has them."""
    ends = (0.0, greatest) if of == "rising" else (greatest, 0.0)
    return tuple(torch.linspace(*ends, levels).tolist())


def _bits_kept(most_dropped: int, levels: int) -> Magnitudes:
    """Return 8 bits less 0 to ``most_dropped``, rounded."""
    dropped = torch.arange(levels) / ((levels - 1) / most_dropped)
    return tuple((8 - dropped).round().tolist())


def _both_signs(name: str, magnitude: float) -> tuple[Operation, Operation]:
    """Return the operation and what a negative sign makes of it."""
    return Operation(name, magnitude), Operation(name, -magnitude if name in SIGNED else magnitude)


def _distinct(operations: Iterable[Operation]) -> tuple[Operation, ...]:
    return tuple(dict.fromkeys(operations))


def _positions(signed: Sequence[Sequence[tuple[Operation, Operation]]], operations: Sequence[Operation]) -> Tensor:
    """Return where operations stand in the list: int64 of the shape of ``signed``, the last dimension the sign."""
    position = {operation: i for i, operation in enumerate(operations)}
    return torch.tensor([[[position[operation] for operation in signs] for signs in row] for row in signed])
