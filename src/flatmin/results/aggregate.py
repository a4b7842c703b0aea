"""Stage ``aggregate``: tables, verdicts, metrics and cost as files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from flatmin.results.blocks import layout
from flatmin.results.claim_files import claims_json, claims_markdown
from flatmin.results.claim_spec import load_claims
from flatmin.results.claims import judge
from flatmin.results.cost import cost_csv, cost_frame, cost_markdown
from flatmin.results.files import prune, write_text
from flatmin.results.inputs import TableInfo, measured
from flatmin.results.paper_tables import paper_files
from flatmin.results.shift import shift_csv
from flatmin.results.tables import markdown, metrics, tex, tidy

SUFFIXES = (".csv", ".md", ".tex")


def aggregate(
    runs: pd.DataFrame,
    tables: Mapping[str, TableInfo],
    seconds: pd.DataFrame,
    claims_path: Path,
    out: Path,
    shifts: pd.DataFrame | None = None,
    primary: Sequence[str] | None = None,
) -> None:
    """Write ``out``/tables/*.{csv,md,tex}, metrics/*.json, claims.{json,md} and cost.{csv,md}.

    A table that was measured on further test sets has a ``*.shift.csv`` too, and a paper's table that the study speaks
    to is ``paper-*``. Metrics are a file per table, dataset, model and method, so that ``dvc metrics show`` prints a
    line for each.

    All but cost.* depend on ``runs``, ``tables`` and the claims file alone, to the byte. Files of tables that are no
    longer in the study are removed.

    Args:
        runs: one line per finished run and table (`flatmin.results.inputs`).
        tables: the study's tables by name, in print order.
        seconds: ``table``, ``run_id``, ``train_seconds``.
        claims_path: the claims file.
        out: the results folder.
        shifts: what the runs achieve on further test sets (`shift.COLUMNS`).
        primary: ids of the study's primary claims; None for those that the file names.

    Raises:
        ClaimsError: the claims file cannot be used; nothing is written then.
        ValueError: ``runs`` lacks a column or holds a run twice.
    """
    claims = load_claims(claims_path)
    finished = measured(runs)
    layouts = {name: layout(finished, table, shifts) for name, table in tables.items()}
    judged = judge(claims, finished, tables, shifts=shifts, primary=primary)
    printed = paper_files(judged, tables, finished)
    for name, laid in layouts.items():
        printed |= {f"{name}.csv": tidy(laid), f"{name}.md": markdown(laid), f"{name}.tex": tex(laid)}
        if shifts is not None and (shifts["table"] == name).any():
            printed[f"{name}.shift.csv"] = shift_csv(shifts, name)
    _write_folder(out / "tables", printed, SUFFIXES)
    _write_folder(out / "metrics", _metric_files(metrics(layouts)), (".json",))
    write_text(out / "claims.json", claims_json(judged))
    write_text(out / "claims.md", claims_markdown(judged))
    cost = cost_frame(finished, seconds, tables)
    write_text(out / "cost.csv", cost_csv(cost))
    write_text(out / "cost.md", cost_markdown(cost))


def _write_folder(folder: Path, files: Mapping[str, str], suffixes: tuple[str, ...]) -> None:
    """Write ``files`` into ``folder`` and remove all others with these suffixes."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        write_text(folder / name, text)
    prune(folder, files, suffixes)


def _metric_files(nested: Mapping[str, Any]) -> dict[str, str]:
    """One small JSON file per table, dataset, model and method."""
    return {
        f"{table}.{dataset}.{model}.{method}.json": json.dumps(numbers, indent=2, allow_nan=False)
        for table, datasets in nested.items()
        for dataset, models in datasets.items()
        for model, methods in models.items()
        for method, numbers in methods.items()
    }
