"""Which downloads, images, draws and test sets a study plans, where they go, and what their keys depend on."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import TypeAdapter

from flatmin.data.corruptions import registry as corruptions
from flatmin.data.corruptions.registry import EXTRA, MAIN
from flatmin.data.corruptions.suite import corrupt
from flatmin.data.errors import DataError
from flatmin.data.manifest import draw_folder, images_folder, write_manifest
from flatmin.data.manifest import test_set_folder as set_folder
from flatmin.data.test_sets._cifar_c import cifar_c_archive
from flatmin.data.test_sets.registry import load as load_test_set
from flatmin.data_items import (
    download_items,
    draw_items,
    images_items,
    needed_draws,
    needed_files,
    needed_sources,
    needed_test_sets,
    parts_of,
    wanted_corruptions,
)
from flatmin.data_items import test_set_items as set_items
from flatmin.fanout import Item
from flatmin.keys import run_identity
from flatmin.planning import evaluate_items, planned_runs
from flatmin.reading import load
from flatmin.settings import CorruptionSpec, Own, OwnImages, RunSettings, keyed
from flatmin.stages import Stages
from flatmin.study import Study
from flatmin.vocabulary import vocabulary
from flatmin.workspace import Workspace

DIGITS = {"source": "digits", "train_size": 200, "validation": {"fraction": 0.2}}
HUMAN = {"source": "cifar10", "noise": {"kind": "human", "labels": "worst"}}


def own(path: str, **changes: Any) -> dict[str, Any]:
    return {"source": {"kind": "image_folder", "path": path, "size": 8, "channels": 1, **changes}}


def study_of(
    workspace: Workspace, defined: dict[str, Any], evaluation: dict[str, Any] | None = None, **table: Any
) -> Study:
    """Write and read a study with one table of these datasets."""
    content = {
        "study": ["main"],
        "tables": {"main": {"datasets": [*defined], "models": ["mlp"], "methods": ["sgd"], "seeds": [0, 1], **table}},
        "datasets": defined,
        "models": {"mlp": {"name": "mlp", "args": {"hidden": [8]}}},
        "methods": {"sgd": {"base": "sgd"}},
        "training": {"epochs": 1, "lr": 0.1},
        "selection": {"seeds": [1000]},
        "evaluation": evaluation or {},
        "sharpness": {},
    }
    workspace.root.mkdir(parents=True, exist_ok=True)
    workspace.params.write_text(json.dumps(content))  # which is YAML
    return load(workspace.params, vocabulary())


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setenv("FLATMIN_SCHEDULER", "inline")
    return Workspace(tmp_path / "study")


def as_prepared(workspace: Workspace, *sources: str, content: str = "a") -> None:
    """Write the manifests that plans read of prepared images."""
    for source in sources:
        folder = images_folder(workspace.prepared, source)
        folder.mkdir(parents=True, exist_ok=True)
        manifest = {"kind": "images", "version": 1, "content_hash": content * 64, "source": source}
        write_manifest(folder, manifest)


def all_items(study: Study, workspace: Workspace) -> list[Item]:
    return [
        *download_items(study, workspace),
        *images_items(study, workspace),
        *draw_items(study, workspace),
        *set_items(study, workspace),
    ]


def keys(items: list[Item]) -> dict[str, str]:
    return {item.id: item.key for item in items}


def places(items: list[Item]) -> list[str]:
    return [str(path) for item in items for path in item.outputs.values()]


def write_images(folder: Path, classes: int = 3, count: int = 20) -> None:
    generator = np.random.default_rng(0)
    for label in range(classes):
        (folder / f"class{label}").mkdir(parents=True)
        for i in range(count):
            pixels = generator.integers(0, 256, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"class{label}" / f"{i}.png")


# --- corruptions that are asked for -----------------------------------------------------------------------------------


def test_the_main_ones_are_fifteen_and_all_are_nineteen() -> None:
    assert wanted_corruptions(CorruptionSpec()) == MAIN
    every = wanted_corruptions(CorruptionSpec(names="all"))
    assert every[:15] == MAIN
    assert {*every[15:]} == {*EXTRA}
    assert sorted(every) == sorted(corruptions.names())


def test_named_ones_come_in_the_benchmark_s_order() -> None:
    assert wanted_corruptions(CorruptionSpec(names=("saturate", "snow", "gaussian_noise"))) == (
        "gaussian_noise",
        "snow",
        "saturate",
    )


def test_what_is_no_suite_has_one_part() -> None:
    assert [parts_of(load_test_set(name), CorruptionSpec()) for name in ("cifar10_1", "cifar10_h")] == [("",), ("",)]
    assert parts_of(load_test_set("cifar10_c"), CorruptionSpec(names=("fog", "frost"))) == ("frost", "fog")


# --- what a study needs -----------------------------------------------------------------------------------------------


def test_human_labels_and_two_corruptions_of_cifar10(workspace: Workspace) -> None:
    evaluation = {
        "test_sets": ["test", "cifar10_c", "cifar10_1", "cifar10_h"],
        "corruptions": {"names": ["fog", "saturate"]},
    }
    study = study_of(workspace, {"noisy": HUMAN}, evaluation)
    as_prepared(workspace, "cifar10")
    downloads = {item.id: item for item in download_items(study, workspace)}
    assert {*downloads} == {"cifar10", "cifar10n", "cifar10_c", "cifar10_1", "cifar10_h"}
    assert downloads["cifar10_c"].task == {
        "name": "cifar10_c",
        "members": ["fog.npy", "labels.npy", "saturate.npy"],
        "raw": str((workspace.raw / "cifar10_c").absolute()),
    }
    assert downloads["cifar10n"].task["members"] == ["CIFAR-10_human.pt"]
    assert {*downloads["cifar10_c"].outputs} == {"download.json", "fog.npy", "labels.npy", "saturate.npy"}
    assert [item.id for item in images_items(study, workspace)] == ["cifar10"]
    draws = draw_items(study, workspace)
    assert [item.id for item in draws] == ["noisy.s0", "noisy.s1"]
    annotations = workspace.raw / "cifar10n" / "CIFAR-10_human.pt"
    assert [item.task["annotations"] for item in draws] == [str(annotations.absolute())] * 2
    assert annotations in downloads["cifar10n"].outputs.values()
    tests = set_items(study, workspace)
    assert [item.id for item in tests] == ["cifar10_c.fog", "cifar10_c.saturate", "cifar10_1", "cifar10_h"]
    assert {item.kind for item in tests} == {"test_set"}
    folder = set_folder(workspace.prepared, "cifar10_c", "")
    assert tests[0].outputs == {name: folder / "fog" / name for name in ("manifest.json", "images.npy")}
    assert {*tests[2].outputs} == {"manifest.json", "images.npy", "labels.npy"}
    assert {*tests[3].outputs} == {"manifest.json", "probabilities.npy"}
    assert all(Path(item.task["raw"]).name == item.id.split(".")[0] for item in tests)


def test_digits_with_corruptions_download_nothing(workspace: Workspace) -> None:
    evaluation = {"test_sets": ["test", "corruptions"], "corruptions": {"names": ["fog", "contrast"]}}
    study = study_of(workspace, {"digits": DIGITS}, evaluation)
    as_prepared(workspace, "digits")
    assert needed_files(study) == []
    assert download_items(study, workspace) == []
    tests = set_items(study, workspace)
    assert [(item.id, item.kind) for item in tests] == [
        ("corruptions.digits.fog", "corruption"),
        ("corruptions.digits.contrast", "corruption"),
    ]
    assert all(item.task["annotations"] is None for item in draw_items(study, workspace))


def test_a_folder_of_one_s_own_is_a_source(workspace: Workspace) -> None:
    study = study_of(workspace, {"pets": own("data/own/pets")}, {"test_sets": ["corruptions"]})
    write_images(workspace.root / "data" / "own" / "pets")
    (name,) = needed_sources(study)
    assert name.startswith("pets-")
    (item,) = images_items(study, workspace)
    assert (item.id, item.task["root"]) == (name, str(workspace.root.absolute()))
    assert item.outputs["manifest.json"] == images_folder(workspace.prepared, name) / "manifest.json"
    as_prepared(workspace, name)
    assert download_items(study, workspace) == []
    assert [item.id for item in draw_items(study, workspace)] == ["pets.s0", "pets.s1"]
    assert len(set_items(study, workspace)) == 15


def test_sets_of_another_source_are_not_prepared(workspace: Workspace) -> None:
    datasets = {"digits": DIGITS, "cifar": {"source": "cifar10"}}
    evaluation = {"test_sets": ["test", "cifar10_1", "corruptions"], "corruptions": {"names": ["fog"]}}
    study = study_of(workspace, datasets, evaluation)
    found = [(test_set.name, source) for test_set, source in needed_test_sets(study)]
    assert found == [("cifar10_1", "cifar10"), ("corruptions", "cifar10"), ("corruptions", "digits")]
    without = study_of(workspace, datasets, evaluation, datasets=["digits"])
    assert [(test_set.name, source) for test_set, source in needed_test_sets(without)] == [("corruptions", "digits")]


def test_seeds_of_tables_and_of_their_selections_are_drawn(workspace: Workspace) -> None:
    study = study_of(workspace, {"digits": DIGITS})
    assert needed_draws(study) == {"digits": {0, 1}}
    selected = study_of(workspace, {"digits": DIGITS}, select={"sgd": {"lr": [0.1, 0.2]}})
    assert needed_draws(selected) == {"digits": {0, 1, 1000}}


# --- places -----------------------------------------------------------------------------------------------------------


def everything(workspace: Workspace) -> Study:
    datasets = {
        "digits": DIGITS,
        "digits-small": {**DIGITS, "train_size": 100},
        "human": HUMAN,
        "hundred": {"source": "cifar100"},
        "pets": own("pets"),
        "pets-larger": own("pets", size=16),
    }
    sets = ["test", "cifar10_1", "cifar10_1_v4", "cifar10_2", "cifar10_c", "cifar100_c", "cifar10_h", "corruptions"]
    study = study_of(workspace, datasets, {"test_sets": sets, "corruptions": {"names": "all"}})
    write_images(workspace.root / "pets")
    for source, content in zip(needed_sources(study), "abcde", strict=True):
        as_prepared(workspace, source, content=content)
    return study


def test_no_two_items_share_a_name_or_a_place(workspace: Workspace) -> None:
    items = all_items(everything(workspace), workspace)
    assert len(items) == 9 + 5 + 12 + 4 + 2 * 19 + 5 * 19
    assert max(Counter((item.kind, item.id) for item in items).values()) == 1
    assert max(Counter(places(items)).values()) == 1
    assert max(Counter((item.kind, item.key) for item in items).values()) == 1, "none is the same work as another"


def test_no_output_lies_inside_that_of_another(workspace: Workspace) -> None:
    folders = [item.outputs[next(iter(item.outputs))].parent for item in all_items(everything(workspace), workspace)]
    assert len({*folders}) == len(folders)
    inside = [(one, other) for one in folders for other in folders if one in other.parents]
    assert inside == []


def test_downloads_are_raw_and_all_else_is_prepared(workspace: Workspace) -> None:
    for item in all_items(everything(workspace), workspace):
        root = workspace.raw if item.kind == "download" else workspace.prepared
        assert all(path.is_relative_to(root) for path in item.outputs.values())


def test_generated_sets_are_kept_apart_by_source(workspace: Workspace) -> None:
    items = [item for item in set_items(everything(workspace), workspace) if item.kind == "corruption"]
    by_source: dict[str, set[Path]] = {}
    for item in items:
        by_source.setdefault(item.id.split(".")[1], set()).update(path.parent for path in item.outputs.values())
        assert Path(item.task["images"]) == images_folder(workspace.prepared, item.id.split(".")[1]).absolute()
    assert {source: len(folders) for source, folders in by_source.items()} == dict.fromkeys(by_source, 19)
    assert len(set().union(*by_source.values())) == 5 * 19


# --- keys -------------------------------------------------------------------------------------------------------------


def planned(workspace: Workspace, test_set: str, source: str, content: str = "a", **corrupted: Any) -> dict[str, str]:
    dataset = {"source": source}
    evaluation = {"test_sets": [test_set], "corruptions": {"names": ["fog", "snow"], **corrupted}}
    study = study_of(workspace, {"data": dataset}, evaluation)
    as_prepared(workspace, source, content=content)
    return keys(set_items(study, workspace))


@pytest.mark.parametrize("change", [{"severities": [1]}, {"images": 5}, {"seed": 1}, {"content": "b"}], ids=str)
def test_a_generated_set_is_made_anew_for_what_it_is_made_from(workspace: Workspace, change: dict[str, Any]) -> None:
    before, after = planned(workspace, "corruptions", "digits"), planned(workspace, "corruptions", "digits", **change)
    assert before.keys() == after.keys()
    assert not {*before.values()} & {*after.values()}


def test_a_further_corruption_leaves_the_generated_ones_as_they_are(workspace: Workspace) -> None:
    two = planned(workspace, "corruptions", "digits")
    three = planned(workspace, "corruptions", "digits", names=["frost", "fog", "snow"])
    assert {name: three[name] for name in two} == two
    assert len({*three.values()}) == 3


@pytest.mark.parametrize("change", [{"severities": [1]}, {"images": 5}, {"seed": 1}], ids=str)
def test_an_official_set_is_prepared_once_whatever_is_measured_on_it(
    workspace: Workspace, change: dict[str, Any]
) -> None:
    assert planned(workspace, "cifar10_c", "cifar10", **change) == planned(workspace, "cifar10_c", "cifar10")


def test_a_further_corruption_leaves_the_official_ones_as_they_are(workspace: Workspace) -> None:
    two = planned(workspace, "cifar10_c", "cifar10")
    three = planned(workspace, "cifar10_c", "cifar10", names=["frost", "fog", "snow"])
    assert {name: three[name] for name in two} == two


def test_draws_have_the_key_of_their_settings_seed_and_images(workspace: Workspace) -> None:
    datasets = {"one": DIGITS, "same": DIGITS, "other": {**DIGITS, "train_size": 100}}
    study = study_of(workspace, datasets)
    as_prepared(workspace, "digits")
    found = keys(draw_items(study, workspace))
    assert found["one.s0"] == found["same.s0"]
    assert len({found["one.s0"], found["one.s1"], found["other.s0"]}) == 3
    as_prepared(workspace, "digits", content="b")
    assert keys(draw_items(study, workspace))["one.s0"] != found["one.s0"]


def test_images_that_are_not_prepared_are_named(workspace: Workspace) -> None:
    study = study_of(workspace, {"digits": DIGITS}, {"test_sets": ["corruptions"]})
    for plan in (draw_items, set_items):
        with pytest.raises(DataError, match=r"_images/digits/manifest\.json does not exist"):
            plan(study, workspace)


# --- downloads as they are made ---------------------------------------------------------------------------------------


def test_files_that_are_here_are_not_fetched_again_for_a_part_of_them(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A suite is an archive of three gigabytes: asking for less of it must not fetch it once more."""
    from flatmin.data.sources import cifar10
    from flatmin.data.test_sets import cifar10_c

    contents = {name: name.encode() for name in ("fog", "snow", "labels")}
    members = {name: hashlib.md5(content).hexdigest() for name, content in contents.items()}
    archive = cifar_c_archive("CIFAR-10-C", url="file:///nowhere", md5="0" * 32, size=100, members=members)
    monkeypatch.setattr(cifar10_c, "TEST_SET", replace(cifar10_c.TEST_SET, archives=(archive,)))
    monkeypatch.setattr(cifar10, "SOURCE", replace(cifar10.SOURCE, archives=()))
    mirror = workspace.root.parent / "mirror"
    mirror.mkdir()
    for name, content in contents.items():
        (mirror / f"{name}.npy").write_bytes(content)
    monkeypatch.setenv("FLATMIN_MIRROR", str(mirror))

    def download(*names: str) -> list[str]:
        evaluation = {"test_sets": ["cifar10_c"], "corruptions": {"names": [*names]}}
        Stages(study_of(workspace, {"data": {"source": "cifar10"}}, evaluation), workspace).download()
        return sorted(path.name for path in (workspace.raw / "cifar10_c").iterdir())

    assert download("fog", "snow") == ["download.json", "fog.npy", "labels.npy", "snow.npy"]
    monkeypatch.delenv("FLATMIN_MIRROR")
    assert download("fog") == ["download.json", "fog.npy", "labels.npy"]


