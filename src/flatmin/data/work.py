"""The data stages as a worker performs them: published files, a source's images, a draw of a dataset, a test set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from flatmin.data import prepared, prepared_tests
from flatmin.data.archives import mirrors_from_environment, obtain, verify
from flatmin.data.files import published
from flatmin.data.own.source import read_own
from flatmin.data.sources.registry import load as load_source
from flatmin.data.telling import tell_tenths
from flatmin.data.test_set import Corruptions, HumanJudgements, NewImages
from flatmin.data.test_sets.registry import load as load_test_set
from flatmin.settings import CorruptionSpec, DatasetSpec, Own
from flatmin.workplace import Workplace


def download(task: Mapping[str, Any], workplace: Workplace) -> dict[str, Any]:
    """Bring the verified ``task["members"]`` of what ``task["name"]`` calls, from a mirror or one of its addresses."""
    files = published(task["name"]).only(task["members"])
    print(f"{files.name}: licence: {files.licence}")
    # what is here already counts first: a study that asks for more of an archive need not bring all of it again
    mirrors = (Path(task["raw"]), *mirrors_from_environment())
    obtain(files, workplace.result, mirrors=mirrors, progress=print)
    return {"source": files.name, "licence": files.licence, "citation": files.citation}


def images(task: Mapping[str, Any], workplace: Workplace) -> dict[str, Any]:
    """Write the images and labels of ``task["source"]`` from its files in ``task["raw"]``, or the user's ``own``."""
    if "source" in task:
        return prepared.write_images(load_source(task["source"]), Path(task["raw"]), workplace.result)
    spec = TypeAdapter(Own).validate_python(task["own"])
    return prepared.write_own_images(spec.name, read_own(spec, Path(task["root"]), tell_tenths), workplace.result)


def draw(task: Mapping[str, Any], workplace: Workplace) -> dict[str, Any]:
    """Write a seed's draw of the dataset described by ``task["spec"]``."""
    spec = DatasetSpec.model_validate(task["spec"])
    annotations = Path(task["annotations"]) if task.get("annotations") else None
    return prepared.write_draw(spec, Path(task["images"]), task["seed"], workplace.result, annotations)


def test_set(task: Mapping[str, Any], workplace: Workplace) -> dict[str, Any]:
    """Write the test set ``task["test_set"]``, or the corruption ``task["part"]`` of it."""
    found = load_test_set(task["test_set"])
    raw, images_folder, part = Path(task["raw"]), Path(task["images"]), task["part"]
    match found:
        case Corruptions(archives=()):
            spec = CorruptionSpec.model_validate(task["corruptions"])
            return prepared_tests.write_generated_corruption(found, part, spec, images_folder, workplace.result)
        case Corruptions():
            verify(found.only(["labels.npy", f"{part}.npy"]), raw)
            return prepared_tests.write_official_corruption(found, part, raw, images_folder, workplace.result)
        case HumanJudgements():
            verify(found, raw)
            return prepared_tests.write_judgements(found, raw, images_folder, workplace.result)
        case NewImages():
            verify(found, raw)
            return prepared_tests.write_new_images(found, raw, images_folder, workplace.result)
    raise TypeError(f"{found.name} is no kind of test set that can be prepared: {type(found).__name__}")
