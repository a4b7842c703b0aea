"""Sharpness by ascent: how much the loss rises inside the ball of radius rho around the weights.

The quantity is max over ||eps|| <= rho of L(w + eps) - L(w) (Foret et al. 2021, section 2). It can only be approached
from below, and the value depends on how hard one tries: it grows with the number of ascent steps, which is therefore
part of every result. Three approximations, from cheap to close:

    first_order   rho ||grad L(w)||, the linear term alone; what a SAM step maximises
    one_step      L(w + eps_1) - L(w) with eps_1 = rho g / ||g||, the point that SAM evaluates
    n_step        max over eps_0 = 0, eps_1, ..., eps_n of L(w + eps_k) - L(w), where
                  eps_(k+1) = P(eps_k + step_size rho g_k / ||g_k||), g_k = grad L(w + eps_k),
                  and P projects on the ball

The ascent starts from SAM's own point, and the best iterate counts, not the last: so n_step >= one_step and
n_step >= 0 by construction, and n = 1 is one_step where that is positive.
"""

import math
from collections.abc import Callable

from torch import Tensor, nn

from flatmin.sharpness.objective import Objective, SampleLoss, cross_entropy
from flatmin.sharpness.perturbation import Perturbation, added, norm, perturbed, projected, scaled


def sharpness(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    rho: float,
    steps: int,
    batch_size: int,
    transform: Callable[[Tensor], Tensor],
    loss: SampleLoss = cross_entropy,
    step_size: float = 0.5,
) -> dict[str, float | None]:
    """Measure sharpness at the model's weights, on all the given samples taken as one batch.

    Batch norm is in evaluation mode, nothing is autocast (`flatmin.sharpness.objective`). Weights, gradients and modes
    of the model are the same before and after, bit for bit. Costs ``steps`` gradients and one more loss over the
    samples.

    Args:
        model: in float32 or float64; what requires a gradient is perturbed.
        images: uint8 [n, c, h, w].
        labels: class indices [n].
        rho: radius of the l2 ball, in units of the weights.
        steps: number n of ascent steps; the first is SAM's.
        batch_size: samples per pass; does not change the result.
        transform: turns a batch of uint8 images into the model's input.
        loss: maps logits [b, k] and labels [b] to one loss per sample [b].
        step_size: length of the steps after the first, in units of rho.

    Returns:
        ``loss`` and ``gradient_norm`` at w, the measures ``first_order``, ``one_step`` and ``n_step``, and the settings
        that they depend on, ``rho``, ``steps`` and ``step_size``. A zero gradient gives zero sharpness. What is not
        finite is None, since JSON has no inf and no NaN; where an iterate's loss is not, so is ``n_step``.

    Raises:
        ValueError: rho, steps or step_size is not positive, or the samples do not fit (`Objective`).
    """
    _check(rho=rho, steps=steps, step_size=step_size)
    objective = Objective(model, images, labels, batch_size, transform, loss)
    value, gradient = objective.value_and_gradient()
    gradient_norm = norm(gradient)
    rises = ascend(objective, value, gradient, rho=rho, steps=steps, step_size=step_size)
    return {
        "loss": _finite(value),
        "gradient_norm": _finite(gradient_norm),
        "first_order": _finite(rho * gradient_norm),
        "one_step": _finite(rises[0]),
        "n_step": max(0.0, *rises) if all(map(math.isfinite, rises)) else None,
        "rho": rho,
        "steps": steps,
        "step_size": step_size,
    }


def ascend(
    objective: Objective, value: float, gradient: Perturbation, *, rho: float, steps: int, step_size: float
) -> list[float]:
    """Return the rises L(w + eps_k) - L(w) of the iterates k = 1..steps of the projected ascent.

    The list ends early where the gradient is zero or not finite: there is no direction to go.

    Args:
        objective: L, at the weights w.
        value: L(w).
        gradient: grad L(w).
        rho: radius of the l2 ball.
        steps: number of iterates.
        step_size: length of the steps after the first, in units of rho.
    """
    epsilon = scaled(gradient, 0.0)
    rises: list[float] = []
    for k in range(1, steps + 1):
        length = norm(gradient)
        if length == 0.0 or not math.isfinite(length):
            break
        step = rho if k == 1 else step_size * rho
        epsilon = projected(added(epsilon, scaled(gradient, step / length)), rho)
        with perturbed(objective.parameters, epsilon):
            if k == steps:  # nobody asks for the last gradient
                rises.append(objective.value() - value)
            else:
                perturbed_value, gradient = objective.value_and_gradient()
                rises.append(perturbed_value - value)
    return rises or [0.0 if norm(gradient) == 0.0 else math.nan]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _check(**settings: float) -> None:
    for name, value in settings.items():
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be positive, got {value}")
