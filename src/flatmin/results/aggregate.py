"""Stage ``aggregate``: tables, verdicts, metrics and cost as files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from flatmin.results.blocks import layout
from flatmin.results.claim_files import claims_json, claims_markdown
from flatmin.results.claim_spec import load_claims
from flatmin.results.claims import judge
from flatmin.results.cost import cost_csv, cost_frame, cost_markdown
from flatmin.results.files import prune, write_text
from flatmin.results.inputs import TableInfo, measured
from flatmin.results.shift import shift_csv
from flatmin.results.tables import markdown, metrics, tex, tidy


def aggregate(
    runs: pd.DataFrame,
    tables: Mapping[str, TableInfo],
    seconds: pd.DataFrame,
    claims_path: Path,
    out: Path,
    shifts: pd.DataFrame | None = None,
) -> None:
    """Write ``out``/tables/*.{csv,md,tex}, claims.{json,md}, metrics.json and cost.{csv,md}.

    A table that was measured on further test sets has a ``*.shift.csv`` too.

    All but cost.* depend on ``runs``, ``tables`` and the claims file alone, to the byte. Files of tables that are no
    longer in the study are removed.

    Args:
        runs: one line per finished run and table (`flatmin.results.inputs`).
        tables: the study's tables by name, in print order.
        seconds: ``table``, ``run_id``, ``train_seconds``.
        claims_path: the claims file.
        out: the results folder.
        shifts: what the runs achieve on further test sets (`shift.COLUMNS`).

    Raises:
        ClaimsError: the claims file cannot be used; nothing is written then.
        ValueError: ``runs`` lacks a column or holds a run twice.
    """
    claims = load_claims(claims_path)
    finished = measured(runs)
    layouts = {name: layout(finished, table, shifts) for name, table in tables.items()}
    judged = judge(claims, finished, tables)
    for name, laid in layouts.items():
        write_text(out / "tables" / f"{name}.csv", tidy(laid))
        write_text(out / "tables" / f"{name}.md", markdown(laid))
        write_text(out / "tables" / f"{name}.tex", tex(laid))
    shifted = {} if shifts is None else {name: shift_csv(shifts, name) for name in tables if name in {*shifts["table"]}}
    for name, text in shifted.items():
        write_text(out / "tables" / f"{name}.shift.csv", text)
    suffixes = (".csv", ".md", ".tex")
    kept = [name + suffix for name in tables for suffix in suffixes]
    prune(out / "tables", [*kept, *(f"{name}.shift.csv" for name in shifted)], suffixes)
    write_text(out / "claims.json", claims_json(judged))
    write_text(out / "claims.md", claims_markdown(judged))
    write_text(out / "metrics.json", json.dumps(metrics(layouts), indent=2, allow_nan=False))
    cost = cost_frame(finished, seconds)
    write_text(out / "cost.csv", cost_csv(cost))
    write_text(out / "cost.md", cost_markdown(cost))
