"""Run keys, and the keys of what is measured on runs: hashes of all that determines a result, and of nothing else."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flatmin.catalogue import models
from flatmin.codehash import ROOT, code_hash
from flatmin.data.manifest import data_hash, read_manifest, weights_folder
from flatmin.data.test_set import Corruptions
from flatmin.data.test_sets.registry import load as load_test_set
from flatmin.records import digest_of
from flatmin.settings import CorruptionSpec, EvaluationSpec, RunSettings, Settings, SharpnessSpec, keyed

TRAIN = "flatmin.training.run"
EVALUATE = "flatmin.evaluation.run"
SHIFT = "flatmin.evaluation.shift"
SHARPNESS = "flatmin.sharpness.run"


@dataclass(frozen=True)
class RunIdentity:
    """What a run is: the hashes of its settings, data and code, and the key over the three.

    A run that starts from given weights has their hash too.
    """

    data: str
    code: str
    key: str
    weights: str | None = None

    @property
    def recorded(self) -> dict[str, str]:
        """The hashes that a run's record repeats."""
        weights = {} if self.weights is None else {"weights": self.weights}
        return {"data": self.data, "code": self.code, **weights}


def run_identity(settings: RunSettings, prepared: Path, dataset: str) -> RunIdentity:
    """Return the identity of a run on prepared data.

    Raises:
        DataError: its data, or the weights that it starts from, are not prepared.
    """
    data = data_hash(prepared, dataset, settings.dataset.source_name, settings.seed)
    code = run_code(settings)
    known = {"settings": plain(settings), "data": data, "code": code}
    if not settings.model.pretrained:
        return RunIdentity(data, code, digest_of(known))
    folder = weights_folder(prepared, settings.model.weights_name)
    weights = read_manifest(folder, "weights")["content_hash"]
    return RunIdentity(data, code, digest_of({**known, "weights": weights}), weights)


def run_code(settings: RunSettings) -> str:
    """Return the hash over the training core and the import closure of the run's own ascent and model.

    What a source's reader does is part of the data's hash, and what timm does is named in the record.
    """
    return code_hash([TRAIN, f"flatmin.optim.ascents.{settings.method.ascent}", *own_model(settings.model.name)])


def own_model(name: str) -> list[str]:
    """Return the module of this package that defines a model, or nothing where timm does."""
    path = models().get(name)
    return [".".join([ROOT.name, *path.relative_to(ROOT).with_suffix("").parts])] if path else []


def evaluation_key(run_key: str, spec: EvaluationSpec) -> str:
    """Return the key of a run's evaluation on its own test set; the run's own key covers the data and the model."""
    return _measurement_key(run_key, _of_test(spec), EVALUATE)


def shift_key(run_key: str, spec: EvaluationSpec, test_set: str, contents: Sequence[str]) -> str:
    """Return the key of a run's evaluation on a further test set, whose prepared ``contents`` have these hashes.

    What the study says of corruptions matters to a suite of them alone.

    Raises:
        DataError: there is no such test set.
    """
    suite = isinstance(load_test_set(test_set), Corruptions)
    settings = plain(spec.model_copy(update={"test_sets": ("test",)}) if suite else _of_test(spec))
    code = code_hash([SHIFT, f"flatmin.data.test_sets.{test_set}"])
    return digest_of({"run": run_key, "settings": settings, "set": test_set, "contents": [*contents], "code": code})


def _of_test(spec: EvaluationSpec) -> EvaluationSpec:
    """Return the settings that matter to one set of images: which others there are does not."""
    return spec.model_copy(update={"test_sets": ("test",), "corruptions": CorruptionSpec()})


def sharpness_key(run_key: str, spec: SharpnessSpec) -> str:
    """Return the key of a run's sharpness."""
    return _measurement_key(run_key, spec, SHARPNESS)


def _measurement_key(run_key: str, spec: Settings, module: str) -> str:
    return digest_of({"run": run_key, "settings": plain(spec), "code": code_hash([module])})


def plain(settings: Settings) -> object:
    """Return keyed settings as JSON sees them, so that a tuple and a list are one value."""
    return json.loads(json.dumps(keyed(settings), default=lambda model: model.model_dump(mode="json")))
