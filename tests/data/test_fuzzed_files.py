"""Whatever happens to a file, its loader says so: it never returns other data, and never raises anything else.

Where a format has checksums of its own, its reader is tested by itself. The others are only ever read after
`flatmin.data.archives.verify`, so that is part of the loader here.
"""

from __future__ import annotations

import gc
import io
import pickle
import resource
import shutil
import struct
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.io import savemat
from small_sources import MEMBERS, idx, md5, tar_gz, tar_source, toy_arrays

from flatmin.data import loading
from flatmin.data.archives import obtain, verify
from flatmin.data.errors import DataError
from flatmin.data.human_labels import read_human_labels
from flatmin.data.idx import read_idx
from flatmin.data.manifest import draw_folder, images_folder
from flatmin.data.npy import read_npy, read_npz
from flatmin.data.prepared import write_draw, write_images
from flatmin.data.published import Archive, Member, file_checksum, plain_file
from flatmin.data.source import Source
from flatmin.data.sources import cifar10, fashion_mnist, svhn, tiny_imagenet
from flatmin.data.torch_files import read_torch_arrays
from flatmin.data.untrusted import open_zip, read_entry
from flatmin.settings import DatasetSpec

Arrays = Mapping[str, np.ndarray]

ROOM = 2**29
"""How much memory a loader may take of a file of some kilobytes, beyond what the process has; no more is given."""


@contextmanager
def little_memory() -> Iterator[None]:
    if sys.platform != "linux":
        yield
        return
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + ROOM, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def mutations(content: bytes) -> st.SearchStrategy[bytes]:
    """Generate contents with up to three bytes changed, or cut short, or longer."""

    def changed(flips: list[tuple[int, int]]) -> bytes:
        mutable = bytearray(content)
        for place, difference in flips:
            mutable[place] ^= difference
        return bytes(mutable)

    places = st.integers(0, len(content) - 1)
    flipped = st.lists(st.tuples(places, st.integers(1, 255)), min_size=1, max_size=3).map(changed)
    cut = places.map(lambda length: content[:length])
    longer = st.binary(min_size=1, max_size=40).map(lambda more: content + more)
    return st.one_of(flipped, flipped, flipped, cut, longer)


def assert_fails_closed(path: Path, load: Callable[[], Arrays], *, same: bool = True) -> None:
    """Assert that ``load`` refuses 200 mutations of the file ``path``, or returns what it returns of the whole file.

    With ``same=False``, it may return other values, of the same types and in as many dimensions.
    """
    content, refused = path.read_bytes(), list[DataError]()
    expected = {name: array.copy() for name, array in load().items()}

    @settings(max_examples=200, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(mutations(content))
    def check(changed: bytes) -> None:
        path.write_bytes(changed)
        try:
            found = load()
        except DataError as error:
            refused.append(error)
            return
        assert found.keys() == expected.keys()
        for name, array in found.items():
            assert array.dtype == expected[name].dtype
            assert array.ndim == expected[name].ndim
            if same:
                assert np.array_equal(array, expected[name], equal_nan=array.dtype.kind == "f"), name

    gc.collect()
    with little_memory():
        check()
    path.write_bytes(content)
    assert len(refused) > 50
    assert all(error.problem.strip() and error.fix.strip() for error in refused)
    assert not [error for error in refused if isinstance(error.__cause__, MemoryError)]
    load()


# --- formats with checksums of their own ------------------------------------------------------------------------------


def test_npz(tmp_path: Path) -> None:
    path, images = tmp_path / "a.npz", toy_arrays().test_images
    for save in (np.savez, np.savez_compressed):
        save(path, images=images, labels=np.arange(len(images)))
        expected = {"images": (np.uint8, images.shape), "labels": (np.int64, (None,))}
        assert_fails_closed(path, lambda wanted=expected: read_npz(path, wanted))


def test_mat_files_are_verified_before_they_are_read(tmp_path: Path) -> None:
    """For scipy would crash on some of these."""
    images = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 2), dtype=np.uint8)
    files = [tmp_path / name for name in ("train_32x32.mat", "test_32x32.mat")]
    for file in files:
        savemat(file, {"X": images, "y": np.array([[10], [3]], np.uint8)}, do_compression=True)
    archives = tuple(
        plain_file(file.name, ("http://unused.invalid",), file_checksum(file, "0" * 32), file.stat().st_size)
        for file in files
    )
    source = replace(svhn.SOURCE, archives=archives)

    def load() -> Arrays:
        verify(source, tmp_path)
        return svhn.read(tmp_path).by_name()

    assert_fails_closed(files[1], load)


