"""Finds ascents by name: a new one is a new file in ``ascents/``, listed nowhere. Sorts a method's options."""

import dataclasses
import difflib
import importlib
import pkgutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .ascent import Ascent, NeighborhoodAscent
from .regime import Regime
from .rho_schedule import RhoSchedule

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
        raise ValueError(f"no ascent is named {name!r}{_nearest(name, names())} (there are: {', '.join(names())})")
    module = importlib.import_module(f"{_PACKAGE}.{name}")
    own = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Ascent) and value.__module__ == module.__name__
    ]
    if [ascent.name for ascent in own] != [name]:
        raise TypeError(f"{module.__file__} must define one Ascent, with name = {name!r}; it defines {own}")
    return own[0]


@dataclass(frozen=True)
class Method:
    """A method in full: where to, how it is put to use, and how rho changes over the run."""

    ascent: Ascent
    regime: Regime
    schedule: RhoSchedule


def configured(name: str, **options: Any) -> Method:
    """A method from the name of its ascent and the options of all three of its parts, by name.

    Example:
        >>> configured("sam", rho=0.5, every=10, rho_warmup=0.1)

    Raises:
        ValueError: no ascent has this name, or none of the parts has an option of one of these names.
    """
    ascent = load(name)
    parts = [ascent, Regime, RhoSchedule] if issubclass(ascent, NeighborhoodAscent) else [ascent]
    fields = {part: {field.name for field in dataclasses.fields(part)} for part in parts}
    known = set().union(*fields.values())
    for unknown in options.keys() - known:
        there = f" (there are: {', '.join(sorted(known))})" if known else " (it has none)"
        raise ValueError(f"{name} has no option {unknown!r}{_nearest(unknown, known)}{there}")
    made = [part(**{key: options[key] for key in options.keys() & fields[part]}) for part in parts]
    return Method(*made, *(part() for part in (Regime, RhoSchedule)[len(made) - 1 :]))


def _nearest(name: str, known: Iterable[str]) -> str:
    nearest = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {nearest[0]!r}?" if nearest else ""
