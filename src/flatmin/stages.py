"""The stages up to the measurements, each as one function: bring its outputs up to date, or say what failed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from flatmin import data_items, selection, weight_items
from flatmin.collect import planned_view
from flatmin.driver import driver_lock
from flatmin.executor import Executor
from flatmin.fanout import FailedItemsError, Item, Observer, Outcome, bring_up_to_date
from flatmin.planning import (
    KeyedRun,
    NotReadyError,
    evaluate_items,
    planned_runs,
    sharpness_items,
    train_items,
    trained,
)
from flatmin.progress import ShowProgress
from flatmin.records import read_head
from flatmin.selection import Score, Scores, Trial
from flatmin.store import Store
from flatmin.study import Study
from flatmin.tracking import LiveView
from flatmin.workspace import Workspace


@dataclass(frozen=True)
class Stages:
    """The stages of one study in one folder."""

    study: Study
    workspace: Workspace

    def download(self) -> None:
        """Bring the verified files of every source that the study needs, and weights that runs start from."""
        files = data_items.download_items(self.study, self.workspace)
        items = [*files, *weight_items.hub_items(self.study, self.workspace)]
        self._stage("download", items, [self.workspace.raw])

    def prepare(self) -> None:
        """Write the images of every source, the draws of every dataset, further test sets, weights to start from."""
        images = data_items.images_items(self.study, self.workspace)
        with driver_lock(self.workspace.state, "prepare"):
            self._run("prepare images", images)
            draws = data_items.draw_items(self.study, self.workspace)
            tests = data_items.test_set_items(self.study, self.workspace)
            weights = weight_items.weights_items(self.study, self.workspace)
            what = ["draws", *(["test sets"] if tests else []), *(["weights"] if weights else [])]
            self._run(f"prepare {' and '.join(what)}", [*images, *draws, *tests, *weights], [self.workspace.prepared])

    def select(self, table: str) -> None:
        """Choose the table's selected values on validation data and write them, with all trials."""
        path = self.workspace.selection(table)
        known = selection.read_scores(path)
        choices: dict[tuple[str, str, str], selection.Choice] = {}
        trials: list[Trial] = []
        scores: Scores = {}
        with driver_lock(self.workspace.state, f"select {table}"), Executor() as executor:
            for methods in selection.phases(self.study, table):
                phase = selection.plan_trials(self.study, table, methods, choices, self.workspace)
                scores |= self._scores(f"select@{table} {', '.join(methods)}", phase, known, executor)
                choices |= selection.choose(phase, scores)
                trials += phase
        selection.write(path, self.study, table, trials, scores, choices)
        for (dataset, model, method), chosen in choices.items():
            edge = selection.on_edge(self.study, table, method, chosen)
            values = ", ".join(f"{name} {value:g}" for name, value in chosen.items())
            warning = f"  ({' and '.join(edge)} on the edge of the grid: widen it)" if edge else ""
            print(f"select@{table}: {dataset} {model} {method}: {values}{warning}")

    def _scores(self, stage: str, trials: Sequence[Trial], known: Scores, executor: Executor) -> Scores:
        runs = {run.key: run for trial in trials for run in trial.runs}
        scores = {key: known[key] for key in runs if key in known}
        missing = [run for key, run in runs.items() if key not in scores]
        if missing:
            self._run(stage, train_items(missing, self.workspace, published=False), executor=executor)
        store = Store(self.workspace.state)
        for run in missing:
            result = read_head(store.entry("train", run.key) / "record.json")["result"]
            scores[run.key] = Score(result["validation_accuracy"], result["diverged"])
        return scores

    def train(self, table: str) -> None:
        """Train the table's runs."""
        runs = planned_runs(self.study, table, self.workspace)
        for line in self._not_tuned(table, runs):
            print(line)
        live = LiveView(self.workspace.root, {run.key: planned_view(run) for run in runs})
        folders = [self.workspace.runs(table), self.workspace.timings(table)]
        self._stage(f"train@{table}", train_items(runs, self.workspace), folders, [live])

    def _not_tuned(self, table: str, runs: Sequence[KeyedRun]) -> list[str]:
        hand_written = {
            (run.plan.dataset, run.plan.model, run.plan.method): run.plan.settings.method.rho
            for run in runs
            if run.plan.tuned == "not tuned"
        }
        return [
            f"train@{table}: {dataset} {model} {method}: rho {rho:g} is hand-written, not tuned"
            for (dataset, model, method), rho in hand_written.items()
        ]

    def evaluate(self, table: str) -> None:
        """Measure the table's runs on test data."""
        self._measure("evaluate", table, evaluate_items, self.workspace.evaluations(table))

    def sharpness(self, table: str) -> None:
        """Measure the sharpness of the table's runs."""
        self._measure("sharpness", table, sharpness_items, self.workspace.sharpness(table))

    def _measure(self, stage: str, table: str, items: Callable[..., list[Item]], folder: Path) -> None:
        runs, missing = trained(planned_runs(self.study, table, self.workspace), self.workspace)
        if not runs:
            raise NotReadyError(f"no run of {table} is trained: run `flatmin train {table}` (or `dvc repro`)")
        if missing:
            print(f"{stage}@{table}: {len(missing)} of {len(runs) + len(missing)} runs are not trained and left out")
        self._stage(f"{stage}@{table}", items(runs, self.study, self.workspace), [folder])

    def _stage(
        self, name: str, items: Sequence[Item], folders: Sequence[Path], observers: Sequence[Observer] = ()
    ) -> None:
        with driver_lock(self.workspace.state, name):
            self._run(name, items, folders, observers)

    def _run(
        self,
        name: str,
        items: Sequence[Item],
        folders: Sequence[Path] = (),
        observers: Sequence[Observer] = (),
        executor: Executor | None = None,
    ) -> Outcome:
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
        outcome = bring_up_to_date(
            items,
            folders=folders,
            observers=[ShowProgress(name), *observers],
            executor=executor,
            state=self.workspace.state,
        )
        if outcome.failed:
            raise FailedItemsError(name, outcome)
        return outcome
