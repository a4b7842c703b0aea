"""How rho changes over a run, as a closed form of the position; and a scheduler, for loops that have none."""

import math
from dataclasses import dataclass
from typing import Any, Literal

from .options import check_options, option
from .step import SharpnessAware


@dataclass(frozen=True)
class RhoSchedule:
    """rho at every moment of a run, as a factor on the rho that is set.

    Attributes:
        rho_schedule: ``constant``; ``lr``, in step with the learning rate (GSAM's choice); ``cosine``, half a period
            from 1 down, whatever the learning rate does.
        rho_end: what ``lr`` and ``cosine`` fall to, as a share of rho.
        rho_warmup: the share of the run over which rho grows linearly from 0, from ``rho_start`` on.
        rho_start: the share of the run before which rho is 0, so that the base optimizer begins alone. 0.9: SAM for
            the last tenth of the epochs. ``cosine`` falls over what is left.
    """

    rho_schedule: Literal["constant", "lr", "cosine"] = option(
        "constant", introduced="constant", choices=("constant", "lr", "cosine")
    )
    rho_end: float = option(0.0, introduced=0.0, at_least=0.0, at_most=1.0)
    rho_warmup: float = option(0.0, introduced=0.0, at_least=0.0, at_most=1.0)
    rho_start: float = option(0.0, introduced=0.0, at_least=0.0, at_most=1.0)

    def __post_init__(self) -> None:
        """Check the options.

        Raises:
            ValueError: names the option, its value and what is allowed.
        """
        check_options(self, "rho schedule")

    def factor(self, step: int, steps: int, lr: float = 1.0) -> float:
        """The factor on rho in a step.

        Args:
            step: which step, from 0.
            steps: of how many.
            lr: the learning rate of this step over the largest one of the run.
        """
        since = step - math.ceil(round(self.rho_start * steps, 9))
        if since < 0:
            return 0.0
        fallen = min(1.0, since / max(1.0, (1 - self.rho_start) * steps))
        height = {"constant": 1.0, "lr": lr, "cosine": 0.5 * (1 + math.cos(math.pi * fallen))}
        grown = min(1.0, (since + 1) / (self.rho_warmup * steps + 1))
        return grown * (self.rho_end + (1 - self.rho_end) * height[self.rho_schedule])


class RhoScheduler:
    """Sets every group's rho before each step of a run, as torch's schedulers set the learning rate.

    Make it after the learning rate's scheduler, and call its ``step`` after that one's. (Assigning ``group["rho"]``
    by hand does as well.) The rho that it scales stays in the group as ``initial_rho``, as torch's ``initial_lr`` does,
    so that an optimizer loaded from the end of a run begins the next one with it.

    Args:
        optimizer: whose groups.
        schedule: the closed form.
        steps: how many steps the run has.
        peak_lr: the largest learning rate of the run, for ``rho_schedule = "lr"``; where it is not given, the
            ``max_lr`` or ``initial_lr`` that torch's schedulers leave in each group, or else the rate of now.
    """

    def __init__(
        self, optimizer: SharpnessAware, schedule: RhoSchedule, steps: int, peak_lr: float | None = None
    ) -> None:
        self.optimizer, self.schedule, self.steps = optimizer, schedule, steps
        self.last_step = 0
        self._rho = [
            group.setdefault("initial_rho", optimizer.ascent.radius(group)) for group in optimizer.param_groups
        ]
        self._peaks = [peak_lr or _peak_of(group) for group in optimizer.param_groups]
        self._set()

    def step(self) -> None:
        """Go on to the next step."""
        self.last_step += 1
        self._set()

    def _set(self) -> None:
        for group, rho, peak in zip(self.optimizer.param_groups, self._rho, self._peaks, strict=True):
            group["rho"] = rho * self.schedule.factor(self.last_step, self.steps, float(group["lr"]) / peak)

    def state_dict(self) -> dict[str, Any]:
        """The position, and what rho is scheduled from."""
        return {"last_step": self.last_step, "rho": list(self._rho), "peaks": list(self._peaks)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up where ``state`` was taken; load the optimizer's first."""
        self.last_step, self._rho, self._peaks = state["last_step"], list(state["rho"]), list(state["peaks"])
        self._set()


def _peak_of(group: dict[str, Any]) -> float:
    """The largest learning rate that a group is known to have."""
    return float(next(group[name] for name in ("max_lr", "initial_lr", "lr") if name in group))
