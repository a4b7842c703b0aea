"""Figures: what is drawn is what was computed, its words are true, and it can be read without colour."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import replace
from html import unescape
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from synthetic import DIGITS, NOISY, make_histories, make_runs, make_study, make_table

from flatmin.results.blocks import Layout, layout
from flatmin.results.claim_spec import ClaimSpec, load_claims
from flatmin.results.claims import judge
from flatmin.results.figures.claims import Line, claims_forest
from flatmin.results.figures.comparisons import differences, last_and_early
from flatmin.results.figures.corruptions import corruption_heat, heats
from flatmin.results.figures.curves import band, learning_curves, memorisation
from flatmin.results.figures.drawn import Drawn, extremes, log_ticks, runs_each, sentences, short
from flatmin.results.figures.every import every_figure
from flatmin.results.figures.noise import noise_robustness, series
from flatmin.results.figures.scatter import against_cost, against_sharpness, front
from flatmin.results.figures.sweeps import m_sweep, rho_sweep, sweeps
from flatmin.results.inputs import MethodInfo, TableInfo, measured
from flatmin.results.shift import COLUMNS
from flatmin.results.statistics import Interval, mean_interval
from flatmin.results.style import COLOURS, looks, luminance

CLEAN, NOISE = ("digits-noise0", "mlp"), ("digits-noise60", "mlp")
RATES = (0.0, 0.2, 0.4, 0.6)
RHOS = {"sam": 0.05, "sam-rho1": 0.1, "sam-rho2": 0.5, "sam-rho3": 2.0}
MS = {"sam": None, "sam-m16": 16, "sam-m32": 32}


def noise_study() -> tuple[TableInfo, pd.DataFrame]:
    """SGD loses to noise what SAM keeps, and early stopping gives most of it back."""
    rows = {
        (f"digits-noise{rate * 100:.0f}", "mlp"): replace(NOISY, noise_rate=rate) if rate else DIGITS for rate in RATES
    }
    table = make_table("noise", rows, ("sgd", "sam"))
    parts = []
    for rate, key in zip(RATES, rows, strict=True):
        last = {"sgd": 0.96 - 0.8 * rate, "sam": 0.963 - 0.2 * rate}
        early = {"sgd": 0.965 - 0.25 * rate, "sam": 0.966 - 0.18 * rate}
        runs = make_runs(table, last, early, gaps={"sam": [0.003 + 0.6 * rate] * 5})
        parts.append(runs[runs["dataset"] == key[0]])
    return table, pd.concat(parts, ignore_index=True)


def sweep_study(settings: dict[str, float | int | None], name: str) -> tuple[TableInfo, pd.DataFrame]:
    """Methods of one ascent that differ in a setting alone, the second of them best."""
    methods = ("sgd", "sgd-2x", *settings)
    table = make_table(name, {CLEAN: DIGITS}, methods)
    found = dict(zip(settings, (0.958, 0.965, 0.96, 0.91), strict=False))
    return table, make_runs(table, {"sgd": 0.95, "sgd-2x": 0.956, **found}, sharpness=dict.fromkeys(methods, 0.1))


@pytest.fixture(autouse=True)
def _more_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    for method in (*RHOS, *MS):
        monkeypatch.setitem(__import__("synthetic").ASCENTS, method, "sam")


def rho_study() -> tuple[TableInfo, pd.DataFrame]:
    table, runs = sweep_study(RHOS, "rhos")
    runs["rho"] = runs["method"].map(RHOS).fillna(0.0)
    return table, runs


def m_study() -> tuple[TableInfo, pd.DataFrame]:
    table, runs = sweep_study(MS, "ms")
    infos = {**table.method_info, **{method: MethodInfo(m=m) for method, m in MS.items()}}
    runs["rho"], runs["tuned"] = runs["ascent"].eq("sam") * 0.1, ""
    return replace(table, method_info=infos), runs


def make_shifts(table: TableInfo, gaps: dict[str, float], severities: int = 3) -> pd.DataFrame:
    """A suite in which SAM is ahead of SGD by ``gaps`` per corruption, in fractions, at every severity and seed."""
    lines = []
    for dataset, model in table.row_keys:
        for method in table.methods:
            for seed in table.seeds:
                for corruption, gap in gaps.items():
                    for severity in range(1, severities + 1):
                        jitter = 0.001 * seed * (method == "sam")
                        right = 0.9 - 0.1 * severity + (gap + jitter if method == "sam" else 0.0)
                        fixed = (table.name, dataset, model, method, seed, "digits-c", "digits-C", "corruptions")
                        found = (right, 1 - right, 1.0, 0.1)
                        lines.append((*fixed, "last", corruption, severity, corruption != "spatter", False, *found))
    return pd.DataFrame(lines, columns=list(COLUMNS))


KINDS = ("differences", "early", "noise", "rho", "m", "corruptions", "curves", "memorised", "sharpness", "cost")

GAPS = {"gaussian_noise": 0.05, "fog": -0.02, "contrast": 0.0, "spatter": 0.3}


@pytest.fixture(scope="module")
def claims() -> list[ClaimSpec]:
    return load_claims(Path(__file__).parents[2] / "experiments" / "claims.yaml")


@pytest.fixture
def study(claims: list[ClaimSpec]) -> tuple[dict[str, Drawn], list[Layout]]:
    """Every figure of a study that has something for each of them."""
    runs, tables = make_study()
    for table, more in (noise_study(), rho_study(), m_study()):
        tables[table.name] = table
        runs = pd.concat([runs, more], ignore_index=True)
    runs["best_epoch"] = np.where(runs["early_test_accuracy"] > runs["test_accuracy"] + 0.01, 8, 25)
    finished = measured(runs)
    shifts = make_shifts(tables["noise"], GAPS)
    layouts = [layout(finished, table, shifts) for table in tables.values()]
    histories = with_memory(make_histories(finished))
    return every_figure(layouts, finished, histories, shifts, judge(claims, finished, tables)), layouts


def with_memory(histories: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Curves of memorised labels: SGD learns the noise late, SAM hardly; none where labels are clean."""
    return {run: curve.assign(memorised=_memory(run, len(curve))) for run, curve in histories.items()}


