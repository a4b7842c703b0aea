"""Diagnosis: every symptom on curves that have it, none on healthy ones, limits, noise, gaps, and who is to blame."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from synthetic import make_histories, make_runs, make_study, make_table

from flatmin.results import diagnosis
from flatmin.results.advice import ADVICE, Subject, advise
from flatmin.results.curves import WHITE, RunCurve
from flatmin.results.diagnosis import COMPARISONS, Finding, diagnose, diagnose_run, rules
from flatmin.results.inputs import MethodInfo, RowInfo
from flatmin.results.symptoms import SYMPTOMS, signs

ROW = RowInfo(
    source="c", model="m", epochs=40, batch_size=64, source_images=12_000, validation_fraction=0.2, classes=10
)
NOISY = replace(ROW, noise_kind="symmetric", noise_rate=0.6, noise_definition="another-class")
GUESSING = math.log(10)
KEY = ("data", "net")


def curve(epochs: int = 40, **columns: Any) -> pd.DataFrame:
    """A healthy run: all accuracies saturate early, the gap is 6 points, the learning rate decays to zero."""
    epoch = np.arange(1, epochs + 1)
    learned = 1 - np.exp(-epoch / (epochs / 15))
    history = pd.DataFrame(
        {
            "epoch": epoch,
            "lr": 0.05 * (1 + np.cos(np.pi * epoch / epochs)),
            "train_loss": GUESSING * (1 - learned) + 0.05,
            "train_accuracy": 0.1 + 0.89 * learned,
            "validation_loss": 0.3,
            "validation_accuracy": 0.1 + 0.83 * learned,
            "memorised": float("nan"),
            "gradient_norm": 1.0,
            "skipped_steps": 0.0,
        }
    )
    return history.assign(**columns)


def ramp(start: float, end: float, begin: float = 0.0, epochs: int = 40) -> np.ndarray:
    """``start`` until the share ``begin`` of the epochs, then straight to ``end``."""
    return start + (end - start) * np.clip((np.arange(1, epochs + 1) / epochs - begin) / (1 - begin), 0, 1)


def rise_and_fall(best: float, last: float) -> np.ndarray:
    """Up to ``best`` in the first fifth, then down to ``last``, where it stays for the last fifth."""
    return np.concatenate([np.linspace(0.1, best, 8), np.linspace(best, last, 24), np.full(8, last)])


def jumping(height: float) -> np.ndarray:
    """Up and down by ``height`` every epoch: second differences of four times that."""
    return 0.9 + height * (-1.0) ** np.arange(40)


def shown(history: pd.DataFrame, row: RowInfo = ROW, **facts: Any) -> list[str]:
    """The symptoms of one run."""
    run = RunCurve(history, row, batch_size=64, **facts)
    return [name for name, sign in signs(run).items() if sign.shown]


CASES: dict[str, tuple[pd.DataFrame, RowInfo, dict[str, Any]]] = {
    "diverged": (curve(7), ROW, {"diverged": True, "skipped_steps": 20}),
    "skipping": (curve(), ROW, {"skipped_steps": 100}),
    "unstable": (curve(train_loss=np.r_[np.full(20, 0.4), np.full(20, 1.2)]), ROW, {}),
    "stalled": (curve(train_loss=GUESSING + 0.002, train_accuracy=0.11, validation_accuracy=0.1), ROW, {}),
    "memorising": (
        curve(validation_accuracy=rise_and_fall(0.37, 0.30), memorised=ramp(0.06, 0.3), train_loss=ramp(2.2, 1.5)),
        NOISY,
        {},
    ),
    "past-best": (
        curve(validation_accuracy=rise_and_fall(0.90, 0.86), train_accuracy=0.94, train_loss=ramp(0.6, 0.2)),
        ROW,
        {},
    ),
    "gap": (curve(train_accuracy=0.999, validation_accuracy=0.8), ROW, {}),
    "unfinished": (curve(train_accuracy=ramp(0.1, 0.8), validation_accuracy=ramp(0.1, 0.78)), ROW, {}),
    "restless": (curve(validation_accuracy=jumping(0.03), train_accuracy=0.95), ROW, {}),
    "skipped": (curve(), ROW, {"skipped_steps": 5}),
}


@pytest.mark.parametrize("symptom", CASES)
def test_each_symptom_shows_where_it_is_and_alone(symptom: str) -> None:
    history, row, facts = CASES[symptom]
    assert shown(history, row, **facts) == [symptom]


def test_every_symptom_has_a_case_and_advice() -> None:
    assert list(CASES) == [symptom.id for symptom in SYMPTOMS]
    assert {*ADVICE} == {*CASES, *COMPARISONS}


@pytest.mark.parametrize("epochs", [5, 10, 20, 48, 200])
def test_a_healthy_run_shows_nothing(epochs: int) -> None:
    assert shown(curve(epochs)) == []


@pytest.mark.parametrize(
    ("symptom", "limit", "make"),
    [
        ("unstable", 1.1 * GUESSING, lambda x: curve(train_loss=x)),
        (
            "unstable",
            0.3 + (GUESSING - 0.3) / 4,
            lambda x: curve(train_loss=np.r_[np.full(30, 0.3), np.full(10, x)]),
        ),
        ("stalled", 0.9 * GUESSING, lambda x: curve(train_loss=x)),
        ("gap", 0.1, lambda x: curve(train_accuracy=0.8 + x, validation_accuracy=0.8)),
        (
            "past-best",
            0.02,
            lambda x: CASES["past-best"][0].assign(validation_accuracy=rise_and_fall(0.9, 0.9 - x)),
        ),
        (
            "memorising",
            0.1,
            lambda x: CASES["memorising"][0].assign(memorised=np.r_[np.full(20, 0.06), np.full(20, 0.06 + x)]),
        ),
        ("restless", 0.02 * WHITE / 4, lambda x: CASES["restless"][0].assign(validation_accuracy=jumping(x))),
    ],
)
def test_a_rule_turns_at_its_threshold(symptom: str, limit: float, make: Callable[[float], pd.DataFrame]) -> None:
    row = CASES[symptom][1]
    assert symptom not in shown(make(0.98 * limit), row)
    assert symptom in shown(make(1.02 * limit), row)


def test_skipped_steps_are_fine_up_to_one_in_a_hundred() -> None:
    steps = math.ceil(9600 / 64) * 40
    assert shown(curve(), skipped_steps=steps // 100) == ["skipped"]
    assert shown(curve(), skipped_steps=steps // 100 + 1) == ["skipping"]


def test_a_gap_must_exceed_what_a_small_validation_set_makes_by_chance() -> None:
    wide = curve(train_accuracy=0.95, validation_accuracy=0.8)
    few = replace(ROW, source_images=200)  # 40 validation images: three standard errors are 19 points
    assert shown(wide) == ["gap"]
    assert shown(wide, few) == []


def test_clean_validation_labels_are_not_compared_with_noisy_training_labels() -> None:
    reversed_gap = curve(train_accuracy=0.99, validation_accuracy=0.5, memorised=0.9)
    assert shown(reversed_gap, NOISY) == ["gap"]
    assert shown(reversed_gap, replace(NOISY, validation_labels="clean")) == []


def test_falling_accuracy_without_memorising_is_not_called_memorising() -> None:
    history, row, _ = CASES["memorising"]
    assert shown(history.assign(memorised=0.06), row) == ["past-best"]
    assert shown(history.assign(memorised=0.06, train_loss=1.9, train_accuracy=0.35), row) == []


def test_a_rise_that_the_decay_of_the_learning_rate_ended_is_seen() -> None:
    """Accuracy that rises in proportion to the learning rate spent stands still in the last epochs of a cosine."""
    spent = np.cumsum(curve()["lr"]) / curve()["lr"].sum()
    slow = curve(train_accuracy=0.1 + 0.5 * spent, validation_accuracy=0.1 + 0.48 * spent)
    assert slow["train_accuracy"].diff().iloc[-3:].max() < 0.003
    assert shown(slow) == ["unfinished"]
    assert RunCurve(slow, ROW).last_learning("train_accuracy") == pytest.approx(0.5 * 0.2 * 2 / 3, rel=0.2)


@pytest.mark.parametrize("rate", [0.2, 0.6, 0.8])
def test_the_least_loss_is_the_cross_entropy_of_who_knows_the_noise(rate: float) -> None:
    probabilities = np.r_[1 - rate, np.full(9, rate / 9)]
    run = RunCurve(curve(), replace(NOISY, noise_rate=rate))
    assert run.least_loss == pytest.approx(-(probabilities * np.log(probabilities)).sum())
    assert run.least_loss < run.chance_loss == GUESSING


def test_heavy_noise_well_learned_is_no_stall_and_noise_that_says_nothing_is_not_judged() -> None:
    eighty = replace(NOISY, noise_rate=0.8)
    known: dict[str, Any] = {"train_accuracy": 0.2, "validation_accuracy": 0.2, "memorised": 0.09}
    assert shown(curve(train_loss=2.26, **known), eighty) == []
    assert shown(curve(train_loss=2.301, **known), eighty) == ["stalled"]
    assert shown(curve(train_loss=GUESSING, **known), replace(NOISY, noise_rate=0.9)) == []


def drift(rng: np.random.Generator, epochs: int, memory: float) -> np.ndarray:
    """A stationary random walk of deviation 1: each epoch keeps ``memory`` of the one before."""
    steps = rng.normal(size=epochs) * np.r_[1, np.full(epochs - 1, math.sqrt(1 - memory**2))]
    values = np.empty(epochs)
    last = 0.0
    for epoch, step in enumerate(steps):
        last = values[epoch] = memory * last + step
    return values


@pytest.mark.parametrize("memory", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("epochs", [20, 48, 200])
def test_flat_curves_with_noise_of_one_point_rarely_alarm(epochs: int, memory: float) -> None:
    """Per run at most 5%, and three Monte-Carlo errors; a finding takes more than half of a method's runs."""
    rng, draws, alarms = np.random.default_rng(0), 200, Counter[str]()
    for _ in range(draws):
        flat = {name: 0.01 * drift(rng, epochs, memory) for name in ("t", "v", "m", "l")}
        history = curve(
            epochs,
            train_loss=1.5 * (1 + 2 * flat["l"]),
            train_accuracy=0.6 + flat["t"],
            validation_accuracy=0.55 + flat["v"],
            memorised=0.1 + flat["m"],
        )
        alarms.update(shown(history, replace(NOISY, noise_rate=0.4)))
    assert {name: n for name, n in alarms.items() if n / draws > 0.05 + 3 * math.sqrt(0.05 * 0.95 / draws)} == {}
    assert alarms.keys() <= {"past-best", "unfinished", "restless"}


