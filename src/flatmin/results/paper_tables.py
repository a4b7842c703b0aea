"""The papers' tables as they are laid out there, published and measured numbers side by side, with the verdicts."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from flatmin.results import latex
from flatmin.results.block import MOST_COLUMNS, Block
from flatmin.results.claim_spec import ClaimSpec
from flatmin.results.claims import Judged
from flatmin.results.inputs import TableInfo
from flatmin.results.matching import admits
from flatmin.results.paper_cells import DIMENSIONS, MINUS, PaperCell, PaperTable, paper_cells, table_of
from flatmin.results.paper_words import MARKS, caption, cell_text, kinds, notes
from flatmin.results.tables import markdown_page
from flatmin.results.wording import mean_text, signed_mean_text

PUBLISHED, MEASURED, VERDICT = "published", "measured", "verdict"
_LINES = (PUBLISHED, MEASURED, VERDICT)
_DATA, _NOISE = "data", "label noise"


def paper_tables(judged: Sequence[Judged], tables: Mapping[str, TableInfo], runs: pd.DataFrame) -> list[Block]:
    """Lay out every published table that a run speaks to, or that a row of the study was planned for.

    Args:
        judged: All claims (`claims.judge`), in the file's order.
        tables: The tables of the study.
        runs: The measured runs (`inputs.measured`).
    """
    return [_block(table) for table in _papers(judged, tables, runs)]


def paper_files(judged: Sequence[Judged], tables: Mapping[str, TableInfo], runs: pd.DataFrame) -> dict[str, str]:
    """The same as files, by name: ``<id>.md``, ``<id>.tex``, and ``<id>.csv`` with every number in full precision."""
    files = {}
    for table in _papers(judged, tables, runs):
        block = _block(table)
        files[f"{table.id}.csv"] = _csv(table)
        files[f"{table.id}.md"] = markdown_page(block.title, [block])
        files[f"{table.id}.tex"] = latex.document([block])
    return files


def _papers(judged: Sequence[Judged], tables: Mapping[str, TableInfo], runs: pd.DataFrame) -> list[PaperTable]:
    groups: dict[tuple[str, str], list[Judged]] = defaultdict(list)
    for one in judged:
        key = table_of(one.claim)
        if key is not None:
            groups[key].append(one)
    return [
        PaperTable(*key, tuple(paper_cells(group, runs)))
        for key, group in groups.items()
        if any(one.outcomes or _planned(one.claim, tables) for one in group)
    ]


def _planned(claim: ClaimSpec, tables: Mapping[str, TableInfo]) -> bool:
    """Whether the study has a row with the claim's own data, whatever became of its runs."""
    setting = claim.setting
    return setting is not None and any(
        admits(claim.admissible, row)
        and row.source in setting.sources
        and math.isclose(row.noise_rate, setting.noise_rate, abs_tol=1e-9)
        for table in tables.values()
        for row in table.rows.values()
    )


def _block(table: PaperTable) -> Block:
    along = _along(table)
    stubs = ["method"] if along else _row_dimensions(table)
    grid: dict[tuple[str, ...], dict[str, PaperCell]] = defaultdict(dict)
    for cell in _values_first(table):
        row = (cell.of,) if along else tuple(cell.at(name) or "not given" for name in stubs)
        grid[row][_column(table, cell)] = cell
    columns = _columns(table)
    body = [
        (*row, line, *(_text(cells.get(column), line, table) for column in columns))
        for row, cells in grid.items()
        for line in _lines(cells)
    ]
    return Block(
        caption=caption(table),
        header=(*stubs, "number", *columns),
        rows=tuple(body),
        stubs=len(stubs) + 1,
        id=table.id,
        title=f"{table.paper}, {table.name}",
        notes=tuple(notes(table)),
    )


def _along(table: PaperTable) -> str | None:
    """The dimension along which columns go where methods are rows, else None: then methods are columns.

    Methods are rows where label noise alone varies, as in the papers, and where they would be too many columns.
    """
    if len(table.varying) != 1:
        return None
    (only,) = table.varying
    columns = len({(cell.of, cell.at(_DATA)) for cell in table.cells})
    return only if only == _NOISE or (_data_in_columns(table) and columns > MOST_COLUMNS) else None


def _row_dimensions(table: PaperTable) -> list[str]:
    """What tells rows apart: all that varies, without the data where these are columns."""
    return [name for name in table.varying if name != _DATA or not _data_in_columns(table)] or ["model"]


