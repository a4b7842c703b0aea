"""What is in print: a number with its kind of spread, and the setting in which it was obtained."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from flatmin.catalogue import papers_name
from flatmin.results.statistics import SpreadKind, published_standard_error

ModelName = Annotated[str, AfterValidator(papers_name)]
"""A registered model by any of its names."""


class Strict(BaseModel):
    """Base of all parts of a claim: immutable, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Value(Strict):
    """A published mean, with its spread over ``runs`` runs and the kind of that spread (absent: none was given).

    Only a spread of a kind that the source does not name may come without its number of runs.
    """

    value: float
    spread: Annotated[float, Field(ge=0)] | None = None
    kind: SpreadKind | None = None
    runs: Annotated[int, Field(ge=2)] | None = None

    @model_validator(mode="after")
    def _spread_is_explained(self) -> Value:
        if self.spread is not None and (self.kind is None or (self.runs is None and self.kind != "unknown")):
            raise ValueError("a spread needs its kind and the number of runs")
        return self

    @property
    def standard_error(self) -> float:
        """The standard error of the published mean; 0 where no spread was given."""
        if self.spread is None or self.kind is None:
            return 0.0
        return published_standard_error(self.spread, self.kind, self.runs or 2)

    def text(self, digits: int, *, named: bool = False) -> str:
        """The number with so many decimals, and its spread (``named`` by kind): "19.0 ± <0.01"."""
        if self.spread is None:
            return _digits(self.value, digits)
        below = "<" if self.kind == "ci95-below" else ""
        kind = f" {self.kind}" if named and not below else ""
        return f"{_digits(self.value, digits)} ± {below}{_digits(self.spread, digits)}{kind}"


def _digits(number: float, digits: int) -> str:
    """The number with so many decimals, or with all that it has where these would change it."""
    text = f"{number:.{digits}f}"
    return text if math.isclose(float(text), number, abs_tol=1e-9) else f"{number:g}"


class Published(Strict):
    """The number in print: both sides (``treatment``, ``baseline``), or the ``effect`` alone where only that is known.

    ``resolution`` is the last printed digit: rounding enters the error of the effect.
    """

    unit: Literal[
        "test error %",
        "test accuracy %",
        "validation error %",
        "accuracy points",
        "ECE %",
        "ratio",
        "tau",
        "eigenvalue",
        "eigenvalue ratio",
        "sharpness",
    ]
    treatment: Value | None = None
    baseline: Value | None = None
    effect_alone: Annotated[float | None, Field(alias="effect")] = None
    resolution: Annotated[float, Field(ge=0)] = 0.1

    @model_validator(mode="after")
    def _one_route_to_the_effect(self) -> Published:
        sides = (self.treatment is not None) + (self.baseline is not None)
        if sides != (0 if self.effect_alone is not None else 2):
            raise ValueError("give either treatment and baseline, or effect alone")
        return self

    @property
    def effect(self) -> float:
        """Treatment minus baseline (in accuracy points where errors are in print), or the effect as printed."""
        if self.treatment is None or self.baseline is None:
            return float(self.effect_alone or 0.0)
        difference = self.treatment.value - self.baseline.value
        return round(-difference if self.unit.endswith("error %") else difference, 6) + 0.0  # which makes -0 plain 0

    @property
    def in_points(self) -> bool:
        """Whether the effect is in percentage points."""
        return "%" in self.unit or self.unit == "accuracy points"

    @property
    def digits(self) -> int:
        """Decimals in print: those of the last printed digit (two where it is not known)."""
        return max(0, -math.floor(math.log10(self.resolution) + 1e-9)) if self.resolution else 2

    @property
    def standard_error(self) -> float:
        """Standard error of `effect`: both sides' spreads and their rounding, taken as independent."""
        sides = [side for side in (self.treatment, self.baseline) if side is not None]
        rounding = self.resolution**2 / 12 * max(1, len(sides))
        return float((sum(side.standard_error**2 for side in sides) + rounding) ** 0.5)

    @property
    def runs(self) -> int:
        """Runs behind the less repeated side, for the degrees of freedom (2 where it was not given)."""
        given = [side.runs for side in (self.treatment, self.baseline) if side is not None and side.runs]
        return min(given, default=2)

    @property
    def has_spread(self) -> bool:
        """Whether both sides were printed with a spread."""
        return all(side is not None and side.spread is not None for side in (self.treatment, self.baseline))


class Setting(Strict):
    """The setting in which the number was obtained. What the paper does not state is left out and not compared.

    ``model`` is the paper's name, ``model_names`` the registered models that are that architecture. ``base`` to
    ``clip_norm`` describe the training of the treatment; ``rho`` is the treatment's, ``baseline_rho`` that of a
    baseline with an ascent of its own. ``result`` says which epoch was reported;
    ``best-test`` picks on test data, which this project never does. ``noise_kind`` None: the source does not name it.
    ``besides`` names, in words, what else the published runs had and no run of this project has.
    """

    sources: tuple[str, ...] = ()
    noise_kind: str | None = "none"
    noise_rate: float = 0.0
    noise_definition: str | None = None
    train_size: int | None = None
    model: str | None = None
    model_names: tuple[ModelName, ...] = ()
    epochs: int | None = None
    baseline_epochs: int | None = None
    batch_size: int | None = None
    m: int | None = None
    augmentation: str | None = None
    base: str | None = None
    lr: float | None = None
    weight_decay: float | None = None
    weight_decay_in: Literal["base", "loss"] | None = None
    schedule: str | None = None
    label_smoothing: float | None = None
    clip_norm: float | None = None
    rho: float | None = None
    baseline_rho: float | None = None
    validation_labels: Literal["noisy", "clean"] | None = None
    result: Literal["last", "best-test"] = "last"
    besides: tuple[str, ...] = ()