def test_jitter_is_the_deviation_of_white_noise_whatever_the_trend() -> None:
    values = np.random.default_rng(0).normal(0, 0.02, 4000) + np.linspace(0, 1, 4000)
    assert RunCurve(curve(4000, train_accuracy=values), ROW).jitter("train_accuracy", late=False) == pytest.approx(
        0.02, rel=0.05
    )


@pytest.mark.parametrize("symptom", ["unstable", "memorising", "gap", "unfinished"])
def test_some_unknown_epochs_change_no_symptom(symptom: str) -> None:
    history, row, facts = CASES[symptom]
    holes = history.copy()
    holes.loc[[3, 11, 12, 30, 38], holes.columns[2:]] = None
    assert shown(holes, row, **facts) == [symptom]
    assert shown(history.drop(index=[5, 17, 33]), row, **facts) == [symptom]


@pytest.mark.parametrize("symptom", ["unstable", "stalled", "memorising", "gap", "unfinished", "restless"])
@pytest.mark.parametrize("epochs", [0, 1, 4])
def test_a_run_of_few_epochs_is_not_judged(symptom: str, epochs: int) -> None:
    history, row, facts = CASES[symptom]
    assert shown(history.iloc[:epochs], row, **facts) == []
    assert shown(pd.DataFrame(), row, **facts) == []


