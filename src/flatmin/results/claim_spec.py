"""The claims file: one record per published statement, validated so that a misspelt key is named with its claim."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from flatmin.catalogue import papers_name
from flatmin.errors import FlatminError, nearest
from flatmin.problems import problem_of
from flatmin.reading import read_yaml
from flatmin.results.inputs import MEASURED
from flatmin.results.statistics import SpreadKind, published_standard_error

MOST_PRIMARY = 6
"""Primary claims share one family-wise error rate, which more of them would only thin out."""

ModelName = Annotated[str, AfterValidator(papers_name)]
"""A registered model by any of its names."""

FRACTIONS = ("accuracy", "error", "memorised")
"""Metrics with such an ending are fractions, compared in percentage points."""


SAMENESS = ("no-effect", "no-benefit", "ratio")
"""Rules that claim sameness: equivalence within the margin reproduces them."""


class ClaimsError(FlatminError):
    """The claims file cannot be used; lists every problem with the claim's id and the key's path."""


class Strict(BaseModel):
    """Base of all parts of a claim: immutable, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Value(Strict):
    """A published mean, with its spread over ``runs`` runs and the kind of that spread (absent: none was given)."""

    value: float
    spread: Annotated[float, Field(ge=0)] | None = None
    kind: SpreadKind | None = None
    runs: Annotated[int, Field(ge=2)] | None = None

    @model_validator(mode="after")
    def _spread_is_explained(self) -> Value:
        if self.spread is not None and (self.kind is None or self.runs is None):
            raise ValueError("a spread needs its kind and the number of runs")
        return self

    @property
    def standard_error(self) -> float:
        """The standard error of the published mean; 0 where no spread was given."""
        if self.spread is None or self.kind is None or self.runs is None:
            return 0.0
        return published_standard_error(self.spread, self.kind, self.runs)


class Published(Strict):
    """The number in print: both sides (``treatment``, ``baseline``), or the ``effect`` alone where only that is known.

    ``resolution`` is the last printed digit: rounding enters the error of the effect.
    """

    unit: Literal["test error %", "test accuracy %", "accuracy points", "ratio"]
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
        """Treatment minus baseline in accuracy points (errors are turned round), or the effect as printed."""
        if self.treatment is None or self.baseline is None:
            return float(self.effect_alone or 0.0)
        difference = self.treatment.value - self.baseline.value
        return round(-difference if self.unit == "test error %" else difference, 6)

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


class Admissible(Strict):
    """Which rows may speak to a claim at all; an absent property admits every row."""

    sources: tuple[str, ...] | None = None
    models: tuple[ModelName, ...] | None = None
    augmentations: tuple[str, ...] | None = None
    noise_kinds: tuple[str, ...] | None = None
    noise_rate: tuple[float, float] | None = None
    most_parameters: int | None = None
    least_epochs: int | None = None


class MethodMatch(Strict):
    """Methods by what they do: their ascent, exactly these options of it and, if given, bounds on rho."""

    ascent: str
    options: dict[str, str | float] = {}
    rho_above: float | None = None
    rho_below: float | None = None


