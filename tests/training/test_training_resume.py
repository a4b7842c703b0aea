"""A run that is interrupted anywhere ends in the same bytes as an unbroken one."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import (
    ADAMW_SAM,
    ALL_AUGMENTATION,
    ASAM,
    CNN,
    EPOCHS,
    FLIP_AND_CROP,
    MLP,
    OTHERS,
    SAM,
    SGD,
    STEPS,
    content,
    settings,
    task,
    train,
    train_in_memory,
    trainer,
)

from flatmin.progress import RowReader
from flatmin.settings import RunSettings
from flatmin.training import checkpoint
from flatmin.training import run as training_run
from flatmin.work import perform
from flatmin.workplace import Workplace

RUNS: dict[str, RunSettings] = {
    "sgd": settings(SGD),
    "sam": settings(SAM),
    "asam": settings(ASAM),
    "adamw+sam": settings(ADAMW_SAM, lr=0.001),
    "augmentation": settings(SAM, augmentation=FLIP_AND_CROP),
    "all augmentation": settings(SAM, augmentation=ALL_AUGMENTATION, label_smoothing=0.1),
    "batch norm": settings(SAM, CNN),
    "dropout": settings(SAM, {"name": "mlp", "args": {"hidden": [16], "drop_rate": 0.5}}),
    "shaken branches": settings(SAM, {"name": "shake_shake26_2x32d", "args": {"depth": 8, "width": 4}}),
    "shaken branches, fresh": settings(
        {**SAM, "options": {"masks": "fresh", "true_gradient": "never"}},
        {"name": "pyramidnet110_a270_sd", "args": {"depth": 8, "alpha": 6}},
    ),
    "bf16, channels last": settings(SAM, CNN, precision="bf16", memory_format="channels_last"),
    "clipping, warm-up": settings(SAM, clip_norm=0.5, warmup_epochs=1.5, label_smoothing=0.1),
    **{name: settings(method) for name, method in OTHERS.items()},
    "norm layers": settings({**SAM, "options": {"only": "norm", "depth": 3.0}}, CNN),
    "decay in the loss, micro-batches": settings(SAM, CNN, weight_decay_in="loss", micro_batch=24),
    "fp16": settings(SAM, CNN, precision="fp16"),
    "diverging": settings(SGD, lr=1e30, patience=5),
}
CHECKPOINTS = EPOCHS * STEPS


class Killed(BaseException):
    """Ends a training as a kill does: nothing in it runs any more."""


class KillSwitch:
    """Kills the training right after so many checkpoints."""

    def __init__(self) -> None:
        self.left = float("inf")

    def save(self, path: Path, state: dict[str, Any]) -> None:
        checkpoint_save(path, state)
        self.left -= 1
        if self.left == 0:
            raise Killed


checkpoint_save = checkpoint.save


@pytest.fixture
def kill(monkeypatch: pytest.MonkeyPatch) -> KillSwitch:
    """Checkpoints after every step, and the switch."""
    switch = KillSwitch()
    monkeypatch.setattr(training_run, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(checkpoint, "save", switch.save)
    return switch


@pytest.fixture(scope="session")
def unbroken(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bytes]]:
    folder = tmp_path_factory.mktemp("unbroken")
    return {name: content(train(run, prepared, folder / str(i))) for i, (name, run) in enumerate(RUNS.items())}


def interrupted(run: RunSettings, prepared: Path, folder: Path, kill: KillSwitch, after: tuple[int, ...]) -> Path:
    for attempt, checkpoints in enumerate(after):
        kill.left = checkpoints
        with pytest.raises(Killed):
            train(run, prepared, folder, f"attempt {attempt}")
    kill.left = float("inf")
    return train(run, prepared, folder, "last attempt")


@pytest.mark.parametrize("name", [name for name in RUNS if name != "diverging"])
def test_a_run_killed_after_any_step_ends_in_the_same_bytes(
    prepared: Path, tmp_path: Path, kill: KillSwitch, unbroken: dict[str, dict[str, bytes]], name: str
) -> None:
    for step in range(1, CHECKPOINTS + 1):
        result = interrupted(RUNS[name], prepared, tmp_path / str(step), kill, (step,))
        assert content(result) == unbroken[name], f"killed after step {step}"


@pytest.mark.parametrize("after", [(1, 1), (2, 3), (3, 3), (8, 1), (1, 1, 1, 1, 1)])
@pytest.mark.parametrize("name", ["augmentation", "dropout"])
def test_a_run_killed_repeatedly_ends_in_the_same_bytes(
    prepared: Path,
    tmp_path: Path,
    kill: KillSwitch,
    unbroken: dict[str, dict[str, bytes]],
    name: str,
    after: tuple[int, ...],
) -> None:
    assert content(interrupted(RUNS[name], prepared, tmp_path, kill, after)) == unbroken[name]


def test_a_diverging_run_killed_between_two_skipped_steps_ends_in_the_same_bytes(
    prepared: Path, tmp_path: Path, kill: KillSwitch, unbroken: dict[str, dict[str, bytes]]
) -> None:
    assert content(interrupted(RUNS["diverging"], prepared, tmp_path, kill, (3,))) == unbroken["diverging"]


def test_a_resumed_run_does_not_repeat_finished_steps(
    prepared: Path, tmp_path: Path, kill: KillSwitch, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = itertools.count(1)
    step = training_run.Trainer._step
    monkeypatch.setattr(training_run.Trainer, "_step", lambda *args: (next(steps), step(*args)))
    interrupted(RUNS["sam"], prepared, tmp_path, kill, (5,))
    assert next(steps) == CHECKPOINTS + 1


@pytest.mark.parametrize("damage", ["cut off", "other bytes", "empty"])
def test_a_run_with_a_damaged_checkpoint_starts_anew(
    prepared: Path, tmp_path: Path, kill: KillSwitch, unbroken: dict[str, dict[str, bytes]], damage: str
) -> None:
    kill.left = 5
    with pytest.raises(Killed):
        train(RUNS["sam"], prepared, tmp_path)
    path = tmp_path / "checkpoint.pt"
    whole = path.read_bytes()
    damaged = {"cut off": whole[: len(whole) // 2], "other bytes": b"\x00" * len(whole), "empty": b""}
    path.write_bytes(damaged[damage])
    kill.left = float("inf")
    assert content(train(RUNS["sam"], prepared, tmp_path)) == unbroken["sam"]


def test_a_crash_while_a_checkpoint_is_written_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(path, {"step": 1})

    def torn(state: dict[str, Any], file: Any) -> None:
        file.write(b"half")
        raise Killed

    monkeypatch.setattr(torch, "save", torn)
    with pytest.raises(Killed):
        checkpoint.save(path, {"step": 2})
    assert checkpoint.load(path, torch.device("cpu")) == {"step": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_no_checkpoint_is_loaded_from_where_there_is_none(tmp_path: Path) -> None:
    assert checkpoint.load(tmp_path / "checkpoint.pt", torch.device("cpu")) is None


def test_a_short_run_writes_no_checkpoint(prepared: Path, tmp_path: Path) -> None:
    train(RUNS["sgd"], prepared, tmp_path)
    assert not (tmp_path / "checkpoint.pt").exists()


def test_the_seconds_of_all_attempts_are_counted(prepared: Path, tmp_path: Path, kill: KillSwitch) -> None:
    clock = training_run._Clock(trainer(RUNS["sgd"], prepared), Workplace(tmp_path, "t"))
    clock.started -= 100.0
    clock.workplace.take()
    clock.after_step()
    later = training_run._Clock(trainer(RUNS["sgd"], prepared), Workplace(tmp_path, "t"))
    later.resume()
    assert 100.0 <= later.seconds < 150.0


def test_the_progress_of_a_resumed_run_begins_with_the_epochs_before(
    prepared: Path, tmp_path: Path, kill: KillSwitch
) -> None:
    interrupted(RUNS["sgd"], prepared, tmp_path, kill, (STEPS + 1,))
    rows = RowReader(Workplace(tmp_path, "last attempt").progress).new_rows()
    assert [row["epoch"] for row in rows] == [1.0, 2.0, 3.0]


def test_a_worker_whose_lease_is_lost_stops_before_it_writes_a_checkpoint(
    prepared: Path, tmp_path: Path, kill: KillSwitch, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = Workplace(tmp_path, "old"), Workplace(tmp_path, "new")
    old.take()
    step, steps = training_run.Trainer._step, itertools.count(1)

    def overtaken(*args: Any) -> None:
        step(*args)
        if next(steps) == 4:
            shutil.copy(old.checkpoint, tmp_path / "before")
            new.take()

    monkeypatch.setattr(training_run.Trainer, "_step", overtaken)
    reason = perform("train", "key", task(RUNS["sgd"], prepared), old, tmp_path / "log")
    assert reason is not None
    assert reason.startswith("LeaseLostError")
    assert next(steps) == 5
    assert old.checkpoint.read_bytes() == (tmp_path / "before").read_bytes()
    assert not (old.result / "record.json").exists()


def test_a_trainer_goes_back_to_its_state_whatever_it_did_since(prepared: Path, tmp_path: Path) -> None:
    run = settings(SAM, MLP, augmentation=FLIP_AND_CROP)
    path = tmp_path / "checkpoint.pt"
    running = trainer(run, prepared)
    running.train(lambda: None if path.exists() else checkpoint.save(path, running.state_dict()), lambda row: None)
    running.load_state_dict(checkpoint.load(path, torch.device("cpu")) or {})
    running.train(lambda: None, lambda row: None)
    expected = train_in_memory(run, prepared)
    assert running.rows == expected.rows
    assert all(torch.equal(a, b) for a, b in zip(running.model.parameters(), expected.model.parameters(), strict=True))
