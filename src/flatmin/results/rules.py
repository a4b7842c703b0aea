"""How a claim is decided: which rows speak to it, which of their methods are compared, and what is computed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, model_validator

from flatmin import catalogue
from flatmin.errors import nearest
from flatmin.results.inputs import MEASURED
from flatmin.results.published import ModelName, Strict

FRACTIONS = ("accuracy", "error", "memorised", "ece")
"""Metrics with such an ending are fractions, compared in percentage points."""

SAMENESS = ("no-effect", "no-benefit", "ratio")
"""Rules that claim sameness: equivalence within the margin reproduces them."""

BEYOND = {
    "shifted_accuracy": "accuracy on new test images",
    "corrupted_accuracy": "accuracy on corrupted test images",
}
"""Metrics that come from further test sets, which a study may not have (`flatmin.results.beyond`)."""

UNMEASURED = {
    "lambda_max": "the largest eigenvalue of the Hessian",
    "lambda_ratio": "the ratio of the largest to the fifth eigenvalue of the Hessian",
    "m_sharpness": "the sharpness of parts of m images",
    "adaptive_sharpness": "adaptive sharpness",
    "generalisation_gap": "the generalisation gap",
    "train_seconds": "the time of training",
    "feature_rank": "the rank of features",
    "glue_score": "the GLUE score",
    "bleu": "BLEU",
}
"""Metrics of published claims that no run has yet: such claims are not-run, with this reason."""

ABSENT = {
    "friendly": "Friendly SAM",
    "sam-second-order": "SAM with the second-order terms of its gradient",
}
"""Ascents of published claims that this project does not have: such claims are not-run, with this reason."""

Kind = Literal[
    "effect",
    "no-effect",
    "no-benefit",
    "ratio",
    "correlation",
    "no-correlation",
    "early-stopping",
    "share",
    "trend",
    "across",
    "interaction",
]


class Admissible(Strict):
    """Which rows may speak to a claim at all; an absent property admits every row.

    ``pretrained`` admits rows whose training starts from weights that were trained on other images, or no such rows.
    """

    sources: tuple[str, ...] | None = None
    models: tuple[ModelName, ...] | None = None
    augmentations: tuple[str, ...] | None = None
    noise_kinds: tuple[str, ...] | None = None
    noise_rate: tuple[float, float] | None = None
    most_parameters: int | None = None
    least_epochs: int | None = None
    pretrained: bool | None = None


class MethodMatch(Strict):
    """Methods by what they do: their ascent, exactly these options of it but for the ``free`` ones, and its rho.

    ``rho`` is one value, ``rho_above`` and ``rho_below`` bound it. ``augmentation`` is the method's own, in the papers'
    word.
    """

    ascent: str
    options: Mapping[str, str | int | float] = Field(default_factory=dict)
    free: tuple[str, ...] = ()
    rho: float | None = None
    rho_above: float | None = None
    rho_below: float | None = None
    augmentation: str | None = None

    @model_validator(mode="after")
    def _exists(self) -> MethodMatch:
        if self.ascent in ABSENT:
            return self
        known = catalogue.ascents()
        if self.ascent not in known:
            raise ValueError(f"unknown ascent {self.ascent!r}; {nearest(self.ascent, known)}")
        options = known[self.ascent]
        for name in (*self.options, *self.free):
            if name not in options:
                raise ValueError(f"the ascent {self.ascent} has no option {name!r}; {nearest(name, options)}")
        for name, value in self.options.items():
            problem = options[name].problem(options[name].read(value))
            if problem:
                raise ValueError(f"option {name} {problem}, not {value!r}")
        return self

    @property
    def names_rho(self) -> bool:
        """Whether the claim is about this radius, or about such radii."""
        return any(bound is not None for bound in (self.rho, self.rho_above, self.rho_below))


class Rule(Strict):
    """What is computed from a row's runs, and which side of it the claim is on.

    kind ``effect``: treatment minus baseline in ``metric`` lies on the claimed side (by ``at_least``).
    kind ``no-effect``: that difference lies within the margin.
    kind ``no-benefit``: that difference is smaller than the margin, or the treatment is the worse one.
    kind ``ratio``: treatment over baseline equals ``target`` within the margin.
    kind ``correlation``: Kendall's tau between ``metric`` and ``against`` over a row's methods, each
    the mean of its seeds; ``than`` names a measurement whose tau with ``against`` must be the smaller one (only of
    claims on what no run has yet: nothing compares two taus).
    kind ``no-correlation``: that tau is about zero, which no number of methods shows and a clear one refutes.
    kind ``early-stopping``: the gap at the validation-chosen epoch is less than half the gap at the last epoch, both to
    one baseline: the better at the last epoch.
    kind ``share``: the treatment has more than ``share`` of the gain over the baseline that ``reference`` has
    (``lower``: less).
    kind ``trend``: ``metric`` rises (or falls) per doubling of ``along``, over methods that differ in it alone.
    kind ``across``: the treatment here minus the same method on a ``partner`` row.
    kind ``interaction``: the treatment's gain over the baseline here minus that on a ``partner`` row.

    ``baseline``: ``better`` takes the better of the table's baselines (by early-stopped accuracy where ``metric`` is
    early-stopped, else by the last epoch's), ``same-epochs`` the plain optimizer trained as long, ``itself`` compares
    ``metric`` with the metric ``against`` of the same runs. A ``partner`` is a row that shares source, model, noise,
    size, epochs and augmentation with the claim's, but for what ``partner`` names. ``failures``: whether runs that
    diverged or collapsed may show the claim alone, because it speaks of them (``claimed``), or not (``doubtful``).
    """

    kind: Kind = "effect"
    metric: str = "test_accuracy"
    against: str | None = None
    than: str | None = None
    treatment: MethodMatch = MethodMatch(ascent="sam")
    baseline: Literal["better", "same-epochs", "itself"] | MethodMatch = "better"
    reference: MethodMatch | None = None
    share: Annotated[float, Field(gt=0, le=1)] | None = None
    along: Literal["rho", "m", "steps"] | None = None
    partner: Admissible | None = None
    direction: Literal["higher", "lower"] = "higher"
    margin: Annotated[float, Field(gt=0)] | None = None
    at_least: Annotated[float, Field(ge=0)] = 0.0
    failures: Literal["doubtful", "claimed"] = "doubtful"
    target: float | None = None

    @model_validator(mode="after")
    def _metrics_exist(self) -> Rule:
        known = (*MEASURED, *BEYOND, *UNMEASURED)
        for key in (self.metric, self.against, self.than):
            if key is not None and key not in known:
                raise ValueError(f"unknown metric {key!r}; {nearest(key, known)}")
        return self

    @model_validator(mode="after")
    def _is_complete(self) -> Rule:
        for name, kinds in _OF_KINDS.items():
            if (getattr(self, name) is None) == (self.kind in kinds):
                raise ValueError(f"{name!r} belongs to the kind {' and '.join(kinds)}, which needs it")
        if (self.against is None) == (self.correlates or self.baseline == "itself"):
            raise ValueError("'against' belongs to the kind correlation and the baseline itself, which need it")
        if self.baseline == "itself" and self.kind not in ("effect", "no-effect", "ratio"):
            raise ValueError(f"the baseline itself has no meaning for the kind {self.kind}")
        if self.than is not None and (self.kind != "correlation" or self.metric not in UNMEASURED):
            raise ValueError("'than' belongs to the kind correlation and to a metric that is not measured yet")
        if self.kind in SAMENESS and self.margin is None:
            raise ValueError(f"the kind {self.kind} needs a margin")
        if self.margin is not None and (self.has_threshold or self.correlates):
            raise ValueError("a margin has no meaning beside a threshold or for a correlation")
        return self

    @property
    def correlates(self) -> bool:
        """Whether a rank correlation over methods is computed, instead of one number per seed."""
        return self.kind in ("correlation", "no-correlation")

    @property
    def has_threshold(self) -> bool:
        """Whether the claim names how much it takes: ``at_least``, or a part of a gain. No margin then decides."""
        return self.at_least > 0 or self.kind in ("early-stopping", "share")

    @property
    def by_construction(self) -> bool:
        """Whether the number follows from what the methods are: gradients are counted as they are asked for."""
        return self.kind == "ratio" and self.metric == "gradients"

    @property
    def sign(self) -> int:
        """+1 where the claimed side is above zero, -1 where it is below."""
        return 1 if self.direction == "higher" else -1

    @property
    def unit(self) -> str:
        """The unit of what the rule computes."""
        if self.correlates or self.kind == "ratio":
            return "tau" if self.correlates else "x"
        unit = "points" if self.metric.endswith(FRACTIONS) else ""
        return f"{unit} per doubling of {self.along}".lstrip() if self.kind == "trend" else unit


_OF_KINDS: Mapping[str, tuple[Kind, ...]] = {
    "target": ("ratio",),
    "reference": ("share",),
    "share": ("share",),
    "along": ("trend",),
    "partner": ("across", "interaction"),
}
