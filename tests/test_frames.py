"""What the results are told of a study: images trained on, parameters saved, training of each method, notes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from flatmin import catalogue
from flatmin.data.manifest import images_folder, write_manifest
from flatmin.frames import architecture, augmentation_word, count_parameters, histories, table_infos
from flatmin.keys import RunIdentity
from flatmin.planning import KeyedRun, read_choices
from flatmin.reading import load
from flatmin.results.claim_spec import load_claims
from flatmin.results.inputs import TableInfo
from flatmin.results.matching import admits
from flatmin.settings import ModelSpec, TrainingSpec
from flatmin.study import Study
from flatmin.training.history import COLUMNS, to_csv
from flatmin.vocabulary import vocabulary
from flatmin.workspace import Workspace

ROW = ("digits", "mlp")
TEXT = """\
study: [main]
tables:
  main:
    datasets: [digits]
    models: [mlp]
    methods: [sgd, sgd-2x, sam, adam-sam]
    seeds: [0]
    select:
      sgd: {lr: [0.05, 0.1, 0.2]}
      sam: {rho: [0.1, 0.2, 0.4]}
datasets:
  digits: {source: digits, validation: {fraction: 0.2}}
models:
  mlp: {name: mlp, args: {hidden: [8]}}
methods:
  sgd: {base: sgd}
  sgd-2x: {base: sgd, training: {epochs: 4}}
  sam: {base: sgd, ascent: sam, rho: selected}
  adam-sam: {base: adamw, ascent: sam, rho: 0.05, training: {lr: 0.001, label_smoothing: 0.1}}
training: {epochs: 2, batch_size: 32, lr: selected, augmentation: {flip: true, pad: 4}}
selection: {seeds: [1000]}
evaluation: {}
sharpness: {}
"""
CHOSEN = {"sgd": {"lr": 0.1}, "sam": {"rho": 0.4}}
WEIGHTS = {"fc.weight": (10, 64), "fc.bias": (10,), "bn.weight": (3,), "bn.running_mean": (3,), "bn.running_var": (3,)}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A study with its selection and the counts of its images, and nothing trained."""
    workspace = Workspace(tmp_path)
    workspace.params.write_text(TEXT)
    choices = [{"dataset": ROW[0], "model": ROW[1], "method": m, "chosen": values} for m, values in CHOSEN.items()]
    workspace.selection("main").parent.mkdir()
    workspace.selection("main").write_text(json.dumps({"choices": choices}))
    folder = images_folder(workspace.prepared, "digits")
    folder.mkdir(parents=True)
    counts = {"train": [100, 97], "test": [60]}
    write_manifest(folder, {"kind": "images", "version": 1, "content_hash": "0" * 64, "counts": counts})
    return workspace


def study_of(workspace: Workspace) -> Study:
    return load(workspace.params, vocabulary())


def info(workspace: Workspace, *, trained: bool = False) -> TableInfo:
    study = study_of(workspace)
    runs = [
        KeyedRun(plan, RunIdentity(key="0123456789", data="", code=""))
        for plan in study.runs("main", read_choices(workspace.selection("main")))
    ]
    if trained:
        folder = workspace.runs("main") / runs[2].id
        folder.mkdir(parents=True)
        save_weights(folder / "model.safetensors")
    return table_infos(study, runs, workspace)["main"]


def save_weights(path: Path) -> None:
    arrays = {name: np.zeros(shape, dtype=np.float32) for name, shape in WEIGHTS.items()}
    save_file({**arrays, "bn.num_batches_tracked": np.array(5)}, path)


def test_parameters_are_counted_without_running_statistics(tmp_path: Path) -> None:
    save_weights(tmp_path / "model.safetensors")
    assert count_parameters(tmp_path / "model.safetensors") == 10 * 64 + 10 + 3


def test_a_trained_row_is_admitted_by_a_claim_about_small_networks(workspace: Workspace, repository: Path) -> None:
    claims = {claim.id: claim for claim in load_claims(repository / "experiments" / "claims.yaml")}
    small = claims["guide-simple-data-no-benefit"].admissible
    before, after = info(workspace).rows[ROW], info(workspace, trained=True).rows[ROW]
    assert before.parameters is None
    assert not admits(small, before)
    assert after.parameters == 10 * 64 + 10 + 3
    assert admits(small, after)
    assert not admits(small, replace(after, parameters=2_000_000))


