from __future__ import annotations

import os
import pickle
import warnings
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from flatmin.data.errors import DataError
from flatmin.data.pickles import check_class_names, load_pickle, read_batch


def written(path: Path, value: object, protocol: int = 2) -> Path:
    path.write_bytes(pickle.dumps(value, protocol=protocol))
    return path


class Attack:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (self.command,)


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_a_pickle_that_runs_a_command_is_refused_before_it_runs(protocol: int, tmp_path: Path) -> None:
    file = written(tmp_path / "bad", Attack(f"touch {tmp_path}/ran"), protocol)
    with pytest.raises(DataError, match=r"(posix|nt)\.system"):
        load_pickle(file)
    assert not (tmp_path / "ran").exists()


def test_a_harmless_class_outside_the_list_is_refused_too(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"collections\.OrderedDict"):
        load_pickle(written(tmp_path / "bad", {"data": OrderedDict(a=1)}))


@pytest.mark.parametrize("core", [b"numpy.core.multiarray", b"numpy._core.multiarray"])
def test_arrays_are_read_under_numpy_s_old_and_new_name(core: bytes, tmp_path: Path) -> None:
    array = np.arange(6, dtype=np.uint8).reshape(2, 3)
    content = pickle.dumps({"data": array}, protocol=2).replace(b"numpy._core.multiarray", core)
    assert core in content
    (tmp_path / "batch").write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(load_pickle(tmp_path / "batch")["data"], array)


@pytest.mark.parametrize("content", [b"", b"not a pickle", pickle.dumps([1, 2, 3])[:-4]])
def test_a_damaged_pickle_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "damaged").write_bytes(content)
    with pytest.raises(DataError, match="not a readable pickle"):
        load_pickle(tmp_path / "damaged")


def test_a_batch_becomes_images_and_labels(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).integers(0, 256, (2, 3072), dtype=np.uint8)
    images, labels = read_batch(written(tmp_path / "batch", {"data": rows, "fine_labels": [7, 99]}), "fine_labels")
    assert images.shape == (2, 3, 32, 32)
    # The first 1024 bytes of a row are the red plane, row by row
    assert images[1, 0, 3, 5] == rows[1, 3 * 32 + 5]
    assert images[1, 2, 0, 1] == rows[1, 2048 + 1]
    assert labels.dtype == np.int64
    assert labels.tolist() == [7, 99]


@pytest.mark.parametrize(
    "batch",
    [[1], {"labels": [1]}, {"data": np.zeros((2, 3072)), "labels": [1, 2]}, {"data": np.zeros((2, 3072), np.uint8)}],
)
def test_another_content_is_no_batch(batch: object, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no"):
        read_batch(written(tmp_path / "batch", batch), "labels")


def test_class_names_in_another_order_are_refused(tmp_path: Path) -> None:
    meta = written(tmp_path / "meta", {"label_names": ["a", "b"]})
    check_class_names(meta, "label_names", ("a", "b"))
    with pytest.raises(DataError, match="names the classes"):
        check_class_names(meta, "label_names", ("b", "a"))
