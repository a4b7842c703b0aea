"""What is printed with and around the numbers of a paper's table: spreads, marks, caption, notes."""

from __future__ import annotations

from collections.abc import Sequence

from flatmin.results.claim_files import row_text
from flatmin.results.claims import Outcome
from flatmin.results.paper_cells import DIMENSIONS, PaperCell, PaperTable, decimals
from flatmin.results.wording import count, signed

MARKS = {"exact": "", "same-data": "†", "reduced": "‡", "proxy": "§"}
"""What a measured number carries where its setting is not the published one."""

MARK_WORDS = {
    "same-data": "the same data, but another model, schedule, batch or selection",
    "reduced": "fewer training images or epochs",
    "proxy": "other data or noise: only the direction can be compared",
}
"""What the marks mean."""

SPREADS = {
    "ci95": "half-width of a 95% interval",
    "ci95-below": "upper bound of it where it is printed as <",
    "std": "standard deviation",
    "unknown": "spread of an unnamed kind",
}
"""The kinds of published spread in words."""


def caption(table: PaperTable) -> str:
    """What the table shows, in which unit, and what stands behind its spreads."""
    units = sorted({cell.unit.removesuffix(" %") for cell in table.cells if not cell.is_difference})
    assumed = ["epochs"] if _quoted(table) else []
    fixed = _setting(table.cells[0], [name for name in DIMENSIONS if name not in (*table.varying, *assumed)])
    return (
        f"{table.paper}, {table.name}{f' ({fixed})' if fixed else ''}: {' and '.join(units) or 'accuracy'} in %. "
        f"Published: {_spread_words(table)}. Measured: mean ± 95% half-width over seeds (runs)."
    )


def _quoted(table: PaperTable) -> bool:
    """Whether the paper itself was not read: what nobody quotes of its training is assumed then."""
    return any(cell.claim.confidence == "quoted-by-secondary" for cell in table.cells)


def _setting(cell: PaperCell, dimensions: Sequence[str]) -> str:
    """A cell's setting in words: "CIFAR-10, ResNet-32, 200 epochs, 60% label noise"."""
    words = {"epochs": "{} epochs", "label noise": "{} label noise"}
    values = [(name, cell.at(name)) for name in dimensions]
    return ", ".join(words.get(name, "{}").format(text) for name, text in values if text not in ("", "0%", "test"))


def _spread_words(table: PaperTable) -> str:
    values = [cell.published for cell in table.cells if cell.published and not cell.is_difference]
    used = {str(value.kind) for value in values if value.spread is not None}
    words = [text for kind, text in SPREADS.items() if kind in used]
    spread = f"mean ± {', '.join(words)}" if words else "no spread was printed"
    runs = "(runs)" if any(value.runs for value in values) else ""
    unknown = "" if all(value.runs for value in values) else "; without a number in parentheses the runs are not known"
    return f"{spread} {runs}".rstrip() + unknown


def _reservations(table: PaperTable) -> list[str]:
    """What a reader must know before comparing."""
    claims = [cell.claim for cell in table.cells]
    said = [
        "Differences are in accuracy points, positive where the first method is better; published ones are those of "
        "the printed numbers, measured ones are paired over seeds."
    ]
    if any(claim.setting and claim.setting.result == "best-test" for claim in claims):
        said.append("Published is the best epoch by test accuracy, measured the one chosen on validation data.")
    units = {(claim.published.unit, claim.rule.metric) for claim in claims if claim.published}
    if any(unit.startswith("validation") and metric.startswith("test") for unit, metric in units):
        said.append("Published is measured on validation data, ours on test data.")
    besides = dict.fromkeys(text for claim in claims if claim.setting for text in claim.setting.besides)
    if besides:
        said.append(f"The published runs have what no run of this study has: {'; '.join(besides)}.")
    if _quoted(table):
        said.append(
            "The published numbers are as other documents quote them; epochs and other training that these do not "
            "state are assumed."
        )
    used = {cell.outcome.fidelity for cell in table.cells if cell.outcome}
    marks = [f"{MARKS[name]} {words}" for name, words in MARK_WORDS.items() if name in used]
    said += [f"{'; '.join(marks)}."] if marks else []
    if any(not cell.outcome for cell in table.cells):
        said.append("Where a number is only published, or a dash stands, nothing was run.")
    return said


def notes(table: PaperTable) -> list[str]:
    """What to know, and where each verdict comes from; its departures from the published setting are with the claim."""
    found = _reservations(table)
    for cell in table.cells:
        if cell.is_difference and cell.outcome:
            where = _setting(cell, table.varying)
            source = f"{where}: {cell.of}" if where else cell.of
            found.append(f"{source}: {row_text(cell.outcome)} (claim {cell.claim.id}{_trouble(cell.outcome)})")
    return found


def _trouble(outcome: Outcome) -> str:
    said = [f"{count(outcome.diverged, 'diverged run')} included"] if outcome.diverged else []
    said += [f"{count(outcome.collapsed, 'collapsed run')} included"] if outcome.collapsed else []
    said += [f"{count(outcome.missing, 'run')} missing"] if outcome.missing else []
    return "".join(f"; {text}" for text in said)


def cell_text(cell: PaperCell, *, named: bool) -> str:
    """A published number with as many decimals as were printed, its spread (``named`` by kind), and its runs."""
    value, digits = cell.published, decimals(cell.claim)
    if value is None:
        return "–"
    if cell.is_difference:
        return signed(value.value, digits)
    return f"{value.text(digits, named=named)}{f' ({value.runs})' if value.runs else ''}"


def kinds(table: PaperTable) -> set[str]:
    """The kinds of spread that the published numbers have; a bound of an interval is no kind of its own."""
    values = [cell.published for cell in table.cells if cell.published and cell.published.spread is not None]
    return {"ci95" if value.kind == "ci95-below" else str(value.kind) for value in values}
