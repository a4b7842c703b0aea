"""Reading a folder with one folder of images per class, as a whole or in a training and a test part."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from flatmin.data.errors import DataError
from flatmin.data.own.decoding import Form, Progress, listed
from flatmin.data.own.division import (
    OwnData,
    divided_arrays,
    drawn_division,
    given_division,
    in_class_order,
    refuse_few_classes,
)
from flatmin.data.own.listing import content

_TRAIN = "train"
_TEST = ("test", "val", "validation")
"""Names of the test part; the first that is there is taken."""

_LAYOUT = (
    "Lay it out as <folder>/<class>/<image>, or as <folder>/train/<class>/<image> and <folder>/test/<class>/<image>."
)

_ByClass = dict[str, list[Path]]


def read_image_folder(
    folder: Path, *, size: int, channels: int = 3, test_fraction: float = 0.2, progress: Progress | None = None
) -> OwnData:
    """Read the images of a folder.

    With folders ``train`` and ``test`` (or ``val``, or ``validation``), each with a folder for every class, those are
    the division. Otherwise its folders are the classes, and a test part is drawn.

    The result is a function of names and contents: classes are in the order of `in_class_order`, the images of a class
    in order of their file names. Images become what `decoding.decode` says.

    Args:
        folder: The folder.
        size: Height and width of the result, in pixels.
        channels: 3 for colour, 1 for grey.
        test_fraction: The part that is drawn for the test where none is given.
        progress: Told how many images are done, of how many.

    Raises:
        DataError: The folder is not laid out like this, a class has too few images, or a file is no image that can be
            read. Nothing is passed over but hidden files, Thumbs.db and the like.
    """
    form = Form(size, channels)
    train, *tests = _parts(folder) or [folder]
    parts = [train, *tests[:1]]
    images = [_by_class(part, folder) for part in parts]
    classes = _common_classes(folder, parts, images)
    files = [path for part in images for name in classes for path in part[name]]
    labels = np.array([i for part in images for i, name in enumerate(classes) for _ in part[name]], dtype=np.int64)
    if tests:
        division = given_division(
            labels,
            sum(map(len, images[0].values())),
            classes,
            train=str(train),
            test=str(tests[0]),
            split=_given_split(*(path.name for path in tests)),
        )
    else:
        division = drawn_division(labels, classes, test_fraction, str(folder))
    contents = ((path.relative_to(folder).as_posix(), path) for path in files)
    arrays = divided_arrays(contents, labels, division, form, where=str(folder), progress=progress)
    return OwnData(arrays, classes, division.split)


def _parts(folder: Path) -> list[Path]:
    """Return the folders of training and of test images, in this order, if there are both; else none.

    Raises:
        DataError: There is something beside them.
    """
    top = content(folder, folder)
    names = [path.name for path in top.folders]
    tests = [name for name in _TEST if name in names]
    if _TRAIN not in names or not tests:
        return []
    parts = [_TRAIN, *tests]
    if others := [f"{name}/" for name in names if name not in parts] + [path.name for path in top.files]:
        raise DataError(
            f"{folder} holds more than its parts, {' and '.join(parts)}:\n{listed(others)}", f"Move it out. {_LAYOUT}"
        )
    return [folder / name for name in parts]


def _by_class(part: Path, root: Path) -> _ByClass:
    """Return the image files of each class.

    Raises:
        DataError: ``part`` holds anything but class folders, or these anything but files.
    """
    found = content(part, root)
    if not found.folders:
        held = f"{len(found.files)} files directly in it and no folders" if found.files else "nothing in it"
        raise DataError(f"{part} has {held}, so there are no classes", f"Make a folder for each class. {_LAYOUT}")
    if found.files:
        raise DataError(
            f"{part} holds files beside its class folders:\n{listed([path.name for path in found.files])}",
            f"Move them into the folders of their classes, or out. {_LAYOUT}",
        )
    return {folder.name: _files(folder, root) for folder in found.folders}


def _files(folder: Path, root: Path) -> list[Path]:
    found = content(folder, root)
    if found.folders:
        raise DataError(
            f"{folder} would be a class, but has folders in it:\n{listed([f'{path.name}/' for path in found.folders])}",
            f"Give the path of the folder whose folders are the classes, or move the images up. {_LAYOUT}",
        )
    return found.files


def _common_classes(folder: Path, parts: Sequence[Path], images: Sequence[_ByClass]) -> tuple[str, ...]:
    """Return the classes of all parts.

    Raises:
        DataError: There are fewer than two, or a part lacks one or has no images of it.
    """
    classes = in_class_order(name for part in images for name in part)
    refuse_few_classes(classes, str(folder), _LAYOUT)
    problems = [
        f"{(path / name).relative_to(folder)}: {'it has no images' if name in part else 'there is no such folder'}"
        for path, part in zip(parts, images, strict=True)
        for name in classes
        if not part.get(name)
    ]
    if problems:
        raise DataError(
            f"{folder}: class folders are empty or missing:\n{listed(problems)}",
            "Put images there, or remove the class, from both parts if there are two.",
        )
    return classes


def _given_split(test: str, *unused: str) -> str:
    also = f" ({' and '.join(unused)} not used)" if unused else ""
    return f"the folder's own: {_TRAIN} and {test}{also}"
