"""Running statistics of norm layers: which they are, and how to hold them still for a while."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

_RUNNING = ("running_mean", "running_var", "num_batches_tracked")


def running_statistics(module: nn.Module) -> list[Tensor]:
    """Every running mean, running variance and batch counter in ``module``, each once."""
    layers = _layers_with_statistics(module)
    buffers = (layer._buffers.get(name) for layer in layers for name in _RUNNING)
    return list(dict.fromkeys(buffer for buffer in buffers if buffer is not None))


def _layers_with_statistics(module: nn.Module) -> list[nn.Module]:
    """In the module as it is now: layers may have been added or converted since it was last asked."""
    return [layer for layer in module.modules() if layer._buffers and not layer._buffers.keys().isdisjoint(_RUNNING)]


@contextmanager
def frozen_statistics(module: nn.Module) -> Iterator[None]:
    """Inside, forward passes leave all running statistics in ``module`` as they are, counters included.

    The output of a layer does not change: in training mode it normalises by the statistics of its batch, as ever.
    May be nested; whatever ends the block, the layers are as before. Not for layers shared between threads.
    """
    with ExitStack() as thaw:
        for layer in _layers_with_statistics(module):
            thaw.callback(_stop_tracking(layer) if isinstance(layer, _BatchNorm) else _divert(layer))
        yield


def _stop_tracking(layer: _BatchNorm) -> Callable[[], None]:
    """Batch norm's own switch, which costs nothing: training mode then passes no buffer and counts no batch.

    Evaluation mode reads the buffers whatever the switch says.
    """
    tracking = layer.track_running_stats
    layer.track_running_stats = False
    return lambda: setattr(layer, "track_running_stats", tracking)


def _divert(layer: nn.Module) -> Callable[[], None]:
    """Let the layer update copies. Instance norm has no switch: it updates its buffers whatever the flag says.

    An evaluation inside the block, after a training pass inside it, reads the copies.
    """
    kept = {name: layer._buffers[name] for name in _RUNNING if layer._buffers.get(name) is not None}
    layer._buffers.update({name: buffer.clone() for name, buffer in kept.items() if buffer is not None})
    return lambda: layer._buffers.update(kept)
