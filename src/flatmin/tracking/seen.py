"""A run as MLflow shows it, and what is known of runs without asking MLflow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

PREFIX = "flatmin."
"""Of the names of our tags."""

Curve = Sequence[Mapping[str, float | int | None]]

Seen = dict[str, dict[str, Any]]
"""What is known of each run, by run key: its ``metrics``, ``params`` and ``tags``."""


@dataclass(frozen=True)
class TrackedRun:
    """One run as MLflow shows it.

    Attributes:
        key: the run key.
        name: the run id.
        tags: by name without the prefix ``flatmin.``.
        params: resolved settings, nested or with dotted names.
        metrics: final numbers; None where undefined. A run without any is not trained.
        curve: a row per epoch.
        seconds: how long its training took, where that is known.
        note: what the run is in words, in Markdown.
    """

    key: str
    name: str
    tags: Mapping[str, str]
    params: Mapping[str, Any]
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    curve: Curve = ()
    seconds: float | None = None
    note: str = ""


def flatten(nested: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted name, value) of nested settings, None left out."""
    for name, value in nested.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{name}.")
        elif value is not None:
            yield f"{prefix}{name}", value


def params_of(run: TrackedRun) -> dict[str, str]:
    """Return a run's settings as MLflow holds them."""
    return {name: str(value) for name, value in flatten(run.params)}


def tags_of(run: TrackedRun) -> dict[str, str]:
    """Return a run's tags as MLflow holds them."""
    return {f"{PREFIX}{name}": value for name, value in run.tags.items()}


def as_seen(runs: Iterable[TrackedRun]) -> Seen:
    """Return the runs as MLflow would show them, without asking it."""
    return {
        run.key: {
            "metrics": {name: value for name, value in run.metrics.items() if value is not None},
            "params": params_of(run),
            "tags": tags_of(run),
        }
        for run in runs
    }
