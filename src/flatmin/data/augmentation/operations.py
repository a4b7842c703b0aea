"""The fourteen image operations of the learned policies, with their bits as in torchvision's.

Each works on a batch in which every image has a magnitude of its own. Results are those of
`torchvision.transforms.v2.functional` on uint8 tensors: the same order of float32 operations, sums with one rounding
where a fused multiply-add makes them, and truncation to grey levels.

Most operations change a grey level without regard to its place, so that they are one lookup in a table of 256 levels
per channel; the tables of contrast, autocontrast and equalize depend on the image. Shears, translations and rotations
are one sampling at the nearest pixel. Saturation and sharpness are computed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from flatmin.data.augmentation.affine import sampling_matrix
from flatmin.data.augmentation.decisions import on

LEVELS = 256
RED, GREEN, BLUE = 0.2989, 0.587, 0.114
"""Weights of luma (ITU-R BT.601), to the digits that torchvision has."""

POINTWISE = ("Brightness", "Posterize", "Solarize", "Invert", "Contrast", "AutoContrast", "Equalize")
GEOMETRIC = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")
SIGNED = (*GEOMETRIC, "Brightness", "Color", "Contrast", "Sharpness")
"""Operations whose magnitude has a random sign."""


class Operation(NamedTuple):
    """One operation at one magnitude, by torchvision's names and in its units.

    Shears are slopes, translations whole pixels, rotations degrees counterclockwise; brightness, colour, contrast and
    sharpness are factors less 1; ``Posterize`` keeps so many bits; ``Solarize`` inverts from that share of 255 on.
    """

    name: str
    magnitude: float = 0.0


IDENTITY = Operation("Identity")


@dataclass(frozen=True)
class Repertoire:
    """Operations, and what applying them to images of one size needs, by their position in the list.

    Attributes:
        kinds: What each does: int64 [k], an index into `KINDS`, on the CPU.
        tables: Which of `TABLES` each has, int64 [k], on the CPU; their number where it has none.
        levels: Uint8 [k, 256], new grey levels of the operations that look at nothing else.
        matrices: Float32 [k, 6], from places in the result to places in the image (`sampling_matrix`), halved sizes 1.
        ratios: Float32 [k], the weight of the image in a blend.
        rests: Float32 [k], the weight of what it is blended with.
    """

    kinds: Tensor
    tables: Tensor
    levels: Tensor
    matrices: Tensor
    ratios: Tensor
    rests: Tensor

    @classmethod
    def of(cls, operations: Sequence[Operation], height: int, width: int, device: torch.device) -> Repertoire:
        """Prepare ``operations`` for images of a size on a device."""
        matrices = torch.tensor([sampling_matrix(*operation, height, width) for operation in operations])
        halves = torch.tensor([0.5 * width] * 3 + [0.5 * height] * 3)
        factors = [1.0 + magnitude for _, magnitude in operations]
        return cls(
            kinds=torch.tensor([_kind(name) for name, _ in operations]),
            tables=torch.tensor([[*TABLES, name].index(name) for name, _ in operations]),
            levels=torch.stack([_levels(operation) for operation in operations]).to(device),
            matrices=(matrices / halves).to(device),
            ratios=torch.tensor(factors).to(device),
            rests=torch.tensor([1.0 - factor for factor in factors]).to(device),
        )


def apply(images: Tensor, chosen: Tensor, repertoire: Repertoire) -> Tensor:
    """Apply to every image the operation that was chosen for it.

    Args:
        images: Uint8 [n, c, h, w] with one channel or three, not changed.
        chosen: Int64 [n] on the CPU, indices into the repertoire.
        repertoire: For images of this size, on their device.

    Returns:
        Uint8 [n, c, h, w].
    """
    # Sorted by kind, the images of a kind lie together: no copies but for two permutations
    kinds, order = repertoire.kinds[chosen].sort(stable=True)
    sizes = torch.bincount(kinds, minlength=len(KINDS)).tolist()
    sorted_images = images.index_select(0, on(order, images.device))
    changed = [
        work(part, operations, repertoire)
        for work, part, operations in zip(KINDS, sorted_images.split(sizes), chosen[order].split(sizes), strict=True)
        if len(part)
    ]
    return torch.cat(changed).index_select(0, on(order.argsort(), images.device))


# --- of every kind ----------------------------------------------------------------------------------------------------


def _unchanged(images: Tensor, chosen: Tensor, repertoire: Repertoire) -> Tensor:
    return images


def _looked_up(images: Tensor, chosen: Tensor, repertoire: Repertoire) -> Tensor:
    """Replace grey levels by those of a table per image and channel."""
    channels = images.shape[1]
    levels = repertoire.levels[on(chosen, images.device)][:, None].repeat(1, channels, 1)
    tables = repertoire.tables[chosen]
    for number, table in enumerate(TABLES.values()):
        [where] = (tables == number).nonzero(as_tuple=True)
        if len(where):
            here, operations = on(where, images.device), on(chosen[where], images.device)
            levels[here] = table(images.index_select(0, here), operations, repertoire)
    return levels.gather(2, images.flatten(2).long()).view_as(images)


def _sampled(images: Tensor, chosen: Tensor, repertoire: Repertoire) -> Tensor:
    """Take every pixel from the nearest to where the operation's matrix leads; black where that is outside."""
    height, width = images.shape[2:]
    matrices = repertoire.matrices[on(chosen, images.device)].view(-1, 2, 3, 1, 1)
    x = _centred(width, images.device)
    y = _centred(height, images.device)[:, None]
    # float32 and in this order: places halfway between two pixels, which a slope of 0.2 has, fall as in torchvision
    places = matrices[:, :, 0] * x + matrices[:, :, 1] * y + matrices[:, :, 2]
    grid = places.permute(0, 2, 3, 1)
    return grid_sample(images.float(), grid, mode="nearest", align_corners=False).to(torch.uint8)


