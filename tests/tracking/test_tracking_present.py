from __future__ import annotations

import importlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flatmin.planning import KeyedRun
from flatmin.results.claim_files import claims_json
from flatmin.results.claim_spec import load_claims
from flatmin.results.claims import judge
from flatmin.results.inputs import measured
from flatmin.settings import DatasetSpec, ModelSpec, ResolvedMethod, RunSettings, SymmetricNoise, TrainingSpec
from flatmin.study import PlannedRun
from flatmin.tracking import TrackedRun, Tracker, TrackingWarning, notes, present
from flatmin.tracking.present import owner
from flatmin.tracking.searches import PREFIX
from flatmin.tracking.tracker import FILES, NOTE, SUMMARY
from flatmin.ui import page_of_runs

TABLES = {"quick": "Digits", "quick-noise": "Noisy digits"}
CLAIM = {
    "id": "sam-better",
    "statement": "SAM is better",
    "source": "https://arxiv.org/abs/2010.01412v3",
    "outcomes": [
        {
            "label": "reproduced-smaller (reduced)",
            "arms": [
                {"table": "quick", "dataset": "digits", "model": "mlp", "method": method} for method in ("sam", "sgd")
            ],
        }
    ],
}


def tracked(key: str, method: str = "sam", note: str = "A run.", **tags: str) -> TrackedRun:
    known = {"planned": "true", "role": "table", "table": "quick", "tables": "quick", "method": method}
    known |= {"dataset": "digits", "model": "mlp", "seed": "0", "ascent": method}
    return TrackedRun(key, f"digits.mlp.{method}.s0-{key}", {**known, **tags}, {}, {"test_accuracy": 0.5}, note=note)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = tmp_path / "results"
    for name in ("tables/quick.md", "tables/quick.csv", "tables/quick.shift.csv", "tables/quick-noise.md"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"# Digits\n\n{name} as printed\n")
    (folder / "tables" / "paper-sam-1.md").write_text("a table of a paper")
    (folder / "figures").mkdir()
    for name in ("quick-curves", "quick-noise-curves", "differences"):
        (folder / "figures" / f"{name}.svg").write_text(f"<svg>{name}</svg>")
    (folder / "report.html").write_text("<html>")
    (folder / "claims.json").write_text(json.dumps([CLAIM]))
    return folder


def shown(uri: str, results: Path, runs: list[TrackedRun]) -> Tracker:
    tracker = Tracker(uri)
    tracker.synchronise(runs)
    present(tracker, runs, TABLES, results)
    return Tracker(uri)


def files(tracker: Tracker, table: str) -> set[str]:
    run_id = tracker.summaries[table].info.run_id
    tops = tracker.client.list_artifacts(run_id)
    inside = [item for top in tops if top.is_dir for item in tracker.client.list_artifacts(run_id, top.path)]
    return {item.path for item in [*tops, *inside] if not item.is_dir}


def note_of(tracker: Tracker, key: str) -> str:
    return str(tracker.known[key].data.tags[NOTE])


# --- notes of runs ------------------------------------------------------------------------------------------------


def test_the_note_of_a_run_names_the_claims_that_rest_on_it(uri: str, results: Path) -> None:
    runs = [
        tracked("a"),
        tracked("b", method="sgd"),
        tracked("c", method="asam"),
        tracked("d", dataset="cifar10"),
        tracked("e", role="trial"),
        tracked("f", tables="noise,quick", table="noise"),
        tracked("g", tables="quick-noise", table="quick-noise"),
    ]
    tracker = shown(uri, results, runs)
    with_claim = {key for key in tracker.known if "sam-better" in note_of(tracker, key)}
    assert with_claim == {"a", "b", "f"}
    assert note_of(tracker, "a") == (
        "A run.\n\n**Verdicts that rest on this run: 1** (with numbers in `results/claims.md`)\n\n"
        "- `sam-better`: **reproduced-smaller (reduced)**. SAM is better "
        "([source](https://arxiv.org/abs/2010.01412v3))"
    )
    assert note_of(tracker, "c") == "A run."


