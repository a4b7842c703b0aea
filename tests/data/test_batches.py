from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
import torch

from flatmin.data.batches import augment, epoch_order, index_batches, normalise
from flatmin.randomness import torch_generator
from flatmin.settings import Augmentation


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
@pytest.mark.parametrize(("padding", "mode"), [("reflect", "reflect"), ("zero", "constant")])
@pytest.mark.parametrize("pad", [1, 2, 4])
def test_every_result_is_one_of_numpy_s_windows(pad: int, padding, mode: str, flip: bool) -> None:
    images = random_images()
    out = augment(images, Augmentation(flip=flip, pad=pad, padding=padding), generator())
    assert out.shape == images.shape
    assert out.dtype == torch.uint8
    for before, after in zip(images.numpy(), out.numpy(), strict=True):
        assert np.ascontiguousarray(after).tobytes() in windows(before, pad, mode, flip=flip)


@pytest.mark.parametrize("padding", ["reflect", "zero"])
def test_flips_and_places_are_equally_likely_and_independent(padding) -> None:
    count, pad = 5400, 1
    image = random_images(1, 1, 5, 5)
    known = windows(image[0].numpy(), pad, "reflect" if padding == "reflect" else "constant", flip=True)
    assert len(known) == 18
    out = augment(image.expand(count, -1, -1, -1), Augmentation(flip=True, pad=pad, padding=padding), generator())
    seen = dict.fromkeys(known.values(), 0)
    for after in out.numpy():
        seen[known[after.tobytes()]] += 1
    chi2 = sum((times - 300) ** 2 / 300 for times in seen.values())
    assert abs(chi2 - 17) < 4 * sqrt(2 * 17)


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
    with pytest.raises(ValueError, match=r"augmentation\.pad: 7"):
        augment(random_images(), Augmentation(pad=7), generator())
    augment(random_images(), Augmentation(pad=7, padding="zero"), generator())


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_normalised_training_images_have_mean_zero_and_deviation_one(memory_format: torch.memory_format) -> None:
    images = random_images(300)
    pixels = images.numpy() / 255
    mean, std = (torch.tensor(f(pixels, axis=(0, 2, 3)), dtype=torch.float32) for f in (np.mean, np.std))
    out = normalise(images, mean, std, memory_format=memory_format)
    expected = (pixels - mean.numpy()[:, None, None]) / std.numpy()[:, None, None]
    assert out.dtype == torch.float32
    assert out.is_contiguous(memory_format=memory_format)
    assert np.allclose(out.numpy(), expected, atol=1e-5)
    assert out.std(dim=(0, 2, 3)).numpy() == pytest.approx(np.ones(3), abs=1e-3)


def test_both_memory_formats_hold_the_same_bits() -> None:
    images, mean, std = random_images(), torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.25, 0.3])
    one = normalise(images, mean, std)
    other = normalise(images, mean, std, memory_format=torch.channels_last)
    assert torch.equal(one, other)


def test_an_epoch_visits_every_image_once_in_an_order_of_its_generator() -> None:
    order = epoch_order(103, torch_generator(0, "order"))
    batches = list(index_batches(order, 20))
    assert [len(batch) for batch in batches] == [20, 20, 20, 20, 20, 3]
    assert sorted(torch.cat(batches).tolist()) == list(range(103))
    assert torch.equal(order, epoch_order(103, torch_generator(0, "order")))
    assert not torch.equal(order, epoch_order(103, torch_generator(1, "order")))


def test_a_resumed_epoch_goes_on_where_it_stopped() -> None:
    order = torch.arange(103)
    whole, rest = list(index_batches(order, 20)), list(index_batches(order, 20, start=4))
    assert all(torch.equal(one, other) for one, other in zip(whole[4:], rest, strict=True))
    assert list(index_batches(order, 20, start=6)) == []
