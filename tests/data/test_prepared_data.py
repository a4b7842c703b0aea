from __future__ import annotations

import errno
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from real_files import SHARED
from small_sources import tar_source, toy_arrays

from flatmin.data.archives import obtain
from flatmin.data.errors import DataError
from flatmin.data.loading import load
from flatmin.data.manifest import content_hash, data_hash, draw_folder, images_folder, read_manifest
from flatmin.data.prepared import channel_statistics, write_draw, write_images
from flatmin.data.source import Source
from flatmin.data.sources import registry
from flatmin.settings import DatasetSpec

NOISE = {"kind": "symmetric", "rate": 0.5, "definition": "another-class"}


def spec(**settings: object) -> DatasetSpec:
    return DatasetSpec.model_validate({"source": "toy", "noise": NOISE, **settings})


def prepare(root: Path, source: Source, dataset: str, of: DatasetSpec, seeds: tuple[int, ...] = (0,)) -> list[dict]:
    """Do what the stage does: images once, then one folder per seed."""
    images = images_folder(root, source.name)
    if not images.exists():
        images.mkdir(parents=True)
        write_images(source, root, images)
    manifests = []
    for seed in seeds:
        folder = draw_folder(root, dataset, seed)
        folder.mkdir(parents=True)
        manifests.append(write_draw(of, images, seed, folder))
    return manifests


