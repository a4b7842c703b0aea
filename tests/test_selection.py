"""Hyperparameters are chosen on validation data: fairly, on seeds of their own, and so that anybody can choose anew."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import pytest

from flatmin import data_items, selection
from flatmin.errors import FlatminError
from flatmin.frames import table_infos
from flatmin.planning import KeyedRun, NotReadyError, planned_runs, read_choices, train_items
from flatmin.reading import load
from flatmin.selection import Score, Scores, Trial
from flatmin.stages import Stages
from flatmin.study import Choice, Study
from flatmin.vocabulary import vocabulary
from flatmin.work import KINDS
from flatmin.workplace import Workplace
from flatmin.workspace import Workspace

TEXT = """\
study: [main]
tables:
  main:
    datasets: [clean, noisy]
    models: [mlp]
    methods: [asam, sgd, sgd-2x, sam]
    seeds: [0, 1]
    select:
      asam: {rho: [0.5, 1.0, 2.0]}
      sgd: {lr: [0.05, 0.1, 0.2]}
      sam: {rho: [0.1, 0.2, 0.4]}
datasets:
  clean: {source: digits, train_size: 100, validation: {fraction: 0.2}}
  noisy:
    source: digits
    train_size: 100
    noise: {kind: symmetric, rate: 0.4, definition: any-class}
models:
  mlp: {name: mlp, args: {hidden: [8]}}
methods:
  sgd: {base: sgd}
  sgd-2x: {base: sgd, training: {epochs: 4}}
  sam: {base: sgd, ascent: sam, rho: selected}
  asam: {base: sgd, ascent: asam, rho: selected}
training: {epochs: 2, batch_size: 32, lr: selected}
selection: {seeds: [1000, 1001]}
evaluation: {}
sharpness: {}
"""

Choices = dict[tuple[str, str, str], Choice]


def study_of(folder: Path, text: str = TEXT) -> Study:
    path = folder / "params.yaml"
    path.write_text(text)
    return load(path, vocabulary())


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits, and the draws that the study's tables and selections need."""
    root = tmp_path_factory.mktemp("prepared")
    study, workspace = study_of(root), Workspace(root)
    for plan in (data_items.images_items, data_items.draw_items):
        for item in plan(study, workspace):
            workplace = Workplace(root / "work" / item.id, "token")
            workplace.result.mkdir(parents=True)
            KINDS[item.kind].load()(item.task, workplace)
            for name, path in item.outputs.items():
                path.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(workplace.result / name, path)
    return workspace.prepared


@pytest.fixture
def workspace(tmp_path: Path, prepared: Path) -> Workspace:
    workspace = Workspace(tmp_path)
    workspace.prepared.parent.mkdir()
    workspace.prepared.symlink_to(prepared)
    return workspace


Accuracy = Callable[[Trial, int], float]


def middle_is_best(trial: Trial, seed: int) -> float:
    """Score every grid's middle value best, at another learning rate on each dataset."""
    best = {"lr": 0.1 if trial.dataset == "clean" else 0.2, "rho": {"sam": 0.2, "asam": 1.0}.get(trial.method, 0.0)}
    return 0.9 - sum(abs(value - best[name]) for name, value in trial.values.items()) / 10 + (seed - 1000) / 1000


def scored(trials: list[Trial], accuracy: Accuracy) -> Scores:
    return {run.key: Score(accuracy(trial, run.plan.seed), diverged=False) for trial in trials for run in trial.runs}


def select(
    study: Study, workspace: Workspace, accuracy: Accuracy = middle_is_best
) -> tuple[list[Trial], Choices, Scores]:
    """Do what the stage does, with validation accuracies from a function instead of from trainings."""
    trials: list[Trial] = []
    choices: Choices = {}
    scores: Scores = {}
    for methods in selection.phases(study, "main"):
        phase = selection.plan_trials(study, "main", methods, choices, workspace)
        scores |= scored(phase, accuracy)
        choices |= selection.choose(phase, scores)
        trials += phase
    selection.write(workspace.selection("main"), study, "main", trials, scores, choices)
    return trials, choices, scores


