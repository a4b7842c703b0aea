"""Parts of the batch: accumulation, m-sharpness, one update of running statistics, shared masks, the L2 term."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from flatmin.optim import (
    ASAM,
    ESAM,
    GSAM,
    SAM,
    Ascent,
    FisherSAM,
    LookSAM,
    Regime,
    SharpnessAware,
    frozen_statistics,
)
from flatmin.optim.ascents.esam import EsamAscent
from flatmin.optim.ascents.gsam import GsamAscent
from flatmin.optim.ascents.looksam import LookSamAscent
from flatmin.optim.ascents.none import NoAscent
from flatmin.optim.ascents.sam import SamAscent
from flatmin.optim.norm_statistics import running_statistics

timm_drop = pytest.importorskip("timm.layers.drop")

SGD = torch.optim.SGD
Part = slice | Tensor
Batch = tuple[Tensor, Tensor]


def states(model: nn.Module) -> list[Tensor]:
    return [value.clone() for value in model.state_dict().values()]


def equal(left: list[Tensor], right: list[Tensor]) -> bool:
    return len(left) == len(right) and all(map(torch.equal, left, right))


def distance(left: nn.Module, right: nn.Module) -> float:
    """The largest difference of two models' parameters."""
    pairs = zip(left.parameters(), right.parameters(), strict=True)
    return max((ours - theirs).abs().max().item() for ours, theirs in pairs)


@pytest.fixture
def smooth() -> Callable[[], nn.Module]:
    """Makes equal networks in which the samples of a batch do not see each other."""

    def build() -> nn.Module:
        torch.manual_seed(2)
        return nn.Sequential(nn.Flatten(), nn.Linear(108, 8), nn.Tanh(), nn.Linear(8, 4))

    return build


@pytest.fixture
def parts_for(batch: Batch) -> Callable[[nn.Module], Callable[[Part], Tensor]]:
    """Makes the closure of a classifier that takes parts of the batch and returns the losses of the samples."""
    inputs, targets = batch

    def build(model: nn.Module) -> Callable[[Part], Tensor]:
        def closure(part: Part) -> Tensor:
            model.zero_grad()
            losses = functional.cross_entropy(model(inputs[part]), targets[part], reduction="none")
            if torch.is_grad_enabled():
                losses.mean().backward()
            return losses

        return closure

    return build


METHODS = {
    "sam": lambda model, **settings: SAM(model, SGD, rho=0.3, **settings),
    "asam": lambda model, **settings: ASAM(model, SGD, **settings),
    "looksam": lambda model, **settings: LookSAM(model, SGD, rho=0.3, k=2, **settings),
    "gsam": lambda model, **settings: GSAM(model, SGD, rho=0.3, **settings),
    "esam": lambda model, **settings: ESAM(model, SGD, rho=0.3, **settings),
    "m": lambda model, **settings: SAM(model, SGD, rho=0.3, regime=Regime(m=6), **settings),
    "m-esam": lambda model, **settings: ESAM(model, SGD, rho=0.3, regime=Regime(m=6), **settings),
    "fraction": lambda model, **settings: SAM(model, SGD, rho=0.3, regime=Regime(fraction=0.7), **settings),
    "two-steps": lambda model, **settings: SAM(model, SGD, rho=0.3, regime=Regime(steps=2), **settings),
}
MOMENTUM = {"lr": 0.1, "momentum": 0.9}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("micro_batch", [1, 5, 8, 100])
def test_micro_batches_make_up_the_whole_batch(method, micro_batch, smooth, parts_for):
    whole, parted = smooth(), smooth()
    expected = METHODS[method](whole, **MOMENTUM)
    optimizer = METHODS[method](parted, micro_batch=micro_batch, **MOMENTUM)
    for _ in range(4):
        loss = expected.step(parts_for(whole), size=16)
        torch.testing.assert_close(optimizer.step(parts_for(parted), size=16), loss, rtol=1e-12, atol=0)
        assert optimizer.last_gradient_norm == pytest.approx(expected.last_gradient_norm, rel=1e-12)
    assert distance(parted, whole) < 1e-12
    assert optimizer.skipped_steps == 0


def test_closures_are_called_on_parts_in_order_and_on_no_more_than_micro_batch(smooth, parts_for):
    model, seen = smooth(), []
    optimizer, closure = SAM(model, SGD, lr=0.1, micro_batch=4, regime=Regime(m=7)), parts_for(model)

    def watched(part: slice) -> Tensor:
        seen.append((part.start, part.stop, optimizer.perturbed))
        return closure(part)

    optimizer.step(watched, size=16)
    chunks = [[(0, 4), (4, 7)], [(7, 11), (11, 14)], [(14, 16)]]
    assert seen == [(*chunk, moved) for part in chunks for moved in (False, True) for chunk in part]