def test_an_unknown_end_is_not_judged() -> None:
    history = CASES["gap"][0].copy()
    history.loc[34:, "train_accuracy"] = np.nan
    assert shown(history) == []


def test_without_the_number_of_classes_what_needs_it_is_not_judged() -> None:
    assert shown(CASES["stalled"][0], replace(ROW, classes=None)) == []
    assert shown(CASES["gap"][0], replace(ROW, classes=None)) == ["gap"]


def study(
    histories: dict[str, list[str]],
    row: RowInfo = ROW,
    validation: dict[str, list[float]] | None = None,
    **changes: Any,
) -> list[Finding]:
    """Findings of a table whose methods' runs have, by seed, the curves of ``CASES`` (or ``healthy``)."""
    return diagnose(*frames(histories, row, validation, **changes))


def frames(
    cases: dict[str, list[str]], row: RowInfo = ROW, validation: dict[str, list[float]] | None = None, **changes: Any
) -> tuple[pd.DataFrame, dict[str, pd.DataFrame], dict[str, Any]]:
    seeds = len(next(iter(cases.values())))
    table = make_table("t", {KEY: row}, tuple(cases), seeds=seeds, **changes)
    lines, histories = [], {}
    for line in make_runs(table, dict.fromkeys(cases, 0.9)).to_dict("records"):
        case = cases[line["method"]][line["seed"]]
        history, _, facts = CASES.get(case, (curve(), ROW, {}))
        result = {"diverged": 0.0, "skipped_steps": 0.0, "test_accuracy": 0.9, **facts}
        if case == "missing":
            result = dict.fromkeys(result, float("nan"))
        else:
            histories[line["run_id"]] = history
        accuracy = (validation or {}).get(line["method"])
        measured = accuracy[line["seed"]] if accuracy else float("nan")
        rho = 0.0 if line["ascent"] == "none" else 0.4
        lines.append({**line, **result, "validation_accuracy": measured, "rho": rho})
    return pd.DataFrame(lines), histories, {"t": table}


