"""A pydantic error as a problem of ``params.yaml``: the path as the file has it, the value, the nearest valid key."""

from __future__ import annotations

import types
import typing
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BaseModel

from flatmin.errors import Problem, nearest


def problem_of(model: type[BaseModel], error: Any, prefix: tuple[str, ...] = ()) -> Problem:
    """Turn one pydantic error into a problem: path without union tags, the value, the nearest valid key."""
    path, owner = _walk(model, error["loc"])
    shown = ".".join([*prefix, *path])
    if error["type"] == "extra_forbidden":
        return Problem(shown, "unknown key", nearest(path[-1], owner.model_fields if owner else ()))
    if error["type"] == "missing":
        return Problem(shown, "is required", _definition_hint(path))
    if error["type"] == "string_pattern_mismatch" and error["loc"][-1] == "[key]":
        return Problem(shown, "a name may hold a-z, 0-9, _ and -, and starts with a letter or digit")
    value = error.get("input")
    message = error["msg"].removeprefix("Value error, ")
    return Problem(shown, f"{value!r} is not valid: {message[0].lower() + message[1:]}")


def _definition_hint(path: Sequence[str]) -> str:
    if path and path[-1] == "definition":
        return (
            "any-class: drawn over all classes, so that a nominal 40% changes 36% of the labels of ten classes; "
            "another-class: drawn over the other classes, so that 40% changes 40%"
        )
    return ""


def _walk(model: type[BaseModel], loc: Sequence[str | int]) -> tuple[list[str], type[BaseModel] | None]:
    """Follow an error's location; return its path in the file and the model that owns its last key."""
    path: list[str] = []
    owner: type[BaseModel] | None = model
    here: Any = model
    for step in loc:
        if step == "[key]":
            break
        members = [m for m in _members(here) if isinstance(m, type) and issubclass(m, BaseModel)]
        tagged = [m for m in members if len(members) > 1 and _tag(m) == step]
        if tagged:  # pydantic inserts the tag of a discriminated union, which the file does not have
            here = owner = tagged[0]
            continue
        if (isinstance(step, str) and "[" in step) or (not members and isinstance(step, str) and _is_union(here)):
            continue  # a branch of a plain union, such as constrained-float or literal['selected']
        path.append(str(step))
        if members:
            owner = members[0]
            info = owner.model_fields.get(str(step))
            here = info.annotation if info else None
        else:
            here = _element(here)
    return path, owner


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