def _memory(run: str, epochs: int) -> np.ndarray:
    if "noise0" in run or "cifar" in run:
        return np.full(epochs, np.nan)
    top = (0.25 if ".sam" in run else 0.8) + 0.01 * int(run.partition("-0123")[0][-1])
    return top / (1 + np.exp(-(np.arange(epochs) / epochs - 0.5) * 10))


def texts(svg: str) -> list[str]:
    """The texts of a figure: matplotlib writes each as a comment beside its outlines."""
    return [unescape(text.strip()) for text in re.findall(r"<!-- (.*?) -->", svg)]


def test_every_figure_has_words_and_runs(study: tuple[dict[str, Drawn], list[Layout]]) -> None:
    drawn, layouts = study
    assert {name.partition("-")[2] for name in drawn} == {"", *KINDS}
    assert next(iter(drawn)) == "claims"
    assert drawn["claims"].table is None
    for name, figure in drawn.items():
        root = ElementTree.fromstring(figure.svg.encode())
        title, desc = (root.find(f"{{http://www.w3.org/2000/svg}}{tag}") for tag in ("title", "desc"))
        assert title is not None
        assert title.text
        assert desc is not None
        assert desc.text == figure.alt
        assert re.search(r"\d (run|seed)s?\b", figure.caption), name
        assert re.search(r"\d", figure.alt), name
        assert "nan" not in (figure.alt + figure.caption).lower(), name
        assert "<image" not in figure.svg, f"{name} is not all vectors"
        assert figure.table is None or name.startswith(f"{figure.table}-")
    tables = [figure.table for figure in drawn.values() if figure.table]
    assert list(dict.fromkeys(tables)) == [laid.table.name for laid in layouts]


def test_the_same_input_gives_the_same_bytes(claims: list[ClaimSpec]) -> None:
    runs, tables = make_study()
    finished = measured(runs)
    layouts = [layout(finished, table) for table in tables.values()]
    judged = judge(claims, finished, tables)
    shuffled = measured(runs.sample(frac=1, random_state=3))
    again = [layout(shuffled, table) for table in tables.values()]
    first = every_figure(layouts, finished, make_histories(finished), None, judged)
    second = every_figure(again, shuffled, make_histories(shuffled), None, judge(claims, shuffled, tables))
    assert first == second


def test_what_nothing_can_fill_is_left_out(claims: list[ClaimSpec]) -> None:
    runs, tables = make_study()
    nothing = measured(runs.iloc[:0])
    layouts = [layout(nothing, table) for table in tables.values()]
    assert every_figure(layouts, nothing, {}, None, judge(claims, nothing, tables)) == {}
    kinds = every_figure([layout(measured(runs), tables["table1"])], measured(runs), {}, None, [])
    assert [*kinds] == ["table1-differences", "table1-early", "table1-sharpness", "table1-cost"]


