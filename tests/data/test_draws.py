from __future__ import annotations

import numpy as np
import pytest

from flatmin.data.draws import Draw, TrainingPart, draw
from flatmin.data.errors import DataError
from flatmin.data.manifest import content_hash
from flatmin.data.stratified import shares
from flatmin.settings import DatasetSpec

CLASSES = 10
LABELS = np.arange(5000) % CLASSES
SOURCE = TrainingPart(LABELS, CLASSES)
UNEVEN = np.repeat(np.arange(3), [600, 300, 100])


def spec(**settings: object) -> DatasetSpec:
    return DatasetSpec.model_validate({"source": "cifar10", **settings})


def symmetric(rate: float, definition: str = "another-class") -> dict[str, object]:
    return {"kind": "symmetric", "rate": rate, "definition": definition}


def same(one: Draw, other: Draw, *names: str) -> bool:
    names = names or tuple(Draw.__dataclass_fields__)
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in names)


def test_the_parts_are_disjoint_complete_and_stratified() -> None:
    drawn = draw(spec(), SOURCE, 0)
    assert sorted(np.concatenate([drawn.train_indices, drawn.validation_indices])) == list(range(5000))
    assert np.bincount(drawn.train_clean_labels).tolist() == [450] * CLASSES
    assert np.bincount(drawn.validation_clean_labels).tolist() == [50] * CLASSES
    assert np.array_equal(drawn.train_clean_labels, LABELS[drawn.train_indices])
    assert np.array_equal(drawn.validation_clean_labels, LABELS[drawn.validation_indices])
    assert all(getattr(drawn, name).dtype == np.int64 for name in Draw.__dataclass_fields__)


def test_a_subset_keeps_the_proportions_of_uneven_classes() -> None:
    drawn = draw(spec(train_size=100, validation={"fraction": 0.2}), TrainingPart(UNEVEN, 3), 0)
    assert np.bincount(drawn.train_clean_labels).tolist() == [48, 24, 8]
    assert np.bincount(drawn.validation_clean_labels).tolist() == [12, 6, 2]


def test_a_larger_subset_contains_the_smaller_one() -> None:
    def members(size: int) -> set[int]:
        drawn = draw(spec(train_size=size), SOURCE, 0)
        return {*drawn.train_indices.tolist(), *drawn.validation_indices.tolist()}

    assert members(500) < members(1000)


def test_the_first_images_of_a_part_are_a_random_sample() -> None:
    drawn = draw(spec(), TrainingPart(np.sort(LABELS), CLASSES), 0)
    first = np.bincount(drawn.train_clean_labels[:500], minlength=CLASSES)
    assert first.min() > 25  # 50 are expected of each class; in the source's order all 500 would be of one


def test_shares_go_to_the_largest_remainders() -> None:
    assert shares(np.array([5, 3, 2]), 4).tolist() == [2, 1, 1]  # quotas 2.0, 1.2, 0.8
    assert shares(np.array([1, 1, 1]), 2).tolist() == [1, 1, 0]  # equal remainders: the lowest classes


def test_a_draw_depends_on_the_seed_and_on_nothing_outside_the_settings() -> None:
    noisy = spec(noise=symmetric(0.4), train_size=1000)
    assert same(draw(noisy, SOURCE, 7), draw(noisy, SOURCE, 7))
    assert not same(draw(noisy, SOURCE, 7), draw(noisy, SOURCE, 8), "train_indices")
    renamed = noisy.model_copy(update={"source": "another"})
    assert same(draw(noisy, SOURCE, 7), draw(renamed, SOURCE, 7))


def test_a_draw_is_the_same_on_every_machine() -> None:
    drawn = draw(spec(noise=symmetric(0.4, "any-class"), train_size=1000), SOURCE, 7)
    digest = content_hash({name: getattr(drawn, name) for name in Draw.__dataclass_fields__})
    assert digest == "d1a8391cc389050910d831a70d7b458489981091b2a81269515038ad9e0f5d13"


