"""Stage ``report``: one self-contained page, and the figures as files."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from flatmin.results import figures
from flatmin.results.answers import Answer, answers
from flatmin.results.blocks import Layout, layout
from flatmin.results.claim_files import (
    EXPLORATORY,
    FIDELITY_WORDS,
    VERDICT_WORDS,
    coverage_text,
    facts,
    measured_text,
    published_text,
    row_text,
)
from flatmin.results.claim_spec import load_claims
from flatmin.results.claims import Judged, judge
from flatmin.results.files import prune, write_text
from flatmin.results.inputs import TableInfo, measured
from flatmin.results.style import GRID, INK
from flatmin.results.wording import count

TEMPLATES = Path(__file__).parent / "templates"
COMMANDS = ("dvc repro",)

TONES = {
    "reproduced": "good",
    "reproduced-smaller": "good",
    "reproduced-larger": "good",
    "not-reproduced": "bad",
    "reversed": "bad",
    "direction agrees": "good",
    "direction disagrees": "bad",
}
"""The colour of a verdict; all others are neutral. The word itself is always printed."""


@dataclass(frozen=True)
class FigureView:
    """A figure of the page: its file, its svg made ready for the page, and its caption."""

    name: str
    svg: Markup
    caption: str


@dataclass(frozen=True)
class TableView:
    """A table's section of the page."""

    layout: Layout
    answers: list[Answer]
    curves: FigureView
    early: FigureView
    sharpness: FigureView
    cost: FigureView

    @property
    def title(self) -> str:
        """The table's question."""
        return self.layout.table.title or self.layout.table.name


def report(
    runs: pd.DataFrame,
    tables: Mapping[str, TableInfo],
    histories: Mapping[str, pd.DataFrame],
    claims_path: Path,
    out: Path,
    *,
    commands: Sequence[str] = COMMANDS,
    partial: bool = False,
    shifts: pd.DataFrame | None = None,
) -> None:
    """Write ``out``/report.html and ``out``/figures/*.svg; the same input gives the same bytes.

    Args:
        runs: one line per finished run and table (`flatmin.results.inputs`).
        tables: the study's tables by name, in print order.
        histories: by run id, one line per epoch; a run without one has no learning curve.
        claims_path: the claims file.
        out: the results folder; its cost.md and tables/ are linked.
        commands: the shell commands that make the results, printed at the end.
        partial: mark the page as partial and list what is missing.
        shifts: what the runs achieve on further test sets (`flatmin.results.shift.COLUMNS`).

    Raises:
        ClaimsError: the claims file cannot be used; nothing is written then.
        ValueError: ``runs`` lacks a column or holds a run twice.
    """
    claims = load_claims(claims_path)
    finished = measured(runs)
    layouts = [layout(finished, table, shifts) for table in tables.values()]
    judged = judge(claims, finished, tables)
    drawn = _draw(layouts, finished, histories)
    page = (
        _environment()
        .get_template("report.html")
        .render(
            tables=[_view(laid, finished, drawn) for laid in layouts],
            forest=_figure(drawn, "differences"),
            judged=[_claim_view(j) for j in judged if j.outcomes],
            coverage=coverage_text(judged),
            exploratory=EXPLORATORY,
            not_run=[j.claim for j in judged if not j.outcomes],
            verdict_words=VERDICT_WORDS,
            fidelity_words=FIDELITY_WORDS,
            environment=environment_lines(finished),
            sharpness=sharpness_line(finished),
            commands=list(commands),
            partial=partial,
            missing=missing_lines(layouts),
            runs=len(finished),
            planned=sum(cell.planned for laid in layouts for row in laid.cells for cell in row.cells.values()),
            diverged=int(finished["diverged"].sum()),
        )
    )
    for name, (svg, _) in drawn.items():
        write_text(out / "figures" / f"{name}.svg", svg)
    prune(out / "figures", [f"{name}.svg" for name in drawn], (".svg",))
    write_text(out / "report.html", page)


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


def inline_svg(svg: str, prefix: str) -> Markup:
    """An svg file as part of the page: ids made unique, ink and grid in the page's own colours, no global style."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<style[^>]*>.*?</style>", "", body, flags=re.DOTALL)
    body = re.sub(r"<!--.*?-->\s*", "", body, flags=re.DOTALL)
    body = re.sub(r'\bid="', f'id="{prefix}-', body)
    body = re.sub(r'href="#', f'href="#{prefix}-', body)
    body = body.replace("url(#", f"url(#{prefix}-")
    body = body.replace(INK, "currentColor").replace(GRID, "var(--grid)")
    return Markup(body)


def _draw(
    layouts: Sequence[Layout], runs: pd.DataFrame, histories: Mapping[str, pd.DataFrame]
) -> dict[str, tuple[str, str]]:
    """Every figure by name: its svg and its caption."""
    drawn = {}
    for laid in layouts:
        name = laid.table.name
        drawn[f"{name}-curves"] = (
            figures.learning_curves(laid, runs, histories),
            "Accuracy by epoch: mean over seeds with a 95% Student band. Under label noise, training accuracy "
            "counts the noisy labels as right; whether validation labels are noisy too is noted with the table.",
        )
        drawn[f"{name}-early"] = (
            figures.last_and_early(laid),
            f"Test {laid.table.metric} at the last epoch (filled) and at the epoch with the best validation accuracy "
            "(open), with 95% intervals.",
        )
        drawn[f"{name}-sharpness"] = (
            figures.against_sharpness(laid, runs),
            "One marker per run. If flat minima generalised better, the points would fall to the right.",
        )
        drawn[f"{name}-cost"] = (
            figures.against_cost(laid, runs),
            "One marker per run. A per-example gradient evaluation is the unit, so machines do not matter.",
        )
    drawn["differences"] = (
        figures.forest(layouts),
        "Paired accuracy differences from the better baseline (better at that epoch) with 95% intervals; filled: last "
        "epoch, open: early-stopped.",
    )
    return drawn


def _view(laid: Layout, runs: pd.DataFrame, drawn: Mapping[str, tuple[str, str]]) -> TableView:
    name = laid.table.name
    return TableView(
        laid,
        answers(laid, runs),
        *(_figure(drawn, f"{name}-{kind}") for kind in ("curves", "early", "sharpness", "cost")),
    )


def _figure(drawn: Mapping[str, tuple[str, str]], name: str) -> FigureView:
    svg, caption = drawn[name]
    return FigureView(name, inline_svg(svg, name), caption)


def _claim_view(judged: Judged) -> dict[str, object]:
    head = judged.outcomes[0]
    spoken = judged.outcomes if judged.general else judged.outcomes[:1]
    tones = {TONES.get(outcome.verdict, "neutral") for outcome in spoken}
    return {
        "claim": judged.claim,
        "label": judged.label,
        "tone": tones.pop() if len(tones) == 1 else "neutral",
        "proxy": head.fidelity == "proxy",
        "published": published_text(judged.claim),
        "outcomes": [
            {
                "label": outcome.label,
                "row": row_text(outcome),
                "measured": measured_text(outcome),
                "facts": facts(outcome),
                "departures": outcome.departures,
            }
            for outcome in judged.outcomes
        ],
    }


def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