def test_a_band_is_students_interval_at_each_epoch() -> None:
    histories = {
        str(seed): pd.DataFrame({"epoch": range(1, 4 - (seed == 2)), "validation_accuracy": values})
        for seed, values in enumerate(([0.1, 0.5, 0.9], [0.2, 0.5, 0.8], [0.3, 0.5]))
    }
    shown = band(pd.DataFrame({"run_id": [*histories]}), histories, "validation_accuracy")
    expected = mean_interval([10, 20, 30])
    assert shown.loc[1, ["mean", "low", "high"]].to_list() == pytest.approx(
        [expected.mean, max(0, expected.low), expected.high]
    )
    assert shown.loc[2, "low"] == shown.loc[2, "high"] == pytest.approx(50)
    assert shown["n"].to_list() == [3, 3, 2]
    alone = band(pd.DataFrame({"run_id": ["0"]}), histories, "validation_accuracy")
    assert alone["low"].isna().all()


def test_memorisation_is_drawn_for_wrong_labels_alone() -> None:
    runs, tables = make_study()
    finished = measured(runs.assign(best_epoch=10))
    laid = layout(finished, tables["quick"])
    drawn = memorisation(laid, finished, with_memory(make_histories(finished)))
    assert drawn is not None
    assert "digits-noise60 / mlp" in texts(drawn.svg)
    assert "digits-noise0 / mlp" not in texts(drawn.svg)
    assert "early stopping" in texts(drawn.svg)
    without = memorisation(laid, finished.drop(columns="best_epoch"), with_memory(make_histories(finished)))
    assert without is not None
    assert "early stopping" not in texts(without.svg)
    unknown = finished.assign(memorised=finished["memorised"].where(finished["dataset"] != "digits-noise60"))
    assert memorisation(laid, unknown, with_memory(make_histories(finished))) is None
    assert memorisation(layout(finished, tables["table1"]), finished, with_memory(make_histories(finished))) is None


def test_rho_sweep_orders_marks_and_says_what_is_best() -> None:
    table, runs = rho_study()
    finished = measured(runs)
    laid = layout(finished, table)
    (sweep,) = sweeps(laid.cells[0], table, finished, "rho")
    assert sweep.values == (0.05, 0.1, 0.5, 2.0)
    assert sweep.methods == ("sam", "sam-rho1", "sam-rho2", "sam-rho3")
    assert sweep.chosen == 0.05  # the synthetic SAM is the selected one
    drawn = rho_sweep(laid, finished)
    assert drawn is not None
    best = finished[finished["method"] == "sam-rho1"]["test_accuracy"].mean() * 100
    assert f"does best at 0.1 (test accuracy {best:.2f}%, 5 runs), and validation data chose 0.05" in drawn.alt
    assert "3 of 4 are better than SGD-2x" in drawn.alt
    assert "band: SGD-2x" in texts(drawn.svg)


def test_a_sweep_takes_only_what_differs_in_its_setting() -> None:
    table, runs = rho_study()
    finished = measured(runs)
    row = layout(finished, table).cells[0]
    for change in ({"options": {"norm": "linf"}}, {"epochs": 7}, {"training": {"lr": 0.3}}, {"m": 8}):
        other = replace(table, method_info={**table.method_info, "sam-rho2": MethodInfo(**change)})
        assert "sam-rho2" not in sweeps(row, other, finished, "rho")[0].methods
    few = finished[~finished["method"].isin(["sam-rho1", "sam-rho2"])]
    assert sweeps(row, table, few, "rho") == []
    assert rho_sweep(layout(few, table), few) is None
    assert m_sweep(layout(finished, table), finished) is None  # one m, the batch


def test_m_sweep_counts_the_whole_batch_as_its_size() -> None:
    table, runs = m_study()
    finished = measured(runs)
    (sweep,) = sweeps(layout(finished, table).cells[0], table, finished, "m")
    assert sweep.values == (16, 32, 64)
    assert sweep.methods == ("sam-m16", "sam-m32", "sam")
    assert sweep.chosen is None
    assert rho_sweep(layout(finished, table), finished) is None


