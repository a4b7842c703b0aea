"""Prediction: the same logits whatever the batching, and a model that comes back as it was."""

import pytest
import torch
from torch import Tensor, nn

from flatmin.evaluation.predict import predict


def network() -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(512, 10)
    )
    model(torch.randn(32, 3, 8, 8))  # running statistics that are not the initial ones
    return model


def images(n: int = 37) -> Tensor:
    return torch.randint(256, (n, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def scale(batch: Tensor) -> Tensor:
    return batch.float() / 127.5 - 1


def scale_double(batch: Tensor) -> Tensor:
    return batch.double() / 127.5 - 1


def test_equals_one_plain_forward_pass() -> None:
    model = network()
    logits = predict(model, images(), batch_size=100, transform=scale)
    with torch.no_grad():
        assert torch.equal(logits, model.eval()(scale(images())))
    assert logits.dtype == torch.float32
    assert not logits.requires_grad
    assert not logits.is_inference()


@pytest.mark.parametrize("batch_size", [1, 5, 36, 37, 1000])
def test_batch_size_does_not_matter(batch_size: int) -> None:
    model = network().double()
    reference = predict(model, images(), batch_size=37, transform=scale_double)
    assert reference.dtype == torch.float64
    logits = predict(model, images(), batch_size=batch_size, transform=scale_double)
    torch.testing.assert_close(logits, reference, rtol=1e-13, atol=1e-13)


def test_modes_and_statistics_come_back_even_after_an_error() -> None:
    model = network().train()
    model[1].eval()  # a frozen norm inside a model in training mode
    before = {key: value.clone() for key, value in model.state_dict().items()}
    predict(model, images(), batch_size=8, transform=scale)
    with pytest.raises(RuntimeError):
        predict(model, images(), batch_size=8, transform=lambda batch: scale(batch)[:, :2])
    assert [module.training for module in model] == [True, False, True, True, True, True]
    assert model.training
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_transform_sees_each_image_once_in_order() -> None:
    seen: list[Tensor] = []

    def transform(batch: Tensor) -> Tensor:
        seen.append(batch)
        return scale(batch)

    predict(network(), images(), batch_size=10, transform=transform)
    assert [len(batch) for batch in seen] == [10, 10, 10, 7]
    assert torch.equal(torch.cat(seen), images())


def test_autocast_and_channels_last() -> None:
    model = network()
    exact = predict(model, images(), batch_size=16, transform=scale)
    model.to(memory_format=torch.channels_last)
    layout = predict(model, images(), batch_size=16, transform=scale, memory_format=torch.channels_last)
    torch.testing.assert_close(layout, exact, rtol=1e-4, atol=1e-5)
    rough = predict(model, images(), batch_size=16, transform=scale, autocast=torch.bfloat16)
    assert rough.dtype == torch.float32
    assert 0 < (rough - exact).norm() < 0.05 * exact.norm()


@pytest.mark.parametrize(
    ("batch", "batch_size", "message"),
    [
        (torch.zeros(2, 3, 8, 8), 1, "uint8"),
        (torch.zeros(3, 8, 8, dtype=torch.uint8), 1, "uint8"),
        (torch.zeros(0, 3, 8, 8, dtype=torch.uint8), 1, "no images"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), 0, "batch_size"),
    ],
)
def test_what_does_not_fit_is_refused(batch: Tensor, batch_size: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        predict(network(), batch, batch_size=batch_size, transform=scale)