@pytest.fixture
def study(workspace: Workspace) -> Study:
    return study_of(workspace.root)


def file_of(workspace: Workspace) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(workspace.selection("main").read_text())
    return content


# --- trials -----------------------------------------------------------------------------------------------------------


def test_methods_without_ascent_are_tuned_first(study: Study) -> None:
    assert list(selection.phases(study, "main")) == [["sgd"], ["asam", "sam"]]


def test_the_choice_for_the_base_is_what_the_others_are_tuned_with(study: Study, workspace: Workspace) -> None:
    trials, choices, _ = select(study, workspace)
    for trial in trials:
        rates = {run.plan.settings.training.lr for run in trial.runs}
        chosen = choices[trial.dataset, trial.model, "sgd"]["lr"]
        assert rates == ({trial.values["lr"]} if trial.method == "sgd" else {chosen})
    assert choices["clean", "mlp", "sgd"] != choices["noisy", "mlp", "sgd"]


def test_the_base_is_tuned_without_ascent(study: Study, workspace: Workspace) -> None:
    trials, _, _ = select(study, workspace)
    base = [run.plan.settings.method for trial in trials if trial.method == "sgd" for run in trial.runs]
    assert {(method.ascent, method.rho) for method in base} == {("none", 0.0)}


def test_every_method_gets_as_many_trials_on_every_row(study: Study, workspace: Workspace) -> None:
    trials, _, _ = select(study, workspace)
    counts = {
        (dataset, method): sum((t.dataset, t.method) == (dataset, method) for t in trials)
        for dataset in ("clean", "noisy")
        for method in ("sgd", "sam", "asam")
    }
    assert set(counts.values()) == {3}


def test_trials_are_on_the_selection_s_seeds_and_not_on_the_table_s(study: Study, workspace: Workspace) -> None:
    trials, _, _ = select(study, workspace)
    for trial in trials:
        assert [run.plan.seed for run in trial.runs] == [1000, 1001]
    assert not {run.key for t in trials for run in t.runs} & {r.key for r in planned_runs(study, "main", workspace)}


def test_a_trial_uses_the_grid_s_value_and_not_the_hand_written_one(workspace: Workspace) -> None:
    study = study_of(workspace.root, TEXT.replace("ascent: sam, rho: selected", "ascent: sam, rho: 0.3"))
    trials, _, _ = select(study, workspace)
    tried = {run.plan.settings.method.rho for trial in trials if trial.method == "sam" for run in trial.runs}
    assert tried == {0.1, 0.2, 0.4}


def test_a_method_with_a_learning_rate_of_its_own_is_tuned_with_it(workspace: Workspace) -> None:
    own = TEXT.replace("ascent: sam, rho: selected", "ascent: sam, rho: selected, training: {lr: 0.07}")
    study = study_of(workspace.root, own)
    trials, _, _ = select(study, workspace)
    tuned = {run.plan.settings.training.lr for trial in trials if trial.method == "sam" for run in trial.runs}
    used = {run.plan.settings.training.lr for run in planned_runs(study, "main", workspace) if run.plan.method == "sam"}
    assert tuned == used == {0.07}


def test_trials_are_kept_in_the_store_and_not_published(study: Study, workspace: Workspace) -> None:
    trials, _, _ = select(study, workspace)
    items = train_items([run for trial in trials for run in trial.runs], workspace, published=False)
    assert len(items) == 2 * 3 * 3 * 2
    assert {len(item.outputs) for item in items} == {0}


# --- the choice -------------------------------------------------------------------------------------------------------


def test_the_best_mean_over_seeds_is_chosen(study: Study, workspace: Workspace) -> None:
    def best_once(trial: Trial, seed: int) -> float:
        """One value is best on one seed, another on average."""
        table = {0.05: (0.99, 0.5), 0.1: (0.8, 0.8), 0.2: (0.7, 0.7)}
        return table[trial.values["lr"]][seed - 1000] if trial.method == "sgd" else 0.5

    _, choices, _ = select(study, workspace, best_once)
    assert choices["clean", "mlp", "sgd"] == {"lr": 0.1}


