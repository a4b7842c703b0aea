"""The written results: complete, self-contained, accessible, and the same bytes every time."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from synthetic import make_histories, make_seconds, make_study

from flatmin.results import figures
from flatmin.results.aggregate import aggregate
from flatmin.results.answers import answers
from flatmin.results.blocks import layout
from flatmin.results.claim_files import interval_text
from flatmin.results.inputs import MethodInfo, measured
from flatmin.results.report import report
from flatmin.results.statistics import Interval

VOID = {"meta", "link", "br", "img", "hr", "input", "path", "use", "rect"}


class Page(HTMLParser):
    """What the tests ask of a page: elements with their attributes, tables as text, headings in order, nesting."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.tables: list[list[list[str]]] = []
        self.captions = 0
        self.headings: list[int] = []
        self.stack: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.stack.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")
        self.captions += tag == "caption"
        if re.fullmatch(r"h[1-6]", tag):
            self.headings.append(int(tag[1]))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.stack:
            self.text += data
        if self.stack and self.stack[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += data


def write(out: Path, claims_path: Path, *, partial: bool = False) -> None:
    runs, tables = make_study()
    if partial:
        runs = runs[~((runs["method"] == "asam") & (runs["seed"] == 4))]
    aggregate(runs, tables, make_seconds(runs), claims_path, out)
    report(runs, tables, make_histories(runs), claims_path, out, commands=("flatmin use quick",), partial=partial)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory, claims_path: Path) -> Path:
    folder = tmp_path_factory.mktemp("results")
    write(folder, claims_path)
    return folder


@pytest.fixture(scope="module")
def page(out: Path) -> Page:
    return Page((out / "report.html").read_text())


