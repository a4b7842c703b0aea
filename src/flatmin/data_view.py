"""``flatmin data``: what data there is, what the study needs of it, and whether what is here is right."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table

from flatmin import data_items, weight_items
from flatmin.data import files
from flatmin.data.errors import DataError
from flatmin.data.own.source import located
from flatmin.data.published import Published
from flatmin.data.source import Source
from flatmin.data.test_set import TestSet
from flatmin.data.unpacking import wrong_members
from flatmin.errors import FlatminError
from flatmin.fanout import Item
from flatmin.records import CorruptRecordError, verify
from flatmin.settings import ImageFolder, Parquet
from flatmin.study import Study
from flatmin.work import KINDS
from flatmin.workspace import Workspace

MEBIBYTE = 2**20


class WrongDataError(FlatminError):
    """Something that the study needs is missing or wrong."""

    exit_code = 1


@dataclass(frozen=True)
class Finding:
    """What ``flatmin data check`` found of one thing, and why; ``outdated`` is what other settings have made."""

    what: str
    state: Literal["right", "missing", "outdated", "wrong"]
    reason: str = ""


# --- list -------------------------------------------------------------------------------------------------------------


def print_list(study: Study, workspace: Workspace) -> None:
    """Print all data that there is: kind, whether this study needs it and has it, size, licence."""
    needed = needed_names(study)
    table = Table(title="data (★ needed by this study)", title_justify="left")
    for column in ("", "name", "kind", "here", "download", "licence"):
        table.add_column(column, justify="right" if column == "download" else "left", overflow="fold")
    for published in files.everything():
        mark = "★" if published.name in needed else ""
        table.add_row(
            mark,
            published.name,
            _kind(published),
            _here(published, workspace),
            _size(published),
            published.licence,
        )
    for name, source in data_items.needed_sources(study).items():
        if isinstance(source, ImageFolder | Parquet):
            there = "yes" if located(source, workspace.root).exists() else "no"
            table.add_row("★", name, f"your own ({source.kind}), {source.path}", there, "–", "your own")
    console = Console()
    console.print(table)
    console.print(
        "`flatmin data show NAME` prints addresses, checksums and citation; files that you have are found through "
        "FLATMIN_MIRROR",
        highlight=False,
    )


def print_one(name: str, workspace: Workspace) -> None:
    """Print all that is known of one source, test set or set of labels.

    Raises:
        DataError: there is none of that name.
    """
    published = files.published(name)
    lines = [
        f"{published.name}: {_kind(published)}",
        f"licence:  {published.licence}",
        f"citation: {published.citation}",
        f"here:     {_here(published, workspace)}",
    ]
    if isinstance(published, Source):
        lines.append(f"split:    {published.split}")
        lines.append(f"classes:  {len(published.classes)}, images {' x '.join(map(str, published.image_shape))}")
    for archive in published.archives:
        lines += ["", f"{archive.name}, {archive.checksum}", *(f"  {url}" for url in archive.urls)]
    print("\n".join(lines))


def needed_names(study: Study) -> set[str]:
    """Return the names of all sources, test sets and sets of labels that a study needs."""
    return {
        *data_items.needed_sources(study),
        *(test_set.name for test_set, _ in data_items.needed_test_sets(study)),
        *(published.name for published in data_items.needed_files(study)),
    }


def _kind(published: Published) -> str:
    if isinstance(published, Source):
        return "source"
    if isinstance(published, TestSet):
        return f"test set of {published.source or 'any source'}"
    return "labels that people gave"


def _here(published: Published, workspace: Workspace) -> str:
    if not published.archives:
        return "made here"
    there = [(workspace.raw / published.name / member.name).is_file() for member in published.members]
    return "yes" if all(there) else f"{sum(there)} of {len(there)} files" if any(there) else "no"


def _size(published: Published) -> str:
    return f"{published.download_bytes / MEBIBYTE:,.1f} MiB" if published.archives else "–"


# --- check ------------------------------------------------------------------------------------------------------------


def print_check(study: Study, workspace: Workspace) -> None:
    """Verify all data that the study needs and that is here, byte for byte, and print what is right.

    Raises:
        WrongDataError: something is missing or wrong; everything else is checked all the same.
    """
    findings = []
    for finding in check(study, workspace):
        print(f"{finding.state:9}{finding.what}{': ' + finding.reason if finding.reason else ''}", flush=True)
        findings.append(finding)
    bad = [finding for finding in findings if finding.state != "right"]
    if bad:
        states = [finding.state for finding in bad]
        counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
        raise WrongDataError(f"of {len(findings)} pieces of data, {counts}: `dvc repro prepare` mends that")


def check(study: Study, workspace: Workspace) -> Iterator[Finding]:
    """Yield a finding for each download, and for each prepared folder, of the study."""
    for published in data_items.needed_files(study):
        yield _downloaded(published, workspace.raw / published.name)
    for name in data_items.needed_sources(study):
        yield from _of_source(name, study, workspace)
    for item in weight_items.hub_items(study, workspace):
        yield _prepared(item)
    for name in weight_items.needed_weights(study):
        yield from _of_weights(name, study, workspace)


def _of_weights(name: str, study: Study, workspace: Workspace) -> Iterator[Finding]:
    """Yield a finding for the weights that runs start from; none where the images to build for are missing."""
    try:
        yield from (_prepared(item) for item in weight_items.weights_items(study, workspace) if item.id == name)
    except DataError as error:
        yield Finding(f"weights {name}", "missing", error.problem)


def _of_source(name: str, study: Study, workspace: Workspace) -> Iterator[Finding]:
    """Yield a finding for the images of a source, and for what is made from them."""
    try:
        item = data_items.images_item(name, data_items.needed_sources(study)[name], workspace)
    except DataError as error:  # images of the user's own
        yield Finding(f"images {name}", "missing", error.problem)
        return
    yield _prepared(item)
    try:
        made = data_items.items_made_from(name, study, workspace)
    except DataError:  # what is to be made cannot be told before the images are there
        return
    for item in made:
        yield _prepared(item)


def _downloaded(published: Published, folder: Path) -> Finding:
    what, wrong = f"files of {published.name}", wrong_members(published.members, folder)
    if not wrong:
        return Finding(what, "right")
    return Finding(what, "missing" if all("is missing" in line for line in wrong) else "wrong", "; ".join(wrong))


def _prepared(item: Item) -> Finding:
    head, what = KINDS[item.kind].head, f"{item.kind} {item.id}"
    folder = item.outputs[head].parent
    try:
        sealed = verify(folder, head)
    except FileNotFoundError:
        return Finding(what, "missing", f"{folder} is not prepared")
    except CorruptRecordError as error:
        return Finding(what, "wrong", str(error))
    if sealed.get("key") != item.key:
        return Finding(what, "outdated", f"{folder} was made by other settings, from other images or by other code")
    return Finding(what, "right")
