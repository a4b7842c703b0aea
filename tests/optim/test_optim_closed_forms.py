"""Steps computed by hand, the identities of the papers, and a second implementation in plain loops.

Everything is float64, so that a tolerance of 1e-12 tells a wrong formula from a rounding.
"""

import math

import pytest
import torch
from torch import Tensor, nn

from flatmin.optim import ASAM, SAM, SharpnessAware
from flatmin.optim.ascents.asam import AsamAscent
from flatmin.optim.ascents.none import NoAscent
from flatmin.optim.ascents.sam import SamAscent
from flatmin.optim.gradient import measured_norm, promised_norm

SGD = torch.optim.SGD


class Quadratic(nn.Module):
    """0.5 (a w^2 + c b^2), whose gradient is (a w, c b)."""

    def __init__(self, weight: float, bias: float, curvature: tuple[float, float]) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.tensor([weight])), nn.Parameter(torch.tensor([bias]))
        self.curvature = curvature

    def closure(self) -> Tensor:
        self.zero_grad()
        loss = 0.5 * (self.curvature[0] * self.weight**2 + self.curvature[1] * self.bias**2).sum()
        loss.backward()
        return loss

    @property
    def point(self) -> tuple[float, float]:
        return self.weight.item(), self.bias.item()


def test_sam_on_a_quadratic():
    # g = (3, 4) at w = (3, 2) with curvatures (1, 2), ||g|| = 5, eps = 0.5 g / 5 = (0.3, 0.4),
    # gradient there (3.3, 4.8), step 0.1: (3 - 0.33, 2 - 0.48)
    model = Quadratic(3.0, 2.0, (1.0, 2.0))
    loss = SAM(model, SGD, rho=0.5, lr=0.1).step(model.closure)
    assert loss.item() == pytest.approx(0.5 * (9 + 8), rel=1e-15)
    assert not loss.requires_grad
    assert model.point == pytest.approx((2.67, 1.52), rel=1e-14)


def test_asam_on_a_quadratic():
    # T = (|w| + eta, 1) = (2, 1) at w = -1.5, eta = 0.5; g = (-1.5, 4), T g = (-3, 4) of norm 5;
    # eps = 0.5 T^2 g / 5 = (-0.6, 0.4); gradient there (-2.1, 4.8) with curvatures (1, 2)
    model = Quadratic(-1.5, 2.0, (1.0, 2.0))
    ASAM(model, SGD, rho=0.5, eta=0.5, lr=0.1).step(model.closure)
    assert model.point == pytest.approx((-1.5 + 0.21, 2.0 - 0.48), rel=1e-14)


def test_asam_on_all_parameters_on_a_quadratic():
    # T = (1.5, 2) with eta = 0, T g = (-2.25, 8), eps = 0.5 T^2 g / ||T g||
    model = Quadratic(-1.5, 2.0, (1.0, 2.0))
    ASAM(model, SGD, rho=0.5, eta=0.0, parameters="all", lr=0.1).step(model.closure)
    norm = math.hypot(2.25, 8)
    eps = (-0.5 * 1.5**2 * 1.5 / norm, 0.5 * 4 * 4 / norm)
    expected = (-1.5 - 0.1 * (-1.5 + eps[0]), 2.0 - 0.1 * 2 * (2.0 + eps[1]))
    assert model.point == pytest.approx(expected, rel=1e-14)


def test_the_perturbation_of_sam_has_norm_rho(network, closure_for, watching):
    model = network()
    with watching(model, closure_for(model)) as (closure, weights, _):
        SAM(model, SGD, rho=0.37, lr=0.1).step(closure)
    eps = torch.cat([(after - before).flatten() for before, after in zip(*weights, strict=True)])
    assert eps.norm().item() == pytest.approx(0.37, rel=1e-12)


@pytest.mark.parametrize("rule", ["weights", "all"])
def test_the_perturbation_of_asam_has_norm_rho_in_units_of_the_weights(rule, network, closure_for, watching):
    model = network()
    with watching(model, closure_for(model)) as (closure, weights, _):
        ASAM(model, SGD, rho=0.37, eta=0.02, parameters=rule, lr=0.1).step(closure)
    squares = 0.0
    for (name, _), before, after in zip(model.named_parameters(), *weights, strict=True):
        scale = before.abs() + 0.02 if rule == "all" or name.endswith("weight") else torch.ones_like(before)
        squares += ((after - before) / scale).square().sum().item()
    assert math.sqrt(squares) == pytest.approx(0.37, rel=1e-12)