def _centred(size: int, device: torch.device) -> Tensor:
    """Return the places of the pixels of a line from its centre: float32 [size]."""
    return torch.linspace((1 - size) / 2, (size - 1) / 2, size, device=device)


def _saturated(images: Tensor, chosen: Tensor, repertoire: Repertoire) -> Tensor:
    """Blend with the grey image."""
    if images.shape[1] == 1:
        return images
    chosen = on(chosen, images.device)
    pixels = images.float()
    return _blend(pixels, _grey(pixels), repertoire.ratios[chosen], repertoire.rests[chosen])


def _sharpened(images: Tensor, chosen: Tensor, repertoire: Repertoire) -> Tensor:
    """Blend with the image smoothed by [1 1 1; 1 5 1; 1 1 1] / 13, but for the border."""
    if min(images.shape[2:]) <= 2:
        return images
    rest = _per_image(repertoire.rests[on(chosen, images.device)])
    levels = images.short()
    columns = levels[..., :-2] + levels[..., 1:-1] + levels[..., 2:]
    inner = levels[..., 1:-1, 1:-1]
    sums = columns[..., :-2, :] + columns[..., 1:-1, :] + columns[..., 2:, :] + 4 * inner
    # A thirteenth of a whole number is nowhere near halfway between two: float32 rounds it to the right one
    smooth = (sums.float() / 13).round_()
    pixels = inner.float()
    out = images.clone()
    out[..., 1:-1, 1:-1] = _truncated(_fused(pixels, rest, smooth - pixels))
    return out


Work = Callable[[Tensor, Tensor, Repertoire], Tensor]
"""From images [n, c, h, w], operations int64 [n] on the CPU, and their repertoire, to images."""

KINDS: tuple[Work, ...] = (_unchanged, _looked_up, _sampled, _saturated, _sharpened)


def _kind(name: str) -> int:
    if name in POINTWISE:
        return KINDS.index(_looked_up)
    if name in GEOMETRIC:
        return KINDS.index(_sampled)
    others = {"Identity": _unchanged, "Color": _saturated, "Sharpness": _sharpened}
    return KINDS.index(others[name])


# --- tables of grey levels -------------------------------------------------------------------------------------------


