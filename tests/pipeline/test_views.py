"""Plan, show, gc and the MLflow view on a reproduced study."""

from __future__ import annotations

import pytest
from pipeline_study import StudyFolder


def test_mlflow_holds_one_run_per_key_and_is_rebuilt_from_records(reproduced: StudyFolder) -> None:
    from mlflow import MlflowClient

    tables = reproduced.files("results")
    (reproduced.root / "mlflow.db").unlink()
    for _ in range(2):
        assert reproduced.flatmin("aggregate") == 0
        client = MlflowClient(f"sqlite:///{reproduced.root}/mlflow.db")
        runs = client.search_runs([client.get_experiment_by_name("flatmin").experiment_id], max_results=1000)
        keys = [run.data.tags["flatmin.run_key"] for run in runs if "flatmin.run_key" in run.data.tags]
        assert len(keys) == len(set(keys)) == 16 + 8  # runs and trials
        assert {run.data.tags["flatmin.planned"] for run in runs} == {"true"}
    assert reproduced.files("results") == tables


def test_a_server_that_does_not_answer_fails_nothing(
    reproduced: StudyFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tables = reproduced.files("results")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert reproduced.flatmin("aggregate") == 0
    assert "cannot be written" in capsys.readouterr().err
    assert reproduced.files("results") == tables


def test_plan_counts_what_is_fresh(reproduced: StudyFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert reproduced.flatmin("plan") == 0
    assert "everything is trained" in capsys.readouterr().out
    reproduced.edit(lambda params: params["methods"]["sam"].update(rho=0.33))
    assert reproduced.flatmin("plan") == 0
    said = capsys.readouterr().out
    assert "4 trainings of mlp" in said
    assert "on 1 local worker" in said or "on 2 local workers" in said


def test_plan_before_anything_is_prepared(study: StudyFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert study.flatmin("plan") == 0
    said = capsys.readouterr().out
    assert "not prepared yet" in said
    assert "24 trainings of mlp" in said


def test_show_one_run_and_a_list(reproduced: StudyFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert reproduced.flatmin("show", "digits-noise60.mlp.sam.s0") == 0
    said = capsys.readouterr().out
    assert "test_accuracy" in said
    assert "train_loss" in said
    assert reproduced.flatmin("show", "digits-noise60.mlp.sam") == 0
    assert "digits-noise60.mlp.sam.s1" in capsys.readouterr().out
    assert reproduced.flatmin("show", "digits-noise60.mlp.sma") == 2


def test_gc_keeps_what_is_planned_and_frees_the_rest(
    reproduced: StudyFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert reproduced.flatmin("gc", "--dry-run") == 0
    assert "gc: 0 trainings" in capsys.readouterr().out
    reproduced.edit(lambda params: params["methods"]["sam"].update(rho=0.33))
    assert reproduced.flatmin("train", "quick") == 0
    reproduced.edit(lambda params: params["methods"]["sam"].update(rho="selected"))
    capsys.readouterr()
    assert reproduced.flatmin("gc") == 0
    assert "gc: 4 trainings" in capsys.readouterr().out
    before = len(reproduced.made("train"))
    assert reproduced.flatmin("train", "quick") == 0
    assert len(reproduced.made("train")) == before
