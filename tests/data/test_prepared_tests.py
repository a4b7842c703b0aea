"""Prepared test sets: what was read or made, their manifests, and refusals of what does not fit the source."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flatmin.data.archives import obtain, verify
from flatmin.data.corruptions.suite import CHUNK, corrupt, corrupted_chunks
from flatmin.data.errors import DataError
from flatmin.data.manifest import read_manifest
from flatmin.data.prepared import write_images
from flatmin.data.prepared_tests import (
    write_generated_corruption,
    write_judgements,
    write_new_images,
    write_official_corruption,
)
from flatmin.data.published import Archive, Member, plain_file
from flatmin.data.source import Arrays, Source
from flatmin.data.test_set import Corruptions, HumanJudgements, LabelledImages, NewImages
from flatmin.settings import CorruptionSpec

TEST, SIDE, CLASSES = 6, 8, 3
WORDS: dict[str, Any] = {"licence": "free", "citation": "somebody", "source": "tiny"}


def pixels(count: int, seed: int, *, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, channels, SIDE, SIDE), dtype=np.uint8)


def tiny_source(test: int = TEST, channels: int = 3) -> Source:
    arrays = Arrays(pixels(9, 1, channels=channels), np.arange(9) % 3, pixels(test, 2, channels=channels), labels(test))
    return Source(
        name="tiny",
        read=lambda folder: arrays,
        classes=("a", "b", "c"),
        image_shape=(channels, SIDE, SIDE),
        split="ours",
        licence="none",
        citation="none",
    )


def labels(count: int = TEST) -> np.ndarray:
    return (np.arange(count, dtype=np.int64) * 2 + 1) % CLASSES


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """The prepared images of a source with six colour test images in three classes."""
    return made(tmp_path / "images", lambda folder: write_images(tiny_source(), tmp_path, folder))


def made(folder: Path, write: Callable[[Path], object]) -> Path:
    folder.mkdir(parents=True)
    write(folder)
    return folder


def by_hand(arrays: Mapping[str, np.ndarray]) -> str:
    """The content hash as its docstring defines it."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name}\x1f{array.dtype.str}\x1f{array.shape}\x1e".encode() + array.tobytes(order="C"))
    return digest.hexdigest()


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


# --- new images -------------------------------------------------------------------------------------------------------

FOUND = LabelledImages(pixels(4, 5), np.array([2, 0, 1, 1]))


def new_images(found: LabelledImages = FOUND) -> NewImages:
    return NewImages(name="new", title="New", read=lambda folder: found, **WORDS)


def test_new_images_are_written_as_they_are_read(tmp_path: Path, images: Path) -> None:
    folder = made(tmp_path / "new", lambda out: write_new_images(new_images(), tmp_path, images, out))
    assert {*files(folder)} == {"images.npy", "labels.npy", "manifest.json"}
    written = {name: np.load(folder / name) for name in ("images.npy", "labels.npy")}
    assert (written["images.npy"].dtype, written["labels.npy"].dtype) == (np.uint8, np.int64)
    assert np.array_equal(written["images.npy"], FOUND.images)
    assert np.array_equal(written["labels.npy"], FOUND.labels)
    assert read_manifest(folder, "test_set") == {
        "kind": "test_set",
        "version": 1,
        "test_set": "new",
        "content_hash": by_hand(written),
        "licence": "free",
        "citation": "somebody",
        "images": 4,
    }


LAYOUTS = {
    "channels last": lambda array: np.ascontiguousarray(array.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2),
    "fortran": np.asfortranarray,
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_images_that_lie_otherwise_in_memory_are_the_same_bytes(
    tmp_path: Path, images: Path, layout: Callable[[np.ndarray], np.ndarray]
) -> None:
    found = FOUND._replace(images=layout(FOUND.images))
    assert not found.images.flags.c_contiguous
    one, other = (
        made(tmp_path / name, lambda out, it=it: write_new_images(new_images(it), tmp_path, images, out))
        for name, it in (("one", FOUND), ("other", found))
    )
    assert files(one) == files(other)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"images": FOUND.images[:, :1]}, r"uint8 \(4, 1, 8, 8\) with labels \(4,\), not uint8 \[n, 3, 8, 8\]"),
        ({"images": FOUND.images / 255}, "images are float64"),
        ({"images": FOUND.images[:3]}, r"\(3, 3, 8, 8\) with labels \(4,\)"),
        ({"labels": FOUND.labels[:, None]}, r"with labels \(4, 1\)"),
        ({"images": FOUND.images[:0], "labels": FOUND.labels[:0]}, r"\(0, 3, 8, 8\)"),
        ({"labels": np.array([0, 1, 2, 3])}, r"labels are not all in 0\.\.2"),
        ({"labels": np.array([0, 1, 2, -1])}, r"labels are not all in 0\.\.2"),
    ],
    ids=["channels", "type", "counts", "label shape", "none", "label too large", "label negative"],
)
def test_new_images_that_do_not_fit_the_source_are_refused(
    tmp_path: Path, images: Path, change: dict[str, Any], said: str
) -> None:
    folder = tmp_path / "new"
    folder.mkdir()
    with pytest.raises(DataError, match=f"new: .*{said}") as caught:
        write_new_images(new_images(FOUND._replace(**change)), tmp_path, images, folder)
    assert "dvc repro download" in caught.value.fix
    assert files(folder) == {}


