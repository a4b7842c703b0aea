"""Takes tensors back to what they were, bit for bit and in their own storage."""

import operator
from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor


class Snapshot:
    """The values that some tensors had, to be put back later.

    A copy back, since subtracting what was added is off by a rounding, and pointing a tensor at the copy would
    change the address that CUDA graphs and views hold. The memory for the values is kept for the next time: fresh
    pages for it would cost more than all else that a step does to the weights.
    """

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []
        self.values: list[Tensor] = []
        self._kinds: list[tuple[torch.dtype, torch.device, torch.Size]] = []
        self._groups: list[tuple[list[Tensor], list[Tensor]]] = []

    def __reduce__(self) -> tuple[type["Snapshot"], tuple[()]]:
        """Copies and pickles start empty: between two steps there is nothing to put back."""
        return Snapshot, ()

    def take(self, tensors: Iterable[Tensor]) -> None:
        """Copy the values of ``tensors``."""
        tensors = list(tensors)
        if not self._fits(tensors):
            self.tensors = tensors
            self._kinds = [(t.dtype, t.device, t.shape) for t in tensors]
            self.values = [torch.empty_like(tensor, requires_grad=False) for tensor in tensors]
            self._groups = self._by_kind()
        with torch.no_grad():
            for now, values in self._groups:
                torch._foreach_copy_(values, now)

    @torch.no_grad()
    def restore(self) -> None:
        """Copy the values back into the tensors."""
        for tensors, values in self._groups:
            torch._foreach_copy_(tensors, values)

    @torch.no_grad()
    def restore_unless(self, keep: Tensor) -> None:
        """Copy the values back unless ``keep`` (a boolean with no dimension) is true, without waiting for it."""
        for tensor, value in zip(self.tensors, self.values, strict=True):
            tensor.copy_(torch.where(keep.to(tensor.device), tensor, value))

    def _fits(self, tensors: list[Tensor]) -> bool:
        """Whether these are the tensors of last time, not resized, converted or moved since."""
        return (
            len(tensors) == len(self.tensors)
            and all(map(operator.is_, tensors, self.tensors))
            and [(t.dtype, t.device, t.shape) for t in tensors] == self._kinds
        )

    def _by_kind(self) -> list[tuple[list[Tensor], list[Tensor]]]:
        """Tensors and values by device and type, for only such lists are copied in one kernel."""
        groups: dict[object, tuple[list[Tensor], list[Tensor]]] = defaultdict(lambda: ([], []))
        for tensor, value in zip(self.tensors, self.values, strict=True):
            tensors, values = groups[tensor.device, tensor.dtype]
            tensors.append(tensor)
            values.append(value)
        return list(groups.values())
