"""Writing prepared test sets: new images, human judgements, and corrupted images a corruption at a time.

A folder with arrays and a manifest of kind ``test_set``, a function of its arguments down to the byte. Corrupted images
are kept in the layout of the official files, by severity and channels last, so that any reader of those reads these.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flatmin.data.corruptions.suite import corrupted_chunks
from flatmin.data.errors import DataError, writing
from flatmin.data.manifest import VERSION, content_hash, read_manifest, write_manifest
from flatmin.data.npy import read_npy
from flatmin.data.stored import read_stored, write_header, write_stored
from flatmin.data.stratified import Labels
from flatmin.data.test_set import Corruptions, HumanJudgements, LabelledImages, NewImages, TestSet
from flatmin.settings import CorruptionSpec

IMAGES = "images.npy"
LABELS = "labels.npy"
PROBABILITIES = "probabilities.npy"

SEVERITIES = (1, 2, 3, 4, 5)
_DOWNLOAD_AGAIN = "Delete it and run: dvc repro download"


def write_new_images(test_set: NewImages, raw: Path, images_folder: Path, folder: Path) -> dict[str, Any]:
    """Write the images and labels of a new test set: uint8 [n, c, h, w] and int64 [n].

    Args:
        test_set: What to read.
        raw: The folder of its verified files.
        images_folder: The prepared images of its source, whose classes and image shape it must have.
        folder: An existing folder for this test set alone.

    Returns:
        The manifest.

    Raises:
        DataError: The files are not readable or not of this source's form, or the disk is full.
    """
    source = read_manifest(images_folder, "images")
    found = test_set.read(raw)
    _check(test_set, found, source)
    return _write(test_set, folder, {IMAGES: found.images, LABELS: found.labels}, {"images": len(found.labels)})


def write_judgements(test_set: HumanJudgements, raw: Path, images_folder: Path, folder: Path) -> dict[str, Any]:
    """Write human label probabilities, float64 [n, classes], of the source's test images.

    Raises:
        DataError: The files are not readable, there is not one row per test image, or the disk is full.
    """
    source = read_manifest(images_folder, "images")
    probabilities = test_set.read(raw)
    expected = (sum(source["counts"]["test"]), len(source["classes"]))
    if probabilities.shape != expected:
        raise DataError(f"{test_set.name}: probabilities are {probabilities.shape}, not {expected}", _DOWNLOAD_AGAIN)
    return _write(test_set, folder, {PROBABILITIES: probabilities}, {"images": len(probabilities)})


def write_official_corruption(
    test_set: Corruptions, corruption: str, raw: Path, images_folder: Path, folder: Path
) -> dict[str, Any]:
    """Put a corruption of the official files in place: uint8 [5 n, h, w, c], all five severities.

    Raises:
        DataError: The file has another form, its labels are not the source's test labels, five times over, or the disk
            is full.
    """
    source = read_manifest(images_folder, "images")
    channels, height, width = source["image_shape"]
    count = sum(source["counts"]["test"])
    file = raw / f"{corruption}.npy"
    rows = len(SEVERITIES) * count
    images = read_npy(file, np.uint8, (rows, height, width, channels))
    labels = read_npy(raw / "labels.npy", np.uint8, (rows,))
    if not np.array_equal(labels, np.tile(_test_labels(images_folder), len(SEVERITIES))):
        raise DataError(f"{raw / 'labels.npy'} has other labels than {test_set.source}'s test set", _DOWNLOAD_AGAIN)
    with writing(folder / IMAGES):
        shutil.copyfile(file, folder / IMAGES)
    return _write(test_set, folder, {}, _of_corruption(corruption, SEVERITIES, count, None), {IMAGES: images})


def write_generated_corruption(
    test_set: Corruptions, corruption: str, spec: CorruptionSpec, images_folder: Path, folder: Path
) -> dict[str, Any]:
    """Corrupt the source's first test images (all, if it has fewer): uint8 [severities n, h, w, c], a chunk at a time.

    Raises:
        DataError: There is no such corruption, or the disk is full.
    """
    clean = read_stored(images_folder / "test_images.npy")
    count = min(spec.images or len(clean), len(clean))
    shape = (len(spec.severities) * count, *clean.shape[2:], clean.shape[1])
    # written from front to back: a mapped file has holes, and a disk that fills then kills the process
    with writing(folder / IMAGES), (folder / IMAGES).open("wb") as file:
        write_header(file, shape, np.dtype(np.uint8))
        for severity in spec.severities:
            for chunk in corrupted_chunks(clean[:count], corruption, severity, spec.seed):
                file.write(np.ascontiguousarray(chunk.transpose(0, 2, 3, 1)).data)
    images = read_stored(folder / IMAGES)
    return _write(test_set, folder, {}, _of_corruption(corruption, spec.severities, count, spec.seed), {IMAGES: images})


def _of_corruption(corruption: str, severities: Sequence[int], count: int, seed: int | None) -> dict[str, Any]:
    return {"corruption": corruption, "severities": list(severities), "images": count, "seed": seed}


def _write(
    test_set: TestSet,
    folder: Path,
    arrays: Mapping[str, NDArray[np.generic]],
    facts: Mapping[str, Any],
    written: Mapping[str, NDArray[np.generic]] | None = None,
) -> dict[str, Any]:
    """Write arrays and the manifest over them; those already ``written`` are hashed with the others."""
    for name, array in arrays.items():
        write_stored(folder / name, array)
    manifest = {
        "kind": "test_set",
        "version": VERSION,
        "test_set": test_set.name,
        "content_hash": content_hash({**arrays, **(written or {})}),
        "licence": test_set.licence,
        "citation": test_set.citation,
        **facts,
    }
    write_manifest(folder, manifest)
    return manifest


def _test_labels(images_folder: Path) -> Labels:
    labels: Labels = read_stored(images_folder / "test_labels.npy")
    return labels


def _check(test_set: TestSet, found: LabelledImages, source: Mapping[str, Any]) -> None:
    images, labels = found
    shape, classes = tuple(source["image_shape"]), len(source["classes"])
    if images.dtype != np.uint8 or images.shape[1:] != shape or images.shape[:1] != labels.shape or not len(labels):
        raise DataError(
            f"{test_set.name}: images are {images.dtype} {images.shape} with labels {labels.shape}, not uint8 "
            f"[n, {', '.join(map(str, shape))}] with n labels",
            _DOWNLOAD_AGAIN,
        )
    if labels.min() < 0 or labels.max() >= classes:
        raise DataError(f"{test_set.name}: labels are not all in 0..{classes - 1}", _DOWNLOAD_AGAIN)
