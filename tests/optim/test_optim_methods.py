"""What holds for every method: lengths, equivariance, special cases, counts of passes, checkpoints."""

import copy
import dataclasses
import io
import itertools
from typing import Any

import pytest
import torch
from method_cases import ASCENTS, EXCLUDED, IMAGES, REGIMES, Watched, equal, network
from torch import Tensor, nn
from torch.nn import functional

from flatmin.optim import Ascent, Cost, Point, Regime, RhoSchedule, RhoScheduler, SharpnessAware, cost_of, load, names

SGD, AdamW = torch.optim.SGD, torch.optim.AdamW
MOMENTUM = {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.01}

Settings = dict[str, Any]


def trained(ascent: Ascent, regime: Regime) -> list[Tensor]:
    """The state of a network after six steps."""
    model = network()
    optimizer, closure = SharpnessAware(model, SGD, ascent, regime=regime, **MOMENTUM), Watched(model)
    for _ in range(6):
        optimizer.step(closure, size=IMAGES)
    return states(model)


def states(model: nn.Module) -> list[Tensor]:
    return list(model.state_dict().values())


def tensors(vector: Tensor, model: nn.Module) -> list[Tensor]:
    parameters = list(model.parameters())
    return [v.view_as(p) for v, p in zip(vector.split([p.numel() for p in parameters]), parameters, strict=True)]


def applied(ascent: Ascent, regime: Regime | None = None, model: nn.Module | None = None) -> tuple[Point, list[Tensor]]:
    """The point at which a step began, and the eps at which it computed the gradient to descend along."""
    model = model or network()
    closure = Watched(model)
    SharpnessAware(model, SGD, ascent, regime=regime, lr=0.0).step(closure, size=IMAGES)
    first, last = closure.calls[0], closure.calls[-1]
    weights, gradients = tensors(first.weights, model), tensors(first.gradient, model)
    radii, labels = [ascent.radius({})] * len(weights), [label for label, _ in model.named_parameters()]
    point = Point(weights, gradients, radii, first.gradient.norm().item(), labels)
    return point, tensors(last.weights - first.weights, model)


WITHOUT_LENGTH = {
    "none",  # goes nowhere
    "sam unnormalised",  # eps = rho g is as long as the gradient makes it
    "esam",  # the mean of eps over its masks is rho long, a single one is as long as its mask makes it
}


@pytest.mark.parametrize("case", ASCENTS)
def test_the_perturbation_of_a_step_is_rho_long(case):
    ascent = ASCENTS[case]
    length = ascent.length(*applied(ascent))
    if case in WITHOUT_LENGTH:
        assert length is None
    else:
        assert length.item() == pytest.approx(ascent.rho, rel=1e-12)


# Fisher-SAM measures each move with the metric of the gradient at its own start
@pytest.mark.parametrize("case", sorted(ASCENTS.keys() - WITHOUT_LENGTH - {"fisher"}))
@pytest.mark.parametrize("steps", [2, 5])
def test_several_moves_stay_within_rho(case, steps):
    ascent = ASCENTS[case]
    length = ascent.length(*applied(ascent, Regime(steps=steps))).item()
    assert 0.2 * ascent.rho < length <= ascent.rho * (1 + 1e-12)


def rescaled(net: str, c: float) -> nn.Module:
    """A network of two layers with w1 -> c w1, b1 -> c b1, w2 -> w2 / c, which leaves its function as it is."""
    model = network(net)
    first, second = model[1], model[3]
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.mul_(c)
        second.weight.div_(c)
    return model


