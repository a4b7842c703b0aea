"""What MLflow shows as descriptions: of a run, of a table, of the study; in Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flatmin.planning import KeyedRun
from flatmin.settings import DatasetSpec, RunSettings

LIMIT = 8000
"""Characters that MLflow keeps of a note."""

MORE = "More is among the artifacts."


Arm = tuple[str, str, str, str]
"""The runs of one method in one row: table, dataset, model, method."""


@dataclass(frozen=True)
class Spoken:
    """A claim on the study's runs: what it says, its verdict there, and from which runs that was computed."""

    claim: str
    statement: str
    verdict: str
    source: str
    arms: frozenset[Arm]

    def rests_on(self, tags: Mapping[str, str]) -> bool:
        """Return whether a run with these tags is one of those that the verdict was computed from."""
        tables = tags["tables"].split(",") if tags["role"] == "table" else []
        return any((table, tags["dataset"], tags["model"], tags["method"]) in self.arms for table in tables)


def read_claims(path: Path) -> list[Spoken]:
    """Return every claim on all runs that speak to it, from ``claims.json``; none where that is not written yet."""
    if not path.exists():
        return []
    return [
        Spoken(
            claim=claim["id"],
            statement=claim["statement"],
            verdict=outcome["label"],
            source=claim["source"],
            arms=frozenset((arm["table"], arm["dataset"], arm["model"], arm["method"]) for arm in outcome["arms"]),
        )
        for claim in json.loads(path.read_text(encoding="utf-8"))
        for outcome in claim["outcomes"]
    ]


def run_note(run: KeyedRun, role: str) -> str:
    """Return what a run is in words, and how to show it."""
    plan, settings = run.plan, run.plan.settings
    what = f"`{plan.method}` on `{plan.dataset}`, model `{plan.model}`, seed {plan.seed}"
    if role == "trial":
        show = f"Its score on validation data is in `selections/{plan.table}.json`."
        return f"A trial of the selection of table `{plan.table}`: {what}.\n\n{_how(settings)}\n\n{show}"
    show = f"On one screen: `flatmin show {run.id}`"
    return f"A run of table `{plan.table}`: {what}.\n\n{_how(settings)}{_tuned(plan.tuned)}\n\n{show}"


def _how(settings: RunSettings) -> str:
    method, training = settings.method, settings.training
    options = ", ".join(f"{name} {value}" for name, value in {"rho": f"{method.rho:g}", **method.options}.items())
    step = "No ascent" if method.ascent == "none" else f"Ascent `{method.ascent}` ({options})"
    rates = f"lr {training.lr:g}, weight decay {training.weight_decay:g}"
    length = f"batch size {training.batch_size}, epochs {training.epochs}"
    return f"{step}, base `{method.base}`: {rates}, {length}. {_labels(settings.dataset)}"


def _labels(dataset: DatasetSpec) -> str:
    noise = dataset.noise
    if noise is None:
        return "Labels as they are."
    if noise.kind == "human":
        return f"Labels that people gave ({noise.labels})."
    definition = f", {noise.definition}" if noise.kind == "symmetric" else ""
    return f"Label noise: {noise.kind.replace('_', ' ')}, rate {noise.rate:g}{definition}."


def _tuned(tuned: str) -> str:
    return {"selected": " Rho was chosen on validation data.", "not tuned": " Rho is hand-written, not tuned."}.get(
        tuned, ""
    )


def with_claims(note: str, tags: Mapping[str, str], claims: Sequence[Spoken]) -> str:
    """Return a run's note with the claims that rest on it, as many as MLflow keeps."""
    lines = [_claim_line(claim) for claim in claims if claim.rests_on(tags)]
    if not lines:
        return note
    head = f"{note}\n\n**Verdicts that rest on this run: {len(lines)}** (with numbers in `results/claims.md`)\n\n"
    return head + _fitting(lines, LIMIT - len(head))


def _claim_line(claim: Spoken) -> str:
    source = f" ([source]({claim.source}))" if claim.source.startswith("https://") else ""
    return f"- `{claim.claim}`: **{claim.verdict}**. {claim.statement}{source}"


def _fitting(lines: Sequence[str], room: int) -> str:
    """Return as many lines as there is room for, and how many are left out."""
    if sum(len(line) + 1 for line in lines) <= room:
        return "\n".join(lines)
    kept: list[str] = []
    for line in lines:
        if sum(len(other) + 1 for other in kept) + len(line) > room - 40:
            break
        kept.append(line)
    return "\n".join([*kept, f"- and {len(lines) - len(kept)} more"])


def table_note(name: str, title: str, printed: str) -> str:
    """Return the note of a table's summary: the table as it is printed, part by part, as many as MLflow keeps."""
    parts = printed.strip().removeprefix(f"# {title}\n\n")
    head = (
        f"{title}: table `{name}` of the study. Its figures and tables are among the artifacts. Its runs: "
        f"`` tags.`flatmin.role` = 'table' and tags.`flatmin.tables` LIKE '%{name}%' ``\n\n"
    )
    return head + "\n\n".join(_whole_parts(parts, LIMIT - len(head)))


def _whole_parts(text: str, room: int) -> Iterator[str]:
    """Yield the parts of a text that there is room for, and say where the others are."""
    for part in text.strip().split("\n\n"):
        room -= len(part) + 2
        if room < len(MORE):
            yield MORE
            return
        yield part


def study_note(tables: Mapping[str, str]) -> str:
    """Return the note of the whole study's summary."""
    lines = [f"- `{name}`: {title}" for name, title in tables.items()]
    head = "The whole study. Among the artifacts: the report, all verdicts on claims, and what it cost. Its tables:"
    return "\n".join([head, "", *lines])