def test_a_claim_on_two_rows_rests_on_the_runs_of_both(uri: str, results: Path) -> None:
    arms = [{"table": "quick", "dataset": data, "model": "mlp", "method": "sam"} for data in ("digits", "cifar10")]
    (results / "claims.json").write_text(json.dumps([{**CLAIM, "outcomes": [{"label": "reproduced", "arms": arms}]}]))
    runs = [tracked("a"), tracked("c", method="sgd"), tracked("d", dataset="cifar10"), tracked("e", model="cnn")]
    tracker = shown(uri, results, runs)
    assert {key for key in tracker.known if "sam-better" in note_of(tracker, key)} == {"a", "d"}


def test_before_there_are_verdicts_a_note_has_none(uri: str, results: Path) -> None:
    (results / "claims.json").unlink()
    assert note_of(shown(uri, results, [tracked("a")]), "a") == "A run."
    assert note_of(shown(uri, results, [tracked("a", note="Said anew.")]), "a") == "Said anew."


def test_a_note_is_never_longer_than_mlflow_keeps(uri: str, results: Path) -> None:
    many = [{**CLAIM, "id": f"claim-{i}", "statement": "so it is " * 20} for i in range(80)]
    (results / "claims.json").write_text(json.dumps(many))
    for _ in range(2):
        note = note_of(shown(uri, results, [tracked("a")]), "a")
        assert len(note) <= notes.LIMIT
        kept = note.count("- `claim-")
        assert note.endswith(f"- and {80 - kept} more")


def test_a_note_that_a_reader_wrote_over_stays(uri: str, results: Path) -> None:
    tracker = shown(uri, results, [tracked("a")])
    tracker.client.set_tag(tracker.known["a"].info.run_id, NOTE, "Look at epoch 7!")
    assert note_of(shown(uri, results, [tracked("a", note="Another.")]), "a") == "Look at epoch 7!"
    tracker.client.set_tag(tracker.known["a"].info.run_id, NOTE, "")
    assert note_of(shown(uri, results, [tracked("a", note="Another.")]), "a").startswith("Another.")


def test_the_claims_file_that_aggregate_writes_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "results"))
    runs, tables = importlib.import_module("synthetic").make_study()
    claims = load_claims(Path(__file__).parents[2] / "experiments" / "claims.yaml")
    judged = judge(claims, measured(runs), tables)
    (tmp_path / "claims.json").write_text(claims_json(judged))
    spoken = notes.read_claims(tmp_path / "claims.json")
    outcomes = [outcome for each in judged for outcome in each.outcomes]
    assert [s.verdict for s in spoken] == [outcome.label for outcome in outcomes]
    assert len(spoken) > 10
    for said, outcome in zip(spoken, outcomes, strict=True):
        rows = {(table, dataset, model) for table, dataset, model, _ in said.arms}
        assert (outcome.table, outcome.dataset, outcome.model) in rows


def keyed(**changes: Any) -> KeyedRun:
    from flatmin.keys import RunIdentity

    noise = SymmetricNoise(kind="symmetric", rate=0.6, definition="another-class")
    settings = RunSettings(
        dataset=DatasetSpec(source="digits", noise=noise),
        model=ModelSpec(name="mlp"),
        method=ResolvedMethod(base="sgd", ascent="sam", rho=0.2, options={"m": 32}),
        training=TrainingSpec(epochs=48, batch_size=64, lr=0.01),
        seed=3,
    )
    plan = PlannedRun("quick", "digits-noise60", "mlp", "sam", 3, settings, "selected")
    return KeyedRun(replace(plan, **changes), RunIdentity("d", "c", "0123456789"))