def test_a_tie_goes_to_the_smaller(study: Study, workspace: Workspace) -> None:
    def tied(trial: Trial, seed: int) -> float:
        [value] = trial.values.values()
        return 0.5 if value in (0.05, 0.1, 0.5) else 0.9

    _, choices, _ = select(study, workspace, tied)
    assert choices["clean", "mlp", "sgd"] == {"lr": 0.2}
    assert choices["clean", "mlp", "sam"] == {"rho": 0.2}
    assert choices["clean", "mlp", "asam"] == {"rho": 1.0}


def test_a_point_at_which_a_run_diverged_comes_after_all_others(study: Study, workspace: Workspace) -> None:
    trials = selection.plan_trials(study, "main", ["sgd"], {}, workspace)
    best = {trial.values["lr"]: 0.9 if trial.values["lr"] == 0.2 else 0.5 for trial in trials}
    scores = {
        run.key: Score(best[trial.values["lr"]], diverged=trial.values["lr"] == 0.2)
        for trial in trials
        for run in trial.runs
    }
    assert selection.choose(trials, scores)["clean", "mlp", "sgd"] == {"lr": 0.05}


def test_a_tie_in_a_grid_of_two_settings_goes_to_the_smaller_first_one(workspace: Workspace) -> None:
    grids = "sgd: {lr: [0.05, 0.1], weight_decay: [0.0, 0.001]}"
    text = TEXT.replace("sgd: {lr: [0.05, 0.1, 0.2]}", grids).replace(
        "lr: selected", "lr: selected, weight_decay: selected"
    )
    study = study_of(
        workspace.root, text.replace("[0.5, 1.0, 2.0]", "[0.5, 1, 2, 4]").replace("0.2, 0.4]", "0.2, 0.4, 1]")
    )

    def tied(trial: Trial, seed: int) -> float:
        return 0.1 if trial.values == {"lr": 0.05, "weight_decay": 0.0} else 0.9

    _, choices, _ = select(study, workspace, tied)
    assert choices["clean", "mlp", "sgd"] == {"lr": 0.05, "weight_decay": 0.001}


@pytest.mark.parametrize(("best", "edge"), [(0.1, ["rho"]), (0.2, []), (0.4, ["rho"])])
def test_an_optimum_on_the_edge_of_its_grid_is_flagged(
    study: Study, workspace: Workspace, best: float, edge: list[str]
) -> None:
    select(study, workspace, lambda trial, seed: 0.9 if best in trial.values.values() else 0.5)
    flagged = {(c["dataset"], c["method"]): c["on_edge"] for c in file_of(workspace)["choices"]}
    assert flagged["clean", "sam"] == flagged["noisy", "sam"] == edge


def test_a_grid_of_one_value_has_no_edge(workspace: Workspace) -> None:
    text = (
        TEXT.replace("[0.05, 0.1, 0.2]", "[0.1]").replace("[0.1, 0.2, 0.4]", "[0.1]").replace("[0.5, 1.0, 2.0]", "[1]")
    )
    study = study_of(workspace.root, text)
    assert selection.on_edge(study, "main", "sam", {"rho": 0.1}) == []


def test_a_choice_for_what_the_study_no_longer_selects_has_no_edge(study: Study) -> None:
    assert selection.on_edge(study, "main", "sgd-2x", {"lr": 0.2}) == []
    assert selection.on_edge(study, "main", "sgd", {"rho": 0.2}) == []


# --- the file ---------------------------------------------------------------------------------------------------------


def test_anybody_can_choose_again_from_the_file(study: Study, workspace: Workspace) -> None:
    _, choices, _ = select(study, workspace)
    again = {}
    for choice in file_of(workspace)["choices"]:
        means = [mean(run["validation_accuracy"] for run in trial["runs"]) for trial in choice["trials"]]
        for written, computed in zip(choice["trials"], means, strict=True):
            assert written["validation_accuracy"] == pytest.approx(computed, abs=1e-15)
        best = choice["trials"][means.index(max(means))]
        again[choice["dataset"], choice["model"], choice["method"]] = best["values"]
    assert again == choices


