"""Why no row of a study speaks to a claim, so that a reader knows what a study would need."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from flatmin.results.cells import select
from flatmin.results.claim_spec import ClaimSpec
from flatmin.results.claim_words import admissible_text, methods_text, metric_text
from flatmin.results.inputs import RowKey, TableInfo
from flatmin.results.matching import admits, compare


def why_not_run(claim: ClaimSpec, runs: pd.DataFrame, tables: Mapping[str, TableInfo]) -> str:
    """Return the first thing that stands in the way: a measurement or an ascent, a row, finished runs, a method."""
    if claim.unmeasured:
        return f"not measured here: {claim.unmeasured}"
    rows = [(t, key) for t in tables.values() for key in t.row_keys if key in t.rows]
    admitted = [(table, key) for table, key in rows if admits(claim.admissible, table.rows[key])]
    if not admitted:
        return f"no row has {admissible_text(claim.admissible)}"
    started = [(table, key) for table, key in admitted if len(_of(runs, table, key))]
    if not started:
        return f"no run of {_rows_text(admitted)} has finished"
    if not any(compare(claim, table, key, runs, tables) for table, key in started):
        return f"{_rows_text(started)}: {methods_text(claim.rule)} have no finished runs to compare"
    return f"{_rows_text(started)}: no seed has a finite {metric_text(claim.rule.metric)} of all compared methods"


def _of(runs: pd.DataFrame, table: TableInfo, key: RowKey) -> pd.DataFrame:
    return select(runs[runs["table"] == table.name], key)


def _rows_text(rows: list[tuple[TableInfo, RowKey]]) -> str:
    return "; ".join(f"{table.name}: {' / '.join(key)}" for table, key in rows)
