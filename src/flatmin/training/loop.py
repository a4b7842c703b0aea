"""The training loop: one for every method, because SGD is the method without ascent.

It can be left and taken up again after any step. What a step depends on is either a closed form of the position
(learning rate, order of the epoch) or part of `Trainer.state_dict`.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from flatmin.data.augmentation.batch import augmented_batch
from flatmin.data.batches import epoch_order, index_batches, normalise
from flatmin.data.loading import LoadedData, Split
from flatmin.evaluation.predict import PREDICTION_BATCH, predict
from flatmin.models.network import network
from flatmin.optim.passes import WHOLE, Part
from flatmin.optim.registry import configured
from flatmin.optim.replay import generators_of
from flatmin.optim.step import SharpnessAware
from flatmin.randomness import derived_seed, torch_generator
from flatmin.settings import RunSettings, TrainingSpec
from flatmin.training.history import Row
from flatmin.training.schedule import Schedule

MEMORY_FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
BASES = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}

NOT_SEEN = -1
"""In the place of a predicted class, for an image that no clean pass saw."""


@dataclass
class Position:
    """Where a run is: the next step of the epoch, both from 0, and what has happened on the way."""

    epoch: int = 0
    step: int = 0
    gradients: int = 0
    skipped_steps: int = 0
    skipped_in_a_row: int = 0
    best_epoch: int = 0
    best_validation_accuracy: float = -1.0


@dataclass
class Sums:
    """Sums over the clean passes of the epoch in progress, kept on the device so that no step waits for them."""

    loss: Tensor
    correct: Tensor
    memorised: Tensor
    gradient_norm: Tensor
    images: Tensor
    noisy: Tensor
    steps: int = 0
    skipped_steps: int = 0

    @classmethod
    def zero(cls, device: torch.device) -> Sums:
        """Return empty sums; float64, so that an epoch's mean does not depend on its length."""
        loss, correct, memorised, norm, images, noisy = torch.zeros(6, dtype=torch.float64, device=device)
        return cls(loss, correct, memorised, norm, images, noisy)


