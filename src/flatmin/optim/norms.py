"""The norm of a gradient, and whether it is fit to be used."""

import math

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

_FLOAT32 = torch.finfo(torch.float32)
# half precision is accumulated in float32, and the longer way is right for float64 too
_SQUARES_EXACT_ABOVE = math.sqrt(_FLOAT32.tiny / _FLOAT32.eps)


def finite_norm(loss: Tensor, gradients: list[Tensor]) -> float | None:
    """||g||_2 over all gradients together, or None if the loss or any entry of g is not finite.

    Waits for the device once. Where squares would overflow or underflow, it computes the norm again from g divided
    by its largest entry (two more waits), so that a healthy gradient of any size has a healthy norm; one whose
    entries are all subnormal (below 1.2e-38 in float32) counts as zero.
    """
    # the tensors' norms are joined on the host, in double precision: half the time of get_total_norm
    loss_value, *norms = _on_host([loss.detach(), *(torch._foreach_norm(gradients) if gradients else ())])
    norm = math.hypot(*norms)
    if not math.isfinite(loss_value):
        return None
    return norm if _SQUARES_EXACT_ABOVE <= norm < math.inf else _norm_by_largest(gradients)


def _on_host(scalars: list[Tensor]) -> list[float]:
    """Their values, in one transfer."""
    if all(scalar.is_cpu for scalar in scalars):
        return [scalar.item() for scalar in scalars]
    device = scalars[-1].device
    return torch.stack([scalar.reshape(()).to(device) for scalar in scalars]).tolist()


def _norm_by_largest(gradients: list[Tensor]) -> float | None:
    """max|g| * ||g / max|g| ||_2; zero if max|g| is subnormal, None if it is not finite."""
    largest = float(get_total_norm(gradients, math.inf))
    if not math.isfinite(largest):
        return None
    if largest < min((torch.finfo(g.dtype).tiny for g in gradients), default=1.0):
        return 0.0
    return largest * float(get_total_norm(torch._foreach_div(gradients, largest)))