def test_the_words_of_a_run_say_what_it_is_and_how_to_show_it() -> None:
    assert notes.run_note(keyed(), "table") == (
        "A run of table `quick`: `sam` on `digits-noise60`, model `mlp`, seed 3.\n\n"
        "Ascent `sam` (rho 0.2, m 32), base `sgd`: lr 0.01, weight decay 0.0005, batch size 64, epochs 48. "
        "Label noise: symmetric, rate 0.6, another-class. Rho was chosen on validation data.\n\n"
        "On one screen: `flatmin show digits-noise60.mlp.sam.s3-01234567`"
    )
    assert notes.run_note(keyed(tuned="not tuned"), "table").count("Rho is hand-written, not tuned.") == 1
    trial = notes.run_note(keyed(seed=1000), "trial")
    assert trial.startswith("A trial of the selection of table `quick`: `sam` on `digits-noise60`")
    assert "flatmin show" not in trial, "it shows planned runs, and a trial is none"


# --- summaries ----------------------------------------------------------------------------------------------------


def test_a_table_has_one_summary_with_its_tables_and_figures(uri: str, results: Path) -> None:
    for _ in range(2):
        tracker = shown(uri, results, [tracked("a")])
    assert {*tracker.summaries} == {"", "quick", "quick-noise"}
    quick = {"tables/quick.md", "tables/quick.csv", "tables/quick.shift.csv", "figures/quick-curves.svg"}
    assert files(tracker, "quick") == quick
    assert files(tracker, "quick-noise") == {"tables/quick-noise.md", "figures/quick-noise-curves.svg"}
    study = {"report.html", "claims.json", "tables/paper-sam-1.md", "figures/differences.svg"}
    assert files(tracker, "") == study
    assert "tables/quick.md as printed" in tracker.summaries["quick"].data.tags[NOTE]
    assert len([run for run in tracker._all_runs() if SUMMARY in run.data.tags]) == 3
    assert set(tracker.planned()) == {"a"}, "a summary is no run"


def test_files_are_where_the_study_is(uri: str, results: Path, tmp_path: Path) -> None:
    tracker = Tracker(uri, tmp_path)
    present(tracker, [], TABLES, results)
    found = [path.read_text() for path in (tmp_path / "mlruns").rglob("quick-curves.svg")]
    assert found == ["<svg>quick-curves</svg>"]


def test_files_that_changed_are_replaced_and_those_that_are_gone_removed(uri: str, results: Path) -> None:
    shown(uri, results, [tracked("a")])
    (results / "figures" / "quick-curves.svg").write_text("<svg>new</svg>")
    (results / "figures" / "quick-cost.svg").write_text("<svg>cost</svg>")
    (results / "tables" / "quick.shift.csv").unlink()
    tracker = shown(uri, results, [tracked("a")])
    kept = {"tables/quick.md", "tables/quick.csv", "figures/quick-curves.svg", "figures/quick-cost.svg"}
    assert files(tracker, "quick") == kept
    place = tracker.client.download_artifacts(tracker.summaries["quick"].info.run_id, "figures/quick-curves.svg")
    assert Path(place).read_text() == "<svg>new</svg>"


