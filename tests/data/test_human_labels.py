from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from real_files import SHARED

from flatmin.data.errors import DataError
from flatmin.data.human_labels import PUBLISHED, check_clean_labels, kinds, read_human_labels
from flatmin.data.human_labels import RATES as STATED_RATES
from flatmin.data.human_probabilities import read_human_probabilities
from flatmin.data.published import file_checksum
from flatmin.data.sources import cifar10
from flatmin.settings import HUMAN_LABELS


def published_file(source: str) -> Path:
    path = SHARED / "mirror" / PUBLISHED[source].archives[0].name
    if not path.is_file():
        pytest.skip(f"no {path} (set FLATMIN_TEST_SHARED)")
    return path


def written(path: Path, labels: dict[str, object]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(labels, 4))
    return path


def small(**changes: object) -> dict[str, object]:
    """Return the content of a small CIFAR-100N file, with changes; None leaves a key out."""
    labels = {"clean_label": np.array([0, 99, 7]), "noisy_label": np.array([0, 98, 7]), "clean_coarse_label": [1, 2, 3]}
    return {key: value for key, value in (labels | changes).items() if value is not None}


# --- the published files ----------------------------------------------------------------------------------------------

# The README of the repository and table 1 of Wei et al., ICLR 2022, in per cent
RATES = {
    "cifar10": {"aggregate": 9.01, "random1": 17.23, "random2": 18.12, "random3": 17.64, "worst": 40.21},
    "cifar100": {"noisy": 40.20},
}


def test_settings_and_reader_name_the_same_labels_and_rates() -> None:
    """The settings are read without the reader; rows of tables state the rates without the files."""
    assert {source: kinds(source) for source in PUBLISHED} == HUMAN_LABELS
    assert {name: rate / 100 for rates in RATES.values() for name, rate in rates.items()} == pytest.approx(STATED_RATES)


@pytest.mark.mirror
@pytest.mark.parametrize("source", RATES)
def test_the_rates_are_those_of_the_paper(source: str) -> None:
    labels = read_human_labels(published_file(source), source)
    rates = {name: 100 * np.mean(labels[name] != labels["clean"]) for name in kinds(source)}
    assert rates == pytest.approx(RATES[source], abs=0.01)
    assert all(values.shape == (50_000,) and values.dtype == np.int64 for values in labels.values())


@pytest.mark.mirror
def test_aggregate_and_worst_come_of_the_three_people() -> None:
    labels = read_human_labels(published_file("cifar10"), "cifar10")
    three = np.stack([labels["random1"], labels["random2"], labels["random3"]])
    votes = (three[:, None] == np.arange(10)[None, :, None]).sum(axis=0)  # [class, image]
    majority = votes.max(axis=0) >= 2
    assert np.array_equal(labels["aggregate"][majority], votes.argmax(axis=0)[majority])
    # The worst label is wrong exactly where one of the three is, and always one that somebody gave
    assert np.array_equal(labels["worst"] != labels["clean"], np.any(three != labels["clean"], axis=0))
    assert np.all(np.any(three == labels["worst"], axis=0))


@pytest.mark.mirror
@pytest.mark.parametrize("source", RATES)
def test_the_file_is_the_published_one(source: str) -> None:
    path, (archive,) = published_file(source), PUBLISHED[source].archives
    assert path.stat().st_size == archive.size
    assert file_checksum(path, archive.checksum) == archive.checksum
    assert PUBLISHED[source].licence == "CC BY-NC 4.0"


@pytest.mark.mirror
def test_the_clean_labels_are_those_of_cifar10(cifar10_folder: Path) -> None:
    labels = read_human_labels(published_file("cifar10"), "cifar10")
    own = cifar10.read(cifar10_folder / "cifar-10-batches-py").train_labels
    check_clean_labels(labels, own, "cifar10")
    exchanged = own.copy()
    exchanged[[4, 9]] = own[[9, 4]]
    assert own[4] != own[9]
    with pytest.raises(
        DataError, match=f"2 clean labels differ, the first that of image 4 \\({own[4]}, not {own[9]}\\)"
    ):
        check_clean_labels(labels, exchanged, "cifar10")
    with pytest.raises(DataError, match="50000 human labels for 49999 training images"):
        check_clean_labels(labels, own[:-1], "cifar10")


@pytest.mark.mirror
def test_the_file_of_another_source_is_refused() -> None:
    with pytest.raises(DataError, match="no labels aggre_label, random_label1"):
        read_human_labels(published_file("cifar100"), "cifar10")
    with pytest.raises(DataError, match="no labels noisy_label"):
        read_human_labels(published_file("cifar10"), "cifar100")


# --- other files ------------------------------------------------------------------------------------------------------


def test_labels_go_by_their_published_names(tmp_path: Path) -> None:
    found = read_human_labels(written(tmp_path / "a.pt", small()), "cifar100")
    assert {name: values.tolist() for name, values in found.items()} == {"clean": [0, 99, 7], "noisy": [0, 98, 7]}
    assert kinds("cifar10") == ("aggregate", "random1", "random2", "random3", "worst")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"noisy_label": None}, "no labels noisy_label: it is not the file of cifar100"),
        ({"noisy_label": np.array([0, 100, 7])}, r"noisy are not all in 0\.\.99"),
        ({"clean_label": np.array([0, -1, 7])}, r"clean are not all in 0\.\.99"),
        ({"noisy_label": np.array([0, 98])}, r"int64 \(2,\), not int64 \(3,\)"),
        ({"noisy_label": np.array([0.0, 98.0, 7.0])}, "are float64"),
        ({"noisy_label": np.zeros((3, 1), np.int64)}, r"int64 \(3, 1\)"),
        ({"noisy_label": np.zeros(0, np.int64), "clean_label": np.zeros(0, np.int64)}, r"int64 \(0,\)"),
        ({"noisy_label": "cat"}, "neither an array nor a list"),
    ],
)
def test_labels_that_fit_no_image_are_refused(changes: dict[str, object], reason: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=reason):
        read_human_labels(written(tmp_path / "a.pt", small(**changes)), "cifar100")


def test_a_source_without_human_labels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="human labels for the source svhn"):
        read_human_labels(tmp_path / "absent", "svhn")


# --- CIFAR-10H --------------------------------------------------------------------------------------------------------


def probabilities() -> np.ndarray:
    counts = np.random.default_rng(0).multinomial(51, np.full(10, 0.1), size=10_000)
    return counts / counts.sum(axis=1, keepdims=True)


def test_probabilities_are_read_in_their_order(tmp_path: Path) -> None:
    expected = probabilities()
    np.save(tmp_path / "cifar10h-probs.npy", expected)
    found = read_human_probabilities(tmp_path / "cifar10h-probs.npy")
    assert np.array_equal(found, expected)
    assert np.abs(found.sum(axis=1) - 1).max() < 1e-12


@pytest.mark.parametrize(
    "problem", ["counts", "negative", "not a number", "one image less", "single precision", "turned"]
)
def test_another_table_is_refused(problem: str, tmp_path: Path) -> None:
    table = probabilities()
    if problem == "counts":
        table *= 51
    elif problem == "negative":
        table[5, :2] += (1.5, -1.5)
    elif problem == "not a number":
        table[5, 1] = np.nan
    table = {"one image less": table[1:], "single precision": table.astype("f4"), "turned": table.T}.get(problem, table)
    np.save(tmp_path / "a.npy", table)
    with pytest.raises(DataError, match=r"sum to 1|not float64 \[10000, 10\]"):
        read_human_probabilities(tmp_path / "a.npy")
