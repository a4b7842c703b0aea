"""One run that fails, and bad input: one clear message, the exit code of the contract, nothing half-written."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from pipeline_study import StudyFolder

from flatmin.planning import planned_runs
from flatmin.reading import load
from flatmin.vocabulary import vocabulary
from flatmin.workspace import Workspace


def work_folder_of(study: StudyFolder, run: str) -> tuple[str, Path]:
    workspace = Workspace(study.root)
    runs = planned_runs(load(workspace.params, vocabulary()), "quick", workspace)
    found = next(item for item in runs if item.id.startswith(run))
    return found.id, study.root / ".flatmin" / "work" / "train" / found.key


def test_one_failing_run_is_named_and_the_others_are_kept(
    reproduced: StudyFolder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("runs", "timings", ".flatmin/store/train"):
        shutil.rmtree(reproduced.root / folder)
    (reproduced.root / ".flatmin" / "journal.log").unlink()
    run, _ = work_folder_of(reproduced, "digits-noise60.mlp.sam.s1")
    # a folder where the run's weights must be written makes this one run fail, whatever the process
    original = Path.mkdir

    def mkdir(self: Path, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        if self.name.startswith("result-") and self.parent.name.startswith(run[-8:]):
            original(self / "model.safetensors")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", mkdir)
        assert reproduced.flatmin("train", "quick") == 1
    said = capsys.readouterr().err
    assert run in said
    log = reproduced.root / ".flatmin" / "logs" / "train" / f"{run}.log"
    assert str(log.relative_to(reproduced.root)) in said
    assert "Traceback" in log.read_text()
    assert "Traceback" not in said
    assert len(list((reproduced.root / "runs" / "quick").iterdir())) == 15
    assert len(reproduced.made("train")) == 15

    shutil.rmtree(reproduced.root / "evaluations")
    assert reproduced.flatmin("report", "--partial") == 0
    page = (reproduced.root / "results" / "partial" / "report.html").read_text()
    assert "15 of 16" in page

    assert reproduced.flatmin("train", "quick") == 0
    assert len(reproduced.made("train")) == 16


BAD = {
    "misspelt key": (lambda p: p["training"].update(epoch=3), ["training.epoch", "epochs"]),
    "misspelt section": (lambda p: p.update(sharpnes={}), ["sharpnes", "sharpness"]),
    "unknown model": (lambda p: p["models"]["mlp"].update(name="wrn28_11"), ["models.mlp.name", "wrn28_10"]),
    "unknown method": (lambda p: p["tables"]["quick"]["methods"].append("sma"), ["sma", "sam"]),
    "unknown ascent": (lambda p: p["methods"]["sam"].update(ascent="asma"), ["methods.sam.ascent", "asam"]),
    "unknown dataset": (lambda p: p["tables"]["quick"]["datasets"].append("digits-noise6"), ["digits-noise60"]),
    "unknown source": (lambda p: p["datasets"]["digits-noise0"].update(source="digit"), ["digits"]),
    "negative rho": (lambda p: p["methods"]["sam"].update(rho=-0.1), ["methods.sam.rho", "-0.1"]),
    "rate above 1": (
        lambda p: p["datasets"]["digits-noise60"]["noise"].update(rate=60),
        ["datasets.digits-noise60.noise.rate", "60"],
    ),
    "no seeds": (lambda p: p["tables"]["quick"].update(seeds=[]), ["tables.quick.seeds"]),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_study_is_refused_before_anything_runs(
    study: StudyFolder, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    change, words = BAD[case]
    study.edit(change)
    assert study.flatmin("prepare") == 2
    said = capsys.readouterr()
    assert all(word in said.err for word in words), said.err
    assert "Traceback" not in said.err + said.out
    assert not (study.root / "data" / "prepared").exists()


def test_stages_in_the_wrong_order_say_what_comes_first(study: StudyFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert study.flatmin("train", "quick") == 2
    assert "flatmin select quick" in capsys.readouterr().err
    assert study.flatmin("select", "quick") == 2
    assert "dvc repro prepare" in capsys.readouterr().err


def test_an_unknown_table_and_an_unknown_command(study: StudyFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert study.flatmin("train", "quik") == 2
    assert "did you mean 'quick'?" in capsys.readouterr().err
    assert study.flatmin("agregate") == 2
    assert "did you mean 'aggregate'?" in capsys.readouterr().err


def test_a_missing_mirror_without_network(
    study: StudyFolder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import urllib.error

    def no_network(*_: Any, **__: Any) -> None:
        raise urllib.error.URLError("Network is unreachable")

    monkeypatch.setattr(
        "flatmin.data.work.obtain.__kwdefaults__", {"mirrors": (), "opener": no_network, "progress": None}
    )
    monkeypatch.setenv("FLATMIN_MIRROR", "/nowhere")
    study.edit(lambda p: p["datasets"]["digits-noise0"].update(source="cifar10"))
    assert study.flatmin("download") == 1
    said = capsys.readouterr()
    assert "FLATMIN_MIRROR" in said.err
    assert "Traceback" not in said.err
    assert not (study.root / "data" / "raw" / "cifar10").exists()


def test_edits_of_params_are_not_overwritten(study: StudyFolder, capsys: pytest.CaptureFixture[str]) -> None:
    study.edit(lambda p: p["training"].update(epochs=5))
    edited = (study.root / "params.yaml").read_bytes()
    assert study.flatmin("use", "noise") == 2
    assert "--force" in capsys.readouterr().err
    assert (study.root / "params.yaml").read_bytes() == edited
    assert study.flatmin("use", "noise", "--force") == 0
    assert study.flatmin("use", "quikc") == 2
    assert "'quick'" in capsys.readouterr().err


def test_a_full_disk_while_a_record_is_written(
    reproduced: StudyFolder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno
    import os

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    reproduced.edit(lambda params: params["methods"]["sam"].update(rho=0.33))
    with monkeypatch.context() as patch:
        patch.setattr("flatmin.records.os.fsync", lambda fd: full(fd) if _is_record(fd) else os.fdatasync(fd))
        assert reproduced.flatmin("train", "quick") == 1
    said = capsys.readouterr().err
    assert "the disk is full" in said
    assert not list((reproduced.root / "runs").rglob("*.part"))
    assert len(list((reproduced.root / "runs" / "quick").iterdir())) == 16 - 4
    assert reproduced.flatmin("train", "quick") == 0


def _is_record(descriptor: int) -> bool:
    return "record.json" in str(Path(f"/proc/self/fd/{descriptor}").readlink())
