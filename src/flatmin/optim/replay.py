"""Random numbers drawn twice: the passes of a step share the masks of dropout and the noise of shaken branches."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


class RandomState:
    """The state of the default generators, of the CPU and of some devices, and of ``own`` ones, when this is made."""

    def __init__(self, devices: Iterable[torch.device], own: Iterable[torch.Generator] = ()) -> None:
        self._cpu = torch.get_rng_state()
        self._others = {device: torch.get_device_module(device).get_rng_state(device) for device in devices}
        self._own = [(generator, generator.get_state()) for generator in own]

    def put_back(self) -> None:
        """Set the generators to this state."""
        torch.set_rng_state(self._cpu)
        for device, state in self._others.items():
            torch.get_device_module(device).set_rng_state(state, device)
        for generator, state in self._own:
            generator.set_state(state)


@contextmanager
def replayed(
    start: RandomState, devices: Iterable[torch.device], own: Iterable[torch.Generator] = ()
) -> Iterator[None]:
    """Inside, random numbers are those drawn after ``start``; afterwards, those that would have come without this.

    So the clean passes of any method draw the numbers that the passes of its base optimizer draw, step by step.
    """
    end = RandomState(devices, own)
    start.put_back()
    try:
        yield
    finally:
        end.put_back()


def random_devices(groups: Iterable[dict[str, Any]]) -> list[torch.device]:
    """The devices of param groups that have a default generator of their own: all but the CPU."""
    others = {parameter.device for group in groups for parameter in group["params"]}
    return [device for device in others if device.type not in ("cpu", "meta")]


def generators_of(module: nn.Module | None) -> list[torch.Generator]:
    """The generators that the modules in a module have as attributes, in the order of the modules."""
    modules = () if module is None else module.modules()
    found = (value for inner in modules for value in vars(inner).values() if isinstance(value, torch.Generator))
    return list(dict.fromkeys(found))