@pytest.mark.parametrize(
    ("net", "options", "holds"),
    [
        *[
            ("relu without biases", {"unit": unit, "norm": norm, "parameters": parameters}, True)
            for unit, norm, parameters in itertools.product(
                ("element", "filter", "layer"), ("l2", "linf"), ("weights", "all")
            )
        ],
        ("relu", {"parameters": "all"}, True),
        ("relu", {"parameters": "weights"}, False),  # T = 1 on biases does not scale with them
        ("relu without biases", {"eta": 0.01}, False),
        ("relu without biases", None, False),
    ],
)
def test_asam_without_eta_goes_with_the_scale_of_the_layers(net, options, holds):
    """eps of the rescaled network is (c eps1, eps2 / c): for ASAM with eta = 0, not with eta > 0 and not for SAM."""
    c = 7.0
    ascent = load("sam")(rho=0.4) if options is None else load("asam")(**{"rho": 0.4, "eta": 0.0, **options})
    models = rescaled(net, 1.0), rescaled(net, c)
    torch.testing.assert_close(models[1](Watched(models[0]).inputs), models[0](Watched(models[0]).inputs))
    (before, eps), (_, moved) = (applied(ascent, model=model) for model in models)
    factors = [{"1.weight": c, "1.bias": c, "3.weight": 1 / c, "3.bias": 1.0}[name] for name in before.names]
    errors = [((m - f * e).norm() / (f * e).norm()).item() for m, f, e in zip(moved, factors, eps, strict=True)]
    assert max(errors) < 1e-10 if holds else max(errors) > 1e-3


SPECIAL_CASES = {
    "every step": (load("sam")(rho=0.3), Regime(every=1)),
    "one gradient": (load("sam")(rho=0.3), Regime(steps=1)),
    "all images": (load("sam")(rho=0.3), Regime(fraction=1.0)),
    "m is the batch": (load("sam")(rho=0.3), Regime(m=IMAGES)),
    "m is more than the batch": (load("sam")(rho=0.3), Regime(m=IMAGES + 1, ragged="dropped")),
    "the same at every depth": (load("sam")(rho=0.3), Regime(depth=1.0)),
    "looksam in every step": (load("looksam")(rho=0.3, k=1), Regime()),
    "gsam without its term": (load("gsam")(rho=0.3, alpha=0.0), Regime()),
    "esam with everything": (load("esam")(rho=0.3, beta=1.0, gamma=1.0), Regime()),
    "fisher without its metric": (load("fisher")(rho=0.3, eta=0.0), Regime()),
}
TO_A_ROUNDING = {"fisher without its metric"}
"""Whose arithmetic is not SAM's."""


@pytest.mark.parametrize("case", SPECIAL_CASES)
def test_special_cases_are_sam(case):
    ours, sam = trained(*SPECIAL_CASES[case]), trained(load("sam")(rho=0.3), Regime())
    if case in TO_A_ROUNDING:
        torch.testing.assert_close(ours, sam, rtol=1e-12, atol=1e-13)
    else:
        assert equal(ours, sam)


def without_radius(name: str) -> Ascent:
    return load(name)() if name == "none" else load(name)(rho=0.0)


PAIRS = [(name, regime) for name in names() for regime in REGIMES if (name, regime) not in EXCLUDED]


@pytest.mark.parametrize(("name", "regime"), PAIRS)
def test_with_rho_zero_every_method_is_its_base_to_the_bit(name, regime):
    ours, theirs = network("dropout"), network("dropout")
    closure, plain_closure = Watched(ours), Watched(theirs)
    optimizer = SharpnessAware(ours, SGD, without_radius(name), regime=REGIMES[regime], **MOMENTUM)
    plain = SGD(theirs.parameters(), **MOMENTUM)
    for _ in range(6):
        begin = torch.get_rng_state()
        loss = optimizer.step(closure, size=IMAGES)
        end = torch.get_rng_state()
        torch.set_rng_state(begin)
        plain.zero_grad()
        expected = plain_closure().mean()
        plain.step()
        assert torch.equal(loss, expected)
        assert torch.equal(torch.get_rng_state(), end)
    assert equal(states(ours), states(theirs))
    assert [call.samples for call in closure.calls] == [list(range(IMAGES))] * 6


@pytest.mark.parametrize(("name", "regime"), sorted(EXCLUDED))
def test_methods_that_contradict_themselves_are_refused(name, regime):
    with pytest.raises(ValueError, match=f"^{name} .*: leave {regime.replace('ragged', 'm')} = "):
        SharpnessAware(network(), SGD, load(name)(), regime=REGIMES[regime], lr=0.1)