def test_noise_is_a_series_of_one_source_model_and_kind() -> None:
    table, runs = noise_study()
    laid = layout(measured(runs), table)
    (one,) = series(laid.cells, table)
    assert one.rates == RATES
    drawn = noise_robustness(laid)
    assert drawn is not None
    assert "SAM lies above the better baseline at every rate" in drawn.alt
    assert "from +0.30 points at 0% to +36.30 at 60%" in drawn.alt
    other = {**table.rows, ("digits-noise40", "mlp"): replace(NOISY, noise_kind="asymmetric", noise_rate=0.4)}
    assert [part.rates for part in series(laid.cells, replace(table, rows=other))] == [(0, 0.2, 0.6), (0, 0.4)]
    smaller = {**table.rows, ("digits-noise0", "mlp"): replace(DIGITS, train_size=100)}
    assert [part.rates for part in series(laid.cells, replace(table, rows=smaller))] == [(0.2, 0.4, 0.6)]
    alone = make_table("quick", {NOISE: NOISY}, ("sgd", "sam"))
    assert noise_robustness(layout(measured(make_runs(alone, {"sgd": 0.4, "sam": 0.8})), alone)) is None


def test_crossing_lines_are_said_to_cross() -> None:
    table, runs = noise_study()
    swapped = runs["dataset"].eq("digits-noise0") & runs["method"].eq("sam")
    runs.loc[swapped, "test_accuracy"] -= 0.05
    drawn = noise_robustness(layout(measured(runs), table))
    assert drawn is not None
    assert "SAM lies above the better baseline at 3 of 4 rates" in drawn.alt
    assert "from -4.70 points at 0%" in drawn.alt


def test_heat_has_the_paired_differences_as_numbers() -> None:
    table, runs = noise_study()
    shifts = make_shifts(table, GAPS)
    laid = layout(measured(runs), table)
    found = heats(laid, shifts)
    assert len(found) == len(RATES)
    heat = found[0]
    assert heat.lines == ("gaussian noise", "fog", "contrast", "spatter", "severity 1", "severity 2", "severity 3")
    assert heat.methods == ("sam",)
    jitter = 0.2  # the mean over seeds of a tenth of a point each
    assert heat.cells["gaussian noise", "sam"].interval.mean == pytest.approx(5 + jitter)
    assert heat.cells["fog", "sam"].interval.mean == pytest.approx(-2 + jitter)
    assert heat.cells["severity 2", "sam"].interval.mean == pytest.approx((5 - 2 + 0) / 3 + jitter)  # spatter is extra
    assert heat.cells["fog", "sam"].interval.n == 5
    drawn = corruption_heat(laid, shifts)
    assert drawn is not None
    assert {"+5.2*", "-1.8*", "+30.2*"} <= set(texts(drawn.svg))
    assert "better on 3 of 4 corruptions, from -1.80 points (fog) to +30.20 (spatter), over 5 seeds" in drawn.alt


def test_heat_pairs_seeds_and_leaves_out_who_has_none() -> None:
    table, runs = noise_study()
    shifts = make_shifts(table, GAPS)
    laid = layout(measured(runs), table)
    fewer = shifts[~(shifts["method"].eq("sam") & shifts["seed"].gt(1))]
    assert heats(laid, fewer)[0].cells["fog", "sam"].interval.n == 2
    assert corruption_heat(laid, shifts[shifts["method"] == "sam"]) is None
    assert corruption_heat(laid, shifts[shifts["method"] == "sgd"]) is None
    assert corruption_heat(laid, None) is None
    flags = shifts.assign(diverged=shifts["method"].eq("sam") & shifts["seed"].eq(0))
    assert heats(laid, flags)[0].cells["fog", "sam"].test == "sign-flip"


def test_the_front_is_what_no_cheaper_method_beats() -> None:
    points = pd.DataFrame(
        {
            "method": ["a", "a", "b", "c", "d", "e"],
            "gradients": [1.0, 1.0, 2.0, 2.0, 3.0, 4.0],
            "test_accuracy": [0.5, 0.7, 0.55, 0.8, 0.8, 0.9],
        }
    )
    best = front(points, "gradients")
    assert best.index.to_list() == ["a", "c", "e"]
    assert best["test_accuracy"].to_list() == pytest.approx([0.6, 0.8, 0.9])


def test_log_axes_have_a_few_round_ticks() -> None:
    assert log_ticks(0.5, 2_000) == [1, 10, 100, 1_000]
    assert log_ticks(0.08, 0.6) == pytest.approx([0.1, 0.2, 0.5])
    assert log_ticks(34_000, 75_000) == pytest.approx([40_000, 50_000, 60_000])
    assert [short(value) for value in (0.05, 500, 9_999, 36_000, 1.2e6)] == ["0.05", "500", "9,999", "36k", "1.2M"]


