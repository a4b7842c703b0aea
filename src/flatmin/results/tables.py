"""The study's tables as files: Markdown, LaTeX, one tidy csv with every number, and the metrics."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from flatmin.results import latex
from flatmin.results.block import Block
from flatmin.results.blocks import Layout
from flatmin.results.cells import PERCENT, Cell, Row
from flatmin.results.failures import Difference
from flatmin.results.inputs import MEASURED, TableInfo
from flatmin.results.statistics import Interval


def markdown(layout: Layout) -> str:
    """The table in GitHub Markdown."""
    return markdown_page(layout.table.title or layout.table.name, layout.blocks, layout.remarks)


def markdown_page(title: str, blocks: Sequence[Block], remarks: Sequence[str] = ()) -> str:
    """A page with some tables in GitHub Markdown, and remarks as a list."""
    lines = [f"# {title}", ""]
    for block in blocks:
        lines += _markdown_block(block)
    lines += [f"- {remark}" for remark in remarks]
    return "\n".join(lines).rstrip() + "\n"


def tex(layout: Layout) -> str:
    """The table in LaTeX; needs what `latex.PACKAGES` names."""
    return latex.document(layout.blocks, layout.remarks)


def tidy(layout: Layout) -> str:
    """The csv: one line per dataset x model x method with every number in full precision.

    Accuracies and errors are in percent, their differences in points, all else in its own unit; ``_half_width`` is
    that of the 95% interval and ``_n`` the number of runs with that measurement, ``n`` that of all finished runs. The
    ``equal_`` differences are from ``equal_baseline``, the plain method with as many gradients. ``_failed_n`` counts
    the pairs with a run that diverged or collapsed; ``_p_without_failed`` is the others' one-sided p that the method
    is better.
    """
    lines = [_tidy_line(layout.table, row, row.cells[m]) for row in layout.cells for m in layout.table.methods]
    return str(pd.DataFrame(lines).to_csv(index=False, lineterminator="\n"))


def metrics(layouts: Mapping[str, Layout]) -> dict[str, Any]:
    """The numbers for ``dvc metrics show``: by table, dataset, model and method. What is unknown is left out."""
    out: dict[str, Any] = {}
    for name, layout in layouts.items():
        for row in layout.cells:
            for cell in row.cells.values():
                place = out.setdefault(name, {}).setdefault(row.dataset, {}).setdefault(row.model, {})
                place[cell.method] = _metrics_of(cell)
    return out


def _markdown_block(block: Block) -> list[str]:
    """The lines of one block: its caption, its rows, its notes."""

    def line(cells: tuple[str, ...]) -> str:
        return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"

    rule = ["---"] * block.stubs + ["--:"] * (len(block.header) - block.stubs)
    notes = ["", *(f"- {note}" for note in block.notes)] if block.notes else []
    return [block.caption, "", line(block.header), f"|{'|'.join(rule)}|", *map(line, block.rows), *notes, ""]


def _tidy_line(table: TableInfo, row: Row, cell: Cell) -> dict[str, Any]:
    line: dict[str, Any] = {
        "table": table.name,
        "dataset": row.dataset,
        "model": row.model,
        "method": cell.method,
        "planned": cell.planned,
        "n": cell.n,
        "missing": cell.missing,
        "diverged_runs": cell.diverged,
        "collapsed_runs": cell.collapsed,
    }
    for name in MEASURED:
        fraction = name.endswith(("accuracy", "error", "memorised"))
        interval = cell.percent(name) if fraction else cell.means[name]
        line |= _spread(f"{name}_percent" if fraction else name, interval)
    line["relative_gradients"] = cell.relative_gradients
    line["baseline"] = row.baseline
    line["early_baseline"] = row.early_baseline
    line["equal_baseline"] = cell.equal
    line |= _difference("difference", cell.difference)
    line |= _difference("early_difference", cell.early_difference)
    line |= _difference("equal_difference", cell.equal_difference)
    return line | _difference("early_equal_difference", cell.early_equal_difference)


def _spread(name: str, interval: Interval) -> dict[str, float]:
    return {f"{name}_mean": interval.mean, f"{name}_half_width": interval.half_width, f"{name}_n": interval.n}


def _difference(name: str, paired: Difference | None) -> dict[str, Any]:
    interval = paired.interval if paired else None
    return {
        f"{name}_points": interval.mean if interval else None,
        f"{name}_low": interval.low if interval else None,
        f"{name}_high": interval.high if interval else None,
        f"{name}_n": interval.n if interval else 0,
        f"{name}_p": paired.p if paired else None,
        f"{name}_test": paired.test if paired else None,
        f"{name}_failed_n": paired.failed if paired else 0,
        f"{name}_p_without_failed": None if paired is None or math.isnan(paired.sound) else paired.sound,
    }


def _metrics_of(cell: Cell) -> dict[str, float | int]:
    last, early = cell.means["test_accuracy"], cell.means["early_test_accuracy"]
    numbers: dict[str, float] = {
        "accuracy": last.mean * PERCENT,
        "half_width": last.half_width * PERCENT,
        "early_accuracy": early.mean * PERCENT,
        "early_half_width": early.half_width * PERCENT,
        "relative_gradients": cell.relative_gradients,
    }
    if cell.difference is not None:
        numbers |= {"difference": cell.difference.interval.mean, "p": cell.difference.p}
        numbers["difference_half_width"] = cell.difference.interval.half_width
    known: dict[str, float | int] = {k: round(v, 6) for k, v in numbers.items() if math.isfinite(v)}
    return known | {"n": cell.n, "diverged": cell.diverged, "collapsed": cell.collapsed, "missing": cell.missing}
