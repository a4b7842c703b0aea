"""A study whose effects are known: frames as the pipeline hands them over, made from a few numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from flatmin.results.inputs import MEASURED, MethodInfo, RowInfo, TableInfo

ASCENTS = {"sgd": "none", "sgd-2x": "none", "sam": "sam", "asam": "asam", "sam-rho2": "sam"}
RHOS = {"sam": 0.5, "asam": 2.0, "sam-rho2": 2.0}
GRADIENTS = {"sgd": 1, "sgd-2x": 2}

DIGITS = RowInfo(source="digits", model="mlp", epochs=30, batch_size=64, parameters=30_000)
NOISY = replace(DIGITS, noise_kind="symmetric", noise_rate=0.6, noise_definition="another-class")
WRN = RowInfo(
    source="cifar10",
    model="wrn28_10",
    epochs=200,
    augmentation="basic",
    batch_size=256,
    lr=0.1,
    weight_decay=5e-4,
    parameters=36_500_000,
)


def make_table(
    name: str,
    rows: dict[tuple[str, str], RowInfo],
    methods: Sequence[str] = ("sgd", "sgd-2x", "sam", "asam"),
    seeds: int = 5,
    m: int | None = None,
    **changes: object,
) -> TableInfo:
    """A table with the given rows; methods ending in -2x train twice as long."""
    epochs = next(iter(rows.values())).epochs
    info = {
        method: MethodInfo(epochs=2 * epochs if method.endswith("-2x") else None, m=m if "sam" in method else None)
        for method in methods
    }
    table = TableInfo(
        name=name,
        title=f"Table {name}",
        datasets=tuple(dict.fromkeys(dataset for dataset, _ in rows)),
        models=tuple(dict.fromkeys(model for _, model in rows)),
        methods=tuple(methods),
        seeds=tuple(range(seeds)),
        baseline=tuple(method for method in methods if method.startswith("sgd")),
        rows=rows,
        method_info=info,
    )
    return replace(table, **changes)  # type: ignore[arg-type]


def make_runs(
    table: TableInfo,
    accuracy: dict[str, float],
    early: dict[str, float] | None = None,
    spread: float = 0.004,
    sharpness: dict[str, float] | None = None,
    gaps: dict[str, Sequence[float]] | None = None,
) -> pd.DataFrame:
    """Runs with mean ``accuracy`` by method (a fraction), seeds sharing most of their deviation as paired runs do.

    ``gaps`` sets a method's differences from the first method's accuracy exactly, one per seed.
    """
    rng = np.random.default_rng(7)
    early, sharpness, gaps = early or {}, sharpness or {}, gaps or {}
    lines = []
    for dataset, model in table.row_keys:
        common = rng.normal(0, spread, len(table.seeds))
        first: dict[int, float] = {}
        for method in table.methods:
            for index, seed in enumerate(table.seeds):
                last = accuracy[method] + common[index] + rng.normal(0, spread / 3)
                last = first.setdefault(seed, last) if method == table.methods[0] else last
                if method in gaps:
                    last = first[seed] + gaps[method][index]
                stopped = early.get(method, accuracy[method] + 0.004) + common[index] + rng.normal(0, spread / 3)
                flat = sharpness.get(method, 0.4 if ASCENTS[method] == "none" else 0.1) * np.exp(rng.normal(0, 0.15))
                lines.append(_line(table, dataset, model, method, seed, last, stopped, flat))
    return pd.DataFrame(lines)


def _line(
    table: TableInfo, dataset: str, model: str, method: str, seed: int, last: float, early: float, sharpness: float
) -> dict[str, object]:
    epochs = table.epochs_of((dataset, model), method)
    assert epochs is not None
    per_epoch = 1200 * (1 if ASCENTS[method] == "none" else 2)
    line: dict[str, object] = dict.fromkeys(MEASURED, 0.1)
    return line | {
        "table": table.name,
        "dataset": dataset,
        "model": model,
        "method": method,
        "seed": seed,
        "run_id": f"{dataset}.{model}.{method}.s{seed}-0123abcd",
        "key": f"{table.name}{method}{seed}",
        "base": "sgd",
        "ascent": ASCENTS[method],
        "rho": RHOS.get(method, 0.0),
        "tuned": "selected" if method in ("sam", "asam") else ("not tuned" if method in RHOS else ""),
        "device": "cpu",
        "torch": "2.9.0",
        "timm": "1.0.22",
        "train_accuracy": min(1.0, last + 0.05),
        "memorised": 0.2 if table.rows[(dataset, model)].noise_rate else float("nan"),
        "epochs": epochs,
        "diverged": 0,
        "skipped_steps": 0,
        "gradients": epochs * per_epoch,
        "test_accuracy": last,
        "test_error": 1 - last,
        "early_test_accuracy": early,
        "early_test_error": 1 - early,
        "sharpness_first_order": sharpness / 3,
        "sharpness_one_step": sharpness / 2,
        "sharpness_n_step": sharpness,
        "sharpness_steps": 10,
        "sharpness_rho": 0.05,
    }


def make_histories(runs: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Curves that rise to a run's accuracy, and fall back where early stopping was better."""
    histories = {}
    for run in runs.itertuples(index=False):
        epoch = np.arange(1, int(run.epochs) + 1)
        rise = 1 - np.exp(-epoch / (0.12 * len(epoch)))
        peak = max(run.test_accuracy, run.early_test_accuracy)
        fall = (peak - run.test_accuracy) * np.clip((epoch / len(epoch) - 0.3) / 0.7, 0, 1)
        histories[run.run_id] = pd.DataFrame(
            {
                "epoch": epoch,
                "lr": 0.1,
                "train_loss": 1.0,
                "train_accuracy": run.train_accuracy * rise,
                "validation_loss": 1.0,
                "validation_accuracy": peak * rise - fall,
                "memorised": 0.1,
                "gradient_norm": 1.0,
                "skipped_steps": 0,
            }
        )
    return histories