def _data_in_columns(table: PaperTable) -> bool:
    return len({cell.at(_DATA) for cell in table.cells}) <= 2


def _column(table: PaperTable, cell: PaperCell) -> str:
    along = _along(table)
    if along:
        return f"noise {cell.at(along)}" if along == _NOISE else cell.at(along)
    in_columns = _DATA in table.varying and _data_in_columns(table)
    return f"{cell.at(_DATA)}: {cell.of}" if in_columns else cell.of


def _columns(table: PaperTable) -> list[str]:
    """The columns in their order: noise by its rate; data by data, each method before the differences."""
    cells = _values_first(table)
    if _along(table) == _NOISE:
        cells = sorted(cells, key=lambda cell: float(cell.at(_NOISE).rstrip("%")))
    data = list(dict.fromkeys(cell.at(_DATA) for cell in table.cells))
    cells = sorted(cells, key=lambda cell: data.index(cell.at(_DATA)))
    return list(dict.fromkeys(_column(table, cell) for cell in cells))


def _values_first(table: PaperTable) -> list[PaperCell]:
    """Each method before the differences; of more than two, and in rows, those that are only compared with first.

    What differs in an option alone ("SAM (rho 0.1)", "SAM (rho 0.2)") stands together, in the order of the option.
    """
    titles = list(dict.fromkeys(_title(cell) for cell in table.cells if not cell.is_difference))
    treatments = {_title(cell) for cell in table.cells if cell.is_difference}
    baselines_first = len({cell.of for cell in table.cells if not cell.is_difference}) > 2 or _along(table) is not None

    def place(cell: PaperCell) -> tuple[bool, bool, int, str]:
        if cell.is_difference:
            return (True, True, 0, "")
        return (False, baselines_first and _title(cell) in treatments, titles.index(_title(cell)), cell.of)

    return sorted(table.cells, key=place)


def _title(cell: PaperCell) -> str:
    """The (first) method's name without its options."""
    return cell.of.partition(MINUS)[0].partition(" (")[0]


def _lines(cells: Mapping[str, PaperCell]) -> list[str]:
    """What is printed of a row: the published numbers alone where nothing ran."""
    if not any(cell.outcome for cell in cells.values()):
        return [PUBLISHED]
    return [*_LINES] if any(cell.is_difference for cell in cells.values()) else [PUBLISHED, MEASURED]


def _text(cell: PaperCell | None, line: str, table: PaperTable) -> str:
    if cell is None:
        return ""
    if line == PUBLISHED:
        return cell_text(cell, named=len(kinds(table)) > 1)
    if line == VERDICT:
        return (cell.outcome.label if cell.outcome else "not-run") if cell.is_difference else ""
    if cell.measured is None or cell.outcome is None or not cell.measured.n:
        return "–"
    show = signed_mean_text if cell.is_difference else mean_text
    return f"{show(cell.measured)}{MARKS[cell.outcome.fidelity]}"


def _csv(table: PaperTable) -> str:
    """One line per cell, measured or not."""
    return str(pd.DataFrame([_csv_line(table, cell) for cell in table.cells]).to_csv(index=False, lineterminator="\n"))


def _csv_line(table: PaperTable, cell: PaperCell) -> dict[str, Any]:
    value, ours, outcome = cell.published, cell.measured, cell.outcome
    return {
        "paper": table.paper,
        "table": table.name,
        **{name.replace(" ", "_"): cell.at(name) for name in DIMENSIONS},
        "of": cell.of,
        "unit": cell.unit,
        "claim": cell.claim.id,
        "published": value.value if value else None,
        "published_spread": value.spread if value else None,
        "published_spread_kind": value.kind if value else None,
        "published_runs": value.runs if value else None,
        "measured_mean": ours.mean if ours else None,
        "measured_half_width": ours.half_width if ours else None,
        "measured_n": ours.n if ours else 0,
        "verdict": (outcome.verdict if outcome else "not-run") if cell.is_difference else None,
        "fidelity": outcome.fidelity if outcome else None,
        "study_table": outcome.table if outcome else None,
        "study_dataset": outcome.dataset if outcome else None,
        "study_model": outcome.model if outcome else None,
        "study_method": cell.method or None,
        "diverged": outcome.diverged if outcome else None,
        "missing": outcome.missing if outcome else None,
    }
