"""The items of the weights that runs start from: what the stage ``download`` fetches and ``prepare`` checks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flatmin.codehash import code_hash
from flatmin.data.errors import DataError
from flatmin.data.manifest import MANIFEST, WEIGHTS, images_folder, read_manifest, weights_folder
from flatmin.fanout import Item
from flatmin.keys import own_model
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
            task={"name": model.name, "models": _named_in(study, name)},
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
        raise DataError(f"{_named_in(study, name)}.pretrained: there is no file of weights at {file}", fix)
    uses = _uses(name, study, workspace)
    code = ["flatmin.pretrained", *{module for use in uses for module in own_model(use["model"]["name"])}]
    folder = weights_folder(workspace.prepared, name)
    return Item(
        id=name,
        kind="weights",
        key=digest_of({"file": file_digest(file), "uses": uses, "code": code_hash(code)}),
        task={"file": str(file.absolute()), "uses": uses},
        outputs={output: folder / output for output in (MANIFEST, WEIGHTS)},
    )


def _named_in(study: Study, name: str) -> str:
    """Return where the study names a set of weights: ``models.net``."""
    named = [key for key, model in study.params.models.items() if model.pretrained and model.weights_name == name]
    return ", ".join(f"models.{key}" for key in named)


def _uses(name: str, study: Study, workspace: Workspace) -> list[dict[str, Any]]:
    """Return what the study builds with a set of weights: each model for each dataset that it is trained on."""
    pairs = dict.fromkeys(pair for table in study.tables for pair in study.rows(table))
    uses: list[dict[str, Any]] = []
    for dataset, model in pairs:
        spec = study.params.models[model]
        if spec.pretrained and spec.weights_name == name:
            source = study.params.datasets[dataset].source_name
            images = read_manifest(images_folder(workspace.prepared, source), "images")
            settings = spec.model_dump(mode="json", exclude={"pretrained"})
            use = {"model": settings, "classes": len(images["classes"]), "shape": images["image_shape"]}
            uses += [] if use in uses else [use]
    return uses
