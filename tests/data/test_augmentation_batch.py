"""A batch from grey levels to inputs and targets: the order of things, and what the generator is asked for."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from flatmin.data.augmentation.batch import augment, augmented_batch, occlude
from flatmin.data.augmentation.operations import Repertoire, apply
from flatmin.data.augmentation.policies import trivialaugment
from flatmin.data.batches import normalise
from flatmin.data.errors import DataError
from flatmin.randomness import torch_generator
from flatmin.settings import Augmentation

MEAN, STD = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.25, 0.3])
FORMATS = [torch.contiguous_format, torch.channels_last]

SETTINGS: dict[str, Augmentation] = {
    "nothing": Augmentation(),
    "flip and crop": Augmentation(flip=True, pad=4),
    "autoaugment": Augmentation(flip=True, pad=4, padding="zero", policy="autoaugment"),
    "randaugment": Augmentation(policy="randaugment", operations=3, magnitude=12),
    "trivialaugment": Augmentation(policy="trivialaugment", cutout=8),
    "cutout": Augmentation(cutout=8),
    "cutout of the batch": Augmentation(cutout=8, cutout_per="batch"),
    "erasing": Augmentation(erasing=0.6),
    "mixup": Augmentation(mixup=0.2),
    "cutmix of every image": Augmentation(cutmix=1.0, mix_per="image"),
    "all": Augmentation(
        flip=True, pad=2, padding="edge", policy="trivialaugment", cutout=6, erasing=0.5, mixup=0.8, cutmix=1.0
    ),
}


def generator(seed: int = 0) -> torch.Generator:
    return torch_generator(seed, "augmentation")


def random_images(count: int = 60, channels: int = 3, size: int = 16, seed: int = 9) -> Tensor:
    shape = (count, channels, size, size)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator(seed))


normal = partial(normalise, mean=MEAN, std=STD)


def inputs_of(images: Tensor, augmentation: Augmentation, source: torch.Generator | None = None) -> Tensor:
    labels = torch.arange(len(images))
    return augmented_batch(images, labels, augmentation, source or generator(), normal)[0]


@pytest.mark.parametrize("name", SETTINGS)
def test_the_generator_advances_by_what_does_not_depend_on_the_images(name: str) -> None:
    contents = [random_images(), random_images(seed=4), torch.full((60, 3, 16, 16), 31, dtype=torch.uint8)]
    states = []
    for images in contents:
        source = generator()
        inputs_of(images, SETTINGS[name], source)
        states.append(source.get_state())
    assert all(torch.equal(state, states[0]) for state in states)
    assert torch.equal(states[0], generator().get_state()) == (name == "nothing")


@pytest.mark.parametrize("name", SETTINGS)
def test_a_generator_s_state_determines_the_batch_and_images_are_not_written_to(name: str) -> None:
    images = random_images()
    before = images.clone()
    once, twice = (inputs_of(images, SETTINGS[name]) for _ in range(2))
    assert torch.equal(once, twice)
    assert torch.equal(images, before)
    assert torch.equal(once, inputs_of(images, SETTINGS[name], generator(1))) == (name == "nothing")


@pytest.mark.parametrize("name", SETTINGS)
def test_memory_formats_hold_the_same_bits(name: str) -> None:
    images, labels = random_images(), torch.arange(60)
    one, other = (
        augmented_batch(images, labels, SETTINGS[name], generator(), partial(normal, memory_format=memory_format))[0]
        for memory_format in FORMATS
    )
    assert other.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(one, other)


@pytest.mark.parametrize("name", [name for name in SETTINGS if name not in ("nothing", "cutout of the batch", "mixup")])
def test_copies_of_one_image_become_different_within_a_batch(name: str) -> None:
    copies = random_images(1).expand(60, -1, -1, -1)
    out = inputs_of(copies, SETTINGS[name])
    if name == "cutmix of every image":  # nothing changes where partners are equal
        out = inputs_of(random_images(), SETTINGS[name]) == normal(random_images())
    assert len(out.flatten(1).unique(dim=0)) > 10


def test_a_square_of_the_batch_is_the_same_for_all_images() -> None:
    out = inputs_of(random_images(), SETTINGS["cutout of the batch"])
    cleared = (out == 0).all(1)
    assert 16 <= cleared[0].sum().item() <= 64
    assert bool((cleared == cleared[0]).all())


def test_cleared_pixels_are_the_mean_and_the_others_stay() -> None:
    images = random_images()
    for name in ("cutout", "erasing"):
        out, plain = inputs_of(images, SETTINGS[name]), normal(images)
        cleared = (out == 0).all(1, keepdim=True)
        assert 0.02 < cleared.double().mean().item() < 0.3
        assert torch.equal(out, torch.where(cleared, 0.0, plain))


def test_the_policy_comes_after_the_crop_and_before_the_boxes() -> None:
    """Replayed by hand with the same generator: crop and flip, policy, normalisation, boxes."""
    images, augmentation, source = random_images(), Augmentation(flip=True, pad=3, policy="trivialaugment"), generator()
    cropped = augment(images, Augmentation(flip=True, pad=3), source)
    policy = trivialaugment()
    [chosen] = policy.draw(60, source)
    by_hand = apply(cropped, chosen, Repertoire.of(policy.operations, 16, 16, torch.device("cpu")))
    assert torch.equal(augment(images, augmentation, generator()), by_hand)
    with_box = augmentation.model_copy(update={"cutout": 8})
    assert torch.equal(inputs_of(images, with_box), occlude(normal(by_hand), with_box, source))


def test_labels_are_mixed_with_those_of_the_partner_after_all_else() -> None:
    images, labels = random_images(), torch.arange(60)
    augmentation = Augmentation(flip=True, pad=2, cutout=4, mixup=1.0)
    source = generator()
    parts = occlude(normal(augment(images, augmentation, source)), augmentation, source)
    out, targets = augmented_batch(images, labels, augmentation, generator(), normal)
    assert targets.partners is not None
    assert targets.shares is not None
    weights = targets.shares.view(-1, 1, 1, 1)
    assert torch.allclose(out, weights * parts + (1 - weights) * parts[targets.partners], atol=1e-6)


@pytest.mark.parametrize(("mix_per", "lambdas"), [("batch", 1), ("image", 60)])
def test_lambda_is_drawn_as_often_as_the_setting_says(mix_per, lambdas: int) -> None:
    augmentation = Augmentation(mixup=1.0, mix_per=mix_per)
    _, targets = augmented_batch(random_images(), torch.arange(60), augmentation, generator(), normal)
    assert targets.shares is not None
    assert len(targets.shares.unique()) == lambdas


def test_without_mixing_targets_are_the_labels() -> None:
    labels = torch.arange(60)
    _, targets = augmented_batch(random_images(), labels, SETTINGS["cutout"], generator(), normal)
    assert targets.labels is labels
    assert targets.partners is None


def test_grey_images_have_policies_too() -> None:
    images = random_images(channels=1)
    for policy in ("autoaugment", "randaugment", "trivialaugment"):
        out = augment(images, Augmentation(policy=policy), generator())
        assert (out.shape, out.dtype) == (images.shape, torch.uint8)
        assert not torch.equal(out, images)


def test_a_policy_for_other_channels_is_refused() -> None:
    with pytest.raises(DataError, match=r"augmentation\.policy: autoaugment .* 4\nSet policy: none"):
        augment(random_images(channels=4), Augmentation(policy="autoaugment"), generator())


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ({"magnitude": 31, "policy": "randaugment"}, "magnitude"),
        ({"magnitude": 5}, "set policy: randaugment or remove them"),
        ({"operations": 3, "policy": "autoaugment"}, "set policy: randaugment or remove them"),
        ({"operations": 0, "policy": "randaugment"}, "operations"),
        ({"cutout": -2}, "cutout"),
        ({"cutout_per": "batch"}, "set cutout: 16 or remove it"),
        ({"erasing": 1.5}, "erasing"),
        ({"mixup": -0.1}, "mixup"),
        ({"cutmix": float("inf")}, "cutmix"),
        ({"mix_per": "image"}, "set mixup or cutmix"),
        ({"padding": "wrap"}, "padding"),
        ({"policy": "augmix"}, "policy"),
        ({"mixup": True}, "must be a number"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(written: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Augmentation.model_validate(written)
