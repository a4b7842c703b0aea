from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import (
    ALL_AUGMENTATION,
    ASAM,
    CNN,
    EPOCHS,
    FLIP_AND_CROP,
    IMAGES,
    MLP,
    OTHERS,
    SAM,
    SGD,
    STEPS,
    data,
    pixels,
    settings,
    train_in_memory,
    trainer,
)
from torch import Tensor
from torch.nn import functional

from flatmin.data.augmentation.mixing import Targets
from flatmin.data.loading import Split
from flatmin.forecast import gradients_per_image
from flatmin.training import loop
from flatmin.training.loop import Trainer, measure

DROPOUT = {"name": "mlp", "args": {"hidden": [16], "drop_rate": 0.5}}


def weights(running: Trainer) -> dict[str, Tensor]:
    return dict(running.model.state_dict())


def equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


# --- paired by the seed -------------------------------------------------------------------------------------------


class Seen:
    """What every step of a run saw: the images before augmentation, what became of them, and the targets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.batches: list[Tensor] = []
        self.augmented: list[Tensor] = []
        self.targets: list[Targets] = []
        augmented_batch = loop.augmented_batch

        def watched(images: Tensor, *args: Any) -> tuple[Tensor, Targets]:
            self.batches.append(images.clone())
            inputs, targets = augmented_batch(images, *args)
            self.augmented.append(inputs.clone())
            self.targets.append(targets)
            return inputs, targets

        monkeypatch.setattr(loop, "augmented_batch", watched)


def same(first: list[Tensor], second: list[Tensor]) -> bool:
    return len(first) == len(second) and all(map(torch.equal, first, second))


@pytest.mark.parametrize("method", [SAM, ASAM], ids=["sam", "asam"])
def test_methods_start_from_the_same_weights(prepared: Path, method: dict[str, Any]) -> None:
    assert equal(weights(trainer(settings(SGD), prepared)), weights(trainer(settings(method), prepared)))


@pytest.mark.parametrize("steps", [1, 2])
def test_shaken_branches_draw_the_same_noise_for_all_methods(prepared: Path, steps: int) -> None:
    """After a run of SAM, with two or three passes a step, their generator stands where it stands after SGD's."""
    model = {"name": "shake_shake26_2x32d", "args": {"depth": 8, "width": 4}}
    sgd, sam, other = (
        train_in_memory(settings(method, model, seed=seed), prepared)
        for method, seed in ((SGD, 0), ({**SAM, "options": {"steps": steps}}, 0), (SGD, 1))
    )
    (one,), (two,), (three,) = (running.shake for running in (sgd, sam, other))
    assert torch.equal(one.get_state(), two.get_state())
    assert not torch.equal(one.get_state(), three.get_state())
    assert not equal(weights(sgd), weights(sam))


@pytest.mark.parametrize("model", [MLP, DROPOUT], ids=["mlp", "dropout"])
@pytest.mark.parametrize("method", [SAM, ASAM], ids=["sam", "asam"])
@pytest.mark.parametrize("augmentation", [FLIP_AND_CROP, ALL_AUGMENTATION], ids=["flip and crop", "all"])
def test_methods_see_the_same_batches_and_augmentations(
    prepared: Path,
    monkeypatch: pytest.MonkeyPatch,
    augmentation: dict[str, Any],
    method: dict[str, Any],
    model: dict[str, Any],
) -> None:
    with monkeypatch.context() as patch:
        one = Seen(patch)
        running = train_in_memory(settings(SGD, model, augmentation=augmentation), prepared)
    with monkeypatch.context() as patch:
        two = Seen(patch)
        train_in_memory(settings(method, model, augmentation=augmentation), prepared)
    assert len(one.batches) == EPOCHS * STEPS
    assert same(one.batches, two.batches)
    assert same(one.augmented, two.augmented)
    assert not same([running._inputs(batch) for batch in one.batches], one.augmented)
    if augmentation is ALL_AUGMENTATION:
        for name in ("labels", "partners", "shares"):
            assert same([getattr(t, name) for t in one.targets], [getattr(t, name) for t in two.targets])


def test_another_seed_starts_from_other_weights(prepared: Path) -> None:
    assert not equal(weights(trainer(settings(seed=0), prepared)), weights(trainer(settings(seed=1), prepared)))


