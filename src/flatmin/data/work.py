"""The data stages as a worker performs them: a source's files, its images, a seed's draw of a dataset."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flatmin.data import prepared
from flatmin.data.archives import mirrors_from_environment, obtain
from flatmin.data.sources.registry import load
from flatmin.settings import DatasetSpec
from flatmin.workplace import Workplace


def download(task: Mapping[str, Any], workplace: Workplace) -> dict[str, Any]:
    """Bring the verified files of ``task["source"]``, from a mirror or one of its addresses."""
    source = load(task["source"])
    obtain(source, workplace.result, mirrors=mirrors_from_environment(), progress=print)
    return {"source": source.name, "licence": source.licence, "citation": source.citation}


def images(task: Mapping[str, Any], workplace: Workplace) -> dict[str, Any]:
    """Write the images and labels of ``task["source"]`` from its files in ``task["raw"]``."""
    return prepared.write_images(load(task["source"]), Path(task["raw"]), workplace.result)


def draw(task: Mapping[str, Any], workplace: Workplace) -> dict[str, Any]:
    """Write a seed's draw of the dataset described by ``task["spec"]``."""
    spec = DatasetSpec.model_validate(task["spec"])
    return prepared.write_draw(spec, Path(task["images"]), task["seed"], workplace.result)
