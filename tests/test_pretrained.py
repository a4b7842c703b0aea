"""Runs that start from given weights: fetched or the user's own, checked, and known by their content."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from flatmin.data.errors import DataError
from flatmin.data.manifest import WEIGHTS
from flatmin.data_view import check
from flatmin.errors import StudyError
from flatmin.fanout import FailedItemsError
from flatmin.models.build import build
from flatmin.planning import planned_runs
from flatmin.reading import load
from flatmin.records import read_head
from flatmin.stages import Stages
from flatmin.study import Study
from flatmin.vocabulary import vocabulary
from flatmin.weight_items import needed_weights
from flatmin.workspace import Workspace

MLP = {"name": "mlp", "args": {"hidden": [8]}}
DIGITS = {"num_classes": 10, "in_chans": 1, "img_size": 8}


def torch_bytes(content: object) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setenv("FLATMIN_SCHEDULER", "inline")
    return Workspace(tmp_path / "study")


def study_of(workspace: Workspace, model: dict[str, Any]) -> Study:
    content = {
        "study": ["main"],
        "tables": {"main": {"datasets": ["digits"], "models": ["net"], "methods": ["sgd"], "seeds": [0]}},
        "datasets": {"digits": {"source": "digits", "train_size": 200}},
        "models": {"net": model},
        "methods": {"sgd": {"base": "sgd"}},
        "training": {"epochs": 1, "lr": 1e-12, "weight_decay": 0.0},
        "selection": {"seeds": [1000]},
        "evaluation": {},
        "sharpness": {},
    }
    workspace.root.mkdir(parents=True, exist_ok=True)
    workspace.params.write_text(json.dumps(content))
    return load(workspace.params, vocabulary())


def own_weights(workspace: Workspace, name: str = "start.safetensors", seed: int = 0, **args: Any) -> str:
    """Write an MLP's weights below the study, and return their path as a study gives it."""
    torch.manual_seed(seed)
    weights = build("mlp", args={**MLP["args"], **args}, **DIGITS).state_dict()
    file = workspace.root / "data" / "own" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(weights, file) if file.suffix == ".safetensors" else torch.save({"state_dict": weights, "epoch": 3}, file)
    return f"data/own/{name}"


def prepared(workspace: Workspace, model: dict[str, Any]) -> Stages:
    stages = Stages(study_of(workspace, model), workspace)
    stages.download()
    stages.prepare()
    return stages


def key_of(stages: Stages) -> str:
    (run,) = planned_runs(stages.study, "main", stages.workspace)
    return run.key


@pytest.mark.parametrize("name", ["start.safetensors", "start.pt"])
def test_a_run_starts_from_a_file(workspace: Workspace, name: str) -> None:
    path = own_weights(workspace, name)
    stages = prepared(workspace, {**MLP, "pretrained": path})
    stages.train("main")
    (run,) = planned_runs(stages.study, "main", workspace)
    folder = workspace.runs("main") / run.id
    ended = load_file(folder / "model.safetensors")
    torch.manual_seed(0)
    begun = build("mlp", args=MLP["args"], **DIGITS)
    for layer, weight in begun.state_dict().items():  # the learning rate leaves them nearly where they were
        torch.testing.assert_close(ended[layer], weight, rtol=0, atol=1e-8)
    record = read_head(folder / "record.json")
    assert record["weights"] == run.identity.weights
    assert record["settings"]["model"]["pretrained"] == "own weights"
    assert path not in (folder / "record.json").read_text()


def test_a_run_is_known_by_what_its_weights_are_and_not_by_where_they_lie(workspace: Workspace) -> None:
    first = key_of(prepared(workspace, {**MLP, "pretrained": own_weights(workspace)}))
    moved = key_of(prepared(workspace, {**MLP, "pretrained": own_weights(workspace, "moved.safetensors")}))
    other = key_of(prepared(workspace, {**MLP, "pretrained": own_weights(workspace, seed=1)}))
    drawn = key_of(prepared(workspace, MLP))
    assert first == moved
    assert len({first, other, drawn}) == 3


def test_weights_that_changed_are_noticed(workspace: Workspace) -> None:
    path = own_weights(workspace)
    before = key_of(prepared(workspace, {**MLP, "pretrained": path}))
    own_weights(workspace, seed=1)
    assert key_of(prepared(workspace, {**MLP, "pretrained": path})) != before


def test_weights_that_left_the_study_are_removed(workspace: Workspace) -> None:
    stages = prepared(workspace, {**MLP, "pretrained": own_weights(workspace)})
    (name,) = needed_weights(stages.study)
    assert (workspace.prepared / "_weights" / name / WEIGHTS).is_file()
    prepared(workspace, MLP)
    assert not (workspace.prepared / "_weights" / name).exists()


def test_a_missing_file_is_named(workspace: Workspace) -> None:
    with pytest.raises(DataError, match=r"models\.net\.pretrained: there is no file of weights at .*gone\.safetensors"):
        prepared(workspace, {**MLP, "pretrained": "data/own/gone.safetensors"})


def test_weights_of_another_model_are_refused_before_anything_trains(workspace: Workspace) -> None:
    path = own_weights(workspace, hidden=[9])
    with pytest.raises(FailedItemsError, match=r"start\.safetensors does not fit mlp"):
        prepared(workspace, {**MLP, "pretrained": path})


def test_a_check_is_made_again_when_the_model_changes(workspace: Workspace) -> None:
    path = own_weights(workspace)
    prepared(workspace, {**MLP, "pretrained": path})
    with pytest.raises(FailedItemsError, match=r"start\.safetensors does not fit mlp"):
        prepared(workspace, {"name": "mlp", "args": {"hidden": [9]}, "pretrained": path})


