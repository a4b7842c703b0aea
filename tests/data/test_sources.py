from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from small_sources import idx

from flatmin.data.errors import DataError
from flatmin.data.idx import read_idx
from flatmin.data.sources import fashion_mnist, registry
from flatmin.data.sources.cifar100 import SUPERCLASSES


def test_the_registry_lists_the_folder_and_loads_each() -> None:
    assert registry.names() == ("cifar10", "cifar100", "digits", "fashion_mnist", "svhn", "tiny_imagenet")
    for name in registry.names():
        assert registry.load(name).name == name


def test_an_unknown_source_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(DataError, match="did you mean 'cifar10'") as caught:
        registry.load("cifar_10")
    assert "fashion_mnist" in caught.value.fix


def test_a_new_file_in_the_folder_is_a_new_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import flatmin.data.sources as package

    (tmp_path / "stripes.py").write_text(
        "from flatmin.data.source import Source\n"
        "SOURCE = Source(name='stripes', read=lambda folder: None, classes=('a', 'b'), image_shape=(1, 2, 2), "
        "split='s', licence='l', citation='c')\n"
    )
    (tmp_path / "wrong.py").write_text("SOURCE = None\n")
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    assert {"stripes", "wrong", "digits"} <= {*registry.names()}
    assert registry.load("stripes").classes == ("a", "b")
    with pytest.raises(DataError, match="defines no SOURCE"):
        registry.load("wrong")


@pytest.mark.parametrize("name", registry.names())
def test_a_source_is_well_described(name: str) -> None:
    source = registry.load(name)
    assert len(set(source.classes)) == len(source.classes)
    for archive in source.archives:
        hosts = {urlsplit(url).hostname for url in archive.urls}
        # of SVHN's files, no second host is known
        assert len(hosts) == len(archive.urls) >= (1 if name == "svhn" else 2)
        assert all(len(checksum) == 32 for checksum in (archive.checksum, *archive.repackaged))
    names = [member.name for member in source.members]
    assert len(set(names)) == len(names)
    for original, look_alike in (source.usual_pairs or {}).items():
        assert original != look_alike
        assert {original, look_alike} <= set(range(len(source.classes)))


def named_pairs(name: str) -> Iterator[tuple[str, str]]:
    source = registry.load(name)
    assert source.usual_pairs is not None
    return ((source.classes[original], source.classes[to]) for original, to in source.usual_pairs.items())


def test_the_usual_pairs_are_those_of_the_literature() -> None:
    assert set(named_pairs("cifar10")) == {
        ("truck", "automobile"),
        ("bird", "airplane"),
        ("deer", "horse"),
        ("cat", "dog"),
        ("dog", "cat"),
    }
    assert set(named_pairs("fashion_mnist")) == {
        ("Ankle boot", "Sneaker"),
        ("Sneaker", "Sandal"),
        ("Pullover", "Shirt"),
        ("Coat", "Dress"),
        ("Dress", "Coat"),
    }


def test_cifar100_pairs_go_round_each_superclass() -> None:
    pairs = dict(named_pairs("cifar100"))
    assert len(pairs) == 100
    for members in SUPERCLASSES.values():
        name, circle = members[0], []
        for _ in range(5):
            circle.append(name)
            name = pairs[name]
        assert name == members[0]
        assert sorted(circle) == sorted(members)


def test_the_official_files_agree_with_torchvision_on_every_checksum() -> None:
    datasets = pytest.importorskip("torchvision.datasets")
    for name, official in {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}.items():
        (archive,) = registry.load(name).archives
        assert (archive.name, archive.checksum, archive.urls[0]) == (official.filename, official.tgz_md5, official.url)
        listed = [*official.train_list, *official.test_list, (official.meta["filename"], official.meta["md5"])]
        assert {member.name: member.checksum for member in archive.members} == dict(listed)
    fashion = {archive.name: archive.checksum for archive in registry.load("fashion_mnist").archives}
    assert fashion == dict(datasets.FashionMNIST.resources)
    assert registry.load("fashion_mnist").classes == tuple(datasets.FashionMNIST.classes)


def test_digits_are_all_images_of_scikit_learn_in_two_stratified_parts(tmp_path: Path) -> None:
    from sklearn.datasets import load_digits

    arrays = registry.load("digits").read(tmp_path)
    assert arrays.train_images.shape == (1197, 1, 8, 8)
    assert arrays.test_images.shape == (600, 1, 8, 8)
    values = np.concatenate([arrays.train_images, arrays.test_images])[:, 0]
    # 255 / 16 is 15.94: dividing by it and rounding undoes the scaling
    restored = np.rint(values / (255 / 16)).astype(int)
    rows = sorted(map(bytes, restored.astype(np.uint8)))
    assert rows == sorted(map(bytes, load_digits().images.astype(np.uint8)))
    assert (values.min(), values.max()) == (0, 255)
    everything = np.bincount(load_digits().target)
    share = np.bincount(arrays.test_labels) / everything
    assert np.all(np.abs(share - 600 / 1797) < 1 / everything)


def test_other_digits_than_ours_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sklearn.datasets

    changed = sklearn.datasets.load_digits()
    changed.images[0, 0, 0] += 1
    monkeypatch.setattr(sklearn.datasets, "load_digits", lambda: changed)
    with pytest.raises(DataError, match="other digits"):
        registry.load("digits").read(tmp_path)


def test_fashion_mnist_is_read_from_idx_files(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    images = {prefix: generator.integers(0, 256, (count, 28, 28)) for prefix, count in {"train": 5, "t10k": 2}.items()}
    for prefix, array in images.items():
        (tmp_path / f"{prefix}-images-idx3-ubyte").write_bytes(idx(array))
        (tmp_path / f"{prefix}-labels-idx1-ubyte").write_bytes(idx(np.arange(len(array))))
    arrays = fashion_mnist.read(tmp_path)
    assert np.array_equal(arrays.train_images[:, 0], images["train"])
    assert np.array_equal(arrays.test_images[:, 0], images["t10k"])
    assert arrays.train_labels.tolist() == [0, 1, 2, 3, 4]
    assert arrays.train_labels.dtype == np.int64


@pytest.mark.parametrize(
    "content", [b"", idx(np.zeros(4)), idx(np.zeros((2, 2)))[:-1], idx(np.zeros((2, 2))) + b"x"], ids=len
)
def test_a_wrong_idx_file_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(DataError):
        read_idx(tmp_path / "file", ndim=2)


def modules_after(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split())


def test_describing_sources_and_hashes_imports_nothing_heavy() -> None:
    loaded = modules_after(
        "from flatmin.data.sources import registry\nfor name in registry.names(): registry.load(name)"
    )
    assert not {"torch", "sklearn", "urllib.request"} & loaded
    assert not {"torch", "numpy"} & modules_after("import flatmin.data.manifest")


def test_what_a_worker_imports_reads_no_archives() -> None:
    loaded = modules_after("import flatmin.data.loading, flatmin.data.batches")
    assert "torch" in loaded
    assert not {"sklearn", "flatmin.data.archives", "flatmin.data.pickles", "flatmin.data.sources"} & loaded
