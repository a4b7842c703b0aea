"""What a report says, before it is laid out: the same words and numbers for the page and for Markdown."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from flatmin.results.answers import Answer, headlines, others, unanswered
from flatmin.results.block import Block
from flatmin.results.blocks import Layout
from flatmin.results.claim_content import ClaimView, NotRun, claim_views, not_run, verdict_counts, words
from flatmin.results.claim_files import coverage_text
from flatmin.results.claims import Judged
from flatmin.results.diagnosis import Finding, diagnose
from flatmin.results.failures import with_collapsed
from flatmin.results.figures.every import Drawn, every_figure
from flatmin.results.inputs import TableInfo
from flatmin.results.lead import lead, question
from flatmin.results.methods import method_lines
from flatmin.results.paper_tables import paper_tables
from flatmin.results.wording import count


@dataclass(frozen=True)
class TableContent:
    """A table of the study: its answers, and the rows that have none yet."""

    layout: Layout
    answers: list[Answer]
    unanswered: list[str]

    @property
    def name(self) -> str:
        """The table's name."""
        return self.layout.table.name

    @property
    def title(self) -> str:
        """The table's question."""
        return self.layout.table.title or self.name


@dataclass(frozen=True)
class Content:
    """The report.

    ``words`` explains the verdicts that occur. ``runs``, ``planned``, ``diverged`` and ``collapsed`` count runs;
    ``missing`` has a line per cell that lacks some.
    """

    question: str
    lead: str
    tables: list[TableContent]
    others: Block | None
    verdicts: Block
    coverage: str
    claims: list[ClaimView]
    words: dict[str, str]
    not_run: list[NotRun]
    papers: list[Block]
    figures: dict[str, Drawn]
    findings: list[Finding]
    environment: list[str]
    methods: list[str]
    commands: list[str]
    partial: bool
    missing: list[str]
    runs: int
    planned: int
    diverged: int
    collapsed: int

    @property
    def state(self) -> str:
        """How much of the study there is, in a sentence or two."""
        tables = count(len(self.tables), "table")
        coverage = self.coverage[0].lower() + self.coverage[1:]
        several = sum(len(table.answers) for table in self.tables) > 1
        alone = "Each interval and each p below stands for itself; the first line is adjusted for their number."
        return (
            f"{self.runs} of {self.planned} planned runs in {tables}; {coverage}. {self._failures()}."
            f"{f' {alone}' if several else ''}"
        )

    def _failures(self) -> str:
        failed = {"diverged": self.diverged, "collapsed": self.collapsed}
        said = [
            f"{count(number, 'run')} {what} and {'is counted as it is' if number == 1 else 'are counted as they are'}"
            for what, number in failed.items()
            if number
        ]
        return "; ".join(said) or "No run diverged or collapsed"

    @property
    def silent(self) -> str:
        """How many claims no row speaks to: "153 claims not run"."""
        return f"{count(sum(len(group.details) for group in self.not_run), 'claim')} not run"

    def figures_of(self, table: str | None) -> dict[str, Drawn]:
        """The figures of a table, or (None) those of the whole study, by name."""
        return {name: drawn for name, drawn in self.figures.items() if drawn.table == table}


def content(
    runs: pd.DataFrame,
    tables: Mapping[str, TableInfo],
    histories: Mapping[str, pd.DataFrame],
    shifts: pd.DataFrame | None,
    layouts: Sequence[Layout],
    judged: Sequence[Judged],
    commands: Sequence[str],
    *,
    partial: bool,
) -> Content:
    """Say everything that the report says of the measured ``runs``; arguments are those of `report.report`."""
    return Content(
        question=question(layouts, runs),
        lead=lead([answer for laid in layouts for answer in headlines(laid, runs)]),
        tables=[TableContent(laid, headlines(laid, runs), unanswered(laid, runs)) for laid in layouts],
        others=others(layouts, runs),
        verdicts=verdict_counts(judged),
        coverage=coverage_text(judged),
        claims=claim_views(judged),
        words=words(judged),
        not_run=not_run(judged),
        papers=paper_tables(judged, tables, runs),
        figures=every_figure(layouts, runs, histories, shifts, judged),
        findings=diagnose(runs, histories, tables),
        environment=environment_lines(runs),
        methods=method_lines(sharpness_line(runs)),
        commands=list(commands),
        partial=partial,
        missing=missing_lines(layouts),
        runs=len(runs),
        planned=sum(cell.planned for laid in layouts for row in laid.cells for cell in row.cells.values()),
        diverged=int(runs["diverged"].sum()),
        collapsed=int(with_collapsed(runs, tables)["collapsed"].sum()),
    )


def environment_lines(runs: pd.DataFrame) -> list[str]:
    """Device types and library versions as the records have them, with the number of runs."""
    names = [name for name in ("device", "torch", "timm") if name in runs.columns]
    unique = runs.drop_duplicates("run_id")
    sizes: dict[tuple[Hashable, ...], int] = {}
    for key, group in unique.groupby(names, dropna=False, sort=True):
        sizes[key] = len(group)
    return [
        ", ".join(f"{name} {value}" for name, value in zip(names, key, strict=True)) + f": {count(size, 'run')}"
        for key, size in sizes.items()
    ]


def sharpness_line(runs: pd.DataFrame) -> str:
    """The radius and the number of steps that sharpness was measured with."""
    if not {"sharpness_rho", "sharpness_steps"} <= set(runs.columns):
        return ""
    used = runs[["sharpness_rho", "sharpness_steps"]].dropna().drop_duplicates().sort_values("sharpness_rho")
    return "; ".join(f"radius {rho:g}, {int(steps)} steps" for rho, steps in used.itertuples(index=False))


def missing_lines(layouts: Sequence[Layout]) -> list[str]:
    """Every cell of the study with fewer runs than planned."""
    return [
        f"{laid.table.name}: {row.dataset} / {row.model} / {cell.method}: {cell.n} of {count(cell.planned, 'run')}"
        for laid in layouts
        for row in laid.cells
        for cell in row.cells.values()
        if cell.missing
    ]
