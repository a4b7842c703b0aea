"""Nine defects found in widely used implementations of SAM, each as the test that they fail."""

import copy
import warnings

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from flatmin.optim import ASAM, SAM, SharpnessAware, frozen_statistics

SGD = torch.optim.SGD
METHODS = {
    "sam": lambda model, **settings: SAM(model, SGD, rho=0.3, **settings),
    "asam": lambda model, **settings: ASAM(model, SGD, rho=0.5, **settings),
}
each_method = pytest.mark.parametrize("method", METHODS)


def state_of(model: nn.Module) -> list[Tensor]:
    return [value.clone() for value in model.state_dict().values()]


def equal(left: list[Tensor], right: list[Tensor]) -> bool:
    return len(left) == len(right) and all(map(torch.equal, left, right))


class Branch(nn.Module):
    """A network whose second branch takes part in the passes that ``active`` says."""

    def __init__(self, active: list[bool]) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 1), nn.Linear(4, 1)
        self.active = active
        self.calls = 0

    def forward(self, inputs: Tensor) -> Tensor:
        output = self.first(inputs)
        if self.active[self.calls % len(self.active)]:
            output = output + self.second(inputs)
        self.calls += 1
        return output


def branch_closure(model: Branch):
    inputs = torch.randn(8, 4)

    def closure() -> Tensor:
        model.zero_grad()
        loss = model(inputs).square().mean()
        loss.backward()
        return loss

    return closure


@each_method
def test_d1_a_resumed_run_equals_an_unbroken_one(method, network, closure_for):
    settings = {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-3}
    unbroken = network()
    optimizer = METHODS[method](unbroken, **settings)
    for _ in range(20):
        optimizer.step(closure_for(unbroken))

    first = network()
    optimizer = METHODS[method](first, **settings)
    for _ in range(10):
        optimizer.step(closure_for(first))
    saved = copy.deepcopy((first.state_dict(), optimizer.state_dict()))
    assert all("momentum_buffer" in state for state in saved[1]["state"].values())

    resumed = network()
    optimizer = METHODS[method](resumed, **settings)
    resumed.load_state_dict(saved[0])
    optimizer.load_state_dict(saved[1])
    for _ in range(10):
        optimizer.step(closure_for(resumed))
    assert equal(state_of(resumed), state_of(unbroken))


def test_d1_checkpoints_are_those_of_the_base_optimizer(network, closure_for):
    model = network()
    optimizer = SAM(model, SGD, lr=0.1, momentum=0.9)
    plain = SGD(model.parameters(), lr=0.5, momentum=0.1)
    optimizer.step(closure_for(model))
    assert optimizer.state_dict().keys() == plain.state_dict().keys()
    assert optimizer.state_dict()["param_groups"][0].keys() == plain.state_dict()["param_groups"][0].keys()

    plain.load_state_dict(optimizer.state_dict())
    assert plain.param_groups[0]["lr"] == 0.1
    other = SAM(model, SGD, lr=0.7, momentum=0.3)
    other.load_state_dict(plain.state_dict())
    assert other.param_groups[0]["momentum"] == 0.9
    momenta = [optimizer.state[p]["momentum_buffer"] for p in model.parameters()]
    assert equal([other.state[p]["momentum_buffer"] for p in model.parameters()], momenta)


@each_method
def test_d2_a_parameter_without_a_second_gradient_is_restored(method):
    model = Branch([True, False])
    optimizer = METHODS[method](model, lr=0.0)
    before = state_of(model)
    optimizer.step(branch_closure(model))
    assert model.second.weight.grad is None
    assert equal(state_of(model), before)


@each_method
def test_d3_no_stale_perturbation_is_subtracted(method):
    model = Branch([True, False, False, True])  # the second step meets the branch in its second pass only
    optimizer = METHODS[method](model, lr=0.0)
    before = state_of(model)
    closure = branch_closure(model)
    for _ in range(4):
        optimizer.step(closure)
    assert equal(state_of(model), before)