def files(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_prepared_files_are_the_same_bytes_every_time(tmp_path: Path, toy_source: Source) -> None:
    for name in ("a", "b"):
        prepare(tmp_path / name, toy_source, "toy-noise", spec(), seeds=(0, 1))
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert len(files(tmp_path / "a")) == 5 + 2 * 2


def test_the_manifest_of_images_states_their_statistics(tmp_path: Path, toy_source: Source) -> None:
    manifest = write_images(toy_source, tmp_path, tmp_path)
    pixels = toy_arrays().train_images / 255
    assert manifest["mean"] == pytest.approx(pixels.mean(axis=(0, 2, 3)), abs=1e-12)
    assert manifest["std"] == pytest.approx(pixels.std(axis=(0, 2, 3)), abs=1e-12)
    assert manifest["counts"] == {"train": [20, 20, 20], "test": [4, 4, 4]}
    assert manifest == read_manifest(tmp_path, "images")


def test_a_constant_channel_is_refused() -> None:
    with pytest.raises(DataError, match="channel 1"):
        channel_statistics(np.stack([np.arange(8).reshape(2, 2, 2), np.ones((2, 2, 2))], axis=1).astype(np.uint8))


def test_the_manifest_of_a_draw_states_what_noise_did(tmp_path: Path, toy_source: Source) -> None:
    (manifest,) = prepare(tmp_path, toy_source, "toy-noise", spec(validation={"fraction": 0.2, "labels": "clean"}))
    data = load(tmp_path, "toy-noise", "toy", 0)
    assert (manifest["train"]["size"], manifest["validation"]["size"]) == (48, 12)
    assert manifest["train"]["noise_rate"] == 0.5
    assert manifest["validation"]["noise_rate"] == 0
    matrix = np.array(manifest["train"]["noise_matrix"])
    assert matrix.sum(axis=1).tolist() == [16, 16, 16]
    assert matrix[0, 1] == int(((data.train.clean_labels == 0) & (data.train.labels == 1)).sum())
    assert DatasetSpec.model_validate(manifest["spec"]) == spec(validation={"fraction": 0.2, "labels": "clean"})
    assert manifest == read_manifest(draw_folder(tmp_path, "toy-noise", 0), "draw")


def test_a_fixed_draw_says_so(tmp_path: Path, toy_source: Source) -> None:
    fixed = prepare(tmp_path, toy_source, "fixed", spec(draw_seed=4), seeds=(0, 1))
    (free,) = prepare(tmp_path, toy_source, "free", spec())
    assert [manifest["conditional"] for manifest in fixed] == ["conditional on one draw"] * 2
    assert fixed[0]["content_hash"] == fixed[1]["content_hash"] != free["content_hash"]
    assert free["conditional"] is None


def test_what_is_loaded_is_what_the_source_has_at_the_drawn_places(tmp_path: Path, toy_source: Source) -> None:
    prepare(tmp_path, toy_source, "toy-noise", spec())
    data, arrays = load(tmp_path, "toy-noise", "toy", 0), toy_arrays()
    with np.load(draw_folder(tmp_path, "toy-noise", 0) / "arrays.npz") as draw:
        for name, part in {"train": data.train, "validation": data.validation}.items():
            places = draw[f"{name}_indices"]
            assert np.array_equal(part.images.numpy(), arrays.train_images[places])
            assert np.array_equal(part.clean_labels.numpy(), arrays.train_labels[places])
            assert np.array_equal(part.labels.numpy(), draw[f"{name}_labels"])
    assert np.array_equal(data.test.images.numpy(), arrays.test_images)
    assert np.array_equal(data.test.labels.numpy(), arrays.test_labels)
    assert (data.train.images.dtype, data.train.labels.dtype, data.mean.dtype) == (
        torch.uint8,
        torch.int64,
        torch.float32,
    )
    assert data.classes == ("a", "b", "c")
    assert len(data.train) == 54


def test_images_are_read_once_per_process_and_anew_when_prepared_anew(tmp_path: Path, toy_source: Source) -> None:
    prepare(tmp_path, toy_source, "toy-noise", spec(), seeds=(0, 1))
    first, second = (load(tmp_path, "toy-noise", "toy", seed) for seed in (0, 1))
    assert first.test.images.data_ptr() == second.test.images.data_ptr()

    def read_other(folder: Path):
        arrays = toy_arrays()
        return replace(arrays, test_images=255 - arrays.test_images)

    other = replace(toy_source, read=read_other)
    images = images_folder(tmp_path, "toy")
    for file in images.iterdir():
        file.unlink()
    write_images(other, tmp_path, images)
    with pytest.raises(DataError, match="drawn from other images"):
        load(tmp_path, "toy-noise", "toy", 0)
    prepare(tmp_path, other, "again", spec())
    assert torch.equal(load(tmp_path, "again", "toy", 0).test.images, 255 - first.test.images)


def test_digits_are_the_same_on_every_machine(tmp_path: Path) -> None:
    manifest = write_images(registry.load("digits"), tmp_path, tmp_path)
    assert manifest["content_hash"] == "6e7c7542d7ad332bbb343310262848d53b91563e022bde7307998118ae53f803"
    assert (sum(manifest["counts"]["train"]), sum(manifest["counts"]["test"])) == (1197, 600)


# --- hashes -----------------------------------------------------------------------------------------------------------


def test_the_data_hash_changes_with_the_content_and_not_with_names(tmp_path: Path, toy_source: Source) -> None:
    prepare(tmp_path, toy_source, "one", spec(), seeds=(0, 1))
    prepare(tmp_path, toy_source, "other-name", spec())
    prepare(tmp_path, toy_source, "other-noise", spec(noise={**NOISE, "rate": 0.4}))
    hashes = {(name, seed): data_hash(tmp_path, name, "toy", seed) for name, seed in [("one", 0), ("one", 1)]}
    assert len(set(hashes.values())) == 2
    assert data_hash(tmp_path, "other-name", "toy", 0) == hashes["one", 0]
    assert data_hash(tmp_path, "other-noise", "toy", 0) not in hashes.values()
    arrays = toy_arrays()
    changed = replace(toy_source, read=lambda folder: replace(arrays, test_labels=arrays.test_labels[::-1]))
    prepare(tmp_path / "changed", changed, "one", spec())
    assert data_hash(tmp_path / "changed", "one", "toy", 0) != hashes["one", 0]


def test_a_content_hash_sees_values_shape_type_and_name_and_no_memory_layout() -> None:
    array = np.arange(6, dtype=np.int64).reshape(2, 3)
    base = content_hash({"a": array, "b": array})
    assert content_hash({"b": array, "a": np.asfortranarray(array)}) == base
    others = [array + 1, array.reshape(3, 2), array.astype(np.int32)]
    assert (
        len({base, content_hash({"c": array, "b": array}), *(content_hash({"a": x, "b": array}) for x in others)}) == 5
    )


def test_the_data_hash_reads_no_arrays(tmp_path: Path, toy_source: Source) -> None:
    prepare(tmp_path, toy_source, "one", spec())
    expected = data_hash(tmp_path, "one", "toy", 0)
    for file in tmp_path.rglob("*.np[yz]"):
        file.unlink()
    assert data_hash(tmp_path, "one", "toy", 0) == expected


# --- broken data ------------------------------------------------------------------------------------------------------

BREAKAGES = {
    "gone": lambda file: file.unlink(),
    "emptied": lambda file: file.write_bytes(b""),
    "cut": lambda file: file.write_bytes(file.read_bytes()[:-5]),
    "changed": lambda file: file.write_bytes(file.read_bytes()[:-200] + b"\7" * 100 + file.read_bytes()[-100:]),
}


@pytest.mark.parametrize("breakage", BREAKAGES.values(), ids=BREAKAGES)
@pytest.mark.parametrize("file", ["_images/toy/train_images.npy", "one/s0/arrays.npz", "one/s0/manifest.json"])
def test_broken_prepared_data_is_refused_and_the_fix_is_to_prepare_it(file, breakage, tmp_path, toy_source) -> None:
    prepare(tmp_path, toy_source, "one", spec())
    breakage(tmp_path / file)
    with pytest.raises(DataError) as caught:
        load(tmp_path, "one", "toy", 0)
    assert "dvc repro prepare" in caught.value.fix
    assert str((tmp_path / file).parent) in str(caught.value)


def test_arrays_of_another_draw_are_refused(tmp_path: Path, toy_source: Source) -> None:
    prepare(tmp_path, toy_source, "one", spec(), seeds=(0, 1))
    one, other = (draw_folder(tmp_path, "one", seed) / "arrays.npz" for seed in (0, 1))
    one.write_bytes(other.read_bytes())
    with pytest.raises(DataError, match="not those of its manifest"):
        load(tmp_path, "one", "toy", 0)


def test_wrong_raw_files_are_refused_before_they_are_read(tmp_path: Path) -> None:
    for name in ("images", "labels"):
        (tmp_path / name).write_bytes(b"?")
    with pytest.raises(DataError, match="images has md5"):
        write_images(tar_source(b""), tmp_path, tmp_path)  # whose read() fails the test


@pytest.mark.parametrize("change", [{"kind": "images"}, {"version": 99}, {"content_hash": "12"}], ids=str)
def test_another_manifest_is_refused(change: dict, tmp_path: Path, toy_source: Source) -> None:
    prepare(tmp_path, toy_source, "one", spec())
    path = draw_folder(tmp_path, "one", 0) / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DataError, match="is no manifest of kind 'draw'") as caught:
        data_hash(tmp_path, "one", "toy", 0)
    assert "dvc repro prepare" in caught.value.fix


