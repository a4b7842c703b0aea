"""Trainings of a second on 200 real digits, a part of them wrongly labelled."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flatmin.data.loading import LoadedData, load
from flatmin.data.manifest import draw_folder, images_folder
from flatmin.settings import DatasetSpec, ModelSpec, ResolvedMethod, RunSettings, TrainingSpec
from flatmin.training.loop import Trainer
from flatmin.work import perform
from flatmin.workplace import Workplace

NAME = "digits-noise40"
DATASET = DatasetSpec.model_validate(
    {
        "source": "digits",
        "train_size": 200,
        "noise": {"kind": "symmetric", "rate": 0.4, "definition": "another-class"},
        "validation": {"fraction": 0.2},
    }
)
SEEDS = (0, 1)
EPOCHS, STEPS, IMAGES = 3, 3, 160
"""Epochs, steps per epoch (the last batch is not full), and training images of a tiny run."""

SGD = {"base": "sgd", "ascent": "none"}
SAM = {"base": "sgd", "ascent": "sam", "rho": 0.1}
ASAM = {"base": "sgd", "ascent": "asam", "rho": 1.0}
OTHERS = {
    "looksam": {"base": "sgd", "ascent": "looksam", "rho": 0.1, "options": {"k": 4}},
    "gsam": {"base": "sgd", "ascent": "gsam", "rho": 0.1, "options": {"rho_schedule": "lr", "rho_end": 0.3}},
    "esam": {"base": "sgd", "ascent": "esam", "rho": 0.1},
    "fisher": {"base": "sgd", "ascent": "fisher", "rho": 0.1},
    "random": {"base": "sgd", "ascent": "random", "rho": 0.1},
    "m": {"base": "sgd", "ascent": "sam", "rho": 0.1, "options": {"m": 24}},
    "every": {"base": "sgd", "ascent": "sam", "rho": 0.5, "options": {"every": 4, "steps": 2}},
    "late": {"base": "adam", "ascent": "asam", "rho": 1.0, "options": {"rho_start": 0.5, "fraction": 0.5}},
}
"""Methods by what is new in them: a memory, a schedule, parts of the batch, drawn numbers, a rhythm."""
ADAMW_SAM = {"base": "adamw", "ascent": "sam", "rho": 0.1}
MLP = {"name": "mlp", "args": {"hidden": [16]}}
CNN = {"name": "cifar_cnn", "args": {"widths": [8, 16]}}
FLIP_AND_CROP = {"flip": True, "pad": 1}
ALL_AUGMENTATION = {
    **FLIP_AND_CROP,
    "policy": "trivialaugment",
    "cutout": 4,
    "erasing": 0.5,
    "mixup": 0.5,
    "cutmix": 1.0,
}
FILES = ("record.json", "history.csv", "model.safetensors", "best.safetensors")


def prepare(root: Path) -> Path:
    """Prepare the digits and their draws below ``root``, as the stage does."""
    images = images_folder(root, "digits")
    _make("images", {"source": "digits", "raw": str(root)}, images, root / "work")
    for seed in SEEDS:
        task = {"spec": DATASET.model_dump(mode="json"), "images": str(images), "seed": seed}
        _make("draw", task, draw_folder(root, NAME, seed), root / "work")
    return root


def _make(kind: str, task: dict[str, Any], target: Path, folder: Path) -> None:
    workplace = Workplace(folder, kind)
    workplace.take()
    reason = perform(kind, "key", task, workplace, folder / "log")
    assert reason is None, reason
    target.parent.mkdir(parents=True, exist_ok=True)
    workplace.result.rename(target)


def settings(
    method: dict[str, Any] = SAM, model: dict[str, Any] = MLP, *, seed: int = 0, **training: Any
) -> RunSettings:
    return RunSettings(
        dataset=DATASET,
        model=ModelSpec.model_validate(model),
        method=ResolvedMethod.model_validate(method),
        training=TrainingSpec.model_validate({"epochs": EPOCHS, "batch_size": 64, "lr": 0.05, **training}),
        seed=seed,
    )


def task(run: RunSettings, prepared: Path) -> dict[str, Any]:
    identity = {"data": "d", "code": "c"}
    return {
        "settings": run.model_dump(mode="json"),
        "dataset": NAME,
        "prepared": str(prepared),
        "identity": identity,
    }


def train(run: RunSettings, prepared: Path, folder: Path, token: str = "t") -> Path:
    """Train a run in a work folder, resuming what was begun there; return the sealed result."""
    workplace = Workplace(folder, token)
    workplace.take()
    torch.manual_seed(zlib.crc32(token.encode()))  # what a process has drawn before must not matter
    reason = perform("train", "key", task(run, prepared), workplace, folder / "log")
    assert reason is None, (folder / "log").read_text()
    return workplace.result


def content(result: Path) -> dict[str, bytes]:
    """The files of a run, but for its measured seconds."""
    return {name: (result / name).read_bytes() for name in FILES}


def data(run: RunSettings, prepared: Path) -> LoadedData:
    return load(prepared, NAME, "digits", run.seed)


def trainer(run: RunSettings, prepared: Path) -> Trainer:
    torch.set_num_threads(1)
    return Trainer(run, data(run, prepared), torch.device("cpu"))


def train_in_memory(run: RunSettings, prepared: Path) -> Trainer:
    running = trainer(run, prepared)
    running.train(lambda: None, lambda row: None)
    return running


def pixels(images: Tensor, loaded: LoadedData) -> Tensor:
    """The network's input in numpy's float64 arithmetic, an independent way to normalise."""
    mean, std = loaded.mean.double().numpy(), loaded.std.double().numpy()
    scaled = (images.numpy().astype(np.float64) / 255 - mean[:, None, None]) / std[:, None, None]
    return torch.from_numpy(scaled)
