"""Data-parallel replicas: whether they share a perturbation, and that they decide alike about a step."""

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

Perturbation = Literal["synced", "local"]


class Replicas:
    """The replicas that a module is one of: alone, unless it is a `DistributedDataParallel`.

    Args:
        module: the model of this process.
        perturbation: ``synced``, the gradient that drives the ascent is averaged over the replicas, which makes one
            ascent for the whole batch; ``local``, every replica ascends along the gradient of its own images, which
            is m-sharpness with m = images per replica, as in SAM's official code.
    """

    def __init__(self, module: nn.Module | None, perturbation: Perturbation) -> None:
        if perturbation not in ("synced", "local"):
            raise ValueError(f"perturbation = {perturbation!r} is not one of synced, local")
        inside = () if module is None else module.modules()  # it may be compiled, or part of a larger module
        self._replica = next((part for part in inside if isinstance(part, DistributedDataParallel)), None)
        self.local = perturbation == "local" and self._replica is not None
        self.reuses_gradients = self._replica is not None and self._replica.gradient_as_bucket_view
        """Whether the next pass writes into the tensors that hold this one's gradient."""

    def apart(self) -> AbstractContextManager[None]:
        """A pass inside leaves its gradient as this replica computed it, if the perturbation is local."""
        return self._replica.no_sync() if self.local and self._replica is not None else nullcontext()

    def mean(self, tensors: list[Tensor]) -> list[Tensor]:
        """The mean of each tensor over the replicas, if local perturbations have set them apart."""
        if not self.local or self._replica is None:
            return tensors
        group = self._replica.process_group
        means = list(torch._foreach_div(tensors, distributed.get_world_size(group)))
        for mean in means:
            distributed.all_reduce(mean, group=group)
        return means

    def agree(self, finite: bool | Tensor, device: torch.device) -> bool | Tensor:
        """Whether all replicas can say ``finite``. A replica that skipped alone would leave the others waiting."""
        if self._replica is None:
            return finite
        flag = torch.as_tensor(finite, device=device).to(torch.int32)
        distributed.all_reduce(flag, distributed.ReduceOp.MIN, group=self._replica.process_group)
        return bool(flag) if isinstance(finite, bool) else flag.bool()
