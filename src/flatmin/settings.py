"""The settings that determine a run, one frozen model per section of ``params.yaml``.

Every field that has a default also carries the value it had when it was introduced. A run's key leaves a setting out
only at that value: a new option retrains nothing, and a changed default retrains what it changes (`keyed`).
"""

from __future__ import annotations

import hashlib
import re
from pathlib import PurePath
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator

SELECTED: Literal["selected"] = "selected"
"""Stands where a number is chosen on validation data by the stage ``select``."""


def _number(value: Any) -> Any:
    if isinstance(value, bool):  # pydantic would read true as 1
        raise ValueError("must be a number")
    return value


Fraction = Annotated[float, Field(ge=0, le=1), BeforeValidator(_number)]
ProperFraction = Annotated[float, Field(gt=0, lt=1), BeforeValidator(_number)]
BelowOne = Annotated[float, Field(ge=0, lt=1), BeforeValidator(_number)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False), BeforeValidator(_number)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False), BeforeValidator(_number)]
Count = Annotated[int, Field(ge=1), BeforeValidator(_number)]
Natural = Annotated[int, Field(ge=0), BeforeValidator(_number)]
Seed = Natural
Severity = Annotated[int, Field(ge=1, le=5), BeforeValidator(_number)]


def setting(default: Any, *, introduced: Any, **constraints: Any) -> Any:
    """Declare an optional setting: its ``default`` today, and the value it had when it was ``introduced``.

    ``introduced`` never changes, whatever becomes of the default. That of a section is ``{}``: the section is at the
    value that it had when all its own settings are.
    """
    return Field(default, json_schema_extra={"introduced": introduced}, **constraints)


def outside_keys(default: Any = ...) -> Any:
    """Declare a setting that enters no key: what it stands for is hashed itself."""
    return Field(default, json_schema_extra={"keyed": False})


class Settings(BaseModel):
    """Base of all sections: immutable, and a key that no field defines is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def keyed(settings: BaseModel) -> dict[str, Any]:
    """Return the settings that enter a run's key: all but those at the value they had when introduced."""
    out: dict[str, Any] = {}
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        plain = keyed(value) if isinstance(value, BaseModel) else value
        extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
        if extra.get("keyed", True) and not ("introduced" in extra and plain == extra["introduced"]):
            out[name] = plain
    return out


# --- data ------------------------------------------------------------------------------------------------------------


class SymmetricNoise(Settings):
    """A fraction ``rate`` of the labels is replaced by a uniformly drawn label.

    ``definition`` says from which labels: ``any-class`` draws over all k classes, so that only rate (k - 1) / k of the
    labels really change (36% for a nominal 40% and ten classes); ``another-class`` draws over the k - 1 others.
    It has no default, because papers mean either and rarely say which.
    """

    kind: Literal["symmetric"]
    rate: Fraction
    definition: Literal["any-class", "another-class"]


class AsymmetricNoise(Settings):
    """A fraction ``rate`` of each class named in ``pairs`` is relabelled as that class's look-alike.

    ``usual`` takes the pairs that the literature uses for the source (CIFAR-10: truck -> automobile, bird -> airplane,
    deer -> horse, cat <-> dog).
    """

    kind: Literal["asymmetric"]
    rate: Fraction
    pairs: Literal["usual"] | dict[int, int] = setting("usual", introduced="usual")


class PairFlipNoise(Settings):
    """A fraction ``rate`` of each class is relabelled as the next class, the last as the first."""

    kind: Literal["pair_flip"]
    rate: Fraction


class InstanceNoise(Settings):
    """Labels are wrong more often, and wrong in its own way, for one image than for another.

    Part-dependent label noise of Xia et al. (NeurIPS 2020), with ``rate`` their tau: about the fraction of wrong labels
    (more at low rates: 13% for 0.1), which the manifest of every draw states.
    """

    kind: Literal["instance"]
    rate: Fraction


HUMAN_LABELS = {"cifar10": ("aggregate", "random1", "random2", "random3", "worst"), "cifar100": ("noisy",)}
"""The published sets of labels that people gave, by source."""


class HumanNoise(Settings):
    """The labels that people gave.

    CIFAR-10N has ``aggregate``, ``random1``, ``random2``, ``random3`` and ``worst``, CIFAR-100N has ``noisy``. They are
    the same for every seed; subset and split are not.
    """

    kind: Literal["human"]
    labels: Literal["aggregate", "random1", "random2", "random3", "worst", "noisy"]


Noise = Annotated[
    SymmetricNoise | AsymmetricNoise | PairFlipNoise | InstanceNoise | HumanNoise, Field(discriminator="kind")
]