def test_a_draw_of_another_source_s_images_is_refused(tmp_path: Path, toy_source: Source) -> None:
    write_images(toy_source, tmp_path, tmp_path)
    with pytest.raises(DataError, match="holds toy, not cifar10"):
        write_draw(spec(source="cifar10"), tmp_path, 0, tmp_path)


WRONG = {
    "labels": lambda arrays: replace(arrays, test_labels=arrays.test_labels + 1),
    "label type": lambda arrays: replace(arrays, train_labels=arrays.train_labels.astype(np.int32)),
    "image type": lambda arrays: replace(arrays, train_images=arrays.train_images / 255),
    "image shape": lambda arrays: replace(arrays, test_images=arrays.test_images[..., :5]),
    "lengths": lambda arrays: replace(arrays, test_images=arrays.test_images[:5]),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_a_source_that_reads_something_else_than_it_says_is_refused(wrong, tmp_path, toy_source) -> None:
    with pytest.raises(DataError, match=r"source toy, (train|test) part"):
        write_images(replace(toy_source, read=lambda folder: wrong(toy_arrays())), tmp_path, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_named(tmp_path: Path, toy_source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("flatmin.data.stored.write_header", full)
    with pytest.raises(DataError, match=r"disk full while writing .*train_images\.npy"):
        write_images(toy_source, tmp_path, tmp_path)


# --- the real images --------------------------------------------------------------------------------------------------


@pytest.mark.mirror
def test_prepared_cifar10_is_the_real_one(cifar10_folder: Path, tmp_path: Path, no_network) -> None:
    from flatmin.data.sources.cifar10 import SOURCE

    obtain(SOURCE, tmp_path / "raw", mirrors=[cifar10_folder], opener=no_network)
    images = images_folder(tmp_path, "cifar10")
    images.mkdir(parents=True)
    manifest = write_images(SOURCE, tmp_path / "raw", images)
    noise = {"kind": "symmetric", "rate": 0.4, "definition": "any-class"}
    folder = draw_folder(tmp_path, "cifar10-noise40", 0)
    folder.mkdir(parents=True)
    drawn = write_draw(DatasetSpec.model_validate({"source": "cifar10", "noise": noise}), images, 0, folder)
    data = load(tmp_path, "cifar10-noise40", "cifar10", 0)

    assert manifest["content_hash"] == "09cfa81c1e8479e3c209a409f0a6b540d4b4a84deb2e76bfc53e7a1ab7569506"
    assert manifest["counts"] == {"train": [5000] * 10, "test": [1000] * 10}
    assert manifest["mean"] == pytest.approx([0.49140, 0.48216, 0.44653], abs=5e-6)
    assert manifest["std"] == pytest.approx([0.24703, 0.24349, 0.26159], abs=5e-6)
    assert data.test.labels[:10].tolist() == [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]
    assert (len(data.train), len(data.validation), len(data.test)) == (45_000, 5_000, 10_000)
    assert drawn["train"]["noise_rate"] == pytest.approx(0.36, abs=3 * (0.09 * 18_000) ** 0.5 / 45_000)
    assert np.bincount(data.validation.clean_labels.numpy()).tolist() == [500] * 10


DRAWS = {
    "any-class": "a2cb1098b0e1fb8b557093a854d885ee9fdff806707a2598240817337de525f5",
    "another-class": "844aed26f71969ebfff22c50c1a6a5b3e6ee059b1bdb2d350ab364cf080ca200",
}
"""Content hashes of seed 0's draw of CIFAR-10 with 40% symmetric noise: the same labels for everybody."""


@pytest.fixture(scope="module")
def cifar10_images(cifar10_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the prepared images of CIFAR-10."""
    from flatmin.data.sources.cifar10 import SOURCE

    root = tmp_path_factory.mktemp("cifar10")
    obtain(SOURCE, root / "raw", mirrors=[cifar10_folder])
    images = images_folder(root, "cifar10")
    images.mkdir(parents=True)
    write_images(SOURCE, root / "raw", images)
    return images


def cifar10_draw(images: Path, folder: Path, noise: dict[str, object], annotations: Path | None = None) -> dict:
    folder.mkdir()
    spec = DatasetSpec.model_validate({"source": "cifar10", "noise": noise})
    return write_draw(spec, images, 0, folder, annotations)


@pytest.mark.mirror
@pytest.mark.parametrize(("definition", "rate"), [("any-class", 0.36), ("another-class", 0.4)])
def test_everybody_gets_the_same_noisy_cifar10(
    definition: str, rate: float, cifar10_images: Path, tmp_path: Path
) -> None:
    noise = {"kind": "symmetric", "rate": 0.4, "definition": definition}
    once, twice = (cifar10_draw(cifar10_images, tmp_path / name, noise) for name in ("once", "twice"))
    assert once["content_hash"] == twice["content_hash"] == DRAWS[definition]
    assert once["train"]["noise_rate"] == pytest.approx(rate, abs=3 * (rate * (1 - rate) / 45_000) ** 0.5)


@pytest.mark.mirror
@pytest.mark.parametrize(
    ("labels", "rate"),
    [("aggregate", 9.01), ("random1", 17.23), ("random2", 18.12), ("random3", 17.64), ("worst", 40.21)],
)
def test_the_labels_that_people_gave_are_those_of_the_draw(
    labels: str, rate: float, cifar10_images: Path, tmp_path: Path
) -> None:
    noise = {"kind": "human", "labels": labels}
    drawn = cifar10_draw(cifar10_images, tmp_path / "draw", noise, SHARED / "mirror" / "CIFAR-10_human.pt")
    wrong = sum(drawn[part]["noise_rate"] * drawn[part]["size"] for part in ("train", "validation"))
    assert 100 * wrong / 50_000 == pytest.approx(rate, abs=0.01)
