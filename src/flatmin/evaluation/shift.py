"""The evaluation of a trained run on a further test set: new images, human judgements, or a suite of corruptions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from flatmin.data.batches import normalise
from flatmin.data.corruptions.registry import MAIN
from flatmin.data.loading import LoadedData, load
from flatmin.data.manifest import content_hash, read_manifest
from flatmin.data.prepared_tests import IMAGES, LABELS, PROBABILITIES
from flatmin.data.stored import changed, read_stored
from flatmin.data.test_set import Corruptions, HumanJudgements
from flatmin.data.test_sets.registry import load as load_test_set
from flatmin.devices import prepared_device
from flatmin.evaluation.metrics import classification_metrics, soft_cross_entropy
from flatmin.evaluation.predict import PREDICTION_BATCH, predict
from flatmin.evaluation.run import WEIGHTS, trained_network
from flatmin.settings import EvaluationSpec, RunSettings
from flatmin.workplace import Workplace

AVERAGED = ("accuracy", "error", "nll", "ece")
"""What is averaged over the corruptions and severities of a suite."""

EPOCHS = {"": "last", "early_": "early"}
"""Which epoch's weights a prefix of metrics stands for, as rows have it."""

Metrics = dict[str, float | None]


class _Run(NamedTuple):
    """A trained network, the data that it was trained for, and what is measured."""

    model: nn.Module
    data: LoadedData
    spec: EvaluationSpec

    def logits(self, images: Tensor) -> Tensor:
        return predict(
            self.model,
            images,
            batch_size=PREDICTION_BATCH,
            transform=lambda batch: normalise(batch, self.data.mean, self.data.std),
        )

    def measured(self, images: Tensor, labels: Tensor) -> Metrics:
        return classification_metrics(self.logits(images), labels.cpu(), bins=self.spec.ece_bins)


def evaluate(task: Mapping[str, Any], workplace: Workplace) -> dict[str, Any]:
    """Measure a run on ``task["test_set"]``: prepared in ``task["folders"]``, of a suite one per corruption.

    Returns:
        ``metrics``, by ``<test set>_<metric>`` for the last epoch and ``early_<test set>_<metric>`` for early stopping;
        for a suite of corruptions these are means (`averages`), and ``rows`` has the numbers of every corruption at
        every severity.

    Raises:
        DataError: The test set is not prepared, or its arrays are not what its manifest says.
    """
    settings = RunSettings.model_validate(task["settings"])
    spec = EvaluationSpec.model_validate(task["spec"])
    device = prepared_device(workplace.device)
    data = load(Path(task["prepared"]), task["dataset"], settings.dataset.source_name, settings.seed, device)
    test_set, folders = load_test_set(task["test_set"]), [Path(folder) for folder in task["folders"]]
    metrics: Metrics = {}
    rows: list[dict[str, Any]] = []
    for prefix, weights in WEIGHTS.items():
        run = _Run(trained_network(settings, data, Path(task["run"]) / weights, device), data, spec)
        if isinstance(test_set, Corruptions):
            measured = [row for folder in folders for row in _on_corruption(run, folder)]
            rows += [{"epoch": EPOCHS[prefix], **row} for row in measured]
            found = averages(measured)
        elif isinstance(test_set, HumanJudgements):
            found = _against_people(run, folders[0])
        else:
            arrays = _arrays(folders[0], IMAGES, LABELS)
            found = run.measured(arrays[IMAGES], arrays[LABELS])
        metrics |= {f"{prefix}{test_set.name}_{name}": value for name, value in found.items()}
    return {"metrics": metrics, **({"rows": rows} if rows else {})}


def averages(rows: Sequence[Mapping[str, Any]]) -> Metrics:
    """Return the means over corruptions and severities, each with the same weight, and the number of ``conditions``.

    ``error`` is then the mean corruption error of the CIFAR literature: not divided by that of another network. Only
    the 15 corruptions of the benchmark count, unless none of them was measured. A mean is None where one value is.
    """
    main = [row for row in rows if row["corruption"] in MAIN] or rows
    return {**{name: _mean([row[name] for row in main]) for name in AVERAGED}, "conditions": len(main)}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known and len(known) == len(values) else None


def _on_corruption(run: _Run, folder: Path) -> Iterator[dict[str, Any]]:
    """Yield a row per severity, for the images and severities that are asked for.

    Images stream from the file, which may be larger than memory: those of the official files are all severities.
    """
    manifest, wanted = read_manifest(folder, "test_set"), run.spec.corruptions
    images = _arrays(folder, IMAGES)[IMAGES].permute(0, 3, 1, 2)
    count = min(wanted.images or manifest["images"], manifest["images"])
    for severity in wanted.severities:
        start = manifest["severities"].index(severity) * manifest["images"]
        measured = run.measured(images[start : start + count], run.data.test.labels[:count])
        yield {"corruption": manifest["corruption"], "severity": severity, **measured}


def _against_people(run: _Run, folder: Path) -> Metrics:
    """Return the cross-entropy with the classes that people saw, and the accuracy against the one that most saw."""
    probabilities = _arrays(folder, PROBABILITIES)[PROBABILITIES]
    logits = run.logits(run.data.test.images)
    majority = classification_metrics(logits, probabilities.argmax(1), bins=run.spec.ece_bins)
    return {
        "accuracy": majority["accuracy"],
        "error": majority["error"],
        "nll": soft_cross_entropy(logits, probabilities),
        "ece": majority["ece"],
    }


def _arrays(folder: Path, *names: str) -> dict[str, Tensor]:
    """Return the arrays of a prepared folder, memory-mapped, and checked once in the life of a process."""
    return _checked(str(folder), read_manifest(folder, "test_set")["content_hash"], names)


@lru_cache(maxsize=64)
def _checked(folder: str, content: str, names: tuple[str, ...]) -> dict[str, Tensor]:
    """Return checked arrays. The hash is part of the key: a set that was prepared anew is read anew."""
    arrays = {name: read_stored(Path(folder) / name) for name in names}
    if content_hash(arrays) != content:
        raise changed(Path(folder))
    return {name: torch.from_numpy(array) for name, array in arrays.items()}