class OwnImages(Settings):
    """Images of the user's own, resized once to ``size`` x ``size``.

    Nothing of this enters a key: the arrays that come of it are hashed.
    """

    path: Annotated[str, Field(min_length=1)] = outside_keys()
    size: Annotated[int, Field(ge=4, le=1024), BeforeValidator(_number)] = outside_keys()
    channels: Literal[1, 3] = outside_keys(3)
    test_fraction: ProperFraction = outside_keys(0.2)

    @property
    def name(self) -> str:
        """A name for the source that these images are: the last part of their path, and a digest of the settings."""
        path = PurePath(self.path)  # without a slash at the end, and the like
        settings = self.model_copy(update={"path": path.as_posix()}).model_dump_json()
        digest = hashlib.sha256(settings.encode()).hexdigest()[:8]
        words = re.sub(r"[^a-z0-9]+", "-", path.stem.lower()).strip("-") or "own"
        return f"{words}-{digest}"


class ImageFolder(OwnImages):
    """A folder with a folder of images per class, or two of those: ``train``, and ``test`` or ``val``."""

    kind: Literal["image_folder"] = outside_keys()


class Parquet(OwnImages):
    """A parquet file, or a folder of them, with the columns ``image`` and ``label``, as Hugging Face writes them.

    Files whose names begin with ``test`` or ``val`` are the test part.
    """

    kind: Literal["parquet"] = outside_keys()
    image: str = outside_keys("image")
    label: str = outside_keys("label")


def _kind_of_source(value: Any) -> str | None:
    """Return which form a source is written in: a name, or the ``kind`` of a section."""
    if isinstance(value, dict):
        return value.get("kind")
    return getattr(value, "kind", "name")


Own = Annotated[ImageFolder | Parquet, Field(discriminator="kind")]
SourceSpec = Annotated[
    Annotated[str, Tag("name")] | Annotated[ImageFolder, Tag("image_folder")] | Annotated[Parquet, Tag("parquet")],
    Discriminator(_kind_of_source),
]


class Validation(Settings):
    """The part of the training set that is held out to choose rho and the early-stopping epoch.

    It is split off before noise is added; ``labels`` says whether its own labels are noisy too (``noisy``, what a user
    without clean labels has) or kept ``clean`` (what the SAM paper did).
    """

    fraction: ProperFraction = setting(0.1, introduced=0.1)
    labels: Literal["noisy", "clean"] = setting("noisy", introduced="noisy")


class DatasetSpec(Settings):
    """A source plus what is done to its training labels and size.

    ``source`` is the name of one (``cifar10``), or says where images of one's own lie (``kind: image_folder``).
    ``train_size`` images (stratified over classes) are drawn before the validation part is split off; all of them when
    it is null. Subset, split and noise are drawn anew for every seed, unless ``draw_seed`` fixes one draw for all.
    """

    source: SourceSpec
    noise: Noise | None = setting(None, introduced=None)
    train_size: Count | None = setting(None, introduced=None)
    validation: Validation = setting(Validation(), introduced={})
    draw_seed: Seed | None = setting(None, introduced=None)

    @property
    def source_name(self) -> str:
        """The name that the source's files and images go by."""
        return self.source if isinstance(self.source, str) else self.source.name


# --- model, method, training ------------------------------------------------------------------------------------------


class ModelSpec(Settings):
    """A model that ``timm.create_model`` accepts, with its arguments; ``stem: cifar`` adapts it to small images."""

    name: str
    stem: Literal["native", "cifar"] = setting("native", introduced="native")
    args: dict[str, Any] = setting({}, introduced={})


class Augmentation(Settings):
    """What is done to training images at random, in this order (``docs/augmentation.md``).

    ``pad``: a crop after padding by so many pixels, by ``padding`` (``reflect`` as in SAM's code). ``flip``: left to
    right, half of the images. ``policy``: ``autoaugment`` is that of its authors for CIFAR-10; ``randaugment`` has
    ``operations`` one after the other, of ``magnitude`` 0 to 30; ``trivialaugment`` is the wide one. ``cutout``: the
    side of a square set to the mean, 0 for none, a place ``cutout_per`` image (its paper) or batch (SAM's code).
    ``erasing``: the probability that a box of random size is set to the mean. ``mixup`` and ``cutmix``: alpha, 0 for
    none; with both, a coin decides between them; ``mix_per`` batch (their papers) or image.
    """

    flip: bool = setting(False, introduced=False)
    pad: Natural = setting(0, introduced=0)
    padding: Literal["reflect", "zero", "edge"] = setting("reflect", introduced="reflect")
    policy: Literal["none", "autoaugment", "randaugment", "trivialaugment"] = setting("none", introduced="none")
    operations: Count = setting(2, introduced=2)
    magnitude: Annotated[int, Field(ge=0, le=30), BeforeValidator(_number)] = setting(9, introduced=9)
    cutout: Natural = setting(0, introduced=0)
    cutout_per: Literal["image", "batch"] = setting("image", introduced="image")
    erasing: Fraction = setting(0.0, introduced=0.0)
    mixup: NonNegative = setting(0.0, introduced=0.0)
    cutmix: NonNegative = setting(0.0, introduced=0.0)
    mix_per: Literal["batch", "image"] = setting("batch", introduced="batch")

    @model_validator(mode="after")
    def _nothing_is_without_effect(self) -> Augmentation:
        """Refuse what looks as if it did something. (``padding`` and ``pad`` may come from different places.)"""
        of_randaugment = (self.operations, self.magnitude) != (2, 9)
        if of_randaugment and self.policy != "randaugment":
            raise ValueError("operations and magnitude are randaugment's alone: set policy: randaugment or remove them")
        if self.cutout_per == "batch" and self.cutout == 0:
            raise ValueError("cutout_per says where a square goes, and cutout: 0 has none: set cutout: 16 or remove it")
        if self.mix_per == "image" and self.mixup == self.cutmix == 0:
            raise ValueError("mix_per needs something to mix: set mixup or cutmix to an alpha above 0, or remove it")
        return self


