"""The golden report: written from fixed records, and read back as a browser would.

``python tests/results/golden.py FOLDER`` writes one to look at.
"""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
from synthetic import make_histories, make_seconds, make_study

from flatmin.results.aggregate import aggregate
from flatmin.results.inputs import TableInfo
from flatmin.results.report import report

CLAIMS = Path(__file__).parents[2] / "experiments" / "claims.yaml"
VOID = {"meta", "link", "br", "img", "hr", "input", "path", "use", "rect"}


class Page(HTMLParser):
    """What the tests ask of a page: elements with their attributes, tables as text, headings in order, nesting."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.tables: list[list[list[str]]] = []
        self.captions: list[str] = []
        self.headings: list[int] = []
        self.stack: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.stack.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")
        if tag == "caption":
            self.captions.append("")
        if re.fullmatch(r"h[1-6]", tag):
            self.headings.append(int(tag[1]))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.stack.pop() == tag
        if tag in ("td", "th", "dt", "dd", "li"):
            self.text += " "

    def handle_data(self, data: str) -> None:
        if "style" not in self.stack:
            self.text += data
        if "caption" in self.stack:
            self.captions[-1] += data
        if "td" in self.stack or "th" in self.stack:
            self.tables[-1][-1][-1] += data

    @property
    def words(self) -> str:
        """The text with single spaces."""
        return " ".join(self.text.split())

    def captioned(self, start: str) -> list[list[str]]:
        """The one table whose caption begins so."""
        found = [
            rows for rows, caption in zip(self.tables, self.captions, strict=True) if caption.strip().startswith(start)
        ]
        assert len(found) == 1, (start, self.captions)
        return found[0]


def golden_study() -> tuple[pd.DataFrame, dict[str, TableInfo], dict[str, pd.DataFrame]]:
    """Runs, tables and learning curves whose final validation accuracies agree with each other."""
    runs, tables = make_study()
    histories = make_histories(runs)
    runs["validation_accuracy"] = [histories[run]["validation_accuracy"].iloc[-1] for run in runs["run_id"]]
    return runs, tables, histories


def write_golden(out: Path, *, without: str = "", partial: bool = False) -> None:
    """Write all results of the golden study into ``out``; runs that fit the query ``without`` are missing."""
    runs, tables, histories = golden_study()
    if without:
        runs = runs.drop(runs.query(without).index)
    aggregate(runs, tables, make_seconds(runs), CLAIMS, out)
    report(runs, tables, histories, CLAIMS, out, commands=("flatmin use quick", "dvc repro"), partial=partial)


if __name__ == "__main__":
    write_golden(Path(sys.argv[1]))
