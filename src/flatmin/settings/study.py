"""What a study does with its runs: tables, the selection of hyperparameters, and what is measured."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from flatmin.settings.declaring import Count, NonNegative, Positive, Seed, Settings, Severity, setting


class SelectionSpec(Settings):
    """Where hyperparameters are chosen: ``seeds`` of their own, disjoint from the tables' seeds."""

    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (1000,)


class CorruptionSpec(Settings):
    """Which corruptions, at which severities, of how many test images (the first ``images``; all where it is null).

    ``main`` are the 15 of the benchmark's mean corruption error, ``all`` has the others too. A test set with fewer
    images than ``images`` gives all that it has. ``seed`` is that of generated sets; official ones have none.
    """

    names: Literal["main", "all"] | Annotated[tuple[str, ...], Field(min_length=1)] = setting("main", introduced="main")
    severities: Annotated[tuple[Severity, ...], Field(min_length=1)] = setting(
        (1, 2, 3, 4, 5), introduced=(1, 2, 3, 4, 5)
    )
    images: Count | None = setting(None, introduced=None)
    seed: Seed = setting(0, introduced=0)


class EvaluationSpec(Settings):
    """What is measured on test data: the sets, and the bins of the expected calibration error.

    ``test`` is the source's own test set. Further ones (``cifar10_1``, ``cifar10_c``, ``corruptions``, ...:
    ``flatmin data list``) are measured on the runs whose source they belong to.
    """

    test_sets: Annotated[tuple[str, ...], Field(min_length=1)] = setting(("test",), introduced=("test",))
    ece_bins: Count = setting(15, introduced=15)
    corruptions: CorruptionSpec = setting(CorruptionSpec(), introduced={})


class SharpnessSpec(Settings):
    """The sharpness measures: a ball of radius ``rho``, ``steps`` of projected ascent, on ``samples`` training images.

    The images are the first ``samples`` of the run's own training draw, without augmentation, with the labels it was
    trained on.
    """

    rho: Positive = setting(0.05, introduced=0.05)
    steps: Count = setting(10, introduced=10)
    samples: Count = setting(1000, introduced=1000)


class ClaimsSpec(Settings):
    """The claims that a study was made for: ids of ``experiments/claims.yaml``, six at most, tested together (Holm).

    Null: those that the file names. All others are exploratory.
    """

    primary: Annotated[tuple[str, ...], Field(max_length=6)] | None = None


class TableSpec(Settings):
    """One question of the study: rows are datasets x models, columns are methods, cells are means over seeds.

    ``baseline`` names the methods whose better mean is what every other column is compared with (the paper: sgd at 1x
    and 2x epochs). ``select`` maps a method to the grid that the stage ``select`` searches for it.
    """

    title: str = ""
    datasets: Annotated[tuple[str, ...], Field(min_length=1)]
    models: Annotated[tuple[str, ...], Field(min_length=1)]
    methods: Annotated[tuple[str, ...], Field(min_length=1)]
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)]
    baseline: Annotated[tuple[str, ...], Field(min_length=1)] = ("sgd",)
    training: dict[str, Any] = Field(default_factory=dict)
    select: dict[str, dict[str, Annotated[list[NonNegative], Field(min_length=1)]]] = Field(default_factory=dict)
    selection: SelectionSpec | None = None