def test_training_images_are_those_left_after_the_validation_part(workspace: Workspace) -> None:
    row = info(workspace).rows[ROW]
    assert (row.source_images, row.validation_fraction) == (197, 0.2)
    assert row.train_images == 197 - 39


def test_a_method_comes_with_its_own_training(workspace: Workspace) -> None:
    table = info(workspace)
    adam, sam = (table.training_of(ROW, method) for method in ("adam-sam", "sam"))
    assert (adam["lr"], adam["label_smoothing"], adam["augmentation"]) == (0.001, 0.1, "basic")
    assert (sam["lr"], sam["label_smoothing"]) == ("selected", 0.0)
    assert "epochs" not in adam


def test_the_edge_of_a_grid_is_known(workspace: Workspace) -> None:
    table = info(workspace)
    assert list(table.edge_of(ROW, "sam")) == ["rho"]
    assert list(table.edge_of(ROW, "sgd")) == []


def test_an_inherited_learning_rate_is_named_with_its_origin(workspace: Workspace) -> None:
    notes = info(workspace).notes[ROW]
    assert "sgd-2x: lr 0.1 inherited from sgd" in notes
    assert not any(note.startswith("adam-sam: lr") for note in notes)


def test_a_run_that_diverged_in_its_first_epoch_has_no_curve(workspace: Workspace) -> None:
    study = study_of(workspace)
    runs = [
        KeyedRun(p, RunIdentity("", "", f"{i:064x}"))
        for i, p in enumerate(study.runs("main", read_choices(workspace.selection("main"))))
    ]
    for run, rows in zip(runs[:2], ([], [dict.fromkeys(COLUMNS, 1.0)]), strict=True):
        folder = workspace.runs("main") / run.id
        folder.mkdir(parents=True)
        (folder / "history.csv").write_text(to_csv(rows))
    assert list(histories(runs, workspace)) == [runs[1].id]


@pytest.fixture
def repository() -> Path:
    return Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("augmentation", "word"),
    [
        ({}, "none"),
        ({"flip": True}, "flip"),
        ({"pad": 4}, "crop"),
        ({"flip": True, "pad": 4}, "basic"),
        ({"flip": True, "pad": 4, "cutout": 16}, "cutout"),
        ({"flip": True, "pad": 4, "policy": "autoaugment"}, "aa"),
        ({"flip": True, "pad": 4, "policy": "autoaugment", "cutout": 16}, "aa+cutout"),
        ({"flip": True, "pad": 4, "cutout": 8}, "basic+cutout8"),
        ({"flip": True, "pad": 4, "mixup": 0.2}, "basic+mixup"),
        ({"flip": True, "pad": 4, "policy": "randaugment", "cutmix": 1.0}, "basic+randaugment+cutmix"),
        ({"cutout": 16}, "none+cutout"),
        ({"flip": True, "policy": "autoaugment"}, "flip+aa"),
        ({"erasing": 0.25}, "none+erasing"),
    ],
)
def test_only_the_papers_augmentation_has_the_papers_word(augmentation: dict[str, object], word: str) -> None:
    training = TrainingSpec.model_validate({"augmentation": augmentation})
    assert augmentation_word(training) == word


@pytest.mark.parametrize(
    ("spec", "word"),
    [
        ({"name": "wrn28_10"}, "wrn28_10"),
        ({"name": "cifar_wrn28_10"}, "wrn28_10"),
        ({"name": "resnet18", "stem": "cifar"}, "resnet18 with stem for small images"),
        ({"name": "wrn28_10", "args": {"width": 2, "norm": "none"}}, "wrn28_10 with norm=none, width=2"),
        ({"name": "resnet18", "pretrained": True}, "resnet18 with pretrained"),
    ],
)
def test_a_network_that_is_built_otherwise_is_another_one(spec: dict[str, Any], word: str) -> None:
    """Else a claim about WRN-28-10 would be decided by one of a fifth of its width."""
    assert architecture(ModelSpec.model_validate(spec)) == word


def test_claims_are_about_networks_that_can_be_built(repository: Path) -> None:
    claims = load_claims(repository / "experiments" / "claims.yaml")
    admitted = {name for claim in claims for name in claim.admissible.models or ()}
    published = {name for claim in claims if claim.setting for name in claim.setting.model_names}
    assert {"wrn28_10", "pyramidnet272_a200_sd", "shake_shake26_2x96d"} <= admitted
    assert admitted | published <= {*catalogue.models()}