@pytest.mark.parametrize("protocol", [2, 4])
def test_torch_files(protocol: int, tmp_path: Path) -> None:
    path, labels = tmp_path / "a.pt", np.random.default_rng(0).integers(0, 100, 50)
    content = {"clean_label": labels, "noisy_label": labels[::-1], "noisy_coarse_label": labels.tolist()}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("CIFAR-100_human/data.pkl", pickle.dumps(content, protocol))
    assert_fails_closed(path, lambda: read_torch_arrays(path))
    assert_fails_closed(path, lambda: read_human_labels(path, "cifar100"))


def test_the_pickle_in_a_torch_file(tmp_path: Path) -> None:
    """Without the zip file's checksum, which would catch all: other values may be read, and nothing else happens."""
    pickled, path = tmp_path / "data.pkl", tmp_path / "a.pt"
    labels = np.random.default_rng(0).integers(0, 100, 20)
    pickled.write_bytes(pickle.dumps({"clean_label": labels, "noisy_label": labels, "rest": [1, 2, 300]}, 2))

    def load() -> Arrays:
        with zipfile.ZipFile(path, "w") as archive:
            archive.write(pickled, "a/data.pkl")
        return read_human_labels(path, "cifar100")

    assert_fails_closed(pickled, load, same=False)


def jpeg(seed: int) -> bytes:
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize((64, 64)).save(buffer, "JPEG")
    return buffer.getvalue()


def test_a_zip_file_of_images(tmp_path: Path) -> None:
    path, root = tmp_path / "tiny.zip", "tiny-imagenet-200"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{root}/wnids.txt", "n01\nn02\n")
        archive.writestr(f"{root}/val/val_annotations.txt", "val_0.JPEG\tn02\t0\t0\t63\t63\n")
        archive.writestr(f"{root}/val/images/val_0.JPEG", jpeg(0))
        archive.writestr(f"{root}/train/n01/images/n01_0.JPEG", jpeg(1))
        archive.writestr(f"{root}/train/n02/images/n02_0.JPEG", jpeg(2))
    assert_fails_closed(path, lambda: tiny_imagenet.read_archive(path, ("n01", "n02"), 1).by_name())


def test_a_zip_file_that_claims_four_gigabytes(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("a", b"12345")
    content = bytearray(path.read_bytes())
    claim = content.index(b"PK\x01\x02") + 20  # the entry's compressed size in the directory
    content[claim : claim + 4] = struct.pack("<I", 0xF0000000)
    path.write_bytes(content)
    with little_memory(), open_zip(path) as archive:
        assert read_entry(archive, "a", 5) == b"12345"  # its checksum is right: refusing would do as well


# --- formats without, by themselves -----------------------------------------------------------------------------------


def test_npy(tmp_path: Path) -> None:
    path, images = tmp_path / "a.npy", toy_arrays().test_images
    np.save(path, images)
    assert_fails_closed(path, lambda: {"a": read_npy(path, np.uint8, (None, *images.shape[1:]))}, same=False)
    np.save(path, np.arange(3))
    assert_fails_closed(path, lambda: {"a": read_npy(path, np.int64, (3,))}, same=False)


def test_idx(tmp_path: Path) -> None:
    path = tmp_path / "labels"
    path.write_bytes(idx(np.arange(12).reshape(3, 4)))
    assert_fails_closed(path, lambda: {"a": read_idx(path, ndim=2)}, same=False)


# --- published files, verified before they are read -------------------------------------------------------------------


def verified(source: Source, folder: Path) -> Source:
    """Return ``source`` as if the files in ``folder`` were the published ones."""
    members = tuple(Member(path.name, md5(path.read_bytes())) for path in sorted(folder.iterdir()))
    return replace(source, archives=(Archive("all.tar.gz", ("http://unused.invalid",), "0" * 32, 0, members),))


def read_verified(source: Source, folder: Path) -> Arrays:
    verify(source, folder)
    return source.read(folder).by_name()


def cifar10_files(folder: Path) -> None:
    rows = np.random.default_rng(0).integers(0, 256, (2, 3072), dtype=np.uint8)
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        (folder / name).write_bytes(pickle.dumps({"data": rows, "labels": [3, 7]}, 2))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list(cifar10.CLASSES)}, 2))


