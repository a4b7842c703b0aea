"""Every method against its equations, written as plain loops over one vector of weights or as recursions by hand.

Everything is float64: a tolerance of 1e-12 tells a wrong formula from a rounding.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable

import method_cases
import pytest
import torch
from method_cases import ALL, ASCENTS, IMAGES, REGIMES, Call, Watched, flat, network
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from flatmin.optim import Ascent, Regime, RhoSchedule, RhoScheduler, SharpnessAware, load, names

SGD = torch.optim.SGD
LR, MOMENTUM, DECAY = 0.05, 0.9, 0.01
SETTINGS = {"lr": LR, "momentum": MOMENTUM, "weight_decay": DECAY}


class PlainLoop:
    """SGD with momentum and weight decay by hand; weights, gradients and eps are vectors of all parameters."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.inputs, self.targets = method_cases.batch()
        self.shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
        self.buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
        self.w = flat(model.parameters())
        self.velocity = torch.zeros_like(self.w)
        self.lr, self.taken = LR, 0

    def tensors(self, vector: Tensor) -> dict[str, Tensor]:
        pieces = vector.split([shape.numel() for shape in self.shapes.values()])
        return {name: piece.view(shape) for (name, shape), piece in zip(self.shapes.items(), pieces, strict=True)}

    def vector(self, entries: Callable[[str, Tensor], Tensor | float]) -> Tensor:
        """A number for every weight, from each tensor's name and values."""
        tensors = self.tensors(self.w).items()
        return flat(torch.as_tensor(entries(name, tensor)).expand_as(tensor) for name, tensor in tensors)

    def copied_buffers(self) -> dict[str, Tensor]:
        return {name: buffer.clone() for name, buffer in self.buffers.items()}

    def losses(self, w: Tensor, part: slice | list[int] = ALL, buffers: dict[str, Tensor] | None = None) -> Tensor:
        """The samples' losses at ``w``; running statistics move in ``buffers`` alone."""
        state = {**self.tensors(w), **(self.copied_buffers() if buffers is None else buffers)}
        outputs = functional_call(self.model, state, (self.inputs[part],))
        return functional.cross_entropy(outputs, self.targets[part], reduction="none")

    def gradient(self, w: Tensor, part: slice | list[int] = ALL, buffers: dict[str, Tensor] | None = None) -> Tensor:
        w = w.clone().requires_grad_()
        return torch.autograd.grad(self.losses(w, part, buffers).mean(), w)[0]

    def clean(self) -> Tensor:
        return self.gradient(self.w, buffers=self.buffers)

    def descend(self, direction: Tensor) -> None:
        self.velocity = MOMENTUM * self.velocity + direction + DECAY * self.w
        self.w = self.w - self.lr * self.velocity
        self.taken += 1


Direction = Callable[[PlainLoop, list[Call]], Tensor]
"""What a method descends along, in a step whose calls of the closure were these."""


def assert_steps_follow(
    direction: Direction,
    ascent: Ascent,
    regime: Regime | None = None,
    *,
    net: str = "convolution",
    steps: int = 7,
    schedule: RhoSchedule | None = None,
) -> None:
    """Weights, running statistics and the global random numbers go step by step as in the plain loop."""
    model = network(net)
    loop, closure = PlainLoop(network(net)), Watched(model)
    optimizer = SharpnessAware(model, SGD, ascent, regime=regime, **SETTINGS)
    schedulers = []
    if schedule is not None:
        rates = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / 12)
        schedulers = [rates, RhoScheduler(optimizer, schedule, steps)]
    for _ in range(steps):
        begin = torch.get_rng_state()
        optimizer.step(closure, size=IMAGES)
        end = torch.get_rng_state()
        torch.set_rng_state(begin)
        loop.descend(direction(loop, closure.taken()))
        assert torch.equal(torch.get_rng_state(), end)
        torch.testing.assert_close(flat(model.parameters()), loop.w, rtol=1e-12, atol=1e-13)
        for name, buffer in model.named_buffers():
            torch.testing.assert_close(buffer, loop.buffers[name], rtol=1e-12, atol=1e-13)
        for scheduler in schedulers:
            scheduler.step()
        if schedule is not None:
            loop.lr = LR * (1 - loop.taken / 12)


