"""Stage ``report``: one self-contained page, the same in Markdown, the figures as files, and what dvc plots draws."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from flatmin.results.blocks import layout
from flatmin.results.claim_files import EXPLORATORY
from flatmin.results.claim_spec import load_claims
from flatmin.results.claims import judge
from flatmin.results.content import Content, content
from flatmin.results.diagnosis import rules
from flatmin.results.files import prune, write_text
from flatmin.results.inputs import TableInfo, measured
from flatmin.results.plot_data import accuracy_csv, curves_csv
from flatmin.results.report_markdown import report_markdown
from flatmin.results.style import GRID, INK

TEMPLATES = Path(__file__).parent / "templates"
COMMANDS = ("dvc repro",)


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
    primary: Sequence[str] | None = None,
) -> None:
    """Write ``out``/report.{html,md}, figures/*.svg and plots/*.csv; the same input gives the same bytes.

    Args:
        runs: one line per finished run and table (`flatmin.results.inputs`).
        tables: the study's tables by name, in print order.
        histories: by run id, one line per epoch; a run without one has no learning curve.
        claims_path: the claims file.
        out: the results folder; what `aggregate` writes there is linked.
        commands: the shell commands that make the results, printed at the end.
        partial: mark the page as partial and list what is missing.
        shifts: what the runs achieve on further test sets (`flatmin.results.shift.COLUMNS`).
        primary: ids of the study's primary claims; None for those that the file names.

    Raises:
        ClaimsError: the claims file cannot be used; nothing is written then.
        ValueError: ``runs`` lacks a column or holds a run twice.
    """
    claims = load_claims(claims_path)
    finished = measured(runs)
    layouts = [layout(finished, table, shifts) for table in tables.values()]
    judged = judge(claims, finished, tables, shifts=shifts, primary=primary)
    said = content(finished, tables, histories, shifts, layouts, judged, commands, partial=partial)
    page, text = report_html(said), report_markdown(said)
    for name, drawn in said.figures.items():
        write_text(out / "figures" / f"{name}.svg", drawn.svg)
    prune(out / "figures", [f"{name}.svg" for name in said.figures], (".svg",))
    write_text(out / "plots" / "accuracy.csv", accuracy_csv(layouts))
    write_text(out / "plots" / "curves.csv", curves_csv(layouts, finished, histories))
    write_text(out / "report.md", text)
    write_text(out / "report.html", page)


def report_html(said: Content) -> str:
    """The page: no script, nothing that it loads."""
    return (
        _environment()
        .get_template("report.html")
        .render(
            said=said,
            exploratory=EXPLORATORY,
            rules=rules(),
        )
    )


def inline_svg(svg: str, prefix: str, alt: str) -> Markup:
    """An svg file as part of the page.

    Its ids are made unique, ink and grid take the page's own colours, global styles go, and ``alt`` is its name for
    those who do not see it.
    """
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<style[^>]*>.*?</style>", "", body, flags=re.DOTALL)
    body = re.sub(r"<!--.*?-->\s*", "", body, flags=re.DOTALL)
    body = re.sub(r"<metadata>.*?</metadata>\s*", "", body, flags=re.DOTALL)
    body = re.sub(r'aria-label="[^"]*"', lambda _: f'aria-label="{escape(alt)}"', body, count=1)
    body = re.sub(r'\bid="', f'id="{prefix}-', body)
    body = re.sub(r'href="#', f'href="#{prefix}-', body)
    body = body.replace("url(#", f"url(#{prefix}-")
    body = body.replace(INK, "currentColor").replace(GRID, "var(--grid)")
    return Markup(body)


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals["inline_svg"] = inline_svg
    return environment
