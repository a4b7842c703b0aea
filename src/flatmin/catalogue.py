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
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent
ASCENTS = ROOT / "optim" / "ascents"
MODELS = ROOT / "models"


@dataclass(frozen=True)
class Option:
    """An option that an ascent declares, as ``flatmin.optim.ascent.option`` does.

    Attributes:
        default: its value where the study gives none.
        introduced: the value it had when it was introduced; a run's key leaves it out at this value alone.
        at_least: the smallest number that it may be, or None where it is no number.
        choices: the words that it may be, or None.
    """

    default: Any
    introduced: Any
    at_least: float | None = None
    choices: tuple[str, ...] | None = None

    def read(self, value: Any) -> Any:
        """Return a value that the study wrote; one that is a number, as that kind of number.

        What pydantic does for the settings that a section declares: ``1`` is 1.0, and so is what YAML 1.1 reads as
        text and YAML 1.2 as a number (``1e-3``). What is no number is left as it is, for `problem` to refuse.
        """
        if self.at_least is None or isinstance(value, bool) or not isinstance(value, str | int):
            return value
        try:
            return type(self.default)(value)
        except OverflowError:
            return math.inf
        except (ValueError, TypeError):
            return value

    def problem(self, value: object) -> str | None:
        """Return what is wrong with a value, or None."""
        if self.at_least is not None:
            number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
            if not number or value < self.at_least:  # type: ignore[operator]
                return f"must be a finite number of at least {self.at_least:g}"
        if self.choices is not None and value not in self.choices:
            return f"must be one of {', '.join(self.choices)}"
        return None


@cache
def ascents(folder: Path = ASCENTS) -> Mapping[str, Mapping[str, Option]]:
    """Return the options of every ascent: one file each, options in the order of their declaration."""
    return {path.stem: dict(_options(path)) for path in sorted(folder.glob("*.py")) if not path.stem.startswith("_")}


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
    """Return the file that registers each model of ours with timm, by the model's name.

    Raises:
        ValueError: two files register one name.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.glob("*.py")):
        for name in _registered(path):
            if name in found:
                raise ValueError(f"the model {name!r} is registered twice: in {found[name]} and in {path}")
            found[name] = path
    return found


def _registered(path: Path) -> Iterator[str]:
    for node in _parse(path).body:
        if isinstance(node, ast.FunctionDef) and any(_is_register(d) for d in node.decorator_list):
            yield node.name


def _is_register(decorator: ast.expr) -> bool:
    name = decorator.attr if isinstance(decorator, ast.Attribute) else getattr(decorator, "id", None)
    return name == "register_model"


def _parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
