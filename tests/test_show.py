"""``flatmin show`` on a study trained for the purpose: curves, numbers, and what the rules find."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from flatmin.cli import load_study
from flatmin.errors import FlatminError
from flatmin.show import show_run
from flatmin.stages import Stages
from flatmin.workspace import Workspace

QUIET = {
    "FLATMIN_SCHEDULER": "inline",
    "FLATMIN_DEVICE": "cpu",
    "MLFLOW_TRACKING_URI": "",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
TEXT = """\
study: [main]
tables:
  main: {datasets: [digits], models: [mlp], methods: [sgd, sam, wild], seeds: [0, 1, 2]}
datasets:
  digits: {source: digits, train_size: 200, validation: {fraction: 0.2}}
models:
  mlp: {name: mlp, args: {hidden: [8]}}
methods:
  sgd: {base: sgd}
  sam: {base: sgd, ascent: sam, rho: 1.0e-9}
  wild: {base: sgd, training: {lr: 1.0e+30, patience: 2}}
  late: {base: sgd, ascent: asam}
training: {epochs: 6, batch_size: 64, lr: 0.1, nesterov: true}
selection: {seeds: [1000]}
evaluation: {}
sharpness: {}
"""


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """Nine trainings of a fraction of a second; one more method is planned and not trained."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in QUIET.items():
            patch.setenv(name, value)
        patch.delenv("FLATMIN_MIRROR", raising=False)
        patch.chdir(tmp_path_factory.mktemp("show"))
        Path("params.yaml").write_text(TEXT)
        workspace = Workspace()
        stages = Stages(load_study(workspace), workspace)
        stages.download()
        stages.prepare()
        stages.train("main")
        Path("params.yaml").write_text(TEXT.replace("wild]", "wild, late]"))
        yield workspace


def test_a_radius_of_nothing_makes_no_difference_from_sgd(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    show_run(load_study(workspace), workspace, "digits.mlp.sam.s0")
    said = " ".join(capsys.readouterr().out.split())
    assert "train_accuracy" in said
    assert "hint, all runs of sam: No difference from the method without ascent" in said
    assert "Validation accuracy +0.00 points against SGD (95% interval" in said
    assert "rho 1e-09 may be too small to matter: the training loss is 1.00 times that of SGD" in said


def test_a_run_that_diverged_is_shown_with_cause_and_advice(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    show_run(load_study(workspace), workspace, "digits.mlp.wild.s1")
    said = " ".join(capsys.readouterr().out.split())
    assert "trouble, this run: Training diverged" in said
    assert "1 of 1 run: ended after 0 whole epochs, 2 steps skipped" in said
    assert "is too large for this network and these data" in said


def test_a_run_without_trouble_says_so(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    show_run(load_study(workspace), workspace, "digits.mlp.sgd.s2")
    assert "diagnosis: no rule finds anything wrong" in capsys.readouterr().out


def test_a_run_that_is_not_trained_has_no_diagnosis(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    show_run(load_study(workspace), workspace, "digits.mlp.late.s0")
    said = capsys.readouterr().out
    assert "not trained yet" in said
    assert "diagnosis" not in said


def test_several_matches_are_listed_and_none_is_an_error(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    study = load_study(workspace)
    show_run(study, workspace, "digits.mlp.s")
    said = capsys.readouterr().out
    assert said.count(" trained") == 6
    with pytest.raises(FlatminError, match="no planned run begins with"):
        show_run(study, workspace, "digits.mlp.sma")
