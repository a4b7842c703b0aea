"""What a method costs, in units of the base optimizer's pass over the batch."""

from dataclasses import dataclass

from .ascent import Ascent, NeighborhoodAscent
from .regime import Regime


@dataclass(frozen=True)
class Cost:
    """The mean cost of a step, over whole periods.

    Attributes:
        gradients: forward-backward passes, in batches: 1 for SGD, 2 for SAM.
        forwards: forward passes without a backward, in batches; one takes about a third of a gradient's time.
    """

    gradients: float
    forwards: float = 0.0


def cost_of(ascent: Ascent, regime: Regime | None = None) -> Cost:
    """The cost of a method wherever its rho is above zero.

    Every step has the base's pass. In a step that ascends, ``steps`` gradients on a ``fraction`` of the images drive
    the ascent, and the second pass is on the ascent's `second_share` of them.
    """
    if not isinstance(ascent, NeighborhoodAscent):
        return Cost(1.0)
    regime = regime or Regime()
    ascending = 1 / (regime.every * ascent.period)
    with_ascent = regime.steps * regime.fraction + ascent.second_share
    return Cost(
        gradients=(1 - ascending) + ascending * with_ascent,
        forwards=ascending if ascent.needs_losses else 0.0,
    )
