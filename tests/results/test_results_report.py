"""The written results: complete, the same bytes every time, and every number of the report is a number of the csv."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from golden import CLAIMS, Page, golden_study, write_golden
from synthetic import DIGITS, make_histories, make_runs, make_seconds, make_study, make_table

from flatmin.reading import read_yaml
from flatmin.results.aggregate import aggregate
from flatmin.results.answers import Answer, headlines, others, unanswered
from flatmin.results.blocks import Layout, layout
from flatmin.results.claim_content import not_run
from flatmin.results.claim_files import interval_text
from flatmin.results.claim_spec import load_claims
from flatmin.results.claims import Judged, judge
from flatmin.results.inputs import MethodInfo, measured
from flatmin.results.lead import lead, question
from flatmin.results.report import report
from flatmin.results.statistics import Interval

NUMBER = r"[-+]?\d+\.\d+"
ROW = ["dataset", "model", "method"]
GUESSABLE = replace(DIGITS, classes=10, source_images=1797)


@pytest.fixture(scope="module")
def page(golden: Path) -> Page:
    return Page((golden / "report.html").read_text())


@pytest.fixture(scope="module")
def numbers(golden: Path) -> dict[str, pd.DataFrame]:
    return {name: pd.read_csv(golden / "tables" / f"{name}.csv").set_index(ROW) for name in ("quick", "table1")}


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what takes most of the time, where a test is not about it."""
    monkeypatch.setattr("flatmin.results.content.every_figure", lambda *_: {})


def study_layouts(**changes: Any) -> tuple[list[Layout], pd.DataFrame]:
    runs, tables = make_study()
    finished = measured(runs)
    return [layout(finished, replace(table, **changes)) for table in tables.values()], finished


