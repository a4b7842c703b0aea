from __future__ import annotations

from pathlib import Path

import pytest
from tiny_runs import prepare


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real digits and two seeds' draws of 200 of them, prepared once."""
    return prepare(tmp_path_factory.mktemp("prepared"))
