"""The step in two calls, for loops that call backward themselves."""

import math
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.nn import functional

from flatmin.optim import ASAM, ESAM, GSAM, SAM, FisherSAM, LookSAM, Regime, SharpnessAware
from flatmin.optim.ascents.none import NoAscent
from flatmin.optim.ascents.random import RandomAscent

SGD = torch.optim.SGD
MOMENTUM = {"lr": 0.1, "momentum": 0.9}
Backward = Callable[[], None]


def states(model: nn.Module) -> list[Tensor]:
    return [value.clone() for value in model.state_dict().values()]


def momenta(optimizer: SharpnessAware) -> list[Tensor]:
    return [state["momentum_buffer"].clone() for state in optimizer.state.values()]


def equal(left: list[Tensor], right: list[Tensor]) -> bool:
    return len(left) == len(right) and all(map(torch.equal, left, right))


@pytest.fixture
def backward_for(closure_for) -> Callable[[nn.Module], Backward]:
    """Makes what a loop does for one gradient: zero the old one, forward, backward."""
    return closure_for


def loop_step(optimizer: SharpnessAware, backward: Backward) -> int:
    """One step as a loop takes it; the number of its passes."""
    backward()
    passes = 1
    for _ in range(optimizer.regime.steps):
        if not optimizer.ascend():
            break
        backward()
        passes += 1
    optimizer.descend()
    return passes


def poison(model: nn.Module, value: float = math.inf) -> None:
    model[0].weight.grad[0, 0, 0, 0] = value


METHODS = {
    "sam": lambda model, **settings: SAM(model, SGD, rho=0.3, **settings),
    "asam": lambda model, **settings: ASAM(model, SGD, **settings),
    "gsam": lambda model, **settings: GSAM(model, SGD, rho=0.3, **settings),
    "looksam": lambda model, **settings: LookSAM(model, SGD, rho=0.3, k=3, **settings),
    "fisher": lambda model, **settings: FisherSAM(model, SGD, rho=0.3, **settings),
    "random": lambda model, **settings: SharpnessAware(model, SGD, RandomAscent(rho=0.3), **settings),
    "none": lambda model, **settings: SharpnessAware(model, SGD, NoAscent(), **settings),
    "esam": lambda model, **settings: ESAM(model, SGD, rho=0.3, gamma=1.0, **settings),
    "every": lambda model, **settings: SAM(model, SGD, rho=0.3, regime=Regime(every=3), **settings),
    "two-steps": lambda model, **settings: SAM(model, SGD, rho=0.3, regime=Regime(steps=2), **settings),
    "both": lambda model, **settings: SAM(model, SGD, rho=0.3, regime=Regime(statistics="both"), **settings),
    "clipped": lambda model, **settings: SAM(model, SGD, rho=0.3, clip_norm=0.1, **settings),
    "l2": lambda model, **settings: SAM(model, SGD, rho=0.3, l2=0.01, **settings),
}
PASSES = {"none": [1, 1, 1, 1], "looksam": [2, 1, 1, 2], "every": [2, 1, 1, 2], "two-steps": [3, 3, 3, 3]}
each_method = pytest.mark.parametrize("method", METHODS)


@each_method
def test_two_calls_are_the_step_with_a_closure_to_the_bit(method, network, closure_for, backward_for):
    ours, theirs = network(), network()
    optimizer, expected = METHODS[method](ours, **MOMENTUM), METHODS[method](theirs, **MOMENTUM)
    passes = []
    for _ in range(4):
        passes.append(loop_step(optimizer, backward_for(ours)))
        expected.step(closure_for(theirs))
        assert optimizer.last_gradient_norm == expected.last_gradient_norm
    assert passes == PASSES.get(method, [2, 2, 2, 2])
    assert equal(states(ours), states(theirs))  # running statistics among them
    assert equal(momenta(optimizer), momenta(expected))
    assert ours[1].num_batches_tracked == (8 if method == "both" else 4)


@each_method
def test_step_without_a_closure_ends_what_ascend_began(method, network, backward_for):
    described, stepped = network(), network()
    optimizer, expected = METHODS[method](stepped, **MOMENTUM), METHODS[method](described, **MOMENTUM)
    for _ in range(3):
        loop_step(expected, backward_for(described))
        backward = backward_for(stepped)
        backward()
        for _ in range(optimizer.regime.steps):
            if optimizer.ascend():
                backward()
        optimizer.step()
    assert equal(states(stepped), states(described))


