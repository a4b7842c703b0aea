"""What a run executes loads none of the driver's libraries: a worker starts fast and can hold no lock of theirs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FORBIDDEN = ("dvc", "mlflow", "dask", "distributed", "pandas", "matplotlib")

WORK = """
import json, sys
from pathlib import Path
from flatmin.work import perform
from flatmin.workplace import Workplace

root = Path(sys.argv[1])

def do(kind, task, target):
    workplace = Workplace(root / "work" / kind, "t")
    workplace.take()
    reason = perform(kind, "key", task, workplace, root / "log")
    if reason:
        sys.exit(reason)
    target.parent.mkdir(parents=True, exist_ok=True)
    workplace.result.rename(target)

data = root / "data"
dataset = {"source": "digits", "train_size": 100}
settings = {
    "dataset": dataset, "model": {"name": "cifar_cnn", "args": {"widths": [4]}}, "seed": 0,
    "method": {"base": "sgd", "ascent": "asam", "rho": 0.5}, "training": {"epochs": 1, "batch_size": 50},
}
task = {"settings": settings, "dataset": "d", "prepared": str(data), "identity": {}, "run": str(root / "run")}
"""

PREPARE = (
    WORK
    + """
do("images", {"source": "digits", "raw": str(root)}, data / "_images" / "digits")
do("draw", {"spec": dataset, "images": str(data / "_images" / "digits"), "seed": 0}, data / "d" / "s0")
"""
)

RUN = (
    WORK
    + """
do("train", task, root / "run")
do("evaluate", {**task, "spec": {}}, root / "evaluation")
do("sharpness", {**task, "spec": {"steps": 2, "samples": 50}}, root / "sharpness")
print(json.dumps(sorted({name.split(".")[0] for name in sys.modules})))
"""
)


def execute(script: str, folder: Path) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The packages that a fresh process has loaded after it has trained, evaluated and measured a run."""
    folder = tmp_path_factory.mktemp("worker")
    execute(PREPARE, folder)
    return set(json.loads(execute(RUN, folder).splitlines()[-1]))


def test_the_work_was_done_with_torch(loaded: set[str]) -> None:
    assert {"flatmin", "torch", "timm", "safetensors"} <= loaded


@pytest.mark.parametrize("package", FORBIDDEN)
def test_a_run_does_not_load(loaded: set[str], package: str) -> None:
    assert package not in loaded