def test_a_second_presentation_writes_nothing(uri: str, results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tracker = shown(uri, results, [tracked("a")])
    writers = ("log_batch", "set_tag", "create_run", "set_terminated", "update_run", "log_artifact")
    for name in (*writers, "set_experiment_tag", "delete_experiment_tag"):
        monkeypatch.setattr(tracker.client, name, lambda *args, **options: pytest.fail("it wrote"))
    present(tracker, [tracked("a")], TABLES, results)


def test_the_summary_of_a_table_that_left_the_study_is_not_planned(uri: str, results: Path) -> None:
    shown(uri, results, [tracked("a")])
    for tables, expected in (({"quick": "Digits"}, "false"), (TABLES, "true")):
        present(Tracker(uri), [tracked("a")], tables, results)
        assert Tracker(uri).summaries["quick-noise"].data.tags["flatmin.planned"] == expected


def test_without_results_a_summary_says_which_table_it_is(uri: str, tmp_path: Path) -> None:
    tracker = shown(uri, tmp_path / "nothing", [tracked("a")])
    assert tracker.summaries["quick"].data.tags[NOTE].startswith("Digits: table `quick` of the study.")
    assert files(tracker, "quick") == set()


def test_a_long_table_is_cut_between_its_parts() -> None:
    part = "| a |\n|---|\n" + "| 1 |\n" * 500
    note = notes.table_note("quick", "Digits", "\n\n".join(["# Digits", part, part, part, part]))
    assert len(note) <= notes.LIMIT
    assert note.count("| a |") == 2
    assert note.endswith(notes.MORE)


@pytest.mark.parametrize(
    ("figure", "table"),
    [("quick-curves", "quick"), ("quick-noise-curves", "quick-noise"), ("differences", None), ("quickly", None)],
)
def test_a_figure_belongs_to_the_table_that_it_is_named_after(figure: str, table: str | None) -> None:
    assert owner(figure, TABLES) == table


# --- the experiment -----------------------------------------------------------------------------------------------


def test_the_experiment_has_a_description_and_its_views(uri: str, results: Path) -> None:
    tracker = shown(uri, results, [tracked("a")])
    tags = tracker.client.get_experiment(tracker.experiment).tags
    assert "Methods, mean over seeds" in tags[NOTE]
    assert f"#/experiments/{tracker.experiment}/runs?workflowType=machine_learning&viewStateShareKey=" in tags[NOTE]
    views = {name.removeprefix(PREFIX) for name in tags if name.startswith(PREFIX)}
    assert {"methods", "trials", "table-quick", "table-quick-noise"} <= views


def test_views_of_tables_that_are_gone_are_removed_and_a_readers_stay(uri: str, results: Path) -> None:
    tracker = shown(uri, results, [tracked("a")])
    tracker.client.set_experiment_tag(tracker.experiment, "mlflow.sharedViewState.mine", "{}")
    present(Tracker(uri), [tracked("a")], {"quick": "Digits"}, results)
    tags = tracker.client.get_experiment(tracker.experiment).tags
    assert f"{PREFIX}table-quick" in tags
    assert f"{PREFIX}table-quick-noise" not in tags
    assert "mlflow.sharedViewState.mine" in tags


def test_an_experiment_description_that_a_reader_wrote_over_stays(uri: str, results: Path) -> None:
    tracker = shown(uri, results, [tracked("a")])
    tracker.client.set_experiment_tag(tracker.experiment, NOTE, "Ours.")
    tracker = shown(uri, results, [tracked("a")])
    assert tracker.client.get_experiment(tracker.experiment).tags[NOTE] == "Ours."


def test_a_server_that_stops_on_the_way_is_a_warning(uri: str, results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tracker = Tracker(uri)
    monkeypatch.setattr(tracker.client, "create_run", lambda *args, **options: 1 / 0)
    with pytest.warns(TrackingWarning, match="division by zero"):
        present(tracker, [], TABLES, results)


def test_an_interrupted_copy_is_made_good(uri: str, results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tracker = Tracker(uri)
    monkeypatch.setattr(tracker.client, "log_artifact", lambda *args: 1 / 0)
    with pytest.warns(TrackingWarning):
        present(tracker, [], TABLES, results)
    assert FILES not in Tracker(uri).summaries["quick"].data.tags
    assert "figures/quick-curves.svg" in files(shown(uri, results, []), "quick")
    assert len(Tracker(uri).summaries) == 3


def test_the_ui_is_told_the_page_of_runs(uri: str, empty_store: Path, tmp_path: Path) -> None:
    assert page_of_runs(uri) == f"#/experiments/{Tracker(uri).experiment}/runs?workflowType=machine_learning"
    shutil.copy(empty_store, tmp_path / "empty.db")
    assert page_of_runs(f"sqlite:///{tmp_path}/empty.db") is None
