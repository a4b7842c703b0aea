"""The corruptions that there are: the modules of this folder."""

from __future__ import annotations

import difflib
import importlib
from pathlib import Path

from flatmin.data.corruptions.corruption import Corruption
from flatmin.data.errors import DataError

MAIN = (
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
)
"""The fifteen that the mean corruption error is over, in the published order."""

EXTRA = ("speckle_noise", "gaussian_blur", "spatter", "saturate")
"""The four that the authors keep for validation."""

_NOT_CORRUPTIONS = {"corruption", "registry", "suite"}


def names() -> tuple[str, ...]:
    """Return the names of all corruptions, sorted, without importing any.

    Modules with a leading underscore are what several corruptions, or the steps of one, are made of.
    """
    stems = (path.stem for path in Path(__file__).parent.glob("*.py"))
    return tuple(sorted(stem for stem in stems if not stem.startswith("_") and stem not in _NOT_CORRUPTIONS))


def load(name: str) -> Corruption:
    """Return the corruption ``name``.

    Raises:
        DataError: There is none of that name (the nearest is suggested), or its module does not define it.
    """
    known = names()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        raise DataError(
            f"no corruption is called {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""),
            f"Use one of {', '.join(known)}, or add flatmin/data/corruptions/{name}.py.",
        )
    corruption = getattr(importlib.import_module(f"flatmin.data.corruptions.{name}"), "CORRUPTION", None)
    if not isinstance(corruption, Corruption) or corruption.name != name:
        raise DataError(
            f"flatmin/data/corruptions/{name}.py defines no CORRUPTION named {name!r}",
            "Define CORRUPTION = Corruption(name=...).",
        )
    return corruption