@dataclasses.dataclass(frozen=True)
class Counted:
    """What so many steps of a method do: calls of the closure with gradients and without, and images of the former."""

    ascent: Ascent
    regime: Regime
    steps: int
    calls: int
    forwards: int
    batches: float


def counted(name: str, per: int, calls: int, batches: float, /, *, forwards: int = 0, **options: Any) -> Counted:
    known = {field.name for field in dataclasses.fields(load(name))}
    ascent = load(name)(**{key: value for key, value in options.items() if key in known})
    regime = Regime(**{key: value for key, value in options.items() if key not in known})
    return Counted(ascent, regime, per, calls, forwards, batches)


COUNTS = [
    counted("none", 1, 1, 1.0),
    counted("sam", 1, 2, 2.0),
    counted("asam", 1, 2, 2.0),
    counted("fisher", 1, 2, 2.0),
    counted("gsam", 1, 2, 2.0),
    counted("random", 1, 2, 2.0),
    counted("looksam", 5, 6, 6.0, k=5),
    counted("looksam", 3, 4, 4.0, k=3),
    counted("esam", 1, 2, 1.5, forwards=1, gamma=0.5),
    counted("esam", 1, 2, 1.25, forwards=1, gamma=0.25),
    counted("esam", 1, 2, 2.0, gamma=1.0),
    counted("esam", 4, 5, 4.5, forwards=1, gamma=0.5, every=4),
    counted("sam", 10, 11, 11.0, every=10),
    counted("sam", 1, 3, 3.0, steps=2),
    counted("asam", 1, 6, 6.0, steps=5),
    counted("looksam", 5, 7, 7.0, k=5, steps=2),
    counted("sam", 1, 8, 2.0, m=4),
    counted("sam", 1, 6, 2.0, m=6),
    counted("asam", 1, 9, 3.0, m=6, steps=2),
    counted("sam", 1, 2, 1.25, fraction=0.25),
    counted("sam", 1, 4, 1.75, fraction=0.25, steps=3),
    counted("sam", 1, 4, 1.5, fraction=0.5, m=8),
    counted("sam", 2, 4, 3.0, fraction=0.5, every=2, steps=2),
    counted("sam", 1, 2, 2.0, only="norm"),
    counted("sam", 1, 2, 2.0, depth=2.0),
    counted("sam", 1, 2, 2.0, statistics="both"),
    counted("sam", 1, 2, 2.0, masks="fresh"),
]


@pytest.mark.parametrize("case", COUNTS, ids=lambda case: f"{case.ascent.name}-{case.steps}-{case.batches}")
def test_the_calls_of_a_method_are_its_cost(case):
    model = network()
    optimizer, closure = SharpnessAware(model, SGD, case.ascent, regime=case.regime, lr=0.05), Watched(model)
    for _ in range(2):  # from one period to the next
        closure.calls.clear()
        for _ in range(case.steps):
            optimizer.step(closure, size=IMAGES)
        with_gradient = [call for call in closure.calls if call.gradient is not None]
        without = [call for call in closure.calls if call.gradient is None]
        assert (len(with_gradient), len(without)) == (case.calls, case.forwards)
        batches, forwards = (sum(len(call.samples) for call in calls) / IMAGES for calls in (with_gradient, without))
        assert batches == case.batches
        cost = cost_of(case.ascent, case.regime)
        assert (cost.gradients * case.steps, cost.forwards * case.steps) == pytest.approx((batches, forwards))


def test_the_passes_of_m_images_split_those_of_esam_too():
    model = network()
    ascent = ASCENTS["esam"]
    optimizer, closure = SharpnessAware(model, SGD, ascent, regime=Regime(m=8), lr=0.05), Watched(model)
    optimizer.step(closure, size=IMAGES)
    assert [len(call.samples) for call in closure.calls] == [8, 8, 4] * 2
    halves = [set(range(8)), set(range(8, 16))]
    for half, calls in zip(halves, (closure.calls[:3], closure.calls[3:]), strict=True):
        assert all(half.issuperset(call.samples) for call in calls)
    assert cost_of(ascent, Regime(m=8)) == Cost(gradients=1.5, forwards=1.0)


