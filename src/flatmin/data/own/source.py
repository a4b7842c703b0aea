"""A user's own images as ``params.yaml`` describes them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from flatmin.data.errors import DataError
from flatmin.data.own.division import OwnData
from flatmin.data.own.image_folder import read_image_folder
from flatmin.data.own.listing import fingerprint
from flatmin.data.own.parquet import read_parquet
from flatmin.records import file_digest
from flatmin.settings import ImageFolder, OwnImages, Parquet

_TEST = ("test", "val")


def read_own(spec: OwnImages, root: Path, progress: Callable[[int, int], None] | None = None) -> OwnData:
    """Read the images that ``spec`` describes.

    Args:
        spec: An `ImageFolder` or a `Parquet`.
        root: The study's folder, which a relative path starts from.
        progress: Told how many images are done, of how many.

    Raises:
        DataError: They cannot be read, or not be used.
    """
    path = located(spec, root)
    if isinstance(spec, ImageFolder):
        return read_image_folder(
            path, size=spec.size, channels=spec.channels, test_fraction=spec.test_fraction, progress=progress
        )
    assert isinstance(spec, Parquet)
    files = _parquet_files(path)
    test = [file for file in files if path.is_dir() and file.name.lower().startswith(_TEST)]
    return read_parquet(
        [file for file in files if file not in test],
        test,
        size=spec.size,
        channels=spec.channels,
        image=spec.image,
        label=spec.label,
        test_fraction=spec.test_fraction,
        progress=progress,
    )


def fingerprint_of(spec: OwnImages, root: Path) -> str:
    """Return a hash of the names and contents of the files that ``spec`` describes.

    Raises:
        DataError: There are none.
    """
    path = located(spec, root)
    if isinstance(spec, ImageFolder):
        return fingerprint(path)
    digests = [f"{file.name}\0{file_digest(file)}" for file in _parquet_files(path)]
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def located(spec: OwnImages, root: Path) -> Path:
    """Return where the images lie; ``~`` is the user's home."""
    return root / Path(spec.path).expanduser()


def _parquet_files(path: Path) -> list[Path]:
    """Return the parquet files of a path: itself, or those directly in the folder that it is, sorted by name."""
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if not all(file.is_file() for file in files) or not files:
        raise DataError(
            f"there is no parquet file at {path}", "Give the path of a .parquet file, or of a folder with some in it."
        )
    return files
