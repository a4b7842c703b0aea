"""Finds ascents by name: a new one is a new file in ``ascents/``, listed nowhere."""

import difflib
import importlib
import pkgutil
from pathlib import Path

from .ascent import Ascent

_FOLDER = Path(__file__).parent / "ascents"
_PACKAGE = f"{__package__}.ascents"


def names() -> list[str]:
    """Names of all ascents, sorted. Reads the folder; imports none of them."""
    return sorted(module.name for module in pkgutil.iter_modules([str(_FOLDER)]) if not module.name.startswith("_"))


def load(name: str) -> type[Ascent]:
    """The class of an ascent. Imports its module and no other ascent's.

    Args:
        name: one of `names()`, which is also the name of the module.

    Raises:
        ValueError: no ascent has this name.
        TypeError: the module does not define exactly one `Ascent` whose ``name`` is the module's.
    """
    if name not in names():
        nearest = difflib.get_close_matches(name, names(), n=1)
        hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
        raise ValueError(f"no ascent is named {name!r}{hint} (there are: {', '.join(names())})")
    module = importlib.import_module(f"{_PACKAGE}.{name}")
    own = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Ascent) and value.__module__ == module.__name__
    ]
    if [ascent.name for ascent in own] != [name]:
        raise TypeError(f"{module.__file__} must define one Ascent, with name = {name!r}; it defines {own}")
    return own[0]
