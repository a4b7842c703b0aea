"""``flatmin models``: what models there are, how large they are, how fast they train here; and one in all detail."""

from __future__ import annotations

import contextlib
import inspect
import json
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import timm
import torch
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from torch import nn

from flatmin import catalogue
from flatmin.catalogue import synonyms
from flatmin.errors import nearest
from flatmin.executor import WORKER_ENVIRONMENT, device_type
from flatmin.models.measured import Images, ModelError, Row, Size, Speed, built, sized, sized_row, timed_rows
from flatmin.models.stem import stem_changes
from flatmin.vocabulary import unknown_model

COUNTED = "in the convolutions and matrix products of one image's forward pass; a multiply-add is 2 FLOPs"
TIMED = "forward pass, backward pass and a step of SGD in float32"

PIPE_WIDTH = 120
"""Columns of the list where its output is no terminal that has a width of its own."""

VALUE_WIDTH = 80
"""Characters that the value of an argument is shown with; some of timm's describe every block of a network."""

NOT_FOR_ARGS = ("num_classes", "in_chans", "device", "dtype")
"""What a model's class takes and ``args`` does not: what the data say, and what a run does."""


def print_models(patterns: Sequence[str], images: Images, *, all_of_timm: bool = False, speed: bool = True) -> None:
    """Print the models that match a pattern, or ours if there is none; for one exact name, all that is known of it.

    Args:
        patterns: names, or patterns with ``*``, ``?`` and ``[...]``.
        images: what the models are built for.
        all_of_timm: match patterns with all names that timm knows, too.
        speed: measure how fast the models train.

    Raises:
        ModelError: a pattern matches nothing, or the one model that is asked for cannot be used.
    """
    names = matching(patterns, all_of_timm=all_of_timm)
    if len(patterns) == 1 and not _has_wildcards(patterns[0]):
        print_one(patterns[0], names[0], images, speed=speed)
    else:
        print_list(names, images, speed=speed)


def matching(patterns: Sequence[str], *, all_of_timm: bool = False) -> list[str]:
    """Return the first names of the models that match, each once, in the order of the patterns.

    Synonyms match too. A name that only timm knows is found as it is, but a pattern only with ``all_of_timm``.

    Raises:
        ModelError: a pattern matches nothing, or ``all_of_timm`` has no pattern to select from a thousand models.
    """
    if all_of_timm and not patterns:
        raise ModelError("--all-of-timm needs a pattern: flatmin models --all-of-timm 'vit_tiny*'")
    known = {**synonyms(), **(_of_timm_alone() if all_of_timm else {})}
    found = [name for pattern in patterns for name in _matching_one(pattern, known)] if patterns else [*known]
    return list(dict.fromkeys(found))


def _of_timm_alone() -> Mapping[str, tuple[str, ...]]:
    return dict.fromkeys(sorted(set(timm.list_models()) - set(catalogue.models())), ())


def _matching_one(pattern: str, known: Mapping[str, Sequence[str]]) -> list[str]:
    found = [first for first, others in known.items() if any(fnmatchcase(name, pattern) for name in (first, *others))]
    if found:
        return found
    if _has_wildcards(pattern):
        names = {name for first, others in known.items() for name in (first, *others)}
        raise ModelError(f"no model matches {pattern!r}: {nearest(pattern, names)} (--all-of-timm looks at timm's too)")
    hint = unknown_model(pattern)
    if hint is None:
        return [pattern]
    raise ModelError(f"no model is called {pattern!r}: {hint}")


def _has_wildcards(pattern: str) -> bool:
    return not set(pattern).isdisjoint("*?[")


def print_list(names: Sequence[str], images: Images, *, speed: bool) -> None:
    """Print one line per model: its names, parameters, multiply-adds, and how fast it trains."""
    place = device_type()
    rows = [sized_row(name, images) for name in names]
    if speed:
        rows = _with_speeds(rows, images, place)
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, PIPE_WIDTH)
    console.print(_table(rows, images, speed=speed))
    notes = [f"{row.name}: {row.problem}" for row in rows if row.problem]
    notes.append(f"multiply-adds: {COUNTED}")
    if speed:
        notes.append(f"images/s: {TIMED}, `batch` images at once, on {_described(place)}")
    notes.append("`flatmin models NAME` shows one model with its paper and its arguments")
    print("\n".join(notes))


