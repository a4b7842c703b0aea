"""The operations of the policies, bit for bit those of torchvision on one image at a time."""

from __future__ import annotations

import math
from functools import cache

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from flatmin.data.augmentation.affine import sampling_matrix
from flatmin.data.augmentation.operations import GEOMETRIC, SIGNED, Operation, Repertoire, apply
from flatmin.data.augmentation.policies import autoaugment, randaugment, trivialaugment
from flatmin.randomness import torch_generator

CPU = torch.device("cpu")
SIZES = [(8, 8), (28, 28), (32, 32), (33, 31), (64, 48), (3, 3), (2, 5)]
NAMES = sorted({operation.name for operation in (*trivialaugment().operations, *autoaugment(32, 32).operations)})


def every_magnitude(name: str, height: int, width: int) -> tuple[Operation, ...]:
    """All that any policy does under that name."""
    of_policies = (
        autoaugment(height, width).operations,
        trivialaugment().operations,
        *(randaugment(2, magnitude, height, width).operations for magnitude in (4, 9, 17)),
    )
    return tuple(dict.fromkeys(o for operations in of_policies for o in operations if o.name == name))


def pictures(count: int, channels: int, height: int, width: int) -> Tensor:
    """Noise; noise that is grey, or has few levels; channels of one level; steps of a ramp."""
    shape = (count, channels, height, width)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch_generator(0, *shape))
    images[1::5] = images[1::5, :1]
    images[2::5] = images[2::5] // 4 + 60
    images[3::5, :1] = 77
    ramp = torch.arange(height * width).view(height, width) * 255 // (height * width)
    images[4::5] = ramp.to(torch.uint8)
    return images


def by_torchvision(image: Tensor, operation: Operation) -> Tensor:
    """The operation by torchvision's functionals on one image [c, h, w], as its policies call them."""
    name, magnitude = operation
    straight = {"angle": 0.0, "scale": 1.0, "shear": [0.0, 0.0]}
    degrees = math.degrees(math.atan(magnitude)) if name.startswith("Shear") else 0.0
    corner = {"angle": 0.0, "scale": 1.0, "translate": [0, 0], "center": [0, 0]}
    calls = {
        "Identity": lambda: image,
        "ShearX": lambda: tv.affine(image, shear=[degrees, 0.0], **corner),
        "ShearY": lambda: tv.affine(image, shear=[0.0, degrees], **corner),
        "TranslateX": lambda: tv.affine(image, translate=[int(magnitude), 0], **straight),
        "TranslateY": lambda: tv.affine(image, translate=[0, int(magnitude)], **straight),
        "Rotate": lambda: tv.rotate(image, angle=magnitude),
        "Brightness": lambda: tv.adjust_brightness(image, 1.0 + magnitude),
        "Color": lambda: tv.adjust_saturation(image, 1.0 + magnitude),
        "Contrast": lambda: tv.adjust_contrast(image, 1.0 + magnitude),
        "Sharpness": lambda: tv.adjust_sharpness(image, 1.0 + magnitude),
        "Posterize": lambda: tv.posterize(image, int(magnitude)),
        "Solarize": lambda: tv.solarize(image, 255.0 * magnitude),
        "AutoContrast": lambda: tv.autocontrast(image),
        "Equalize": lambda: tv.equalize(image),
        "Invert": lambda: tv.invert(image),
    }
    return calls[name]()


def halfway(operation: Operation, height: int, width: int) -> Tensor:
    """Which pixels of the result come from halfway between two pixels, within a thousandth: bool [h, w].

    Where torchvision puts those depends on the machine's matrix product.
    """
    x = torch.arange(width, dtype=torch.float64) + 0.5
    y = (torch.arange(height, dtype=torch.float64) + 0.5)[:, None]
    m = operation.magnitude
    match operation.name:
        case "ShearX":
            places = (x + m * y, y + 0 * x)
        case "ShearY":
            places = (x + 0 * y, y + m * x)
        case "Rotate":
            right, down, angle = x - width / 2, y - height / 2, math.radians(m)
            places = (
                math.cos(angle) * right - math.sin(angle) * down + width / 2,
                math.sin(angle) * right + math.cos(angle) * down + height / 2,
            )
        case _:
            return torch.zeros(height, width, dtype=torch.bool)
    # Pixel k reaches from k to k + 1, so that whole numbers are the borders
    return torch.stack([(place - place.round()).abs() < 1e-3 for place in places]).any(0)