def test_a_finding_takes_more_than_half_of_the_runs() -> None:
    assert study({"sgd": ["gap", "gap", "healthy", "healthy"]}) == []
    (finding,) = study({"sgd": ["gap", "gap", "gap", "healthy"]})
    assert (finding.symptom, finding.shown, finding.runs, finding.severity) == ("gap", 3, 4, "hint")
    assert finding.evidence.startswith("3 of 4 runs: on average, training accuracy 99.9% and validation accuracy 80.0%")
    assert "more than 10 points" in finding.evidence


def test_one_run_of_many_that_went_wrong_is_a_hint() -> None:
    (finding,) = study({"sgd": ["diverged", "healthy", "healthy"]})
    assert (finding.symptom, finding.severity, finding.shown, finding.runs) == ("diverged", "hint", 1, 3)
    (finding,) = study({"sgd": ["diverged", "diverged", "healthy"]})
    assert finding.severity == "trouble"


def test_runs_without_a_result_are_not_counted() -> None:
    (finding,) = study({"sgd": ["gap", "missing", "missing"]})
    assert (finding.shown, finding.runs) == (1, 1)
    assert study({"sgd": ["missing", "missing"]}) == []


def test_a_run_that_diverged_in_its_first_epoch_has_no_curve() -> None:
    runs, histories, tables = frames({"sgd": ["diverged", "diverged"]})
    (finding,) = diagnose(runs, {}, tables)
    assert finding.symptom == "diverged"
    assert "ended after 0 whole epochs" in finding.evidence
    assert histories


@pytest.mark.parametrize("symptom", ["diverged", "skipping", "unstable", "stalled"])
def test_the_run_without_ascent_tells_rho_from_the_learning_rate(symptom: str) -> None:
    (finding,) = study({"sgd": ["healthy"] * 3, "sam": [symptom] * 3})
    assert "rho 0.4 is too large: SGD, the same without ascent, does not show it" in finding.cause
    assert "Lower rho, to 0.2 or 0.1" in finding.advice
    assert "Neither is in the paper" in finding.advice
    both = {found.method: found for found in study({"sgd": ["stalled"] * 3, "sam": [symptom] * 3})}
    assert "rather than rho: SGD, the same without ascent, shows it too" in both["sam"].cause
    assert "rho" not in both["sgd"].cause + both["sgd"].advice
    (alone,) = study({"sam": [symptom] * 3})
    assert "no run without ascent" in alone.cause


