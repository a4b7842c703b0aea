"""Random numbers drawn twice: the passes of a step share the masks of dropout and stochastic depth."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch


class RandomState:
    """The state of the default generators, of the CPU and of some devices, at the moment this is made."""

    def __init__(self, devices: Iterable[torch.device]) -> None:
        self._cpu = torch.get_rng_state()
        self._others = {device: torch.get_device_module(device).get_rng_state(device) for device in devices}

    def put_back(self) -> None:
        """Set the generators to this state."""
        torch.set_rng_state(self._cpu)
        for device, state in self._others.items():
            torch.get_device_module(device).set_rng_state(state, device)


@contextmanager
def replayed(start: RandomState, devices: Iterable[torch.device]) -> Iterator[None]:
    """Inside, random numbers are those drawn after ``start``; afterwards, those that would have come without this.

    So the clean passes of any method draw the numbers that the passes of its base optimizer draw, step by step.
    """
    end = RandomState(devices)
    start.put_back()
    try:
        yield
    finally:
        end.put_back()


def random_devices(groups: Iterable[dict[str, Any]]) -> list[torch.device]:
    """The devices of param groups that have a default generator of their own: all but the CPU."""
    others = {parameter.device for group in groups for parameter in group["params"]}
    return [device for device in others if device.type not in ("cpu", "meta")]
