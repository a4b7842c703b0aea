"""Manifests of prepared data, and the content hashes in them.

This module imports neither torch nor numpy: planning a study needs the hashes of its data and nothing else of it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flatmin.data.errors import DataError, writing
from flatmin.records import digest_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MANIFEST = "manifest.json"
IMAGES = "_images"
TESTS = "_tests"
STARTS = "_weights"
WEIGHTS = "weights.safetensors"
VERSION = 1

_PREPARE = "Run: dvc repro prepare"
_NUMBER_LIST = re.compile(r"\[[-+.\deE,\s]*\]")


def images_folder(root: Path, source: str) -> Path:
    """Return where the images of a source are kept under ``root``."""
    return root / IMAGES / source


def test_set_folder(root: Path, name: str, source: str) -> Path:
    """Return where a further test set is kept under ``root``; ``source`` is what it is made from, or empty."""
    return root / TESTS / (f"{name}-{source}" if source else name)


def weights_folder(root: Path, name: str) -> Path:
    """Return where weights that runs start from are kept under ``root``."""
    return root / STARTS / name


def draw_folder(root: Path, dataset: str, seed: int) -> Path:
    """Return where a seed's draw of a dataset is kept under ``root``."""
    return root / dataset / f"s{seed}"


def content_hash(arrays: Mapping[str, NDArray[np.generic]]) -> str:
    """Return the SHA-256 over names, data types, shapes and C-ordered values; the order of the mapping is irrelevant.

    The bytes of files play no part, so a hash outlives a change of file format. Arrays must be little-endian.
    """
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name}\x1f{array.dtype.str}\x1f{array.shape}\x1e".encode())
        digest.update(array.data if array.flags.c_contiguous else array.tobytes())
    return digest.hexdigest()


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write ``manifest``, and a digest of it, to ``folder``.

    Sorted keys, a list of numbers on one line, floats in full precision.
    """
    text = json.dumps(
        {**manifest, "digest": _digest(manifest)}, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False
    )
    text = _NUMBER_LIST.sub(lambda match: " ".join(match.group().split()), text)
    path = folder / MANIFEST
    with writing(path):
        path.write_text(text + "\n", encoding="utf-8")


def read_manifest(folder: Path, kind: str) -> dict[str, Any]:
    """Read the manifest in ``folder``, which must be of this ``kind``: images, draw, test_set or weights.

    Raises:
        DataError: It is missing, unreadable, or another kind of manifest.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path} does not exist: this data is not prepared", _PREPARE) from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is not readable: {error}", f"Delete {folder}. {_PREPARE}") from error
    if (
        not isinstance(manifest, dict)
        or manifest.get("kind") != kind
        or manifest.get("version") != VERSION
        or not re.fullmatch(r"[0-9a-f]{64}", str(manifest.get("content_hash")))
    ):
        raise DataError(f"{path} is no manifest of kind {kind!r}, version {VERSION}", f"Delete {folder}. {_PREPARE}")
    if manifest.pop("digest", None) != _digest(manifest):
        raise DataError(f"{path} was changed after it was written", f"Delete {folder}. {_PREPARE}")
    return manifest


def _digest(manifest: Mapping[str, Any]) -> str:
    """Return the hash of a manifest, as a sealed one has it (`flatmin.records.seal`)."""
    return digest_of(json.loads(json.dumps(manifest)))


def data_hash(root: Path, dataset: str, source: str, seed: int) -> str:
    """Return one hash of all that a run reads: the source's images, labels and channel statistics, the seed's draw.

    Names play no part: two datasets with the same content have the same hash. Reads two manifests and no array.

    Raises:
        DataError: A manifest is missing or unreadable.
    """
    images = read_manifest(images_folder(root, source), "images")
    normalisation = json.dumps([images.get("mean"), images.get("std")])
    draw = read_manifest(draw_folder(root, dataset, seed), "draw")["content_hash"]
    return hashlib.sha256(f"{images['content_hash']}\x1f{normalisation}\x1f{draw}".encode()).hexdigest()