def test_prepared_weights_that_were_touched_are_not_trained_from(workspace: Workspace) -> None:
    stages = prepared(workspace, {**MLP, "pretrained": own_weights(workspace)})
    (file,) = workspace.prepared.glob(f"_weights/*/{WEIGHTS}")
    save_file({name: value + 5 for name, value in load_file(file).items()}, file)
    with pytest.raises(FailedItemsError, match="was changed after it was prepared"):
        stages.train("main")
    assert [f.state for f in check(stages.study, workspace) if f.what.startswith("weights ")] == ["wrong"]


def test_weights_that_are_not_finite_are_refused(workspace: Workspace) -> None:
    path = own_weights(workspace)
    weights = load_file(workspace.root / path)
    weights["fc.bias"][3] = torch.nan
    save_file(weights, workspace.root / path)
    with pytest.raises(FailedItemsError, match=r"not finite: fc\.bias"):
        prepared(workspace, {**MLP, "pretrained": path})


def test_trained_weights_are_taken_and_no_averaged_ones(workspace: Workspace) -> None:
    path = own_weights(workspace, "start.pt")
    content = torch.load(workspace.root / path)
    averaged = {name: torch.zeros_like(value) for name, value in content["state_dict"].items()}
    torch.save({**content, "state_dict_ema": averaged}, workspace.root / path)
    prepared(workspace, {**MLP, "pretrained": path})
    (file,) = workspace.prepared.glob(f"_weights/*/{WEIGHTS}")
    assert torch.equal(load_file(file)["fc.weight"], content["state_dict"]["fc.weight"])


@pytest.mark.parametrize("value", ["", "true", "No", 3, [True]])
def test_what_is_no_place_of_weights_is_refused(workspace: Workspace, value: object) -> None:
    with pytest.raises(StudyError, match=r"models\.net\.pretrained.*must be true, false .* or the path"):
        study_of(workspace, {**MLP, "pretrained": value})


def test_one_network_by_two_names_is_one_run(workspace: Workspace) -> None:
    assert key_of(prepared(workspace, MLP)) == key_of(prepared(workspace, {**MLP, "name": "cifar_mlp"}))


@pytest.mark.parametrize(
    "content",
    [b"", b"PK\x03\x04 no zip", b"\x80\x04c__builtin__\nexec\n.", torch_bytes(torch.ones(3)), torch_bytes({1: 2})],
)
def test_a_file_of_something_else_is_refused(workspace: Workspace, content: bytes) -> None:
    file = workspace.root / "data" / "own" / "start.pt"
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    with pytest.raises(FailedItemsError, match=r"start\.pt is no file of weights"):
        prepared(workspace, {**MLP, "pretrained": "data/own/start.pt"})


class Hub:
    """Stands for the hub: timm's `test_resnet` with weights that nobody else has."""

    def __init__(self) -> None:
        torch.manual_seed(5)
        self.weights = timm.create_model("test_resnet").state_dict()
        self.asked: list[str] = []
        self.down = False

    def __call__(self, repository: str, *_: str) -> dict[str, torch.Tensor]:
        self.asked.append(repository)
        if self.down:
            raise ConnectionError("no route to host")
        return self.weights


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    hub = Hub()
    monkeypatch.setattr("timm.models.load_state_dict_from_hf", hub)
    return hub


def test_published_weights_are_fetched_once_and_started_from(workspace: Workspace, hub: Hub) -> None:
    stages = prepared(workspace, {"name": "test_resnet.r160_in1k", "pretrained": True})
    (name,) = needed_weights(stages.study)
    assert hub.asked == ["timm/test_resnet.r160_in1k"]
    file = workspace.prepared / "_weights" / name / WEIGHTS
    model = build("test_resnet.r160_in1k", **DIGITS, weights=file)
    assert torch.equal(model.layer1[0].conv1.weight, hub.weights["layer1.0.conv1.weight"])
    assert model.num_classes == 10
    prepared(workspace, {"name": "test_resnet.r160_in1k", "pretrained": True})
    assert len(hub.asked) == 1


def test_without_network_the_user_is_told_what_to_do(workspace: Workspace, hub: Hub) -> None:
    hub.down = True
    study = study_of(workspace, {"name": "test_resnet.r160_in1k", "pretrained": True})
    with pytest.raises(
        FailedItemsError, match=r"(?s)models\.net\.pretrained: .*test_resnet\.r160_in1k.*no route to host.*data/own"
    ):
        Stages(study, workspace).download()


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("cifar_resnet20", "nobody publishes weights under this name: give the path of a file"),
        ("wrn28_10", "nobody publishes weights under this name"),
        ("test_resnet.r160_in1", "test_resnet.r160_in1k"),
        ("resnet10t.none", "resnet10t.c3_in1k"),
    ],
)
def test_weights_that_nobody_publishes_are_refused_at_once(workspace: Workspace, name: str, advice: str) -> None:
    with pytest.raises(StudyError) as refused:
        study_of(workspace, {"name": name, "pretrained": True})
    assert "models.net.pretrained" in str(refused.value)
    assert advice in str(refused.value)


def test_published_weights_are_known_by_name_or_tag(workspace: Workspace) -> None:
    for name in ("resnet18", "resnet18.a1_in1k"):
        assert study_of(workspace, {"name": name, "pretrained": True}).params.models["net"].pretrained is True
