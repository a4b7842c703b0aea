"""``flatmin claims``: all claims with and without results, filters, one in full, and what is said of stale results."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "results"))

from synthetic import make_study

from flatmin.claims_view import Line, in_full, read_records
from flatmin.cli import main
from flatmin.results.claim_files import claims_json
from flatmin.results.claim_spec import load_claims
from flatmin.results.claims import judge
from flatmin.results.inputs import measured
from flatmin.workspace import Workspace

CLAIM = "sam-t1-cifar-10-wrn-28-10-200ep-basic"


@pytest.fixture(scope="module")
def judged_text() -> str:
    runs, tables = make_study()
    claims = load_claims(Path(__file__).parents[1] / "experiments" / "claims.yaml")
    return claims_json(judge(claims, measured(runs), tables))


@pytest.fixture
def workspace(tmp_path: Path, judged_text: str, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A study's folder with results, in which commands are run."""
    here = Workspace(tmp_path)
    here.presets.mkdir()
    here.results.mkdir()
    shutil.copy(Path(__file__).parents[1] / "experiments" / "claims.yaml", here.claims)
    (here.results / "claims.json").write_text(judged_text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)
    return here


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    main(["claims", *arguments])
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as stop:
        main(["claims", *arguments])
    assert stop.value.code == 2
    return capsys.readouterr().err


def test_every_claim_is_listed_with_its_verdict(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys).replace("\n", " ")
    claims = load_claims(workspace.claims)
    assert f"{len(claims)} of {len(claims)} claims" in text
    assert len(claims) >= 60
    assert [name for name in (claim.id for claim in claims) if name not in text] == []


def test_what_is_judged_comes_first_and_the_rest_by_reason(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    text = said(capsys)
    assert text.index("guide-label-noise") < text.index("not-run: ") < text.index("sam-t2-imagenet-resnet-50-100ep")
    assert text.count("not-run: no fitting row with images of imagenet (") == 1
    assert text.count("not-run: ") < 40
    assert len(text.splitlines()) < 250


def test_published_and_measured_stand_side_by_side(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(capsys, "sam-t1-cifar-10-wrn-28-10-200ep").splitlines()
    first = next(line for line in lines if line.strip().startswith("sam-t1"))
    assert "+0.8 points" in first
    assert "3 of " in lines[-1]


@pytest.mark.parametrize(
    ("arguments", "there", "absent"),
    [
        (["sam-t4"], ["sam-t4-noise20", "sam-t4-noise80"], ["sam-t1", "asam"]),
        (["*-noise60"], ["sam-t4-noise60", "sam-mixup-noise60"], ["noise20"]),
        (["--primary"], ["critics-early-stopping", "guide-sharpness-lower"], ["sam-t4-noise20"]),
        (["asam-t6", "--verdict", "not-run"], ["asam-t6-noise20-sam-sgd"], ["asam-t6-noise60-sam-sgd"]),
        (["--verdict", "agrees"], ["asam-t6-noise60-sam-sgd"], ["asam-t6-noise20-sam-sgd"]),
        (["--verdict", "reproduced"], ["guide-cost-2x"], ["sam-t4"]),
    ],
)
def test_filters(
    workspace: Workspace,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    there: list[str],
    absent: list[str],
) -> None:
    text = said(capsys, *arguments)
    assert all(name in text for name in there)
    assert not [name for name in absent if name in text]


def test_an_exact_id_shows_rule_and_departures(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    text = " ".join(said(capsys, "sam-t4-noise60").split())
    assert "test accuracy of sam minus that of the better baseline is above zero" in text
    assert "cifar10, noise kind symmetric, noise rate 0.6, model ResNet-32, epochs 200" in text
    assert "rows: those with 60% symmetric label noise" in text
    assert "quick: digits-noise60 / mlp, sam against sgd: direction agrees (proxy)" in text
    assert "- data digits instead of cifar10" in text
    assert "verified-from-text" in text


def test_a_claim_that_is_not_run_says_why(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "sam-fig3-lambda-max")
    assert "not-run: not measured here: the largest eigenvalue of the Hessian" in " ".join(text.split())


@pytest.mark.parametrize("width", [40, 60, 119])
def test_narrow_terminals_get_lines_that_fit(
    workspace: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setattr("flatmin.claims_view.PIPE_WIDTH", width)
    monkeypatch.setenv("COLUMNS", str(width))
    ids = {claim.id for claim in load_claims(workspace.claims)}
    lines = said(capsys, "sam-t4").splitlines()[:-1]
    assert all(len(line) <= width for line in lines if line.removesuffix(" ★") not in ids)
    assert any(line.startswith("  published: +42.3 points") for line in lines)


def test_without_results_it_says_so(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    (workspace.results / "claims.json").unlink()
    text = said(capsys, "sam-t4")
    assert "claims.json is not there: `flatmin aggregate` writes it" in text
    assert "direction" not in text


def test_results_of_another_claims_file_are_not_shown(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    changed = workspace.claims.read_text().replace("treatment: {value: 90.5}", "treatment: {value: 90.6}", 1)
    workspace.claims.write_text(changed)
    text = said(capsys, "sam-t4-noise60")
    assert "1 claim reads otherwise now" in text
    assert "direction agrees" not in text
    assert "direction agrees" in said(capsys, "critics-early-stopping", "asam-t6-noise60")


def test_a_study_may_have_other_primary_claims(workspace: Workspace) -> None:
    path = workspace.results / "claims.json"
    records = json.loads(path.read_text())
    records[1]["primary"] = not records[1]["primary"]
    path.write_text(json.dumps(records))
    found, warning = read_records(path, load_claims(workspace.claims))
    assert len(found) == len(records)
    assert warning == ""


def test_every_claim_can_be_shown_in_full(workspace: Workspace) -> None:
    claims = load_claims(workspace.claims)
    found, _ = read_records(workspace.results / "claims.json", claims)
    for claim in claims:
        text = "\n".join(in_full(Line(claim, found[claim.id]), 100))
        assert claim.statement.split()[0] in text
        assert "None" not in text
        assert all(len(line) <= 100 for line in text.splitlines() if "http" not in line)


def test_what_fits_nothing_is_refused_with_the_nearest(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "did you mean 'sam-t4-noise60'" in refused(capsys, "sam-t4-noize60")
    assert "no verdict is called 'refuted'" in refused(capsys, "--verdict", "refuted")
    assert CLAIM in {claim.id for claim in load_claims(workspace.claims)}
