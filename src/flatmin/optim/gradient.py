"""The gradient that a pass leaves: its tensors taken together as one vector, and whether it is fit to be used."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

Scalar = float | Tensor
"""A number; a tensor with no dimension where only the device knows it and the host does not wait for it."""

_FLOAT32 = torch.finfo(torch.float32)
# half precision is accumulated in float32, and the longer way is right for float64 too
_SQUARES_EXACT_ABOVE = math.sqrt(_FLOAT32.tiny / _FLOAT32.eps)


@dataclass(frozen=True, slots=True)
class Norm:
    """||g||_2 over all tensors together, and whether the loss and every entry of g were finite.

    Both are Python values, or tensors that nobody has waited for.
    """

    total: Scalar
    finite: bool | Tensor


@dataclass
class Gradient:
    """What a pass left.

    Attributes:
        loss: the mean loss, detached.
        losses: the losses of the single samples where the closure returns them.
        parameters: those that received a gradient.
        values: their gradients.
    """

    loss: Tensor
    losses: Tensor | None
    parameters: list[Tensor]
    values: list[Tensor]
    norm: Norm | None = None
    """Filled once it is known; whoever changes ``values`` afterwards takes care of it."""

    @property
    def known_bad(self) -> bool:
        """Whether somebody has waited to learn that it, or one before it in the step, is not finite."""
        return self.norm is not None and self.norm.finite is False

    @property
    def total(self) -> Scalar:
        """||g||_2, once it is known."""
        assert self.norm is not None
        return self.norm.total


def measured_norm(loss: Tensor, values: list[Tensor]) -> Norm:
    """The norm of a gradient, waiting for the device once.

    Where squares would overflow or underflow, it computes the norm again from g divided by its largest entry (two
    more waits), so that a healthy gradient of any size has a healthy norm; one whose entries are all subnormal
    (below 1.2e-38 in float32) counts as zero.
    """
    # the tensors' norms are joined on the host, in double precision: half the time of get_total_norm
    loss_value, *norms = _on_host([loss.detach(), *(_norms(values) if values else ())])
    norm: float | None = math.hypot(*norms)
    if math.isfinite(loss_value) and not _SQUARES_EXACT_ABOVE <= norm < math.inf:  # type: ignore[operator]
        norm = _norm_by_largest(values)
    finite = math.isfinite(loss_value) and norm is not None
    return Norm(norm if finite and norm is not None else math.nan, finite)


def _norms(values: list[Tensor]) -> tuple[Tensor, ...]:
    """The norm of each tensor; those of half precision in float32, where they are not rounded again."""
    half = values[0].dtype in (torch.float16, torch.bfloat16)
    return torch._foreach_norm(values, 2, torch.float32) if half else torch._foreach_norm(values)


def promised_norm(loss: Tensor, values: list[Tensor]) -> Norm:
    """The norm of a gradient that lies on one device, without waiting for it: squares are summed in float64."""
    norms = torch._foreach_norm(values, 2, torch.float64) if values else [loss.new_zeros((), dtype=torch.float64)]
    total = torch.linalg.vector_norm(torch.stack(norms))
    finite = total.isfinite() & loss.isfinite().reshape(())
    return Norm(total.where(finite, math.nan), finite)


def inverse(norm: Scalar) -> Scalar:
    """1 / norm, and 0 for a norm of 0: where g = 0 there is no way up."""
    if isinstance(norm, Tensor):
        return torch.where(norm > 0, norm.reciprocal(), torch.zeros_like(norm))
    return 1 / norm if norm > 0 else 0.0


def vector_norm(values: list[Tensor]) -> Scalar:
    """||v||_2 over tensors of moderate size: a number on the CPU, a tensor where there is something to wait for."""
    norm = get_total_norm(values)
    return norm.item() if norm.is_cpu else norm


def inner(left: Iterable[Tensor], right: Iterable[Tensor]) -> Tensor:
    """<a, b> over all tensors together, accumulated in float64."""
    products = [torch.sum(a * b, dtype=torch.float64) for a, b in zip(left, right, strict=True)]
    return torch.stack([product.to(products[0].device) for product in products]).sum()


def orthogonal_part(values: list[Tensor], to: list[Tensor], norm: Scalar) -> list[Tensor]:
    """V - <v, u> u with u = to / ||to||, all tensors together as one vector.

    Args:
        values: v.
        to: what the result is orthogonal to, tensor for tensor of the same shape.
        norm: ||to||_2; at 0 the result is v.
    """
    unit = scaled(to, inverse(norm))
    torch._foreach_mul_(unit, inner(values, unit).to(unit[0].dtype))
    return list(torch._foreach_sub(values, unit))


def scaled(values: list[Tensor], factor: Scalar) -> list[Tensor]:
    """Factor * v, as new tensors."""
    by = factor.to(values[0].dtype) if isinstance(factor, Tensor) else factor
    return list(torch._foreach_mul(values, by))


def shared(*gradients: Gradient) -> tuple[list[Tensor], list[list[Tensor]]]:
    """The parameters that received a gradient in every one of some passes, and each pass's gradients of these."""
    first, *others = gradients
    if all(len(other.parameters) == len(first.parameters) for other in others) and all(
        a is b for other in others for a, b in zip(first.parameters, other.parameters, strict=True)
    ):
        return first.parameters, [gradient.values for gradient in gradients]
    found = [dict(zip(g.parameters, g.values, strict=True)) for g in gradients]
    common = [p for p in first.parameters if all(p in values for values in found)]
    return common, [[values[p] for p in common] for values in found]


def _on_host(scalars: list[Tensor]) -> list[float]:
    """Their values, in one transfer."""
    if all(scalar.is_cpu for scalar in scalars):
        return [scalar.item() for scalar in scalars]
    device = scalars[-1].device
    return torch.stack([scalar.reshape(()).to(device) for scalar in scalars]).tolist()


def _norm_by_largest(values: list[Tensor]) -> float | None:
    """max|g| * ||g / max|g| ||_2; zero if max|g| is subnormal, None if it is not finite."""
    largest = float(get_total_norm(values, math.inf))
    if not math.isfinite(largest):
        return None
    if largest < min((torch.finfo(g.dtype).tiny for g in values), default=1.0):
        return 0.0
    return largest * float(get_total_norm(torch._foreach_div(values, largest)))
