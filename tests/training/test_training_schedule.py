from __future__ import annotations

import math
from typing import Any

import pytest

from flatmin.settings import TrainingSpec
from flatmin.training.schedule import Schedule

PER_EPOCH = 10


def rates(**training: Any) -> list[float]:
    """The learning rate of every step of ten epochs of ten steps, in units of its base."""
    spec = TrainingSpec.model_validate({"epochs": 10, **training})
    schedule = Schedule(spec, 2.0, PER_EPOCH)
    return [schedule.at(step) / 2.0 for step in range(schedule.steps)]


def test_cosine_is_half_a_period_over_all_steps() -> None:
    expected = [0.5 * (1 + math.cos(math.pi * step / 100)) for step in range(100)]
    assert rates(schedule="cosine") == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize(("step", "rate"), [(0, 1.0), (50, 0.5), (99, math.sin(math.pi / 200) ** 2)])
def test_cosine_begins_at_the_base_is_half_in_the_middle_and_ends_just_above_0(step: int, rate: float) -> None:
    assert rates(schedule="cosine")[step] == pytest.approx(rate, abs=1e-15)


def test_cosine_would_be_0_after_the_last_step() -> None:
    schedule = Schedule(TrainingSpec(epochs=10, schedule="cosine"), 2.0, PER_EPOCH)
    assert schedule.at(100) == 0.0


def test_constant_stays() -> None:
    assert rates(schedule="constant") == [1.0] * 100


def test_step_drops_exactly_at_each_milestone() -> None:
    written = rates(schedule="step", milestones=[0.3, 0.6, 0.8], step_factor=0.2)
    expected = [1.0] * 30 + [0.2] * 30 + [0.2**2] * 20 + [0.2**3] * 20
    assert written == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize("schedule", ["cosine", "constant", "step"])
def test_warm_up_rises_linearly_and_never_stands_at_0(schedule: str) -> None:
    written = rates(schedule=schedule, warmup_epochs=2)
    assert written[:20] == pytest.approx([(step + 1) / 21 for step in range(20)], rel=1e-15)
    assert written[20] == 1.0


def test_cosine_after_warm_up_spans_the_steps_that_remain() -> None:
    written = rates(schedule="cosine", warmup_epochs=2)
    assert written[20:] == pytest.approx([0.5 * (1 + math.cos(math.pi * s / 80)) for s in range(80)], abs=1e-15)


def test_milestones_are_fractions_of_the_whole_run_warm_up_included() -> None:
    written = rates(schedule="step", milestones=[0.5], step_factor=0.1, warmup_epochs=2)
    assert (written[49], written[50]) == (1.0, 0.1)


def test_a_warm_up_may_end_within_an_epoch() -> None:
    written = rates(schedule="constant", warmup_epochs=0.25)
    assert written[:4] == pytest.approx([1 / 3.5, 2 / 3.5, 3 / 3.5, 1.0], rel=1e-15)


def test_a_warm_up_longer_than_the_run_only_rises() -> None:
    written = rates(schedule="cosine", warmup_epochs=20)
    assert written == sorted(written)
    assert written[-1] == pytest.approx(100 / 201)