def test_subset_and_validation_part_are_drawn_independently() -> None:
    small = draw(spec(train_size=500), SOURCE, 0)
    large = draw(spec(train_size=1000), SOURCE, 0)
    inside = np.isin(large.validation_indices, np.concatenate([small.train_indices, small.validation_indices]))
    # Half of the larger subset is in the smaller one, and so should be about half of its 100 validation images
    assert 30 <= np.count_nonzero(inside) <= 70


def test_datasets_that_differ_in_noise_alone_have_the_same_images_in_the_same_parts() -> None:
    settings = [{}, {"noise": symmetric(0.2)}, {"noise": symmetric(0.8, "any-class")}]
    draws = [draw(spec(train_size=1000, **noise), SOURCE, 3) for noise in settings]
    images = ("train_indices", "validation_indices", "train_clean_labels", "validation_clean_labels")
    assert all(same(draws[0], other, *images) for other in draws)
    assert not same(draws[0], draws[1], "train_labels")


def test_noise_is_added_after_the_split_to_each_part_on_its_own() -> None:
    drawn = draw(spec(noise=symmetric(0.4)), SOURCE, 0)
    assert np.count_nonzero(drawn.train_labels != drawn.train_clean_labels) == 1800
    assert np.count_nonzero(drawn.validation_labels != drawn.validation_clean_labels) == 200


def test_validation_labels_stay_clean_where_the_settings_say_so() -> None:
    noisy = draw(spec(noise=symmetric(0.4)), SOURCE, 0)
    clean = draw(spec(noise=symmetric(0.4), validation={"labels": "clean"}), SOURCE, 0)
    assert np.array_equal(clean.validation_labels, clean.validation_clean_labels)
    assert same(noisy, clean, "train_indices", "train_labels", "validation_indices")


def test_a_draw_seed_takes_the_place_of_every_seed() -> None:
    fixed = spec(noise=symmetric(0.4), draw_seed=11)
    assert same(draw(fixed, SOURCE, 0), draw(fixed, SOURCE, 1))
    free = spec(noise=symmetric(0.4))
    assert same(draw(fixed, SOURCE, 0), draw(free, SOURCE, 11))


def test_usual_pairs_are_the_source_s_and_written_ones_go_before_them() -> None:
    def changed(pairs: object) -> set[tuple[int, int]]:
        noise = {"kind": "asymmetric", "rate": 0.5, "pairs": pairs}
        drawn = draw(spec(noise=noise), TrainingPart(LABELS, CLASSES, {3: 5}), 0)
        flips = drawn.train_labels != drawn.train_clean_labels
        return set(zip(drawn.train_clean_labels[flips].tolist(), drawn.train_labels[flips].tolist(), strict=True))

    assert changed("usual") == {(3, 5)}
    assert changed({1: 9, 2: 0}) == {(1, 9), (2, 0)}


BAD = {
    "more than there are": ({"train_size": 5001}, "train_size: 5001 images are asked for and there are 5000"),
    "fewer than classes": ({"train_size": 9}, "train_size: .* class 9 gets none"),
    "validation too small": ({"train_size": 50}, "validation.fraction: .* gets none"),
    "validation takes all": ({"train_size": 20, "validation": {"fraction": 0.9}}, "leaves no training image of class"),
    "no usual pairs": ({"noise": {"kind": "asymmetric", "rate": 0.4}}, "no usual pairs for the source cifar10"),
    "no such class": ({"noise": {"kind": "asymmetric", "rate": 0.4, "pairs": {1: 10}}}, "1 -> 10 is no pair"),
    "no pair": ({"noise": {"kind": "asymmetric", "rate": 0.4, "pairs": {1: 1}}}, "1 -> 1 is no pair"),
}


@pytest.mark.parametrize(("settings", "reason"), BAD.values(), ids=BAD)
def test_an_impossible_draw_says_which_setting_is_wrong(settings: dict[str, object], reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        draw(spec(**settings), SOURCE, 0)