# --- generated sets as they are made ----------------------------------------------------------------------------------


def assert_corrupted(workspace: Workspace, source: str) -> None:
    """The prepared corruption is that of the source's own test images."""
    clean = np.load(images_folder(workspace.prepared, source) / "test_images.npy")
    made = np.load(set_folder(workspace.prepared, "corruptions", source) / "contrast" / "images.npy")
    assert np.array_equal(made.transpose(0, 3, 1, 2), corrupt(clean[:5], "contrast", 3, 0))


CONTRAST = {
    "test_sets": ["test", "corruptions"],
    "corruptions": {"names": ["contrast"], "severities": [3], "images": 5},
}


def test_every_source_is_corrupted_itself(workspace: Workspace) -> None:
    study = study_of(workspace, {"digits": DIGITS, "pets": own("pets")}, CONTRAST)
    write_images(workspace.root / "pets")
    Stages(study, workspace).prepare()
    for source in needed_sources(study):
        assert_corrupted(workspace, source)


def test_images_that_changed_are_corrupted_anew(workspace: Workspace) -> None:
    study = study_of(workspace, {"pets": own("pets")}, CONTRAST)
    (name,) = needed_sources(study)
    write_images(workspace.root / "pets")
    Stages(study, workspace).prepare()
    assert_corrupted(workspace, name)
    for file in (workspace.root / "pets").rglob("*.png"):
        Image.fromarray(255 - np.asarray(Image.open(file))).save(file)
    Stages(study, workspace).prepare()
    assert_corrupted(workspace, name)


