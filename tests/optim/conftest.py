"""Small float64 networks and closures, shared by the tests of the step and of the ascents."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

Closure = Callable[[], Tensor]


@pytest.fixture(autouse=True)
def _float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(16, 3, 6, 6, generator=generator), torch.randint(0, 4, (16,), generator=generator)


@pytest.fixture
def network() -> Callable[[], nn.Module]:
    """Makes equal networks with convolution, batch norm and a linear layer, in training mode."""

    def build() -> nn.Module:
        torch.manual_seed(2)
        model = nn.Sequential(
            nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(20, 4)
        )
        nn.init.uniform_(model[1].weight, 0.5, 1.5)
        nn.init.normal_(model[1].bias)
        return model

    return build


@pytest.fixture
def closure_for(batch: tuple[Tensor, Tensor]) -> Callable[[nn.Module], Closure]:
    """Makes the usual closure of a classifier on the batch."""
    inputs, targets = batch

    def build(model: nn.Module) -> Closure:
        def closure() -> Tensor:
            model.zero_grad()
            loss = functional.cross_entropy(model(inputs), targets)
            loss.backward()
            return loss

        return closure

    return build


@contextmanager
def watching(model: nn.Module, closure: Closure) -> Iterator[tuple[Closure, list[list[Tensor]], list[list[Tensor]]]]:
    """The closure, with the weights that each call saw and the gradients that it left."""
    weights: list[list[Tensor]] = []
    gradients: list[list[Tensor]] = []

    def watched() -> Tensor:
        weights.append([p.detach().clone() for p in model.parameters()])
        loss = closure()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
        return loss

    yield watched, weights, gradients


@pytest.fixture(name="watching")
def watching_fixture() -> Callable[..., object]:
    return watching