def test_every_ascent_is_counted():
    assert {case.ascent.name for case in COUNTS} == set(names())


class Training:
    """A network in training: its optimizer and its schedulers, to be saved and loaded."""

    def __init__(self, ascent: Ascent, regime: Regime, base: type, settings: Settings, *, scheduled: bool) -> None:
        self.model = network()
        self.closure = Watched(self.model)
        self.optimizer = SharpnessAware(self.model, base, ascent, regime=regime, **settings)
        self.schedulers: list[Any] = []
        if scheduled:
            schedule = RhoSchedule(rho_schedule="lr", rho_end=0.3, rho_warmup=0.2)
            self.schedulers = [
                torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, T_max=20),
                RhoScheduler(self.optimizer, schedule, steps=20),
            ]

    def steps(self, count: int) -> None:
        for _ in range(count):
            self.optimizer.step(self.closure, size=IMAGES)
            for scheduler in self.schedulers:
                scheduler.step()

    @property
    def parts(self) -> list[Any]:
        return [self.model, self.optimizer, *self.schedulers]

    def state(self) -> list[Any]:
        """All state dicts, through a file and apart from what goes on."""
        file = io.BytesIO()
        torch.save([part.state_dict() for part in self.parts], file)
        file.seek(0)
        return torch.load(file, weights_only=True)

    def load(self, states: list[Any]) -> None:
        for part, state in zip(self.parts, states, strict=True):
            part.load_state_dict(state)


BASES: dict[str, tuple[type, Settings]] = {
    "sgd": (SGD, MOMENTUM),
    "adamw": (AdamW, {"lr": 0.01, "weight_decay": 0.1}),
}
METHODS: dict[str, tuple[Ascent, Regime]] = {
    **{case: (ascent, Regime()) for case, ascent in ASCENTS.items() if not case.startswith("asam")},
    "asam": (ASCENTS["asam l2 element weights"], Regime()),
    **{f"sam {regime}": (ASCENTS["sam"], REGIMES[regime]) for regime in REGIMES},
    "random every": (ASCENTS["random"], Regime(every=4, steps=2)),
    "esam m": (ASCENTS["esam"], Regime(m=8, every=4)),
    "gsam steps": (ASCENTS["gsam"], Regime(steps=2, only="norm")),
}


@pytest.mark.parametrize("scheduled", [False, True], ids=["constant", "scheduled"])
@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("method", METHODS)
def test_ten_steps_and_ten_after_a_checkpoint_are_twenty(method, base, scheduled):
    def training() -> Training:
        return Training(*METHODS[method], *BASES[base], scheduled=scheduled)

    unbroken, first, resumed = training(), training(), training()
    unbroken.steps(20)
    first.steps(10)
    saved = first.state()
    resumed.steps(3)  # something to be forgotten
    resumed.load(saved)
    torch.testing.assert_close(resumed.state(), first.state(), rtol=0, atol=0)
    resumed.steps(10)
    assert equal(states(resumed.model), states(unbroken.model))
    torch.testing.assert_close(resumed.state(), unbroken.state(), rtol=0, atol=0)


def test_a_scheduler_made_after_loading_goes_on_from_the_rho_that_was_set():
    schedule = RhoSchedule(rho_schedule="lr", rho_end=0.3)
    first, resumed = (Training(*METHODS["sam"], SGD, MOMENTUM, scheduled=False) for _ in range(2))
    scheduler = RhoScheduler(first.optimizer, schedule, steps=20, peak_lr=0.1)
    scheduler.step()
    resumed.load(first.state())  # with a rho below the one that was set
    late = RhoScheduler(resumed.optimizer, schedule, steps=20)
    late.load_state_dict(scheduler.state_dict())
    for there in (first, resumed):
        there.optimizer.param_groups[0]["lr"] = 0.02
    for each in (scheduler, late):
        each.step()
        assert each.last_step == 2
        assert each.optimizer.param_groups[0]["rho"] == pytest.approx(0.3 * (0.3 + 0.7 * 0.2), rel=1e-15)