class Trainer:
    """One run in progress.

    Args:
        settings: the run's resolved settings.
        data: its images and labels, on ``device``.
        device: where to compute.
        weights: a file of weights to start from; without one they are drawn.
    """

    def __init__(
        self, settings: RunSettings, data: LoadedData, device: torch.device, weights: Path | None = None
    ) -> None:
        self.settings, self.data, self.device = settings, data, device
        self.spec: TrainingSpec = settings.training
        self.memory_format = MEMORY_FORMATS[self.spec.memory_format]
        self.precision = PRECISIONS[self.spec.precision]
        self.method = configured(settings.method.ascent, **self._options())
        self.scaler = torch.amp.GradScaler(device.type) if self.spec.precision == "fp16" else None
        self.model = self._initial_model(weights)
        self.optimizer = self._optimizer()
        self.steps_per_epoch = math.ceil(len(data.train) / self.spec.batch_size)
        assert not isinstance(self.spec.lr, str)
        self.schedule = Schedule(self.spec, self.spec.lr, self.steps_per_epoch)
        self.position = Position()
        self.sums = Sums.zero(device)
        self.rows: list[Row] = []
        self.best_weights: dict[str, Tensor] = self._weights()
        self.augmentation = torch_generator(settings.seed, "augmentation")
        self.shake = generators_of(self.model)
        for number, generator in enumerate(self.shake):
            generator.manual_seed(derived_seed(settings.seed, "shake", number))
        torch.manual_seed(derived_seed(settings.seed, "dropout"))

    def _options(self) -> dict[str, Any]:
        method = self.settings.method
        return method.options if method.ascent == "none" else {"rho": method.rho, **method.options}

    def _initial_model(self, weights: Path | None) -> nn.Module:
        torch.manual_seed(derived_seed(self.settings.seed, "init"))
        images, classes = self.data.train.pool, len(self.data.classes)
        model = network(self.settings.model, classes=classes, images=images, weights=weights)
        return model.to(device=self.device, memory_format=self.memory_format)  # type: ignore[call-overload]

    def _optimizer(self) -> SharpnessAware:
        spec, method = self.spec, self.settings.method
        assert not isinstance(spec.weight_decay, str)
        in_loss = spec.weight_decay_in == "loss"
        of_sgd = {"momentum": spec.momentum, "nesterov": spec.nesterov}
        moments: dict[str, Any] = of_sgd if method.base == "sgd" else {"betas": spec.betas}
        return SharpnessAware(
            self.model,
            BASES[method.base],
            self.method.ascent,
            regime=self.method.regime,
            clip_norm=spec.clip_norm,
            l2=spec.weight_decay if in_loss else 0.0,
            micro_batch=spec.micro_batch,
            scaler=self.scaler,
            seed=derived_seed(self.settings.seed, "perturbation"),
            lr=spec.lr,
            weight_decay=0.0 if in_loss else spec.weight_decay,
            fused=True,
            **moments,
        )

    # --- the loop -----------------------------------------------------------------------------------------------------

    def train(self, after_step: Callable[[], None], after_epoch: Callable[[Row], None]) -> None:
        """Train to the end, or until the run has diverged.

        ``after_step`` is called where the run may be checkpointed, ``after_epoch`` with every new row.
        """
        while self.position.epoch < self.spec.epochs and not self.diverged:
            self._train_epoch(after_step)
            if not self.diverged:
                after_epoch(self._end_epoch())
                after_step()

    @property
    def diverged(self) -> bool:
        """Whether the loss or a gradient was not finite in ``patience`` steps in a row."""
        return self.position.skipped_in_a_row >= self.spec.patience

    def _train_epoch(self, after_step: Callable[[], None]) -> None:
        self.model.train()
        for indices in self._batches():
            self._step(indices)
            self.position.step += 1
            if self.diverged:
                return
            if self.position.step < self.steps_per_epoch:
                after_step()

    def _batches(self) -> Iterator[Tensor]:
        """Yield the index batches of the epoch that are left, in the epoch's own order."""
        generator = torch_generator(self.settings.seed, "order", self.position.epoch)
        order = epoch_order(len(self.data.train), generator).to(self.device)
        yield from index_batches(order, self.spec.batch_size, start=self.position.step)

    def _step(self, indices: Tensor) -> None:
        self._schedule_step()
        labels = self.data.train.labels[indices]
        images, targets = augmented_batch(
            self.data.train.take(indices), labels, self.spec.augmentation, self.augmentation, self._inputs
        )
        predicted = torch.full_like(labels, NOT_SEEN)
        position, optimizer = self.position, self.optimizer

        def closure(part: Part = WHOLE) -> Tensor:
            optimizer.zero_grad()
            with self._autocast():
                logits = self.model(images[part])
            losses = targets.losses(logits.float(), part, self.spec.label_smoothing)
            if torch.is_grad_enabled():
                loss = losses.mean()
                (loss if self.scaler is None else self.scaler.scale(loss)).backward()
                position.gradients += len(losses)
            if not optimizer.perturbed:
                predicted[part] = logits.detach().argmax(1)
            return losses

        loss = optimizer.step(closure, size=len(labels))
        if self.scaler is not None:
            self.scaler.update()
        self._count(loss, predicted, labels, self.data.train.clean_labels[indices])

    def _schedule_step(self) -> None:
        """Set learning rate and rho for the step to come."""
        assert not isinstance(self.spec.lr, str)
        step = self.position.epoch * self.steps_per_epoch + self.position.step
        lr = self.schedule.at(step)
        rho = self.settings.method.rho * self.method.schedule.factor(step, self.schedule.steps, lr / self.spec.lr)
        for group in self.optimizer.param_groups:
            group["lr"], group["rho"] = lr, rho

    def _count(self, loss: Tensor, predicted: Tensor, labels: Tensor, clean: Tensor) -> None:
        """Add a step to the epoch's sums, by the images that its clean passes have seen."""
        self.sums.steps += 1
        if self.optimizer.last_step_skipped:
            self.position.skipped_steps += 1
            self.position.skipped_in_a_row += 1
            self.sums.skipped_steps += 1
            return
        self.position.skipped_in_a_row = 0
        hits, noisy, seen = predicted == labels, labels != clean, predicted != NOT_SEEN
        self.sums.images += seen.sum()
        self.sums.loss += loss * seen.sum()
        self.sums.correct += hits.sum()
        self.sums.memorised += (hits & noisy).sum()
        self.sums.noisy += (noisy & seen).sum()
        self.sums.gradient_norm += self.optimizer.last_gradient_norm

    def _end_epoch(self) -> Row:
        position, sums = self.position, self.sums
        validation = measure(self.logits(self.data.validation), self.data.validation)
        row: Row = {
            "epoch": position.epoch + 1,
            "lr": self.optimizer.param_groups[0]["lr"],
            "train_loss": _ratio(sums.loss, sums.images),
            "train_accuracy": _ratio(sums.correct, sums.images),
            "validation_loss": validation["loss"],
            "validation_accuracy": validation["accuracy"],
            "memorised": _ratio(sums.memorised, sums.noisy),
            "gradient_norm": _ratio(sums.gradient_norm, sums.steps - sums.skipped_steps),
            "skipped_steps": sums.skipped_steps,
        }
        self.rows.append(row)
        accuracy = validation["accuracy"] or 0.0
        position.epoch, position.step = position.epoch + 1, 0
        if accuracy > position.best_validation_accuracy:
            position.best_validation_accuracy, position.best_epoch = accuracy, position.epoch
            self.best_weights = self._weights()
        self.sums = Sums.zero(self.device)
        return row

    # --- measuring ----------------------------------------------------------------------------------------------------

    def logits(self, split: Split) -> Tensor:
        """Return the model's logits on a split, in evaluation mode and without augmentation."""
        return predict(
            self.model,
            split.images,
            batch_size=PREDICTION_BATCH,
            transform=self._inputs,
            autocast=self.precision,
            memory_format=self.memory_format,
        )

    def _inputs(self, images: Tensor) -> Tensor:
        return normalise(images, self.data.mean, self.data.std, memory_format=self.memory_format)

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self.precision is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self.precision)

    def _weights(self) -> dict[str, Tensor]:
        return {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}

    # --- resuming -----------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return all that the rest of the run depends on."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "position": asdict(self.position),
            "sums": asdict(self.sums),
            "rows": [dict(row) for row in self.rows],
            "best_weights": self.best_weights,
            "augmentation": self.augmentation.get_state(),
            "shake": [generator.get_state() for generator in self.shake],
            "generator": torch.get_rng_state(),
            "scaler": None if self.scaler is None else self.scaler.state_dict(),
            "cuda_generator": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to where ``state`` was taken."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.position = Position(**state["position"])
        self.sums = Sums(**state["sums"])
        self.rows = list(state["rows"])
        self.best_weights = state["best_weights"]
        self.augmentation.set_state(state["augmentation"].cpu())
        for generator, kept in zip(self.shake, state["shake"], strict=True):
            generator.set_state(kept.cpu())
        torch.set_rng_state(state["generator"].cpu())
        if self.scaler is not None:
            self.scaler.load_state_dict(state["scaler"])
        if state["cuda_generator"] is not None:
            torch.cuda.set_rng_state(state["cuda_generator"].cpu(), self.device)


def measure(logits: Tensor, split: Split) -> dict[str, float | None]:
    """Return loss, accuracy against the split's labels, and the share of its wrong labels that the logits repeat.

    The loss is None where it is not finite, ``memorised`` where no label is wrong.
    """
    labels, clean = split.labels.cpu(), split.clean_labels.cpu()
    hits, noisy = logits.argmax(1) == labels, labels != clean
    loss = functional.cross_entropy(logits.double(), labels).item()
    return {
        "loss": loss if abs(loss) < float("inf") else None,
        "accuracy": hits.double().mean().item(),
        "memorised": _ratio((hits & noisy).sum(), noisy.sum()),
    }


def _ratio(total: Tensor, count: Tensor | int) -> float | None:
    return float(total) / float(count) if float(count) else None