def test_the_rival_has_the_same_base_and_learning_rate_and_as_many_epochs_if_one_does() -> None:
    cases = {"sgd-2x": ["stalled"] * 3, "sgd": ["healthy"] * 3, "sam": ["stalled"] * 3}
    blamed = {found.method: found.cause for found in study(cases)}
    assert "SGD, the same" in blamed["sam"]
    other = {"sgd": MethodInfo(training={"lr": 0.01}), "sam": MethodInfo(training={"lr": 0.1})}
    found = study({"sgd": ["healthy"] * 3, "sam": ["stalled"] * 3}, method_info=other)
    assert "no run without ascent" in found[0].cause


def test_the_guides_numbers_are_not_given_for_another_scale_of_rho() -> None:
    (finding,) = study({"sgd": ["healthy"] * 3, "asam": ["stalled"] * 3})
    assert "another scale" in finding.advice
    assert "0.5" not in finding.advice


THREE = ["healthy"] * 3


def compared(gaps: list[float], row: RowInfo = ROW, sam: list[str] | None = None) -> list[Finding]:
    sgd = [0.9, 0.91, 0.92, 0.93, 0.94][: len(gaps)]
    values = {"sgd": sgd, "sam": [a + gap for a, gap in zip(sgd, gaps, strict=True)]}
    return study({"sgd": ["healthy"] * len(gaps), "sam": sam or ["healthy"] * len(gaps)}, row, values)


def test_the_interval_of_the_paired_difference_decides() -> None:
    """Mean 0.1 points, deviation 0.1, t(0.975, 2) = 4.3027: half-width 0.2484."""
    (finding,) = compared([0.0, 0.001, 0.002])
    assert finding.symptom == "no-difference"
    assert "+0.10 points against SGD (95% interval -0.15 to +0.35, 3 pairs of runs)" in finding.evidence
    assert compared([-0.002, 0.001, 0.004]) == []  # the same mean, half-width 0.75: it decides nothing
    assert compared([0.02, 0.021, 0.022]) == []  # better
    assert compared([0.003, 0.0035, 0.004]) == []  # half-width 0.12: a gain, however small, is no sameness
    (worse,) = compared([-0.02, -0.021, -0.022])
    assert (worse.symptom, worse.severity) == ("worse", "trouble")
    assert "-2.10 points" in worse.evidence


def test_two_seeds_or_a_diverged_run_compare_nothing() -> None:
    assert compared([0.0, 0.0]) == []
    assert [found.symptom for found in compared([0.0] * 3, sam=["diverged", *THREE[1:]])] == ["diverged"]


def test_a_method_that_does_not_train_is_not_compared_as_well() -> None:
    assert [found.symptom for found in compared([-0.5] * 3, sam=["stalled"] * 3)] == ["stalled"]


def test_noisy_validation_labels_shrink_the_limit() -> None:
    """60% of ten classes' labels made wrong: a point of true accuracy is 0.4 - 0.6 / 9 = 1/3 of one there."""
    gaps = [-0.0018, 0.0, 0.0018]
    assert [found.symptom for found in compared(gaps)] == ["no-difference"]
    assert compared(gaps, NOISY) == []
    (finding,) = compared([-0.0001, 0.0, 0.0001], NOISY)
    assert "here 0.17 points, because 60% of the validation labels are wrong" in finding.evidence
    assert compared(gaps, replace(NOISY, validation_labels="clean"))[0].symptom == "no-difference"


