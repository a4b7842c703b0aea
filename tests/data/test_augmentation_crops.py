"""Flips and crops, against numpy's windows of padded images."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
import torch

from flatmin.data.augmentation.batch import augment
from flatmin.data.errors import DataError
from flatmin.randomness import torch_generator
from flatmin.settings import Augmentation

MODES = [("reflect", "reflect"), ("zero", "constant"), ("edge", "edge")]
"""Our names of paddings and numpy's."""


def generator(seed: int = 0) -> torch.Generator:
    return torch_generator(seed, "augmentation")


def random_images(count: int = 50, channels: int = 3, height: int = 7, width: int = 9) -> torch.Tensor:
    return torch.randint(0, 256, (count, channels, height, width), dtype=torch.uint8, generator=generator(99))


def windows(image: np.ndarray, pad: int, mode: str, *, flip: bool) -> dict[bytes, tuple[bool, int, int]]:
    """Return every result that an image can have, by brute force with numpy, and how it comes about."""
    _, height, width = image.shape
    found = {}
    for flipped in (False, True) if flip else (False,):
        padded = np.pad(image[:, :, ::-1] if flipped else image, ((0, 0), (pad, pad), (pad, pad)), mode=mode)
        for top in range(2 * pad + 1):
            for left in range(2 * pad + 1):
                window = padded[:, top : top + height, left : left + width]
                found[np.ascontiguousarray(window).tobytes()] = (flipped, top, left)
    return found


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(("padding", "mode"), MODES)
@pytest.mark.parametrize("pad", [1, 2, 4])
def test_every_result_is_one_of_numpy_s_windows(pad: int, padding, mode: str, flip: bool) -> None:
    images = random_images()
    out = augment(images, Augmentation(flip=flip, pad=pad, padding=padding), generator())
    assert out.shape == images.shape
    assert out.dtype == torch.uint8
    for before, after in zip(images.numpy(), out.numpy(), strict=True):
        assert np.ascontiguousarray(after).tobytes() in windows(before, pad, mode, flip=flip)


@pytest.mark.parametrize(("padding", "mode"), MODES)
def test_flips_and_places_are_equally_likely_and_independent(padding, mode: str) -> None:
    count, pad = 5400, 1
    image = random_images(1, 1, 5, 5)
    known = windows(image[0].numpy(), pad, mode, flip=True)
    assert len(known) == 18
    out = augment(image.expand(count, -1, -1, -1), Augmentation(flip=True, pad=pad, padding=padding), generator())
    seen = dict.fromkeys(known.values(), 0)
    for after in out.numpy():
        seen[known[after.tobytes()]] += 1
    chi2 = sum((times - 300) ** 2 / 300 for times in seen.values())
    assert abs(chi2 - 17) < 4 * sqrt(2 * 17)


@pytest.mark.parametrize(("padding", "mode"), MODES)
def test_the_numbers_are_a_flip_of_every_image_then_rows_then_columns(padding, mode: str) -> None:
    """The order of the draws is part of every run's result: a change of it changes all of them."""
    images, pad, same = random_images(20), 3, generator()
    out = augment(images, Augmentation(flip=True, pad=pad, padding=padding), generator())
    flips = torch.randint(2, (20, 1), generator=same)[:, 0].tolist()
    tops, lefts = torch.randint(2 * pad + 1, (2, 20, 1), generator=same)[..., 0].tolist()
    for before, after, flip, top, left in zip(images.numpy(), out.numpy(), flips, tops, lefts, strict=True):
        padded = np.pad(before, ((0, 0), (pad, pad), (pad, pad)), mode=mode)
        window = padded[:, top : top + 7, left : left + 9]
        assert np.array_equal(after, window[:, :, ::-1] if flip else window)


def test_half_of_the_images_are_flipped_each_on_its_own() -> None:
    images = random_images(4000, 1, 2, 2)
    out = augment(images, Augmentation(flip=True), generator())
    mirrored = (out == images.flip(3)).flatten(1).all(1)
    unchanged = (out == images).flatten(1).all(1)
    assert bool((mirrored | unchanged).all())
    assert int(mirrored.sum()) == pytest.approx(2000, abs=4 * sqrt(1000) + 5)


def test_one_generator_state_gives_one_result() -> None:
    images, augmentation = random_images(), Augmentation(flip=True, pad=2)
    once, twice = augment(images, augmentation, generator()), augment(images, augmentation, generator())
    assert torch.equal(once, twice)
    assert not torch.equal(once, augment(images, augmentation, generator(1)))


def test_the_padding_changes_the_border_alone() -> None:
    images = random_images(200, 1, 8, 8) // 2 + 100  # no zero pixels
    reflected = augment(images, Augmentation(pad=2, padding="reflect"), generator())
    zeroed = augment(images, Augmentation(pad=2, padding="zero"), generator())
    assert not torch.equal(reflected, zeroed)
    assert torch.equal(reflected[zeroed > 0], zeroed[zeroed > 0])
    assert bool((reflected > 0).all())


def test_images_are_not_written_to_and_pass_unchanged_without_augmentation() -> None:
    images = random_images()
    before = images.clone()
    augment(images, Augmentation(flip=True, pad=3), generator())
    assert torch.equal(images, before)
    assert augment(images, Augmentation(), generator()) is images


def test_a_reflection_larger_than_the_image_is_refused() -> None:
    with pytest.raises(DataError, match=r"augmentation\.pad: 7 .*\n.*Lower it to 6"):
        augment(random_images(), Augmentation(pad=7), generator())
    for padding in ("zero", "edge"):
        augment(random_images(), Augmentation(pad=7, padding=padding), generator())
