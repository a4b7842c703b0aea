from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import mlflow
import pytest

from flatmin.tracking import TrackedRun, Tracker
from flatmin.tracking import searches as saved
from flatmin.tracking.searches import SEARCHES, of_tables, view_tags

GUIDE = Path(__file__).parents[2] / "docs" / "mlflow.md"


def made(key: str, **changes: Any) -> TrackedRun:
    tags = {"planned": "true", "role": "table", "table": "quick", "tables": "quick", "method": "sam", "ascent": "sam"}
    tags |= {"dataset": "digits", "model": "mlp", "seed": "0", "diverged": "false"}
    params = {"noise_rate": "0", "rho": "0.1", "dataset": "digits", "model": "mlp", "method": "sam"}
    metrics = {"test_accuracy": 0.9, "memorised": 0.1}
    return TrackedRun(
        key,
        key,
        {**tags, **changes.get("tags", {})},
        {**params, **changes.get("params", {})},
        changes.get("metrics", metrics),
    )


RUNS = [
    made("sam"),
    made("sgd", tags={"method": "sgd", "ascent": "none"}, params={"rho": "0"}),
    made("noisy", params={"noise_rate": "0.6"}),
    made("bad", tags={"diverged": "true"}),
    made("shared", tags={"tables": "noise,quick"}),
    made("other", tags={"table": "quick-noise", "tables": "quick-noise"}),
    made("later", metrics={}),
    made("trial", tags={"role": "trial"}, metrics={"validation_accuracy": 0.5}),
]
OF_TABLES = {"sam", "sgd", "noisy", "bad", "shared", "other", "later"}
FOUND = {
    "methods": OF_TABLES,
    "tables": OF_TABLES,
    "sharpness-aware": OF_TABLES - {"sgd"},
    "noisy": {"noisy"},
    "trials": {"trial"},
    "diverged": {"bad"},
    "not-trained": {"later"},
    "not-planned": {"dropped"},
    "summaries": {"table quick"},
    "table-quick": {"sam", "sgd", "noisy", "bad", "shared", "later"},
}


@pytest.fixture
def study(uri: str) -> str:
    tracker = Tracker(uri)
    tracker.synchronise([made("dropped")])
    tracker.synchronise(RUNS)
    tracker.summarise("quick", "table quick", "note", {})
    tracker.summarise("gone", "table gone", "note", {})
    tracker.drop_summaries(["quick"])
    return uri


def search(uri: str, text: str) -> set[str]:
    mlflow.set_tracking_uri(uri)
    found = mlflow.search_runs(experiment_names=["flatmin"], filter_string=text, output_format="list")
    return {run.info.run_name for run in found}


def test_every_saved_search_finds_what_it_says(study: str) -> None:
    found = {s.id: search(study, s.filter) for s in of_tables(["quick"])}
    assert {name: runs - {"table gone"} if name == "not-planned" else runs for name, runs in found.items()} == FOUND


def test_every_search_of_the_guide_is_one_that_mlflow_takes(study: str) -> None:
    blocks = re.findall(r"```text\n(.*?)```", GUIDE.read_text(encoding="utf-8"), flags=re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line]
    assert len(lines) >= 15
    empty = [line for line in lines if not search(study, line)]
    assert empty == [], "every line of the guide finds some run of a study that has one of each kind"


def test_the_guide_lists_every_saved_search_with_its_filter() -> None:
    guide = GUIDE.read_text(encoding="utf-8")
    assert [s.name for s in SEARCHES if s.name not in guide or s.filter not in guide] == []


def test_every_column_and_axis_is_one_that_runs_have(study: str) -> None:
    """The names of ``docs/mlflow.md`` are those that the views show."""
    guide = GUIDE.read_text(encoding="utf-8")
    used = {name for s in SEARCHES for name in (*s.columns, *s.axes, *s.group_by, *([s.order] if s.order else []))}
    assert [name for name in used if f"`{name.split('.', 1)[1]}`" not in guide] == []


def test_a_view_is_what_the_ui_reads() -> None:
    """As its source has it: an envelope of three, and a state as text, below the length that it takes."""
    tags = view_tags(of_tables(["quick"]))
    for name, value in tags.items():
        assert name.startswith("mlflow.sharedViewState.")
        assert len(value) <= 20_000
        envelope = json.loads(value)
        assert isinstance(envelope["name"], str)
        assert isinstance(envelope["createdAt"], int)
        assert "searchFilter" in json.loads(envelope["state"])
    times = [json.loads(value)["createdAt"] for value in tags.values()]
    assert times == sorted(set(times), reverse=True), "the UI lists the youngest first"
    assert tags == view_tags(of_tables(["quick"]))


def test_there_are_never_more_views_than_the_ui_takes() -> None:
    many = of_tables([f"t{i}" for i in range(100)])
    assert len(many) == saved.MOST
    assert many[: len(SEARCHES)] == list(SEARCHES)
    assert len({s.name for s in many}) == saved.MOST


def test_a_grouped_view_with_parallel_coordinates_has_numeric_axes() -> None:
    """The chart refuses text on an axis where runs are grouped."""
    text = {"params.method", "params.dataset", "params.model", "params.ascent"}
    grouped = [s for s in of_tables(["quick"]) if s.group_by and s.axes]
    assert grouped
    assert [s.id for s in grouped if text & {*s.axes}] == []