def test_an_ascent_that_changes_training_is_not_called_too_small() -> None:
    idle = compared([0.0] * 3)[0]
    assert "rho 0.4 may be too small" in idle.cause
    assert "1.00 times that of SGD" in idle.cause
    CASES["slow"] = (curve(train_loss=curve()["train_loss"] * 1.5), ROW, {})
    acts = compared([0.0] * 3, sam=["slow"] * 3)[0]
    del CASES["slow"]
    assert acts.cause.startswith("Not that rho is too small: the ascent acts, the training loss is 1.50 times")


@pytest.mark.parametrize(("rho", "said"), [(0.05, "the paper selected 0.01 to 0.2"), (0.4, "no larger than 0.4")])
def test_the_guides_remedy_is_weighed_against_the_rho_that_was_used(rho: float, said: str) -> None:
    _, advice = advise("no-difference", Subject("sam", "sam", rho=rho, baseline="sgd"))
    assert said in advice
    assert f"Try {2 * rho:g} and {4 * rho:g}" in advice


def test_a_choice_at_the_edge_of_its_grid_is_named_with_its_value() -> None:
    info = {"sgd": MethodInfo(), "sam": MethodInfo(edge={KEY: ["rho", "weight_decay"]})}
    (finding,) = study({"sgd": THREE, "sam": THREE}, method_info=info)
    assert finding.symptom == "edge"
    assert "Selected rho 0.4 and weight decay, for 3 runs." in finding.evidence


def test_findings_come_in_the_order_of_the_study_and_say_nothing_of_test_data() -> None:
    cases = {"sgd": ["gap", "gap"], "sam": ["stalled", "diverged"], "asam": ["restless", "restless"]}
    runs, histories, tables = frames(cases)
    found = diagnose(runs, histories, tables)
    assert [(f.method, f.symptom) for f in found] == [
        ("sgd", "gap"),
        ("sam", "diverged"),
        ("sam", "stalled"),
        ("asam", "restless"),
    ]
    shuffled = runs.sample(frac=1, random_state=0).assign(test_accuracy=0.1, test_error=0.9)
    assert diagnose(shuffled, histories, tables) == found


def test_no_text_has_an_unknown_number_in_it() -> None:
    for symptom in ADVICE:
        for ascent in ("none", "sam", "asam"):
            for subject in (Subject("m", ascent), Subject("sam", ascent, 0.1, 0.2, True, "sgd", True, 1.3)):
                said = " ".join(advise(symptom, subject))
                assert "nan" not in said.lower().split()
                assert "None" not in said
                assert said.endswith(".")
    for symptom in SYMPTOMS:
        history, row, facts = CASES[symptom.id]
        text = symptom.evidence.format_map(signs(RunCurve(history, row, batch_size=64, **facts))[symptom.id].numbers)
        assert "{" not in text
        assert "nan" not in text


def test_rules_can_be_printed_with_their_reasons() -> None:
    printed = rules()
    assert len(printed) == len(SYMPTOMS) + len(COMPARISONS)
    assert all(title and rule and why for title, rule, why in printed)


def test_one_run_is_judged_with_the_run_without_ascent_of_its_seed() -> None:
    cases = {"sgd": ["stalled", "healthy"], "sam": ["stalled", "stalled"]}
    runs, histories, tables = frames(cases)
    ids = runs[runs["method"] == "sam"].set_index("seed")["run_id"]
    causes = [diagnose_run(ids[seed], runs, histories, tables["t"])[0].cause for seed in (0, 1)]
    assert "rather than rho" in causes[0]
    assert "rho 0.4 is too large" in causes[1]
    (finding,) = diagnose_run(ids[1], runs, histories, tables["t"])
    assert finding.evidence.startswith("1 of 1 run: the training loss is 2.30")
    with pytest.raises(KeyError):
        diagnose_run("other", runs, histories, tables["t"])


def test_the_made_up_study_is_judged_by_what_was_put_into_it() -> None:
    """Its ``memorised`` is constant, so that nothing may be called memorising, however far sgd falls under noise."""
    runs, tables = make_study()
    found = diagnose(runs, make_histories(runs), tables)
    assert "memorising" not in {f.symptom for f in found}
    assert all(f.runs == 5 for f in found)
    assert found == diagnosis.diagnose(runs, make_histories(runs), tables)