def test_the_file_holds_the_whole_grid_with_its_seeds(study: Study, workspace: Workspace) -> None:
    select(study, workspace)
    content = file_of(workspace)
    assert content["seeds"] == [1000, 1001]
    for choice in content["choices"]:
        assert [trial["values"] for trial in choice["trials"]] == study.trials("main", choice["method"])
        for trial in choice["trials"]:
            assert [run["seed"] for run in trial["runs"]] == content["seeds"]


def test_two_selections_write_the_same_bytes(study: Study, workspace: Workspace) -> None:
    select(study, workspace)
    first = workspace.selection("main").read_bytes()
    select(study, workspace)
    assert workspace.selection("main").read_bytes() == first


def test_scores_and_choices_are_read_back(study: Study, workspace: Workspace) -> None:
    _, choices, scores = select(study, workspace)
    assert selection.read_scores(workspace.selection("main")) == scores
    assert read_choices(workspace.selection("main")) == choices


def test_a_diverged_trial_is_written_as_such(study: Study, workspace: Workspace) -> None:
    trials, choices, scores = select(study, workspace)
    run = trials[0].runs[0]
    scores[run.key] = replace(scores[run.key], diverged=True)
    selection.write(workspace.selection("main"), study, "main", trials, scores, choices)
    assert {key for key, s in selection.read_scores(workspace.selection("main")).items() if s.diverged} == {run.key}


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"choices": [{}]}', '{"choices": 3}', "not JSON"])
def test_a_damaged_file_has_no_scores_and_its_choices_are_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "main.json"
    path.write_text(content)
    assert selection.read_scores(path) == {}
    with pytest.raises(FlatminError, match=r"main\.json is not a selection: delete it and run `dvc repro`"):
        read_choices(path)


def test_before_the_selection_there_are_no_choices(tmp_path: Path) -> None:
    assert read_choices(tmp_path / "main.json") == {}
    assert selection.read_scores(tmp_path / "main.json") == {}


def test_runs_cannot_be_planned_before_the_selection(study: Study, workspace: Workspace) -> None:
    with pytest.raises(NotReadyError, match="is not selected yet: run `flatmin select main`"):
        planned_runs(study, "main", workspace)


# --- a fresh clone ----------------------------------------------------------------------------------------------------


def test_a_fresh_clone_chooses_from_the_file_and_trains_nothing(study: Study, workspace: Workspace) -> None:
    select(study, workspace)
    before = workspace.selection("main").read_bytes()
    Stages(study, workspace).select("main")
    assert workspace.selection("main").read_bytes() == before
    assert not (workspace.state / "store").exists()
    assert not (workspace.state / "work").exists()


