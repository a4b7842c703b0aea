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

FILE_ADVICE = "Without network: fetch the file on another machine, put it below data/own, and write its path there."
HUB = "https://huggingface.co"


def fetch(task: Mapping[str, Any], workplace: Workplace) -> dict[str, Any]:
    """Download the weights that timm publishes for the model ``task["name"]``, through the hub's own cache.

    Raises:
        DataError: timm publishes none, or they cannot be had; it names ``task["models"]``, the keys of the study.
    """
    import timm
    from timm.models import load_state_dict_from_hf

    name, where = task["name"], f"{task['models']}.pretrained"
    cfg = timm.get_pretrained_cfg(name)
    if cfg is None or not cfg.hf_hub_id:
        raise DataError(f"{where}: timm publishes no weights of {name!r} on a hub", f"Take another name. {FILE_ADVICE}")
    print(f"{name}: {HUB}/{cfg.hf_hub_id} (licence: {cfg.license or 'see there'})")
    try:
        weights = load_state_dict_from_hf(cfg.hf_hub_id, *filter(None, [cfg.hf_hub_filename]))
    except Exception as error:  # the hub's client has a dozen reasons, most of them the network
        raise DataError(f"{where}: {HUB}/{cfg.hf_hub_id} cannot be downloaded: {error}", FILE_ADVICE) from error
    _save(weights, workplace.result / WEIGHTS)
    return {"source": cfg.hf_hub_id, "licence": cfg.license, "citation": cfg.origin_url}


def write(task: Mapping[str, Any], workplace: Workplace) -> dict[str, Any]:
    """Copy the weights of ``task["file"]`` to a file without code in it, and build with it what the study builds.

    Args:
        task: ``file``; ``uses``, a list of a model's settings, its number of ``classes``, and the ``shape`` of images.
        workplace: where to write.

    Raises:
        DataError: the file holds no weights, numbers that are not finite, or others than the models have.
    """
    file, target = Path(task["file"]), workplace.result / WEIGHTS
    _save(_read(file), target)
    for use in task["uses"]:
        _check(ModelSpec.model_validate(use["model"]), use["classes"], use["shape"], target, file)
    return {"kind": "weights", "version": VERSION, "content_hash": file_digest(target)}


def _read(file: Path) -> dict[str, Tensor]:
    from timm.models import load_state_dict

    fix = "It must be .safetensors, or a state dict that torch.save wrote: tensors by the names of layers."
    try:
        # the weights that were trained; a file of averaged ones is the user's to choose
        weights = load_state_dict(str(file), use_ema=False)
        found = {name: value for name, value in weights.items() if isinstance(value, Tensor)}
    except Exception as error:  # whatever a file can be instead of weights
        raise DataError(f"{file} is no file of weights ({type(error).__name__})", fix) from error
    if not found:
        raise DataError(f"{file} holds no weights", fix)
    bad = [name for name, value in found.items() if not value.isfinite().all()]
    if bad:
        raise DataError(f"{file} holds weights that are not finite: {', '.join(bad[:3])}", "Take another checkpoint.")
    return found


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