def test_a_dropped_last_part_is_seen_by_no_pass(smooth, parts_for):
    model, twin, seen = smooth(), smooth(), []
    closure = parts_for(model)

    def watched(part: slice) -> Tensor:
        seen.append((part.start, part.stop))
        return closure(part)

    loss = SAM(model, SGD, lr=0.1, regime=Regime(m=5, ragged="dropped")).step(watched, size=16)
    assert seen == [(0, 5), (0, 5), (5, 10), (5, 10), (10, 15), (10, 15)]
    expected = SAM(twin, SGD, lr=0.1, regime=Regime(m=5)).step(parts_for(twin), size=15)
    assert torch.equal(loss, expected)
    assert distance(model, twin) == 0


def test_an_accumulation_loop_of_the_closures_own_makes_up_the_whole_batch(smooth, parts_for, batch):
    looped, whole = smooth(), smooth()
    inputs, targets = batch

    def closure() -> Tensor:
        looped.zero_grad()
        total = torch.zeros(())
        for x, y in zip(inputs.split(5), targets.split(5), strict=True):
            loss = functional.cross_entropy(looped(x), y) * len(x) / len(inputs)
            loss.backward()
            total += loss.detach()
        return total

    optimizer, expected = SAM(looped, SGD, rho=0.3, **MOMENTUM), SAM(whole, SGD, rho=0.3, **MOMENTUM)
    for _ in range(4):
        optimizer.step(closure)
        expected.step(parts_for(whole), size=16)
    assert distance(looped, whole) < 1e-12


