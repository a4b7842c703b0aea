"""How fast a network trains on this machine, from a few steps of SGD in float32 on random images."""

import statistics
import time

import torch
from torch import Tensor, nn
from torch.nn import functional

SMALLEST_BATCH, LARGEST_BATCH = 2, 128
"""From what batch norm needs on a map of one pixel, to what papers train with."""

STEP_MULTIPLY_ADDS = {"cpu": 2**35, "cuda": 2**42}
"""What a measured step may cost: on a core of today, and on a GPU, about half a second."""

REPETITIONS = 5
SECONDS = 2.0
"""The steps of a measurement, and the time after which no other one begins."""


def batch_size(multiply_adds: int, device_type: str) -> int:
    """Return how many images a step is measured with: a power of two, fewer for large networks.

    Args:
        multiply_adds: of one image's forward pass. The backward pass costs twice as much.
        device_type: ``cpu`` or ``cuda``.
    """
    affordable = STEP_MULTIPLY_ADDS[device_type] // max(1, 3 * multiply_adds)
    power_of_two = 2 ** max(0, affordable.bit_length() - 1)
    return max(SMALLEST_BATCH, min(LARGEST_BATCH, power_of_two))


def training_speed(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Return how many images a second ``model`` trains on: forward, backward and a step of SGD with momentum.

    The median of up to 5 steps, of fewer if they would take more than 2 seconds, but at least one. The weights change.

    Args:
        model: maps the images to logits [n, classes]; on the device of the images.
        images: one batch [n, c, h, w].
        labels: their classes [n].
    """
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4, fused=True)
    # the first step allocates gradients and momentum, which a small batch shows as well as a large one
    _seconds(model, optimizer, images[:SMALLEST_BATCH], labels[:SMALLEST_BATCH])
    steps: list[float] = []
    while not steps or (len(steps) < REPETITIONS and sum(steps) + steps[-1] <= SECONDS):
        steps.append(_seconds(model, optimizer, images, labels))
    return len(images) / statistics.median(steps)


def _seconds(model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor) -> float:
    """Return what one step takes."""
    start = time.perf_counter()
    optimizer.zero_grad()
    loss = functional.cross_entropy(model(images), labels)
    loss.backward()
    optimizer.step()
    loss.item()  # waits for a GPU, which works in the order of the calls
    return time.perf_counter() - start
