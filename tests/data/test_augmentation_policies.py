"""The policies decide as often as torchvision's do, counted from torchvision's own tables, and for every image anew."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import product
from typing import Any

import pytest
import torch
from scipy.stats import chi2
from torchvision.transforms import v2

from flatmin.data.augmentation.operations import IDENTITY, Operation
from flatmin.data.augmentation.policies import Policy, autoaugment, randaugment, trivialaugment
from flatmin.randomness import torch_generator

HEIGHT, WIDTH = 32, 48
DRAWS = 400_000
LEVEL = 1e-4
"""How unlikely a chi-square must be to fail; the seed is fixed, so that a passing test passes again."""

Chances = dict[tuple[Operation, ...], float]
"""The probability of every sequence of operations."""


def signed(name: str, space: dict[str, Any], bins: int, level: int | None) -> Chances:
    """What becomes of one operation at one level: both signs, or one."""
    magnitudes, has_sign = space[name]
    values = magnitudes(bins, HEIGHT, WIDTH)
    if values is None:
        return {(Operation(name),): 1.0}
    assert level is not None
    magnitude = float(values[level])
    if not has_sign or magnitude == 0:
        return {(Operation(name, magnitude),): 1.0}
    return {(Operation(name, magnitude),): 0.5, (Operation(name, -magnitude),): 0.5}


def one_after_another(first: Chances, second: Chances) -> Chances:
    out: Chances = defaultdict(float)
    for (a, p), (b, q) in product(first.items(), second.items()):
        out[a + b] += p * q
    return out


def mean(parts: list[Chances]) -> Chances:
    out: Chances = defaultdict(float)
    for part in parts:
        for operations, chance in part.items():
            out[operations] += chance / len(parts)
    return out


def chances_of_autoaugment() -> Chances:
    theirs = v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10)

    def step(name: str, probability: float, level: int | None) -> Chances:
        applied = signed(name, theirs._AUGMENTATION_SPACE, 10, level)
        return {(IDENTITY,): 1 - probability, **{o: chance * probability for o, chance in applied.items()}}

    assert len(theirs._policies) == 25
    return mean([one_after_another(step(*first), step(*second)) for first, second in theirs._policies])


def chances_of_randaugment(magnitude: int, steps: int) -> Chances:
    space = v2.RandAugment._AUGMENTATION_SPACE
    one = mean([signed(name, space, 31, magnitude) for name in space])
    out: Chances = {(): 1.0}
    for _ in range(steps):
        out = one_after_another(out, one)
    return out


def chances_of_trivialaugment() -> Chances:
    space = v2.TrivialAugmentWide._AUGMENTATION_SPACE
    return mean([signed(name, space, 31, level) for name in space for level in range(31)])


POLICIES: dict[str, tuple[Policy, Chances]] = {
    "autoaugment": (autoaugment(HEIGHT, WIDTH), chances_of_autoaugment()),
    "randaugment": (randaugment(2, 9, HEIGHT, WIDTH), chances_of_randaugment(9, 2)),
    "strong randaugment": (randaugment(1, 30, HEIGHT, WIDTH), chances_of_randaugment(30, 1)),
    "weak randaugment": (randaugment(3, 0, HEIGHT, WIDTH), chances_of_randaugment(0, 3)),
    "trivialaugment": (trivialaugment(), chances_of_trivialaugment()),
}


@pytest.mark.parametrize("name", POLICIES)
def test_sequences_of_operations_are_as_frequent_as_torchvision_s(name: str) -> None:
    policy, chances = POLICIES[name]
    drawn = policy.draw(DRAWS, torch_generator(0, name))
    sequences, times = drawn.unique(dim=1, return_counts=True)
    counted = Counter()
    for sequence, count in zip(sequences.T.tolist(), times.tolist(), strict=True):
        counted[tuple(policy.operations[i] for i in sequence)] += count
    possible = {operations: chance for operations, chance in chances.items() if chance}
    assert sum(possible.values()) == pytest.approx(1)
    assert counted.keys() <= possible.keys()
    expected = {operations: chance * DRAWS for operations, chance in possible.items()}
    # the many rare ones count as one
    rare = [operations for operations, often in expected.items() if often < 20]
    pairs = [(counted[operations], often) for operations, often in expected.items() if often >= 20]
    if rare:
        pairs.append((sum(counted[o] for o in rare), sum(expected[o] for o in rare)))
    statistic = sum((seen - often) ** 2 / often for seen, often in pairs)
    assert chi2.sf(statistic, len(pairs) - 1) > LEVEL


@pytest.mark.parametrize("name", POLICIES)
def test_images_decide_independently_of_each_other(name: str) -> None:
    """Two neighbours agree as often as two independent draws, which per-batch decisions would make always."""
    policy, chances = POLICIES[name]
    drawn = policy.draw(100_000, torch_generator(1, name))
    agree = (drawn[:, ::2] == drawn[:, 1::2]).all(0).double().mean().item()
    by_chance = sum(chance**2 for chance in chances.values())
    assert agree == pytest.approx(by_chance, abs=5 * (by_chance / 50_000) ** 0.5)


@pytest.mark.parametrize(("name", "numbers"), [("autoaugment", 2), ("randaugment", 2), ("trivialaugment", 1)])
def test_a_policy_s_steps(name: str, numbers: int) -> None:
    drawn = POLICIES[name][0].draw(7, torch_generator(0))
    assert drawn.shape == (numbers, 7)
    assert drawn.dtype == torch.int64