def test_twice_the_same_bytes_and_leftovers_are_removed(out: Path, tmp_path: Path, claims_path: Path) -> None:
    for stale in ("tables/old.csv", "tables/old.tex", "figures/old-curves.svg"):
        (tmp_path / stale).parent.mkdir(exist_ok=True)
        (tmp_path / stale).write_text("old")
    runs, tables = make_study()
    shuffled = runs.sample(frac=1, random_state=3)
    aggregate(shuffled, tables, make_seconds(runs), claims_path, tmp_path)
    report(shuffled, tables, make_histories(runs), claims_path, tmp_path, commands=("flatmin use quick",))
    files = sorted(p.relative_to(out) for p in out.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*") if p.is_file())
    for file in files:
        assert (out / file).read_bytes() == (tmp_path / file).read_bytes(), file
        content = (out / file).read_bytes()
        assert content.endswith(b"\n")
        assert not content.endswith(b"\n\n")


def test_all_outputs_are_there(out: Path) -> None:
    assert {p.name for p in out.iterdir()} == {
        "tables",
        "figures",
        "claims.json",
        "claims.md",
        "metrics.json",
        "cost.csv",
        "cost.md",
        "report.html",
    }
    assert sorted(p.name for p in (out / "tables").iterdir()) == [
        f"{name}.{suffix}" for name in ("quick", "table1") for suffix in ("csv", "md", "tex")
    ]
    json.loads((out / "metrics.json").read_text())


def test_tables_in_the_report_equal_the_csv(out: Path, page: Page) -> None:
    for name, table, metric in (("quick", page.tables[0], "accuracy"), ("table1", page.tables[3], "error")):
        frame = pd.read_csv(out / "tables" / f"{name}.csv").set_index(["dataset", "model", "method"])
        header, *rows = table
        seen = 0
        for row in rows:
            for method, shown in zip(header[3:], row[3:], strict=True):
                line = frame.loc[(row[0], row[1], method)]
                column = f"{'' if row[2] == 'last' else 'early_'}test_{metric}_percent"
                assert shown == f"{line[f'{column}_mean']:.2f} ± {line[f'{column}_half_width']:.2f} ({line['n']})"
                seen += 1
        assert seen == len(frame) * 2


def test_differences_in_the_report_equal_the_csv(out: Path, page: Page) -> None:
    frame = pd.read_csv(out / "tables" / "quick.csv").set_index(["dataset", "model", "method"])
    header, *rows = page.tables[1]
    row = next(r for r in rows if r[0] == "digits-noise60" and r[2] == "last")
    line = frame.loc[("digits-noise60", "mlp", "sam")]
    low, high = line["difference_low"], line["difference_high"]
    shown = row[header.index("sam")]
    assert shown.startswith(f"{line['difference_points']:+.2f} [{low:+.2f}, {high:+.2f}]")
    assert row[3] == line["baseline"]


def test_the_page_loads_nothing(page: Page) -> None:
    for tag, attributes in page.elements:
        assert tag not in ("script", "iframe", "object", "embed", "link", "image")
        assert not (attributes.get("src") or "").strip()
        target = attributes.get("href") or attributes.get("xlink:href") or ""
        if target.startswith(("http:", "https:", "//")):
            assert tag == "a"


def test_styles_load_nothing(out: Path) -> None:
    text = (out / "report.html").read_text()
    styles = "".join(re.findall(r"<style>(.*?)</style>", text, re.DOTALL))
    assert len(re.findall(r"<style", text)) == 1
    assert "@import" not in styles
    assert "url(" not in styles
    assert "prefers-color-scheme: dark" in styles
    assert "@media print" in styles


def test_every_picture_has_a_name(page: Page) -> None:
    pictures = [attributes for tag, attributes in page.elements if tag in ("svg", "img")]
    assert len(pictures) == 2 * 4 + 1
    assert all(p.get("role") == "img" and (p.get("aria-label") or p.get("alt")) for p in pictures)


def test_ids_are_unique_and_resolve(page: Page) -> None:
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in page.elements:
        for key in ("href", "xlink:href", "aria-labelledby"):
            target = attributes.get(key) or ""
            if target.startswith("#") or key == "aria-labelledby":
                assert not target or target.lstrip("#") in ids
        clip = re.fullmatch(r"url\(#(.*)\)", attributes.get("clip-path") or "")
        assert clip is None or clip[1] in ids


def test_structure_for_readers(page: Page) -> None:
    assert page.stack == []
    assert ("html", {"lang": "en"}) in page.elements
    assert page.headings.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(page.headings, page.headings[1:], strict=False))
    assert page.captions == len(page.tables) == 6
    assert all(attributes.get("scope") in ("col", "row") for tag, attributes in page.elements if tag == "th")
    viewport = [attributes for _, attributes in page.elements if attributes.get("name") == "viewport"]
    assert viewport[0]["content"] == "width=device-width, initial-scale=1"


def test_verdicts_come_first_and_in_plain_words(page: Page) -> None:
    text = " ".join(page.text.split())
    said = r"On digits, 60% label noise \(mlp\), SAM beats the better baseline \(SGD\) by 42\.8 points \(95% interval"
    assert re.search(said, text)
    assert "with early stopping the gap is +6.1" in text
    assert text.index("SAM beats") < text.index("Claims, one by one") < text.index("Learning curves", 500)
    assert "direction agrees (proxy)" in text
    assert "seconds" not in text.replace("Seconds were measured too", "")
    assert "flatmin use quick" in text
    assert "device cpu, torch 2.9.0, timm 1.0.22" in text
    assert "nan" not in re.findall(r"\b\w+\b", text)


def test_partial_says_what_is_missing(tmp_path: Path, claims_path: Path) -> None:
    write(tmp_path, claims_path, partial=True)
    text = Page((tmp_path / "report.html").read_text()).text
    assert "This report is partial" in text
    assert "quick: digits-noise60 / mlp / asam: 4 of 5 runs" in text


def test_a_study_without_runs_still_has_a_report(tmp_path: Path, claims_path: Path) -> None:
    runs, tables = make_study()
    nothing = runs.head(0)
    aggregate(nothing, tables, make_seconds(nothing), claims_path, tmp_path)
    report(nothing, tables, {}, claims_path, tmp_path, partial=True)
    text = Page((tmp_path / "report.html").read_text()).text
    assert "0 of 60 planned runs" in text
    assert "No row of this study speaks to a claim" in text


