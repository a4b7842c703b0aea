"""What a table shows beyond its own test set: new images, human judgements, and corruptions at their severities."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pandas as pd

from flatmin.results.block import Block
from flatmin.results.cells import PERCENT, Row, select
from flatmin.results.failures import difference
from flatmin.results.inputs import TableInfo
from flatmin.results.statistics import Interval, mean_interval
from flatmin.results.wording import count, difference_text, mean_text

COLUMNS = (
    "table",
    "dataset",
    "model",
    "method",
    "seed",
    "test_set",
    "title",
    "form",
    "epoch",
    "corruption",
    "severity",
    "main",
    "diverged",
    "accuracy",
    "error",
    "nll",
    "ece",
)
"""Of the frame of shifted measurements: a line per run, test set and epoch (``last``, ``early``), and in a suite also
per corruption and severity. ``form`` is ``images``, ``people`` or ``corruptions``; ``main`` marks the corruptions that
count for the mean corruption error. Measurements are fractions and nats."""

MEASURED = ("accuracy", "error", "nll", "ece")

_OF_SEED = ["method", "seed"]


def blocks(shifts: pd.DataFrame, table: TableInfo, rows: Sequence[Row]) -> list[Block]:
    """Return the printed parts: all test sets, differences from the baseline, and each corruption, if there is any."""
    own = shifts[(shifts["table"] == table.name) & (shifts["epoch"] == "last")]
    if own.empty:
        return []
    found = [_overview(own, table, rows), _differences(own, table, rows)]
    if (own["form"] == "corruptions").any():
        found.append(_by_corruption(own, table, rows))
    return found


def shift_csv(shifts: pd.DataFrame, table: str) -> str:
    """Return what a table's runs measure beyond its own test set, in full precision, by method and condition.

    Means over seeds are in percent (``nll`` in nats), each with its half-width and the runs behind it (``_n``), beside
    all runs (``n``). What is printed and computed from several conditions of a run follows from the runs and not from
    these means, so it is not here: means over a suite, errors relative to a baseline, differences from it.
    """
    keys = [name for name in COLUMNS if name not in ("table", "seed", "diverged", *MEASURED)]
    lines = []
    for values, group in shifts[shifts["table"] == table].groupby(keys, sort=False):
        line = dict(zip(keys, values, strict=True)) | {"n": len(group)}
        for name in MEASURED:
            unit = "nll" if name == "nll" else f"{name}_percent"
            interval = mean_interval(group[name].to_numpy(dtype=float) * (1 if name == "nll" else PERCENT))
            line |= {f"{unit}_mean": interval.mean, f"{unit}_half_width": interval.half_width}
            line[f"{unit}_n"] = interval.n
        lines.append(line)
    return str(pd.DataFrame(lines).to_csv(index=False, lineterminator="\n"))


def by_seed(shifts: pd.DataFrame, measure: str) -> pd.Series:
    """Return a measure of one row and test set by (method, seed): of a suite, the mean over what counts for it.

    The mean of ``error`` over all corruptions and severities is the mean corruption error (mCE) of the CIFAR
    literature. A run that lacks a value has none.
    """
    counted = shifts[shifts["main"]] if shifts["main"].any() else shifts
    return counted.groupby(_OF_SEED)[measure].agg(lambda values: values.mean(skipna=False))


def relative_mce(shifts: pd.DataFrame, baseline: str) -> pd.Series:
    """Return the corruption errors relative to a baseline method, by (method, seed); 1 is as many errors as it makes.

    Of each corruption the errors are summed over severities and divided by the baseline's sum at the same seed; the
    mean over corruptions is the mCE of Hendrycks and Dietterich (2019, section 4), with the baseline in the place of
    AlexNet.
    """
    counted = shifts[shifts["main"]] if shifts["main"].any() else shifts
    sums = counted.groupby([*_OF_SEED, "corruption"])["error"].sum(min_count=1).reset_index()
    unit = sums[sums["method"] == baseline].set_index(["seed", "corruption"])["error"]
    against = pd.MultiIndex.from_frame(sums[["seed", "corruption"]])
    sums["ratio"] = sums["error"] / unit.reindex(against).replace(0, np.nan).to_numpy()
    return sums.groupby(_OF_SEED)["ratio"].agg(lambda values: values.mean(skipna=False))


def _overview(own: pd.DataFrame, table: TableInfo, rows: Sequence[Row]) -> Block:
    body = []
    for row, test_set, shown in _test_sets(own, rows):
        form = shown["form"].iloc[0]
        measures = [("accuracy %", by_seed(shown, "accuracy") * PERCENT)]
        if form == "corruptions":
            measures = [("mCE %", by_seed(shown, "error") * PERCENT)]
            if row.baseline:
                measures.append((f"mCE / {row.baseline}'s, %", relative_mce(shown, row.baseline) * PERCENT))
        if form == "people":
            measures.append(("cross-entropy, nats", by_seed(shown, "nll")))
        measures.append(("calibration error %", by_seed(shown, "ece") * PERCENT))
        for name, values in measures:
            decimals = 3 if "nats" in name else 2
            texts = (mean_text(_interval(values, method), decimals) for method in table.methods)
            body.append((row.dataset, row.model, test_set, name, *texts))
    caption = (
        "Beyond the test set, at the last epoch: mean ± 95% half-width over seeds (runs). mCE is the mean error over "
        f"{_conditions(own)}; divided by the baseline's, corruption by corruption, 100 is as many errors as it makes "
        "(none where it makes no error at all in one of them)."
        if (own["form"] == "corruptions").any()
        else "Beyond the test set, at the last epoch: mean ± 95% half-width over seeds (runs)."
    )
    if (own["form"] == "people").any():
        caption += " Against human labels, accuracy is that of the class that most people saw."
    return Block(caption, ("dataset", "model", "test set", "measure", *table.methods), tuple(body), 4)


def _differences(own: pd.DataFrame, table: TableInfo, rows: Sequence[Row]) -> Block:
    compared = [method for method in table.methods if table.baseline != (method,)]
    body = []
    for row, test_set, shown in _test_sets(own, rows):
        accuracy = by_seed(shown, "accuracy") * PERCENT
        failed = shown.groupby(_OF_SEED)["diverged"].any()
        texts = (_difference(accuracy, method, row.baseline, failed) for method in compared)
        body.append((row.dataset, row.model, test_set, row.baseline or "none", *texts))
    caption = (
        "Accuracy difference from the baseline in points beyond the test set (of a suite, its mean accuracy), paired "
        "over seeds, with 95% interval, two-sided p (and the number of pairs). The baseline is that of the row's own "
        "test set."
    )
    return Block(caption, ("dataset", "model", "test set", "baseline", *compared), tuple(body), 4)


def _difference(accuracy: pd.Series, method: str, baseline: str | None, failed: pd.Series) -> str:
    if method == baseline:
        return "baseline"
    methods = accuracy.index.get_level_values("method")
    if baseline is None or not {method, baseline} <= {*methods}:
        return "–"
    gaps = (accuracy[method] - accuracy[baseline]).dropna()
    if gaps.empty:
        return "–"
    hit = [any(failed.get((of, seed), False) for of in (method, baseline)) for seed in gaps.index]
    return difference_text(difference(gaps.to_numpy(), np.array(hit)))


def _by_corruption(own: pd.DataFrame, table: TableInfo, rows: Sequence[Row]) -> Block:
    body = []
    for row, test_set, shown in _test_sets(own[own["form"] == "corruptions"], rows):
        counted = shown[shown["main"]] if shown["main"].any() else shown
        for rows_of, column, label in ((shown, "corruption", str), (counted, "severity", "severity {}".format)):
            for value, part in rows_of.groupby(column, sort=False):
                errors = part.groupby(_OF_SEED)["error"].mean() * PERCENT
                texts = (mean_text(_interval(errors, method), 1) for method in table.methods)
                body.append((row.dataset, row.model, test_set, _named(label, value), *texts))
    caption = (
        "Errors in % at the last epoch, by corruption (mean over severities) and by severity (mean over those that "
        "count for the mCE): mean ± 95% half-width over seeds (runs). Every corruption at every severity is in the csv."
    )
    return Block(caption, ("dataset", "model", "test set", "corruption", *table.methods), tuple(body), 4)


def _named(label: Callable[[object], str], value: object) -> str:
    return label(value).replace("_", " ")


def _test_sets(own: pd.DataFrame, rows: Sequence[Row]) -> Iterator[tuple[Row, str, pd.DataFrame]]:
    """Yield each row's test sets: the row, what the set is called, its measurements."""
    for row in rows:
        for title, shown in select(own, row.key).groupby("title", sort=False):
            yield row, str(title), shown


def _interval(values: pd.Series, method: str) -> Interval:
    known = method in values.index.get_level_values("method")
    return mean_interval(values[method].to_numpy(dtype=float) if known else np.array([]))


def _conditions(own: pd.DataFrame) -> str:
    suites = own[own["form"] == "corruptions"]
    counted = suites[suites["main"]] if suites["main"].any() else suites
    severities = counted["severity"].nunique()
    at = "one severity" if severities == 1 else f"{severities} severities"
    return f"{count(counted['corruption'].nunique(), 'corruption')} at {at}"
