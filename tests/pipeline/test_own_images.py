"""``dvc repro`` on a folder of the user's own images, with generated corruptions, to a report."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pipeline_study import StudyFolder

CLASSES = ("disc", "noise", "square", "stripes")
IMAGES = 200


def draw(kind: str, generator: np.random.Generator) -> np.ndarray:
    """Return an image of a random size that a small network can tell from the others."""
    height, width = generator.integers(12, 40, 2)
    rows, columns = np.mgrid[:height, :width]
    shape = {
        "disc": (rows - height / 2) ** 2 + (columns - width / 2) ** 2 < (min(height, width) / 3) ** 2,
        "noise": generator.random((height, width)) < 0.5,
        "square": (abs(rows - height / 2) < height / 4) & (abs(columns - width / 2) < width / 4),
        "stripes": rows % 6 < 3,
    }[kind]
    return (generator.integers(0, 80, (height, width, 3)) + 150 * shape[..., None]).astype(np.uint8)


def fill(folder: Path) -> None:
    """Write 200 PNGs of four classes."""
    generator = np.random.default_rng(0)
    for number in range(IMAGES):
        kind = CLASSES[number % len(CLASSES)]
        (folder / kind).mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw(kind, generator)).save(folder / kind / f"{number}.png")


def take_own_images(params: dict[str, Any]) -> None:
    """Put the folder in the place of the digits, and ask for two corruptions."""
    source = {"kind": "image_folder", "path": "data/own/shapes", "size": 16}
    params["datasets"] = {"shapes": {"source": source, "validation": {"fraction": 0.2}}}
    table = params["tables"]["quick"]
    table |= {"datasets": ["shapes"], "methods": ["sgd", "sam"], "baseline": ["sgd"]}
    table["select"] = {}
    params["methods"]["sam"]["rho"] = 0.05
    params["training"] |= {"epochs": 10, "lr": 0.05, "batch_size": 16}
    params["evaluation"] |= {
        "test_sets": ["test", "corruptions"],
        "corruptions": {"names": ["gaussian_noise", "contrast"], "severities": [1, 5]},
    }


@pytest.fixture
def shapes(study: StudyFolder) -> StudyFolder:
    fill(study.root / "data" / "own" / "shapes")
    study.edit(take_own_images)
    return study


def prepared(study: StudyFolder) -> dict[str, Any]:
    (manifest,) = (study.root / "data" / "prepared" / "_images").glob("shapes-*/manifest.json")
    content: dict[str, Any] = json.loads(manifest.read_text())
    return content


def test_a_folder_of_images_runs_to_a_report_and_a_new_image_is_noticed(shapes: StudyFolder) -> None:
    shapes.run("dvc", "repro")
    manifest = prepared(shapes)
    assert (manifest["classes"], manifest["image_shape"]) == (list(CLASSES), [3, 16, 16])
    assert (sum(manifest["counts"]["train"]), sum(manifest["counts"]["test"])) == (160, 40)
    page = (shapes.root / "results" / "report.html").read_text()
    assert "shapes" in page
    with (shapes.root / "results" / "tables" / "quick.csv").open() as file:
        accuracy = {row["method"]: float(row["test_accuracy_percent_mean"]) for row in csv.DictReader(file)}
    assert accuracy.keys() == {"sgd", "sam"}
    assert min(accuracy.values()) > 50  # chance is 25
    with (shapes.root / "results" / "tables" / "quick.shift.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {(row["corruption"], row["severity"]) for row in rows} == {
        (name, severity) for name in ("gaussian_noise", "contrast") for severity in ("1", "5")
    }
    assert {row["n"] for row in rows} == {"2"}

    assert "didn't change" in shapes.run("dvc", "repro").stdout
    trained = len(shapes.made("train"))
    generator = np.random.default_rng(1)
    Image.fromarray(draw("disc", generator)).save(shapes.root / "data" / "own" / "shapes" / "disc" / "new.png")
    shapes.run("dvc", "repro")
    again = prepared(shapes)
    assert sum(again["counts"]["train"]) + sum(again["counts"]["test"]) == IMAGES + 1
    assert again["content_hash"] != manifest["content_hash"]
    assert len(shapes.made("train")) == 2 * trained


def test_an_image_that_cannot_be_read_stops_the_preparation_with_its_name(shapes: StudyFolder) -> None:
    (shapes.root / "data" / "own" / "shapes" / "disc" / "broken.png").write_bytes(b"<html>not found</html>")
    done = shapes.run("dvc", "repro", check=False)
    assert done.returncode != 0
    assert "broken.png" in done.stdout + done.stderr
    assert not (shapes.root / "results" / "report.html").exists()
