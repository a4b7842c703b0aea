"""A training as a worker performs it: from a task to a record, resumed from a checkpoint where there is one."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

from flatmin.data.errors import DataError
from flatmin.data.loading import load
from flatmin.devices import prepared_device
from flatmin.records import file_digest
from flatmin.settings import RunSettings
from flatmin.training import checkpoint, history
from flatmin.training.loop import Trainer, measure
from flatmin.workplace import Workplace

CHECKPOINT_SECONDS = float(os.environ.get("FLATMIN_CHECKPOINT_SECONDS", "30"))
"""How much work a kill may cost; it changes no result."""


def train(task: Mapping[str, Any], workplace: Workplace) -> dict[str, Any]:
    """Train one run; write ``history.csv``, ``model.safetensors`` (last epoch), ``best.safetensors`` (early stopping).

    Args:
        task: ``settings`` of the run, ``dataset`` (its name), ``prepared`` (folder of prepared data), ``weights`` (the
            file to start from, or None), ``identity`` (the hashes that the record repeats).
        workplace: where to write, and on which device to compute.

    Returns:
        The content of the run's record.
    """
    settings = RunSettings.model_validate(task["settings"])
    device = prepared_device(workplace.device)
    data = load(Path(task["prepared"]), task["dataset"], settings.dataset.source_name, settings.seed, device)
    trainer = Trainer(settings, data, device, weights=_verified_weights(task))
    clock = _Clock(trainer, workplace)
    clock.resume()
    trainer.train(clock.after_step, clock.after_epoch)
    _write_outputs(trainer, workplace.result)
    clock.write_timings(workplace.result / "timings.json")
    return {
        "settings": settings.recorded(),
        **task["identity"],
        "environment": {"device": device.type, "torch": torch.__version__, "timm": timm.__version__},
        "result": _result(trainer),
    }


def _verified_weights(task: Mapping[str, Any]) -> Path | None:
    """Return the file of the weights to start from, which must be those that the run's key knows."""
    if not task.get("weights"):
        return None
    file = Path(task["weights"])
    if file_digest(file) != task["identity"]["weights"]:
        raise DataError(f"{file} was changed after it was prepared", f"Delete {file.parent}. Run: dvc repro prepare")
    return file


class _Clock:
    """Checkpoints now and then, and counts the seconds of training over all interruptions."""

    def __init__(self, trainer: Trainer, workplace: Workplace) -> None:
        self.trainer, self.workplace = trainer, workplace
        self.seconds_before = 0.0
        self.started = self.saved = time.monotonic()

    def resume(self) -> None:
        state = checkpoint.load(self.workplace.checkpoint, self.trainer.device)
        if state is not None:
            self.seconds_before = state.pop("seconds")
            self.trainer.load_state_dict(state)
            for row in self.trainer.rows:
                history.append(self.workplace.progress, row)

    @property
    def seconds(self) -> float:
        return self.seconds_before + time.monotonic() - self.started

    def after_step(self) -> None:
        if time.monotonic() - self.saved >= CHECKPOINT_SECONDS:
            self.workplace.check()
            checkpoint.save(self.workplace.checkpoint, {**self.trainer.state_dict(), "seconds": self.seconds})
            self.saved = time.monotonic()

    def after_epoch(self, row: history.Row) -> None:
        history.append(self.workplace.progress, row)

    def write_timings(self, path: Path) -> None:
        seconds = {"train_seconds": self.seconds, "gradients": self.trainer.position.gradients}
        path.write_text(json.dumps(seconds) + "\n", encoding="utf-8")


def _write_outputs(trainer: Trainer, folder: Path) -> None:
    (folder / "history.csv").write_text(history.to_csv(trainer.rows), encoding="utf-8")
    _save_weights(trainer.model.state_dict(), folder / "model.safetensors")
    _save_weights(trainer.best_weights, folder / "best.safetensors")


def _save_weights(weights: Mapping[str, Tensor], path: Path) -> None:
    """Write weights without metadata: with more than one key of it, safetensors' bytes are not reproducible."""
    save_file({name: tensor.cpu().contiguous() for name, tensor in weights.items()}, path)


def _result(trainer: Trainer) -> dict[str, float | int | bool | None]:
    """Return the numbers of the finished run: on its training images in evaluation mode, and along the way."""
    position = trainer.position
    train = measure(trainer.logits(trainer.data.train), trainer.data.train)
    validation = measure(trainer.logits(trainer.data.validation), trainer.data.validation)
    return {
        "train_loss": train["loss"],
        "train_accuracy": train["accuracy"],
        "memorised": train["memorised"],
        "validation_loss": validation["loss"],
        "validation_accuracy": validation["accuracy"],
        "epochs": position.epoch,
        "best_epoch": position.best_epoch,
        "best_validation_accuracy": max(position.best_validation_accuracy, 0.0),
        "diverged": trainer.diverged,
        "skipped_steps": position.skipped_steps,
        "gradients": position.gradients,
    }
