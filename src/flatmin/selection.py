"""Selection: rho, and the base's learning rate and weight decay where a table asks, chosen on validation data.

As in the SAM paper (appendix C.1): the base is tuned first, without ascent; the other methods take its choice and tune
their rho. Every method gets the same number of trials, on seeds that no table uses. The measure is the validation
accuracy at the last epoch, averaged over the selection's seeds.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flatmin.planning import KeyedRun, keyed_run
from flatmin.records import write_atomically
from flatmin.study import Choice, Study
from flatmin.workspace import Workspace


@dataclass(frozen=True)
class Trial:
    """One grid point of one method on one dataset x model, and its runs, one per selection seed."""

    dataset: str
    model: str
    method: str
    values: Choice
    runs: tuple[KeyedRun, ...]


@dataclass(frozen=True)
class Score:
    """What a trial's run reached: validation accuracy at the last epoch, and whether the run diverged."""

    validation_accuracy: float
    diverged: bool


Scores = dict[str, Score]
"""Scores by run key."""


def phases(study: Study, table: str) -> Iterator[list[str]]:
    """Yield the methods to tune, those without ascent first: the others start from their choice."""
    tuned = study.table(table).select
    plain = [method for method in tuned if study.params.methods[method].ascent == "none"]
    yield plain
    yield [method for method in tuned if method not in plain]


def plan_trials(
    study: Study, table: str, methods: Sequence[str], choices: dict[tuple[str, str, str], Choice], workspace: Workspace
) -> list[Trial]:
    """Return the trials of ``methods`` on every row of the table, on top of the ``choices`` made so far."""
    return [
        Trial(dataset, model, method, values, tuple(keyed_run(run, workspace) for run in runs))
        for dataset, model in study.rows(table)
        for method in methods
        for values in study.trials(table, method)
        for runs in [study.trial_runs(table, dataset, model, method, values, choices)]
    ]


def choose(trials: Iterable[Trial], scores: Scores) -> dict[tuple[str, str, str], Choice]:
    """Return the best grid point of every (dataset, model, method); at a tie the first, which is the smallest.

    A point at which a run diverged comes after all others: its accuracy is that of the step before it fell apart.
    """
    best: dict[tuple[str, str, str], tuple[tuple[bool, float], Choice]] = {}
    for trial in trials:
        row = (trial.dataset, trial.model, trial.method)
        whole = not any(scores[run.key].diverged for run in trial.runs)
        mean = (whole, mean_accuracy(trial, scores))
        if row not in best or mean > best[row][0]:
            best[row] = (mean, trial.values)
    return {row: values for row, (_, values) in best.items()}


def mean_accuracy(trial: Trial, scores: Scores) -> float:
    """Return a trial's validation accuracy, averaged over its seeds."""
    return float(np.mean([scores[run.key].validation_accuracy for run in trial.runs]))


def on_edge(study: Study, table: str, method: str, chosen: Choice) -> list[str]:
    """Return the settings whose choice is the smallest or largest of its grid: the optimum may lie beyond."""
    grid = study.table(table).select.get(method, {})
    return [name for name, v in grid.items() if len(v) > 1 and chosen.get(name) in (min(v), max(v))]


def write(
    path: Path, study: Study, table: str, trials: Sequence[Trial], scores: Scores, chosen: dict[Any, Choice]
) -> None:
    """Write ``selections/<table>.json``: the choices with all their trials, so that anybody can choose again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "table": table,
        "measure": "validation accuracy at the last epoch, mean over seeds",
        "seeds": list(study.selection(table).seeds),
        "choices": [
            {
                "dataset": dataset,
                "model": model,
                "method": method,
                "chosen": dict(values),
                "on_edge": on_edge(study, table, method, values),
                "trials": [
                    _trial(trial, scores)
                    for trial in trials
                    if (trial.dataset, trial.model, trial.method) == (dataset, model, method)
                ],
            }
            for (dataset, model, method), values in chosen.items()
        ],
    }
    write_atomically(path, json.dumps(content, indent=1) + "\n")


def _trial(trial: Trial, scores: Scores) -> dict[str, Any]:
    return {
        "values": dict(trial.values),
        "validation_accuracy": mean_accuracy(trial, scores),
        "runs": [
            {
                "seed": run.plan.seed,
                "key": run.key,
                "validation_accuracy": scores[run.key].validation_accuracy,
                "diverged": scores[run.key].diverged,
            }
            for run in trial.runs
        ],
    }


def read_scores(path: Path) -> Scores:
    """Return the scores that a selection file holds, by run key: a fresh clone needs no trial of its own."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {
            run["key"]: Score(run["validation_accuracy"], run["diverged"])
            for choice in content["choices"]
            for trial in choice["trials"]
            for run in trial["runs"]
        }
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return {}
