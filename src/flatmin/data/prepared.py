"""Writing prepared data: a source's images once, and for every seed of a dataset the labels of its draw.

Both are functions of their arguments down to the byte: no dates, no paths, no name of a machine.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from fractions import Fraction
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flatmin.data.archives import verify
from flatmin.data.draws import Draw, TrainingPart, draw
from flatmin.data.errors import DataError, writing
from flatmin.data.human_labels import check_clean_labels, read_human_labels
from flatmin.data.manifest import VERSION, content_hash, read_manifest, write_manifest
from flatmin.data.noise import realised_rate, transition_matrix
from flatmin.data.own.division import OwnData
from flatmin.data.source import Arrays, Source, check_arrays
from flatmin.data.stored import read_stored, write_stored
from flatmin.data.stratified import Labels
from flatmin.settings import DatasetSpec

ARRAYS = "arrays.npz"
CONDITIONAL = "conditional on one draw"

_MAX_PIXEL = 255
_IMAGES_AT_A_TIME = 5000  # numpy counts in 8-byte numbers: 123 MB for CIFAR


def write_images(source: Source, raw: Path, folder: Path) -> dict[str, Any]:
    """Write a source's images and labels to ``folder``, with a manifest.

    ``{train,test}_images.npy`` are uint8 [n, c, h, w], ``{train,test}_labels.npy`` int64 [n], both in the source's
    order.

    Args:
        source: What to read.
        raw: The folder that `archives.obtain` filled; verified again before it is read.
        folder: An existing folder for this source alone.

    Returns:
        The manifest. Channel ``mean`` and ``std`` (of the population) are those of all training images, divided by 255.

    Raises:
        DataError: Raw files or arrays are wrong, or the disk is full.
    """
    verify(source, raw)
    arrays = source.read(raw)
    check_arrays(source, arrays)
    pairs = source.usual_pairs
    facts = {
        "source": source.name,
        "split": source.split,
        "usual_pairs": None if pairs is None else {str(key): value for key, value in pairs.items()},
        "licence": source.licence,
        "citation": source.citation,
    }
    return _write_images(arrays, source.classes, facts, folder)


def write_own_images(name: str, own: OwnData, folder: Path) -> dict[str, Any]:
    """Write a user's own images to ``folder``, as `write_images` writes those of a source.

    Raises:
        DataError: All pixels of a channel are equal, or the disk is full.
    """
    facts = {"source": name, "split": own.split, "usual_pairs": None, "licence": "your own", "citation": "your own"}
    return _write_images(own.arrays, own.classes, facts, folder)


def _write_images(arrays: Arrays, classes: Sequence[str], facts: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    by_name = {name: np.ascontiguousarray(array) for name, array in arrays.by_name().items()}
    mean, std = channel_statistics(arrays.train_images)
    for name, array in by_name.items():
        write_stored(folder / f"{name}.npy", array)
    manifest = {
        "kind": "images",
        "version": VERSION,
        "content_hash": content_hash(by_name),
        "image_shape": list(arrays.train_images.shape[1:]),
        "classes": list(classes),
        "counts": {
            "train": np.bincount(arrays.train_labels, minlength=len(classes)).tolist(),
            "test": np.bincount(arrays.test_labels, minlength=len(classes)).tolist(),
        },
        "mean": mean,
        "std": std,
        **facts,
    }
    write_manifest(folder, manifest)
    return manifest


def channel_statistics(images: NDArray[np.uint8]) -> tuple[list[float], list[float]]:
    """Return mean and population standard deviation of each channel of ``images / 255``.

    Args:
        images: Uint8 [n, c, h, w].

    Exact: pixel values are counted and the moments are fractions until the last step, so the result does not depend on
    the order of summation.

    Raises:
        DataError: A channel is constant; it could not be normalised.
    """
    means, stds = [], []
    for channel in range(images.shape[1]):
        counts = _value_counts(images[:, channel])
        total = sum(counts)
        first = Fraction(sum(value * count for value, count in enumerate(counts)), total)
        second = Fraction(sum(value**2 * count for value, count in enumerate(counts)), total)
        variance = second - first**2
        if variance == 0:
            raise DataError(f"all pixels of channel {channel} are equal", "Leave this channel out of the source.")
        means.append(float(first / _MAX_PIXEL))
        stds.append(sqrt(variance / _MAX_PIXEL**2))
    return means, stds


def _value_counts(values: NDArray[np.uint8]) -> list[int]:
    counts = np.zeros(_MAX_PIXEL + 1, dtype=np.int64)
    for start in range(0, len(values), _IMAGES_AT_A_TIME):
        counts += np.bincount(values[start : start + _IMAGES_AT_A_TIME].ravel(), minlength=_MAX_PIXEL + 1)
    return [int(count) for count in counts]


def write_draw(
    spec: DatasetSpec, images_folder: Path, seed: int, folder: Path, annotations: Path | None = None
) -> dict[str, Any]:
    """Write one seed's draw of a dataset to ``folder``: `draws.Draw` in ``arrays.npz``, and a manifest.

    Args:
        spec: The dataset.
        images_folder: What `write_images` wrote for its source.
        seed: The run's seed.
        folder: An existing folder for this draw alone.
        annotations: The published file of the labels that people gave, where ``spec`` asks for them.

    Returns:
        The manifest: the settings, sizes, and what the noise really did.

    Raises:
        DataError: The images are of another source or not readable, the draw is impossible, or the disk is full.
    """
    source = read_manifest(images_folder, "images")
    if source["source"] != spec.source_name:
        raise DataError(
            f"{images_folder} holds {source['source']}, not {spec.source_name}", "Prepare that source first."
        )
    part = _training_part(spec, source, images_folder, annotations)
    drawn = draw(spec, part, seed)
    arrays = {name: getattr(drawn, name) for name in Draw.__dataclass_fields__}
    _write_arrays(folder / ARRAYS, arrays)
    manifest = {
        "kind": "draw",
        "version": VERSION,
        "content_hash": content_hash(arrays),
        "images_hash": source["content_hash"],
        # where images of one's own lie is no matter of what is drawn from them
        "spec": spec.model_dump(mode="json", exclude=None if isinstance(spec.source, str) else {"source": {"path"}}),
        "seed": seed,
        "conditional": None if spec.draw_seed is None else CONDITIONAL,
        "train": _part(drawn.train_clean_labels, drawn.train_labels, part.classes),
        "validation": _part(drawn.validation_clean_labels, drawn.validation_labels, part.classes),
    }
    write_manifest(folder, manifest)
    return manifest


def _training_part(
    spec: DatasetSpec, source: Mapping[str, Any], images_folder: Path, annotations: Path | None
) -> TrainingPart:
    labels, stored = read_stored(images_folder / "train_labels.npy"), source["usual_pairs"]
    human: dict[str, Labels] = {}
    if annotations is not None:
        human = read_human_labels(annotations, spec.source_name)
        check_clean_labels(human, labels, spec.source_name)
    return TrainingPart(
        labels=labels,
        classes=len(source["classes"]),
        usual_pairs=None if stored is None else {int(key): value for key, value in stored.items()},
        images=read_stored(images_folder / "train_images.npy"),
        human_labels=human,
    )


def _part(clean: Labels, labels: Labels, classes: int) -> dict[str, Any]:
    return {
        "size": len(labels),
        "noise_rate": realised_rate(clean, labels),
        "noise_matrix": transition_matrix(clean, labels, classes).counts.tolist(),
    }


def _write_arrays(path: Path, arrays: Mapping[str, NDArray[np.generic]]) -> None:
    """Write an ``.npz`` that depends on the arrays alone: stored, one fixed date, one fixed system."""
    with writing(path), zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(arrays):
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            entry.create_system = 3
            with archive.open(entry, "w") as stream:
                np.lib.format.write_array(stream, np.ascontiguousarray(arrays[name]), allow_pickle=False)
