"""What the packages of ascents and models define, read from their source files without importing them.

Importing timm takes four seconds and torch two; a plan, and a stage that finds everything up to date, need their names
and defaults and nothing else. A test compares what is read here with what the imported classes say.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent
ASCENTS = ROOT / "optim" / "ascents"
USES = (ROOT / "optim" / "regime.py", ROOT / "optim" / "rho_schedule.py")
"""The files whose options every ascent that has a rho shares: how it is put to use, and how rho changes."""
MODELS = ROOT / "models"


@dataclass(frozen=True)
class Option:
    """An option that an ascent or its regime declares, as ``flatmin.optim.options.option`` does.

    Attributes:
        default: its value where the study gives none.
        introduced: the value it had when it was introduced; a run's key leaves it out at this value alone.
        at_least: the smallest number that it may be, or None.
        above: a number that it must be larger than, or None.
        at_most: the largest number that it may be, or None.
        choices: the words that it may be, or None.
    """

    default: Any
    introduced: Any
    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    choices: tuple[str, ...] | None = None

    @property
    def is_number(self) -> bool:
        """Whether the option is a number; a whole one if its default is."""
        return any(limit is not None for limit in (self.at_least, self.above, self.at_most))

    def read(self, value: Any) -> Any:
        """Return a value that the study wrote; one that is a number, as that kind of number.

        What pydantic does for the settings that a section declares: ``1`` is 1.0, and so is what YAML 1.1 reads as
        text and YAML 1.2 as a number (``1e-3``). What is no number is left as it is, for `problem` to refuse.
        """
        if not self.is_number or isinstance(value, bool) or not isinstance(value, str | int):
            return value
        try:
            return type(self.default)(value)
        except OverflowError:
            return math.inf
        except (ValueError, TypeError):
            return value

    def problem(self, value: object) -> str | None:
        """Return what is wrong with a value, or None."""
        if self.is_number and not self._fits(value):
            limits = [("of at least", self.at_least), ("above", self.above), ("of at most", self.at_most)]
            wanted = " and ".join(f"{words} {limit:g}" for words, limit in limits if limit is not None)
            return f"must be a {'whole' if type(self.default) is int else 'finite'} number {wanted}"
        if self.choices is not None and value not in self.choices:
            return f"must be one of {', '.join(self.choices)}"
        return None

    def _fits(self, value: object) -> bool:
        kinds = int if type(self.default) is int else int | float
        return (
            isinstance(value, kinds)
            and not isinstance(value, bool)
            and math.isfinite(value)
            and (self.at_least is None or value >= self.at_least)
            and (self.above is None or value > self.above)
            and (self.at_most is None or value <= self.at_most)
        )


@cache
def ascents(folder: Path = ASCENTS) -> Mapping[str, Mapping[str, Option]]:
    """Return the options of every ascent: one file each, options in the order of their declaration.

    Behind the own options of an ascent with a rho stand those of its regime and of rho's schedule.
    """
    files = [path for path in sorted(folder.glob("*.py")) if not path.stem.startswith("_")]
    own = {path.stem: dict(_options(path)) for path in files}
    uses = dict(option for path in USES for option in _options(path))
    return {name: {**options, **uses} if "rho" in options else options for name, options in own.items()}


def _options(path: Path) -> Iterator[tuple[str, Option]]:
    for node in ast.walk(_parse(path)):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and _calls(node.value, "option"):
            assert isinstance(node.value, ast.Call)
            positional = [ast.literal_eval(argument) for argument in node.value.args]
            named = {k.arg: ast.literal_eval(k.value) for k in node.value.keywords if k.arg}
            yield node.target.id, Option(*positional, **named)


def _calls(node: ast.expr | None, function: str) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == function


@cache
def models(folder: Path = MODELS) -> Mapping[str, Path]:
    """Return the file that registers each model of ours with timm, by the model's names.

    Raises:
        ValueError: two files register one name.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.glob("*.py")):
        for name in chain.from_iterable(_registered(path)):
            if name in found:
                raise ValueError(f"the model {name!r} is registered twice: in {found[name]} and in {path}")
            found[name] = path
    return found


@cache
def synonyms(folder: Path = MODELS) -> Mapping[str, tuple[str, ...]]:
    """Return the further names of each model of ours, by its first: that of the function that builds it."""
    return {first: tuple(others) for path in sorted(folder.glob("*.py")) for first, *others in _registered(path)}


def papers_name(name: str) -> str:
    """Return the name that papers use for a model of ours, its first synonym, and any other name as it is."""
    return next(iter(synonyms().get(name, ())), name)


def _registered(path: Path) -> Iterator[list[str]]:
    """Yield the names of each model that a file registers: of a function with ``@register_model``, then synonyms."""
    for node in _parse(path).body:
        if isinstance(node, ast.FunctionDef) and any(_name(d) == "register_model" for d in node.decorator_list):
            calls = [d for d in node.decorator_list if isinstance(d, ast.Call) and _name(d.func) == "synonym"]
            yield [node.name, *(ast.literal_eval(call.args[0]) for call in calls)]


def _name(function: ast.expr) -> str | None:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", None)


def _parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