@pytest.mark.parametrize("method", METHODS)
def test_checkpoints_go_from_sgd_to_a_method_and_back(method):
    training = Training(*METHODS[method], SGD, MOMENTUM, scheduled=False)
    fresh = Training(*METHODS[method], SGD, MOMENTUM, scheduled=False)
    plain_model = network()
    plain, closure = SGD(plain_model.parameters(), **{**MOMENTUM, "lr": 0.02}), Watched(plain_model)
    for _ in range(3):
        closure()
        plain.step()
    training.steps(6)  # a memory, if it has one
    for there in (training, fresh):
        there.model.load_state_dict(plain_model.state_dict())
        there.optimizer.load_state_dict(copy.deepcopy(plain.state_dict()))  # torch would share the buffers
        assert there.optimizer.param_groups[0]["lr"] == 0.02
        there.steps(6)
    assert equal(states(training.model), states(fresh.model))

    loaded = SGD(training.model.parameters(), lr=1.0)
    loaded.load_state_dict(training.optimizer.state_dict())
    assert loaded.param_groups[0]["momentum"] == 0.9
    for parameter in training.model.parameters():
        momentum = training.optimizer.state[parameter]["momentum_buffer"]
        assert torch.equal(loaded.state[parameter]["momentum_buffer"], momentum)


@pytest.mark.parametrize("case", ["gsam", "looksam"])
@pytest.mark.parametrize("steps", [1, 3])
def test_gradients_zeroed_in_place_do_not_spoil_the_clean_one(case, steps):
    """A closure may zero the gradients in their own storage, which is also where the clean gradient lies."""

    def after_five_steps(set_to_none: bool) -> list[Tensor]:
        model = network()
        watched = Watched(model)
        optimizer = SharpnessAware(model, SGD, ASCENTS[case], regime=Regime(steps=steps), **MOMENTUM)

        def closure() -> Tensor:
            optimizer.zero_grad(set_to_none=set_to_none)
            loss = functional.cross_entropy(model(watched.inputs), watched.targets)
            loss.backward()
            return loss

        for _ in range(5):
            optimizer.step(closure)
        return states(model)

    torch.testing.assert_close(after_five_steps(False), after_five_steps(True), rtol=1e-12, atol=1e-13)


def test_esam_asks_a_closure_that_returns_the_mean_for_the_samples_losses():
    model = network()
    closure = Watched(model)
    optimizer = SharpnessAware(model, SGD, ASCENTS["esam"], lr=0.1)
    with pytest.raises(TypeError, match="one loss for each"):
        optimizer.step(lambda part: closure(part).mean(), size=IMAGES)


@pytest.mark.parametrize(
    ("ascent", "regime"),
    [(load("esam")(gamma=0.55, beta=1.0), Regime()), (load("sam")(), Regime(fraction=0.55))],
    ids=["esam", "fraction"],
)
def test_a_share_that_comes_out_whole_is_not_rounded_up(ascent, regime):
    """0.55 of 100 images are 55, though 0.55 * 100 is 55.00000000000001."""
    weight, inputs = nn.Parameter(torch.ones(3)), torch.randn(100, 3)
    sizes: list[int] = []

    def closure(part: slice | Tensor) -> Tensor:
        optimizer.zero_grad()
        losses = (inputs[part] @ weight).square()
        if torch.is_grad_enabled():
            losses.mean().backward()
            sizes.append(len(losses))
        return losses

    optimizer = SharpnessAware([weight], SGD, ascent, regime=regime, lr=0.1)
    optimizer.step(closure, size=100)
    assert sum(sizes) == round(100 * cost_of(ascent, regime).gradients) == 155


def test_rho_starts_at_the_step_that_its_share_of_the_run_names():
    """0.55 of 100 steps are 55, though 0.55 * 100 is 55.00000000000001."""
    schedule = RhoSchedule(rho_start=0.55)
    assert [schedule.factor(step, 100) for step in (54, 55)] == [0.0, 1.0]