def unit(vector: Tensor) -> Tensor:
    return vector / vector.square().sum().sqrt()


def orthogonal(vector: Tensor, to: Tensor) -> Tensor:
    return vector - (vector @ to) / (to @ to) * to


def scales_of(loop: PlainLoop, ascent: Ascent) -> Tensor:
    """ASAM's T."""

    def scale(name: str, tensor: Tensor) -> Tensor | float:
        if ascent.parameters == "weights" and "weight" not in name:
            return 1.0
        if ascent.unit == "layer":
            return tensor.square().sum().sqrt() + ascent.eta
        if ascent.unit == "filter" and tensor.dim() > 1:
            norms = [part.square().sum().sqrt() + ascent.eta for part in tensor]
            return torch.stack(norms).view(-1, *[1] * (tensor.dim() - 1))
        return tensor.abs() + ascent.eta

    return loop.vector(scale)


def test_no_ascent_is_sgd():
    assert_steps_follow(lambda loop, _: loop.clean(), load("none")())


def sam(loop: PlainLoop, _: list[Call], rho: float | Tensor = 0.3) -> Tensor:
    return loop.gradient(loop.w + rho * unit(loop.clean()))


@pytest.mark.parametrize("net", ["convolution", "perceptron"])
def test_sam(net):
    assert_steps_follow(sam, load("sam")(rho=0.3), net=net)


def test_sam_in_the_maximum_norm():
    assert_steps_follow(
        lambda loop, _: loop.gradient(loop.w + 0.02 * loop.clean().sign()), load("sam")(rho=0.02, norm="linf")
    )


def test_sam_without_normalisation():
    assert_steps_follow(lambda loop, _: loop.gradient(loop.w + 0.3 * loop.clean()), load("sam")(rho=0.3, norm="none"))


@pytest.mark.parametrize("case", [case for case in ASCENTS if case.startswith("asam")])
def test_asam(case):
    ascent = ASCENTS[case]

    def direction(loop: PlainLoop, _: list[Call]) -> Tensor:
        g, T = loop.clean(), scales_of(loop, ascent)
        eps = T * g.sign() if ascent.norm == "linf" else T * unit(T * g)
        return loop.gradient(loop.w + ascent.rho * eps)

    assert_steps_follow(direction, ascent)


def test_fisher_sam():
    def direction(loop: PlainLoop, _: list[Call]) -> Tensor:
        g = loop.clean()
        F = 1 + 50.0 * g * g
        assert F.max() > 1.5  # or this would be a test of SAM
        return loop.gradient(loop.w + 0.3 * g / F / (g @ (g / F)).sqrt())

    assert_steps_follow(direction, load("fisher")(rho=0.3, eta=50.0))


def test_looksam():
    kept: list[Tensor] = []

    def direction(loop: PlainLoop, _: list[Call]) -> Tensor:
        g = loop.clean()
        if loop.taken % 3 == 0:
            g_s = loop.gradient(loop.w + 0.3 * unit(g))
            kept[:] = [orthogonal(g_s, to=g)]
            return g_s
        g_v = kept[0]
        return g + 0.8 * g.norm() / g_v.norm() * g_v

    assert_steps_follow(direction, load("looksam")(rho=0.3, k=3, alpha=0.8))


def test_gsam():
    def direction(loop: PlainLoop, _: list[Call]) -> Tensor:
        g = loop.clean()
        g_s = loop.gradient(loop.w + 0.3 * unit(g))
        return g_s - 0.6 * orthogonal(g, to=g_s)

    assert_steps_follow(direction, load("gsam")(rho=0.3, alpha=0.6))


