"""Weights that runs start from: fetched from a hub, checked, and kept beside the prepared data by their content."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from flatmin.data.errors import DataError, writing
from flatmin.data.manifest import VERSION, WEIGHTS
from flatmin.models.build import build
from flatmin.records import file_digest
from flatmin.settings import ModelSpec
from flatmin.workplace import Workplace

FILE_ADVICE = (
    "Without network: fetch the file on another machine, put it below data/own, and write `pretrained: <its path>`."
)


def fetch(task: Mapping[str, Any], workplace: Workplace) -> dict[str, Any]:
    """Download the weights that timm publishes for the model ``task["name"]``, through the hub's own cache.

    Raises:
        DataError: timm publishes none, or they cannot be had.
    """
    import timm
    from timm.models import load_state_dict_from_hf

    name = task["name"]
    cfg = timm.get_pretrained_cfg(name)
    if cfg is None or not cfg.hf_hub_id:
        raise DataError(f"timm publishes no weights for {name!r} on a hub", f"Take another name. {FILE_ADVICE}")
    place = f"{cfg.hf_hub_id}/{cfg.hf_hub_filename or 'model.safetensors'}"
    print(f"{name}: {place} (licence: {cfg.license or 'see there'})")
    try:
        weights = load_state_dict_from_hf(cfg.hf_hub_id, *filter(None, [cfg.hf_hub_filename]))
    except Exception as error:  # the hub's client has a dozen reasons, most of them the network
        raise DataError(f"{place} cannot be downloaded from the hub: {error}", FILE_ADVICE) from error
    _save(weights, workplace.result / WEIGHTS)
    return {"source": place, "licence": cfg.license, "citation": cfg.origin_url}


def write(task: Mapping[str, Any], workplace: Workplace) -> dict[str, Any]:
    """Copy the weights of ``task["file"]`` to a file without code in it, and build with it what the study builds.

    Args:
        task: ``file``; ``uses``, a list of a model's settings, its number of ``classes``, and the ``shape`` of images.
        workplace: where to write.

    Raises:
        DataError: the file holds no weights, or others than the models have.
    """
    from timm.models import load_state_dict

    file, target = Path(task["file"]), workplace.result / WEIGHTS
    try:
        weights = load_state_dict(str(file))
    except Exception as error:  # whatever a file can be instead of weights
        raise DataError(
            f"{file} is no file of weights: {error}", "It must be .safetensors, or tensors saved by torch.save."
        ) from error
    _save(weights, target)
    for use in task["uses"]:
        _check(ModelSpec.model_validate(use["model"]), use["classes"], use["shape"], target, file)
    return {"kind": "weights", "version": VERSION, "content_hash": file_digest(target)}


def _save(weights: Mapping[str, Any], path: Path) -> None:
    tensors = {name: value.clone().contiguous() for name, value in weights.items() if isinstance(value, Tensor)}
    with writing(path):
        save_file(tensors, path)


def _check(spec: ModelSpec, classes: int, shape: tuple[int, int, int], weights: Path, file: Path) -> None:
    channels, size, _ = shape
    try:
        build(
            spec.name,
            stem=spec.stem,
            args=spec.args,
            num_classes=classes,
            in_chans=channels,
            img_size=size,
            weights=weights,
        )
    except ValueError as error:
        raise DataError(f"{file} does not fit {spec.name}: {error}", "Take the file of this very model.") from error
