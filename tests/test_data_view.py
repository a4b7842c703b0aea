"""``flatmin data``: what is listed and shown, and what a check finds right, missing and wrong, with its exit code."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from flatmin.cli import main
from flatmin.data import human_labels
from flatmin.data.files import everything
from flatmin.data.manifest import images_folder, read_manifest
from flatmin.data.published import Published, plain_file
from flatmin.data_view import Finding, check, needed_names
from flatmin.reading import load
from flatmin.stages import Stages
from flatmin.study import Study
from flatmin.vocabulary import vocabulary
from flatmin.workspace import Workspace

CORRUPTED = {
    "test_sets": ["test", "corruptions"],
    "corruptions": {"names": ["contrast"], "severities": [1], "images": 10},
}
DIGITS = {"source": "digits", "train_size": 200, "validation": {"fraction": 0.2}}


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setenv("FLATMIN_SCHEDULER", "inline")
    monkeypatch.setenv("COLUMNS", "250")
    return Workspace(tmp_path)


def study_of(workspace: Workspace, datasets: dict[str, Any], evaluation: dict[str, Any]) -> Study:
    content = {
        "study": ["main"],
        "tables": {"main": {"datasets": [*datasets], "models": ["mlp"], "methods": ["sgd"], "seeds": [0]}},
        "datasets": datasets,
        "models": {"mlp": {"name": "mlp", "args": {"hidden": [8]}}},
        "methods": {"sgd": {"base": "sgd"}},
        "training": {"epochs": 1, "lr": 0.1},
        "selection": {"seeds": [1000]},
        "evaluation": evaluation,
        "sharpness": {},
    }
    workspace.params.write_text(json.dumps(content))  # which is YAML
    return load(workspace.params, vocabulary())


@pytest.fixture
def study(workspace: Workspace) -> Study:
    """Digits and one corruption of them, prepared."""
    found = study_of(workspace, {"digits": DIGITS}, CORRUPTED)
    Stages(found, workspace).prepare()
    return found


def run(workspace: Workspace, *args: str) -> int:
    """Run a command in the study's folder; return its exit code."""
    with contextlib.chdir(workspace.root):
        try:
            main(["data", *args])
        except SystemExit as stop:
            return int(stop.code or 0)
    return 0


def states(study: Study, workspace: Workspace) -> dict[str, str]:
    return {finding.what: finding.state for finding in check(study, workspace)}


ALL_RIGHT = dict.fromkeys(("images digits", "draw digits.s0", "corruption corruptions.digits.contrast"), "right")


# --- check: prepared data ---------------------------------------------------------------------------------------------