def differing(images: Tensor, operations: tuple[Operation, ...]) -> int:
    """How many grey levels differ from torchvision's, those that may left out, when image i has operation i."""
    height, width = images.shape[2:]
    repertoire = Repertoire.of(operations, height, width, CPU)
    ours = apply(images, torch.arange(len(operations)), repertoire)
    theirs = torch.stack([by_torchvision(*pair) for pair in zip(images, operations, strict=True)])
    assert ours.dtype == theirs.dtype == torch.uint8
    undecided = torch.stack([halfway(operation, height, width) for operation in operations])[:, None]
    return int(((ours != theirs) & ~undecided).sum())


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", SIZES, ids=lambda size: "x".join(map(str, size)))
@pytest.mark.parametrize("name", NAMES)
def test_every_magnitude_gives_torchvision_s_bits(name: str, size: tuple[int, int], channels: int) -> None:
    operations = every_magnitude(name, *size)
    operations *= math.ceil(5 / len(operations))  # each kind of picture at least once
    assert differing(pictures(len(operations), channels, *size), operations) == 0


@pytest.mark.parametrize("name", NAMES)
def test_large_images_have_torchvision_s_bits(name: str) -> None:
    operations = every_magnitude(name, 224, 224)[-2:] * 3
    assert differing(pictures(len(operations), 3, 224, 224), operations) == 0


def test_few_pixels_come_from_halfway_between_two() -> None:
    """What the comparison leaves out is little of it."""
    shares = [
        halfway(operation, *size).double().mean().item()
        for name in GEOMETRIC
        for size in ((32, 32), (64, 48))
        for operation in every_magnitude(name, *size)
        if operation.magnitude
    ]
    assert sum(shares) / len(shares) < 0.02


@cache
def colours() -> Tensor:
    """Every colour that has levels of a grid, as one image."""
    levels = torch.arange(0, 256, 5, dtype=torch.uint8)
    return torch.cartesian_prod(levels, levels, levels).T.reshape(1, 3, 52, 52 * 52).contiguous()


@pytest.mark.parametrize("magnitude", [-0.9, -0.33, -0.1, 0.2, 0.7, 0.99])
def test_saturation_of_many_colours_has_torchvision_s_bits(magnitude: float) -> None:
    """Grey levels are truncated, so that one wrong last bit in between is another level."""
    assert differing(colours(), (Operation("Color", magnitude),)) == 0


def test_images_of_a_batch_are_changed_each_by_its_own_operation() -> None:
    operations = trivialaugment().operations
    images, generator = pictures(200, 3, 16, 16), torch_generator(0, "chosen")
    chosen = torch.randint(len(operations), (200,), generator=generator)
    repertoire = Repertoire.of(operations, 16, 16, CPU)
    together = apply(images, chosen, repertoire)
    alone = [apply(images[i : i + 1], chosen[i : i + 1], repertoire) for i in range(200)]
    assert torch.equal(together, torch.cat(alone))


def test_images_are_not_written_to() -> None:
    operations = trivialaugment().operations
    images = pictures(len(operations), 3, 8, 8)
    before = images.clone()
    apply(images, torch.arange(len(operations)), Repertoire.of(operations, 8, 8, CPU))
    assert torch.equal(images, before)


@pytest.mark.parametrize("name", SIGNED)
def test_the_sign_matters(name: str) -> None:
    magnitude = 30.0 if name == "Rotate" else 3.0 if name.startswith("Translate") else 0.3
    images = pictures(2, 3, 16, 16)[:1].expand(2, -1, -1, -1)
    repertoire = Repertoire.of([Operation(name, magnitude), Operation(name, -magnitude)], 16, 16, CPU)
    one, other = apply(images, torch.arange(2), repertoire)
    assert not torch.equal(one, other)


def test_a_translation_moves_the_image_and_leaves_black() -> None:
    image = pictures(1, 3, 8, 8)
    repertoire = Repertoire.of([Operation("TranslateX", 3.9), Operation("TranslateY", -2.0)], 8, 8, CPU)
    right, up = (apply(image, torch.tensor([i]), repertoire)[0] for i in range(2))
    assert torch.equal(right[..., 3:], image[0, ..., :-3])
    assert not right[..., :3].any()
    assert torch.equal(up[:, :-2], image[0, :, 2:])
    assert not up[:, -2:].any()


@pytest.mark.parametrize("name", ["ShearX", "ShearY", "Rotate"])
def test_opposite_magnitudes_undo_each_other(name: str) -> None:
    def homogeneous(magnitude: float) -> Tensor:
        top = torch.tensor(sampling_matrix(name, magnitude, 30, 50), dtype=torch.float64).view(2, 3)
        return torch.cat([top, torch.tensor([[0.0, 0.0, 1.0]], dtype=torch.float64)])

    product = homogeneous(0.7) @ homogeneous(-0.7)
    assert torch.allclose(product, torch.eye(3, dtype=torch.float64), atol=1e-12)
