"""Reading parquet files of encoded images and their labels, as Hugging Face's datasets are stored."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flatmin.data.errors import DataError
from flatmin.data.own.decoding import Form, Progress, is_html, listed
from flatmin.data.own.division import (
    OwnData,
    divided_arrays,
    drawn_division,
    given_division,
    in_class_order,
    refuse_few_classes,
)
from flatmin.data.stratified import Labels

_ROWS_AT_A_TIME = 32


@dataclass(frozen=True)
class _Column:
    """The labels of a file: all integers or all strings, and the names in its metadata, if it has any."""

    path: Path
    values: list[int] | list[str]
    names: tuple[str, ...] | None

    @property
    def kind(self) -> str:
        return "strings" if self.values and isinstance(self.values[0], str) else "integers"


def read_parquet(
    train: Sequence[Path],
    test: Sequence[Path],
    *,
    size: int,
    channels: int = 3,
    image: str = "image",
    label: str = "label",
    test_fraction: float = 0.2,
    progress: Progress | None = None,
) -> OwnData:
    """Read the images of parquet files, in the order of files and rows.

    Images are bytes, or a struct with the field ``bytes`` (its ``path`` is not looked at). Labels are integers from 0,
    or names. The class names of integers are those of the ClassLabel in the metadata that Hugging Face's ``datasets``
    writes, by value; without it, the distinct values, in ascending order. Names are in the order of `in_class_order`.

    Labels are read first, then the images in batches of rows. They become what `decoding.decode` says.

    Args:
        train: Files of training images, or of all images.
        test: Files of test images; if there are none, a test part is drawn from ``train``.
        size: Height and width of the result, in pixels.
        channels: 3 for colour, 1 for grey.
        image: The column of images.
        label: The column of labels.
        test_fraction: The part that is drawn for the test if ``test`` is empty.
        progress: Told how many images are done, of how many.

    Raises:
        DataError: A file is no readable parquet file, lacks a column, or has null or impossible values in one; files
            disagree on the classes; a class has too few images; or an image cannot be read.
    """
    form = Form(size, channels)
    if not train:
        raise DataError("there is no parquet file of training images", "Give at least one.")
    columns = [_read_labels(path, image, label) for path in (*train, *test)]
    training_images = sum(len(column.values) for column in columns[: len(train)])
    where = str(train[0]) if len(columns) == 1 else f"{train[0]} and {len(columns) - 1} more"
    labels, classes = _encoded(columns, where)
    refuse_few_classes(classes, where)
    if test:
        split = f"the files given: {_names(train)} to train, {_names(test)} to test"
        division = given_division(labels, training_images, classes, train=_names(train), test=_names(test), split=split)
    else:
        division = drawn_division(labels, classes, test_fraction, where)
    contents = (row for path in (*train, *test) for row in _images(path, image))
    arrays = divided_arrays(contents, labels, division, form, where=where, progress=progress)
    return OwnData(arrays, classes, division.split)


def _names(paths: Sequence[Path]) -> str:
    return ", ".join(path.name for path in paths)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a parquet file, and turn what is wrong with it, then or later, into an error that names it.

    Raises:
        DataError: It does not exist, cannot be read, is no parquet file, or is damaged.
    """
    import pyarrow as pa  # type: ignore[import-untyped]  # slow to import, and needed nowhere else
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    try:
        with pq.ParquetFile(path) as file:
            yield file
    except FileNotFoundError:
        raise DataError(f"there is no file {path}", "Correct the path, or put the file there.") from None
    except (pa.ArrowException, OSError) as error:
        if _starts_like_html(path):
            raise DataError(
                f"{path} is a web page (HTML), not a parquet file", "Download the file itself, not the page about it."
            ) from None
        raise DataError(
            f"{path} is no parquet file that can be read ({error})", "Replace it by an undamaged one."
        ) from error