def test_runs_without_a_logarithm_are_counted_once() -> None:
    runs, tables = make_study()
    runs.loc[runs["dataset"].eq("digits-noise0") & runs["method"].eq("sam"), "sharpness_n_step"] = -0.1
    finished = measured(runs)
    drawn = against_sharpness(layout(finished, tables["quick"]), finished)
    assert drawn is not None
    assert drawn.svg.count("5 runs at 0 or below left out") == 1
    assert against_sharpness(layout(finished, tables["quick"]), finished.assign(sharpness_n_step=np.nan)) is None


def test_words_are_computed_from_the_numbers() -> None:
    runs, tables = make_study()
    finished = measured(runs)
    laid = layout(finished, tables["quick"])
    row = laid.cells[1]
    drawn = differences(laid)
    assert drawn is not None
    sam = row.cells["sam"].difference
    assert sam is not None
    assert f"SAM {sam.interval.mean:+.2f} (significant, 5 seeds)" in drawn.alt
    early = last_and_early(laid)
    assert early is not None
    ends = [row.cells["sgd"].percent(name).mean for name in ("early_test_accuracy", "test_accuracy")]
    assert f"SGD goes from {ends[0]:.2f}% to {ends[1]:.2f}% (5 runs)" in early.alt
    cost = against_cost(laid, finished)
    assert cost is not None
    assert "no method of equal or lower cost beats SGD (" in cost.alt
    told = finished.assign(validation_accuracy=finished["test_accuracy"])
    curves = learning_curves(layout(told, tables["quick"]), told, make_histories(told))
    assert curves is not None
    top = row.cells["sam"].percent("test_accuracy").mean
    assert f"digits-noise60 / mlp: final validation accuracy is highest for SAM ({top:.2f}%, 5 runs)" in curves.alt


def test_rivals_that_differ_by_epoch_are_both_named() -> None:
    runs, tables = make_study()
    runs.loc[runs["method"].eq("sgd"), "test_accuracy"] = 0.99 + runs["seed"] * 1e-4
    finished = measured(runs)
    drawn = differences(layout(finished, tables["table1"]))
    assert drawn is not None
    title = next(text for text in texts(drawn.svg) if "against" in text)
    assert title == "cifar10 / wrn28_10, against SGD (early-stopped: SGD-2x)"


def test_missing_runs_are_dashes_and_smaller_numbers() -> None:
    assert runs_each([5, 5]) == "5 runs"
    assert runs_each([5, 0, 3]) == "3 to 5 runs"
    assert runs_each([1]) == "1 run"
    assert runs_each([]) == "no run"
    known, none = Interval(50.0, 1.0, 3, 0.4), mean_interval([])
    assert extremes("row", "accuracy", {"sam": known, "sgd": none}) == "row: accuracy of SAM (50.00%, 3 runs)"
    assert extremes("row", "accuracy", {"sam": none}) == "row: accuracy is not known"
    assert sentences([str(i) for i in range(8)]).endswith("5. 2 more rows are in the table.")


# --- claims -----------------------------------------------------------------------------------------------------------


def test_claims_that_rows_speak_to_are_drawn_and_the_others_counted(claims: list[ClaimSpec]) -> None:
    runs, tables = make_study()
    judged = judge(claims, measured(runs), tables)
    drawn = claims_forest(judged)
    assert drawn is not None
    shown = texts(drawn.svg)
    for one in judged:
        assert (one.claim.id in shown) == bool(one.outcomes), one.claim.id
        if one.outcomes and len(Line(one).outcomes) == 1:
            assert one.outcomes[0].verdict in shown
    missing = sum(not one.outcomes for one in judged)
    assert f"{missing} claims not run" in drawn.svg
    assert f"{missing} claims not run." in drawn.alt
    spoken = [one for one in judged if one.outcomes]
    assert drawn.title.endswith(f"of the {len(spoken)} claims that rows of this study speak to")
    assert "difference in sharpness n step" in shown
    assert "named, not measured" in shown
    papers = {one.claim.paper for one in spoken}
    assert papers <= set(shown)


