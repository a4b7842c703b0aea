"""Takes tensors back to what they were, bit for bit and in their own storage."""

from collections.abc import Iterable

import torch
from torch import Tensor


class Snapshot:
    """The values of some tensors now, to be put back later.

    A copy back, since subtracting what was added is off by a rounding, and pointing a tensor at the copy would
    change the address that CUDA graphs and views hold.
    """

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        self.tensors = list(tensors)
        self._values = [torch.empty_like(tensor, requires_grad=False) for tensor in self.tensors]
        self._copy(self._values, self.tensors)

    def restore(self) -> None:
        """Copy the values back into the tensors."""
        self._copy(self.tensors, self._values)

    @staticmethod
    @torch.no_grad()
    def _copy(to: list[Tensor], values: list[Tensor]) -> None:
        if to:
            torch._foreach_copy_(to, values)
