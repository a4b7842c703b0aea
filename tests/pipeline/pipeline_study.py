"""A study in a folder of its own: the shipped quick study, shrunk until a whole `dvc repro` takes half a minute."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from flatmin.cli import main

REPOSITORY = Path(__file__).parents[2]
TRACKED = (
    "dvc.yaml",
    "experiments",
    "src",
    ".dvc/config",
    ".dvc/.gitignore",
    ".dvcignore",
    ".gitignore",
    "data/README.md",
    "data/own/README.md",
)
BIN = Path(sys.executable).parent
QUIET = {
    "FLATMIN_SCHEDULER": "inline",
    "FLATMIN_DEVICE": "cpu",
    "OMP_NUM_THREADS": "1",
    "DVC_NO_ANALYTICS": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_TRACKING_URI": "",
    "GIT_AUTHOR_NAME": "test",
    "GIT_AUTHOR_EMAIL": "test@example.org",
    "GIT_COMMITTER_NAME": "test",
    "GIT_COMMITTER_EMAIL": "test@example.org",
}
ENVIRONMENT = {**os.environ, **QUIET, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}


@dataclass
class StudyFolder:
    """A project folder with a study in it."""

    root: Path

    def params(self) -> dict[str, Any]:
        content: dict[str, Any] = YAML(typ="safe").load((self.root / "params.yaml").read_text())
        return content

    def edit(self, change: Callable[[dict[str, Any]], None], file: str = "params.yaml") -> None:
        content = YAML(typ="safe").load((self.root / file).read_text())
        change(content)
        write_yaml(self.root / file, content)

    def flatmin(self, *args: str) -> int:
        """Run a command in this process; return its exit code."""
        with chdir(self.root):
            try:
                main(list(args))
            except SystemExit as stop:
                return int(stop.code or 0)
        return 0

    def run(
        self, *args: str, env: Mapping[str, str] | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a program in a process of its own."""
        done = subprocess.run(
            args, cwd=self.root, env={**ENVIRONMENT, **(env or {})}, capture_output=True, text=True, check=False
        )
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(args)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        return done

    def git(self, *args: str) -> str:
        return self.run("git", *args).stdout

    def made(self, kind: str) -> list[str]:
        """The keys of all store entries ever made, in order, repetitions included."""
        journal = self.root / ".flatmin" / "journal.log"
        lines = journal.read_text().splitlines() if journal.exists() else []
        return [line.split()[1] for line in lines if line.startswith(f"{kind} ")]

    def files(self, *folders: str) -> dict[str, bytes]:
        """All files below some folders, by relative path."""
        return {
            str(path.relative_to(self.root)): path.read_bytes()
            for folder in folders
            for path in sorted((self.root / folder).rglob("*"))
            if path.is_file()
        }


def write_yaml(path: Path, content: Mapping[str, Any]) -> None:
    yaml = YAML()
    yaml.default_flow_style = False
    with path.open("w") as file:
        yaml.dump(content, file)


def shrink(params: dict[str, Any]) -> None:
    """Two seeds, two epochs, two trials."""
    table = params["tables"]["quick"]
    table["seeds"] = [0, 1]
    table["select"] = {
        method: {name: values[:2] for name, values in grid.items()} for method, grid in table["select"].items()
    }
    params["training"] |= {"epochs": 2, "warmup_epochs": 0}
    params["methods"]["sgd-2x"]["training"]["epochs"] = 4
    params["selection"]["seeds"] = [1000]
    params["sharpness"] |= {"steps": 2, "samples": 100}


def new_study(root: Path) -> StudyFolder:
    """Copy the project's tracked files, shrink its quick study, and commit."""
    root.mkdir(parents=True)
    for name in TRACKED:
        source, target = REPOSITORY / name, root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copyfile(source, target)
    folder = StudyFolder(root)
    folder.edit(shrink, "experiments/quick.yaml")
    shutil.copyfile(root / "experiments" / "quick.yaml", root / "params.yaml")
    folder.git("init", "-q")
    folder.git("add", "-A")
    folder.git("commit", "-qm", "study")
    return folder


def without_timings(study: StudyFolder) -> str:
    """``dvc.lock`` without the hashes of measured seconds, the only outputs that two executions may differ in."""
    lock = YAML(typ="safe").load((study.root / "dvc.lock").read_text())
    for stage in lock["stages"].values():
        for part in ("deps", "outs"):
            stage[part] = [entry for entry in stage.get(part, []) if not _is_measured_time(entry["path"])]
    return json.dumps(lock, indent=1)


def _is_measured_time(path: str) -> bool:
    return path.split("/")[0] == "timings" or path.startswith("results/cost.")