def test_the_perturbed_loss_of_asam_does_not_depend_on_the_scale_of_layers(batch):
    """w1 -> c w1, w2 -> w2 / c leaves a bias-free ReLU network's function alone, and ASAM's view of it (eta = 0)."""
    inputs, targets = batch[0].flatten(1), batch[1]
    perturbed: dict[str, list[float]] = {"asam": [], "sam": []}
    for method in perturbed:
        for c in (1.0, 7.0):
            torch.manual_seed(3)
            model = nn.Sequential(nn.Linear(108, 8, bias=False), nn.ReLU(), nn.Linear(8, 4, bias=False))
            with torch.no_grad():
                model[0].weight.mul_(c)
                model[2].weight.div_(c)
            losses: list[float] = []

            def closure(model: nn.Module = model, losses: list[float] = losses) -> Tensor:
                model.zero_grad()
                loss = nn.functional.cross_entropy(model(inputs), targets)
                loss.backward()
                losses.append(loss.item())
                return loss

            optimizer = ASAM(model, SGD, rho=0.5, eta=0.0, lr=0.1) if method == "asam" else SAM(model, SGD, lr=0.1)
            optimizer.step(closure)
            perturbed[method].append(losses[1] - losses[0])
    assert perturbed["asam"][0] == pytest.approx(perturbed["asam"][1], rel=1e-10)
    assert perturbed["sam"][0] != pytest.approx(perturbed["sam"][1], rel=1e-2)


def plain_loops(model: nn.Module, closure, method: str, steps: int) -> None:
    """SAM (rho 0.1) or ASAM (rho 0.6, eta 0.03) with momentum 0.9, weight decay 0.01 and lr 0.05, number by number."""
    momentum = [torch.zeros_like(p) for p in model.parameters()]
    for _ in range(steps):
        closure()
        start = {name: p.detach().clone() for name, p in model.named_parameters()}
        statistics = {name: b.clone() for name, b in model.named_buffers()}
        scales = {
            name: p.abs() + 0.03 if method == "asam" and name.endswith(".weight") else torch.ones_like(p)
            for name, p in start.items()
        }
        gradient = {name: p.grad.clone() for name, p in model.named_parameters()}
        squares = 0.0
        for name, g in gradient.items():
            for value in (scales[name] * g).flatten().tolist():
                squares += value * value
        factor = (0.6 if method == "asam" else 0.1) / math.sqrt(squares)
        for name, p in model.named_parameters():
            p.data = start[name] + factor * scales[name] * scales[name] * gradient[name]
        closure()
        for buffer, (name, p) in zip(momentum, model.named_parameters(), strict=True):
            buffer.copy_(0.9 * buffer + p.grad + 0.01 * start[name])
            p.data = start[name] - 0.05 * buffer
        for name, b in model.named_buffers():
            b.copy_(statistics[name])


@pytest.mark.parametrize("method", ["sam", "asam"])
def test_ten_steps_agree_with_a_second_implementation(method, network, closure_for):
    ours, theirs = network(), network()
    settings = {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.01}
    optimizer = (
        SAM(ours, SGD, rho=0.1, **settings) if method == "sam" else ASAM(ours, SGD, rho=0.6, eta=0.03, **settings)
    )
    for _ in range(10):
        optimizer.step(closure_for(ours))
    plain_loops(theirs, closure_for(theirs), method, steps=10)
    for left, right in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("ascent", [NoAscent(), SamAscent(rho=0.0), AsamAscent(rho=0.0)])
@pytest.mark.parametrize("implementation", [{"fused": True}, {"foreach": True}, {"foreach": False}])
@pytest.mark.parametrize(
    ("base", "settings"),
    [
        (SGD, {"momentum": 0.9, "nesterov": True, "weight_decay": 5e-4}),
        (SGD, {"momentum": 0.9, "dampening": 0.1}),
        (torch.optim.AdamW, {"weight_decay": 0.1}),
    ],
)
def test_without_an_ascent_the_step_is_the_base_optimizers_to_the_bit(
    ascent, implementation, base, settings, network, closure_for
):
    ours, theirs = network(), network()
    optimizer = SharpnessAware(ours, base, ascent, lr=0.1, **settings, **implementation)
    plain = base(theirs.parameters(), lr=0.1, **settings, **implementation)
    healthy, calls = closure_for(ours), 0

    def closure() -> Tensor:
        nonlocal calls
        calls += 1
        return healthy()

    for _ in range(20):
        assert torch.equal(optimizer.step(closure), plain.step(closure_for(theirs)))
    assert calls == 20
    assert all(map(torch.equal, ours.state_dict().values(), theirs.state_dict().values()))


@pytest.mark.parametrize("make", [SAM, ASAM])
def test_running_statistics_are_those_of_one_plain_forward_pass(make, network, closure_for):
    ours, theirs = network(), network()
    make(ours, SGD, lr=0.1).step(closure_for(ours))
    closure_for(theirs)()
    assert all(map(torch.equal, ours.buffers(), theirs.buffers()))


