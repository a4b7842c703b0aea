"""``flatmin plan``: what the study consists of, what is up to date, and what the rest will cost in time and disk."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table

from flatmin import selection
from flatmin.data.errors import DataError
from flatmin.data.manifest import images_folder, read_manifest
from flatmin.data.sources.registry import load as load_source
from flatmin.executor import device_type, workers_wanted
from flatmin.keys import run_identity
from flatmin.planning import read_choices
from flatmin.progress import duration
from flatmin.settings import SELECTED, RunSettings
from flatmin.store import Store
from flatmin.study import Choices, PlannedRun, Study
from flatmin.work import KINDS
from flatmin.workspace import Workspace

MEGABYTE = 1e6


@dataclass
class Forecast:
    """What one table needs: its trials and runs, how many are up to date, and the cost of the others."""

    table: str
    trials: int = 0
    runs: int = 0
    fresh: int = 0
    to_train: list[RunSettings] = field(default_factory=list)
    not_selected: int = 0
    not_prepared: bool = False


def print_plan(study: Study, workspace: Workspace) -> None:
    """Print the plan of the study."""
    forecasts = [forecast(study, table, workspace) for table in study.tables]
    console = Console()
    console.print(_plan_table(study, forecasts))
    waiting = [settings for f in forecasts for settings in f.to_train]
    unknown = sum(f.not_selected for f in forecasts)
    if unknown:
        console.print(
            f"{unknown} runs wait for `select`, which chooses their rho or lr; counted with a value of its grid"
        )
    if any(f.not_prepared for f in forecasts):
        console.print("data is not prepared yet, so nothing can be known to be up to date: all runs are counted")
    if waiting:
        _print_cost(console, waiting, workspace)
    else:
        console.print("everything is trained: `dvc repro` has at most to measure and report")


def forecast(study: Study, table: str, workspace: Workspace) -> Forecast:
    """Return what a table needs."""
    found = Forecast(table)
    store = Store(workspace.state)
    choices = read_choices(workspace.selection(table))
    scored = selection.read_scores(workspace.selection(table))
    trials, runs = list(_trials(study, table, choices)), list(_runs(study, table, choices, found))
    found.trials, found.runs = len(trials), len(runs)
    for run in [*trials, *runs]:
        try:
            key = run_identity(run.settings, workspace.prepared, run.dataset).key
        except DataError:
            found.not_prepared = True
            found.to_train.append(run.settings)
            continue
        published = workspace.runs(table) / f"{run.name}-{key[:8]}" / KINDS["train"].head
        if key in scored or store.entry("train", key).exists() or published.exists():
            found.fresh += 1
        else:
            found.to_train.append(run.settings)
    return found


def _trials(study: Study, table: str, choices: Choices) -> Iterable[PlannedRun]:
    for dataset, model in study.rows(table):
        for method in study.table(table).select:
            for values in study.trials(table, method):
                yield from study.trial_runs(table, dataset, model, method, values, choices)


def _runs(study: Study, table: str, choices: Choices, found: Forecast) -> Iterable[PlannedRun]:
    """Yield the table's runs; where a value is not selected yet, with the first of its grid in its place."""
    spec = study.table(table)
    for dataset, model in study.rows(table):
        for method in spec.methods:
            chosen = study.chosen(table, dataset, model, method, choices)
            missing = _unselected(study, table, method, chosen)
            grids = [spec.select.get(m, {}) for m in (method, study.base_method(table, method) or method)]
            guess = {name: next(grid[name][0] for grid in grids if name in grid) for name in missing}
            for seed in spec.seeds:
                found.not_selected += bool(missing)
                settings = study.resolve(table, dataset, model, method, seed, {**chosen, **guess})
                yield PlannedRun(table, dataset, model, method, seed, settings)


def _unselected(study: Study, table: str, method: str, chosen: selection.Choice) -> list[str]:
    training = study.training(table, method)
    wanted = [name for name in ("lr", "weight_decay") if getattr(training, name) == SELECTED]
    wanted += ["rho"] if study.params.methods[method].rho == SELECTED else []
    return [name for name in wanted if name not in chosen]


def _plan_table(study: Study, forecasts: Sequence[Forecast]) -> Table:
    table = Table(title=f"{study.file}: {', '.join(study.tables)}", title_justify="left")
    for column in ("table", "rows", "methods", "seeds", "trials", "runs", "up to date", "to train"):
        table.add_column(column, justify="left" if column in ("table", "methods") else "right")
    for f in forecasts:
        spec = study.table(f.table)
        rows = len(spec.datasets) * len(spec.models)
        numbers = [f.trials, f.runs, f.fresh, len(f.to_train)]
        table.add_row(f.table, str(rows), _in_short(spec.methods), str(len(spec.seeds)), *map(str, numbers))
    return table


def _in_short(methods: Sequence[str], most: int = 6) -> str:
    if len(methods) <= most:
        return ", ".join(methods)
    return f"{len(methods)}: {', '.join(methods[: most - 1])}, ..., {methods[-1]}"


# --- cost -------------------------------------------------------------------------------------------------------------


