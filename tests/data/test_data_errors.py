from __future__ import annotations

import errno
import pickle
from pathlib import Path

import pytest

from flatmin.data.errors import DataError, writing


def test_the_error_survives_the_way_between_processes() -> None:
    error = pickle.loads(pickle.dumps(DataError("what was wrong", "what to do")))
    assert (error.problem, error.fix) == ("what was wrong", "what to do")
    assert str(error) == "what was wrong\nwhat to do"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_or_quota_names_the_path(number: int) -> None:
    with pytest.raises(DataError, match="disk full while writing /some/file"), writing(Path("/some/file")):
        raise OSError(number, "full")


def test_other_errors_pass_unchanged() -> None:
    with pytest.raises(PermissionError), writing(Path("/some/file")):
        raise PermissionError(errno.EACCES, "denied")
