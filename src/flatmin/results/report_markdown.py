"""The report in GitHub's Markdown: summary, verdicts, main tables, figures, methods, commands."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from flatmin.results.answers import Answer
from flatmin.results.block import Block
from flatmin.results.claim_content import ClaimView
from flatmin.results.claim_files import EXPLORATORY
from flatmin.results.content import Content, TableContent


def report_markdown(said: Content) -> str:
    """The report in Markdown; its numbers are the page's."""
    parts = [_summary, _claims, _papers, _tables, _figures, _findings, _end]
    return "\n".join(line for part in parts for line in part(said)).rstrip() + "\n"


def _summary(said: Content) -> Iterator[str]:
    yield from (f"# {said.question}", "", f"**{said.lead}**", "")
    if said.partial:
        yield from ("**This report is partial.** Still missing:", "", *(f"- {line}" for line in said.missing), "")
    for table in said.tables:
        if len(said.tables) > 1:
            yield from (f"### {_escape(table.title)}", "")
        if table.answers:
            yield from (*_table(_answers(table)), "")
        if table.unanswered:
            yield from (f"No pair of finished runs can be compared yet: {'; '.join(table.unanswered)}.", "")
    yield from (said.state, "")
    if said.others:
        yield from (said.others.caption, "", *_table(said.others), "")


def _answers(table: TableContent) -> Block:
    header = ("", "points", "how sure", "with early stopping", "cost")
    return Block(table.title, header, tuple(map(_answer, table.answers)), len(header))


def _answer(answer: Answer) -> tuple[str, ...]:
    said = f"{answer.sentence} {answer.trouble}".rstrip()
    equal = f"; against {answer.equal[0]}, at equal cost, {answer.equal[1]}" if answer.equal else ""
    return said, f"**{answer.number}** ({answer.interval})", answer.sure, answer.early, answer.cost + equal


def _claims(said: Content) -> Iterator[str]:
    yield from ("## Claims", "", said.verdicts.caption, "", *_table(said.verdicts), "")
    if said.claims:
        header = ("claim", "published", "measured here", "verdict")
        rows = tuple(_claim(item) for item in said.claims)
        yield from (EXPLORATORY + " Every departure stands in [claims.md](claims.md).", "")
        yield from (*_table(Block("", header, rows, len(header))), "")
    else:
        yield from ("No row of this study speaks to a claim.", "")
    yield from (*(f"- **{word}**: {meaning}" for word, meaning in said.words.items()), "")
    yield from _folded(f"{said.silent}, by what this study lacks", _not_run(said))


def _not_run(said: Content) -> Iterator[str]:
    yield from ("Each is stated in [claims.md](claims.md).", "")
    for group in said.not_run:
        ids = ", ".join(f"`{name}`{f' ({detail})' if detail else ''}" for name, detail in group.details.items())
        yield f"- **{_escape(group.reason)}** ({len(group.details)}): {_escape(ids)}"
    yield ""


def _folded(title: str, lines: Iterable[str]) -> Iterator[str]:
    """What GitHub shows only to who asks for it."""
    yield from ("<details>", f"<summary>{_escape(title)}</summary>", "", *lines, "</details>", "")


def _claim(item: ClaimView) -> tuple[str, ...]:
    claim = item.claim
    statement = f"{claim.statement} ({claim.paper}, {claim.where})"
    head = item.outcomes[0]
    verdict = f"**{item.label}**{', primary' if claim.primary else ''}"
    return statement, item.published, f"{head.measured}; {head.row}", verdict


def _papers(said: Content) -> Iterator[str]:
    if said.papers:
        yield from ("## As published, and measured here", "")
        for block in said.papers:
            yield from (f"### {_escape(block.title)}", "", block.caption, "", *_table(block), "")
            yield from (*(f"- {_escape(note)}" for note in block.notes), "")


def _tables(said: Content) -> Iterator[str]:
    yield from ("## Tables", "")
    for table in said.tables:
        yield from (f"### {_escape(table.title)}", "")
        for block in table.layout.blocks:
            yield from (block.caption, "", *_table(block), "")
        yield from (*(f"- {_escape(remark)}" for remark in table.layout.remarks), "")
        yield from (f"All numbers: [{table.name}.csv](tables/{table.name}.csv).", "")


def _figures(said: Content) -> Iterator[str]:
    if said.figures:
        yield from ("## Figures", "")
        for name, drawn in said.figures.items():
            yield from (f"![{_escape(drawn.title)}](figures/{name}.svg)", "", _escape(drawn.caption), "")
            yield from _folded(f"{drawn.title}, in words", (_escape(drawn.alt), ""))


def _findings(said: Content) -> Iterator[str]:
    yield from ("## Diagnosis", "")
    for finding in said.findings:
        place = f"{finding.method}, {finding.table}: {finding.dataset} / {finding.model}"
        words = _escape(f"{finding.cause} {finding.advice} {finding.evidence}")
        yield f"- **{_escape(finding.title)}** ({place}). {words}"
    yield from ([] if said.findings else ["No learning curve shows a symptom."])
    yield ""


def _end(said: Content) -> Iterator[str]:
    yield from ("## Methods", "", *(f"- {_escape(line)}" for line in said.methods), "")
    yield from ("## Environment", "", *(f"- {line}" for line in said.environment or ["No finished run."]), "")
    yield from ("## Repeat it", "", "```", *said.commands, "```")


def _table(block: Block) -> list[str]:
    rule = ["---"] * block.stubs + ["--:"] * (len(block.header) - block.stubs)
    return [_line(block.header), f"|{'|'.join(rule)}|", *map(_line, block.rows)]


def _line(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(map(_escape, cells))} |"


def _escape(text: str) -> str:
    """Text of the study as text: no cell ends early and no tag begins."""
    return text.replace("|", "\\|").replace("<", "&lt;")