@pytest.mark.parametrize("first", ["loop", "closure"])
def test_the_two_forms_may_take_turns(first, network, closure_for, backward_for):
    ours, theirs = network(), network()
    optimizer, expected = METHODS["looksam"](ours, **MOMENTUM), METHODS["looksam"](theirs, **MOMENTUM)
    for step in range(5):
        if (step % 2 == 0) == (first == "loop"):
            loop_step(optimizer, backward_for(ours))
        else:
            optimizer.step(closure_for(ours))
        expected.step(closure_for(theirs))
    assert equal(states(ours), states(theirs))


def test_weights_and_statistics_between_the_two_calls(network, backward_for, batch):
    model = network()
    optimizer, backward = SAM(model, SGD, rho=0.37, lr=0.1), backward_for(model)
    before = [p.detach().clone() for p in model.parameters()]
    backward()
    assert optimizer.ascend()
    assert optimizer.perturbed
    eps = torch.cat([(p.detach() - start).flatten() for p, start in zip(model.parameters(), before, strict=True)])
    assert eps.norm().item() == pytest.approx(0.37, rel=1e-12)
    model(batch[0])
    assert model[1].num_batches_tracked == 1
    backward()
    optimizer.descend()
    assert not optimizer.perturbed
    model(batch[0])
    assert model[1].num_batches_tracked == 2


@pytest.mark.parametrize("method", ["sam", "asam", "gsam", "looksam", "two-steps"])
def test_retreat_restores_to_the_bit_in_place_and_takes_no_step(method, network, closure_for, backward_for):
    model, twin = network(), network()
    optimizer, backward = METHODS[method](model, **MOMENTUM), backward_for(model)
    before, addresses = [p.detach().clone() for p in model.parameters()], [p.data_ptr() for p in model.parameters()]
    backward()
    optimizer.ascend()
    assert not equal([p.detach() for p in model.parameters()], before)
    optimizer.retreat()
    assert equal([p.detach() for p in model.parameters()], before)
    assert [p.data_ptr() for p in model.parameters()] == addresses
    assert not optimizer.perturbed
    assert not optimizer.state
    assert model[1].track_running_stats
    assert optimizer.skipped_steps == 0
    optimizer.retreat()  # nothing to call off
    model.load_state_dict(twin.state_dict())  # the running statistics of the first pass stay
    optimizer.step(closure_for(model))
    METHODS[method](twin, **MOMENTUM).step(closure_for(twin))
    assert equal(states(model), states(twin))


def test_calls_in_the_wrong_order_are_refused_and_change_nothing(network, closure_for, backward_for):
    model, twin = network(), network()
    optimizer, backward = SAM(model, SGD, **MOMENTUM), backward_for(model)
    with pytest.raises(RuntimeError, match=r"call ascend\(\) after the first backward\(\)"):
        optimizer.descend()
    with pytest.raises(TypeError, match=r"step\(\) needs a closure"):
        optimizer.step()
    with pytest.raises(RuntimeError, match=r"left no gradient: it must call loss\.backward\(\)"):
        optimizer.ascend()
    with pytest.raises(RuntimeError, match=r"descend\(\) ends what ascend\(\) began"):
        optimizer.descend()
    backward()
    optimizer.ascend()
    with pytest.raises(RuntimeError, match=r"ascend\(\) was called already in this step"):
        optimizer.ascend()
    with pytest.raises(RuntimeError, match=r"descend\(\) ends that step, and retreat\(\) calls it off"):
        optimizer.step(closure_for(model))
    backward()
    optimizer.descend()
    loop_step(SAM(twin, SGD, **MOMENTUM), backward_for(twin))
    assert equal(states(model), states(twin))
    with pytest.raises(RuntimeError, match=r"descend\(\) ends what ascend\(\) began"):
        optimizer.descend()


@pytest.mark.parametrize("method", ["none", "every"])
def test_a_step_without_an_ascent_refuses_a_second_ascend_too(method, network, backward_for):
    model = network()
    optimizer, backward = METHODS[method](model, **MOMENTUM), backward_for(model)
    loop_step(optimizer, backward)
    backward()
    assert not optimizer.ascend()
    with pytest.raises(RuntimeError, match=r"ascend\(\) was called already in this step"):
        optimizer.ascend()
    optimizer.descend()


