"""Size and speed of models by name: counted here, and measured in a process of its own, as a worker of a study is."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace

import torch
from torch import nn

from flatmin.devices import prepared_device
from flatmin.errors import FlatminError
from flatmin.models.build import build
from flatmin.models.size import multiply_adds, parameter_count
from flatmin.models.speed import batch_size, training_speed


class ModelError(FlatminError):
    """A model that is asked for does not exist, or cannot be built or measured."""


@dataclass(frozen=True)
class Images:
    """What a model is built for: square images, and the number of their classes."""

    classes: int = 10
    size: int = 32
    channels: int = 3

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        return self.channels, self.size, self.size

    def __str__(self) -> str:
        return f"{'x'.join(map(str, self.shape))} images and {self.classes} classes"


@dataclass(frozen=True)
class Size:
    """Parameters of a network, and multiply-adds of one image's forward pass."""

    parameters: int
    multiply_adds: int


@dataclass(frozen=True)
class Speed:
    """Images per second of a training step, and how many images that step had."""

    images_per_second: float
    batch: int


@dataclass(frozen=True)
class Row:
    """A model by its first name, and what is known of it; ``problem`` says why something is not."""

    name: str
    size: Size | None = None
    speed: Speed | None = None
    problem: str = ""


def built(name: str, images: Images, stem: str = "native") -> nn.Module:
    """Build a model for such images, on the device that torch is told to use."""
    return build(name, stem=stem, num_classes=images.classes, in_chans=images.channels, img_size=images.size)


def sized(model: nn.Module, images: Images) -> Size:
    """Return the size of a model."""
    return Size(parameter_count(model), multiply_adds(model, images.shape))


def timed(name: str, images: Images, batch: int, place: str) -> Speed:
    """Return the speed of a model on the device at ``place``, for which this process's arithmetic is set."""
    device = prepared_device(place)
    model = built(name, images).to(device)
    pixels = torch.randn(batch, *images.shape, device=device)
    labels = torch.randint(images.classes, (batch,), device=device)
    return Speed(training_speed(model, pixels, labels), batch)


def sized_row(name: str, images: Images) -> Row:
    """Return a row with the size of a model, which is counted without being allocated or computed."""
    try:
        with torch.device("meta"):
            model = built(name, images)
        return Row(name, sized(model, images))
    except Exception as error:  # timm's families refuse images in many ways
        return Row(name, problem=_first_line(error))


def timed_rows(
    rows: Sequence[Row], images: Images, place: str, environment: Mapping[str, str] | None = None
) -> Iterator[Row]:
    """Yield the rows with the speeds of those that have a size, measured one after another in a new process.

    Args:
        rows: what `sized_row` returned.
        images: what the models are built for.
        place: the device, ``cpu`` or ``cuda``.
        environment: variables that the process starts with, for what is read at its start alone (threads, memory).

    Raises:
        ModelError: the process was killed.
    """
    with _process(environment or {}) as process:
        for row in rows:
            yield row if row.size is None else _timed_row(row, row.size, images, place, process)


def _timed_row(row: Row, size: Size, images: Images, place: str, process: ProcessPoolExecutor) -> Row:
    batch = batch_size(size.multiply_adds, place)
    try:
        return replace(row, speed=process.submit(timed, row.name, images, batch, place).result())
    except BrokenProcessPool:
        raise ModelError(
            f"the process that measured {row.name} was killed, most likely because memory ran out: "
            "--no-speed lists models without measuring them"
        ) from None
    except Exception as error:  # some take no batch of training that they take as one image of evaluation
        return replace(row, problem=_first_line(error))


@contextlib.contextmanager
def _process(environment: Mapping[str, str]) -> Iterator[ProcessPoolExecutor]:
    """Keep one process that was started with these variables on top of ours."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        with _inherited(environment):
            process.submit(os.getpid)  # the first task starts it
        yield process


@contextlib.contextmanager
def _inherited(environment: Mapping[str, str]) -> Iterator[None]:
    """Give new processes these variables, and no part in Ctrl-C: it ends the one that waits for them, without noise."""
    before, handler = dict(os.environ), signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.update(environment)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        for name in environment.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__
