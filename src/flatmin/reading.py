"""``params.yaml`` -> `flatmin.study.Study`, or an error that a reader can act on.

Everything that can be refused is refused here, before anything is downloaded or trained, with the key's path, the
offending value and the nearest valid name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from flatmin.checks import check_names, check_values
from flatmin.errors import Problem, StudyError
from flatmin.problems import problem_of
from flatmin.study import Params, Study, Vocabulary


def load(path: Path, vocabulary: Vocabulary) -> Study:
    """Read and validate a study.

    Raises:
        StudyError: the file cannot be read, or any key, name or value in it cannot be used.
    """
    raw = read_yaml(path)
    try:
        params = Params.model_validate(raw)
    except ValidationError as error:
        raise StudyError(path.name, [problem_of(Params, e) for e in error.errors()]) from None
    study = Study(params, vocabulary, path.name, raw)
    problems = list(check_names(study)) or list(check_values(study))
    if problems:
        raise StudyError(path.name, problems)
    return study


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML 1.2 mapping with the parser that DVC uses, so that both see the same numbers.

    Raises:
        StudyError: the file is missing, is not YAML (a duplicate key included), or is not a mapping.
    """
    try:
        content = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StudyError(path.name, [Problem(str(path), "no such file", "run it where params.yaml is")]) from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise StudyError(path.name, [Problem(path.name, f"not valid YAML: {' '.join(str(error).split())}")]) from None
    if not isinstance(content, dict):
        raise StudyError(path.name, [Problem(path.name, "must be a mapping of sections")])
    return content
