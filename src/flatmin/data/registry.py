"""Folders of modules that define one thing each: a new module is a new thing."""

from __future__ import annotations

import difflib
import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from flatmin.data.errors import DataError


class _Named(Protocol):
    @property
    def name(self) -> str: ...


T = TypeVar("T", bound=_Named)


@dataclass(frozen=True)
class Registry(Generic[T]):
    """The modules of one package, each of which defines a thing of its own name.

    Attributes:
        package: The package's dotted name.
        what: What the things are called in messages.
        constant: What a module calls its thing.
        kind: The class of the things.
        example: The class to define in a module, where that is not ``kind`` itself.
        others: Modules of the package that define none. Those with a leading underscore do not either.
    """

    package: str
    what: str
    constant: str
    kind: type[T]
    example: str = ""
    others: frozenset[str] = frozenset({"registry"})

    def names(self) -> tuple[str, ...]:
        """Return the names of all things, sorted, without importing any of their modules."""
        folders = importlib.import_module(self.package).__path__
        stems = (path.stem for folder in folders for path in Path(folder).glob("*.py"))
        return tuple(sorted(stem for stem in stems if not stem.startswith("_") and stem not in self.others))

    def load(self, name: str) -> T:
        """Return the thing ``name``.

        Raises:
            DataError: There is none of that name (the nearest is suggested), or its module does not define it.
        """
        known, file = self.names(), f"{self.package.replace('.', '/')}/{name}.py"
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise DataError(
                f"no {self.what} is called {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""),
                f"Use one of {', '.join(known)}, or add {file}.",
            )
        found = getattr(importlib.import_module(f"{self.package}.{name}"), self.constant, None)
        if not isinstance(found, self.kind) or found.name != name:
            raise DataError(
                f"{file} defines no {self.constant} named {name!r}",
                f"Define {self.constant} = {self.example or self.kind.__name__}(name=...).",
            )
        return found
