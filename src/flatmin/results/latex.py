r"""Printed tables in LaTeX: booktabs rules, siunitx numbers, and no wider than the line they stand in."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from flatmin.results.block import Block

PACKAGES = ("booktabs", "graphicx", "siunitx")
"""What a document needs to include a table; siunitx from version 3 (2021)."""

LONGEST = 40
"""A table with more lines is set in smaller type, so that it stays on its page."""

_SPECIAL = {
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
    "×": r"$\times$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "ρ": r"$\rho$",
    "ε": r"$\varepsilon$",
    "µ": r"$\mu$",
    "−": "$-$",
    "–": "--",
    "†": r"$\dagger$",
    "‡": r"$\ddagger$",
    "§": r"\S{}",
    "[": "{[}",  # after \\ a bracket would be read as an optional argument
    "]": "{]}",
}

_MEAN = re.compile(r"(?P<mean>[+-]?\d+(\.\d+)?)( ± (?P<half>\d+(\.\d+)?))?( (?P<rest>\(\d+\)[†‡§]?))?")
"""What `wording.mean_text` writes: a mean, maybe a half-width, n, maybe a mark. A published number may lack its n."""

_NUMBER = re.compile(r"(?<![\w.,$-])[+-]?\d+(,\d{3})*(\.\d+)?(?![\w.]*\w)")

_SETUP = "uncertainty-mode = separate, retain-explicit-plus = true, retain-negative-zero = true, group-digits = none"


@dataclass(frozen=True)
class _Column:
    """How a column is set: ``format`` is siunitx's table-format of a column of means (n beside it), else empty."""

    format: str

    @property
    def specification(self) -> str:
        return rf"S[table-format = {self.format}]@{{\,}}l" if self.format else "r"

    def head(self, name: str) -> str:
        return rf"\multicolumn{{2}}{{c}}{{{escape(name)}}}" if self.format else escape(name)

    def cell(self, text: str) -> str:
        found = _MEAN.fullmatch(text)
        if self.format and found:
            half = rf" \pm {found['half']}" if found["half"] else ""
            return f"{found['mean']}{half} & {escape(found['rest'] or '')}".rstrip()
        return rf"\multicolumn{{2}}{{c}}{{{numbers(text)}}}" if self.format else numbers(text)


def document(blocks: Sequence[Block], remarks: Sequence[str] = ()) -> str:
    """Return the tables one after another, and the remarks as a list; to be included where `PACKAGES` are loaded."""
    needs = f"% needs \\usepackage{{{', '.join(PACKAGES)}}}"
    return "\n\n".join([needs, *map(table, blocks), *_items(remarks)]) + "\n"


def table(block: Block) -> str:
    """Return one table, shrunk where it is wider than its line, with its notes below."""
    stubs = block.stubs
    columns = [_column([row[place] for row in block.rows]) for place in range(stubs, len(block.header))]
    heads = [column.head(name) for column, name in zip(columns, block.header[stubs:], strict=True)]
    cells = [[c.cell(text) for c, text in zip(columns, row[stubs:], strict=True)] for row in block.rows]
    stub_cells = [[*map(escape, row[:stubs])] for row in block.rows]
    parts = [
        r"\begin{table}[htbp]",
        r"  \centering",
        *([r"  \scriptsize"] if len(block.rows) > LONGEST else []),
        rf"  \sisetup{{{_SETUP}}}",
        rf"  \caption{{{escape(block.caption)}}}",
        r"  \resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"  \begin{{tabular}}{{{'l' * stubs}{''.join(column.specification for column in columns)}}}",
        r"  \toprule",
        _line([*map(escape, block.header[:stubs]), *heads]),
        r"  \midrule",
        *(_line([*first, *rest]) for first, rest in zip(stub_cells, cells, strict=True)),
        r"  \bottomrule",
        r"  \end{tabular}}",
        *([r"  \par\smallskip\raggedright\footnotesize"] if block.notes else []),
        *(rf"  {escape(note)}\par" for note in block.notes),
        r"\end{table}",
    ]
    return "\n".join(parts)


def escape(text: str) -> str:
    """Plain text with LaTeX's special characters escaped and minus signs set as such."""
    escaped = "".join(_SPECIAL.get(character, character) for character in text)
    return re.sub(r"(?<![\w}])-(?=\d)", "$-$", escaped)


def numbers(text: str) -> str:
    r"""Plain text with its special characters escaped and its numbers in ``\num{}``, unless they belong to a word."""
    parts, end = [], 0
    for found in _NUMBER.finditer(text):
        parts += [escape(text[end : found.start()]), rf"\num{{{found.group().replace(',', '')}}}"]
        end = found.end()
    return "".join([*parts, escape(text[end:])])


def _column(cells: Sequence[str]) -> _Column:
    """Set a column in siunitx's S if it has a number of its own, and give it room for the widest."""
    found = [match for match in map(_MEAN.fullmatch, cells) if match]
    if not found:
        return _Column("")
    signed = any(match["mean"][0] in "+-" for match in found)
    whole = max(len(match["mean"].lstrip("+-").partition(".")[0]) for match in found)
    decimals = max(len(match["mean"].partition(".")[2]) for match in found)
    halves = [match["half"] for match in found if match["half"]]
    digits = max((len(half.replace(".", "").lstrip("0")) for half in halves), default=0)
    width = f"{'+' if signed else ''}{whole}{f'.{decimals}' if decimals else ''}"
    return _Column(f"{width}({max(digits, 1)})" if halves else width)


def _line(cells: Sequence[str]) -> str:
    return f"  {' & '.join(cells)} \\\\"


def _items(remarks: Sequence[str]) -> list[str]:
    items = "\n".join(rf"  \item {escape(remark)}" for remark in remarks)
    return [f"\\begin{{itemize}}\n{items}\n\\end{{itemize}}"] if remarks else []
