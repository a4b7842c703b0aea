"""Pydantic errors as problems of ``params.yaml``: the path as the file has it, the value, the nearest valid key."""

from __future__ import annotations

import difflib
import re
import types
import typing
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel

from flatmin.errors import Problem, nearest

Key = str | int
"""A step into the file: a mapping's key, or a list's index."""

NAME_RULE = "a name may hold a-z, 0-9, _ and -, and starts with a letter or digit"


def problems_of(model: type[BaseModel], errors: Iterable[Any], prefix: tuple[str, ...] = ()) -> list[Problem]:
    """Turn pydantic errors into problems, one per place.

    Where a value fits none of several alternatives (a number or ``selected``), pydantic has an error for each; where an
    item of a list is refused, it may have one for the list that is empty without it.
    """
    places: dict[tuple[Key, ...], list[Any]] = {}
    for error in errors:
        places.setdefault(place_of(model, error), []).append(error)
    emptied = [p for p, (e, *_) in places.items() if e["type"] == "too_short" and any(p == q[:-1] for q in places)]
    return [_problem(model, place, found, prefix) for place, found in places.items() if place not in emptied]


def problem_of(model: type[BaseModel], error: Any, prefix: tuple[str, ...] = ()) -> Problem:
    """Turn one pydantic error into a problem."""
    return problems_of(model, [error], prefix)[0]


def place_of(model: type[BaseModel], error: Any) -> tuple[Key, ...]:
    """Return where an error's value is, or should be, in the file."""
    place = _walk(model, error["loc"]).place
    return (*place, "kind") if error["type"].startswith("union_tag") else place


def shown(place: Sequence[Key]) -> str:
    """Return a place as messages name it, such as ``tables.quick.seeds[0]``."""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in place).removeprefix(".")


def _problem(model: type[BaseModel], place: tuple[Key, ...], errors: Sequence[Any], prefix: tuple[str, ...]) -> Problem:
    error, kind, path = errors[0], errors[0]["type"], shown([*prefix, *place])
    if error["loc"] and error["loc"][-1] == "[key]":
        fix = "" if isinstance(error["input"], str) else "put it in quotes: YAML reads it as something else"
        return Problem(path, f"{error['input']!r} is no name: {NAME_RULE}", fix)
    if kind == "invalid_key":
        return Problem(path, "unknown key", "keys are words")
    if kind == "extra_forbidden":
        owner = _walk(model, error["loc"]).owner
        return Problem(path, "unknown key", nearest(place[-1], owner.model_fields if owner else ()))
    if kind in ("missing", "union_tag_not_found"):
        return Problem(path, "is required", _missing_hint(place, error, _walk(model, error["loc"])))
    if kind == "union_tag_invalid":
        # "name" is how a source without a section is told from one with it
        return _of_alternatives(path, error["ctx"]["tag"], error["ctx"]["expected_tags"].replace("'name', ", ""))
    if kind == "literal_error" and len(errors) == 1:
        return _of_alternatives(path, error["input"], error["ctx"]["expected"])
    reasons = " or ".join(dict.fromkeys(_reason(e) for e in errors)).replace(" or must be ", " or ")
    if kind == "value_error" and isinstance(error["input"], dict):
        return Problem(path, reasons)  # about several settings together
    return Problem(path, f"{error['input']!r} is not valid: {reasons}")


def _reason(error: Any) -> str:
    if error["type"] == "too_short":
        return f"must hold at least {error['ctx']['min_length']}"
    message = error["msg"].removeprefix("Value error, ")
    message = re.sub(r"^Input should be (.*?)(, unable to parse.*)?$", r"must be \1", message)
    return message[0].lower() + message[1:]


def _of_alternatives(path: str, value: object, listed: str) -> Problem:
    """A word that is none of those ``listed``, each in quotes."""
    words = re.findall(r"'([^']*)'", listed)
    last = f"{', '.join(map(repr, words[:-1]))} or {words[-1]!r}" if words[1:] else repr(words[0])
    close = difflib.get_close_matches(str(value), words)
    return Problem(path, f"{value!r} is not valid: must be {last}", nearest(value, words) if close else "")


def _missing_hint(place: Sequence[Key], error: Any, walked: _Walked) -> str:
    if place[-1] == "definition":
        return (
            "any-class: drawn over all classes, so that a nominal 40% changes 36% of the labels of ten classes; "
            "another-class: drawn over the other classes, so that 40% changes 40%"
        )
    if error["type"] == "union_tag_not_found":
        return f"valid: {', '.join(tag for member in _models(walked.annotation) if (tag := _tag(member)))}"
    written = error["input"] if isinstance(error["input"], dict) else ()
    unknown = [key for key in written if isinstance(key, str) and walked.owner and key not in walked.owner.model_fields]
    close = difflib.get_close_matches(str(place[-1]), unknown, n=1)
    return f"is {close[0]!r} meant to be {place[-1]!r}?" if close else ""


class _Walked(NamedTuple):
    """Where an error's location leads: the place in the file, the model that owns its last key, what belongs there."""

    place: tuple[Key, ...]
    owner: type[BaseModel] | None
    annotation: Any


def _walk(model: type[BaseModel], loc: Sequence[Key]) -> _Walked:
    """Follow an error's location."""
    place: list[Key] = []
    owner: type[BaseModel] | None = model
    here: Any = model
    for step in loc:
        if step == "[key]":
            break
        members = _models(here)
        if len(members) > 1:  # pydantic inserts the tag of a discriminated union, which the file does not have
            tagged = [m for m in members if _tag(m) == step]
            here = owner = tagged[0] if tagged else None
            continue
        if (isinstance(step, str) and "[" in step) or (not members and isinstance(step, str) and _is_union(here)):
            continue  # a branch of a plain union, such as constrained-float or literal['selected']
        is_key = isinstance(step, str) or any(typing.get_origin(m) is dict for m in _members(here))
        place.append(str(step) if is_key else step)
        if members:
            owner = members[0]
            info = owner.model_fields.get(str(step))
            here = info.annotation if info else None
        else:
            here = _element(here)
    return _Walked(tuple(place), owner, here)


def _models(annotation: Any) -> list[type[BaseModel]]:
    """Return the alternatives of an annotation that are sections of the file."""
    return [m for m in _members(annotation) if isinstance(m, type) and issubclass(m, BaseModel)]


def _members(annotation: Any) -> list[Any]:
    """Return the alternatives of an annotation, without Annotated and None."""
    origin = typing.get_origin(annotation)
    if origin is Annotated:
        return _members(typing.get_args(annotation)[0])
    if _is_union(annotation):
        return [m for arg in typing.get_args(annotation) if arg is not type(None) for m in _members(arg)]
    return [annotation]


def _is_union(annotation: Any) -> bool:
    return typing.get_origin(annotation) in (typing.Union, types.UnionType)


def _element(annotation: Any) -> Any:
    for member in _members(annotation):
        args = typing.get_args(member)
        if args:
            return args[-1] if typing.get_origin(member) is dict else args[0]
    return None


def _tag(model: type[BaseModel]) -> str | None:
    kind = model.model_fields.get("kind")
    return typing.get_args(kind.annotation)[0] if kind is not None else None
