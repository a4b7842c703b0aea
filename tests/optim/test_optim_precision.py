"""Loss scaling, bfloat16, compiled models, and steps that never wait for the device."""

import math
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from flatmin.optim import ASAM, ESAM, GSAM, SAM, FisherSAM, LookSAM, Regime, SharpnessAware
from flatmin.optim.ascents.random import RandomAscent

SGD, AdamW = torch.optim.SGD, torch.optim.AdamW
Closure = Callable[[], Tensor]
Batch = tuple[Tensor, Tensor]


def states(model: nn.Module) -> list[Tensor]:
    return [value.clone() for value in model.state_dict().values()]


def state_of_base(optimizer: SharpnessAware) -> list[Tensor]:
    return [value.clone() for state in optimizer.state.values() for value in state.values() if value is not None]


def equal(left: list[Tensor], right: list[Tensor]) -> bool:
    return len(left) == len(right) and all(map(torch.equal, left, right))


def assert_close(left: nn.Module, right: nn.Module, rtol: float = 1e-12) -> None:
    for ours, theirs in zip(states(left), states(right), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=rtol, atol=rtol)


def closure_on(model: nn.Module, batch: Batch, scaler: GradScaler | None = None) -> Closure:
    def closure() -> Tensor:
        model.zero_grad()
        loss = functional.cross_entropy(model(batch[0]), batch[1])
        (loss if scaler is None else scaler.scale(loss)).backward()
        return loss

    return closure


def part_closure_on(model: nn.Module, batch: Batch, scaler: GradScaler | None = None) -> Callable[[slice], Tensor]:
    return lambda part: closure_on(model, (batch[0][part], batch[1][part]), scaler)()


def poisoned(closure: Closure, model: nn.Module, bad_pass: int, where: str, poison: float) -> Closure:
    """The closure, with a gradient or the loss of one of its calls multiplied by ``poison``."""
    calls = 0

    def bad() -> Tensor:
        nonlocal calls
        loss = closure()
        if calls == bad_pass and where == "gradient":
            next(iter(model.parameters())).grad.mul_(poison)
        if calls == bad_pass and where == "loss":
            loss = loss * poison
        calls += 1
        return loss

    return bad


SCALED = {
    "sam": lambda model, **settings: SAM(model, SGD, rho=0.3, **settings),
    "asam": lambda model, **settings: ASAM(model, SGD, **settings),
    "fisher": lambda model, **settings: FisherSAM(model, SGD, rho=0.3, eta=5.0, **settings),
    "gsam": lambda model, **settings: GSAM(model, SGD, rho=0.3, **settings),
    "looksam": lambda model, **settings: LookSAM(model, SGD, rho=0.3, k=2, **settings),
}
each_scaled_method = pytest.mark.parametrize("method", SCALED)


def trained(method: str, model: nn.Module, batch: Batch, scaler: GradScaler | None, steps: int = 4) -> nn.Module:
    optimizer = SCALED[method](model, lr=0.1, momentum=0.9, scaler=scaler)
    for _ in range(steps):
        optimizer.step(closure_on(model, batch, scaler))
        if scaler is not None:
            scaler.update()
    assert optimizer.skipped_steps == 0
    return model


@each_scaled_method
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("scale", [2.0**0, 2.0**10, 2.0**16])
def test_a_loss_scale_that_is_a_power_of_two_changes_no_bit(method, dtype, scale, network, batch):
    batch = batch[0].to(dtype), batch[1]
    scaled = trained(method, network().to(dtype), batch, GradScaler("cpu", init_scale=scale))
    assert equal(states(scaled), states(trained(method, network().to(dtype), batch, None)))


@each_scaled_method
def test_any_loss_scale_is_divided_out_within_rounding(method, network, batch):
    scaled = trained(method, network(), batch, GradScaler("cpu", init_scale=1000.0))
    assert_close(scaled, trained(method, network(), batch, None), rtol=1e-6)  # a scaler's inverse is float32


@each_scaled_method
def test_a_disabled_scaler_is_none(method, network, batch):
    disabled = trained(method, network(), batch, GradScaler("cpu", enabled=False))
    assert equal(states(disabled), states(trained(method, network(), batch, None)))