@pytest.mark.parametrize(("gamma", "chosen"), [(0.5, 8), (0.3, 5), (0.01, 1)])
def test_esam(gamma, chosen):
    rho, beta = 0.3, 0.6
    masks: list[Tensor] = []

    def direction(loop: PlainLoop, calls: list[Call]) -> Tensor:
        clean, forward, second = calls
        g, before = loop.clean(), loop.losses(loop.w)
        full = rho * g / (beta * g.norm())
        applied = second.weights - clean.weights
        masks.append(applied.abs() > 0.5 * full.abs())
        eps = torch.where(masks[-1], full, 0.0)
        torch.testing.assert_close(applied, eps, rtol=0, atol=1e-15)
        assert torch.equal(forward.weights, second.weights)
        rise = loop.losses(loop.w + eps) - before
        rose_most = rise.argsort(descending=True)[:chosen].sort().values.tolist()
        assert (forward.samples, second.samples) == (clean.samples, rose_most)
        assert forward.gradient is None
        return loop.gradient(loop.w + eps, rose_most)

    assert_steps_follow(direction, load("esam")(rho=rho, beta=beta, gamma=gamma))
    assert torch.stack(masks).double().mean().item() == pytest.approx(beta, abs=0.04)
    assert not any(map(torch.equal, masks, masks[1:]))


def test_random_perturbations():
    moves: list[Tensor] = []

    def direction(loop: PlainLoop, calls: list[Call]) -> Tensor:
        loop.clean()
        clean, second = calls
        moves.append(second.weights - clean.weights)
        assert moves[-1].norm().item() == pytest.approx(0.3, rel=1e-12)
        return loop.gradient(second.weights)

    assert_steps_follow(direction, load("random")(rho=0.3))
    cosines = [unit(left) @ unit(right) for left, right in itertools.combinations(moves, 2)]
    assert max(map(abs, cosines)) < 0.3  # a standard deviation is 1 / sqrt(229 weights)


def test_random_directions_are_uniform_on_the_circle_and_new_in_every_step():
    parameters = [nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))]
    optimizer = SharpnessAware(parameters, SGD, load("random")(rho=1.0), lr=0.0)
    seen: list[Tensor] = []

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = sum(p.square().sum() for p in parameters)
        loss.backward()
        seen.append(flat(parameters))
        return loss

    for _ in range(2000):
        optimizer.step(closure)
    x, y = (torch.stack(seen[1::2]) - 1).T
    angles = torch.atan2(y, x)
    assert len(set(angles.tolist())) == 2000
    # noise uniform in a square, made as long as rho, would have a fourth harmonic of its own
    harmonics = torch.outer(torch.arange(1.0, 5.0), angles)
    waves = torch.stack([harmonics.cos().mean(1), harmonics.sin().mean(1)])
    assert waves.abs().max() < 0.06  # a standard deviation is 0.016


@pytest.mark.parametrize("steps", [2, 3])
@pytest.mark.parametrize("case", ["sam", "asam l2 element weights", "asam l2 filter all"])
def test_an_ascent_of_several_gradients(case, steps):
    ascent = ASCENTS[case]

    def direction(loop: PlainLoop, _: list[Call]) -> Tensor:
        T = scales_of(loop, ascent) if ascent.name == "asam" else torch.ones_like(loop.w)
        at, g = loop.w, loop.clean()
        for move in range(steps):
            if move:
                g = loop.gradient(at)
            at = at + ascent.rho / steps * T * unit(T * g)
        return loop.gradient(at)

    assert_steps_follow(direction, ascent, Regime(steps=steps))


def test_an_ascent_every_few_steps():
    def direction(loop: PlainLoop, calls: list[Call]) -> Tensor:
        return sam(loop, calls) if loop.taken % 3 == 0 else loop.clean()

    assert_steps_follow(direction, load("sam")(rho=0.3), Regime(every=3), steps=8)


