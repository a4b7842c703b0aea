"""What an edit of ``params.yaml`` trains: the runs that it changes, counted."""

from __future__ import annotations

from typing import Any

from pipeline_study import StudyFolder

ROWS, SEEDS = 2, 2


def trained_by(study: StudyFolder) -> int:
    before = len(study.made("train"))
    assert study.flatmin("train", "quick") == 0
    return len(study.made("train")) - before


def with_two_more(params: dict[str, Any]) -> None:
    params["methods"]["sam-strong"] = {"base": "sgd", "ascent": "sam", "rho": 0.3}
    params["tables"]["quick"]["methods"].append("sam-strong")


def test_adding_a_method_trains_its_runs_and_removing_it_trains_nothing(reproduced: StudyFolder) -> None:
    reproduced.edit(with_two_more)
    assert trained_by(reproduced) == ROWS * SEEDS
    reproduced.edit(lambda params: params["tables"]["quick"]["methods"].remove("sam-strong"))
    assert trained_by(reproduced) == 0
    assert not [path for path in (reproduced.root / "runs" / "quick").iterdir() if "sam-strong" in path.name]


def test_editing_one_rho_trains_that_method_and_reverting_trains_nothing(reproduced: StudyFolder) -> None:
    reproduced.edit(lambda params: params["methods"]["sam"].update(rho=0.33))
    assert trained_by(reproduced) == ROWS * SEEDS
    reproduced.edit(lambda params: params["methods"]["sam"].update(rho="selected"))
    assert trained_by(reproduced) == 0


def test_a_seed_more_trains_one_run_per_row_and_method(reproduced: StudyFolder) -> None:
    reproduced.edit(lambda params: params["tables"]["quick"].update(seeds=[0, 1, 7]))
    assert reproduced.flatmin("prepare") == 0
    assert trained_by(reproduced) == ROWS * 4


def test_the_same_run_in_two_tables_trains_once(reproduced: StudyFolder) -> None:
    def again(params: dict[str, Any]) -> None:
        params["tables"]["again"] = {
            "datasets": ["digits-noise60"],
            "models": ["mlp"],
            "methods": ["sgd"],
            "seeds": [0, 1],
            "training": {"lr": 0.02},
        }
        params["study"].append("again")
        params["tables"]["quick"]["training"] = {"lr": 0.02}

    reproduced.edit(again)
    trained_by(reproduced)
    before = len(reproduced.made("train"))
    assert reproduced.flatmin("train", "again") == 0
    assert len(reproduced.made("train")) == before
    assert len(list((reproduced.root / "runs" / "again").iterdir())) == SEEDS


def test_reordered_keys_and_a_number_in_another_notation_change_nothing(reproduced: StudyFolder) -> None:
    def reorder(params: dict[str, Any]) -> None:
        params["training"] = dict(reversed(params["training"].items()))
        params["training"]["weight_decay"] = "5e-4"
        params["methods"]["asam"]["eta"] = "1e-2"

    reproduced.edit(reorder)
    assert trained_by(reproduced) == 0


def test_a_fresh_clone_with_pulled_outputs_trains_nothing(reproduced: StudyFolder) -> None:
    reproduced.run("rm", "-rf", ".flatmin", "mlflow.db")
    assert reproduced.flatmin("select", "quick") == 0
    assert reproduced.flatmin("train", "quick") == 0
    assert reproduced.flatmin("evaluate", "quick") == 0
    assert reproduced.made("train") == []
    assert reproduced.made("evaluate") == []


def test_a_damaged_record_is_replaced(reproduced: StudyFolder) -> None:
    record = next((reproduced.root / "runs" / "quick").glob("*.sam.s0-*")) / "record.json"
    whole = record.read_bytes()
    record.unlink()
    record.write_bytes(whole[:100])
    assert reproduced.flatmin("aggregate") == 2
    assert trained_by(reproduced) == 0
    assert record.read_bytes() == whole