@pytest.mark.parametrize("implementation", [{"fused": True}, {"foreach": True}, {"foreach": False}])
def test_every_implementation_of_the_base_takes_the_same_step(implementation, network, closure_for):
    reference, model = network(), network()
    settings = {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-3}
    plain, optimizer = SAM(reference, SGD, **settings), SAM(model, SGD, **settings, **implementation)
    for _ in range(5):
        plain.step(closure_for(reference))
        optimizer.step(closure_for(model))
    for left, right in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-12, atol=1e-14)


def linear(gradient: list[float], dtype: torch.dtype) -> tuple[nn.Parameter, nn.Parameter, object]:
    """Parameters (w, 0) at zero and a closure that leaves the gradients (g, 0); norms of one number need no squares."""
    parameters = [nn.Parameter(torch.zeros(2, dtype=dtype)) for _ in gradient]

    def closure() -> Tensor:
        for p, g in zip(parameters, gradient, strict=True):
            p.grad = torch.tensor([g, 0.0], dtype=dtype)
        return torch.tensor(1.0)

    return parameters, closure


@pytest.mark.parametrize("size", [1e-36, 1e-20, 1.0, 1e20, 1e36])
@pytest.mark.parametrize("make", [SAM, ASAM])
def test_a_healthy_gradient_of_any_size_is_scaled_to_rho_in_float32(size, make):
    (first, second), closure = linear([3 * size, 4 * size], torch.float32)
    seen = []

    def watched() -> Tensor:
        seen.append((first[0].item(), second[0].item()))
        return closure()

    optimizer = make([("a.bias", first), ("b.bias", second)], SGD, rho=0.5, lr=0.0)
    optimizer.step(watched)
    assert seen[1] == pytest.approx((0.3, 0.4), rel=1e-6)
    assert not optimizer.last_step_skipped
    assert optimizer.last_gradient_norm == pytest.approx(5 * size, rel=1e-6)


@pytest.mark.parametrize("size", [0.0, 1e-40])
def test_a_gradient_that_is_zero_or_subnormal_perturbs_nothing(size):
    (first, second), closure = linear([3 * size, 4 * size], torch.float32)
    seen = []

    def watched() -> Tensor:
        seen.append((first[0].item(), second[0].item()))
        return closure()

    optimizer = SAM([first, second], SGD, lr=0.1)
    optimizer.step(watched)
    assert seen == [(0.0, 0.0), (0.0, 0.0)]
    assert not optimizer.last_step_skipped


def test_asam_stays_where_every_scaled_gradient_is_zero():
    # eta = 0 and w = 0: T g = 0, though g is not
    (first, second), closure = linear([3.0, 4.0], torch.float64)
    optimizer = ASAM([first, second], SGD, eta=0.0, parameters="all", lr=0.1)
    optimizer.step(closure)
    assert (first[0].item(), second[0].item()) == pytest.approx((-0.3, -0.4))
    assert optimizer.skipped_steps == 0


def test_the_norm_agrees_with_torch_and_tells_finite_from_not():
    gradients = [torch.randn(5, 3), torch.randn(7), torch.randn(2, dtype=torch.float32)]
    expected = math.sqrt(sum(g.double().square().sum().item() for g in gradients))
    for norm_of in (measured_norm, promised_norm):
        norm = norm_of(torch.tensor(1.0), gradients)
        assert norm.total == pytest.approx(expected, rel=1e-6)
        assert norm.finite
        assert not norm_of(torch.tensor(math.nan), gradients).finite
    gradients[1][3] = -math.inf
    for norm_of in (measured_norm, promised_norm):
        assert not norm_of(torch.tensor(1.0), gradients).finite
    assert measured_norm(torch.tensor(1.0), []).total == 0.0


@pytest.mark.parametrize("make", [SAM, ASAM])
def test_one_global_norm_and_a_radius_per_group(make, watching, network, closure_for):
    model = network()
    groups = [
        {"params": model[0].named_parameters("0"), "rho": 0.4},
        {"params": model[1].named_parameters("1"), "rho": 0.0},
        {"params": model[5].named_parameters("5")},
    ]
    with watching(model, closure_for(model)) as (closure, weights, gradients):
        make(groups, SGD, rho=0.1, lr=0.0, module=model).step(closure)
    scales = [
        w.abs() + 0.01 if make is ASAM and name.endswith("weight") else torch.ones_like(w)
        for (name, _), w in zip(model.named_parameters(), weights[0], strict=True)
    ]
    norm = math.sqrt(sum((t * g).square().sum().item() for t, g in zip(scales, gradients[0], strict=True)))
    for rho, before, after, t, g in zip((0.4, 0.4, 0, 0, 0.1, 0.1), *weights, scales, gradients[0], strict=True):
        torch.testing.assert_close(after - before, rho * t**2 * g / norm, rtol=1e-10, atol=1e-15)