def test_every_call_of_micro_batches_is_unscaled(network, batch):
    models = network(), network()
    for model, scaler in zip(models, (GradScaler("cpu", init_scale=2.0**10), None), strict=True):
        optimizer = SAM(model, SGD, lr=0.1, micro_batch=5, scaler=scaler)
        closure = part_closure_on(model, batch, scaler)
        for _ in range(2):
            optimizer.step(closure, size=16)
            if scaler is not None:
                scaler.update()
    assert equal(*map(states, models))


@each_scaled_method
@pytest.mark.parametrize("bad_pass", [0, 1])
def test_overflows_skip_steps_and_halve_the_scale(method, bad_pass, network, batch):
    model, scaler = network(), GradScaler("cpu", init_scale=2.0**10)
    optimizer = SCALED[method](model, lr=0.1, momentum=0.9, scaler=scaler)
    closure = closure_on(model, batch, scaler)
    for skipped in (1, 2):
        for _ in range(2 if skipped == 1 else 1):  # so that LookSAM ascends in the bad step
            optimizer.step(closure)
            scaler.update()
        assert optimizer.skipped_steps == skipped - 1
        before, momenta = states(model), state_of_base(optimizer)
        optimizer.step(poisoned(closure, model, bad_pass, "gradient", math.inf))
        scaler.update()
        assert (optimizer.skipped_steps, optimizer.last_step_skipped) == (skipped, True)
        assert scaler.get_scale() == 2.0 ** (10 - skipped)
        assert equal(states(model), before)  # running statistics among them
        assert equal(state_of_base(optimizer), momenta)
    optimizer.step(closure)
    assert not optimizer.last_step_skipped
    assert not equal(states(model), before)


def test_a_forgotten_update_of_the_scaler_is_an_error_that_changes_nothing(network, batch):
    model, scaler = network(), GradScaler("cpu")
    optimizer = SAM(model, SGD, lr=0.1, scaler=scaler)
    optimizer.step(closure_on(model, batch, scaler))
    before = states(model)
    with pytest.raises(RuntimeError, match=r"unscale_\(\) has already been called.*since the last update\(\)"):
        optimizer.step(closure_on(model, batch, scaler))
    assert equal(states(model), before)


@pytest.fixture
def single_precision(_float64) -> None:
    torch.set_default_dtype(torch.float32)


def autocast_closure(model: nn.Module, batch: Batch, losses: list[float], *, inside: bool) -> Closure:
    def closure() -> Tensor:
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=inside or torch.is_autocast_enabled("cpu")):
            loss = functional.cross_entropy(model(batch[0].float()).float(), batch[1])
        loss.backward()
        losses.append(loss.item())
        return loss

    return closure


@pytest.mark.usefixtures("single_precision")
@pytest.mark.parametrize("method", SCALED)
def test_float32_weights_come_back_to_the_bit_from_bfloat16_passes(method, network, batch, watching):
    model, losses = network(), []
    optimizer = SCALED[method](model, lr=0.0)
    with watching(model, autocast_closure(model, batch, losses, inside=True)) as (closure, weights, _):
        optimizer.step(closure)
    assert not any(map(torch.equal, *weights))
    assert all(p.dtype == torch.float32 for p in model.parameters())
    assert equal([p.detach() for p in model.parameters()], weights[0])
    assert optimizer.skipped_steps == 0


@pytest.mark.usefixtures("single_precision")
def test_autocast_around_the_step_does_not_serve_stale_casts_of_the_weights(network, batch):
    """Autocast keeps its casts of the weights until its outermost block ends, however the weights move meanwhile."""
    inner, outer = [], []
    model = network()
    SAM(model, SGD, rho=1.0, lr=0.1).step(autocast_closure(model, batch, inner, inside=True))
    twin = network()
    optimizer = SAM(twin, SGD, rho=1.0, lr=0.1)
    with torch.autocast("cpu", torch.bfloat16):
        optimizer.step(autocast_closure(twin, batch, outer, inside=False))
    assert inner[0] == outer[0]
    assert inner[1] == outer[1]
    assert equal(states(model), states(twin))


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled_models_take_the_steps_of_eager_ones(backend, network, batch):
    torch._dynamo.reset()
    eager, source = network(), network()
    compiled = torch.compile(source, backend=backend)
    plain = SAM(eager, SGD, rho=0.3, lr=0.1, momentum=0.9)
    optimizer = SAM(compiled, SGD, rho=0.3, lr=0.1, momentum=0.9)
    for step in range(1, 4):
        plain.step(closure_on(eager, batch))
        optimizer.step(closure_on(compiled, batch))
        assert source[1].num_batches_tracked == step
    assert_close(source, eager)


