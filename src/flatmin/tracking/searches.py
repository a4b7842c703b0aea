"""The saved searches of the experiment, as the UI of MLflow keeps its own (button *Views* above the runs).

MLflow keeps such a view in a tag of the experiment: a name, and the page's state as JSON. What the state holds is
nowhere documented and was read from MLflow 3.17; a UI that knows none of it shows the same runs under the same filter.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

PREFIX = "mlflow.sharedViewState.flatmin-"
"""Of the experiment's tags that hold our views."""

MOST = 40
"""Views that the UI lets an experiment have."""

NAME = "attributes.`Run Name`"
ACCURACY = ("metrics.test_accuracy", "metrics.early_test_accuracy", "metrics.train_accuracy")
TUNED = ("params.rho", "params.lr", "params.weight_decay")
WHAT = ("tags.flatmin.dataset", "tags.flatmin.model", "tags.flatmin.method", "tags.flatmin.seed")
OF_TABLES = "tags.`flatmin.role` = 'table' and tags.`flatmin.planned` = 'true'"


@dataclass(frozen=True)
class Search:
    """A saved search.

    Attributes:
        id: what it goes by in an address.
        name: what the UI lists it as.
        filter: in MLflow's syntax.
        why: what a reader finds with it.
        columns: those shown, by kind and name.
        group_by: params or tags; runs that agree in them are one line, with the mean of their numbers.
        order: the column that sorts, the largest first; else the time.
        axes: params and metrics of a parallel-coordinates chart.
    """

    id: str
    name: str
    filter: str
    why: str
    columns: Sequence[str] = (*WHAT, *ACCURACY, "params.rho")
    group_by: Sequence[str] = ()
    order: str = ""
    axes: Sequence[str] = ()


SEARCHES = (
    Search(
        "methods",
        "Methods, mean over seeds",
        OF_TABLES,
        "SAM beside SGD: a line per dataset, model and method, with the mean over seeds",
        columns=(*ACCURACY, "metrics.test_nll", "metrics.sharpness_n_step", "metrics.gradients", "params.rho"),
        group_by=("params.method", "params.dataset", "params.model"),
        axes=("params.noise_rate", "params.rho", "metrics.train_accuracy", "metrics.test_accuracy"),
    ),
    Search(
        "tables",
        "Runs by table",
        OF_TABLES,
        "a group per table",
        group_by=("tags.flatmin.table",),
    ),
    Search(
        "sharpness-aware",
        "Sharpness-aware runs",
        f"{OF_TABLES} and tags.`flatmin.ascent` != 'none'",
        "all runs with an ascent, the best first",
        order="metrics.test_accuracy",
        axes=("params.method", "params.rho", "metrics.sharpness_n_step", "metrics.test_accuracy"),
    ),
    Search(
        "noisy",
        "Label noise",
        f"{OF_TABLES} and params.noise_rate != '0'",
        "runs on noisy labels, and how many wrong ones they learnt by heart",
        columns=(*WHAT, "params.noise_rate", "metrics.memorised", *ACCURACY),
        order="metrics.memorised",
        axes=("params.method", "params.noise_rate", "metrics.memorised", "metrics.test_accuracy"),
    ),
    Search(
        "trials",
        "Trials of the selection",
        "tags.`flatmin.role` = 'trial' and tags.`flatmin.planned` = 'true'",
        "what was tried before rho was chosen, the best on validation data first",
        columns=(*WHAT, *TUNED, "metrics.validation_accuracy"),
        order="metrics.validation_accuracy",
        axes=("params.method", *TUNED[:2], "metrics.validation_accuracy"),
    ),
    Search(
        "diverged",
        "Diverged",
        "tags.`flatmin.diverged` = 'true'",
        "runs and trials that diverged",
        columns=(*WHAT, "tags.flatmin.role", *TUNED),
    ),
    Search(
        "not-trained",
        "Not trained yet",
        "attributes.status = 'SCHEDULED' and tags.`flatmin.planned` = 'true'",
        "runs that failed or were not reached: `dvc repro` goes on with them",
    ),
    Search(
        "not-planned",
        "No longer planned",
        "tags.`flatmin.planned` = 'false'",
        "runs that an edit of the study dropped",
    ),
    Search(
        "summaries",
        "Summaries: tables and figures",
        "tags.`flatmin.role` = 'summary' and tags.`flatmin.planned` = 'true'",
        "one entry per table, with its figures and tables among the artifacts, and one for the whole study",
        columns=("tags.flatmin.table",),
    ),
)
"""In the order of the UI's list."""


