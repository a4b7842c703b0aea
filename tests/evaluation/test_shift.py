"""A trained run on further test sets: every number against plain float64 arithmetic, and what a key depends on."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from flatmin.data.corruptions.registry import EXTRA, MAIN
from flatmin.data.corruptions.suite import corrupt
from flatmin.data.manifest import draw_folder, images_folder, read_manifest
from flatmin.data.prepared import write_draw, write_images
from flatmin.data.prepared_tests import write_generated_corruption, write_judgements, write_new_images
from flatmin.data.sources import registry as sources
from flatmin.data.test_set import HumanJudgements, LabelledImages, NewImages
from flatmin.data.test_sets import registry as test_sets
from flatmin.evaluation.shift import averages
from flatmin.keys import evaluation_key, shift_key
from flatmin.records import verify
from flatmin.settings import CorruptionSpec, EvaluationSpec, RunSettings
from flatmin.work import perform
from flatmin.workplace import Workplace

RUN = RunSettings.model_validate(
    {
        "dataset": {
            "source": "digits",
            "train_size": 200,
            "noise": {"kind": "symmetric", "rate": 0.4, "definition": "another-class"},
            "validation": {"fraction": 0.2},
        },
        "model": {"name": "mlp", "args": {"hidden": [16]}},
        "method": {"base": "sgd", "ascent": "none"},
        "training": {"epochs": 12, "batch_size": 64, "lr": 0.1},
        "seed": 0,
    }
)
NAME, TEST = "noisy", 600
WEIGHTS = {"last": ("", "model.safetensors"), "early": ("early_", "best.safetensors")}
WORDS: dict[str, Any] = {"source": "digits", "licence": "none", "citation": "none"}
NEW, PEOPLE, SUITE = "cifar10_1", "cifar10_h", "cifar10_c"
"""Test sets of each form. Which images they have is a matter of the folders that a task names."""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("prepared")
    images, draw = images_folder(root, "digits"), draw_folder(root, NAME, 0)
    images.mkdir(parents=True)
    draw.mkdir(parents=True)
    write_images(sources.load("digits"), root, images)
    write_draw(RUN.dataset, images, 0, draw)
    return root


def performed(kind: str, task: dict[str, Any], folder: Path, head: str) -> tuple[Path, dict[str, Any]]:
    workplace = Workplace(folder, "t")
    workplace.take()
    reason = perform(kind, "key", task, workplace, folder / "log")
    assert reason is None, reason
    return workplace.result, verify(workplace.result, head)


@pytest.fixture(scope="module")
def common(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the tasks of a trained run have in common."""
    task = {"settings": RUN.model_dump(mode="json"), "dataset": NAME, "prepared": str(prepared)}
    identity = {"identity": {"data": "d", "code": "c"}}
    run, record = performed("train", {**task, **identity}, tmp_path_factory.mktemp("train"), "record.json")
    assert record["result"]["best_epoch"] < 12, "early stopping must be another network than the last epoch's"
    return {**task, "run": str(run)}


def measured(common: dict[str, Any], test_set: str, folders: list[Path], work: Path, **spec: Any) -> dict[str, Any]:
    """Evaluate the run as a worker does; return what is sealed."""
    task = shift_task(common, test_set, folders, **spec)
    return performed("shift", task, work, "evaluation.json")[1]


def shift_task(common: dict[str, Any], test_set: str, folders: list[Path], **spec: Any) -> dict[str, Any]:
    chosen = EvaluationSpec.model_validate(spec).model_dump(mode="json")
    return {**common, "test_set": test_set, "folders": [str(folder) for folder in folders], "spec": chosen}


def refusal(task: dict[str, Any], work: Path) -> str:
    workplace = Workplace(work, "t")
    workplace.take()
    reason = perform("shift", "key", task, workplace, work / "log")
    assert reason is not None
    return reason


# --- by hand ----------------------------------------------------------------------------------------------------------