def test_text_from_the_study_is_escaped(tmp_path: Path, claims_path: Path) -> None:
    runs, tables = make_study()
    object.__setattr__(tables["quick"], "title", "<script>alert(1)</script> & more")
    report(runs, tables, make_histories(runs), claims_path, tmp_path)
    assert "<script" not in (tmp_path / "report.html").read_text()


def test_figures_are_xml_without_a_date(out: Path) -> None:
    for path in (out / "figures").iterdir():
        root = ElementTree.fromstring(path.read_text())
        assert root.tag.endswith("svg")
        assert root[0].tag.endswith("title")
        assert "<dc:date>" not in path.read_text()
        assert "Matplotlib" not in path.read_text()


def test_figures_without_runs_say_so() -> None:
    runs, tables = make_study()
    nothing = measured(runs.head(0))
    laid = layout(nothing, tables["quick"])
    for svg in (
        figures.learning_curves(laid, nothing, {}),
        figures.last_and_early(laid),
        figures.forest([laid]),
        figures.forest([]),
        figures.against_sharpness(laid, nothing),
        figures.against_cost(laid, nothing),
    ):
        assert "No finished runs." in svg


def test_claims_json_has_every_claim_and_no_nan(out: Path) -> None:
    records = json.loads((out / "claims.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert len(records) > 60
    silent = [r for r in records if not r["outcomes"]]
    assert {r["verdict"] for r in silent} == {"not-run"}
    spoken = next(r for r in records if r["id"] == "sam-t4-noise60")
    assert spoken["label"] == "direction agrees (proxy)"
    assert spoken["outcomes"][0]["n"] == 5


def test_claims_markdown_lists_what_ran_first(out: Path) -> None:
    text = (out / "claims.md").read_text()
    assert text.index("## direction agrees (proxy)") < text.index("## What the words mean") < text.index("## Not run")
    assert "`sam-t1-cifar-100-pyramidnet-basic`" in text[text.index("## Not run") :]


def test_the_page_says_what_is_exploratory_and_what_test_data_choose(page: Page) -> None:
    text = " ".join(page.text.split())
    assert re.search(r"rows of this study speak to \d+ of 67 claims \(\d+ only as proxy\)", text)
    assert "met by at least one row" not in text
    assert text.count("exploratory") > 5
    assert "their p-values are not adjusted" in text
    assert "test data choose nothing" not in text
    assert "by mean test accuracy" in text
    assert "works against the method" in text
    assert "not the choice of the test images" in text


def test_claims_markdown_says_how_many_claims_rows_speak_to(out: Path) -> None:
    head = (out / "claims.md").read_text()[:300]
    assert re.search(r"Rows of this study speak to \d+ of 67 claims \(\d+ only as proxy\)", head)


def test_a_remark_on_the_published_spread_is_not_for_proxies(out: Path) -> None:
    records = json.loads((out / "claims.json").read_text())
    outcomes = [outcome for record in records for outcome in record["outcomes"]]
    assert not [o for o in outcomes if o["fidelity"] == "proxy" and "without a spread" in o["remark"]]


def test_a_choice_at_the_edge_is_said_in_short() -> None:
    runs, tables = make_study()
    quick = tables["quick"]
    info = {**quick.method_info, "sam": MethodInfo(edge={("digits-noise60", "mlp"): ["rho"]})}
    laid = layout(measured(runs), replace(quick, method_info=info))
    edges = [
        answer.sentence for answer in answers(laid, measured(runs)) if "at the edge of its grid" in answer.sentence
    ]
    assert len(edges) == 1
    assert "60% label noise (mlp), SAM" in edges[0]


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
    assert any("the gap to SGD-2x is" in answer.sentence for answer in answers(laid, measured(runs)))
    assert "SGD (early-stopped: SGD-2x)" in figures.forest([laid])


def test_a_log_axis_says_how_many_runs_it_leaves_out() -> None:
    runs, tables = make_study()
    runs.loc[(runs["dataset"] == "digits-noise0") & (runs["seed"] < 2), "sharpness_n_step"] = 0.0
    finished = measured(runs)
    svg = figures.against_sharpness(layout(finished, tables["quick"]), finished)
    assert svg.count("8 runs at 0 or below left out") == 1


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