@each_method
@pytest.mark.parametrize("poison", [float("inf"), float("-inf"), float("nan")])
@pytest.mark.parametrize("bad_pass", [0, 1])
@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_d4_a_step_that_is_not_finite_is_skipped(method, poison, bad_pass, where, network, closure_for):
    model = network()
    optimizer = METHODS[method](model, lr=0.1, momentum=0.9)
    healthy = closure_for(model)
    optimizer.step(healthy)
    before = state_of(model)
    momenta = [optimizer.state[p]["momentum_buffer"].clone() for p in model.parameters()]
    calls = 0

    def closure() -> Tensor:
        nonlocal calls
        loss = healthy()
        if calls == bad_pass and where == "gradient":
            model[0].weight.grad[0, 0, 0, 0] = poison
        if calls == bad_pass and where == "loss":
            loss = loss * poison
        calls += 1
        return loss

    optimizer.step(closure)
    assert calls == bad_pass + 1
    assert equal(state_of(model), before)  # running statistics and batch counters among them
    assert equal([optimizer.state[p]["momentum_buffer"] for p in model.parameters()], momenta)
    assert (optimizer.skipped_steps, optimizer.last_step_skipped) == (1, True)

    optimizer.step(healthy)
    assert (optimizer.skipped_steps, optimizer.last_step_skipped) == (1, False)
    assert not equal(state_of(model), before)


@each_method
def test_d5_weights_come_back_to_the_bit_in_their_own_storage(method, network, closure_for, watching):
    model = network()
    optimizer = METHODS[method](model, lr=0.0)
    before, addresses = state_of(model), [p.data_ptr() for p in model.parameters()]
    with watching(model, closure_for(model)) as (closure, weights, _):
        optimizer.step(closure)
    assert not any(map(torch.equal, *weights))  # every tensor had moved
    assert equal([p.detach() for p in model.parameters()], weights[0])
    assert equal(state_of(model)[:2], before[:2])
    assert [p.data_ptr() for p in model.parameters()] == addresses


def test_d6_asam_is_the_authors_rule_and_the_ports_rule_has_its_own_name(network, closure_for, watching):
    moved = {}
    for rule, eta in (("weights", 0.01), ("all", 0.0)):
        model = network()
        optimizer = ASAM(model, SGD, rho=0.5, eta=eta, parameters=rule, lr=0.0)
        with watching(model, closure_for(model)) as (closure, weights, gradients):
            optimizer.step(closure)
        names = [name for name, _ in model.named_parameters()]
        scales = [
            torch.ones_like(w) if rule == "weights" and "weight" not in name else w.abs() + eta
            for name, w in zip(names, weights[0], strict=True)
        ]
        norm = sum(((t * g) ** 2).sum() for t, g in zip(scales, gradients[0], strict=True)).sqrt()
        for name, w0, w1, t, g in zip(names, *weights, scales, gradients[0], strict=True):
            torch.testing.assert_close(w1 - w0, 0.5 * t**2 * g / norm, rtol=1e-12, atol=1e-14)
            moved[rule, name] = (w1 - w0).norm()
    assert moved["weights", "5.bias"] > 2 * moved["all", "5.bias"]


def test_d7_freezing_statistics_twice_and_thawing_leaves_nothing_behind(network, batch):
    model, twin = network(), network()
    with frozen_statistics(model):
        with frozen_statistics(model):
            model(batch[0])
        model(batch[0])
    assert equal(state_of(model), state_of(twin))  # num_batches_tracked did not move either
    assert vars(model[1]).keys() == vars(twin[1]).keys()
    assert (model[1].momentum, model[1].track_running_stats) == (0.1, True)
    model(batch[0])
    twin(batch[0])
    assert equal(state_of(model), state_of(twin))
    assert model[1].num_batches_tracked == 1


@each_method
@pytest.mark.parametrize("base", [SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop])
def test_d8_any_base_optimizer_serves(method, base, network, closure_for):
    model = network()
    ascent = METHODS[method](network(), lr=0.1).ascent
    optimizer = SharpnessAware(model, base, ascent, lr=1e-3)
    losses = [optimizer.step(closure_for(model)) for _ in range(30)]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(
    "scheduler",
    [
        lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=5),
        lambda optimizer: torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step),
        lambda optimizer: torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=6),
    ],
)
def test_d9_schedulers_work_without_warnings(scheduler, network, closure_for):
    rates = []
    for make in (SAM, None):
        model = network()
        parts = {"lr": 0.1, "momentum": 0.9}
        optimizer = SAM(model, SGD, **parts) if make else SGD(model.parameters(), **parts)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            schedule = scheduler(optimizer)
            for _ in range(5):
                optimizer.step(closure_for(model))
                schedule.step()
                rates.append((optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["momentum"]))
    assert rates[:5] == rates[5:]
    assert len(set(rates)) == 5


def test_d9_the_rate_of_the_schedule_is_the_rate_of_the_step():
    weight = nn.Parameter(torch.tensor([2.0]))
    optimizer = SAM([weight], SGD, rho=0.0, lr=1.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.25 if step else 1.0)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = functional.relu(weight).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    schedule.step()
    optimizer.step(closure)
    assert weight.item() == 0.75
