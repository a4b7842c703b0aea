"""The items of the weights that runs start from: what the stage ``download`` fetches and ``prepare`` checks."""

from __future__ import annotations

from pathlib import Path

from flatmin.codehash import code_hash
from flatmin.data.errors import DataError
from flatmin.data.manifest import MANIFEST, WEIGHTS, images_folder, read_manifest, weights_folder
from flatmin.fanout import Item
from flatmin.records import digest_of, file_digest
from flatmin.settings import ModelSpec
from flatmin.study import Study
from flatmin.workspace import Workspace


def needed_weights(study: Study) -> dict[str, ModelSpec]:
    """Return the models of the study's tables that start from weights, one for each set of weights by its name."""
    models = (study.params.models[model] for table in study.tables for _, model in study.rows(table))
    return {model.weights_name: model for model in models if model.pretrained}


def hub_items(study: Study, workspace: Workspace) -> list[Item]:
    """Return an item for every set of weights that comes from a hub."""
    return [
        Item(
            id=name,
            kind="hub_weights",
            key=digest_of({"hub": model.name}),
            task={"name": model.name},
            outputs={file: workspace.raw / name / file for file in ("download.json", WEIGHTS)},
        )
        for name, model in needed_weights(study).items()
        if model.pretrained is True
    ]


def weights_items(study: Study, workspace: Workspace) -> list[Item]:
    """Return an item for every set of weights. The images that models are built for must be there.

    Raises:
        DataError: they are not, or a file of weights is not.
    """
    return [_weights_item(name, model, study, workspace) for name, model in needed_weights(study).items()]


def _weights_item(name: str, model: ModelSpec, study: Study, workspace: Workspace) -> Item:
    path = model.pretrained if isinstance(model.pretrained, str) else None
    file = workspace.raw / name / WEIGHTS if path is None else workspace.root / Path(path).expanduser()
    if not file.is_file():
        fix = "Run: dvc repro download" if path is None else "Give the path of a file, from the study's folder."
        raise DataError(f"there are no weights at {file}", fix)
    folder = weights_folder(workspace.prepared, name)
    return Item(
        id=name,
        kind="weights",
        key=digest_of({"file": file_digest(file), "code": code_hash(["flatmin.pretrained"])}),
        task={"file": str(file.absolute()), "uses": _uses(name, study, workspace)},
        outputs={output: folder / output for output in (MANIFEST, WEIGHTS)},
    )


def _uses(name: str, study: Study, workspace: Workspace) -> list[dict[str, object]]:
    """Return what the study builds with a set of weights: each model for each dataset that it is trained on."""
    pairs = dict.fromkeys(pair for table in study.tables for pair in study.rows(table))
    uses = []
    for dataset, model in pairs:
        spec = study.params.models[model]
        if spec.pretrained and spec.weights_name == name:
            source = study.params.datasets[dataset].source_name
            images = read_manifest(images_folder(workspace.prepared, source), "images")
            shape, classes = images["image_shape"], len(images["classes"])
            uses.append({"model": spec.model_dump(mode="json"), "classes": classes, "shape": shape})
    return uses