# --- images of one's own, wherever they lie ---------------------------------------------------------------------------

OWN: TypeAdapter[OwnImages] = TypeAdapter(Own)
FOLDER = {"kind": "image_folder", "path": "data/own/pets", "size": 8}


def name_of(**changes: Any) -> str:
    return OWN.validate_python({**FOLDER, **changes}).name


def test_a_source_of_one_s_own_is_named_after_its_path_and_its_settings() -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"path": "data/own/cats"},
        {"path": "elsewhere/pets"},
        {"size": 16},
        {"channels": 1},
        {"test_fraction": 0.3},
        {"kind": "parquet"},
        {"kind": "parquet", "label": "fine_label"},
    ]
    names = [name_of(**change) for change in changes]
    assert len({*names}) == len(names)
    assert names[0].startswith("pets-")
    assert name_of() == names[0]


@pytest.mark.parametrize("path", ["Mes Chats!", "été", "~/x.y/../Z", "/", "猫"])
def test_any_path_makes_a_name_that_a_folder_and_a_run_can_have(path: str) -> None:
    assert re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name_of(path=path))


def test_no_setting_of_one_s_own_images_enters_a_run_s_key(tmp_path: Path) -> None:
    def identity(**changes: Any) -> str:
        source = {**FOLDER, **changes}
        run = RunSettings.model_validate(
            {
                "dataset": {"source": source},
                "model": {"name": "mlp"},
                "method": {"base": "sgd", "ascent": "none"},
                "training": {},
                "seed": 0,
            }
        )
        assert "pets" not in json.dumps(keyed(run.dataset), default=str)
        for folder, kind in (
            (images_folder(tmp_path, run.dataset.source_name), "images"),
            (draw_folder(tmp_path, "pets", 0), "draw"),
        ):
            folder.mkdir(parents=True, exist_ok=True)
            write_manifest(folder, {"kind": kind, "version": 1, "content_hash": "c" * 64})
        return run_identity(run, tmp_path, "pets").key

    assert identity() == identity(path="/somewhere/else/pets") == identity(path="pets", size=16)


