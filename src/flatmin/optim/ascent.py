"""What an ascent is: the first half of a sharpness-aware step, from w to the perturbed w + eps."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor


def option(
    default: Any, *, introduced: Any, at_least: float | None = None, choices: Sequence[str] | None = None
) -> Any:
    """A field of an ascent that its users may set.

    Args:
        default: the value where the user gives none.
        introduced: the value that means "as before this option existed". Never edit it, even when the default
            changes: whoever identifies a run by its options leaves an option out at this value alone.
        at_least: the option is a finite number, no smaller than this.
        choices: the option is one of these words.
    """
    metadata = {"introduced": introduced, "at_least": at_least, "choices": choices}
    return dataclasses.field(default=default, metadata=metadata)


def require_at_least(name: str, value: object, minimum: float) -> None:
    """Raise a ValueError that names the option unless ``value`` is a finite number >= ``minimum``."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (number and minimum <= value < math.inf):  # type: ignore[operator]
        raise ValueError(f"{name} = {value!r} is out of range: it must be a finite number >= {minimum:g}")


@dataclass(frozen=True, slots=True)
class Point:
    """Where an ascent starts: the weights w and the gradient g of the clean pass.

    The three lists run in parallel, one entry per parameter that received a gradient.
    """

    parameters: list[Tensor]
    gradients: list[Tensor]
    radii: list[float]
    """rho of the parameter's group."""
    norm: float
    """||g||_2 over all gradients: finite and above zero."""
    names: list[str] = dataclasses.field(default_factory=list)
    """Dotted names of the parameters; filled for ascents with `Ascent.needs_names`."""


@dataclass(frozen=True)
class Ascent:
    """From w to w + eps. Subclasses are frozen dataclasses whose fields, made by `option`, are their options.

    This base class stays where it is. An ascent says how far it goes (`radius`) and where to (`perturbation`);
    passes, norm statistics, restoring and skipping are the step's.
    """

    name: ClassVar[str]
    """The name of the module that defines it."""
    gradients_per_step: ClassVar[int]
    """Forward-backward passes in one step with rho > 0."""

    def __post_init__(self) -> None:
        """Check every option against the range that its field declares.

        Raises:
            ValueError: names the option, its value and what is allowed.
        """
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            label = f"{self.name}: {field.name}"
            minimum, choices = field.metadata.get("at_least"), field.metadata.get("choices")
            if minimum is not None:
                require_at_least(label, value, minimum)
            if choices is not None and value not in choices:
                raise ValueError(f"{label} = {value!r} is not one of {', '.join(choices)}")

    @property
    def needs_names(self) -> bool:
        """Whether the rule goes by the parameters' names."""
        return False

    def radius(self, group: Mapping[str, Any]) -> float:
        """How far the parameters of a param group may move. Zero in every group: the step is the base's."""
        return 0.0

    def perturbation(self, point: Point) -> tuple[Tensor, ...]:
        """eps, one tensor per parameter of ``point``, each of that parameter's shape.

        Must not change the tensors in ``point`` and should not wait for the device.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class NeighborhoodAscent(Ascent):
    """An ascent to the edge of a neighbourhood of radius rho. A param group may carry a ``rho`` of its own."""

    gradients_per_step: ClassVar[int] = 2

    rho: float

    def radius(self, group: Mapping[str, Any]) -> float:
        """The group's own rho, or else the ascent's.

        Raises:
            ValueError: the group's rho is negative or not finite.
        """
        if "rho" not in group:
            return self.rho
        require_at_least("rho of a param group", group["rho"], 0.0)
        return group["rho"]