def test_with_batch_norm_micro_batches_are_another_function(network, parts_for):
    whole, parted = network(), network()
    for model, micro_batch in ((whole, None), (parted, 4)):
        optimizer = SAM(model, SGD, rho=0.3, micro_batch=micro_batch, **MOMENTUM)
        for _ in range(4):
            optimizer.step(parts_for(model), size=16)
    assert distance(parted, whole) > 1e-4, f"weights differ by {distance(parted, whole):.1e} at most"


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize(
    ("settings", "sizes"),
    [
        ({"micro_batch": 8}, [8, 8]),
        ({"micro_batch": 6}, [6, 6, 4]),
        ({"regime": Regime(m=5)}, [5, 5, 5, 1]),
        ({"regime": Regime(m=5, ragged="dropped")}, [5, 5, 5]),
        ({"regime": Regime(m=8), "micro_batch": 3}, [3, 3, 2, 3, 3, 2]),
        ({"regime": Regime(m=4, steps=2, only="norm")}, [4, 4, 4, 4]),
    ],
    ids=str,
)
def test_parts_make_one_update_of_running_statistics(settings, sizes, momentum, network, parts_for, batch):
    model = network()
    norm = model[1]
    norm.momentum = momentum
    model(batch[0] + 1)
    model(batch[0] - 1)
    mean, var = norm.running_mean.clone(), norm.running_var.clone()
    with torch.no_grad():
        chunks = model[0](batch[0])[: sum(sizes)].split(sizes)
    weights = [size / sum(sizes) for size in sizes]
    new_mean = sum(w * c.mean((0, 2, 3)) for w, c in zip(weights, chunks, strict=True))
    new_var = sum(w * c.var((0, 2, 3)) for w, c in zip(weights, chunks, strict=True))
    SAM(model, SGD, rho=0.3, lr=0.1, **settings).step(parts_for(model), size=16)
    share = 1 / 3 if momentum is None else momentum
    torch.testing.assert_close(norm.running_mean, (1 - share) * mean + share * new_mean, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(norm.running_var, (1 - share) * var + share * new_var, rtol=1e-12, atol=1e-14)
    assert norm.num_batches_tracked == 3


def plain_passes(model: nn.Module, closure: Callable[[], Tensor], rho: float, *, second: bool) -> list[Tensor]:
    """The running statistics after a plain pass at w, and another at w + eps if ``second``."""
    closure()
    gradients = [p.grad.clone() for p in model.parameters()]
    norm = torch.cat([g.flatten() for g in gradients]).norm()
    if second:
        with torch.no_grad():
            for p, g in zip(model.parameters(), gradients, strict=True):
                p.add_(rho * g / norm)
        closure()
    return running_statistics(model)


@pytest.mark.parametrize(("passes", "count"), [("clean", 1), ("both", 2)])
def test_the_passes_that_move_running_statistics(passes, count, network, closure_for):
    model, twin = network(), network()
    SAM(model, SGD, rho=0.3, lr=0.1, regime=Regime(statistics=passes)).step(closure_for(model))
    expected = plain_passes(twin, closure_for(twin), 0.3, second=count == 2)
    assert model[1].num_batches_tracked == count
    for ours, theirs in zip(running_statistics(model), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("settings", "moves"),
    [({}, 1), ({"regime": Regime(statistics="both")}, 2), ({"micro_batch": 5}, 1), ({"regime": Regime(m=5)}, 1)],
    ids=str,
)
def test_a_frozen_block_around_the_step_holds_statistics_still_in_every_pass(settings, moves, network, parts_for):
    model = network()
    optimizer, closure = SAM(model, SGD, lr=0.1, **settings), parts_for(model)
    optimizer.step(closure, size=16)
    before = [b.clone() for b in running_statistics(model)]
    with frozen_statistics(model):
        optimizer.step(closure, size=16)
        optimizer.step(closure, size=16)
    assert equal(running_statistics(model), before)
    optimizer.step(closure, size=16)
    assert model[1].num_batches_tracked == 2 * moves


class FunctionalDropout(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return functional.dropout(inputs, 0.5, self.training)


MASKING = {
    "module": lambda: nn.Dropout(0.5),
    "functional": FunctionalDropout,
    "timm": lambda: timm_drop.DropPath(0.5),
}
each_masking = pytest.mark.parametrize("masking", MASKING)


def masked(masking: str) -> tuple[nn.Module, list[Tensor]]:
    """A classifier that masks its inputs, and the masks that its passes have drawn."""
    torch.manual_seed(2)
    layer, masks = MASKING[masking](), []
    layer.register_forward_hook(lambda _module, _inputs, output: masks.append(output == 0))
    return nn.Sequential(nn.Flatten(), layer, nn.Linear(108, 4)), masks


@each_masking
@pytest.mark.parametrize("steps", [1, 2])
def test_all_passes_of_a_step_share_masks_and_draw_as_many_numbers_as_one(masking, steps, closure_for):
    model, masks = masked(masking)
    optimizer, closure = SAM(model, SGD, lr=0.1, regime=Regime(steps=steps)), closure_for(model)
    state = torch.get_rng_state()
    optimizer.step(closure)
    after = torch.get_rng_state()
    optimizer.step(closure)
    first, second = masks[: steps + 1], masks[steps + 1 :]
    assert all(torch.equal(mask, first[0]) for mask in first)
    assert all(torch.equal(mask, second[0]) for mask in second)
    assert not torch.equal(first[0], second[0])
    torch.set_rng_state(state)
    closure()
    assert torch.equal(torch.get_rng_state(), after)


@each_masking
def test_fresh_masks_differ_from_pass_to_pass(masking, closure_for):
    model, masks = masked(masking)
    SAM(model, SGD, lr=0.1, regime=Regime(masks="fresh")).step(closure_for(model))
    assert not torch.equal(*masks)


@each_masking
def test_every_part_has_masks_of_its_own_and_shares_them_between_its_passes(masking, parts_for):
    model, masks = masked(masking)
    SAM(model, SGD, lr=0.1, regime=Regime(m=8), micro_batch=4).step(parts_for(model), size=16)
    clean, sharp = [masks[i] for i in (0, 1, 4, 5)], [masks[i] for i in (2, 3, 6, 7)]
    assert equal(clean, sharp)
    assert len({tuple(mask.flatten().tolist()) for mask in clean}) == 4


def test_esam_compares_the_losses_of_samples_under_the_same_masks(parts_for):
    model, masks = masked("module")
    ESAM(model, SGD, rho=0.0, gamma=0.5, beta=1.0, lr=0.1).step(parts_for(model), size=16)
    assert len(masks) == 1  # rho = 0 ascends nowhere
    ESAM(model, SGD, rho=0.1, gamma=0.5, beta=1.0, lr=0.1).step(parts_for(model), size=16)
    _, clean, compared, chosen = masks
    assert torch.equal(clean, compared)
    assert len(chosen) == 8


def with_l2(model: nn.Module, batch: Batch, factors: list[float]) -> Callable[[], Tensor]:
    """The usual closure with the L2 term written out, a factor per parameter."""

    def closure() -> Tensor:
        model.zero_grad()
        squares = sum(0.5 * f * p.square().sum() for f, p in zip(factors, model.parameters(), strict=True))
        loss = functional.cross_entropy(model(batch[0]), batch[1]) + squares
        loss.backward()
        return loss

    return closure


L2 = 0.05
WITH_L2 = {
    "sam": lambda trained, **settings: SAM(trained, SGD, rho=0.3, **settings),
    "asam": lambda trained, **settings: ASAM(trained, SGD, **settings),
    "fisher": lambda trained, **settings: FisherSAM(trained, SGD, rho=0.3, **settings),
    "gsam": lambda trained, **settings: GSAM(trained, SGD, rho=0.3, **settings),
}


@pytest.mark.parametrize("method", WITH_L2)
def test_l2_is_a_term_of_the_loss_in_both_passes(method, network, closure_for, batch):
    ours, theirs = network(), network()
    optimizer, by_hand = WITH_L2[method](ours, l2=L2, **MOMENTUM), WITH_L2[method](theirs, **MOMENTUM)
    for _ in range(4):
        optimizer.step(closure_for(ours))
        by_hand.step(with_l2(theirs, batch, [L2] * 6))
        assert optimizer.last_gradient_norm == pytest.approx(by_hand.last_gradient_norm, rel=1e-12)
    assert distance(ours, theirs) < 1e-12


@pytest.mark.parametrize("method", ["sam", "asam"])
def test_weight_decay_of_the_base_is_not_l2(method, network, closure_for):
    shaping, decaying = network(), network()
    first, second = WITH_L2[method](shaping, l2=L2, **MOMENTUM), WITH_L2[method](decaying, weight_decay=L2, **MOMENTUM)
    for _ in range(4):
        first.step(closure_for(shaping))
        second.step(closure_for(decaying))
    assert distance(shaping, decaying) > 1e-4


def test_without_an_ascent_l2_is_the_weight_decay_of_sgd(network, closure_for):
    ours, theirs = network(), network()
    optimizer = SharpnessAware(ours, SGD, NoAscent(), l2=L2, **MOMENTUM)
    plain = SGD(theirs.parameters(), weight_decay=L2, **MOMENTUM)
    for _ in range(4):
        optimizer.step(closure_for(ours))
        plain.step(closure_for(theirs))
    assert distance(ours, theirs) < 1e-12


def grouped(model: nn.Module, **settings: float) -> SAM:
    """Groups with an L2 term of their own, with none, and with the optimizer's."""
    groups = [
        {"params": model[0].parameters(), "l2": 0.2},
        {"params": model[1].parameters(), "l2": 0.0},
        {"params": model[5].parameters()},
    ]
    return SAM(groups, SGD, rho=0.3, module=model, **MOMENTUM, **settings)


@pytest.mark.parametrize("l2", [0.0, L2])
def test_groups_have_an_l2_of_their_own(l2, network, closure_for, batch):
    ours, theirs = network(), network()
    optimizer, by_hand = grouped(ours, l2=l2), SAM(theirs, SGD, rho=0.3, **MOMENTUM)
    for _ in range(3):
        optimizer.step(closure_for(ours))
        by_hand.step(with_l2(theirs, batch, [0.2, 0.2, 0.0, 0.0, l2, l2]))
    assert distance(ours, theirs) < 1e-12


def test_micro_batches_and_parts_count_the_l2_term_once(smooth, parts_for, batch):
    for settings in ({"micro_batch": 5}, {"regime": Regime(m=16), "micro_batch": 3}):
        ours, theirs = smooth(), smooth()
        optimizer, by_hand = SAM(ours, SGD, l2=L2, lr=0.1, **settings), SAM(theirs, SGD, lr=0.1)
        for _ in range(3):
            optimizer.step(parts_for(ours), size=16)
            by_hand.step(with_l2(theirs, batch, [L2] * 4))
        assert distance(ours, theirs) < 1e-12


def test_the_l2_of_groups_travels_in_the_state_dict(network):
    saved = grouped(network(), l2=L2)
    assert [group["l2"] for group in saved.param_groups] == [0.2, 0.0, L2]
    loaded = grouped(network(), l2=0.7)
    loaded.load_state_dict(saved.state_dict())
    assert [group["l2"] for group in loaded.param_groups] == [0.2, 0.0, L2]
    plain = SGD([{"params": [p]} for p in nn.Linear(2, 1).parameters()], lr=0.3)
    loaded = SAM([{"params": [p]} for p in nn.Linear(2, 1).parameters()], SGD, l2=L2, lr=0.1)
    loaded.load_state_dict(plain.state_dict())  # knows of no L2 term
    assert [(group["l2"], group["lr"]) for group in loaded.param_groups] == [(L2, 0.3)] * 2
    plain.load_state_dict(loaded.state_dict())
    assert plain.param_groups[0]["lr"] == 0.3


def test_a_group_added_later_gets_the_l2_of_the_optimizer(network):
    model = network()
    optimizer = SAM(model[0].parameters(), SGD, l2=L2, lr=0.1)
    optimizer.add_param_group({"params": model[1].parameters()})
    optimizer.add_param_group({"params": model[5].parameters(), "l2": 0.3})
    assert [group["l2"] for group in optimizer.param_groups] == [L2, L2, 0.3]


@pytest.mark.parametrize(
    ("ascent", "settings", "message"),
    [
        (SamAscent(), {"clip_norm": 0.0}, r"clip_norm = 0\.0 is out of range: it must be above 0"),
        (SamAscent(), {"clip_norm": math.nan}, "clip_norm = nan is out of range"),
        (SamAscent(), {"l2": -0.1}, r"l2 = -0\.1 is out of range: it must be a finite number >= 0"),
        (SamAscent(), {"l2": math.inf}, "l2 = inf is out of range"),
        (SamAscent(), {"l2": math.nan}, "l2 = nan is out of range"),
        (SamAscent(), {"micro_batch": 0}, "micro_batch = 0 is out of range: it must be a whole number >= 1"),
        (SamAscent(), {"micro_batch": 2.5}, r"micro_batch = 2\.5 is out of range"),
        (LookSamAscent(k=2), {"regime": Regime(every=2)}, "looksam ascends every 2 steps by itself: leave every = 1"),
        (SamAscent(), {"regime": Regime(statistics="both", m=4)}, "'both' is for whole batches: leave out m"),
        (SamAscent(), {"regime": Regime(statistics="both"), "micro_batch": 4}, "'both' is for whole batches"),
        (GsamAscent(), {"regime": Regime(fraction=0.5)}, "gsam compares both passes on the same images"),
        (LookSamAscent(), {"regime": Regime(fraction=0.5)}, "looksam compares both passes on the same images"),
        (LookSamAscent(), {"regime": Regime(m=4)}, "looksam keeps one gradient from step to step: leave m = 0"),
        (SamAscent(), {"perturbation": "global"}, "perturbation = 'global' is not one of synced, local"),
    ],
    ids=str,
)
def test_settings_that_make_no_sense_are_refused(ascent: Ascent, settings, message, network):
    with pytest.raises(ValueError, match=message):
        SharpnessAware(network(), SGD, ascent, lr=0.1, **settings)


@pytest.mark.parametrize("bad", [-0.1, math.nan, math.inf])
def test_the_l2_of_a_group_is_checked_like_that_of_the_optimizer(bad, network):
    model = network()
    with pytest.raises(ValueError, match="l2"):
        SAM([{"params": model[0].parameters(), "l2": bad}], SGD, lr=0.1)
    optimizer = SAM(model[0].parameters(), SGD, lr=0.1)
    with pytest.raises(ValueError, match="l2"):
        optimizer.add_param_group({"params": model[5].parameters(), "l2": bad})


@pytest.mark.parametrize(
    ("ascent", "settings", "what"),
    [
        (SamAscent(), {"regime": Regime(m=4)}, "sam with m"),
        (SamAscent(), {"regime": Regime(fraction=0.5)}, "sam with fraction"),
        (EsamAscent(gamma=0.5), {}, "esam"),
        (SamAscent(), {"micro_batch": 4}, "micro_batch"),
    ],
)
def test_methods_that_look_at_parts_ask_for_the_size(ascent, settings, what, network, closure_for):
    model = network()
    before = states(model)
    optimizer = SharpnessAware(model, SGD, ascent, lr=0.1, **settings)
    with pytest.raises(ValueError, match=rf"^{what} needs the losses of parts of the batch(.|\n)*def closure\(part\)"):
        optimizer.step(closure_for(model))
    assert equal(states(model), before)


@pytest.mark.parametrize("result", [None, 1.5, torch.ones(3, 2)])
def test_a_closure_of_parts_must_return_losses(result, network):
    with pytest.raises(TypeError, match="must return its loss, a tensor with one element, or one per sample"):
        SAM(network(), SGD, lr=0.1, micro_batch=4).step(lambda part: result, size=16)


FAILING = {
    "plain": (lambda model, **settings: SAM(model, SGD, rho=0.3, **settings), 2),
    "two-steps": (lambda model, **settings: SAM(model, SGD, rho=0.3, regime=Regime(steps=2), **settings), 3),
    "both": (lambda model, **settings: SAM(model, SGD, rho=0.3, regime=Regime(statistics="both"), **settings), 2),
    "m": (lambda model, **settings: SAM(model, SGD, rho=0.3, regime=Regime(m=4), **settings), 4),
    "micro_batch": (lambda model, **settings: SAM(model, SGD, rho=0.3, micro_batch=4, **settings), 6),
    "esam-losses": (lambda model, **settings: ESAM(model, SGD, rho=0.3, **settings), 2),
    "esam-second": (lambda model, **settings: ESAM(model, SGD, rho=0.3, **settings), 3),
    "gsam": (lambda model, **settings: GSAM(model, SGD, rho=0.3, **settings), 2),
    "looksam": (lambda model, **settings: LookSAM(model, SGD, rho=0.3, **settings), 2),
}


@pytest.mark.parametrize("method", FAILING)
def test_an_exception_at_the_perturbed_point_leaves_no_trace(method, network, parts_for):
    make, failing_call = FAILING[method]
    model = network()
    optimizer, healthy, calls = make(model, **MOMENTUM), parts_for(model), 0
    before, perturbed, graded = states(model), [], []

    def closure(part: Part) -> Tensor:
        nonlocal calls
        calls += 1
        perturbed.append(optimizer.perturbed)
        graded.append(torch.is_grad_enabled())
        losses = healthy(part)
        if calls == failing_call:
            raise RuntimeError("out of memory")
        return losses

    with pytest.raises(RuntimeError, match="out of memory"):
        optimizer.step(closure, size=16)
    assert perturbed[-1]
    assert graded[-1] == (method != "esam-losses")
    assert not optimizer.perturbed
    assert equal(states(model), before)
    assert not optimizer.state
    assert model[1].track_running_stats
    optimizer.step(closure, size=16)
    assert not optimizer.last_step_skipped
    assert model[1].num_batches_tracked == (2 if method == "both" else 1)


@pytest.mark.parametrize(
    ("method", "bad_call"),
    [
        *(("m", call) for call in (0, 1, 2, 7)),
        *(("micro_batch", call) for call in (0, 3, 4, 7)),
        *(("esam-second", call) for call in (0, 2)),
    ],
)
def test_a_part_that_is_not_finite_skips_the_whole_step(method, bad_call, network, parts_for):
    model = network()
    optimizer, healthy, calls = FAILING[method][0](model, **MOMENTUM), parts_for(model), 0
    optimizer.step(healthy, size=16)
    before = states(model)

    def closure(part: Part) -> Tensor:
        nonlocal calls
        losses = healthy(part)
        if calls == bad_call:
            model[0].weight.grad.fill_(math.nan)
        calls += 1
        return losses

    optimizer.step(closure, size=16)
    assert calls > bad_call
    assert (optimizer.skipped_steps, optimizer.last_step_skipped) == (1, True)
    assert equal(states(model), before)


def test_a_closure_that_calls_backward_without_gradients_is_told_how_not_to(network, batch):
    model = network()
    before = states(model)
    optimizer = ESAM(model, SGD, lr=0.1)

    def closure(part: Part) -> Tensor:
        model.zero_grad()
        losses = functional.cross_entropy(model(batch[0][part]), batch[1][part], reduction="none")
        losses.mean().backward()
        return losses

    with pytest.raises(RuntimeError, match="is_grad_enabled"):
        optimizer.step(closure, size=16)
    assert equal(states(model), before)


@pytest.mark.parametrize("micro_batch", [None, 4])
def test_a_method_that_compares_samples_refuses_their_mean(micro_batch, network, batch):
    """Without the samples' losses there is nothing to choose by, and the method would be another one."""
    model = network()
    before = states(model)
    optimizer = ESAM(model, SGD, lr=0.1, micro_batch=micro_batch)

    def closure(part: Part) -> Tensor:
        model.zero_grad()
        loss = functional.cross_entropy(model(batch[0][part]), batch[1][part])
        if torch.is_grad_enabled():
            loss.backward()
        return loss

    with pytest.raises(TypeError, match="must return one loss for each"):
        optimizer.step(closure, size=16)
    assert equal(states(model), before)