def test_moved_images_have_the_same_draws_and_their_runs_keep_their_names(workspace: Workspace) -> None:
    study = study_of(workspace, {"pets": own("here")})
    write_images(workspace.root / "here")
    Stages(study, workspace).prepare()
    before = [run.id for run in planned_runs(study, "main", workspace)]
    (workspace.root / "here").rename(workspace.root / "there")
    study = study_of(workspace, {"pets": own("there")})
    Stages(study, workspace).prepare()
    assert [run.id for run in planned_runs(study, "main", workspace)] == before
    assert len({*before}) == 2
    journal = (workspace.state / "journal.log").read_text().splitlines()
    assert Counter(line.split()[0] for line in journal) == {"images": 2, "draw": 2}


def test_a_further_seed_is_drawn_from_moved_images(workspace: Workspace) -> None:
    study = study_of(workspace, {"pets": own("here")})
    write_images(workspace.root / "here")
    Stages(study, workspace).prepare()
    (workspace.root / "here").rename(workspace.root / "there")
    study = study_of(workspace, {"pets": own("there")}, seeds=[0, 1, 2])
    Stages(study, workspace).prepare()
    assert (draw_folder(workspace.prepared, "pets", 2) / "manifest.json").exists()


def test_what_is_prepared_of_one_s_own_images_does_not_tell_where_they_lay(workspace: Workspace) -> None:
    secret = workspace.root.parent / "a-telling-name"
    write_images(secret)
    Stages(study_of(workspace, {"pets": own(str(secret))}), workspace).prepare()
    telling = [
        path.name for path in workspace.prepared.rglob("*.json") if str(secret.parent) in path.read_text("utf-8")
    ]
    assert telling == []


