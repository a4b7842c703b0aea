"""Running statistics of norm layers: which they are, how to hold them still, and one update from several parts."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .snapshot import Snapshot

_RUNNING = ("running_mean", "running_var", "num_batches_tracked")


def layers_with_statistics(module: nn.Module) -> list[nn.Module]:
    """Every layer that keeps running statistics, once each, in no particular order.

    In the module as it is now: layers may have been added or converted since it was last asked. `nn.Module.modules`
    gives the same for twice the time, and this is asked in every step.
    """
    found, seen, waiting = [], {module}, [module]
    while waiting:
        layer = waiting.pop()
        if layer._buffers and not layer._buffers.keys().isdisjoint(_RUNNING):
            found.append(layer)
        for child in layer._modules.values():
            if child is not None and child not in seen:
                seen.add(child)
                waiting.append(child)
    return found


def running_statistics(module: nn.Module) -> list[Tensor]:
    """Every running mean, running variance and batch counter in ``module``, each once."""
    return _buffers(layers_with_statistics(module))


def _buffers(layers: list[nn.Module]) -> list[Tensor]:
    buffers = (layer._buffers.get(name) for layer in layers for name in _RUNNING)
    return list(dict.fromkeys(buffer for buffer in buffers if buffer is not None))


@contextmanager
def frozen_statistics(module: nn.Module) -> Iterator[None]:
    """Inside, forward passes leave all running statistics in ``module`` as they are, counters included.

    The output of a layer does not change: in training mode it normalises by the statistics of its batch, as ever.
    May be nested; whatever ends the block, the layers are as before. Not for layers shared between threads.
    """
    with _frozen(layers_with_statistics(module)):
        yield


@contextmanager
def _frozen(layers: list[nn.Module]) -> Iterator[None]:
    switched = [layer for layer in layers if isinstance(layer, _BatchNorm)]
    others = [layer for layer in layers if not isinstance(layer, _BatchNorm)] if len(switched) < len(layers) else []
    with _stop_tracking(switched), _divert(others):
        yield


@contextmanager
def _stop_tracking(layers: list[_BatchNorm]) -> Iterator[None]:
    """Batch norm's own switch, which costs nothing: training mode then passes no buffer and counts no batch.

    Evaluation mode reads the buffers whatever the switch says.
    """
    # in the instances' dictionaries, past nn.Module.__setattr__, which takes longer than all the rest
    attributes = [layer.__dict__ for layer in layers]
    before = [own["track_running_stats"] for own in attributes]
    try:
        for own in attributes:
            own["track_running_stats"] = False
        yield
    finally:
        for own, tracking in zip(attributes, before, strict=True):
            own["track_running_stats"] = tracking


@contextmanager
def _divert(layers: list[nn.Module]) -> Iterator[None]:
    """Let layers update copies. Instance norm has no switch: it updates its buffers whatever the flag says.

    An evaluation inside the block, after a training pass inside it, reads the copies.
    """
    kept = [{name: layer._buffers[name] for name in _RUNNING if name in layer._buffers} for layer in layers]
    try:
        for layer, buffers in zip(layers, kept, strict=True):
            layer._buffers.update({name: b if b is None else b.clone() for name, b in buffers.items()})
        yield
    finally:
        for layer, buffers in zip(layers, kept, strict=True):
            layer._buffers.update(buffers)


class RunningStatistics:
    """The running statistics of a module during one step: still or moving, one update from all parts, or none.

    Args:
        module: whose statistics; None has none.
        memory: holds their values at the beginning of the step.
    """

    def __init__(self, module: nn.Module | None, memory: Snapshot) -> None:
        self._layers = [] if module is None else layers_with_statistics(module)
        self._buffers = _buffers(self._layers)
        self._before = memory
        self._before.take(self._buffers)
        self._sums: list[Tensor] = []
        self._parts = 0.0

    @contextmanager
    def still(self) -> Iterator[None]:
        """Forward passes inside leave them as they are."""
        with _frozen(self._layers):
            yield

    @contextmanager
    def moving(self, share: float) -> Iterator[None]:
        """A forward pass inside updates them, as one of several whose ``share`` of the images adds up to one.

        Every part starts from the values at the beginning of the step, and the weighted mean of what the parts add
        is kept: for a running mean (1 - a) r + a s that is one update by the mean of the parts' batch statistics, and
        the batch counter advances by one.
        """
        if share == 1 or not self._buffers:
            yield
            return
        self._before.restore()
        yield
        self._parts += share
        starts = [value.double() for value in self._before.values]
        moved = [share * (buffer.double() - start) for buffer, start in zip(self._buffers, starts, strict=True)]
        self._sums = [total + part for total, part in zip(self._sums, moved, strict=True)] if self._sums else moved
        with torch.no_grad():
            for buffer, start, total in zip(self._buffers, starts, self._sums, strict=True):
                mean = start + total / self._parts
                buffer.copy_(mean if buffer.is_floating_point() else mean.round())

    def restore(self) -> None:
        """Undo the step's updates."""
        self._before.restore()

    def restore_unless(self, keep: Tensor) -> None:
        """Undo the step's updates unless ``keep`` is true, without waiting for it."""
        self._before.restore_unless(keep)