@pytest.mark.parametrize("ragged", ["weighted", "dropped"])
@pytest.mark.parametrize("net", ["convolution", "perceptron"])
def test_an_ascent_for_every_m_images(ragged, net):
    parts = [range(0, 6), range(6, 12), *([range(12, 16)] if ragged == "weighted" else [])]

    def direction(loop: PlainLoop, _: list[Call]) -> Tensor:
        mean, statistics = torch.zeros_like(loop.w), []
        for part in map(list, parts):
            share = len(part) / sum(map(len, parts))
            moved = loop.copied_buffers()
            eps = 0.3 * unit(loop.gradient(loop.w, part, moved))
            mean += share * loop.gradient(loop.w + eps, part)
            statistics.append((share, moved))
        for name, buffer in loop.buffers.items():
            # one update, of the mean statistics of the parts; all of them count the same number of batches
            after = sum(share * moved[name] for share, moved in statistics)
            buffer.copy_(after.round() if "num_batches" in name else after)
        return mean

    assert_steps_follow(direction, load("sam")(rho=0.3), Regime(m=6, ragged=ragged), net=net)


@pytest.mark.parametrize(("fraction", "images"), [(0.25, 4), (0.4, 7), (0.01, 1)])
def test_an_ascent_from_a_fraction_of_the_images(fraction, images):
    def direction(loop: PlainLoop, _: list[Call]) -> Tensor:
        return loop.gradient(loop.w + 0.3 * unit(loop.gradient(loop.w, slice(images), loop.buffers)))

    assert_steps_follow(direction, load("sam")(rho=0.3), Regime(fraction=fraction))


def test_an_ascent_of_norm_layers_alone():
    def direction(loop: PlainLoop, _: list[Call]) -> Tensor:
        in_norm_layer = loop.vector(lambda name, _: float(name in ("1.weight", "1.bias")))
        return loop.gradient(loop.w + 0.3 * unit(in_norm_layer * loop.clean()))

    assert_steps_follow(direction, load("sam")(rho=0.3), Regime(only="norm"))


def test_asam_of_norm_layers_alone():
    ascent = ASCENTS["asam l2 element weights"]

    def direction(loop: PlainLoop, _: list[Call]) -> Tensor:
        in_norm_layer = loop.vector(lambda name, _: float(name.startswith("1.")))
        T = in_norm_layer * scales_of(loop, ascent)
        return loop.gradient(loop.w + 0.4 * T * unit(T * loop.clean()))

    assert_steps_follow(direction, ascent, Regime(only="norm"))


@pytest.mark.parametrize("ratio", [3.0, 0.25])
def test_a_radius_that_grows_with_depth(ratio):
    layers = {"0": 0, "1": 1, "5": 2}  # convolution, batch norm, linear
    factors = {owner: 2 / (1 + ratio) * (1 + (ratio - 1) * layer / 2) for owner, layer in layers.items()}
    assert sum(factors.values()) / 3 == pytest.approx(1, rel=1e-15)

    def direction(loop: PlainLoop, calls: list[Call]) -> Tensor:
        return sam(loop, calls, rho=0.3 * loop.vector(lambda name, _: factors[name.split(".")[0]]))

    assert_steps_follow(direction, load("sam")(rho=0.3), Regime(depth=ratio))


def test_running_statistics_moved_by_both_passes():
    def direction(loop: PlainLoop, _: list[Call]) -> Tensor:
        return loop.gradient(loop.w + 0.3 * unit(loop.clean()), buffers=loop.buffers)

    assert_steps_follow(direction, load("sam")(rho=0.3), Regime(statistics="both"))


@pytest.mark.parametrize("fraction", [1.0, 0.25])
@pytest.mark.parametrize("masks", ["shared", "fresh"])
def test_dropout_masks_of_the_two_passes(masks, fraction):
    """Shared ones are drawn again, and the random numbers go on from where the clean pass left them."""
    driving = slice(round(fraction * IMAGES))

    def direction(loop: PlainLoop, _: list[Call]) -> Tensor:
        begin = torch.get_rng_state()
        g = loop.gradient(loop.w, driving, loop.buffers)
        after_one_pass = torch.get_rng_state()
        if masks == "shared":
            torch.set_rng_state(begin)
        g_s = loop.gradient(loop.w + 0.3 * unit(g))
        if masks == "shared":
            torch.set_rng_state(after_one_pass)
        return g_s

    assert_steps_follow(direction, load("sam")(rho=0.3), Regime(masks=masks, fraction=fraction), net="dropout")