# --- human judgements -------------------------------------------------------------------------------------------------

SEEN = np.array([[0.5, 0.5, 0], [1, 0, 0], [0.2, 0.3, 0.5], [0, 1, 0], [0, 0, 1], [0.9, 0.1, 0]])


def judgements(seen: np.ndarray = SEEN) -> HumanJudgements:
    return HumanJudgements(name="people", title="People", read=lambda folder: seen, **WORDS)


def test_judgements_are_written_as_they_are_read(tmp_path: Path, images: Path) -> None:
    folder = made(tmp_path / "people", lambda out: write_judgements(judgements(), tmp_path, images, out))
    assert {*files(folder)} == {"probabilities.npy", "manifest.json"}
    written = np.load(folder / "probabilities.npy")
    assert written.dtype == np.float64
    assert np.array_equal(written, SEEN)
    manifest = read_manifest(folder, "test_set")
    assert manifest["content_hash"] == by_hand({"probabilities.npy": SEEN})
    assert (manifest["test_set"], manifest["images"]) == ("people", TEST)


@pytest.mark.parametrize("seen", [SEEN[:5], SEEN[:, :2], np.vstack([SEEN, SEEN])], ids=["fewer", "classes", "more"])
def test_judgements_of_other_images_or_classes_are_refused(tmp_path: Path, images: Path, seen: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"people: probabilities are .*, not \(6, 3\)"):
        write_judgements(judgements(seen), tmp_path, images, tmp_path)
    assert not (tmp_path / "manifest.json").exists()


# --- the official files of a suite ------------------------------------------------------------------------------------

FOG = np.ascontiguousarray(pixels(5 * TEST, 7).transpose(0, 2, 3, 1))


def official(**contents: np.ndarray) -> tuple[Corruptions, bytes]:
    """A suite as it is published: a tar with a folder of arrays, and that tar."""
    packed = {name: npy(array) for name, array in contents.items()}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in packed.items():
            header = tarfile.TarInfo(f"Tiny-C/{name}.npy")
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))
    tar_bytes = buffer.getvalue()
    members = tuple(Member(f"Tiny-C/{name}.npy", hashlib.md5(content).hexdigest()) for name, content in packed.items())
    archive = Archive("Tiny-C.tar", ("http://h.invalid/",), hashlib.md5(tar_bytes).hexdigest(), len(tar_bytes), members)
    return Corruptions(name="tiny_c", title="Tiny-C", archives=(archive,), **WORDS), tar_bytes


def tiled(dtype: type = np.uint8) -> np.ndarray:
    return np.tile(labels(), 5).astype(dtype)


def brought(suite: Corruptions, packed: bytes, root: Path) -> Path:
    """The members of a suite's archive, from a mirror."""
    mirror = root / "mirror"
    mirror.mkdir()
    (mirror / "Tiny-C.tar").write_bytes(packed)
    obtain(suite, root / "raw", mirrors=[mirror])
    return root / "raw"


def test_an_official_corruption_comes_out_of_its_tar_unchanged(tmp_path: Path, images: Path) -> None:
    suite, packed = official(labels=tiled(), fog=FOG, snow=255 - FOG)
    raw = brought(suite.only(["labels.npy", "fog.npy"]), packed, tmp_path)
    assert {path.name for path in raw.iterdir()} == {"labels.npy", "fog.npy"}, "snow was not asked for"
    folder = made(tmp_path / "fog", lambda out: write_official_corruption(suite, "fog", raw, images, out))
    assert (folder / "images.npy").read_bytes() == (raw / "fog.npy").read_bytes()
    manifest = read_manifest(folder, "test_set")
    assert manifest["content_hash"] == by_hand({"images.npy": FOG})
    told = {name: manifest[name] for name in ("test_set", "corruption", "severities", "images", "seed")}
    assert told == {
        "test_set": "tiny_c",
        "corruption": "fog",
        "severities": [1, 2, 3, 4, 5],
        "images": TEST,
        "seed": None,
    }