def test_only_what_was_published_is_drawn_as_published(claims: list[ClaimSpec]) -> None:
    runs, tables = make_study()
    judged = [one for one in judge(claims, measured(runs), tables) if one.outcomes]
    published = [one for one in judged if one.claim.published]
    drawn = claims_forest(published)
    assert drawn is not None
    assert "named, not measured" not in texts(drawn.svg)


def test_no_claim_no_forest(claims: list[ClaimSpec]) -> None:
    runs, tables = make_study()
    assert claims_forest(judge(claims, measured(runs.iloc[:0]), tables)) is None
    assert claims_forest([]) is None


def test_many_claims_make_the_figure_longer_and_not_denser(claims: list[ClaimSpec]) -> None:
    runs, tables = make_study()
    some = [one for one in judge(claims, measured(runs), tables) if one.outcomes and one.claim.rule.unit == "points"]
    few, many = claims_forest(some), claims_forest(some * 20)
    assert few is not None
    assert many is not None
    lines = sum(Line(one).height for one in some)
    assert _height(many) - _height(few) == pytest.approx(19 * lines * 0.23 * 72, rel=0.05)


def _height(drawn: Drawn) -> float:
    return float(re.findall(r'height="([\d.]+)pt"', drawn.svg)[0])


# --- seeing -----------------------------------------------------------------------------------------------------------

DEUTERANOPIA = np.array(
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]]
)
"""Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB."""

PAPERS = ("#ffffff", "#fbfaf7", "#1c2026", "#15181c")
"""What the page is printed on, light and dark."""


def lightness(colour: str, *, deuteranope: bool) -> float:
    """CIE L* of a colour, as all see it in grey, or as it is without the middle cones."""
    if not deuteranope:
        return _l_star(luminance(colour))
    channels = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return _l_star(float(np.clip(DEUTERANOPIA @ linear, 0, 1) @ (0.2126, 0.7152, 0.0722)))


def _l_star(y: float) -> float:
    return 116 * y ** (1 / 3) - 16 if y > 0.008856 else 903.3 * y


def test_eleven_methods_stay_apart_by_shape_and_forty_by_colour_and_shape() -> None:
    style = [*looks([str(i) for i in range(40)]).values()]
    assert len({look.marker for look in style[:11]}) == 11
    assert len({(look.colour, look.marker) for look in style}) == 40


@pytest.mark.parametrize("deuteranope", [False, True])
def test_lines_stay_apart_without_hue(deuteranope: bool) -> None:
    for one, other in combinations(looks([str(i) for i in range(len(COLOURS))]).values(), 2):
        lighter = lightness(one.colour, deuteranope=deuteranope) - lightness(other.colour, deuteranope=deuteranope)
        assert one.line != other.line or abs(lighter) > 8


@pytest.mark.parametrize("paper", PAPERS)
@pytest.mark.parametrize("colour", COLOURS)
def test_every_colour_has_a_contrast_of_three(colour: str, paper: str) -> None:
    high, low = sorted((luminance(colour), luminance(paper)), reverse=True)
    assert (high + 0.05) / (low + 0.05) >= 3


def test_luminance_of_known_colours() -> None:
    assert luminance("#ffffff") == pytest.approx(1)
    assert luminance("#000000") == 0
    assert luminance("#ff0000") == pytest.approx(0.2126)
    assert luminance("#808080") == pytest.approx(0.2159, abs=1e-4)


def cells_of(svg: str) -> Iterator[tuple[str, str]]:
    """The backgrounds of a heat map's cells, in order."""
    root = ElementTree.fromstring(svg.encode())
    for group in root.iter("{http://www.w3.org/2000/svg}g"):
        if (group.get("id") or "").startswith("QuadMesh"):
            for path in group.iter("{http://www.w3.org/2000/svg}path"):
                found = re.search(r"fill: (#[0-9a-f]{6})", path.get("style") or "")
                if found:
                    yield group.get("id") or "", found.group(1)


def test_heat_is_lighter_where_the_method_is_better() -> None:
    table, runs = noise_study()
    gaps = {f"c{i}": gap for i, gap in enumerate(np.linspace(-0.1, 0.1, 9))}
    laid = layout(measured(runs), table)
    drawn = corruption_heat(laid, make_shifts(table, gaps, severities=1))
    assert drawn is not None
    meshes: dict[str, list[float]] = {}
    for mesh, colour in cells_of(drawn.svg):
        meshes.setdefault(mesh, []).append(luminance(colour))
    assert len(meshes) == len(RATES)
    for values in meshes.values():
        assert np.all(np.diff(values[:9]) > 0)