def _table(rows: Sequence[Row], images: Images, *, speed: bool) -> Table:
    table = Table(title=f"models for {images}", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("name", no_wrap=True)
    table.add_column("also called", overflow="fold")
    for column in ("parameters", "multiply-adds", *(("images/s", "batch") if speed else ())):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        cells = [row.name, ", ".join(synonyms().get(row.name, ()))]
        cells += ["–", "–"] if row.size is None else [human(row.size.parameters), human(row.size.multiply_adds)]
        if speed:
            cells += ["–", "–"] if row.speed is None else [_rate(row.speed), str(row.speed.batch)]
        table.add_row(*cells)
    return table


def _with_speeds(rows: Sequence[Row], images: Images, place: str) -> list[Row]:
    """Return the rows with speeds. A terminal shows meanwhile how far that is, beside the output and not in it."""
    console = Console(stderr=True)
    columns = (TextColumn("measuring"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    name = TextColumn("[dim]{task.description}")
    done: list[Row] = []
    with Progress(*columns, name, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(rows[0].name, total=len(rows))
        for row in timed_rows(rows, images, place, WORKER_ENVIRONMENT):
            done.append(row)
            bar.update(task, completed=len(done), description="".join(row.name for row in rows[len(done) :][:1]))
    return done


def human(count: int) -> str:
    """Return a count as papers print it: ``0.27M``, ``36.48M``, ``5.24G``; a small one in full."""
    if count < 10_000:
        return f"{count:,}"
    return f"{count / 1e6:.2f}M" if count < 999_995_000 else f"{count / 1e9:.2f}G"


def _rate(speed: Speed) -> str:
    return f"{speed.images_per_second:,.{0 if speed.images_per_second >= 10 else 1}f}"


def _described(place: str) -> str:
    return "one thread of the CPU" if place == "cpu" else f"one {torch.cuda.get_device_name(place)}"


def print_one(written: str, name: str, images: Images, *, speed: bool) -> None:
    """Print all that is known of a model: paper, size, speed, stem, arguments, and how a study names it.

    Args:
        written: the name that was asked for, perhaps a synonym.
        name: its first name.
        images: what it is built for.
        speed: measure how fast it trains.

    Raises:
        ModelError: it cannot be built for such images, or not trained.
    """
    row, place = sized_row(name, images), device_type()
    if speed:
        (row,) = _with_speeds([row], images, place)
    if row.size is None or row.problem:
        raise ModelError(f"{name} cannot be used for {images}: {row.problem}")
    with torch.device("meta"):
        model, taken = built(name, images), arguments(name, images)
    small = _with_small_stem(name, model, images)
    notes = [f"  multiply-adds: {COUNTED}"]
    lines = [
        " = ".join([name, *synonyms().get(name, ())]),
        *_indented(_docstring(_entry_point(name)) or "timm says nothing of it"),
        "",
        f"for {images}:",
        *_size_lines(row.size),
        *_stem_lines(model),
    ]
    if row.speed:
        lines.append(f"  images/s       {_rate(row.speed)} (batches of {row.speed.batch})")
        notes.append(f"  images/s: {TIMED}, on {_described(place)}")
    lines += notes
    if small:
        lines += ["", "with `stem: cifar`:", *_size_lines(sized(small, images)), *_stem_lines(small)]
    lines += ["", f"arguments that `args` may change, with the values that {name} gives them:"]
    width = max(map(len, taken), default=0)
    lines += [f"  {argument:{width}}  {_shown(value)}" for argument, value in taken.items()]
    lines += ["", "in params.yaml:", *_indented(snippet(written, small_stem=small is not None))]
    if name in synonyms():
        lines += ["", *_indented(_docstring(sys.modules[_entry_point(name).__module__]))]
    print("\n".join(lines))


def _size_lines(size: Size) -> list[str]:
    return [
        f"  parameters     {human(size.parameters)} ({size.parameters:,})",
        f"  multiply-adds  {human(size.multiply_adds)} ({size.multiply_adds:,})",
    ]


def _stem_lines(model: nn.Module) -> list[str]:
    return [f"  stem changed   {change}" for change in stem_changes(model)]


def _with_small_stem(name: str, native: nn.Module, images: Images) -> nn.Module | None:
    """Return the model as ``stem: cifar`` makes it; None where its stem is small already, or not understood."""
    if name in synonyms() or stem_changes(native):
        return None
    with torch.device("meta"), contextlib.suppress(ValueError):
        return built(name, images, stem="cifar")
    return None


def arguments(name: str, images: Images) -> dict[str, Any]:
    """Return what a model's class is called with where a study gives no ``args``, its own defaults included.

    timm's entry points hand on whatever they get: what is taken, only the class tells that they call in the end.
    """
    model_class = type(built(name, images))
    with _recorded(model_class) as calls:
        built(name, images)
    parameters = calls[0].signature.parameters.values()
    catch_all = {p.name for p in parameters if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    given = calls[0].arguments.items()
    # YAML has no classes and no functions
    return {a: value for a, value in given if a not in {*NOT_FOR_ARGS, *catch_all} and not callable(value)}


@contextlib.contextmanager
def _recorded(model_class: type[nn.Module]) -> Iterator[list[inspect.BoundArguments]]:
    """Collect the arguments of the instances that are made of a class, in the order in which they are begun."""
    construct: Callable[..., None] = model_class.__init__
    signature = inspect.signature(model_class)
    calls: list[inspect.BoundArguments] = []

    def recording(self: nn.Module, *args: Any, **kwargs: Any) -> None:
        calls.append(signature.bind(*args, **kwargs))
        calls[-1].apply_defaults()
        construct(self, *args, **kwargs)

    model_class.__init__ = recording  # type: ignore[method-assign]
    try:
        yield calls
    finally:
        model_class.__init__ = construct  # type: ignore[method-assign]


def _shown(value: Any) -> str:
    """Return a value as YAML has it, cut if it is long."""
    return textwrap.shorten(json.dumps(value, default=str), VALUE_WIDTH, placeholder=" ...")


def snippet(name: str, *, small_stem: bool) -> str:
    """Return how a study's params.yaml names a model; with the stem for small images where there is one."""
    label = name.split(".")[0]  # the ids of runs have dots of their own
    stem = "    stem: cifar\n" if small_stem else ""
    return f"models:\n  {label}:\n    name: {name}\n{stem}    args: {{}}  # any of the arguments above"


def _entry_point(name: str) -> Callable[..., nn.Module]:
    function: Callable[..., nn.Module] = timm.model_entrypoint(name.split(".")[0])  # a tag of weights may follow
    return function


def _docstring(of: object) -> str:
    return (inspect.getdoc(of) or "").strip()


def _indented(text: str) -> list[str]:
    return textwrap.indent(text, "  ").splitlines()
