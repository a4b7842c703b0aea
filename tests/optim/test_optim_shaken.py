"""Networks that shake their gradients: which passes compute the true one, and whose random numbers are drawn again."""

import copy

import pytest
import torch
from method_cases import ShakenLayer, Watched, network
from torch import Tensor, nn

from flatmin.optim import SAM, Regime, true_gradient
from flatmin.optim.replay import generators_of

SGD = torch.optim.SGD


def shaken_network() -> tuple[nn.Module, ShakenLayer, list[bool]]:
    """A network, its shaking layer, and whether that computed the true gradient, call by call."""
    model, seen = network("shaken"), list[bool]()
    layer = model.get_submodule("3")
    assert isinstance(layer, ShakenLayer)
    layer.register_forward_pre_hook(lambda module, _inputs: seen.append(module.true_gradient))
    return model, layer, seen


@pytest.mark.parametrize(
    ("regime", "expected"),
    [
        (Regime(), [True, False]),
        (Regime(steps=3), [True, True, True, False]),
        (Regime(m=8), [True, False, True, False]),
        (Regime(true_gradient="never"), [False, False]),
    ],
)
def test_the_gradients_of_an_ascent_are_true_and_the_last_is_shaken(regime: Regime, expected: list[bool]) -> None:
    model, _, seen = shaken_network()
    SAM(model, SGD, lr=0.1, regime=regime).step(Watched(model), size=16)
    assert seen == expected


def test_steps_without_ascent_shake_the_gradient() -> None:
    model, _, seen = shaken_network()
    optimizer = SAM(model, SGD, lr=0.1, regime=Regime(every=2))
    for _ in range(2):
        optimizer.step(Watched(model), size=16)
    assert seen == [True, False, False]


def test_a_network_is_as_it_was_after_a_pass_that_raised() -> None:
    model, layer, _ = shaken_network()

    def closure() -> Tensor:
        assert layer.true_gradient
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        SAM(model, SGD, lr=0.1).step(closure)
    assert not layer.true_gradient


def test_a_loop_of_one_s_own_asks_for_the_true_gradient_itself() -> None:
    model, layer, _ = shaken_network()
    with true_gradient(model):
        assert layer.true_gradient
    assert not layer.true_gradient


def test_noise_goes_on_as_if_there_had_been_one_pass() -> None:
    model, layer, _ = shaken_network()
    before = torch.Generator()
    before.set_state(layer.generator.get_state())
    SAM(model, SGD, lr=0.1, regime=Regime(steps=2)).step(Watched(model), size=16)
    torch.rand(2, 16, 1, generator=before)
    assert torch.equal(layer.generator.get_state(), before.get_state())


def test_generators_are_found_once_each_wherever_they_are() -> None:
    first, second = ShakenLayer(), ShakenLayer()
    model = nn.Sequential(first, nn.Sequential(second), copy.copy(first))
    assert generators_of(model) == [first.generator, second.generator]
    assert generators_of(None) == []