class HostReads(TorchDispatchMode):
    """Counts the numbers that the host asks of tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **kwargs or {})


class AsOnADevice(TorchFunctionMode):
    """Tensors say that they are not on the CPU, where a number costs nothing and some code asks for it at once."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        return False if func == Tensor.is_cpu.__get__ else func(*args, **kwargs or {})


AHEAD = {
    "sam": lambda model, base, **settings: SAM(model, base, rho=0.3, **settings),
    "sam-linf": lambda model, base, **settings: SAM(model, base, rho=0.02, norm="linf", **settings),
    "sam-none": lambda model, base, **settings: SAM(model, base, rho=0.3, norm="none", **settings),
    "asam": lambda model, base, **settings: ASAM(model, base, **settings),
    "asam-linf": lambda model, base, **settings: ASAM(model, base, rho=0.05, norm="linf", **settings),
    "gsam": lambda model, base, **settings: GSAM(model, base, rho=0.3, **settings),
    "fisher": lambda model, base, **settings: FisherSAM(model, base, rho=0.3, eta=5.0, **settings),
    "esam": lambda model, base, **settings: ESAM(model, base, rho=0.3, gamma=1.0, **settings),
    "random": lambda model, base, **settings: SharpnessAware(model, base, RandomAscent(rho=0.3), **settings),
    "two-steps": lambda model, base, **settings: SAM(model, base, rho=0.3, regime=Regime(steps=2), **settings),
    "every": lambda model, base, **settings: SAM(model, base, rho=0.3, regime=Regime(every=2), **settings),
    "clipped": lambda model, base, **settings: SAM(model, base, rho=0.3, clip_norm=0.1, **settings),
    "norm-layers": lambda model, base, **settings: SAM(model, base, rho=0.3, regime=Regime(only="norm"), **settings),
    "l2": lambda model, base, **settings: SAM(model, base, rho=0.3, l2=0.01, **settings),
}
each_method_ahead = pytest.mark.parametrize("method", AHEAD)
each_fused_base = pytest.mark.parametrize(
    ("base", "settings"),
    [(SGD, {"lr": 0.1, "momentum": 0.9, "fused": True}), (AdamW, {"lr": 0.01, "fused": True})],
    ids=["sgd", "adamw"],
)
FUSED = {"lr": 0.1, "momentum": 0.9, "fused": True}


@pytest.fixture
def ahead(monkeypatch) -> Iterator[None]:
    monkeypatch.setattr("flatmin.optim.step.device_runs_ahead", lambda groups: True)


@pytest.mark.usefixtures("ahead")
@each_method_ahead
@each_fused_base
def test_the_host_asks_for_no_number_after_the_first_step(method, base, settings, network, batch):
    model = network()
    optimizer = AHEAD[method](model, base, **settings)
    closure = closure_on(model, batch)
    optimizer.step(closure)
    for _ in range(3):
        with AsOnADevice(), HostReads() as reads:
            optimizer.step(closure)
        assert reads.count == 0
    assert optimizer.skipped_steps == 0


@pytest.mark.usefixtures("ahead")
def test_parts_of_the_batch_are_not_waited_for_either(network, batch):
    model = network()
    optimizer = SAM(model, SGD, rho=0.3, regime=Regime(m=4), micro_batch=2, **FUSED)
    for step in range(3):
        with HostReads() as reads:
            optimizer.step(part_closure_on(model, batch), size=16)
        assert (reads.count == 0) == (step > 0)


@pytest.mark.usefixtures("ahead")
def test_a_method_with_a_memory_waits(network, batch):
    model = network()
    optimizer = LookSAM(model, SGD, k=2, **FUSED)
    for _ in range(2):
        with HostReads() as reads:
            optimizer.step(closure_on(model, batch))
        assert reads.count > 0


@each_method_ahead
@each_fused_base
def test_running_ahead_changes_no_iterate(method, base, settings, network, batch, request):
    models, norms = (network(), network()), []
    for model, fixtures in zip(models, ([], ["ahead"]), strict=True):
        model[0].bias.requires_grad_(False)  # batch norm makes its gradient a rounding error, which Adam magnifies
        for fixture in fixtures:
            request.getfixturevalue(fixture)
        optimizer = AHEAD[method](model, base, **settings)
        for _ in range(6):
            optimizer.step(closure_on(model, batch))
        norms.append(optimizer.last_gradient_norm)
        assert (optimizer.skipped_steps, optimizer.last_step_skipped) == (0, False)
    assert_close(*models)
    assert norms[1] == pytest.approx(norms[0], rel=1e-10)


