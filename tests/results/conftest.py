from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def claims_path() -> Path:
    return Path(__file__).parents[2] / "experiments" / "claims.yaml"


@pytest.fixture(scope="session")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All results of the golden study, to be read only."""
    from golden import write_golden

    folder = tmp_path_factory.mktemp("golden")
    write_golden(folder)
    return folder