@pytest.mark.parametrize(
    ("contents", "said"),
    [
        ({"labels": np.roll(tiled(), 1), "fog": FOG}, r"labels\.npy has other labels than tiny's test set"),
        ({"labels": np.repeat(labels(), 5).astype(np.uint8), "fog": FOG}, "has other labels than tiny's test set"),
        ({"labels": tiled(np.int64), "fog": FOG}, r"labels\.npy is int64"),
        ({"labels": tiled()[:TEST], "fog": FOG}, r"labels\.npy is uint8 \(6,\)"),
        ({"labels": tiled(), "fog": FOG[:TEST]}, r"fog\.npy is uint8 \(6, 8, 8, 3\)"),
        ({"labels": tiled(), "fog": FOG.transpose(0, 3, 1, 2)}, r"fog\.npy is uint8 \(30, 3, 8, 8\)"),
        ({"labels": tiled(), "fog": FOG / 255}, r"fog\.npy is float64"),
    ],
    ids=["shifted", "by image", "label type", "one severity of labels", "one severity", "channels first", "scaled"],
)
def test_official_files_of_another_form_are_refused(
    tmp_path: Path, images: Path, contents: dict[str, np.ndarray], said: str
) -> None:
    suite, packed = official(**contents)
    raw = brought(suite, packed, tmp_path)
    with pytest.raises(DataError, match=said):
        write_official_corruption(suite, "fog", raw, images, tmp_path)
    assert not (tmp_path / "manifest.json").exists()


def test_a_part_of_a_suite_is_verified_alone(tmp_path: Path) -> None:
    suite, packed = official(labels=tiled(), fog=FOG, snow=255 - FOG)
    raw = brought(suite, packed, tmp_path)
    (raw / "snow.npy").write_bytes(npy(FOG))
    verify(suite.only(["labels.npy", "fog.npy"]), raw)
    with pytest.raises(DataError, match=r"snow\.npy has md5"):
        verify(suite, raw)


# --- the generated suite ----------------------------------------------------------------------------------------------


def generated() -> Corruptions:
    return Corruptions(name="made", title="{source}-C", **{**WORDS, "source": ""})


def generate(folder: Path, source: Path, corruption: str = "gaussian_noise", **spec: Any) -> Path:
    chosen = CorruptionSpec.model_validate(spec)
    return made(folder, lambda out: write_generated_corruption(generated(), corruption, chosen, source, out))


@pytest.mark.parametrize("corruption", ["gaussian_noise", "brightness", "jpeg_compression"])
def test_generated_images_are_the_corrupted_ones_by_severity_and_channels_last(
    tmp_path: Path, images: Path, corruption: str
) -> None:
    folder = generate(tmp_path / "made", images, corruption, severities=[4, 1], seed=3)
    clean, written = np.load(images / "test_images.npy"), np.load(folder / "images.npy")
    assert (written.dtype, written.shape) == (np.uint8, (2 * TEST, SIDE, SIDE, 3))
    for place, severity in enumerate((4, 1)):
        expected = corrupt(clean, corruption, severity, 3)
        for i in range(TEST):
            for channel in range(3):
                assert np.array_equal(written[place * TEST + i, :, :, channel], expected[i, channel])
    manifest = read_manifest(folder, "test_set")
    assert manifest["content_hash"] == by_hand({"images.npy": written})
    told = [manifest[name] for name in ("test_set", "corruption", "severities", "images", "seed")]
    assert told == ["made", corruption, [4, 1], TEST, 3]


def test_more_images_than_share_a_generator_are_written_in_their_places(tmp_path: Path) -> None:
    count = 2 * CHUNK + 1
    source = tiny_source(test=count, channels=1)
    images = made(tmp_path / "images", lambda folder: write_images(source, tmp_path, folder))
    folder = generate(tmp_path / "made", images, severities=[2, 5])
    clean, written = np.load(images / "test_images.npy"), np.load(folder / "images.npy")
    for place, severity in enumerate((2, 5)):
        part = written[place * count : (place + 1) * count]
        assert np.array_equal(part.transpose(0, 3, 1, 2), corrupt(clean, "gaussian_noise", severity, 0))


def test_fewer_images_are_the_first_ones(tmp_path: Path, images: Path) -> None:
    clean = np.load(images / "test_images.npy")
    folder = generate(tmp_path / "made", images, images=4, severities=[1, 2])
    written = np.load(folder / "images.npy")
    assert np.array_equal(written[4:].transpose(0, 3, 1, 2), corrupt(clean[:4], "gaussian_noise", 2, 0))
    assert read_manifest(folder, "test_set")["images"] == 4


def test_the_seed_draws_other_noise(tmp_path: Path, images: Path) -> None:
    one, other = (generate(tmp_path / str(seed), images, severities=[1], seed=seed) for seed in (0, 1))
    hashes = {read_manifest(folder, "test_set")["content_hash"] for folder in (one, other)}
    assert len(hashes) == 2


