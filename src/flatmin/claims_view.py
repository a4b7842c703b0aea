"""``flatmin claims``: every published statement with its number, ours and the verdict; and one in full."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from flatmin.errors import FlatminError, nearest
from flatmin.results.claim_files import VERDICT_WORDS, claim_record, published_text
from flatmin.results.claim_spec import ClaimSpec, load_claims
from flatmin.results.claim_words import admissible_text, rule_text
from flatmin.results.claims import Judged
from flatmin.results.published import Setting
from flatmin.results.wording import count
from flatmin.workspace import Workspace

PIPE_WIDTH = 160
"""Columns of the list where its output is no terminal that has a width of its own."""

LEAST_TABLE_WIDTH = 120
"""Narrower than this, a claim is a few lines instead of one row of a table."""

VERDICTS = (*VERDICT_WORDS, "direction agrees", "direction disagrees", "direction unclear")
NOTHING = "–"


class ClaimNotFoundError(FlatminError):
    """No claim fits what was asked for."""


@dataclass(frozen=True)
class Line:
    """A claim of the file, with what ``aggregate`` wrote of it (None: it wrote nothing, or of another claims file)."""

    claim: ClaimSpec
    record: Mapping[str, Any] | None

    @property
    def outcome(self) -> Mapping[str, Any] | None:
        """What was found on the row nearest to the published setting."""
        return next(iter(self.record["outcomes"]), None) if self.record else None

    @property
    def verdict(self) -> str:
        """The verdict's word alone, of that row."""
        return self.record["verdict"] if self.record else NOTHING

    @property
    def label(self) -> str:
        """The verdict as printed."""
        return self.record["label"] if self.record else NOTHING


def print_claims(
    workspace: Workspace, patterns: Sequence[str] = (), verdict: str | None = None, *, primary: bool = False
) -> None:
    """Print the claims that fit all that is asked for; the one of an exact id in full.

    Those that a row speaks to come first, one per line; the others are grouped by why they are not run.

    Args:
        workspace: the study's folder.
        patterns: ids, beginnings of ids, or patterns with ``*`` and ``?``; none for all claims.
        verdict: a verdict's word, or its beginning: ``reproduced`` stands for smaller and larger too.
        primary: only the primary claims.

    Raises:
        ClaimsError: the claims file cannot be used.
        ClaimNotFoundError: a pattern fits no claim, or there is no such verdict.
    """
    claims = load_claims(workspace.claims)
    records, warning = read_records(workspace.results / "claims.json", claims)
    lines = [Line(claim, records.get(claim.id)) for claim in claims]
    chosen = select(lines, patterns, verdict, primary=primary)
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, PIPE_WIDTH)
    if len(patterns) == 1 and patterns[0] in {claim.id for claim in claims}:
        for line in chosen:
            print("\n".join(in_full(line, console.width)))
    else:
        _print_list(console, chosen, len(claims))
    if warning:
        print(warning)


def read_records(path: Path, claims: Sequence[ClaimSpec]) -> tuple[dict[str, Any], str]:
    """Return what ``aggregate`` wrote, by id, and what is wrong with it.

    A record that was made from another text of the claim is left out: its verdict is not that of the claim.
    """
    if not path.exists():
        return {}, f"{path} is not there: `flatmin aggregate` writes it, and nothing is judged before"
    written = {record["id"]: record for record in json.loads(path.read_text(encoding="utf-8"))}
    fitting = {claim.id: written[claim.id] for claim in claims if _is_of(written.get(claim.id), claim)}
    stale = len(claims) - len(fitting)
    if not stale:
        return fitting, ""
    return fitting, f"{path} is older than the claims file: {_otherwise(stale)} now, so run `flatmin aggregate`"


def _otherwise(claims: int) -> str:
    return f"{count(claims, 'claim')} read{'s' if claims == 1 else ''} otherwise"


def _is_of(record: Mapping[str, Any] | None, claim: ClaimSpec) -> bool:
    """Whether a record was made from a claim as it is now; what a study adds, its primary claims, may differ."""
    if record is None:
        return False
    ours = json.loads(json.dumps(claim_record(Judged(claim, ()))))
    judged = {"primary", "verdict", "fidelity", "label", "reason", "outcomes"}
    return all(record.get(name) == value for name, value in ours.items() if name not in judged)


def select(lines: Sequence[Line], patterns: Sequence[str], verdict: str | None, *, primary: bool) -> list[Line]:
    """Return the lines that fit one of the patterns, the verdict, and ``primary``, in the order of the file.

    Raises:
        ClaimNotFoundError: a pattern fits no claim, or no verdict begins so.
    """
    ids = [line.claim.id for line in lines]
    for pattern in patterns:
        if not any(_fits(name, pattern) for name in ids):
            raise ClaimNotFoundError(f"no claim's id begins with {pattern!r}; {nearest(pattern, ids)}")
    words = [word for word in VERDICTS if "/" not in word]
    if verdict is not None and not any(_says(word, verdict) for word in words):
        raise ClaimNotFoundError(f"no verdict is called {verdict!r}; {nearest(verdict, words)}")
    return [
        line
        for line in lines
        if (not patterns or any(_fits(line.claim.id, pattern) for pattern in patterns))
        and (verdict is None or _says(line.verdict, verdict))
        and (not primary or _is_primary(line))
    ]


def _fits(name: str, pattern: str) -> bool:
    return name.startswith(pattern) or fnmatchcase(name, pattern)