def probabilities(common: dict[str, Any], prepared: Path, weights: str, images: np.ndarray) -> np.ndarray:
    """What the saved network says of uint8 images [n, c, h, w], in numpy's float64: two layers with a ReLU between."""
    source = read_manifest(images_folder(prepared, "digits"), "images")
    x = (images.reshape(len(images), -1) / 255 - source["mean"][0]) / source["std"][0]
    layers = [array.astype(np.float64) for _, array in sorted(load_file(Path(common["run"]) / weights).items())]
    matrices = [array for array in layers if array.ndim == 2]
    assert sorted(array.shape for array in layers) == [(10,), (10, 16), (16,), (16, 64)]
    first = next(matrix for matrix in matrices if matrix.shape == (16, 64))
    second = next(matrix for matrix in matrices if matrix.shape == (10, 16))
    biases = {len(array): array for array in layers if array.ndim == 1}
    logits = np.maximum(x @ first.T + biases[16], 0) @ second.T + biases[10]
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    found: np.ndarray = shifted / shifted.sum(1, keepdims=True)
    return found


def by_hand(p: np.ndarray, labels: np.ndarray, bins: int = 15) -> dict[str, float]:
    hits = p.argmax(1) == labels
    confidence = p.max(1)
    ece = 0.0
    for k in range(bins):
        inside = (confidence > k / bins) & (confidence <= (k + 1) / bins)
        if inside.any():
            ece += inside.mean() * abs(hits[inside].mean() - confidence[inside].mean())
    nll = -np.log(p[np.arange(len(p)), labels]).mean()
    return {"accuracy": hits.mean(), "error": 1 - hits.mean(), "nll": nll, "ece": ece}


def close(expected: dict[str, float]) -> Any:
    return pytest.approx(expected, rel=2e-5, abs=1e-9)


def named(metrics: dict[str, Any], prefix: str, test_set: str) -> dict[str, Any]:
    return {name: metrics[f"{prefix}{test_set}_{name}"] for name in ("accuracy", "error", "nll", "ece")}


def stored(prepared: Path, name: str) -> np.ndarray:
    array: np.ndarray = np.load(images_folder(prepared, "digits") / f"{name}.npy")
    return array


def new_folder(prepared: Path, folder: Path, images: np.ndarray, labels: np.ndarray) -> Path:
    found = NewImages(name=NEW, title="", read=lambda raw: LabelledImages(images, labels), **WORDS)
    folder.mkdir(parents=True, exist_ok=True)
    write_new_images(found, folder, images_folder(prepared, "digits"), folder)
    return folder


def people_folder(prepared: Path, folder: Path, votes: np.ndarray) -> Path:
    people = HumanJudgements(name=PEOPLE, title="", read=lambda raw: votes, **WORDS)
    folder.mkdir(parents=True)
    write_judgements(people, folder, images_folder(prepared, "digits"), folder)
    return folder