@pytest.mark.usefixtures("ahead")
@each_method_ahead
@pytest.mark.parametrize("bad_pass", [0, 1])
@pytest.mark.parametrize(
    ("where", "poison"), [("gradient", math.inf), ("gradient", math.nan), ("loss", math.nan)], ids=str
)
def test_the_device_skips_what_is_not_finite(method, bad_pass, where, poison, network, batch):
    model = network()
    optimizer = AHEAD[method](model, SGD, **FUSED)
    closure = closure_on(model, batch)
    for _ in range(2):  # the next step ascends where every second one does
        optimizer.step(closure)
    before, momenta = states(model), state_of_base(optimizer)
    optimizer.step(poisoned(closure, model, bad_pass, where, poison))
    assert equal(states(model), before)
    assert equal(state_of_base(optimizer), momenta)
    assert (optimizer.skipped_steps, optimizer.last_step_skipped) == (1, True)
    optimizer.step(closure)
    assert (optimizer.skipped_steps, optimizer.last_step_skipped) == (1, False)
    assert not equal(states(model), before)


@pytest.mark.usefixtures("ahead")
def test_the_norm_of_an_infinite_gradient_is_nan_when_nobody_waited(network, batch):
    model = network()
    optimizer = SAM(model, SGD, **FUSED)
    optimizer.step(closure_on(model, batch))
    optimizer.step(poisoned(closure_on(model, batch), model, 0, "gradient", math.inf))
    assert math.isnan(optimizer.last_gradient_norm)


@pytest.mark.usefixtures("ahead")
def test_adamw_keeps_its_state_in_a_step_that_the_device_skips(network, batch):
    model = network()
    optimizer = SAM(model, AdamW, lr=0.01, fused=True)
    closure = closure_on(model, batch)
    optimizer.step(closure)
    before = state_of_base(optimizer)
    optimizer.step(poisoned(closure, model, 1, "gradient", math.nan))
    assert optimizer.last_step_skipped
    assert equal(state_of_base(optimizer), before)  # its step counters among them


@pytest.fixture
def noisy_memory() -> Iterator[None]:
    """Memory that nobody wrote to holds NaN, rather than what happened to be there."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("noisy_memory", "ahead")
@pytest.mark.parametrize("skipped_first", [1, 2])
def test_momentum_starts_with_the_first_step_that_is_taken(skipped_first, network, batch):
    model, late = network(), network()
    optimizer, closure = SAM(model, SGD, **FUSED), closure_on(model, batch)
    for _ in range(skipped_first):
        optimizer.step(poisoned(closure, model, 0, "gradient", math.nan))
    late_optimizer = SAM(late, SGD, **FUSED)
    for _ in range(3):
        optimizer.step(closure)
        late_optimizer.step(closure_on(late, batch))
    assert optimizer.skipped_steps == skipped_first
    assert_close(model, late)


@pytest.mark.usefixtures("noisy_memory", "ahead")
def test_momentum_of_a_group_added_later_starts_with_the_first_step_that_is_taken(network, batch):
    model = network()
    optimizer = SAM(model[0].parameters(), SGD, module=model, **FUSED)
    closure = closure_on(model, batch)
    optimizer.step(closure)
    optimizer.add_param_group({"params": model[5].parameters()})
    optimizer.step(poisoned(closure, model, 1, "gradient", math.nan))
    before = model[5].weight.detach().clone()
    optimizer.step(closure)
    torch.testing.assert_close(model[5].weight.detach(), before - 0.1 * model[5].weight.grad)


@pytest.mark.parametrize("fixtures", [[], ["ahead"]], ids=["waiting", "ahead"])
def test_a_second_pass_without_any_gradient_moves_no_weight(fixtures, network, batch, request):
    for fixture in fixtures:
        request.getfixturevalue(fixture)
    model = network()
    optimizer, healthy = SAM(model, SGD, **FUSED), closure_on(model, batch)
    optimizer.step(healthy)
    before = [p.detach().clone() for p in model.parameters()]

    def closure() -> Tensor:
        if not optimizer.perturbed:
            return healthy()
        model.zero_grad()
        return torch.zeros(())

    optimizer.step(closure)
    assert not optimizer.last_step_skipped
    assert equal([p.detach() for p in model.parameters()], before)
