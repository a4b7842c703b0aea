"""The section ``datasets`` of ``params.yaml``: sources, noise, the validation part, and images of the user's own."""

from __future__ import annotations

import hashlib
import re
from pathlib import PurePath
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from flatmin.settings.declaring import Count, Fraction, ProperFraction, Seed, Settings, number, outside_keys, setting


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
    size: Annotated[int, Field(ge=4, le=1024), BeforeValidator(number)] = outside_keys()
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