class TrainingSpec(Settings):
    """How a run is trained. ``lr`` and ``weight_decay`` may be ``selected``: chosen on validation data.

    ``weight_decay_in``: ``base`` leaves it to the base optimizer's step, at w (PyTorch's ports of SAM); ``loss`` adds
    half of it times ||w||^2 to the loss of every pass, so that it shapes the perturbation too (SAM's official code).
    ``micro_batch``: images per call of the network, over which batch norm computes its statistics; null for the whole
    batch. (The official runs had 32 per replica, for sgd too.) ``precision``: ``bf16`` and ``fp16`` are autocast,
    ``fp16`` with a gradient scaler.
    """

    epochs: Count = setting(200, introduced=200)
    batch_size: Count = setting(256, introduced=256)
    lr: Positive | Literal["selected"] = setting(0.1, introduced=0.1)
    momentum: BelowOne = setting(0.9, introduced=0.9)
    nesterov: bool = setting(True, introduced=True)
    betas: tuple[BelowOne, BelowOne] = setting((0.9, 0.999), introduced=(0.9, 0.999))
    weight_decay: NonNegative | Literal["selected"] = setting(5e-4, introduced=5e-4)
    weight_decay_in: Literal["base", "loss"] = setting("base", introduced="base")
    micro_batch: Count | None = setting(None, introduced=None)
    schedule: Literal["cosine", "step", "constant"] = setting("cosine", introduced="cosine")
    warmup_epochs: NonNegative = setting(0.0, introduced=0.0)
    milestones: tuple[Fraction, ...] = setting((0.3, 0.6, 0.8), introduced=(0.3, 0.6, 0.8))
    step_factor: Positive = setting(0.2, introduced=0.2)
    clip_norm: Positive | None = setting(None, introduced=None)
    label_smoothing: BelowOne = setting(0.0, introduced=0.0)
    augmentation: Augmentation = setting(Augmentation(), introduced={})
    precision: Literal["fp32", "bf16", "fp16"] = setting("fp32", introduced="fp32")
    memory_format: Literal["contiguous", "channels_last"] = setting("contiguous", introduced="contiguous")
    patience: Count = setting(20, introduced=20)

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> TrainingSpec:
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs a momentum above 0: set nesterov: false or momentum: 0.9")
        return self


class MethodSpec(BaseModel):
    """How weights are updated: a base optimizer and an ascent, with the ascent's options beside them.

    ``rho`` is a number (hand-written) or ``selected`` (chosen by the table's ``select`` grid). Further keys are the
    options that the ascent declares (ASAM's ``eta``), how it is put to use (``every``, ``m``, ``only``, ...:
    ``flatmin.optim.regime``), and how rho changes over the run (``rho_schedule``, ``rho_start``, ...:
    ``flatmin.optim.rho_schedule``). ``training`` overrides the table's training for this method alone.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    base: Literal["sgd", "adam", "adamw"]
    ascent: str = "none"
    rho: NonNegative | Literal["selected"] | None = None
    training: dict[str, Any] = {}

    @property
    def options(self) -> dict[str, Any]:
        """The ascent's own options as written, without rho."""
        return dict(self.model_extra or {})


class ResolvedMethod(Settings):
    """A method in which every option has a value.

    ``options`` lacks those whose value is the ascent's own default, today as when they were introduced.
    """

    base: Literal["sgd", "adam", "adamw"]
    ascent: str
    rho: NonNegative = setting(0.0, introduced=0.0)
    options: dict[str, Any] = setting({}, introduced={})


class RunSettings(Settings):
    """All that a run computes with, resolved: what the run key hashes, together with the data and the code."""

    dataset: DatasetSpec
    model: ModelSpec
    method: ResolvedMethod
    training: TrainingSpec
    seed: Seed

    def recorded(self) -> dict[str, Any]:
        """Return the settings as a record holds them: without the place of a user's own images, which may move."""
        content = self.model_dump(mode="json")
        if isinstance(self.dataset.source, OwnImages):
            content["dataset"]["source"]["path"] = "own images"
        return content


# --- measurement ------------------------------------------------------------------------------------------------------


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
    training: dict[str, Any] = {}
    select: dict[str, dict[str, Annotated[list[NonNegative], Field(min_length=1)]]] = {}
    selection: SelectionSpec | None = None
