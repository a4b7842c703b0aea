"""How a setting is declared, and which settings enter a run's key.

Every field that has a default also carries the value it had when it was introduced. A run's key leaves a setting out
only at that value: a new option retrains nothing, and a changed default retrains what it changes (`keyed`).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

SELECTED: Literal["selected"] = "selected"
"""Stands where a number is chosen on validation data by the stage ``select``."""


def number(value: Any) -> Any:
    """Refuse true and false where a number is wanted."""
    if isinstance(value, bool):  # pydantic would read true as 1
        raise ValueError("must be a number")
    return value


Fraction = Annotated[float, Field(ge=0, le=1), BeforeValidator(number)]
ProperFraction = Annotated[float, Field(gt=0, lt=1), BeforeValidator(number)]
BelowOne = Annotated[float, Field(ge=0, lt=1), BeforeValidator(number)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False), BeforeValidator(number)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False), BeforeValidator(number)]
Count = Annotated[int, Field(ge=1), BeforeValidator(number)]
Natural = Annotated[int, Field(ge=0), BeforeValidator(number)]
Seed = Natural
Severity = Annotated[int, Field(ge=1, le=5), BeforeValidator(number)]


def setting(default: Any, *, introduced: Any, **constraints: Any) -> Any:
    """Declare an optional setting: its ``default`` today, and the value it had when it was ``introduced``.

    ``introduced`` never changes, whatever becomes of the default. That of a section is ``{}``: the section is at the
    value that it had when all its own settings are.
    """
    return Field(default, json_schema_extra={"introduced": introduced}, **constraints)


def outside_keys(default: Any = ...) -> Any:
    """Declare a setting that enters no key: what it stands for is hashed itself."""
    return Field(default, json_schema_extra={"keyed": False})


class Settings(BaseModel):
    """Base of all sections: immutable, and a key that no field defines is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def keyed(settings: BaseModel) -> dict[str, Any]:
    """Return the settings that enter a run's key: all but those at the value they had when introduced."""
    out: dict[str, Any] = {}
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        plain = keyed(value) if isinstance(value, BaseModel) else value
        extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
        if extra.get("keyed", True) and not ("introduced" in extra and plain == extra["introduced"]):
            out[name] = plain
    return out
