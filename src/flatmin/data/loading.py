"""Reading prepared data in the process that trains.

Images are memory-mapped and kept for the life of the process: a worker reads and checks them once for all its runs, and
on a CPU all workers of a machine share the same pages.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flatmin.data.errors import DataError
from flatmin.data.manifest import content_hash, draw_folder, images_folder, read_manifest
from flatmin.data.stored import changed, read_stored, read_stored_archive

_IMAGE_ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")


@dataclass(frozen=True)
class Split:
    """One part of a dataset, on one device: some images of its source, and their labels.

    Attributes:
        pool: Uint8 [N, c, h, w], all images that the part is taken from: shared by all loads of a process, and on a CPU
            by all processes of the machine. Never write to them.
        indices: Int64 [n], which of them are in the part; None for all.
        labels: Int64 [n], as the run sees them.
        clean_labels: Int64 [n], as the source gives them; the same tensor as ``labels`` where there is no noise.
    """

    pool: Tensor
    indices: Tensor | None
    labels: Tensor
    clean_labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, positions: Tensor | slice) -> Tensor:
        """Return the images at some positions of the part, uint8 [m, c, h, w]."""
        if isinstance(positions, slice):
            return self.pool[positions] if self.indices is None else self.pool[self.indices[positions]]
        # twenty times as fast as an index in brackets, for a batch of CIFAR's
        return self.pool.index_select(0, positions if self.indices is None else self.indices[positions])

    @property
    def images(self) -> Tensor:
        """All images of the part, uint8 [n, c, h, w], copied where they are a choice."""
        return self.take(slice(None))


@dataclass(frozen=True)
class LoadedData:
    """All that a run reads.

    Attributes:
        train: The run's training part.
        validation: Its held-out part.
        test: The source's test set, whose labels are always clean.
        mean: Float32 [c], of all training images of the *source* (validation part included), divided by 255.
        std: Float32 [c], likewise.
        classes: Class names by label.
    """

    train: Split
    validation: Split
    test: Split
    mean: Tensor
    std: Tensor
    classes: tuple[str, ...]


def load(root: Path, dataset_name: str, source_name: str, seed: int, device: str | torch.device = "cpu") -> LoadedData:
    """Load one seed's draw of a dataset onto ``device``.

    Args:
        root: The folder of prepared data.
        dataset_name: The dataset's name in the study.
        source_name: The source of its images.
        seed: The run's seed.
        device: Where the tensors are put.

    Raises:
        DataError: Something is not prepared, or its content is not what its manifest says.
    """
    folder = images_folder(root, source_name)
    source = read_manifest(folder, "images")
    images = _images(str(folder.resolve()), source["content_hash"], str(torch.device(device)))
    draw = _read_draw(draw_folder(root, dataset_name, seed), source["content_hash"])

    def part(name: str) -> Split:
        return Split(
            pool=images["train_images"],
            indices=_on(draw[f"{name}_indices"], device),
            labels=_on(draw[f"{name}_labels"], device),
            clean_labels=_on(draw[f"{name}_clean_labels"], device),
        )

    return LoadedData(
        train=part("train"),
        validation=part("validation"),
        test=Split(images["test_images"], None, images["test_labels"], images["test_labels"]),
        mean=torch.tensor(source["mean"], dtype=torch.float32, device=device),
        std=torch.tensor(source["std"], dtype=torch.float32, device=device),
        classes=tuple(source["classes"]),
    )


def _on(array: NDArray[np.generic], device: str | torch.device) -> Tensor:
    return torch.from_numpy(array).to(device)


@lru_cache(maxsize=4)
def _images(folder: str, expected_hash: str, device: str) -> dict[str, Tensor]:
    """Return a source's arrays on a device. The hash is part of the key: images prepared anew are read anew."""
    arrays = {name: read_stored(Path(folder) / f"{name}.npy") for name in _IMAGE_ARRAYS}
    if content_hash(arrays) != expected_hash:
        raise changed(Path(folder))
    return {name: _on(array, device) for name, array in arrays.items()}


def _read_draw(folder: Path, images_hash: str) -> dict[str, NDArray[np.generic]]:
    manifest = read_manifest(folder, "draw")
    if manifest.get("images_hash") != images_hash:
        raise DataError(f"{folder} was drawn from other images than those prepared now", "Run: dvc repro prepare")
    arrays = read_stored_archive(folder / "arrays.npz")
    if content_hash(arrays) != manifest["content_hash"]:
        raise changed(folder)
    return arrays
