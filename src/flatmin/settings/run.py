"""The settings that determine a run: its model, its method, how it is trained; and all of them, resolved."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from flatmin.catalogue import papers_name
from flatmin.settings.data import DatasetSpec, OwnImages
from flatmin.settings.declaring import (
    BelowOne,
    Count,
    Fraction,
    Natural,
    NonNegative,
    Positive,
    Seed,
    Settings,
    number,
    outside_keys,
    setting,
)


def _weights(value: Any) -> Any:
    """Refuse what is no path and looks like something else."""
    words = ("", "true", "false", "yes", "no")
    if not isinstance(value, bool | str) or (isinstance(value, str) and value.strip().lower() in words):
        raise ValueError("must be true, false (both without quotes), or the path of a file of weights")
    return value


class ModelSpec(Settings):
    """A model that ``timm.create_model`` accepts, with its arguments; ``stem: cifar`` adapts it to small images.

    ``pretrained``: ``true`` to start from the weights that timm publishes under this name, or the path of a file to
    start from these. The classifier is drawn anew where it is one for another number of classes. The place of a file
    enters no key: the weights in it do.
    """

    name: Annotated[str, AfterValidator(papers_name)]  # by whichever name, it is one run
    stem: Literal["native", "cifar"] = setting("native", introduced="native")
    args: dict[str, Any] = setting({}, introduced={})
    pretrained: Annotated[bool | str, BeforeValidator(_weights)] = outside_keys(False)

    @property
    def weights_name(self) -> str:
        """A name for the weights that runs start from: the model's, and a digest of where they come from."""
        digest = hashlib.sha256(f"{self.name}\x1f{self.pretrained}".encode()).hexdigest()[:8]
        return f"weights-{self.name.replace('.', '-')}-{digest}"


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
    magnitude: Annotated[int, Field(ge=0, le=30), BeforeValidator(number)] = setting(9, introduced=9)
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
        """Return the settings as a record holds them: without the places of a user's own files, which may move."""
        content = self.model_dump(mode="json")
        if isinstance(self.dataset.source, OwnImages):
            content["dataset"]["source"]["path"] = "own images"
        if isinstance(self.model.pretrained, str):
            content["model"]["pretrained"] = "own weights"
        return content