@pytest.mark.parametrize("method", ["sam", "gsam", "looksam", "two-steps"])
@pytest.mark.parametrize("bad_pass", [0, 1])
@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_a_gradient_that_is_not_finite_skips_the_step(method, bad_pass, value, network, backward_for):
    model = network()
    optimizer, backward, calls = METHODS[method](model, **MOMENTUM), backward_for(model), 0
    for _ in range(3):  # LookSAM ascends in the next one
        loop_step(optimizer, backward)
    before, kept = [p.detach().clone() for p in model.parameters()], momenta(optimizer)

    def bad_backward() -> None:
        nonlocal calls
        backward()
        if calls == bad_pass:
            poison(model, value)
        calls += 1

    assert loop_step(optimizer, bad_backward) == bad_pass + 1
    assert equal([p.detach() for p in model.parameters()], before)
    assert equal(momenta(optimizer), kept)
    assert (optimizer.skipped_steps, optimizer.last_step_skipped) == (1, True)
    assert (not optimizer.perturbed, model[1].track_running_stats) == (True, True)
    loop_step(optimizer, backward)
    assert (optimizer.skipped_steps, optimizer.last_step_skipped) == (1, False)


@pytest.mark.parametrize("method", ["sam", "asam", "gsam", "looksam", "two-steps"])
def test_a_scaler_is_divided_out_of_both_gradients(method, network, batch):
    models = network(), network()
    for model, scaler in zip(models, (GradScaler("cpu", init_scale=2.0**10), None), strict=True):
        optimizer = METHODS[method](model, scaler=scaler, **MOMENTUM)

        def backward(model: nn.Module = model, scaler: GradScaler | None = scaler) -> None:
            model.zero_grad()
            loss = functional.cross_entropy(model(batch[0]), batch[1])
            (loss if scaler is None else scaler.scale(loss)).backward()

        for _ in range(4):
            loop_step(optimizer, backward)
            if scaler is not None:
                scaler.update()
        assert optimizer.skipped_steps == 0
    assert equal(*map(states, models))


@pytest.mark.parametrize("bad_pass", [0, 1])
def test_an_overflow_halves_the_scale(bad_pass, network, batch):
    model, scaler = network(), GradScaler("cpu", init_scale=2.0**10)
    optimizer, calls = SAM(model, SGD, scaler=scaler, **MOMENTUM), 0

    def backward() -> None:
        nonlocal calls
        model.zero_grad()
        scaler.scale(functional.cross_entropy(model(batch[0]), batch[1])).backward()
        if calls == bad_pass:
            poison(model)
        calls += 1

    loop_step(optimizer, backward)
    scaler.update()
    assert (optimizer.skipped_steps, scaler.get_scale()) == (1, 2.0**9)
    loop_step(optimizer, backward)
    scaler.update()
    assert (optimizer.skipped_steps, scaler.get_scale()) == (1, 2.0**9)


@pytest.mark.parametrize("end", ["descend", "step"])
def test_schedulers_see_the_steps_and_do_not_warn(end, network, backward_for):
    model = network()
    optimizer, backward = SAM(model, SGD, **MOMENTUM), backward_for(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=5)
        for _ in range(3):
            backward()
            optimizer.ascend()
            backward()
            getattr(optimizer, end)()
            schedule.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1 * (1 + math.cos(0.6 * math.pi)) / 2)


@pytest.mark.parametrize("end", ["descend", "step"])
def test_hooks_on_steps_are_called_once(end, network, backward_for):
    model, calls = network(), []
    optimizer, backward = SAM(model, SGD, **MOMENTUM), backward_for(model)
    optimizer.register_step_pre_hook(lambda *_: calls.append("before"))
    optimizer.register_step_post_hook(lambda *_: calls.append("after"))
    backward()
    optimizer.ascend()
    backward()
    getattr(optimizer, end)()
    assert calls == ["before", "after"]


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda model: SAM(model, SGD, lr=0.1, regime=Regime(m=4)), "sam with m"),
        (lambda model: SAM(model, SGD, lr=0.1, regime=Regime(fraction=0.5)), "sam with fraction"),
        (lambda model: ESAM(model, SGD, lr=0.1), "esam"),
        (lambda model: SAM(model, SGD, lr=0.1, micro_batch=4), "micro_batch"),
    ],
)
def test_methods_that_look_at_parts_refuse_this_form(make, what, network, backward_for):
    model = network()
    optimizer = make(model)
    backward_for(model)()
    before = states(model)
    with pytest.raises(RuntimeError, match=rf"{what} looks at parts of the batch: use step\(closure, size=\.\.\.\)"):
        optimizer.ascend()
    assert equal(states(model), before)