# --- evaluations ------------------------------------------------------------------------------------------------------


@pytest.fixture
def digits(workspace: Workspace) -> Callable[..., list[Item]]:
    """Plan the evaluations of digits, after preparing what they need."""

    def plan(**evaluation: Any) -> list[Item]:
        study = study_of(workspace, {"digits": DIGITS}, evaluation)
        Stages(study, workspace).prepare()
        return evaluate_items(planned_runs(study, "main", workspace), study, workspace)

    return plan


def test_a_run_is_evaluated_once_for_every_set_that_fits(digits: Callable[..., list[Item]]) -> None:
    few = {"names": ["contrast", "brightness"], "severities": [1, 2], "images": 10}
    items = digits(test_sets=["test", "corruptions"], corruptions=few)
    assert [item.kind for item in items] == ["evaluate", "shift"] * 2
    own_set, further = items[:2]
    assert further.id == f"{own_set.id}.corruptions"
    (place,), (beside,) = own_set.outputs.values(), further.outputs.values()
    assert beside == place.with_name(f"{own_set.id}.corruptions.json")
    assert [Path(folder).name for folder in further.task["folders"]] == ["brightness", "contrast"]
    assert all(Path(folder).is_dir() for folder in further.task["folders"])
    assert len({item.key for item in items}) == 4


def test_a_further_set_leaves_the_other_evaluations_as_they_are(digits: Callable[..., list[Item]]) -> None:
    few = {"names": ["gaussian_noise"], "severities": [1], "images": 10}
    before = keys(digits(test_sets=["test"]))
    after = keys(digits(test_sets=["test", "corruptions"], corruptions=few))
    assert {name: after[name] for name in before} == before
    other = keys(digits(test_sets=["test", "corruptions"], corruptions={**few, "seed": 1}))
    changed = {name for name in after if after[name] != other[name]}
    assert changed == {name for name in after if name.endswith(".corruptions")}


def test_a_set_that_is_not_prepared_is_named(workspace: Workspace, digits: Callable[..., list[Item]]) -> None:
    digits(test_sets=["test"])
    study = study_of(workspace, {"digits": DIGITS}, {"test_sets": ["test", "corruptions"]})
    with pytest.raises(DataError, match=r"corruptions-digits/gaussian_noise/manifest\.json does not exist"):
        evaluate_items(planned_runs(study, "main", workspace), study, workspace)