def make_seconds(runs: pd.DataFrame) -> pd.DataFrame:
    """Ten microseconds per gradient."""
    return runs[["table", "run_id"]].assign(train_seconds=runs["gradients"] * 1e-5)


def make_study() -> tuple[pd.DataFrame, dict[str, TableInfo]]:
    """Two tables: digits without and with noise, where SAM gains much that early stopping mostly takes away."""
    clean = ("digits-noise0", "mlp")
    noisy = ("digits-noise60", "mlp")
    quick = make_table(
        "quick",
        {clean: DIGITS, noisy: NOISY},
        title="Does SAM help on handwritten digits, with and without wrong labels?",
        notes={noisy: ["validation labels noisy", "rho selected: sam 0.5, asam 2"]},
    )
    full = make_table("table1", {("cifar10", "wrn28_10"): WRN}, m=32, title="WRN-28-10 on CIFAR-10", metric="error")
    parts = [
        make_runs(quick, {"sgd": 0.955, "sgd-2x": 0.957, "sam": 0.958, "asam": 0.96}),
        make_runs(
            full,
            {"sgd": 0.964, "sgd-2x": 0.966, "sam": 0.974, "asam": 0.975},
            spread=0.001,
            sharpness={"sgd": 0.5, "sgd-2x": 0.55, "sam": 0.12, "asam": 0.2},
        ),
    ]
    last = {"sgd": 0.41, "sgd-2x": 0.40, "sam": 0.84, "asam": 0.80}
    early = {"sgd": 0.80, "sgd-2x": 0.79, "sam": 0.86, "asam": 0.85}
    loud = make_runs(quick, last, early, spread=0.02)
    parts[0] = pd.concat([parts[0].query("dataset == @clean[0]"), loud.query("dataset == @noisy[0]")])
    return pd.concat(parts, ignore_index=True), {"quick": quick, "table1": full}