def test_twice_the_same_bytes_and_leftovers_are_removed(golden: Path, tmp_path: Path, claims_path: Path) -> None:
    for stale in ("tables/old.csv", "tables/old.tex", "figures/old-curves.svg", "metrics/old.digits.mlp.sgd.json"):
        (tmp_path / stale).parent.mkdir(exist_ok=True)
        (tmp_path / stale).write_text("old")
    runs, tables, histories = golden_study()
    shuffled = runs.sample(frac=1, random_state=3)
    aggregate(shuffled, tables, make_seconds(runs), claims_path, tmp_path)
    report(shuffled, tables, histories, claims_path, tmp_path, commands=("flatmin use quick", "dvc repro"))
    files = sorted(p.relative_to(golden) for p in golden.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*") if p.is_file())
    for file in files:
        assert (golden / file).read_bytes() == (tmp_path / file).read_bytes(), file
        content = (golden / file).read_bytes()
        assert content.endswith(b"\n")
        assert not content.endswith(b"\n\n")


def test_all_outputs_are_there(golden: Path) -> None:
    folders = {"tables", "figures", "metrics", "plots"}
    files = {"claims.json", "claims.md", "cost.csv", "cost.md", "report.html", "report.md"}
    assert {p.name for p in golden.iterdir()} == folders | files
    tables = {p.name for p in (golden / "tables").iterdir()}
    assert {f"{name}.{suffix}" for name in ("quick", "table1") for suffix in ("csv", "md", "tex")} <= tables
    assert {f"paper-sam-table-4.{suffix}" for suffix in ("csv", "md", "tex")} <= tables


def test_dvc_knows_all_outputs_and_can_draw_its_plots(golden: Path) -> None:
    root = Path(__file__).parents[2]
    pipeline = read_yaml(root / "dvc.yaml")
    stages = [pipeline["stages"][name] for name in ("aggregate", "report")]
    outs = [next(iter(out)) for stage in stages for out in (*stage["outs"], *stage.get("metrics", []))]
    assert sorted(outs) == sorted(f"results/{path.name}" for path in golden.iterdir())
    plots = [plot for plot in pipeline["plots"] if isinstance(plot, dict)]
    assert len(plots) == 3
    for spec in (next(iter(plot.values())) for plot in plots):
        ((file, column),) = spec["y"].items()
        assert {spec["x"], column} <= {*pd.read_csv(golden.parent / file.replace("results", golden.name)).columns}
        template = (root / ".dvc" / "plots" / f"{spec['template']}.json").read_text()
        fields = {*re.findall(r'"field": "([a-z]+)"', template)} - {"rev"}
        assert fields <= {*pd.read_csv(golden.parent / file.replace("results", golden.name)).columns}
        assert "<DVC_METRIC_DATA>" in json.dumps(json.loads(template))


def test_a_metrics_file_per_method_has_the_numbers_of_the_csv(golden: Path, numbers: dict[str, pd.DataFrame]) -> None:
    files = sorted((golden / "metrics").iterdir())
    assert len(files) == 3 * 4
    for name, frame in numbers.items():
        for (dataset, model, method), line in frame.iterrows():
            found = json.loads((golden / "metrics" / f"{name}.{dataset}.{model}.{method}.json").read_text())
            assert found["accuracy"] == pytest.approx(line["test_accuracy_percent_mean"], abs=1e-6)
            assert found["n"] == line["n"]


def test_plot_data_has_the_numbers_of_the_csv(golden: Path, numbers: dict[str, pd.DataFrame]) -> None:
    drawn = pd.read_csv(golden / "plots" / "accuracy.csv").set_index(["row", "method", "epoch"])
    assert len(drawn) == 3 * 4 * 2
    line = numbers["quick"].loc[("digits-noise60", "mlp", "sam")]
    shown = drawn.loc[("quick: digits-noise60 / mlp", "sam", "early-stopped")]
    mean, half = line["early_test_accuracy_percent_mean"], line["early_test_accuracy_percent_half_width"]
    assert [*shown] == pytest.approx([mean, mean - half, mean + half, 5], abs=1e-4)


def test_plotted_curves_are_means_over_seeds(golden: Path) -> None:
    drawn = pd.read_csv(golden / "plots" / "curves.csv").set_index(["row", "method", "epoch"])
    runs, _, histories = golden_study()
    ids = runs.query("dataset == 'digits-noise60' and method == 'sgd-2x'")["run_id"]
    values = [histories[run].set_index("epoch").loc[60, "validation_accuracy"] for run in ids]
    shown = drawn.loc[("quick: digits-noise60 / mlp", "sgd-2x", 60)]
    assert shown["validation"] == pytest.approx(100 * sum(values) / 5, abs=1e-4)
    assert shown["n"] == 5


def test_tables_in_the_report_equal_the_csv(page: Page, numbers: dict[str, pd.DataFrame]) -> None:
    for name, metric in (("quick", "accuracy"), ("table1", "error")):
        header, *rows = page.captioned(f"Test {metric} in %")
        frame, seen = numbers[name], 0
        for row in rows:
            for method, shown in zip(header[3:], row[3:], strict=True):
                line = frame.loc[(row[0], row[1], method)]
                column = f"{'' if row[2] == 'last' else 'early_'}test_{metric}_percent"
                assert shown == f"{line[f'{column}_mean']:.2f} ± {line[f'{column}_half_width']:.2f} ({line['n']})"
                seen += 1
        assert seen == len(frame) * 2


def test_answers_equal_the_csv(golden: Path, numbers: dict[str, pd.DataFrame]) -> None:
    html = (golden / "report.html").read_text()
    shown = re.findall(rf'<p class="big"><b>({NUMBER})</b> points<small>95% interval (.*?) to (.*?), (\d+) seeds', html)
    rows = [("quick", "digits-noise0", "mlp"), ("quick", "digits-noise60", "mlp"), ("table1", "cifar10", "wrn28_10")]
    for (name, *row), found in zip(rows, shown, strict=True):
        line = numbers[name].loc[(*row, "sam")]
        expected = [line[f"difference_{part}"] for part in ("points", "low", "high")]
        digits = len(found[0].split(".")[1])
        assert [*found] == [*(f"{value:+.{digits}f}" for value in expected), str(line["difference_n"])]


def test_the_other_methods_equal_the_csv(page: Page, numbers: dict[str, pd.DataFrame]) -> None:
    header, *rows = page.captioned("The other methods")
    assert {row[header.index("method")] for row in rows} == {"asam"}
    for row in rows:
        line = numbers[row[0]].loc[(row[1], row[2], row[3])]
        assert row[4] == line["baseline"]
        for cell, kind in zip(row[5:7], ("difference", "early_difference"), strict=True):
            shown = re.findall(NUMBER, cell)[:3]
            assert shown == [f"{line[f'{kind}_{part}']:+.2f}" for part in ("points", "low", "high")]
            assert cell.endswith(f"({line[f'{kind}_n']})")


def test_paper_tables_equal_the_csv(page: Page, golden: Path) -> None:
    cells = pd.read_csv(golden / "tables" / "paper-sam-table-4.csv")
    shown = [cell for row in page.captioned("Foret et al. 2020 (SAM), Table 4") for cell in row]
    measured_cells = cells[cells["measured_n"] > 0]
    assert len(measured_cells) == 3
    for cell in measured_cells.to_dict("records"):
        number = f"{cell['measured_mean']:.2f} ± {cell['measured_half_width']:.2f} ({cell['measured_n']:.0f})"
        assert any(number in text for text in shown)


def test_claims_in_the_report_equal_claims_json(page: Page, golden: Path) -> None:
    records = {r["statement"]: r for r in json.loads((golden / "claims.json").read_text()) if r["outcomes"]}
    _, *rows = page.captioned("Published and measured")
    claims = [row for row in rows if len(row) == 4]
    assert len(claims) == len(records) > 10
    for statement, published, shown, verdict in claims:
        record = next(r for text, r in records.items() if statement.strip().startswith(text))
        outcome = record["outcomes"][0]
        assert published == record["published"]
        assert verdict.replace(" primary", "") == record["label"]
        assert re.search(rf"\b{outcome['n']} seeds?\b", shown)
        assert ("primary" in verdict) == record["primary"]
        ends = re.search(r"95% interval (\S+) to (\S+), (\d+) seeds", shown)
        if ends and outcome["unit"] != "x":
            digits = len(ends[1].split(".")[1])
            assert [*ends.groups()] == [f"{outcome['low']:+.{digits}f}", f"{outcome['high']:+.{digits}f}", "5"]


def test_verdicts_are_counted(page: Page, golden: Path) -> None:
    header, *rows = page.captioned("Verdicts on")
    records = json.loads((golden / "claims.json").read_text())
    for verdict, total, *by_fidelity in rows:
        own = [r for r in records if r["verdict"] == verdict]
        assert int(total) == len(own)
        if verdict != "not-run":
            assert [*map(int, by_fidelity)] == [
                sum((r["fidelity"] if r["setting"] else "general") == name for r in own) for name in header[2:]
            ]
    assert sum(int(row[1]) for row in rows) == len(records)


def test_claims_that_were_not_run_are_few_groups_and_all_there(golden: Path, claims_path: Path) -> None:
    runs, tables = make_study()
    judged = judge(load_claims(claims_path), measured(runs), tables)
    groups = not_run(judged)
    assert len(groups) < 25
    ids = [name for group in groups for name in group.details]
    assert sorted(ids) == sorted(j.claim.id for j in judged if not j.outcomes)
    assert groups[0].reason == "A row is there, without finished runs to compare"
    ends = [group.reason.endswith(" here") for group in groups]
    assert ends == sorted(ends)
    for text in ((golden / "report.html").read_text(), (golden / "report.md").read_text()):
        assert f"{len(ids)} claims not run, by what this study lacks" in text
        assert all(name in text for name in ids)


def test_every_verdict_that_occurs_is_explained_in_the_open(golden: Path) -> None:
    records = json.loads((golden / "claims.json").read_text())
    html, text = (golden / "report.html").read_text(), (golden / "report.md").read_text()
    shown = re.sub(r"<details>.*?</details>", "", html, flags=re.DOTALL)
    for record in records:
        word = f"{record['verdict'].split(' ')[0]}"
        assert re.search(rf"<dt>{word}\b", shown)
        assert f"- **{word}" in text
    assert "<dt>reversed</dt>" not in html or any(o["verdict"] == "reversed" for r in records for o in r["outcomes"])
    for words in (page_methods := html[html.index("Methods</h2>") :], text):
        assert "Failures alone show no method better and reproduce nothing" in words
    assert "collapsed" in page_methods


def test_github_shows_the_figures(golden: Path) -> None:
    text = (golden / "report.md").read_text()
    pictures = re.findall(r"^!\[(.+)\]\((figures/\S+\.svg)\)$", text, re.MULTILINE)
    assert {path for _, path in pictures} == {f"figures/{p.name}" for p in (golden / "figures").iterdir()}
    assert all(5 < len(alt) < 100 for alt, _ in pictures)
    assert text.count("<details>") == text.count("</details>") == len(pictures) + 1


def test_no_measured_value_without_its_n(page: Page) -> None:
    """Every cell with a mean or an interval says over how many seeds."""
    for rows, caption in zip(page.tables, page.captions, strict=True):
        if not caption.startswith(("Published and measured", "Verdicts on")):
            cells = [cell for row in rows[1:] for cell in row if "±" in cell or "[" in cell]
            published = [cell for row in rows[1:] if "published" in row for cell in row]
            assert all(re.search(r"\(\d+[^)]*\)", cell) for cell in cells if cell not in published), caption
    intervals = re.findall(r"95% interval [-+]?\d[^()]*", page.words)
    assert len(intervals) > 20
    assert all(re.search(r"\d+ (seed|run|pair)s?", interval) for interval in intervals)


def test_markdown_has_the_numbers_of_the_page(golden: Path, page: Page) -> None:
    text = (golden / "report.md").read_text()
    shown = text.replace("&lt;", "<").replace("\\|", "|")
    for rows, caption in zip(page.tables, page.captions, strict=True):
        if not caption.startswith("Published and measured"):
            assert all(f"| {' | '.join(row)} |" in shown for row in rows), caption
    names_of_pictures = re.findall(r'aria-label="(.*?)"', (golden / "report.html").read_text())
    numbers_of_page = {*re.findall(NUMBER, f"{page.text} {names_of_pictures}")}
    assert {*re.findall(NUMBER, re.sub(r"\]\(.*?\)", "]", text))} <= numbers_of_page
    assert {*re.findall(r"\((figures/\S+)\)", text)} == {f"figures/{p.name}" for p in (golden / "figures").iterdir()}
    assert all((golden / link).is_file() for link in re.findall(r"\]\(([a-z]\S+)\)", text) if ":" not in link)


def test_the_answer_comes_first_and_in_plain_words(page: Page) -> None:
    text = page.words
    assert "Does SAM beat SGD here?" in text
    assert "On digits, 60% label noise (mlp), SAM beats the better baseline (SGD) by 42.84 points." in text
    assert "With early stopping +6.14 points (95% interval +5.02 to +7.26, 5 seeds)" in text
    assert "2x the gradients of SGD, 5 runs" in text
    assert "Against SGD-2x, at equal cost +43.98 points (95% interval +43.15 to +44.80, 5 seeds)" in text
    assert text.index("SAM beats") < text.index("Verdicts on") < text.index("Published and measured")
    assert text.index("Published and measured") < text.index("As published, and measured here")
    assert "direction agrees (proxy)" in text
    assert "flatmin use quick" in text
    assert "device cpu, torch 2.9.0, timm 1.0.22" in text
    assert "nan" not in re.findall(r"\b\w+\b", text)


def test_the_lead_counts_what_is_won_and_lost() -> None:
    layouts, runs = study_layouts()
    won = [answer for laid in layouts for answer in headlines(laid, runs)]
    assert lead(won) == (
        "Yes. Of 3 comparisons, 5 seeds each, SAM wins 3 by 0.24 to 42.84 points, adjusted for their number (Holm). "
        "With early stopping it wins 3 of 3. It takes 2 times the gradients."
    )
    nothing, less = won[0].difference, won[1].difference
    nothing, less = replace(nothing, p=0.5), replace(less, interval=replace(less.interval, mean=-42.84))
    unclear, lost = replace(won[0], difference=nothing, early_difference=nothing), replace(won[1], difference=less)
    assert lead([won[2], unclear]).startswith("Sometimes. Of 2 comparisons, 5 seeds each, SAM wins 1 by 0.83 points")
    assert "by 0.83 points and leaves 1 undecided, adjusted" in lead([won[2], unclear])
    assert "wins 1 by 0.83 points, loses 1 by 42.84 points and leaves 1 undecided" in lead([won[2], lost, unclear])
    assert "With early stopping it wins 1 of 2." in lead([won[2], unclear])
    assert lead([won[2], lost]).startswith("It depends.")
    assert "loses 1 by 42.84 points" in lead([won[2], lost])
    assert lead([unclear, unclear]).startswith("It cannot be told from these runs.")
    assert lead([unclear, lost]).startswith("No.")
    assert lead([won[1]]).startswith(
        "Yes. On digits, 60% label noise (mlp), SAM beats the better baseline (SGD) by 42.84"
    )
    assert lead([]) == "Not known yet: no pair of finished runs can be compared."


def test_one_of_ten_comparisons_by_chance_speaks_for_none() -> None:
    """Holm: the smallest of ten p counts tenfold, so that 0.006 is not enough and 0.004 is."""
    layouts, runs = study_layouts()
    answer = headlines(layouts[0], runs)[0]
    gaps = [replace(answer.difference, p=p) for p in (0.006, *[0.5] * 9)]
    alike = [replace(answer, difference=gap, early_difference=gap) for gap in gaps]
    assert lead(alike).startswith("It cannot be told from these runs. Of 10 comparisons")
    assert "With early stopping it wins 0 of 10." in lead(alike)
    assert lead([replace(answer, difference=replace(gaps[0], p=0.004)), *alike[1:]]).startswith("Sometimes.")
    assert lead([replace(answer, difference=replace(gaps[0], p=float("nan"))), *alike[1:]]).startswith("It cannot")


def collapsed(seeds: int, among: str) -> tuple[list[Answer], dict[str, Judged], str]:
    """The answers and claims on clean digits where the runs of ``among`` guess; and the lead."""
    table = make_table("quick", {("digits-noise0", "mlp"): GUESSABLE}, ("sgd", "sam"), seeds)
    runs = make_runs(table, {"sgd": 0.95, "sam": 0.957})
    runs.loc[runs.query(among).index, ["test_accuracy", "early_test_accuracy", "train_accuracy"]] = 0.1
    finished = measured(runs.assign(test_error=1 - runs["test_accuracy"]))
    found = headlines(layout(finished, table), finished)
    judged = judge(load_claims(CLAIMS), finished, {"quick": table})
    return found, {j.claim.id: j for j in judged}, lead(found)


@pytest.mark.parametrize("seeds", [5, 10])
def test_baselines_that_collapsed_are_no_answer_and_agree_with_the_claims(seeds: int) -> None:
    (answer,), claims, said = collapsed(seeds, "method == 'sgd'")
    assert answer.difference.interval.mean > 80
    assert (answer.difference.p < 0.05) == (seeds == 10)  # sign flips: 2 / 2^5 and 2 / 2^10
    assert answer.tone == "unclear"
    assert f"nothing is shown of SAM and SGD: in {seeds} of {seeds} pairs a run failed" in answer.sentence
    assert f"{seeds} runs of SGD collapsed (no better than guessing) and are counted." in answer.trouble
    assert ("which those without a failed run do not show" in answer.sure) == (seeds == 10)
    assert said.startswith("It cannot be told from these runs.")
    head = claims["sam-t1-cifar-10-wrn-28-10-200ep-basic"].headline
    assert head is not None
    assert (head.verdict, head.collapsed) == ("direction unclear", seeds)


def test_a_method_that_collapsed_itself_is_the_worse_one() -> None:
    (answer,), claims, said = collapsed(10, "method == 'sam'")
    assert answer.tone == "worse"
    assert said.startswith("No.")
    head = claims["sam-t1-cifar-10-wrn-28-10-200ep-basic"].headline
    assert head is not None
    assert head.verdict == "direction disagrees"


def test_the_answer_is_about_sam_whatever_came_out_best() -> None:
    layouts, runs = study_layouts()
    assert {answer.method for laid in layouts for answer in headlines(laid, runs)} == {"SAM"}
    without = runs[runs["method"] != "sam"]
    relaid = [layout(without, laid.table) for laid in layouts]
    assert {answer.method for laid in relaid for answer in headlines(laid, without)} == {"ASAM"}
    assert question(relaid, without) == "Does ASAM beat SGD here?"
    one_row = runs.query("not (method == 'sam' and dataset == 'digits-noise60')")
    laid = layout(one_row, layouts[0].table)
    assert [answer.method for answer in headlines(laid, one_row)] == ["SAM"]
    assert unanswered(laid, one_row) == ["digits, 60% label noise (mlp)"]


def test_a_row_that_reads_like_another_goes_by_its_own_name() -> None:
    runs, tables = make_study()
    quick = tables["quick"]
    alike = replace(quick, rows=dict.fromkeys(quick.rows, next(iter(quick.rows.values()))))
    finished = measured(runs.query("not (method in ('sam', 'asam') and dataset == 'digits-noise60')"))
    laid = layout(finished, alike)
    assert [answer.place for answer in headlines(laid, finished)] == ["digits-noise0 (mlp)"]
    assert unanswered(laid, finished) == ["digits-noise60 (mlp)"]


def test_sam_without_options_answers_before_sam_with_some() -> None:
    runs, tables = make_study()
    quick = tables["quick"]
    runs["method"] = runs["method"].replace("asam", "sam-norm")
    runs["ascent"] = runs["ascent"].replace("asam", "sam")
    info = {**quick.method_info, "sam-norm": MethodInfo(options={"only": "norm"})}
    table = replace(quick, methods=("sgd", "sgd-2x", "sam-norm", "sam"), method_info=info)
    finished = measured(runs)
    assert {answer.method for answer in headlines(layout(finished, table), finished)} == {"SAM"}


def test_a_study_without_another_method_has_no_table_of_others() -> None:
    layouts, runs = study_layouts(methods=("sgd", "sgd-2x", "sam"))
    assert others(layouts, runs[runs["method"] != "asam"]) is None


def test_one_seed_gives_a_number_without_an_interval_and_no_verdict() -> None:
    runs, tables = make_study()
    finished = measured(runs[runs["seed"] == 0])
    laid = layout(finished, replace(tables["quick"], seeds=(0,)))
    answer = headlines(laid, finished)[1]
    assert (answer.tone, answer.interval, answer.sure) == (
        "unclear",
        "1 seed, no interval",
        "1 seed: no test is possible",
    )
    assert "cannot be told apart" in answer.sentence


def troubled(tmp_path: Path, claims_path: Path, missing: str = "", diverged: str = "") -> tuple[Page, dict[str, Any]]:
    """The page and the claims of the golden study with some runs missing and some diverged to chance."""
    runs, tables, histories = golden_study()
    if missing:
        runs = runs.drop(runs.query(missing).index)
    if diverged:
        hit = runs.query(diverged).index
        runs.loc[hit, ["diverged", "test_accuracy", "test_error", "early_test_accuracy"]] = [1, 0.1, 0.9, 0.1]
    aggregate(runs, tables, make_seconds(runs), claims_path, tmp_path)
    report(runs, tables, histories, claims_path, tmp_path)
    records = json.loads((tmp_path / "claims.json").read_text())
    return Page((tmp_path / "report.html").read_text()), {record["id"]: record for record in records}


@pytest.mark.usefixtures("no_figures")
def test_a_claim_without_runs_is_not_run_and_has_no_number(tmp_path: Path, claims_path: Path) -> None:
    page, claims = troubled(tmp_path, claims_path, missing="method in ('sam', 'asam') and table == 'table1'")
    claim = claims["asam-cifar-10-wrn-28-10-sam-sgd"]
    assert (claim["label"], claim["outcomes"]) == ("not-run", [])
    spoken = [row[0] for row in page.captioned("Published and measured")]
    assert not any(claim["statement"] in cell for cell in spoken)
    assert re.search(
        rf"A row is there, without finished runs to compare \(\d+\): .*{claim['id']} \(sam and ", page.words
    )
    assert "have no finished runs to compare" in claim["reason"]
    assert "No pair of finished runs can be compared yet: cifar10 (wrn28_10)." in page.words


@pytest.mark.usefixtures("no_figures")
def test_a_claim_with_diverged_runs_says_so_and_rests_on_sign_flips(tmp_path: Path, claims_path: Path) -> None:
    page, claims = troubled(tmp_path, claims_path, diverged="method == 'sam' and seed == 1 and table == 'table1'")
    claim = claims["sam-t1-cifar-10-wrn-28-10-200ep-basic"]
    assert claim["outcomes"][0]["test"] == "sign-flip"
    assert claim["verdict"] == "inconclusive"
    row = next(row for row in page.captioned("Published and measured") if claim["statement"] in row[0])
    assert row[3].startswith("inconclusive")
    assert "1 diverged run included" in page.words
    assert "1 run of SAM diverged and is counted." in page.words
    assert "1 run diverged and is counted as it is" in page.words


@pytest.mark.usefixtures("no_figures")
def test_a_claim_with_missing_runs_says_how_many(tmp_path: Path, claims_path: Path) -> None:
    page, claims = troubled(tmp_path, claims_path, missing="method == 'sam' and seed > 0 and table == 'table1'")
    claim = claims["sam-t1-cifar-10-wrn-28-10-200ep-basic"]
    outcome = claim["outcomes"][0]
    assert (claim["verdict"], outcome["missing"], outcome["low"]) == ("inconclusive", 4, None)
    assert "4 runs missing" in page.words
    assert "4 runs of SAM missing." in page.words


@pytest.mark.usefixtures("no_figures")
def test_partial_says_what_is_missing(tmp_path: Path) -> None:
    write_golden(tmp_path, without="method == 'asam' and seed == 4", partial=True)
    text = Page((tmp_path / "report.html").read_text()).text
    for said in (text, (tmp_path / "report.md").read_text()):
        assert "This report is partial" in said
        assert "quick: digits-noise60 / mlp / asam: 4 of 5 runs" in said


def test_a_study_without_runs_still_has_a_report(tmp_path: Path, claims_path: Path) -> None:
    runs, tables = make_study()
    nothing = runs.head(0)
    aggregate(nothing, tables, make_seconds(nothing), claims_path, tmp_path)
    report(nothing, tables, {}, claims_path, tmp_path, partial=True)
    for text in (Page((tmp_path / "report.html").read_text()).text, (tmp_path / "report.md").read_text()):
        assert "0 of 60 planned runs" in text
        assert "Not known yet" in text
        assert "No row of this study speaks to a claim" in text


@pytest.mark.usefixtures("no_figures")
def test_text_from_the_study_is_escaped(tmp_path: Path, claims_path: Path) -> None:
    runs, tables = make_study()
    object.__setattr__(tables["quick"], "title", "<script>alert(1)</script> & more | less")
    report(runs, tables, make_histories(runs), claims_path, tmp_path)
    assert "<script" not in (tmp_path / "report.html").read_text()
    assert "<script" not in (tmp_path / "report.md").read_text()


def test_claims_json_has_every_claim_and_no_nan(golden: Path) -> None:
    records = json.loads((golden / "claims.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert len(records) > 60
    silent = [r for r in records if not r["outcomes"]]
    assert {r["verdict"] for r in silent} == {"not-run"}
    spoken = next(r for r in records if r["id"] == "sam-t4-noise60")
    assert spoken["label"] == "direction agrees (proxy)"
    assert spoken["outcomes"][0]["n"] == 5


def test_claims_markdown_lists_what_ran_first(golden: Path) -> None:
    text = (golden / "claims.md").read_text()
    assert text.index("## direction agrees (proxy)") < text.index("## What the words mean") < text.index("## Not run")
    assert "`sam-t1-cifar-100-pyramidnet-basic`" in text[text.index("## Not run") :]


def test_the_page_says_what_is_exploratory_and_what_test_data_choose(page: Page) -> None:
    text = " ".join(page.text.split())
    assert re.search(r"rows of this study speak to \d+ of \d+ claims \(\d+ only as proxy\)", text)
    assert "met by at least one row" not in text
    assert text.count("exploratory") > 5
    assert "their p-values are not adjusted" in text
    assert "test data choose nothing" not in text
    assert "by mean test accuracy" in text
    assert "works against the method" in text
    assert "not the choice of the test images" in text


def test_claims_markdown_says_how_many_claims_rows_speak_to(golden: Path) -> None:
    head = (golden / "claims.md").read_text()[:300]
    assert re.search(r"Rows of this study speak to \d+ of \d+ claims \(\d+ only as proxy\)", head)


def test_a_remark_on_the_published_spread_is_not_for_proxies(golden: Path) -> None:
    records = json.loads((golden / "claims.json").read_text())
    outcomes = [outcome for record in records for outcome in record["outcomes"]]
    assert not [o for o in outcomes if o["fidelity"] == "proxy" and "without a spread" in o["remark"]]


def test_a_choice_at_the_edge_is_said_in_short() -> None:
    runs, tables = make_study()
    quick = tables["quick"]
    info = {**quick.method_info, "sam": MethodInfo(edge={("digits-noise60", "mlp"): ["rho"]})}
    laid = layout(measured(runs), replace(quick, method_info=info))
    edges = [answer for answer in headlines(laid, measured(runs)) if "at the edge of its grid" in answer.trouble]
    assert [answer.place for answer in edges] == ["digits, 60% label noise (mlp)"]


def test_early_stopped_gaps_are_from_the_better_early_stopped_baseline() -> None:
    runs, tables = make_study()
    longer = (runs["dataset"] == "digits-noise60") & (runs["method"] == "sgd-2x")
    runs.loc[longer, "early_test_accuracy"] += 0.05
    laid = layout(measured(runs), tables["quick"])
    row = laid.cells[1]
    assert (row.baseline, row.early_baseline) == ("sgd", "sgd-2x")
    early = row.cells["sam"].early_difference
    assert early is not None
    assert early.interval.mean == pytest.approx(2, abs=1.5)
    assert "points against SGD-2x (95% interval" in headlines(laid, measured(runs))[1].early


@pytest.mark.parametrize(
    ("mean", "half_width", "text"),
    [
        (-0.00425, 0.00075, "-0.0043 (95% interval -0.0050 to -0.0035, 5 seeds)"),
        (0.82, 0.31, "+0.82 (95% interval +0.51 to +1.13, 5 seeds)"),
        (1.0, 0.0, "+1.00 (95% interval +1.00 to +1.00, 5 seeds)"),
    ],
)
def test_a_mean_and_its_interval_have_the_same_decimals(mean: float, half_width: float, text: str) -> None:
    shown = interval_text(Interval(mean, half_width, 5, 1.0), "")
    assert re.sub(r"^-0\.004[23]", "-0.0043", shown) == text