def test_what_is_prepared_is_right(study: Study, workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    assert states(study, workspace) == ALL_RIGHT
    capsys.readouterr()
    assert run(workspace, "check") == 0
    assert capsys.readouterr().out.splitlines() == [f"{state:9}{what}" for what, state in ALL_RIGHT.items()]


FILES = {
    "images digits": "_images/digits/train_images.npy",
    "draw digits.s0": "digits/s0/arrays.npz",
    "corruption corruptions.digits.contrast": "_tests/corruptions-digits/contrast/images.npy",
}


def flipped(path: Path) -> None:
    """Change one bit of the last byte, and neither size nor date by much."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.unlink()  # the store may share the file
    path.write_bytes(content)


@pytest.mark.parametrize("breakage", [flipped, Path.unlink], ids=["changed", "removed"])
@pytest.mark.parametrize("what", FILES)
def test_a_wrong_file_is_wrong_and_the_rest_is_right(
    study: Study,
    workspace: Workspace,
    what: str,
    breakage: Callable[[Path], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = workspace.prepared / FILES[what]
    breakage(path)
    assert states(study, workspace) == {**ALL_RIGHT, what: "wrong"}
    capsys.readouterr()
    assert run(workspace, "check") == 1
    told = capsys.readouterr()
    (line,) = [line for line in told.out.splitlines() if line.startswith("wrong")]
    assert line.startswith(f"wrong    {what}: ")
    assert path.name in line
    assert "of 3 pieces of data, 1 wrong" in told.err


@pytest.mark.parametrize("what", ["draw digits.s0", "corruption corruptions.digits.contrast"])
def test_a_folder_that_is_not_there_is_missing(
    study: Study, workspace: Workspace, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = (workspace.prepared / FILES[what]).parent
    folder.rename(workspace.root / "away")
    assert states(study, workspace) == {**ALL_RIGHT, what: "missing"}
    assert run(workspace, "check") == 1
    assert "of 3 pieces of data, 1 missing" in capsys.readouterr().err


def test_nothing_prepared_is_missing(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    found = study_of(workspace, {"digits": DIGITS}, CORRUPTED)
    assert {*states(found, workspace).values()} == {"missing"}
    assert run(workspace, "check") == 1
    assert not workspace.prepared.exists(), "a check makes nothing"


def test_a_check_changes_nothing(study: Study, workspace: Workspace) -> None:
    def content() -> dict[str, tuple[int, str]]:
        return {
            str(path): (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
            for path in workspace.root.rglob("*")
            if path.is_file()
        }

    before = content()
    run(workspace, "check")
    assert content() == before


def test_what_is_wrong_is_mended_by_preparing(study: Study, workspace: Workspace) -> None:
    for file in FILES.values():
        flipped(workspace.prepared / file)
    assert {*states(study, workspace).values()} == {"wrong"}
    Stages(study, workspace).prepare()
    assert states(study, workspace) == ALL_RIGHT


def test_data_of_other_settings_is_not_what_the_study_needs(study: Study, workspace: Workspace) -> None:
    """Whole as it is, it would be made anew: the check is of what this study needs."""
    other = {**CORRUPTED, "corruptions": {**CORRUPTED["corruptions"], "seed": 1, "images": 20}}  # type: ignore[dict-item]
    now = study_of(workspace, {"digits": {**DIGITS, "train_size": 300}}, other)
    found = states(now, workspace)
    assert found["images digits"] == "right"
    assert found["draw digits.s0"] != "right"
    assert found["corruption corruptions.digits.contrast"] != "right"


def test_images_whose_manifest_is_damaged_are_wrong_and_not_missing(study: Study, workspace: Workspace) -> None:
    flipped(images_folder(workspace.prepared, "digits") / "manifest.json")
    found = [*check(study, workspace)]
    assert [finding.state for finding in found if "digits" in finding.what + finding.reason].count("wrong") == 1


def test_all_else_is_checked_where_one_source_is_not_prepared(study: Study, workspace: Workspace) -> None:
    write_pets(workspace.root / "pets")
    pets = {"source": {"kind": "image_folder", "path": "pets", "size": 8, "channels": 1}}
    both = study_of(workspace, {"digits": DIGITS, "pets": pets}, CORRUPTED)
    flipped(workspace.prepared / FILES["images digits"])
    found = states(both, workspace)
    assert found["images digits"] == "wrong"
    assert "missing" in found.values()
    assert found["draw digits.s0"] == "right"


def write_pets(folder: Path) -> None:
    for label in "ab":
        (folder / label).mkdir(parents=True)
        for i in range(20):
            pixels = np.random.default_rng(i).integers(0, 256, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{i}.png")


# --- check: downloads -------------------------------------------------------------------------------------------------

CONTENT = b"labels that people gave"


@pytest.fixture
def human(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> tuple[Study, Path]:
    """A study with human labels whose file is tiny, and the folder of that file. CIFAR-10 itself is not there."""
    file = plain_file("people.pt", ("http://h.invalid/people.pt",), hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))
    tiny: Published = replace(human_labels.PUBLISHED["cifar10"], archives=(file,))
    monkeypatch.setitem(human_labels.PUBLISHED, "cifar10", tiny)
    dataset = {"source": "cifar10", "noise": {"kind": "human", "labels": "worst"}}
    folder = workspace.raw / "cifar10n"
    folder.mkdir(parents=True)
    return study_of(workspace, {"noisy": dataset}, {}), folder


@pytest.mark.parametrize(
    ("content", "state", "said"),
    [
        (CONTENT, "right", ""),
        (None, "missing", "people.pt is missing"),
        (CONTENT + b"!", "wrong", "people.pt has sha256 "),
        (b"", "wrong", "people.pt has sha256 e3b0c44298fc1c14"),
    ],
    ids=["right", "missing", "longer", "empty"],
)
def test_a_download_is_checked_by_its_checksum(
    workspace: Workspace, human: tuple[Study, Path], content: bytes | None, state: str, said: str
) -> None:
    study, folder = human
    if content is not None:
        (folder / "people.pt").write_bytes(content)
    found = {finding.what: finding for finding in check(study, workspace)}
    assert found["files of cifar10n"].state == state
    assert found["files of cifar10n"].reason.startswith(said)
    assert found["files of cifar10"].state == "missing"
    assert found["files of cifar10"].reason.count(" is missing") == 7, "each of its files is named"
    assert run(workspace, "check") == 1


def test_one_wrong_file_among_missing_ones_is_wrong(workspace: Workspace, human: tuple[Study, Path]) -> None:
    study, _ = human
    (workspace.raw / "cifar10").mkdir()
    (workspace.raw / "cifar10" / "test_batch").write_bytes(b"?")
    found: dict[str, Finding] = {finding.what: finding for finding in check(study, workspace)}
    assert found["files of cifar10"].state == "wrong"
    assert "test_batch has md5" in found["files of cifar10"].reason


# --- list -------------------------------------------------------------------------------------------------------------


def listed(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> dict[str, list[str]]:
    """The cells of the printed list by name."""
    capsys.readouterr()
    assert run(workspace, "list") == 0
    lines = [re.split("[│┃]", line) for line in capsys.readouterr().out.splitlines() if re.search("[│┃]", line)]
    return {cells[2].strip(): [cell.strip() for cell in cells[1:-1]] for cells in lines[1:]}


def test_the_list_has_everything_and_marks_what_is_needed(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    found = study_of(workspace, {"digits": DIGITS}, CORRUPTED)
    cells = listed(workspace, capsys)
    assert [*cells] == [published.name for published in everything()]
    assert {name for name, row in cells.items() if row[0] == "★"} == needed_names(found) == {"digits", "corruptions"}
    assert cells["cifar10"][2:5] == ["source", "no", "162.6 MiB"]
    assert cells["cifar10_h"][2] == "test set of cifar10"
    assert cells["corruptions"][2:5] == ["test set of any source", "made here", "–"]
    assert cells["cifar10n"][2] == "labels that people gave"
    assert all(row[5] == published.licence for published, row in zip(everything(), cells.values(), strict=True))


def test_the_list_says_which_files_are_here(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    study_of(workspace, {"digits": DIGITS}, {})
    for name in ("cifar10_c/fog.npy", "cifar10_c/labels.npy", "cifar10_2/cifar102_test.npz"):
        (workspace.raw / name).parent.mkdir(parents=True, exist_ok=True)
        (workspace.raw / name).touch()
    cells = listed(workspace, capsys)
    assert (cells["cifar10_c"][3], cells["cifar10_2"][3], cells["cifar10"][3]) == ("2 of 20 files", "yes", "no")


def test_human_labels_and_one_s_own_images_are_marked(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    pets = {"source": {"kind": "image_folder", "path": "pets", "size": 8}}
    dataset = {"source": "cifar10", "noise": {"kind": "human", "labels": "worst"}}
    found = study_of(workspace, {"noisy": dataset, "pets": pets}, {"test_sets": ["cifar10_1"]})
    cells = listed(workspace, capsys)
    (own,) = [name for name in cells if name.startswith("pets-")]
    assert needed_names(found) == {"cifar10", "cifar10n", "cifar10_1", own}
    assert cells[own][2:6] == ["your own (image_folder), pets", "no", "–", "your own"]
    write_pets(workspace.root / "pets")
    assert listed(workspace, capsys)[own][3] == "yes"


# --- show -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [published.name for published in everything()])
def test_one_is_shown_with_its_terms_addresses_and_checksums(
    workspace: Workspace, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (published,) = [published for published in everything() if published.name == name]
    assert run(workspace, "show", name) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"{name}: ")
    words = [published.licence, published.citation]
    words += [word for archive in published.archives for word in (archive.name, archive.checksum, *archive.urls)]
    assert all(word in text for word in words)


def test_a_source_is_shown_with_its_split_and_classes(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(workspace, "show", "digits") == 0
    text = capsys.readouterr().out
    assert "classes:  10, images 1 x 8 x 8" in text


def test_what_there_is_not_is_refused(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(workspace, "show", "cifar11") == 2
    assert "'cifar11'" in capsys.readouterr().err


def test_a_command_that_is_none_is_refused_with_the_nearest(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(workspace, "chek") == 2
    assert "check" in capsys.readouterr().err


def test_a_manifest_that_was_sealed_is_still_one(study: Study, workspace: Workspace) -> None:
    """`flatmin.records` and `flatmin.data.manifest` read the same file."""
    manifest = read_manifest(images_folder(workspace.prepared, "digits"), "images")
    assert (manifest["source"], sum(manifest["counts"]["test"])) == ("digits", 600)