@pytest.mark.parametrize("where", ["ascent", "never"])
@pytest.mark.parametrize("masks", ["shared", "fresh"])
@pytest.mark.parametrize("steps", [1, 2])
def test_shaken_branches(masks, where, steps):
    """The ascents' gradients are true ones, all passes have the same noise, and it goes on from the clean pass."""

    def direction(loop: PlainLoop, _: list[Call]) -> Tensor:
        layer = loop.model.get_submodule("3")
        begin = layer.generator.get_state()
        eps = torch.zeros_like(loop.w)
        layer.true_gradient = where == "ascent"
        for step in range(steps):
            eps = eps + 0.3 / steps * unit(loop.gradient(loop.w + eps))
            if step == 0:
                after_one_pass = layer.generator.get_state()
            if masks == "shared":
                layer.generator.set_state(begin)
        layer.true_gradient = False
        gradient = loop.gradient(loop.w + eps)
        if masks == "shared":
            layer.generator.set_state(after_one_pass)
        return gradient

    regime = Regime(masks=masks, true_gradient=where, steps=steps)
    assert_steps_follow(direction, load("sam")(rho=0.3), regime, net="shaken")


SCHEDULES: dict[str, tuple[RhoSchedule, Callable[[int], float]]] = {
    "constant": (RhoSchedule(rho_schedule="constant", rho_end=0.2), lambda step: 1.0),
    "learning rate": (RhoSchedule(rho_schedule="lr", rho_end=0.2), lambda step: 0.2 + 0.8 * (1 - step / 12)),
    "cosine": (
        RhoSchedule(rho_schedule="cosine", rho_end=0.2),
        lambda step: 0.2 + 0.8 * (1 + math.cos(math.pi * step / 8)) / 2,
    ),
    "cosine to zero": (RhoSchedule(rho_schedule="cosine"), lambda step: (1 + math.cos(math.pi * step / 8)) / 2),
    "warm-up": (RhoSchedule(rho_warmup=0.5), lambda step: (0.2, 0.4, 0.6, 0.8, 1, 1, 1, 1)[step]),
    "switch": (RhoSchedule(rho_start=0.5), lambda step: float(step >= 4)),
    "all at once": (
        RhoSchedule(rho_schedule="lr", rho_end=0.5, rho_warmup=0.5, rho_start=0.25),
        lambda step: (0, 0, 0.2, 0.4, 0.6, 0.8, 1, 1)[step] * (0.5 + 0.5 * (1 - step / 12)),
    ),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_scheduled_rho(name):
    schedule, factor = SCHEDULES[name]

    def direction(loop: PlainLoop, calls: list[Call]) -> Tensor:
        rho = 0.3 * factor(loop.taken)
        assert len(calls) == (2 if rho else 1)
        return sam(loop, calls, rho) if rho else loop.clean()

    assert_steps_follow(direction, load("sam")(rho=0.3), steps=8, schedule=schedule)


def test_a_scheduled_rho_of_gsam():
    schedule, factor = SCHEDULES["learning rate"]

    def direction(loop: PlainLoop, _: list[Call]) -> Tensor:
        g = loop.clean()
        g_s = loop.gradient(loop.w + 0.3 * factor(loop.taken) * unit(g))
        return g_s - 0.4 * orthogonal(g, to=g_s)

    assert_steps_follow(direction, load("gsam")(rho=0.3, alpha=0.4), steps=8, schedule=schedule)


@pytest.mark.parametrize(
    ("options", "factors"),
    [
        ({}, [1.0] * 5),
        ({"rho_schedule": "cosine"}, [(1 + math.cos(math.pi * step / 5)) / 2 for step in range(5)]),
        ({"rho_schedule": "lr", "rho_end": 0.5}, [0.75] * 5),
        ({"rho_warmup": 1.0}, [1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6]),
        ({"rho_start": 0.6}, [0, 0, 0, 1, 1]),
        ({"rho_start": 1.0}, [0] * 5),
        ({"rho_warmup": 0.4, "rho_start": 0.2}, [0, 1 / 3, 2 / 3, 1, 1]),
        (
            {"rho_schedule": "cosine", "rho_start": 0.2},
            [0, *((1 + math.cos(math.pi * step / 4)) / 2 for step in range(4))],
        ),
    ],
)
def test_factors_on_rho_by_hand(options, factors):
    schedule = RhoSchedule(**options)
    assert [schedule.factor(step, 5, lr=0.5) for step in range(5)] == pytest.approx(factors, rel=1e-15, abs=0)


def test_a_cosine_stays_at_its_end():
    assert RhoSchedule(rho_schedule="cosine", rho_end=0.2).factor(150, 100) == pytest.approx(0.2)


def test_in_step_with_a_warm_up_rho_is_largest_where_the_learning_rate_is():
    optimizer = SharpnessAware([nn.Parameter(torch.ones(1))], SGD, load("sam")(rho=0.3), lr=0.1)
    rate = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.01, total_iters=4)
    scheduler = RhoScheduler(optimizer, RhoSchedule(rho_schedule="lr"), steps=6)
    seen = [optimizer.param_groups[0]["rho"]]
    for _ in range(5):
        optimizer.step(lambda: optimizer.param_groups[0]["params"][0].square().sum().backward() or torch.ones(()))
        rate.step()
        scheduler.step()
        seen.append(optimizer.param_groups[0]["rho"])
    assert seen == pytest.approx([0.3 * min(1.0, 0.01 + 0.99 * step / 4) for step in range(6)])