def test_where_more_images_are_asked_for_than_there_are_all_are_given(tmp_path: Path, images: Path) -> None:
    more, all_ = generate(tmp_path / "more", images, images=7), generate(tmp_path / "all", images)
    assert files(more) == files(all_)
    assert read_manifest(more, "test_set")["images"] == 6


def test_a_corruption_that_is_none_is_refused(tmp_path: Path, images: Path) -> None:
    with pytest.raises(DataError, match="no corruption is called 'fogg'; did you mean 'fog'"):
        generate(tmp_path / "made", images, "fogg")


# --- what holds for all -----------------------------------------------------------------------------------------------


@pytest.fixture
def writers(tmp_path: Path, images: Path) -> dict[str, Callable[[Path], object]]:
    suite, packed = official(labels=tiled(), fog=FOG)
    raw = brought(suite, packed, tmp_path)
    spec = CorruptionSpec(severities=(1, 3), images=5)
    return {
        "images": lambda out: write_new_images(new_images(), raw, images, out),
        "judgements": lambda out: write_judgements(judgements(), raw, images, out),
        "official": lambda out: write_official_corruption(suite, "fog", raw, images, out),
        "generated": lambda out: write_generated_corruption(generated(), "glass_blur", spec, images, out),
    }


KINDS = ("images", "judgements", "official", "generated")


@pytest.mark.parametrize("kind", KINDS)
def test_a_prepared_test_set_is_the_same_bytes_every_time(
    tmp_path: Path, writers: dict[str, Callable[[Path], object]], kind: str
) -> None:
    one, other = (made(tmp_path / name, writers[kind]) for name in ("here", "there/and further"))
    assert files(one) == files(other)
    text = (one / "manifest.json").read_text()
    assert str(tmp_path) not in text
    assert text == (one / "manifest.json").read_text().encode().decode("ascii")
    assert json.loads(text)["content_hash"] == by_hand({p.name: np.load(p) for p in one.glob("*.npy")})


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_returned_is_the_manifest(
    tmp_path: Path, writers: dict[str, Callable[[Path], object]], kind: str
) -> None:
    (tmp_path / "out").mkdir()
    assert writers[kind](tmp_path / "out") == read_manifest(tmp_path / "out", "test_set")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("kind", KINDS)
def test_a_full_disk_is_named(tmp_path: Path, writers: dict[str, Callable[[Path], object]], kind: str) -> None:
    name = "probabilities.npy" if kind == "judgements" else "images.npy"
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).symlink_to("/dev/full")
    with pytest.raises(DataError, match=rf"disk full while writing .*out/{name}") as caught:
        writers[kind](tmp_path / "out")
    assert "Free space" in caught.value.fix
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_a_source_that_is_not_prepared_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"manifest\.json does not exist") as caught:
        write_new_images(new_images(), tmp_path, tmp_path / "nothing", tmp_path)
    assert "dvc repro prepare" in caught.value.fix


def test_the_file_of_a_new_test_set_is_read_from_the_folder_of_verified_files(tmp_path: Path, images: Path) -> None:
    """Through `obtain`: what a test set reads is the file that was checked."""
    content = npy(FOUND.images)
    archive = plain_file("x.npy", ("http://h.invalid/x.npy",), hashlib.sha256(content).hexdigest(), len(content))
    found = replace(
        new_images(),
        archives=(archive,),
        read=lambda folder: LabelledImages(np.load(folder / "x.npy"), FOUND.labels),
    )
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / "x.npy").write_bytes(content)
    obtain(found, tmp_path / "raw", mirrors=[tmp_path / "mirror"])
    folder = made(tmp_path / "new", lambda out: write_new_images(found, tmp_path / "raw", images, out))
    assert np.array_equal(np.load(folder / "images.npy"), FOUND.images)


def test_a_file_that_is_being_generated_never_has_holes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mapped page of a hole that finds the disk full is a bus error: it ends the process, and nothing is said."""
    images = made(tmp_path / "images", lambda folder: write_images(tiny_source(test=300), tmp_path, folder))
    file = tmp_path / "made" / "images.npy"
    holes: list[int] = []

    def watched(*args: Any) -> Iterator[np.ndarray]:
        for chunk in corrupted_chunks(*args):
            holes.append(file.stat().st_size - file.stat().st_blocks * 512)
            yield chunk

    monkeypatch.setattr("flatmin.data.prepared_tests.corrupted_chunks", watched)
    generate(tmp_path / "made", images, "brightness", severities=[1, 2])
    assert len(holes) == 6
    assert max(holes) <= 0