def _print_cost(console: Console, waiting: Sequence[RunSettings], workspace: Workspace) -> None:
    workers = workers_wanted(len(waiting))
    speeds = measured_speeds(workspace)
    by_network: dict[str, list[RunSettings]] = defaultdict(list)
    for settings in waiting:
        by_network[network_of(settings, device_type())].append(settings)
    seconds, disk = 0.0, 0.0
    for network, runs in by_network.items():
        source = "runs in the store"
        if network not in speeds:
            source = "a few steps just now"
            speeds[network] = measure_speed(runs[0], workspace)
        work = sum(gradients(settings, workspace) for settings in runs)
        seconds += work * speeds[network]
        disk += len(runs) * 2 * 4 * parameters(runs[0], workspace)
        console.print(
            f"{len(runs)} trainings of {runs[0].model.name}: {work:.3g} image gradients at "
            f"{1 / speeds[network]:,.0f} per second and worker (from {source})",
            highlight=False,
            soft_wrap=True,
        )
    console.print(
        f"about [bold]{duration(seconds / workers)}[/bold] of training on {workers} local workers, "
        f"{disk / MEGABYTE:,.0f} MB of weights",
        highlight=False,
        soft_wrap=True,
    )


def network_of(settings: RunSettings, device: str) -> str:
    """Return what the speed of a training depends on, as a label."""
    training = settings.training
    return json.dumps(
        [device, settings.dataset.source_name, settings.model.model_dump(), training.precision, training.memory_format]
    )


def gradients(settings: RunSettings, workspace: Workspace) -> float:
    """Return how many image gradients a run computes."""
    passes = gradients_per_image(settings)
    dataset = settings.dataset
    images = dataset.train_size or described(settings, workspace).train_images
    return passes * settings.training.epochs * images * (1 - dataset.validation.fraction)


def gradients_per_image(settings: RunSettings) -> float:
    """Return the mean number of gradients of an image per epoch, over the whole run."""
    from flatmin.optim import configured, cost_of

    method = settings.method
    if not method.rho:
        return 1.0
    made = configured(method.ascent, rho=method.rho, **method.options)
    ascending = 1 - made.schedule.rho_start
    return (1 - ascending) + ascending * cost_of(made.ascent, made.regime).gradients


@dataclass(frozen=True)
class ImagesInfo:
    """What an estimate needs to know of a source's images."""

    shape: tuple[int, int, int]
    classes: int
    train_images: int


def described(settings: RunSettings, workspace: Workspace) -> ImagesInfo:
    """Return what is known of a run's images: from their manifest, or before they are here from their description.

    Of images of one's own only the size is known before they are prepared; ten classes and a thousand images are then
    as good a guess as any.
    """
    try:
        manifest = read_manifest(images_folder(workspace.prepared, settings.dataset.source_name), "images")
        channels, height, width = manifest["image_shape"]
        return ImagesInfo((channels, height, width), len(manifest["classes"]), sum(manifest["counts"]["train"]))
    except DataError:
        own = settings.dataset.source
        if not isinstance(own, str):
            return ImagesInfo((own.channels, own.size, own.size), 10, 1000)
        source = load_source(own)
        return ImagesInfo(source.image_shape, len(source.classes), source.train_images)


def measured_speeds(workspace: Workspace) -> dict[str, float]:
    """Return the seconds per image gradient that trainings in the store took, as medians by network."""
    seen: dict[str, list[float]] = defaultdict(list)
    for path in Store(workspace.state).root.glob("train/*/timings.json"):
        try:
            timings = json.loads(path.read_text(encoding="utf-8"))
            record = json.loads(path.with_name(KINDS["train"].head).read_text(encoding="utf-8"))
            settings = RunSettings.model_validate(record["settings"])
            network = network_of(settings, record["environment"]["device"])
            seen[network].append(timings["train_seconds"] / max(1, timings["gradients"]))
        except (OSError, ValueError, KeyError):
            continue
    return {network: statistics.median(values) for network, values in seen.items()}


def measure_speed(settings: RunSettings, workspace: Workspace, steps: int = 3) -> float:
    """Return the seconds per image gradient of a few plain steps on random images: on one thread, or on a GPU."""
    import time

    import torch

    from flatmin.devices import prepared_device
    from flatmin.models.network import network
    from flatmin.training.loop import MEMORY_FORMATS, PRECISIONS

    device = prepared_device(device_type())
    info = described(settings, workspace)
    batch = min(settings.training.batch_size, 64)
    images = torch.randn(batch, *info.shape, device=device).contiguous(
        memory_format=MEMORY_FORMATS[settings.training.memory_format]
    )
    labels = torch.zeros(batch, dtype=torch.long, device=device)
    model = network(settings.model, classes=info.classes, images=images).to(device)
    precision = PRECISIONS[settings.training.precision]
    times = []
    for _ in range(steps):
        start = time.perf_counter()
        with torch.autocast(device.type, dtype=precision, enabled=precision is not None):
            loss = torch.nn.functional.cross_entropy(model(images).float(), labels)
        loss.backward()
        loss.item()  # waits for a GPU
        times.append((time.perf_counter() - start) / batch)
    return min(times)


def parameters(settings: RunSettings, workspace: Workspace) -> int:
    """Return the number of parameters of a run's network, without allocating them."""
    import torch

    from flatmin.models.network import network
    from flatmin.models.size import parameter_count

    info = described(settings, workspace)
    with torch.device("meta"):
        return parameter_count(network(settings.model, classes=info.classes, images=torch.empty(1, *info.shape)))