def of_tables(tables: Sequence[str]) -> list[Search]:
    """Return all saved searches of a study: those above, then one per table, as many as the UI takes."""
    own = [
        Search(
            f"table-{table}",
            f"Table {table}",
            f"{OF_TABLES} and tags.`flatmin.table` = '{table}'",
            f"the methods of table `{table}`, mean over seeds",
            columns=SEARCHES[0].columns,
            group_by=SEARCHES[0].group_by,
            axes=SEARCHES[0].axes,
        )
        for table in tables
    ]
    return [*SEARCHES, *own][:MOST]


def view_tags(searches: Sequence[Search]) -> dict[str, str]:
    """Return the tags of the experiment that make the UI list the searches, in their order."""
    return {
        f"{PREFIX}{search.id}": json.dumps(
            # the UI lists the youngest first; milliseconds, none of them the time of anything
            {"name": search.name, "createdAt": len(searches) - i, "state": json.dumps(_state(search))}
        )
        for i, search in enumerate(searches)
    }


def _state(search: Search) -> dict[str, Any]:
    """Return the state of the page of runs: its filter, order, columns, groups and charts."""
    columns = [_quoted(column) for column in search.columns]
    state: dict[str, Any] = {
        "searchFilter": search.filter,
        "selectedColumns": columns,
        "columnOrder": [NAME, *columns],
        "columnWidths": {NAME: 380, **dict.fromkeys(columns, 150)},
        "runsHiddenMode": "SHOW_ALL",  # the UI draws ten runs else
    }
    if search.order:
        state |= {"orderByKey": _quoted(search.order), "orderByAsc": False}
    if search.group_by:
        named = (name.split(".", 1) for name in search.group_by)
        keys = [{"mode": kind.removesuffix("s"), "groupByData": name} for kind, name in named]
        state["groupBy"] = {"aggregateFunction": "average", "groupByKeys": keys}
    if search.axes:
        state |= _chart(search)
    return state


def _chart(search: Search) -> dict[str, Any]:
    """Return one chart with parallel coordinates, above those that the UI makes of every metric."""
    axes = [axis.split(".", 1) for axis in search.axes]
    section = {"uuid": "flatmin", "name": "Parallel coordinates", "display": True, "isReordered": True, "columns": 1}
    chart = {
        "uuid": f"flatmin-{search.id}",
        "type": "PARALLEL",
        "metricSectionId": "flatmin",
        "isGenerated": False,
        "deleted": False,
        "runsCountToCompare": 10,
        "selectedParams": [name for kind, name in axes if kind == "params"],
        "selectedMetrics": [name for kind, name in axes if kind == "metrics"],
        "showAllRuns": False,
    }
    return {"compareRunSections": [section], "compareRunCharts": [chart], "isAccordionReordered": True}


def _quoted(column: str) -> str:
    kind, name = column.split(".", 1)
    return f"{kind}.`{name}`"


def experiment_note(searches: Sequence[Search], address: Mapping[str, str]) -> str:
    """Return the experiment's description: what its runs are, and the saved searches.

    Args:
        searches: the saved searches.
        address: where the UI opens each, by id, without the server.
    """
    lines = [f"- [{search.name}]({address[search.id]}): {search.why}\n  `` {search.filter} ``" for search in searches]
    return "\n".join(
        [
            "Runs of a flatmin study, one entry per run key. Those with role `table` are the study's runs, `trial` is "
            "what the selection tried, `summary` has tables and figures. Records in `runs/` are the truth, this is a "
            "view of them. What each tag and setting means: `docs/mlflow.md`.",
            "",
            "Saved searches, also under *Views* above the runs:",
            "",
            *lines,
        ]
    )