def corrupted_folder(prepared: Path, folder: Path, corruption: str, **spec: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    suite: Any = test_sets.load("corruptions")
    chosen = CorruptionSpec.model_validate(spec)
    write_generated_corruption(suite, corruption, chosen, images_folder(prepared, "digits"), folder)
    return folder


# --- new images -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def new(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first 500 training images as new ones, with labels that are often wrong."""
    labels = np.roll(stored(prepared, "train_labels")[:500], 1)
    labels[:250] = stored(prepared, "train_labels")[:250]
    return new_folder(prepared, tmp_path_factory.mktemp("new"), stored(prepared, "train_images")[:500], labels)


@pytest.mark.parametrize("bins", [15, 4])
@pytest.mark.parametrize("epoch", WEIGHTS)
def test_new_images_are_measured_with_the_weights_of_that_epoch(
    common: dict[str, Any], prepared: Path, new: Path, tmp_path: Path, epoch: str, bins: int
) -> None:
    prefix, weights = WEIGHTS[epoch]
    head = measured(common, NEW, [new], tmp_path, ece_bins=bins)
    p = probabilities(common, prepared, weights, np.load(new / "images.npy"))
    expected = by_hand(p, np.load(new / "labels.npy"), bins)
    assert named(head["metrics"], prefix, NEW) == close(expected)
    assert head["metrics"][f"{prefix}{NEW}_nonfinite"] == 0
    assert 0.2 < expected["error"] < 0.9
    assert "rows" not in head


def test_last_and_early_weights_give_other_numbers(common: dict[str, Any], new: Path, tmp_path: Path) -> None:
    metrics = measured(common, NEW, [new], tmp_path)["metrics"]
    assert metrics[f"{NEW}_nll"] != metrics[f"early_{NEW}_nll"]
    assert {name.removeprefix("early_") for name in metrics} == {n for n in metrics if not n.startswith("early_")}


# --- human judgements -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("epoch", WEIGHTS)
def test_judgements_are_a_cross_entropy_with_what_people_saw(
    common: dict[str, Any], prepared: Path, tmp_path: Path, epoch: str
) -> None:
    votes = np.random.default_rng(3).dirichlet([0.2] * 10, TEST)
    votes[:400] = 0
    votes[np.arange(400), stored(prepared, "test_labels")[:400]] = 1  # of most images everybody sees the same
    folder = people_folder(prepared, tmp_path / "people", votes)
    prefix, weights = WEIGHTS[epoch]
    metrics = measured(common, PEOPLE, [folder], tmp_path / "work")["metrics"]
    p = probabilities(common, prepared, weights, stored(prepared, "test_images"))
    expected = by_hand(p, votes.argmax(1)) | {"nll": -(votes * np.log(p)).sum(1).mean()}
    assert named(metrics, prefix, PEOPLE) == close(expected)
    assert abs(expected["nll"] - by_hand(p, votes.argmax(1))["nll"]) > 0.01


# --- suites of corruptions --------------------------------------------------------------------------------------------

SHIFTS = ("fog", "brightness", "speckle_noise")


@pytest.fixture(scope="module")
def suite(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three corruptions in all severities, as the official files have them."""
    root = tmp_path_factory.mktemp("suite")
    return [corrupted_folder(prepared, root / name, name) for name in SHIFTS]


def expected_rows(
    common: dict[str, Any], prepared: Path, shifts: tuple[str, ...], severities: tuple[int, ...], count: int = TEST
) -> list[dict[str, Any]]:
    clean, labels = stored(prepared, "test_images"), stored(prepared, "test_labels")
    rows = []
    for epoch, (_, weights) in WEIGHTS.items():
        for corruption, severity in itertools.product(shifts, severities):
            p = probabilities(common, prepared, weights, corrupt(clean, corruption, severity, 0)[:count])
            numbers = by_hand(p, labels[:count])
            rows.append({"epoch": epoch, "corruption": corruption, "severity": severity, **numbers})
    return rows


def assert_rows(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    places = ("epoch", "corruption", "severity")
    assert [[row[name] for name in places] for row in found] == [[row[name] for name in places] for row in expected]
    for row, by_definition in zip(found, expected, strict=True):
        for name in ("accuracy", "error", "nll", "ece"):
            assert row[name] == pytest.approx(by_definition[name], rel=2e-5, abs=1e-9), (row, name)


def test_every_corruption_at_every_severity_is_measured_in_order(
    common: dict[str, Any], prepared: Path, suite: list[Path], tmp_path: Path
) -> None:
    head = measured(common, SUITE, suite, tmp_path)
    expected = expected_rows(common, prepared, SHIFTS, (1, 2, 3, 4, 5))
    assert_rows(head["rows"], expected)
    assert len({row["nll"] for row in head["rows"]}) == 2 * 3 * 5
    for epoch, (prefix, _) in WEIGHTS.items():
        main = [row for row in expected if row["epoch"] == epoch and row["corruption"] != "speckle_noise"]
        means = {name: sum(row[name] for row in main) / 10 for name in ("accuracy", "error", "nll", "ece")}
        assert named(head["metrics"], prefix, SUITE) == close(means)
        assert head["metrics"][f"{prefix}{SUITE}_conditions"] == 10


@pytest.mark.parametrize("severities", [(4, 2), (5,), (1, 3, 5)], ids=str)
@pytest.mark.parametrize("count", [None, 130])
def test_severities_and_images_are_chosen_from_a_file_that_has_them_all(
    common: dict[str, Any], prepared: Path, suite: list[Path], tmp_path: Path, severities: Any, count: int | None
) -> None:
    spec = {"severities": severities, "images": count}
    head = measured(common, SUITE, suite[:2], tmp_path, corruptions=spec)
    assert_rows(head["rows"], expected_rows(common, prepared, SHIFTS[:2], severities, count or TEST))


def test_a_file_with_some_severities_of_some_images_gives_the_same_numbers(
    common: dict[str, Any], prepared: Path, suite: list[Path], tmp_path: Path
) -> None:
    """Generated files hold what was asked for, official ones everything. (Noise is drawn by the chunk of 100.)"""
    spec = {"severities": (4, 2), "images": 100}
    some = corrupted_folder(prepared, tmp_path / "fog", "fog", **spec)
    assert np.load(some / "images.npy").shape == (2 * 100, 8, 8, 1)
    one, all_ = (measured(common, SUITE, [f], tmp_path / "w", corruptions=spec)["rows"] for f in (some, suite[0]))
    assert one == all_


def test_corruptions_come_in_the_order_of_their_folders(
    common: dict[str, Any], suite: list[Path], tmp_path: Path
) -> None:
    forward, backward = (
        measured(common, SUITE, folders, tmp_path, corruptions={"severities": [3]}) for folders in (suite, suite[::-1])
    )
    assert [row["corruption"] for row in backward["rows"]] == [*SHIFTS[::-1]] * 2
    assert sorted(map(repr, forward["rows"])) == sorted(map(repr, backward["rows"]))
    assert forward["metrics"] == backward["metrics"]


def test_only_further_corruptions_have_a_mean_too(common: dict[str, Any], suite: list[Path], tmp_path: Path) -> None:
    head = measured(common, SUITE, suite[2:], tmp_path, corruptions={"severities": [1, 2]})
    errors = [row["error"] for row in head["rows"] if row["epoch"] == "last"]
    assert head["metrics"][f"{SUITE}_error"] == pytest.approx(sum(errors) / 2, rel=1e-12)
    assert head["metrics"][f"{SUITE}_conditions"] == 2


@pytest.mark.parametrize("severities", [[1, 5], [5]])
def test_where_more_images_are_asked_for_than_a_file_has_all_are_measured(
    common: dict[str, Any], suite: list[Path], tmp_path: Path, severities: list[int]
) -> None:
    """The setting is one for all sources of a study, whose test sets have other sizes."""
    wanted = {"severities": severities}
    more = measured(common, SUITE, suite[:1], tmp_path / "more", corruptions={**wanted, "images": TEST + 1})
    assert more == measured(common, SUITE, suite[:1], tmp_path / "all", corruptions=wanted)


# --- means ------------------------------------------------------------------------------------------------------------


def row(corruption: str, error: float, nll: float | None = 1.0, severity: int = 1) -> dict[str, Any]:
    return {
        "corruption": corruption,
        "severity": severity,
        "accuracy": 1 - error,
        "error": error,
        "nll": nll,
        "ece": 0.25,
    }


def test_the_fifteen_of_the_benchmark_are_averaged_and_the_others_are_not() -> None:
    main = [row(name, 0.25 + 0.5 * (i % 2), severity=s) for i, name in enumerate(MAIN) for s in (1, 2)]
    found = averages([*main, *(row(name, 1.0, None) for name in EXTRA)])
    assert len(MAIN) == 15
    assert len(EXTRA) == 4
    assert found == {
        "accuracy": pytest.approx(1 - (8 * 0.25 + 7 * 0.75) / 15),
        "error": pytest.approx((8 * 0.25 + 7 * 0.75) / 15),
        "nll": 1.0,
        "ece": 0.25,
        "conditions": 30,
    }


def test_without_any_of_the_fifteen_all_are_averaged() -> None:
    found = averages([row(name, i / 4) for i, name in enumerate(EXTRA)])
    assert (found["error"], found["conditions"]) == (pytest.approx((0 + 1 + 2 + 3) / 16), 4)


def test_a_mean_is_unknown_where_a_value_is() -> None:
    found = averages([row("fog", 0.5, None), row("snow", 0.25, 3.0)])
    assert found["nll"] is None
    assert found["error"] == 0.375


def test_a_mean_does_not_depend_on_the_order_of_its_values() -> None:
    rows = [row(name, error) for name, error in zip(MAIN, np.random.default_rng(0).random(15), strict=True)]
    assert averages(rows) == averages(rows[::-1])


# --- a diverged run ---------------------------------------------------------------------------------------------------


def test_a_network_that_is_not_finite_is_a_result_with_unknown_likelihood(
    common: dict[str, Any], prepared: Path, suite: list[Path], new: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "run"
    broken.mkdir()
    for _, name in WEIGHTS.values():
        arrays = load_file(Path(common["run"]) / name)
        save_file({key: np.full_like(array, np.nan) for key, array in arrays.items()}, broken / name)
    diverged = {**common, "run": str(broken)}
    on_new = measured(diverged, NEW, [new], tmp_path / "a")["metrics"]
    assert named(on_new, "", NEW) == {"accuracy": 0.0, "error": 1.0, "nll": None, "ece": None}
    assert on_new[f"{NEW}_nonfinite"] == 500
    people = people_folder(prepared, tmp_path / "people", np.full((TEST, 10), 0.1))
    by_people = measured(diverged, PEOPLE, [people], tmp_path / "c")["metrics"]
    assert named(by_people, "", PEOPLE) == {"accuracy": 0.0, "error": 1.0, "nll": None, "ece": None}
    on_suite = measured(diverged, SUITE, suite[:1], tmp_path / "b", corruptions={"severities": [1]})["metrics"]
    assert named(on_suite, "", SUITE) == {"accuracy": 0.0, "error": 1.0, "nll": None, "ece": None}


# --- what lies on disk ------------------------------------------------------------------------------------------------


def test_changed_arrays_are_refused(common: dict[str, Any], prepared: Path, tmp_path: Path) -> None:
    images, labels = stored(prepared, "train_images")[:20], stored(prepared, "train_labels")[:20]
    folder = new_folder(prepared, tmp_path / "new", images, labels)
    np.save(folder / "labels.npy", (labels + 1) % 10)
    reason = refusal(shift_task(common, NEW, [folder]), tmp_path / "work")
    assert f"the arrays in {folder} are not those of its manifest" in reason
    assert "dvc repro prepare" in reason


def test_changed_corrupted_images_are_refused(common: dict[str, Any], prepared: Path, tmp_path: Path) -> None:
    folder = corrupted_folder(prepared, tmp_path / "fog", "fog", severities=[1], images=5)
    content = bytearray((folder / "images.npy").read_bytes())
    content[-1] ^= 1
    (folder / "images.npy").write_bytes(content)
    task = shift_task(common, SUITE, [folder], corruptions={"severities": [1], "images": 5})
    assert "are not those of its manifest" in refusal(task, tmp_path / "work")


def test_a_test_set_that_is_not_prepared_is_refused(common: dict[str, Any], tmp_path: Path) -> None:
    reason = refusal(shift_task(common, NEW, [tmp_path / "nothing"]), tmp_path / "work")
    assert "nothing" in reason
    assert "dvc repro prepare" in reason


def test_a_test_set_that_was_prepared_anew_is_read_anew(common: dict[str, Any], prepared: Path, tmp_path: Path) -> None:
    """A worker of a running cluster outlives a `dvc repro`, and measures under the key of what is there now."""
    images, labels = stored(prepared, "train_images")[:50], stored(prepared, "train_labels")[:50]
    folder = new_folder(prepared, tmp_path / "new", images, labels)
    before = measured(common, NEW, [folder], tmp_path / "one")["metrics"]
    for file in folder.iterdir():
        file.unlink()
    new_folder(prepared, folder, images, (labels + 1) % 10)
    after = measured(common, NEW, [folder], tmp_path / "two")["metrics"]
    p = probabilities(common, prepared, "model.safetensors", images)
    assert named(after, "", NEW) == close(by_hand(p, (labels + 1) % 10))
    assert before != after


# --- what does not matter ---------------------------------------------------------------------------------------------


def test_a_result_is_the_same_bytes_whatever_else_is_asked_for(
    common: dict[str, Any], new: Path, suite: list[Path], tmp_path: Path
) -> None:
    alone = measured(common, NEW, [new], tmp_path / "a")
    further = {"test_sets": ["test", NEW, SUITE], "corruptions": {"severities": [5], "images": 9, "names": ["fog"]}}
    measured(common, SUITE, suite, tmp_path / "b", **further)
    assert measured(common, NEW, [new], tmp_path / "c", **further) == alone


def test_a_result_holds_no_path(common: dict[str, Any], new: Path, suite: list[Path], tmp_path: Path) -> None:
    for test_set, folders in ((NEW, [new]), (SUITE, suite[:1])):
        assert str(tmp_path.parent.parent) not in json.dumps(measured(common, test_set, folders, tmp_path))


def test_numbers_that_were_drawn_before_do_not_matter(common: dict[str, Any], new: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    one = measured(common, NEW, [new], tmp_path / "a")
    torch.manual_seed(2)
    assert measured(common, NEW, [new], tmp_path / "b") == one


# --- keys -------------------------------------------------------------------------------------------------------------

A, B = "a" * 64, "b" * 64
ONE = [A]
FIFTEEN = [f"{i:064d}" for i in range(15)]


def spec(**settings: Any) -> EvaluationSpec:
    return EvaluationSpec.model_validate(settings)


def key(test_set: str, contents: list[str], run: str = "r", **settings: Any) -> str:
    return shift_key(run, spec(**settings), test_set, contents)


FURTHER: dict[str, dict[str, Any]] = {
    "a set more": {"test_sets": ["test", "cifar10_1"]},
    "two sets more": {"test_sets": ["cifar10_c", "test", "cifar10_h"]},
    "severities": {"corruptions": {"severities": [1]}},
    "images": {"corruptions": {"images": 100}},
    "names": {"corruptions": {"names": ["fog"]}},
    "seed": {"corruptions": {"seed": 1}},
}


@pytest.mark.parametrize("settings", FURTHER.values(), ids=FURTHER)
def test_the_evaluation_on_the_own_test_set_stays_whatever_further_sets_there_are(settings: dict[str, Any]) -> None:
    assert evaluation_key("r", spec(**settings)) == evaluation_key("r", spec())
    assert evaluation_key("r", spec(ece_bins=10, **settings)) == evaluation_key("r", spec(ece_bins=10))


@pytest.mark.parametrize("settings", FURTHER.values(), ids=FURTHER)
@pytest.mark.parametrize("test_set", [NEW, PEOPLE])
def test_new_images_and_judgements_are_measured_again_for_their_own_sake_only(
    settings: dict[str, Any], test_set: str
) -> None:
    assert key(test_set, ONE, **settings) == key(test_set, ONE)


@pytest.mark.parametrize(("test_set", "contents"), [(NEW, ONE), (PEOPLE, ONE), (SUITE, FIFTEEN), (SUITE, ONE)])
def test_a_key_changes_with_run_content_and_bins(test_set: str, contents: list[str]) -> None:
    keys = [
        key(test_set, contents),
        key(test_set, contents, run="other"),
        key(test_set, [*contents[:-1], B]),
        key(test_set, contents, ece_bins=10),
        evaluation_key("r", spec()),
    ]
    assert len({*keys}) == len(keys)
    assert key(test_set, contents, test_sets=["test", test_set, "corruptions"]) == keys[0]


def test_two_sets_of_the_same_content_have_keys_of_their_own() -> None:
    assert key("cifar10_1", ONE) != key("cifar10_1_v4", ONE)


@pytest.mark.parametrize("contents", [FIFTEEN, FIFTEEN[:2], FIFTEEN[:1]], ids=["15", "2", "1"])
@pytest.mark.parametrize(
    "corruptions", [{"severities": [1, 5]}, {"severities": [5, 4, 3, 2, 1]}, {"images": 100}], ids=str
)
def test_a_suite_is_measured_again_for_other_severities_or_images(
    contents: list[str], corruptions: dict[str, Any]
) -> None:
    """Official files have all severities of all images, so their content does not tell what was measured."""
    assert key(SUITE, contents, corruptions=corruptions) != key(SUITE, contents)


def test_severities_written_at_their_defaults_are_the_key_without_them() -> None:
    written = {"names": "main", "severities": [1, 2, 3, 4, 5], "images": None, "seed": 0}
    assert key(SUITE, FIFTEEN, corruptions=written) == key(SUITE, FIFTEEN)


@pytest.mark.parametrize("measure", [lambda: key(SUITE, FIFTEEN), lambda: key(NEW, ONE)])
def test_a_key_is_the_same_every_time(measure: Callable[[], str]) -> None:
    assert measure() == measure()
    assert len(measure()) == 64
    assert not math.isnan(int(measure(), 16))