def test_every_epoch_sees_every_image_once_in_an_order_of_its_own(
    prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = Seen(monkeypatch)
    running = train_in_memory(settings(SGD), prepared)
    epochs = [torch.cat(seen.batches[i * STEPS : (i + 1) * STEPS]).flatten(1) for i in range(EPOCHS)]
    expected = running.data.train.images.flatten(1).unique(dim=0, return_counts=True)
    for epoch in epochs:
        found = epoch.unique(dim=0, return_counts=True)
        assert all(map(torch.equal, found, expected))
    assert not torch.equal(epochs[0], epochs[1])


def test_augmentation_differs_between_epochs(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Seen(monkeypatch)
    train_in_memory(settings(SGD, batch_size=IMAGES, augmentation=FLIP_AND_CROP), prepared)
    sums = [augmented.double().sum(dim=(0, 1)) for augmented in seen.augmented]
    assert not torch.allclose(sums[0], sums[1], atol=1e-3)


def test_both_passes_of_a_step_see_the_same_mixed_images_and_targets(
    prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mixed anew for the second pass, SAM would ascend on another loss than it descends on."""
    running = trainer(settings(SAM, augmentation=ALL_AUGMENTATION), prepared)
    inputs: list[Tensor] = []
    used: list[Targets] = []
    losses = Targets.losses

    def watched(self: Targets, *args: Any) -> Tensor:
        used.append(self)
        return losses(self, *args)

    def record(model: torch.nn.Module, args: tuple[Tensor]) -> None:
        if model.training:
            inputs.append(args[0].clone())

    monkeypatch.setattr(Targets, "losses", watched)
    running.model.register_forward_pre_hook(record)
    running.train(lambda: None, lambda row: None)
    assert len(inputs) == len(used) == 2 * EPOCHS * STEPS
    assert same(inputs[::2], inputs[1::2])
    assert all(one is other for one, other in zip(used[::2], used[1::2], strict=True))
    assert len({id(targets) for targets in used}) == EPOCHS * STEPS


def test_the_loss_of_mixed_images_is_that_of_both_labels_and_the_accuracy_that_of_their_own(
    prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = Seen(monkeypatch)
    logits: list[Tensor] = []
    running = trainer(settings(SGD, augmentation={"mixup": 1.0}, epochs=1, label_smoothing=0.2), prepared)

    def record(model: torch.nn.Module, args: tuple[Tensor], output: Tensor) -> None:
        if model.training:
            logits.append(output.detach().double())

    running.model.register_forward_hook(record)
    running.train(lambda: None, lambda row: None)
    loss, hits = 0.0, 0
    for scores, targets in zip(logits, seen.targets, strict=True):
        assert targets.partners is not None
        assert targets.shares is not None
        shares, classes = targets.shares.double()[:, None], scores.shape[1]
        labels, partners = (functional.one_hot(numbers, classes) for numbers in (targets.labels, targets.partners))
        soft = 0.8 * (shares * labels + (1 - shares) * partners) + 0.2 / classes
        loss -= (soft * scores.log_softmax(1)).sum().item()
        hits += int((scores.argmax(1) == targets.labels).sum())
    assert running.rows[0]["train_loss"] == pytest.approx(loss / IMAGES, rel=1e-6)
    assert running.rows[0]["train_accuracy"] == hits / IMAGES


# --- methods ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ascent", ["sam", "asam"])
@pytest.mark.parametrize(
    ("model", "training"),
    [
        (MLP, {"augmentation": FLIP_AND_CROP}),
        (CNN, {}),
        (DROPOUT, {"clip_norm": 0.5}),
        (CNN, {"precision": "bf16", "memory_format": "channels_last"}),
    ],
    ids=["mlp", "cnn", "dropout", "bf16"],
)
def test_rho_0_is_sgd_to_the_bit(prepared: Path, ascent: str, model: dict[str, Any], training: dict[str, Any]) -> None:
    plain = train_in_memory(settings(SGD, model, **training), prepared)
    flat = train_in_memory(settings({"base": "sgd", "ascent": ascent, "rho": 0.0}, model, **training), prepared)
    assert equal(weights(plain), weights(flat))
    assert plain.rows == flat.rows


@pytest.mark.parametrize("method", [SAM, ASAM], ids=["sam", "asam"])
def test_an_ascent_moves_the_weights_elsewhere(prepared: Path, method: dict[str, Any]) -> None:
    plain, other = train_in_memory(settings(SGD), prepared), train_in_memory(settings(method), prepared)
    assert not equal(weights(plain), weights(other))


@pytest.mark.parametrize(("method", "per_image"), [(SGD, 1), (SAM, 2), (ASAM, 2)], ids=["sgd", "sam", "asam"])
def test_gradients_are_counted_per_image(prepared: Path, method: dict[str, Any], per_image: int) -> None:
    assert train_in_memory(settings(method), prepared).position.gradients == per_image * EPOCHS * IMAGES


@pytest.mark.parametrize("method", OTHERS.values(), ids=OTHERS)
def test_the_forecast_counts_the_gradients_that_a_run_computes(prepared: Path, method: dict[str, Any]) -> None:
    run = settings(method, epochs=8)  # whole periods of four steps
    computed = train_in_memory(run, prepared).position.gradients
    batches = len(range(0, IMAGES, 64)) * 8  # a share of a batch is rounded up to whole images
    assert gradients_per_image(run) * 8 * IMAGES == pytest.approx(computed, abs=batches, rel=0.02)


@pytest.mark.parametrize("method", OTHERS.values(), ids=OTHERS)
def test_every_method_trains(prepared: Path, method: dict[str, Any]) -> None:
    rows = train_in_memory(settings(method, lr=0.02, epochs=6), prepared).rows
    assert rows[-1]["train_loss"] < 0.97 * rows[0]["train_loss"]
    assert all(row["skipped_steps"] == 0 for row in rows)


def test_rho_follows_its_schedule(prepared: Path) -> None:
    running = trainer(settings({**SAM, "options": {"rho_start": 0.5, "rho_schedule": "lr"}}), prepared)
    seen: list[tuple[float, float]] = []
    running.train(
        lambda: seen.append(tuple(running.optimizer.param_groups[0][k] for k in ("rho", "lr"))), lambda _: None
    )
    half = EPOCHS * STEPS / 2
    expected = [0.1 * lr / 0.05 if step >= half else 0.0 for step, (_, lr) in enumerate(seen)]
    assert [rho for rho, _ in seen] == pytest.approx(expected, rel=1e-12)
    assert 0 < seen[-1][0] < 0.1


def test_decay_in_the_loss_is_another_run_and_in_the_base_for_sgd_the_same(prepared: Path) -> None:
    def after(method: dict[str, Any], where: str) -> dict[str, Tensor]:
        return weights(train_in_memory(settings(method, weight_decay=0.01, weight_decay_in=where), prepared))

    for name, value in after(SGD, "base").items():
        torch.testing.assert_close(after(SGD, "loss")[name], value, rtol=1e-5, atol=1e-6)
    assert not equal(after(SAM, "base"), after(SAM, "loss"))


def test_fp16_is_near_float32(prepared: Path) -> None:
    half = train_in_memory(settings(SAM, CNN, precision="fp16"), prepared)
    assert half.scaler is not None
    assert half.position.skipped_steps == 0
    full = weights(train_in_memory(settings(SAM, CNN), prepared))
    for name, value in weights(half).items():
        torch.testing.assert_close(value, full[name], rtol=0.05, atol=0.02)


def test_sam_at_rho_0_costs_what_sgd_costs(prepared: Path) -> None:
    running = train_in_memory(settings({"base": "sgd", "ascent": "sam", "rho": 0.0}), prepared)
    assert running.position.gradients == IMAGES * EPOCHS


def test_one_sgd_step_is_the_update_rule(prepared: Path) -> None:
    """w - lr (1 + momentum) (g + decay w), the first step of Nesterov's momentum."""
    run = settings(SGD, epochs=1, batch_size=IMAGES, lr=0.1, weight_decay=0.01, schedule="constant")
    before = trainer(run, prepared)
    part, model = before.data.train, before.model.double()
    functional.cross_entropy(model(pixels(part.images, before.data)), part.labels).backward()
    expected = [w - 0.1 * 1.9 * (w.grad + 0.01 * w) for w in model.parameters()]
    after = list(train_in_memory(run, prepared).model.parameters())
    for found, wanted in zip(after, expected, strict=True):
        torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-6)


# --- the rows -----------------------------------------------------------------------------------------------------


def test_the_first_row_is_that_of_the_initial_weights(prepared: Path) -> None:
    """One step per epoch: the clean pass of the first is at the initial weights, for every method."""
    run = settings(SAM, epochs=1, batch_size=IMAGES)
    before = trainer(run, prepared)
    part, model = before.data.train, before.model.double()
    logits = model(pixels(part.images, before.data))
    loss = functional.cross_entropy(logits, part.labels)
    loss.backward()
    wrong = part.labels != part.clean_labels
    hits = logits.argmax(1) == part.labels
    (row,) = train_in_memory(run, prepared).rows
    assert row["train_loss"] == pytest.approx(loss.item(), rel=1e-6)
    assert row["train_accuracy"] == hits.double().mean().item()
    assert row["memorised"] == hits[wrong].double().mean().item()
    norm = math.sqrt(sum(float(w.grad.square().sum()) for w in model.parameters()))
    assert row["gradient_norm"] == pytest.approx(norm, rel=1e-5)


def test_label_smoothing_mixes_in_the_mean_over_all_classes(prepared: Path) -> None:
    run = settings(SGD, epochs=1, batch_size=IMAGES, label_smoothing=0.2)
    before = trainer(run, prepared)
    part = before.data.train
    log_p = before.model.double()(pixels(part.images, before.data)).log_softmax(1)
    hard = -log_p[torch.arange(IMAGES), part.labels].mean()
    expected = 0.8 * hard - 0.2 * log_p.mean()
    (row,) = train_in_memory(run, prepared).rows
    assert row["train_loss"] == pytest.approx(expected.item(), rel=1e-6)


def test_a_batch_that_is_not_full_counts_by_its_images(prepared: Path) -> None:
    """At a learning rate of next to nothing, the mean over an epoch's batches is that over its images."""
    row = train_in_memory(settings(SGD, epochs=1, lr=1e-30), prepared).rows[0]
    whole = train_in_memory(settings(SGD, epochs=1, lr=1e-30, batch_size=IMAGES), prepared).rows[0]
    assert row["train_loss"] == pytest.approx(whole["train_loss"], rel=1e-6)
    assert row["train_accuracy"] == whole["train_accuracy"]


def test_the_learning_rate_of_a_row_is_that_of_its_epochs_last_step(prepared: Path) -> None:
    rows = train_in_memory(settings(SGD, lr=0.05), prepared).rows
    expected = [0.025 * (1 + math.cos(math.pi * step / 9)) for step in (2, 5, 8)]
    assert [row["lr"] for row in rows] == pytest.approx(expected, rel=1e-12)


def test_validation_uses_no_augmentation_and_no_dropout(prepared: Path) -> None:
    run = settings(SGD, DROPOUT, augmentation=FLIP_AND_CROP)
    running = train_in_memory(run, prepared)
    part, model = running.data.validation, running.model.double().eval()
    logits = model(pixels(part.images, running.data))
    assert running.rows[-1]["validation_accuracy"] == (logits.argmax(1) == part.labels).double().mean().item()
    assert running.rows[-1]["validation_loss"] == pytest.approx(
        functional.cross_entropy(logits, part.labels).item(), rel=1e-5
    )


def test_without_wrong_labels_nothing_is_memorised() -> None:
    labels = torch.tensor([0, 1])
    split = Split(torch.zeros(2, 1, 1, 1, dtype=torch.uint8), None, labels, labels)
    assert measure(torch.eye(2), split)["memorised"] is None


def test_memorised_is_the_share_of_wrong_labels_that_are_predicted() -> None:
    labels, clean = torch.tensor([0, 1, 2, 2]), torch.tensor([0, 0, 0, 2])
    split = Split(torch.zeros(4, 1, 1, 1, dtype=torch.uint8), None, labels, clean)
    logits = torch.eye(3)[[0, 1, 0, 1]]
    assert measure(logits, split) | {"loss": None} == {"loss": None, "accuracy": 0.5, "memorised": 0.5}


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_none(value: float) -> None:
    labels = torch.tensor([0, 1])
    split = Split(torch.zeros(2, 1, 1, 1, dtype=torch.uint8), None, labels, labels)
    assert measure(torch.tensor([[value, 0.0], [0.0, 1.0]]), split)["loss"] is None


# --- the best epoch -----------------------------------------------------------------------------------------------


def test_the_best_epoch_is_the_first_of_the_best_validation_accuracies(prepared: Path) -> None:
    running = trainer(settings(SGD, epochs=12, lr=0.2), prepared)
    kept: list[dict[str, Tensor]] = []
    running.train(lambda: None, lambda row: kept.append({n: t.clone() for n, t in weights(running).items()}))
    accuracies = [row["validation_accuracy"] for row in running.rows]
    best = accuracies.index(max(accuracies))
    assert accuracies.count(max(accuracies)) > 1 or best < len(accuracies) - 1, "the last epoch would do as well"
    assert running.position.best_epoch == best + 1
    assert equal(running.best_weights, kept[best])
    assert not equal(running.best_weights, weights(running))


def test_of_equal_validation_accuracies_the_first_is_kept(prepared: Path) -> None:
    running = train_in_memory(settings(SGD, lr=1e-30), prepared)
    assert len({row["validation_accuracy"] for row in running.rows}) == 1
    assert running.position.best_epoch == 1


# --- divergence ---------------------------------------------------------------------------------------------------


def numbers(running: Trainer) -> list[float]:
    return [value for row in running.rows for value in row.values() if value is not None]


@pytest.mark.parametrize("method", [SGD, SAM, ASAM], ids=["sgd", "sam", "asam"])
def test_a_diverging_run_ends_after_as_many_skipped_steps_in_a_row_as_patience_says(
    prepared: Path, method: dict[str, Any]
) -> None:
    running = train_in_memory(settings(method, epochs=50, lr=1e30, patience=7), prepared)
    assert running.diverged
    assert running.position.skipped_in_a_row == 7
    assert running.position.epoch < 10


@pytest.mark.parametrize("lr", [1e2, 1e4, 1e6, 1e9, 1e12, 1e15, 1e18, 1e25, 1e30])
def test_no_row_of_a_run_that_goes_wrong_holds_inf_or_nan(prepared: Path, lr: float) -> None:
    running = train_in_memory(settings(SGD, epochs=8, lr=lr, patience=5), prepared)
    assert all(math.isfinite(value) for value in numbers(running))
    assert all(torch.isfinite(tensor).all() for tensor in weights(running).values())


def test_a_skipped_step_counts_in_its_epoch_and_not_in_the_means(
    prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = trainer(settings(SGD, epochs=1, lr=1e-30), prepared)
    cross_entropy, calls = functional.cross_entropy, []

    def third_is_nan(logits: Tensor, *args: Any, **options: Any) -> Tensor:
        calls.append(1)
        loss = cross_entropy(logits, *args, **options)
        return loss * math.nan if len(calls) == 3 else loss

    monkeypatch.setattr(functional, "cross_entropy", third_is_nan)
    running.train(lambda: None, lambda row: None)
    assert running.rows[0]["skipped_steps"] == 1
    assert running.position.skipped_steps == 1
    assert math.isfinite(running.rows[0]["train_loss"])
    assert not running.diverged


def test_skipped_steps_between_good_ones_are_no_divergence(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    running = trainer(settings(SGD, epochs=4, lr=1e-30, patience=2), prepared)
    cross_entropy, calls = functional.cross_entropy, []

    def every_other_is_nan(logits: Tensor, *args: Any, **options: Any) -> Tensor:
        loss = cross_entropy(logits, *args, **options)
        if logits.requires_grad:
            calls.append(1)
        return loss * math.nan if logits.requires_grad and len(calls) % 2 else loss

    monkeypatch.setattr(functional, "cross_entropy", every_other_is_nan)
    running.train(lambda: None, lambda row: None)
    assert running.position.skipped_steps == 6
    assert not running.diverged


# --- precision ----------------------------------------------------------------------------------------------------


def test_channels_last_is_the_layout_of_weights_and_images(prepared: Path) -> None:
    running = trainer(settings(SGD, CNN, memory_format="channels_last"), prepared)
    layouts: list[bool] = []
    running.model.stages[1][0].register_forward_hook(
        lambda module, inputs, output: layouts.append(inputs[0].is_contiguous(memory_format=torch.channels_last))
    )
    running.train(lambda: None, lambda row: None)
    convolution = running.model.stages[1][0].weight
    assert convolution.is_contiguous(memory_format=torch.channels_last)
    assert all(layouts)


def test_bf16_computes_in_bf16_and_keeps_weights_in_float32(prepared: Path) -> None:
    running = trainer(settings(SGD, CNN, precision="bf16"), prepared)
    types: set[torch.dtype] = set()
    running.model.fc.register_forward_hook(lambda module, inputs, output: types.add(output.dtype))
    running.train(lambda: None, lambda row: None)
    assert types == {torch.bfloat16}
    assert {tensor.dtype for tensor in running.model.parameters()} == {torch.float32}


def test_bf16_is_near_float32(prepared: Path) -> None:
    exact = train_in_memory(settings(SGD, CNN, epochs=1), prepared).rows[0]["train_loss"]
    rough = train_in_memory(settings(SGD, CNN, epochs=1, precision="bf16"), prepared).rows[0]["train_loss"]
    assert rough == pytest.approx(exact, rel=0.02)
    assert rough != exact


def test_training_leaves_the_shared_test_images_alone(prepared: Path) -> None:
    run = settings(SAM)
    before = data(run, prepared).test.images.clone()
    train_in_memory(run, prepared)
    assert torch.equal(data(run, prepared).test.images, before)