def fashion_mnist_files(folder: Path) -> None:
    for part in ("train", "t10k"):
        (folder / f"{part}-images-idx3-ubyte").write_bytes(idx(np.arange(2 * 784).reshape(2, 28, 28) % 256))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx(np.array([1, 2])))


@pytest.mark.parametrize(
    ("source", "write", "name"),
    [
        (cifar10.SOURCE, cifar10_files, "data_batch_3"),
        (cifar10.SOURCE, cifar10_files, "batches.meta"),
        (fashion_mnist.SOURCE, fashion_mnist_files, "train-images-idx3-ubyte"),
        (fashion_mnist.SOURCE, fashion_mnist_files, "t10k-labels-idx1-ubyte"),
    ],
)
def test_a_verified_source(source: Source, write: Callable[[Path], None], name: str, tmp_path: Path) -> None:
    write(tmp_path)
    source = verified(source, tmp_path)
    assert_fails_closed(tmp_path / name, lambda: read_verified(source, tmp_path))


def test_a_web_page_that_is_called_an_archive(tmp_path: Path, no_network: Any) -> None:
    page = b"<!DOCTYPE html><html><body>Sign in to download</body></html>"
    (tmp_path / "toy.tar.gz").write_bytes(page)
    for source, reason in (
        (tar_source(tar_gz([*MEMBERS.items()])), "wrong checksum"),
        (tar_source(page), "is damaged"),
    ):
        with pytest.raises(DataError, match=reason):
            obtain(source, tmp_path / "raw", mirrors=[tmp_path], opener=no_network)
        assert list((tmp_path / "raw").iterdir()) == []


@pytest.mark.parametrize("known", [True, False], ids=["its own checksum", "the checksum of what it has become"])
def test_an_archive(known: bool, tmp_path: Path, no_network: Any) -> None:
    """By its checksum, or, where a liar gives another one, by those of its members."""
    mirror, raw = tmp_path / "mirror", tmp_path / "raw"
    mirror.mkdir()
    path = mirror / "toy.tar.gz"
    path.write_bytes(tar_gz([*MEMBERS.items(), ("toy/readme", b"left inside")]))
    official = tar_source(path.read_bytes())

    def load() -> Arrays:
        shutil.rmtree(raw, ignore_errors=True)
        source = official if known else tar_source(path.read_bytes())
        try:
            obtain(source, raw, mirrors=[mirror], opener=no_network)
        except DataError:
            assert list(raw.iterdir()) == []
            raise
        return {file.name: np.frombuffer(file.read_bytes(), np.uint8) for file in raw.iterdir()}

    assert_fails_closed(path, load)
    assert {file.name for file in tmp_path.iterdir()} == {"mirror", "raw"}


# --- prepared data ----------------------------------------------------------------------------------------------------


@pytest.fixture
def prepared(toy_source: Source, tmp_path: Path) -> Path:
    images, draw = images_folder(tmp_path, "toy"), draw_folder(tmp_path, "toy-noise", 0)
    images.mkdir(parents=True)
    draw.mkdir(parents=True)
    write_images(toy_source, tmp_path, images)
    spec = DatasetSpec.model_validate(
        {"source": "toy", "noise": {"kind": "symmetric", "rate": 0.4, "definition": "another-class"}}
    )
    write_draw(spec, images, 0, draw)
    return tmp_path


@pytest.mark.parametrize(
    "name",
    [
        "_images/toy/train_images.npy",
        "_images/toy/test_labels.npy",
        "_images/toy/manifest.json",
        "toy-noise/s0/arrays.npz",
        "toy-noise/s0/manifest.json",
    ],
)
def test_prepared_data(name: str, prepared: Path) -> None:
    def load() -> Arrays:
        loading._images.cache_clear()
        data = loading.load(prepared, "toy-noise", "toy", 0)
        parts = {"train": data.train, "validation": data.validation, "test": data.test}
        arrays = {
            f"{part}_{kind}": getattr(split, kind).numpy().copy()
            for part, split in parts.items()
            for kind in ("images", "labels", "clean_labels")
        }
        return arrays | {"mean": data.mean.numpy(), "std": data.std.numpy(), "classes": np.array(data.classes)}

    assert_fails_closed(prepared / name, load)
    loading._images.cache_clear()
