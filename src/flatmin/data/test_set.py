"""What a further test set is: images, or judgements, that runs are measured on beside their source's own test set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from flatmin.data.published import Published


class LabelledImages(NamedTuple):
    """Images uint8 [n, c, h, w] and labels int64 [n]."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class TestSet(Published):
    """Base of all: its name is also that of the module that defines it.

    Attributes:
        title: What tables call it.
        source: The source whose classes it has and whose runs are measured on it; empty for any.
    """

    __test__ = False  # no test class, whatever its name

    title: str
    source: str

    def fits(self, source: str) -> bool:
        """Return whether runs on a source are measured on it."""
        return self.source in ("", source)

    def title_for(self, source: str) -> str:
        """Return what tables call it in a row on ``source``."""
        return self.title.format(source=source)


@dataclass(frozen=True, kw_only=True)
class NewImages(TestSet):
    """New images of a source's classes.

    Attributes:
        read: Makes the images from a folder that holds the verified members.
    """

    read: Callable[[Path], LabelledImages]


@dataclass(frozen=True, kw_only=True)
class HumanJudgements(TestSet):
    """What people see in the source's own test images.

    Attributes:
        read: Makes the probabilities, float64 [n, classes] in the order of the test images, from the verified members.
    """

    read: Callable[[Path], NDArray[np.float64]]


@dataclass(frozen=True, kw_only=True)
class Corruptions(TestSet):
    """The source's own test images, corrupted: by severity, then in their order.

    Where it is published, ``<corruption>.npy`` is uint8 [5 n, h, w, c] and ``labels.npy`` has the 5 n labels. Without
    archives, it is made here (`flatmin.data.corruptions`), in the same layout.
    """

    @property
    def generated(self) -> bool:
        """Whether it is made here."""
        return not self.archives
