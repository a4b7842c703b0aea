"""The study's tables as files: Markdown, LaTeX (booktabs), one tidy csv with every number, and the metrics."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import pandas as pd

from flatmin.results.block import Block
from flatmin.results.blocks import Layout
from flatmin.results.cells import PERCENT, Cell, Row
from flatmin.results.inputs import MEASURED, TableInfo
from flatmin.results.statistics import Interval, Paired

_TEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"$<$",
    ">": r"$>$",
    "±": r"$\pm$",
    "–": "--",
    "[": "{[}",  # after \\ a bracket would be read as an optional argument
    "]": "{]}",
}


def markdown(layout: Layout) -> str:
    """The table in GitHub Markdown."""
    lines = [f"# {layout.table.title or layout.table.name}", ""]
    for block in layout.blocks:
        lines += [block.caption, "", *_markdown_rows(block), ""]
    lines += [f"- {remark}" for remark in layout.remarks]
    return "\n".join(lines).rstrip() + "\n"


def tex(layout: Layout) -> str:
    r"""The table in LaTeX; needs ``\usepackage{booktabs}``."""
    parts = ["% needs \\usepackage{booktabs}", *(_tex_block(block) for block in layout.blocks)]
    if layout.remarks:
        items = "\n".join(f"  \\item {tex_escape(remark)}" for remark in layout.remarks)
        parts.append(f"\\begin{{itemize}}\n{items}\n\\end{{itemize}}")
    return "\n\n".join(parts) + "\n"


def tex_escape(text: str) -> str:
    """Plain text with LaTeX's special characters escaped and minus signs set as such."""
    escaped = "".join(_TEX.get(character, character) for character in text)
    return re.sub(r"(?<![\w}])-(?=\d)", "$-$", escaped)


def tidy(layout: Layout) -> str:
    """The csv: one line per dataset x model x method with every number in full precision.

    Accuracies and errors are in percent, their differences in points, all else in its own unit; ``_half_width`` is
    that of the 95% interval.
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


def _markdown_rows(block: Block) -> list[str]:
    def line(cells: tuple[str, ...]) -> str:
        return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"

    rule = ["---"] * block.stubs + ["--:"] * (len(block.header) - block.stubs)
    return [line(block.header), f"|{'|'.join(rule)}|", *(line(row) for row in block.rows)]


def _tex_block(block: Block) -> str:
    def line(cells: tuple[str, ...]) -> str:
        return "  " + " & ".join(map(tex_escape, cells)) + r" \\"

    columns = "l" * block.stubs + "r" * (len(block.header) - block.stubs)
    body = "\n".join(line(row) for row in block.rows)
    return "\n".join(
        [
            r"\begin{table}",
            r"  \centering",
            f"  \\caption{{{tex_escape(block.caption)}}}",
            f"  \\begin{{tabular}}{{{columns}}}",
            r"  \toprule",
            line(block.header),
            r"  \midrule",
            body,
            r"  \bottomrule",
            r"  \end{tabular}",
            r"\end{table}",
        ]
    )


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
    }
    for name in MEASURED:
        fraction = name.endswith(("accuracy", "error", "memorised"))
        interval = cell.percent(name) if fraction else cell.means[name]
        line |= _spread(f"{name}_percent" if fraction else name, interval)
    line["relative_gradients"] = cell.relative_gradients
    line["baseline"] = row.baseline
    line["early_baseline"] = row.early_baseline
    line |= _difference("difference", cell.difference)
    return line | _difference("early_difference", cell.early_difference)


def _spread(name: str, interval: Interval) -> dict[str, float]:
    return {f"{name}_mean": interval.mean, f"{name}_half_width": interval.half_width}


def _difference(name: str, paired: Paired | None) -> dict[str, Any]:
    interval = paired.interval if paired else None
    return {
        f"{name}_points": interval.mean if interval else None,
        f"{name}_low": interval.low if interval else None,
        f"{name}_high": interval.high if interval else None,
        f"{name}_n": interval.n if interval else 0,
        f"{name}_p": paired.p if paired else None,
        f"{name}_test": paired.test if paired else None,
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
    return known | {"n": cell.n, "diverged": cell.diverged, "missing": cell.missing}
