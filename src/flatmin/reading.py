"""``params.yaml`` -> `flatmin.study.Study`, or an error that a reader can act on.

Everything that can be refused is refused here, before anything is downloaded or trained, with the key's path, the
offending value and the nearest valid name.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from flatmin.checks import NAMED, check_names, check_values
from flatmin.errors import Problem, StudyError
from flatmin.problems import Key, place_of, problems_of
from flatmin.study import Params, Study, Vocabulary

DEFAULTED = ("training", "selection", "evaluation", "sharpness")
"""The sections whose settings all have defaults."""

DEPTH = 5
"""How often the readable part may get smaller: a section that lacks a removed value is removed in its turn."""


def load(path: Path, vocabulary: Vocabulary) -> Study:
    """Read and validate a study.

    Raises:
        StudyError: the file cannot be read, or any key, name or value in it cannot be used; it names them all.
    """
    raw = read_yaml(path)
    problems: list[Problem] = []
    try:
        params: Params | None = Params.model_validate(raw)
    except ValidationError as error:
        problems = problems_of(Params, error.errors())
        params = _readable_part(raw, error)
    if params is not None:
        study = Study(params, vocabulary, path.name, raw)
        problems += check_names(study)
        problems += check_values(study, problems)
    if params is None or problems:
        raise StudyError(path.name, problems)
    return study


def _readable_part(raw: dict[str, Any], error: ValidationError) -> Params | None:
    """Return the study without what is refused in it, so that the rest can be checked too; None if nothing is left."""
    part = copy.deepcopy(raw)
    for _ in range(DEPTH):
        if not all(_remove(part, place) for place in sorted(_refused(error), key=_backwards)):
            return None
        try:
            return Params.model_validate(part)
        except ValidationError as left:
            error = left
    return None


def _refused(error: ValidationError) -> Iterable[tuple[Key, ...]]:
    """Yield the places to remove: of the value that is refused, or of the section that lacks one."""
    for one in error.errors():
        place = place_of(Params, one)
        yield place[:-1] if one["type"] in ("missing", "union_tag_invalid", "union_tag_not_found") else place


def _backwards(place: tuple[Key, ...]) -> tuple[object, ...]:
    """Sort the later items of a list first: removing one moves those behind it."""
    return tuple((-key, "") if isinstance(key, int) else (0, key) for key in place)


def _remove(part: dict[str, Any], place: tuple[Key, ...]) -> bool:
    """Remove what is at ``place``; return False where the study cannot do without."""
    if not place:
        for section in DEFAULTED:
            part.setdefault(section, {})
        return part.keys() >= {"study", *NAMED}
    if place[0] in ("study", *NAMED) and len(place) == 1:
        return False
    *above, last = place
    here: Any = part
    for key in above:
        if (isinstance(here, dict) and key in here) or (isinstance(here, list) and isinstance(key, int)):
            here = here[key]  # type: ignore[index]
        else:
            return True  # removed together with what holds it
    if isinstance(here, dict):
        here.pop(last, None)
    elif isinstance(here, list) and isinstance(last, int):
        here.pop(last)
    return True


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML 1.2 mapping with the parser that DVC uses, so that both see the same numbers.

    Raises:
        StudyError: the file is missing, is not YAML (a duplicate key included), or is not a mapping.
    """
    try:
        content = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StudyError(path.name, [Problem(str(path), "no such file", "run it where params.yaml is")]) from None
    except OSError as error:
        raise StudyError(path.name, [Problem(str(path), f"cannot be read: {error.strerror}")]) from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise StudyError(path.name, [Problem(path.name, f"not valid YAML: {_explained(error)}")]) from None
    if not isinstance(content, dict):
        raise StudyError(path.name, [Problem(path.name, "must be a mapping of sections")])
    return content


def _explained(error: Exception) -> str:
    if isinstance(error, MarkedYAMLError) and error.problem and error.problem_mark:
        mark = error.problem_mark
        return f"line {mark.line + 1}, column {mark.column + 1}: {' '.join(error.problem.split())}"
    return " ".join(str(error).split())
