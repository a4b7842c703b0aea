"""The learning rate as a closed form of the step, so that a resumed run needs no scheduler state."""

from __future__ import annotations

import math
from dataclasses import dataclass

from flatmin.settings import TrainingSpec


@dataclass(frozen=True)
class Schedule:
    """The learning rate at every step of a run.

    After a linear warm-up over ``warmup_epochs``: ``cosine`` falls to 0 over the remaining steps, per step and without
    restart (the SAM paper's code); ``step`` multiplies by ``step_factor`` at each milestone, given as a fraction of
    the run; ``constant`` stays.
    """

    spec: TrainingSpec
    lr: float
    steps_per_epoch: int

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        return self.spec.epochs * self.steps_per_epoch

    def at(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        warmup = self.spec.warmup_epochs * self.steps_per_epoch
        if step < warmup:
            return self.lr * (step + 1) / (warmup + 1)
        return self.lr * self._factor((step - warmup) / max(1.0, self.steps - warmup), step / self.steps)

    def _factor(self, after_warmup: float, of_run: float) -> float:
        match self.spec.schedule:
            case "cosine":
                return 0.5 * (1 + math.cos(math.pi * min(1.0, after_warmup)))
            case "step":
                return self.spec.step_factor ** sum(of_run >= milestone for milestone in self.spec.milestones)
            case _:
                return 1.0
