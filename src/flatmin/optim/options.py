"""Options: the fields of ascents, regimes and schedules that their users may set, and what they may be."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any


def option(
    default: Any,
    *,
    introduced: Any,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    choices: Sequence[str] | None = None,
) -> Any:
    """A field that its users may set. One whose default is an integer takes whole numbers alone.

    Args:
        default: the value where the user gives none.
        introduced: the value that means "as before this option existed". Never edit it, even when the default
            changes: whoever identifies a run by its options leaves an option out at this value alone.
        at_least: the option is a finite number, no smaller than this.
        above: the option is a finite number, larger than this.
        at_most: the option is a finite number, no larger than this.
        choices: the option is one of these words.
    """
    metadata = {"introduced": introduced, "at_least": at_least, "above": above, "at_most": at_most, "choices": choices}
    return dataclasses.field(default=default, metadata=metadata)


def check_options(owner: Any, label: str) -> None:
    """Check every option of a dataclass instance against the range that its field declares.

    Raises:
        ValueError: names the option, its value and what is allowed.
    """
    for field in dataclasses.fields(owner):
        value = getattr(owner, field.name)
        limits = {name: field.metadata.get(name) for name in ("at_least", "above", "at_most")}
        choices = field.metadata.get("choices")
        if any(limit is not None for limit in limits.values()):
            require_in_range(f"{label}: {field.name}", value, whole=type(field.default) is int, **limits)
        if choices is not None and value not in choices:
            raise ValueError(f"{label}: {field.name} = {value!r} is not one of {', '.join(choices)}")


def share_of(count: int, share: float) -> int:
    """How many a share of ``count`` is: rounded up, and at least one; 0.55 of 100 is 55 whatever floats make of it."""
    return max(1, math.ceil(round(share * count, 9)))


def require_in_range(
    label: str,
    value: object,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    whole: bool = False,
) -> None:
    """Raise a ValueError that names the option unless ``value`` is a finite (whole) number within the limits."""
    number = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
    if (
        number
        and math.isfinite(value)  # type: ignore[arg-type]
        and (at_least is None or value >= at_least)  # type: ignore[operator]
        and (above is None or value > above)  # type: ignore[operator]
        and (at_most is None or value <= at_most)  # type: ignore[operator]
    ):
        return
    limits = [("a finite number >=", at_least), ("a finite number >", above), ("<=", at_most)]
    wanted = " and ".join(f"{words} {limit:g}" for words, limit in limits if limit is not None)
    raise ValueError(f"{label} = {value!r} is out of range: it must be {wanted}{' and whole' if whole else ''}")
