"""``dvc repro`` as its users know it: what runs, what does not, and that outputs depend on nothing else."""

from __future__ import annotations

import json
import re
from typing import Any

import pandas as pd
import pytest
from pipeline_study import StudyFolder, new_study, without_timings
from ruamel.yaml import YAML


def test_all_planned_runs_are_there_and_nothing_else(reproduced: StudyFolder) -> None:
    runs = {path.name for path in (reproduced.root / "runs" / "quick").iterdir()}
    assert len(runs) == 2 * 4 * 2  # rows, methods, seeds
    for folder in ("evaluations", "sharpness", "timings"):
        assert {path.stem for path in (reproduced.root / folder / "quick").iterdir()} == runs
    assert all(re.fullmatch(r"digits-noise\d+\.mlp\.(sgd|sgd-2x|sam|asam)\.s[01]-[0-9a-f]{8}", run) for run in runs)


def test_a_second_repro_executes_no_stage(reproduced: StudyFolder) -> None:
    before = reproduced.made("train")
    done = reproduced.run("dvc", "repro")
    assert "Running stage" not in done.stdout
    assert "up to date" in done.stdout
    assert reproduced.made("train") == before


def test_nothing_is_published_twice(reproduced: StudyFolder) -> None:
    for kind in ("images", "draw", "train", "evaluate", "sharpness"):
        made = reproduced.made(kind)
        assert made
        assert len(made) == len(set(made))


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_from_scratch_in_another_folder_with_workers_the_lock_is_the_same(
    reproduced_once: StudyFolder, tmp_path: Any, workers: str
) -> None:
    other = new_study(tmp_path / f"elsewhere-{workers}")
    other.run("dvc", "repro", env={"FLATMIN_SCHEDULER": "local", "FLATMIN_WORKERS": workers})
    assert without_timings(other) == without_timings(reproduced_once)


@pytest.mark.slow
def test_leaving_a_study_and_coming_back_ends_in_the_same_bytes(reproduced: StudyFolder) -> None:
    lock = (reproduced.root / "dvc.lock").read_bytes()
    outputs = reproduced.files("results", "selections", "runs", "evaluations", "sharpness", "timings")
    reproduced.run("flatmin", "use", "noise")
    reproduced.run("dvc", "repro")
    entries = YAML(typ="safe").load((reproduced.root / "dvc.lock").read_text())["stages"]
    assert not [name for name in entries if name.endswith("@quick")]
    assert not (reproduced.root / "runs" / "quick").exists()
    trained = reproduced.made("train")
    reproduced.run("flatmin", "use", "quick")
    reproduced.run("dvc", "repro")
    assert reproduced.made("train") == trained
    assert (reproduced.root / "dvc.lock").read_bytes() == lock
    assert reproduced.files("results", "selections", "runs", "evaluations", "sharpness", "timings") == outputs


@pytest.mark.slow
def test_one_stage_alone(reproduced: StudyFolder) -> None:
    reproduced.edit(lambda params: params["tables"]["quick"].update(seeds=[0, 1, 2]))
    before = len(reproduced.made("train"))
    done = reproduced.run("dvc", "repro", "train@quick")
    assert "train@quick" in done.stdout
    assert "evaluate@quick" not in done.stdout
    assert len(reproduced.made("train")) == before + 2 * 4


@pytest.mark.slow
def test_dvc_experiments_params_and_metrics(reproduced: StudyFolder) -> None:
    done = reproduced.run("dvc", "exp", "run", "-n", "wide", "-S", "methods.sam.rho=0.1")
    assert "hand-written, not tuned" in done.stdout
    shown = json.loads(reproduced.run("dvc", "exp", "show", "--json").stdout)
    assert "wide" in json.dumps(shown)
    assert "methods.sam.rho" in reproduced.run("dvc", "params", "diff").stdout
    changed = json.loads(reproduced.run("dvc", "metrics", "diff", "--json").stdout)
    metrics = changed.get("diff", changed)
    assert all(name.endswith(".sam.json") for name in metrics)
    assert any("accuracy" in values for values in metrics.values())


def test_tables_and_report_agree(reproduced: StudyFolder) -> None:
    table = pd.read_csv(reproduced.root / "results" / "tables" / "quick.csv")
    assert len(table) == 2 * 4
    page = (reproduced.root / "results" / "report.html").read_text()
    records = [json.loads(path.read_text()) for path in (reproduced.root / "evaluations" / "quick").glob("*.json")]
    for accuracy in table["test_accuracy_percent_mean"]:
        assert f"{accuracy:.2f}" in page
    mean = 100 * sum(r["metrics"]["test_accuracy"] for r in records) / len(records)
    assert table["test_accuracy_percent_mean"].mean() == pytest.approx(mean)
