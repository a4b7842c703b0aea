"""An evaluation as a worker performs it: from a trained run to its numbers on test data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from flatmin.data.batches import normalise
from flatmin.data.loading import LoadedData, load
from flatmin.devices import prepared_device
from flatmin.evaluation.metrics import classification_metrics
from flatmin.evaluation.predict import PREDICTION_BATCH, predict
from flatmin.models.network import network
from flatmin.settings import EvaluationSpec, RunSettings
from flatmin.workplace import Workplace

WEIGHTS = {"": "model.safetensors", "early_": "best.safetensors"}
"""Prefix of the metrics and the weights they are measured on: the last epoch, and the validation-best one."""


def evaluate(task: Mapping[str, Any], workplace: Workplace) -> dict[str, Any]:
    """Measure a run on the test sets: ``test_accuracy`` and so on, with ``early_`` for early stopping.

    In float32 whatever the run was trained in, so that precisions are compared on one scale.
    """
    settings = RunSettings.model_validate(task["settings"])
    spec = EvaluationSpec.model_validate(task["spec"])
    device = prepared_device(workplace.device)
    data = load(Path(task["prepared"]), task["dataset"], settings.dataset.source_name, settings.seed, device)
    metrics: dict[str, float | None] = {}
    for prefix, weights in WEIGHTS.items():
        model = trained_network(settings, data, Path(task["run"]) / weights, device)
        measured = _on_test(model, data, spec)
        metrics |= {f"{prefix}test_{name}": value for name, value in measured.items()}
    return {"metrics": metrics}


def trained_network(settings: RunSettings, data: LoadedData, weights: Path, device: torch.device) -> nn.Module:
    """Build a run's network and load its weights from a file."""
    model = network(settings.model, classes=len(data.classes), images=data.test.pool).to(device)
    model.load_state_dict(load_file(weights, device=str(device)))
    return model.eval()


def _on_test(model: nn.Module, data: LoadedData, spec: EvaluationSpec) -> dict[str, float | None]:
    logits = predict(
        model,
        data.test.images,
        batch_size=PREDICTION_BATCH,
        transform=lambda images: normalise(images, data.mean, data.std),
    )
    return classification_metrics(logits, data.test.labels.cpu(), bins=spec.ece_bins)