def test_one_unknown_score_is_one_training(
    study: Study, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The one score that the file lacks is computed, and the others are believed."""
    _, _, scores = select(study, workspace)
    content = workspace.selection("main").read_text()
    # of sam's: another score of sgd could choose another learning rate, which all others are tried at
    unknown = next(
        run["key"]
        for choice in json.loads(content)["choices"]
        if choice["method"] == "sam"
        for trial in choice["trials"]
        for run in trial["runs"]
    )
    workspace.selection("main").write_text(content.replace(f'"key": "{unknown}"', '"key": "none"'))
    monkeypatch.setenv("FLATMIN_SCHEDULER", "inline")
    monkeypatch.setenv("FLATMIN_DEVICE", "cpu")
    Stages(study, workspace).select("main")
    assert [path.name for path in (workspace.state / "store" / "train").iterdir()] == [unknown]
    now = selection.read_scores(workspace.selection("main"))
    assert {key for key in scores if now.get(key) != scores[key]} == {unknown}
    assert "select@main: clean mlp sam: rho" in capsys.readouterr().out


# --- tuned, or not ----------------------------------------------------------------------------------------------------


def runs_with(workspace: Workspace, text: str) -> tuple[Study, list[KeyedRun]]:
    study = study_of(workspace.root, text)
    select(study, workspace)
    return study, planned_runs(study, "main", workspace)


def tuned(runs: list[KeyedRun], method: str) -> set[str]:
    return {run.plan.tuned for run in runs if run.plan.method == method}


@pytest.mark.parametrize(
    ("rho", "expected"), [("selected", "selected"), ("0.2", "selected"), ("0.3", "not tuned"), ("0.1", "not tuned")]
)
def test_a_rho_is_tuned_if_it_is_the_selected_one(workspace: Workspace, rho: str, expected: str) -> None:
    _, runs = runs_with(workspace, TEXT.replace("ascent: sam, rho: selected", f"ascent: sam, rho: {rho}"))
    assert tuned(runs, "sam") == {expected}
    assert tuned(runs, "asam") == {"selected"}


def test_a_method_without_grid_is_not_tuned(workspace: Workspace) -> None:
    text = TEXT.replace("      sam: {rho: [0.1, 0.2, 0.4]}\n", "").replace(
        "sam, rho: selected}\n  asam", "sam}\n  asam"
    )
    _, runs = runs_with(workspace, text)
    assert tuned(runs, "sam") == {"not tuned"}


def test_without_ascent_there_is_nothing_to_tune(workspace: Workspace) -> None:
    _, runs = runs_with(workspace, TEXT)
    assert tuned(runs, "sgd") == tuned(runs, "sgd-2x") == {""}


def notes(workspace: Workspace, text: str = TEXT) -> Mapping[str, list[str]]:
    """Return the notes of the table's rows, by dataset."""
    study, runs = runs_with(workspace, text)
    return {dataset: list(found) for (dataset, _), found in table_infos(study, runs, workspace)["main"].notes.items()}


def test_the_notes_of_a_row_name_what_was_selected_there(workspace: Workspace) -> None:
    found = notes(workspace)
    assert found["clean"][2:] == [
        "asam: selected rho 1",
        "sgd: selected lr 0.1",
        "sgd-2x: lr 0.1 inherited from sgd",
        "sam: selected rho 0.2",
    ]
    assert "sgd: selected lr 0.2 (lr at the edge of the grid)" in found["noisy"]


def test_the_notes_say_what_was_validated_on_and_how_many_images(workspace: Workspace) -> None:
    found = notes(workspace)
    assert found["clean"][:2] == [
        "validation on 20% of the training images, labels as they are",
        "100 training images, validation part included",
    ]
    assert found["noisy"][0] == "validation on 10% of the training images, noisy labels"


def test_a_fixed_draw_is_noted(workspace: Workspace) -> None:
    fixed = TEXT.replace("clean: {source: digits,", "clean: {source: digits, draw_seed: 0,")
    assert "conditional on one draw of subset, split and noise" in notes(workspace, fixed)["clean"]
    assert "conditional on one draw of subset, split and noise" not in notes(workspace, TEXT)["clean"]


def test_a_hand_written_rho_is_noted(workspace: Workspace) -> None:
    found = notes(workspace, TEXT.replace("ascent: sam, rho: selected", "ascent: sam, rho: 0.3"))["clean"]
    assert "sam: rho 0.3 is hand-written, not tuned" in found
    assert not [note for note in found if note.startswith("asam: rho")]


def test_a_hand_written_rho_equal_to_the_selected_one_is_not_noted(workspace: Workspace) -> None:
    found = notes(workspace, TEXT.replace("ascent: sam, rho: selected", "ascent: sam, rho: 0.2"))["clean"]
    assert [note for note in found if note.startswith("sam: ")] == ["sam: selected rho 0.2"]


def test_a_hand_written_learning_rate_that_a_grid_was_searched_for_is_noted(workspace: Workspace) -> None:
    found = notes(workspace, TEXT.replace("sgd: {base: sgd}", "sgd: {base: sgd, training: {lr: 0.3}}"))["clean"]
    assert "sgd: lr 0.3 is hand-written, not tuned" in found
