"""Fixtures: a study in which nothing has been run, and one after ``dvc repro``."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from pipeline_study import QUIET, StudyFolder, new_study


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set for commands that run in the test's own process."""
    for name, value in QUIET.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("FLATMIN_MIRROR", raising=False)


@pytest.fixture
def study(tmp_path: Path) -> StudyFolder:
    """A study in which nothing has been run."""
    return new_study(tmp_path / "study")


@pytest.fixture(scope="session")
def reproduced_once(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    """A study after one ``dvc repro``, committed. Not to be changed: `reproduced` is a copy of it."""
    folder = new_study(tmp_path_factory.mktemp("pipeline") / "reproduced")
    folder.run("dvc", "repro")
    folder.git("add", "-A")
    folder.git("commit", "-qm", "results")
    return folder


@pytest.fixture
def reproduced(reproduced_once: StudyFolder, tmp_path: Path) -> Iterator[StudyFolder]:
    """A copy of a reproduced study, in another folder."""
    root = tmp_path / "study"
    shutil.copytree(reproduced_once.root, root, symlinks=True)
    yield StudyFolder(root)
    shutil.rmtree(root, ignore_errors=True)
