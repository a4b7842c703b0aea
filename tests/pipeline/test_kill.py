"""Kill it anywhere: dvc, the stage's process, or a worker, at a moment of the training, and repeat at once."""

from __future__ import annotations

import random
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from pipeline_study import ENVIRONMENT, StudyFolder, new_study, without_timings

LOCAL = {"FLATMIN_SCHEDULER": "local", "FLATMIN_WORKERS": "2", "FLATMIN_CHECKPOINT_SECONDS": "0.05"}
OUTPUTS = ("runs", "evaluations", "sharpness", "results", "selections")
PATIENCE_SECONDS = 120.0


def longer(params: dict[str, Any]) -> None:
    params["training"]["epochs"] = 20
    params["methods"]["sgd-2x"]["training"]["epochs"] = 40
    params["methods"]["sam"]["rho"] = 0.1
    params["methods"]["asam"]["rho"] = 1.0
    params["training"]["lr"] = 0.05
    params["tables"]["quick"]["select"] = {}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    folder = new_study(tmp_path_factory.mktemp("kill") / "undisturbed")
    folder.edit(longer, "experiments/quick.yaml")
    folder.edit(longer)
    folder.git("commit", "-qam", "longer")
    folder.run("dvc", "repro", env=LOCAL)
    return folder


def start(study: StudyFolder) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        ["dvc", "repro"],
        cwd=study.root,
        env={**ENVIRONMENT, **LOCAL},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def driver_of(dvc: psutil.Process) -> psutil.Process | None:
    for child in dvc.children(recursive=True):
        words = child.cmdline()
        if "train" in words and any(Path(word).name == "flatmin" for word in words):
            return child
    return None


def victim(dvc: psutil.Process, who: str) -> psutil.Process | None:
    """The process to kill, once it trains."""
    driver = driver_of(dvc)
    if who == "dvc" or driver is None:
        return dvc if driver is not None else None
    if who == "driver":
        return driver
    workers = [child for child in driver.children() if "spawn_main" in " ".join(child.cmdline())]
    return workers[0] if workers else None


def wait_for_victim(study: StudyFolder, process: subprocess.Popen[bytes], who: str) -> psutil.Process:
    dvc = psutil.Process(process.pid)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        try:
            found = victim(dvc, who)
        except psutil.NoSuchProcess:
            found = None
        if found is not None and list((study.root / ".flatmin" / "work" / "train").glob("*/progress-*.csv")):
            return found
        assert process.poll() is None, "dvc repro ended before it trained"
        time.sleep(0.05)
    raise AssertionError("nothing was trained in time")


def deterministic_outputs(study: StudyFolder) -> dict[str, bytes]:
    return {name: content for name, content in study.files(*OUTPUTS).items() if not name.startswith("results/cost.")}


@pytest.mark.slow
@pytest.mark.parametrize("moment", [0, 1, 2])
@pytest.mark.parametrize("who", ["dvc", "driver", "worker"])
def test_a_killed_pipeline_ends_in_the_undisturbed_bytes(
    undisturbed: StudyFolder, tmp_path: Path, who: str, moment: int
) -> None:
    root = tmp_path / "study"
    shutil.copytree(undisturbed.root, root, symlinks=True)
    study = StudyFolder(root)
    for folder in ("runs", "timings", ".flatmin"):
        shutil.rmtree(root / folder)
    process = start(study)
    doomed = wait_for_victim(study, process, who)
    time.sleep(random.Random(f"{who} {moment}").uniform(0, 3))
    if doomed.is_running():
        doomed.kill()
    # dvc: reaped, as a shell would do; driver: dvc ends with it; worker: dvc goes on, and finishes. What else survived
    # (the driver of a killed dvc, the workers of a killed driver) may still run while dvc is started again
    code = process.wait(PATIENCE_SECONDS)
    assert (code == 0) == (who == "worker")
    study.run("dvc", "repro", env=LOCAL)
    assert without_timings(study) == without_timings(undisturbed)
    assert deterministic_outputs(study) == deterministic_outputs(undisturbed)
    made = study.made("train")
    assert len(made) == len(set(made)) == 16
