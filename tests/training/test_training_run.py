from __future__ import annotations

import csv
import json
import math
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import (
    ASAM,
    CNN,
    EPOCHS,
    FILES,
    FLIP_AND_CROP,
    IMAGES,
    SAM,
    SGD,
    content,
    data,
    pixels,
    settings,
    task,
    train,
    train_in_memory,
)
from torch import nn
from torch.nn import functional

from flatmin.collect import read_history
from flatmin.keys import plain
from flatmin.models.network import network
from flatmin.records import verify
from flatmin.settings import DatasetSpec, RunSettings
from flatmin.training import history

RUN = settings(SAM, CNN, epochs=8, augmentation=FLIP_AND_CROP)

IN_ANOTHER_PROCESS = """
import json, sys
from pathlib import Path
from flatmin.work import perform
from flatmin.workplace import Workplace
workplace = Workplace(Path(sys.argv[1]), "t")
workplace.take()
print(perform("train", "key", json.loads(sys.argv[2]), workplace, workplace.folder / "log"))
"""


@pytest.fixture(scope="session")
def result(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(RUN, prepared, tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="session")
def record(result: Path) -> dict[str, Any]:
    return verify(result, "record.json")


def trained(run: RunSettings, prepared: Path, weights: Path) -> nn.Module:
    loaded = data(run, prepared)
    model = network(run.model, classes=10, images=loaded.test.images)
    model.load_state_dict(load_file(weights))
    return model.double().eval()


# --- the record ---------------------------------------------------------------------------------------------------


def test_a_result_holds_the_files_of_a_run_and_its_timings(result: Path) -> None:
    assert {path.name for path in result.iterdir()} == {*FILES, "timings.json"}


def test_the_record_seals_all_files_but_itself_and_the_timings(record: dict[str, Any]) -> None:
    assert set(record["files"]) == {*FILES} - {"record.json"}


def test_the_record_repeats_settings_and_identity(record: dict[str, Any]) -> None:
    assert RunSettings.model_validate(record["settings"]) == RUN
    assert (record["data"], record["code"], record["key"]) == ("d", "c", "key")


def test_the_record_names_device_type_and_versions(record: dict[str, Any]) -> None:
    import timm

    expected = {"device": "cpu", "torch": torch.__version__, "timm": timm.__version__}
    assert record["environment"] == expected


@pytest.mark.parametrize("part", ["train", "validation"])
def test_loss_and_accuracy_of_the_record_are_those_of_the_saved_weights(
    prepared: Path, result: Path, record: dict[str, Any], part: str
) -> None:
    loaded = data(RUN, prepared)
    split = getattr(loaded, part)
    logits = trained(RUN, prepared, result / "model.safetensors")(pixels(split.images, loaded))
    loss = functional.cross_entropy(logits, split.labels).item()
    assert record["result"][f"{part}_accuracy"] == (logits.argmax(1) == split.labels).double().mean().item()
    assert record["result"][f"{part}_loss"] == pytest.approx(loss, rel=1e-5)


def test_the_memorised_share_is_that_of_the_saved_weights(prepared: Path, result: Path, record: dict[str, Any]) -> None:
    loaded = data(RUN, prepared)
    wrong = loaded.train.labels != loaded.train.clean_labels
    assert wrong.sum() == 64
    predicted = trained(RUN, prepared, result / "model.safetensors")(pixels(loaded.train.images, loaded)).argmax(1)
    expected = (predicted[wrong] == loaded.train.labels[wrong]).double().mean().item()
    assert record["result"]["memorised"] == expected


def test_the_best_weights_reach_the_best_validation_accuracy(
    prepared: Path, result: Path, record: dict[str, Any]
) -> None:
    loaded = data(RUN, prepared)
    logits = trained(RUN, prepared, result / "best.safetensors")(pixels(loaded.validation.images, loaded))
    accuracy = (logits.argmax(1) == loaded.validation.labels).double().mean().item()
    assert record["result"]["best_validation_accuracy"] == accuracy


def test_the_best_epoch_is_the_first_of_the_best_in_the_history(result: Path, record: dict[str, Any]) -> None:
    accuracies = [row["validation_accuracy"] for row in read_history(result / "history.csv")]
    assert record["result"]["best_validation_accuracy"] == max(accuracies)
    assert record["result"]["best_epoch"] == accuracies.index(max(accuracies)) + 1


def test_the_record_counts_epochs_steps_and_gradients(record: dict[str, Any]) -> None:
    found = {name: record["result"][name] for name in ("epochs", "gradients", "skipped_steps", "diverged")}
    assert found == {"epochs": 8, "gradients": 2 * IMAGES * 8, "skipped_steps": 0, "diverged": False}


def test_the_timings_hold_seconds_and_gradients(result: Path) -> None:
    timings = json.loads((result / "timings.json").read_text())
    assert timings["gradients"] == 2 * IMAGES * 8
    assert 0 < timings["train_seconds"] < 600


@pytest.mark.parametrize("method", [SGD, SAM, ASAM], ids=["sgd", "sam", "asam"])
def test_a_diverged_run_is_a_result_with_a_finite_accuracy_and_no_nan(
    prepared: Path, tmp_path: Path, method: dict[str, Any]
) -> None:
    result = train(settings(method, epochs=100, lr=1e30), prepared, tmp_path)
    measured = verify(result, "record.json")["result"]
    assert measured["diverged"] is True
    assert measured["epochs"] < 10
    assert 0 <= measured["validation_accuracy"] <= 1
    assert all(value is None or math.isfinite(value) for value in measured.values())


def test_a_run_that_diverges_in_its_first_epoch_has_no_best_epoch(prepared: Path, tmp_path: Path) -> None:
    run = settings(SGD, epochs=5, lr=1e30, patience=1)
    result = train(run, prepared, tmp_path)
    measured = verify(result, "record.json")["result"]
    assert (measured["epochs"], measured["best_epoch"], measured["best_validation_accuracy"]) == (0, 0, 0.0)
    assert (result / "history.csv").read_text() == ",".join(history.COLUMNS) + "\n"


# --- the history --------------------------------------------------------------------------------------------------


def test_the_history_has_a_row_per_epoch_and_the_columns(result: Path) -> None:
    with (result / "history.csv").open(newline="") as file:
        lines = list(csv.reader(file))
    assert lines[0] == list(history.COLUMNS)
    assert [line[0] for line in lines[1:]] == [str(epoch) for epoch in range(1, 9)]


def test_the_history_holds_every_number_in_full_precision(prepared: Path, result: Path) -> None:
    assert read_history(result / "history.csv") == train_in_memory(RUN, prepared).rows


def test_the_last_row_agrees_with_the_record(result: Path, record: dict[str, Any]) -> None:
    last = read_history(result / "history.csv")[-1]
    for name in ("validation_loss", "validation_accuracy"):
        assert last[name] == record["result"][name]


def test_an_undefined_value_is_an_empty_cell() -> None:
    row = dict.fromkeys(history.COLUMNS, 0.5) | {"memorised": None, "epoch": 1}
    assert history.to_csv([row]).splitlines()[1] == "1,0.5,0.5,0.5,0.5,0.5,,0.5,0.5"


def test_appended_rows_are_those_of_the_whole_file(tmp_path: Path) -> None:
    rows = [dict.fromkeys(history.COLUMNS, 1 / n) for n in (3, 7)]
    for row in rows:
        history.append(tmp_path / "progress.csv", row)
    assert (tmp_path / "progress.csv").read_text() == history.to_csv(rows)


# --- bytes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["model.safetensors", "best.safetensors"])
def test_weight_files_have_no_metadata(result: Path, name: str) -> None:
    raw = (result / name).read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    assert "__metadata__" not in json.loads(raw[8 : 8 + size])


def test_two_runs_give_the_same_bytes(prepared: Path, result: Path, tmp_path: Path) -> None:
    assert content(train(RUN, prepared, tmp_path, "another")) == content(result)


@pytest.mark.parametrize("run", [RUN, settings(ASAM)], ids=["cnn sam", "mlp asam"])
def test_another_process_with_more_threads_gives_the_same_bytes(
    prepared: Path, tmp_path: Path, run: RunSettings
) -> None:
    arguments = [str(tmp_path / "there"), json.dumps(task(run, prepared))]
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2", "PYTHONHASHSEED": "7"}
    done = subprocess.run(
        [sys.executable, "-c", IN_ANOTHER_PROCESS, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "None"
    assert content(tmp_path / "there" / "result-t") == content(train(run, prepared, tmp_path / "here"))


@pytest.mark.parametrize(
    "other",
    [settings(SAM, CNN), settings(SAM, CNN, seed=1, epochs=8, augmentation=FLIP_AND_CROP)],
    ids=["epochs", "seed"],
)
def test_other_settings_give_other_weights(prepared: Path, result: Path, tmp_path: Path, other: RunSettings) -> None:
    other_content = content(train(other, prepared, tmp_path))
    assert other_content["model.safetensors"] != content(result)["model.safetensors"]


def test_weights_in_channels_last_are_saved_in_the_usual_layout(prepared: Path, tmp_path: Path) -> None:
    run = settings(SGD, CNN, memory_format="channels_last")
    result = train(run, prepared, tmp_path)
    running = train_in_memory(run, prepared)
    saved = load_file(result / "model.safetensors")
    for name, tensor in running.model.state_dict().items():
        assert torch.equal(saved[name], tensor)


def test_a_training_that_cannot_read_its_data_says_why(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(AssertionError, match="this data is not prepared"):
        train(RUN, tmp_path / "nowhere", tmp_path)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    rows: list[Any] = []
    append = history.append

    def counting(path: Path, row: Any) -> None:
        rows.append(row)
        append(path, row)

    monkeypatch.setattr(history, "append", counting)
    return lambda: len(rows)


def test_progress_is_appended_after_every_epoch(prepared: Path, tmp_path: Path, counted: Callable[[], int]) -> None:
    run = settings(SGD)
    result = train(run, prepared, tmp_path)
    assert counted() == EPOCHS
    assert (tmp_path / "progress-t.csv").read_text() == (result / "history.csv").read_text()


def test_a_record_does_not_say_where_the_user_s_own_images_lay() -> None:
    own = {"kind": "image_folder", "path": "/home/somebody/pets", "size": 8}
    run = settings(SAM, CNN).model_copy(update={"dataset": DatasetSpec.model_validate({"source": own})})
    assert "somebody" not in json.dumps(run.recorded())
    assert plain(RunSettings.model_validate(run.recorded())) == plain(run)
    assert settings(SAM, CNN).recorded() == settings(SAM, CNN).model_dump(mode="json")