def test_an_optimizer_loaded_from_the_end_of_a_schedule_begins_the_next_with_its_rho():
    def scheduled() -> tuple[SharpnessAware, RhoScheduler]:
        optimizer = SharpnessAware([nn.Parameter(torch.ones(1))], SGD, load("sam")(rho=0.3), lr=0.1)
        return optimizer, RhoScheduler(optimizer, RhoSchedule(rho_schedule="cosine"), steps=3)

    ended, scheduler = scheduled()
    for _ in range(3):
        scheduler.step()
    assert ended.param_groups[0]["rho"] == 0
    fresh = SharpnessAware([nn.Parameter(torch.ones(1))], SGD, load("sam")(rho=0.3), lr=0.1)
    fresh.load_state_dict(ended.state_dict())
    RhoScheduler(fresh, RhoSchedule(rho_schedule="cosine"), steps=3)
    assert fresh.param_groups[0]["rho"] == 0.3


def test_the_scheduler_scales_every_groups_own_rho():
    first, second = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    groups = [{"params": [first], "rho": 0.4, "lr": 2.0}, {"params": [second]}]
    optimizer = SharpnessAware(groups, SGD, load("sam")(rho=0.1), lr=1.0)
    scheduler = RhoScheduler(optimizer, RhoSchedule(rho_schedule="lr", rho_end=0.2), steps=3)
    for rate in (1.0, 0.5, 0.25):
        for group, peak in zip(optimizer.param_groups, (2.0, 1.0), strict=True):
            group["lr"] = rate * peak
        scheduler.step()
        factor = 0.2 + 0.8 * rate
        assert [group["rho"] for group in optimizer.param_groups] == pytest.approx([0.4 * factor, 0.1 * factor])


CURVATURES = [0.5, 1.0, 3.0, 8.0, 2.0]
START = [1.5, -2.0, 0.7, 0.3, -0.4]