class Rule(Strict):
    """What is computed from a row's runs, and which side of it the claim is on.

    kind ``effect``: treatment minus baseline in ``metric`` lies on the claimed side (by ``at_least``).
    kind ``no-effect``: that difference lies within the margin.
    kind ``no-benefit``: that difference lies within the margin, or the treatment is the worse one.
    kind ``ratio``: treatment over baseline equals ``target`` within the margin.
    kind ``correlation``: Kendall's tau between ``metric`` and ``against`` over a row's methods, each
    the mean of its seeds.
    kind ``early-stopping``: the gap at the validation-chosen epoch is less than half the gap at the last epoch, both to
    one baseline: the better at the last epoch.

    ``baseline``: ``better`` takes the better of the table's baselines (by early-stopped accuracy where ``metric`` is
    early-stopped, else by the last epoch's), ``same-epochs`` the plain optimizer trained as long.
    """

    kind: Literal["effect", "no-effect", "no-benefit", "ratio", "correlation", "early-stopping"] = "effect"
    metric: str = "test_accuracy"
    against: str | None = None
    treatment: MethodMatch = MethodMatch(ascent="sam")
    baseline: Literal["better", "same-epochs"] | MethodMatch = "better"
    direction: Literal["higher", "lower"] = "higher"
    margin: Annotated[float, Field(gt=0)] | None = None
    at_least: Annotated[float, Field(ge=0)] = 0.0
    target: float | None = None

    @model_validator(mode="after")
    def _is_complete(self) -> Rule:
        for key in (self.metric, *([self.against] if self.against else [])):
            if key not in MEASURED:
                raise ValueError(f"unknown metric {key!r}; {nearest(key, MEASURED)}")
        if (self.against is None) == (self.kind == "correlation"):
            raise ValueError("'against' belongs to the kind correlation, which needs it")
        if (self.target is None) == (self.kind == "ratio"):
            raise ValueError("'target' belongs to the kind ratio, which needs it")
        if self.kind in SAMENESS and self.margin is None:
            raise ValueError(f"the kind {self.kind} needs a margin")
        return self

    @property
    def sign(self) -> int:
        """+1 where the claimed side is above zero, -1 where it is below."""
        return 1 if self.direction == "higher" else -1

    @property
    def unit(self) -> str:
        """The unit of what the rule computes."""
        if self.kind == "correlation":
            return "tau"
        if self.kind == "ratio":
            return "x"
        return "points" if self.metric.endswith(FRACTIONS) else ""


class ClaimSpec(Strict):
    """One published statement. ``primary`` claims are adjusted together (Holm); all others are exploratory.

    ``confidence`` says how the number was checked; numbers from memory are not admitted. ``statement`` marks a
    sentence without a number.
    """

    id: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    paper: str
    where: str
    statement: str
    published: Published | None = None
    setting: Setting | None = None
    admissible: Admissible = Admissible()
    rule: Rule = Rule()
    source: str
    confidence: Literal["verified-from-text", "computed-from-data", "quoted-by-secondary", "statement"]
    primary: bool = False
    note: str = ""

    @model_validator(mode="after")
    def _agrees_with_its_number(self) -> ClaimSpec:
        if self.published is None:
            if self.confidence != "statement":
                raise ValueError(f"confidence {self.confidence!r} describes a number, but published is absent")
            return self
        if self.rule.kind == "effect" and self.rule.sign * self.published.effect <= 0:
            raise ValueError(
                f"rule.direction {self.rule.direction!r} contradicts the effect {self.published.effect:+g}"
            )
        return self

    @property
    def margin(self) -> float | None:
        """The equivalence margin: the rule's own, else half of the published effect, else none."""
        if self.rule.margin is not None:
            return self.rule.margin
        return abs(self.published.effect) / 2 if self.published else None


def load_claims(path: Path) -> list[ClaimSpec]:
    """Read and validate a claims file, which is a mapping with ``claims`` and, for YAML anchors, ``shared``.

    Raises:
        ClaimsError: a key, a value or an id cannot be used; every problem names its claim and key.
        StudyError: the file is missing or not YAML.
    """
    raw = read_yaml(path)
    problems = [f"{key}: unknown key; {nearest(key, ('claims', 'shared'))}" for key in raw if key not in _SECTIONS]
    claims: list[ClaimSpec] = []
    for index, record in enumerate(raw.get("claims") or []):
        try:
            claims.append(ClaimSpec.model_validate(record))
        except ValidationError as error:
            name = record.get("id") if isinstance(record, dict) else None
            place = (f"claim {name or f'number {index + 1}'}",)
            problems += [str(problem_of(ClaimSpec, e, place)) for e in error.errors()]
    problems += [f"claim {name}: the id is used twice" for name, n in Counter(c.id for c in claims).items() if n > 1]
    primary = [claim.id for claim in claims if claim.primary]
    if len(primary) > MOST_PRIMARY:
        problems.append(f"at most {MOST_PRIMARY} claims may be primary, not {len(primary)}: {', '.join(primary)}")
    if problems:
        raise ClaimsError("\n  ".join([f"{path.name} cannot be used:", *problems]))
    return claims


_SECTIONS: tuple[Any, ...] = ("claims", "shared")
