from __future__ import annotations

import numpy as np
import pytest
import torch

from flatmin.data.batches import epoch_order, index_batches, normalise
from flatmin.randomness import torch_generator


def random_images(count: int = 50, channels: int = 3, height: int = 7, width: int = 9) -> torch.Tensor:
    return torch.randint(
        0, 256, (count, channels, height, width), dtype=torch.uint8, generator=torch_generator(99, "images")
    )


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