def _levels(operation: Operation) -> Tensor:
    """Return the new grey levels of an operation that looks at nothing else: uint8 [256]; of others the levels."""
    old = torch.arange(LEVELS)
    match operation:
        case Operation("Brightness", magnitude):
            new = (old.float() * (1.0 + magnitude)).clamp(0, 255)
        case Operation("Posterize", bits):
            new = old & (LEVELS - (1 << (8 - int(bits))))
        case Operation("Solarize", share):
            new = torch.where(old.float() >= 255 * share, 255 - old, old)
        case Operation("Invert"):
            new = 255 - old
        case _:
            new = old
    return new.to(torch.uint8)


def _contrast(images: Tensor, operations: Tensor, repertoire: Repertoire) -> Tensor:
    """Blend with the mean of the grey image."""
    mean = _grey(images.float()).mean(dim=(1, 2, 3)).view(-1, 1, 1, 1)
    old = torch.arange(LEVELS, dtype=torch.float32, device=images.device).view(1, 1, 1, -1)
    return _blend(old, mean, repertoire.ratios[operations], repertoire.rests[operations])[:, 0]


def _autocontrast(images: Tensor, operations: Tensor, repertoire: Repertoire) -> Tensor:
    """Stretch each channel from its least and greatest level to 0 and 255."""
    least, greatest = (bound[..., None].float() for bound in torch.aminmax(images.flatten(2), dim=2))
    flat = least == greatest
    scale = torch.where(flat, 1, (greatest - least) * (1 / 255))
    old = torch.arange(LEVELS, dtype=torch.float32, device=images.device)
    return _truncated((old - torch.where(flat, 0, least)) / scale)


def _equalize(images: Tensor, operations: Tensor, repertoire: Repertoire) -> Tensor:
    """Spread each channel's levels by their ranks, as Pillow does.

    With H the histogram, the step is the number of pixels below the greatest level over 255, and level v becomes
    (H[0] + ... + H[v - 1] + step // 2) // step. A channel whose step is 0 stays.
    """
    pixels = images.flatten(2).long()
    histogram = torch.zeros((*images.shape[:2], LEVELS), dtype=torch.int32, device=images.device)
    histogram.scatter_add_(2, pixels, torch.ones_like(histogram[..., :1]).expand_as(pixels))
    greatest = histogram.gather(2, pixels.amax(2, keepdim=True))
    step = (pixels.shape[2] - greatest).div_(255, rounding_mode="floor")
    below = histogram.cumsum(2, dtype=torch.int32) - histogram
    new = (below + step // 2).div_(step.clamp(min=1), rounding_mode="floor").clamp_(max=255)
    return torch.where(step == 0, torch.arange(LEVELS, device=images.device), new).to(torch.uint8)


TABLES: dict[str, Work] = {"Contrast": _contrast, "AutoContrast": _autocontrast, "Equalize": _equalize}
"""New grey levels that depend on the image, uint8 [n, 1 or c, 256]; here the operations are on the images' device."""


# --- arithmetic ------------------------------------------------------------------------------------------------------


def _grey(pixels: Tensor) -> Tensor:
    """Return the luma of float32 [n, c, h, w], truncated: float32 [n, 1, h, w]."""
    if pixels.shape[1] == 1:
        return pixels
    red, green, blue = pixels.split(1, dim=1)
    return (red * RED).add_(green, alpha=GREEN).add_(blue, alpha=BLUE).floor_()


def _blend(pixels: Tensor, other: Tensor, ratios: Tensor, rests: Tensor) -> Tensor:
    """Return ratio * pixels + rest * other of float32 [n, c, h, w], as uint8."""
    return _truncated(_fused(pixels * _per_image(ratios), _per_image(rests), other))


def _fused(pixels: Tensor, weight: Tensor, other: Tensor) -> Tensor:
    """Return pixels + weight * other in float32 with one rounding, on every device."""
    # float64 holds the product exactly. Two roundings would turn the level 200 of a grey pixel into 199 here and there
    return (other.double() * weight + pixels).float()


def _truncated(pixels: Tensor) -> Tensor:
    return pixels.clamp(0, 255).to(torch.uint8)


def _per_image(numbers: Tensor) -> Tensor:
    return numbers.view(-1, 1, 1, 1)