def _starts_like_html(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return is_html(stream.read(1024))
    except OSError:
        return False


def _read_labels(path: Path, image: str, label: str) -> _Column:
    import pyarrow as pa

    with _opened(path) as file:
        schema = file.schema_arrow
        if missing := [name for name in (image, label) if name not in schema.names]:
            raise DataError(
                f"{path} has no column {' and no column '.join(map(repr, missing))}; it has "
                f"{', '.join(map(repr, schema.names)) or 'none'}",
                "Name the columns of images and labels with the settings image and label.",
            )
        _refuse_image_type(path, image, schema.field(image).type)
        column = file.read(columns=[label]).column(label)
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        kind = column.type
        if not (pa.types.is_integer(kind) or _is_string(kind)):
            raise DataError(
                f"{path}: the labels in column {label!r} are of type {kind}", "Store integers from 0, or class names."
            )
        values = column.to_pylist()
    _refuse_rows(path, label, "null", [row for row, value in enumerate(values) if value is None])
    if not _is_string(kind):
        _refuse_rows(path, label, "negative", [row for row, value in enumerate(values) if value < 0])
    return _Column(path, values, _names_in_metadata(schema.metadata, label))


def _is_string(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_binary(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def _refuse_image_type(path: Path, image: str, kind: Any) -> None:
    import pyarrow as pa

    has_bytes = pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0 and _is_binary(kind.field("bytes").type)
    if not (has_bytes or _is_binary(kind)):
        raise DataError(
            f"{path}: column {image!r} is of type {kind}",
            "Store the bytes of image files: a binary column, or a struct with a binary field 'bytes'.",
        )


def _refuse_rows(path: Path, column: str, what: str, rows: list[int]) -> None:
    if rows:
        first = ", ".join(map(str, rows[:10])) + (", ..." if len(rows) > 10 else "")
        raise DataError(
            f"{path}: {len(rows)} values in column {column!r} are {what} (rows from 0: {first})",
            "Remove these rows, or correct them. Test files whose labels are kept secret are of no use here.",
        )


def _names_in_metadata(metadata: dict[bytes, bytes] | None, label: str) -> tuple[str, ...] | None:
    """Return the names of the ClassLabel that Hugging Face's ``datasets`` stored for a column, if it did."""
    try:
        names = json.loads((metadata or {})[b"huggingface"])["info"]["features"][label]["names"]
    except (KeyError, TypeError, ValueError):  # no such metadata, or of another kind of label
        return None
    return tuple(map(str, names)) if isinstance(names, list) else None


def _encoded(columns: Sequence[_Column], where: str) -> tuple[Labels, tuple[str, ...]]:
    """Return the labels of all files as int64 [n], and the class names.

    Raises:
        DataError: Files disagree, or a label has no name.
    """
    kinds = {column.kind for column in columns if column.values}
    names = {column.names for column in columns if column.names is not None}
    if len(kinds) > 1 or len(names) > 1:
        lines = [f"{column.path}: {column.kind}, names {column.names}" for column in columns]
        raise DataError(
            f"the files disagree on what the labels are:\n{listed(lines)}", "Store them alike in all files."
        )
    number: dict[Any, int]
    values: list[Any] = [value for column in columns for value in column.values]
    if kinds == {"strings"}:
        classes = in_class_order(values)
        number = {name: index for index, name in enumerate(classes)}
    elif names:
        classes = names.pop()
        number = {index: index for index in range(len(classes))}
        if unnamed := sorted(set(values) - set(number)):
            raise DataError(
                f"{where}: the metadata name {len(classes)} classes, and there are labels beyond: {unnamed[:10]}",
                "Correct the labels or the metadata.",
            )
    else:
        distinct = sorted(set(values))
        classes = tuple(map(str, distinct))
        number = {value: index for index, value in enumerate(distinct)}
    return np.array([number[value] for value in values], dtype=np.int64), classes


def _images(path: Path, image: str) -> Iterator[tuple[str, bytes | None]]:
    """Yield a name and the bytes of every row's image."""
    import pyarrow as pa
    import pyarrow.compute as pc  # type: ignore[import-untyped]

    row = 0
    with _opened(path) as file:
        is_struct = pa.types.is_struct(file.schema_arrow.field(image).type)
        column = f"{image}.bytes" if is_struct else image
        for batch in file.iter_batches(_ROWS_AT_A_TIME, columns=[column], use_threads=False):
            values = batch.column(0)
            for content in (pc.struct_field(values, "bytes") if is_struct else values).to_pylist():
                yield f"{path.name}, row {row}", content
                row += 1