class Bowl(nn.Module):
    """0.5 sum_i h_i w_i^2; the last coordinate is a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.tensor(START[:4])), nn.Parameter(torch.tensor(START[4:]))

    def closure(self) -> Tensor:
        self.zero_grad()
        loss = 0.5 * (torch.tensor(CURVATURES) * torch.cat([self.weight, self.bias]).square()).sum()
        loss.backward()
        return loss


@pytest.mark.parametrize(
    ("ascent", "scale"),
    [
        (load("sam")(rho=0.2), lambda i, w: 1.0),
        (load("asam")(rho=0.2, eta=0.05), lambda i, w: 1.0 if i == 4 else abs(w) + 0.05),
        (load("asam")(rho=0.2, eta=0.05, parameters="all"), lambda i, w: abs(w) + 0.05),
    ],
    ids=["sam", "asam", "asam on all"],
)
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_fifty_steps_in_a_quadratic_bowl(ascent, scale, momentum):
    """g_i = h_i w_i and g_i(w + eps) = h_i (w_i + eps_i), with eps_i = rho T_i^2 g_i / sqrt(sum_j T_j^2 g_j^2)."""
    bowl, w, velocity = Bowl(), list(START), [0.0] * 5
    optimizer = SharpnessAware(bowl, SGD, ascent, lr=0.02, momentum=momentum)
    for _ in range(50):
        optimizer.step(bowl.closure)
        g = [h * x for h, x in zip(CURVATURES, w, strict=True)]
        T = [scale(i, x) for i, x in enumerate(w)]
        length = math.sqrt(sum((t * a) ** 2 for t, a in zip(T, g, strict=True)))
        for i, h in enumerate(CURVATURES):
            eps = 0.2 * T[i] ** 2 * g[i] / length
            velocity[i] = momentum * velocity[i] + h * (w[i] + eps)
            w[i] -= 0.02 * velocity[i]
        assert flat(bowl.parameters()).tolist() == pytest.approx(w, rel=1e-10, abs=1e-12)


TRANSCRIBED = {
    subject: test
    for test, subjects in {
        test_no_ascent_is_sgd: ["none"],
        test_sam: ["sam", "sam.rho"],
        test_sam_in_the_maximum_norm: ["sam.norm"],
        test_asam: ["asam", "asam.rho", "asam.eta", "asam.parameters", "asam.norm", "asam.unit"],
        test_fisher_sam: ["fisher", "fisher.rho", "fisher.eta"],
        test_looksam: ["looksam", "looksam.rho", "looksam.k", "looksam.alpha"],
        test_gsam: ["gsam", "gsam.rho", "gsam.alpha"],
        test_esam: ["esam", "esam.rho", "esam.beta", "esam.gamma"],
        test_random_perturbations: ["random", "random.rho"],
        test_an_ascent_every_few_steps: ["regime.every"],
        test_an_ascent_of_several_gradients: ["regime.steps"],
        test_an_ascent_for_every_m_images: ["regime.m", "regime.ragged"],
        test_an_ascent_from_a_fraction_of_the_images: ["regime.fraction"],
        test_an_ascent_of_norm_layers_alone: ["regime.only"],
        test_a_radius_that_grows_with_depth: ["regime.depth"],
        test_running_statistics_moved_by_both_passes: ["regime.statistics"],
        test_dropout_masks_of_the_two_passes: ["regime.masks"],
        test_shaken_branches: ["regime.true_gradient"],
        test_a_scheduled_rho: ["schedule.rho_schedule", "schedule.rho_end", "schedule.rho_warmup"],
        test_factors_on_rho_by_hand: ["schedule.rho_start"],
    }.items()
    for subject in subjects
}
"""Where every ascent and every option is held against its equation."""


def options_of(label: str, owner: type) -> list[str]:
    return [f"{label}.{field.name}" for field in dataclasses.fields(owner)]


EVERYTHING = [
    *names(),
    *itertools.chain.from_iterable(options_of(name, load(name)) for name in names()),
    *options_of("regime", Regime),
    *options_of("schedule", RhoSchedule),
]


@pytest.mark.parametrize("subject", EVERYTHING)
def test_every_ascent_and_option_has_a_transcription(subject):
    assert subject in TRANSCRIBED
    assert TRANSCRIBED[subject].__name__.startswith("test_")


def test_the_shared_cases_know_every_ascent_and_every_option_of_a_regime():
    assert {ascent.name for ascent in ASCENTS.values()} == set(names())
    for field in dataclasses.fields(Regime):
        assert getattr(REGIMES[field.name], field.name) != field.default
    assert set(TRANSCRIBED) == set(EVERYTHING)
