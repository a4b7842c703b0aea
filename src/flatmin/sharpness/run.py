"""A sharpness measurement as a worker performs it: on the last epoch's weights and a fixed part of the training set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flatmin.data.batches import normalise
from flatmin.data.loading import load
from flatmin.devices import prepared_device
from flatmin.evaluation.run import trained_network
from flatmin.settings import RunSettings, SharpnessSpec
from flatmin.sharpness.ascent import sharpness
from flatmin.workplace import Workplace

BATCH = 500
"""Images per pass; the loss is the mean over all samples, whatever the batch."""


def measure(task: Mapping[str, Any], workplace: Workplace) -> dict[str, Any]:
    """Measure the sharpness of a run's training loss, with the labels that it was trained on, without augmentation."""
    settings = RunSettings.model_validate(task["settings"])
    spec = SharpnessSpec.model_validate(task["spec"])
    device = prepared_device(workplace.device)
    data = load(Path(task["prepared"]), task["dataset"], settings.dataset.source_name, settings.seed, device)
    model = trained_network(settings, data, Path(task["run"]) / "model.safetensors", device)
    measured: dict[str, Any] = dict(
        sharpness(
            model,
            data.train.take(slice(spec.samples)),
            data.train.labels[: spec.samples],
            rho=spec.rho,
            steps=spec.steps,
            batch_size=BATCH,
            transform=lambda images: normalise(images, data.mean, data.std),
        )
    )
    gradient_norm = measured.pop("gradient_norm")
    return {"metrics": {"gradient_norm": gradient_norm, **{f"sharpness_{k}": v for k, v in measured.items()}}}