def _says(word: str, wanted: str) -> bool:
    return word.startswith(wanted) or word.removeprefix("direction ") == wanted


def _is_primary(line: Line) -> bool:
    return bool(line.record["primary"]) if line.record else line.claim.primary


def _print_list(console: Console, lines: Sequence[Line], known: int) -> None:
    """Print the claims that are judged, then the others by what they lack, ids alone."""
    silent = [line for line in lines if line.record and line.record["reason"]]
    shown_in_full = [line for line in lines if line not in silent]
    if shown_in_full and console.width >= LEAST_TABLE_WIDTH:
        console.print(_table(shown_in_full))
    elif shown_in_full:
        for line in shown_in_full:
            print("\n".join([*_short(line, console.width), ""]))
    for reason, ids in _by_reason(silent).items():
        print("\n".join(_wrapped(f"not-run: {reason} ({count(len(ids), 'claim')})", console.width, "  ", "")))
        print("\n".join(_wrapped(", ".join(ids), console.width)))
    shown = f"{len(lines)} of {count(known, 'claim')} (★ primary)"
    print(f"{shown}; `flatmin claims ID` shows one with its rule and departures")


def _by_reason(lines: Sequence[Line]) -> dict[str, list[str]]:
    """The ids by why no row speaks to them, the commonest reason first."""
    found: dict[str, list[str]] = {}
    for line in lines:
        if line.record:
            found.setdefault(_shared(line.record["reason"]), []).append(_name(line))
    return dict(sorted(found.items(), key=lambda item: -len(item[1])))


def _shared(reason: str) -> str:
    """The part of a reason that many claims have: the data alone of a row that is not there."""
    missing = re.match("no row has ([^,]*)", reason)
    if missing:
        return f"no fitting row with {missing.group(1)}"
    if reason.endswith("have no finished runs to compare"):
        return "a fitting row, without finished runs of all methods to compare"
    return reason if reason.startswith("not measured") else reason.rpartition(": ")[2]


def _name(line: Line) -> str:
    return f"{line.claim.id} ★" if _is_primary(line) else line.claim.id


def _table(lines: Sequence[Line]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_lines=False)
    table.add_column("id", no_wrap=True)
    for name, ratio in (("statement", 4), ("published", 3), ("measured", 3), ("verdict", 2)):
        table.add_column(name, ratio=ratio, overflow="fold")
    for line in lines:
        table.add_row(_name(line), line.claim.statement, _published(line.claim), _measured(line), line.label)
    return table


def _published(claim: ClaimSpec) -> str:
    return published_text(claim) if claim.published else NOTHING


def _measured(line: Line) -> str:
    return str(line.outcome["measured"]) if line.outcome else NOTHING


def _short(line: Line, width: int) -> Iterator[str]:
    yield _name(line)
    parts = {"published": _published(line.claim), "measured": _measured(line), "verdict": line.label}
    yield from _wrapped(line.claim.statement, width)
    for name, text in parts.items():
        yield from _wrapped(f"{name}: {text}", width)


def in_full(line: Line, width: int) -> Iterator[str]:
    """Yield all that is known of a claim: statement, number, source, rule, and every row with its departures."""
    claim = line.claim
    yield f"{claim.id} ({'primary' if _is_primary(line) else 'exploratory'})"
    known = {
        "statement": claim.statement,
        "paper": f"{claim.paper}, {claim.where}",
        "published": published_text(claim),
        "setting": setting_text(claim.setting) if claim.setting else "general: every row below is an instance",
        "source": f"{claim.source} ({claim.confidence})",
        "rule": rule_text(claim),
        "rows": f"those with {admissible_text(claim.admissible)}",
        "note": claim.note.strip(),
        "verdict": f"{line.label}: {line.record['reason']}" if line.record and line.record["reason"] else line.label,
    }
    for name, text in known.items():
        if text:
            yield from _wrapped(f"{name + ':':11}{text}", width, " " * 13)
    for outcome in line.record["outcomes"] if line.record else ():
        yield ""
        yield from _wrapped(f"{outcome['row']}: {outcome['label']}", width)
        yield from _wrapped(f"measured: {outcome['measured']}", width, " " * 6)
        yield from _listed("facts", outcome["facts"], width)
        yield from _listed("departures", outcome["departures"] or ["none"], width)


def setting_text(setting: Setting) -> str:
    """The published setting in words, as far as the paper states it."""
    stated = setting.model_dump(exclude_defaults=True, exclude={"model_names", "sources", "besides"})
    said = [" or ".join(setting.sources)] if setting.sources else []
    said += [
        f"{name.replace('_', ' ')} {value:g}" if isinstance(value, float) else _pair(name, value)
        for name, value in stated.items()
    ]
    return ", ".join([*said, *setting.besides]) or "not stated"


def _pair(name: str, value: object) -> str:
    return f"{name.replace('_', ' ')} {'not named' if value is None else value}"


def _listed(name: str, items: Iterable[str], width: int) -> Iterator[str]:
    yield f"  {name}:"
    for item in items:
        yield from _wrapped(f"- {item}", width, " " * 6, " " * 4)


def _wrapped(text: str, width: int, later: str = "    ", first: str = "  ") -> list[str]:
    wrapper = textwrap.TextWrapper(max(width, 40), initial_indent=first, subsequent_indent=later)
    wrapper.break_long_words = wrapper.break_on_hyphens = False
    return wrapper.wrap(text)
