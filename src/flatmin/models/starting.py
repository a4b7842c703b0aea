"""Weights to start from: a file that a model of the same kind has saved, or one in its publisher's layout."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import timm
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn


def load_as_saved(model: nn.Module, file: Path) -> bool:
    """Load a file that holds exactly the layers of ``model``, in their shapes, and return whether it does.

    A classifier for another number of classes is no obstacle: the model keeps the one that it has.

    Args:
        model: with the stem that it is to have.
        file: safetensors.
    """
    own, shapes = model.state_dict(), dict(_shapes(file))
    head = tuple(f"{name}." for name in _classifiers(model.default_cfg))
    differing = [name for name in own if shapes.get(name) != tuple(own[name].shape)]
    if shapes.keys() != own.keys() or not all(name.startswith(head) for name in differing):
        return False
    fitting = {name: value for name, value in load_file(file).items() if name not in differing}
    model.load_state_dict({**own, **fitting})
    return True


def published(name: str, file: Path) -> dict[str, Any]:
    """Return the arguments by which timm creates the model ``name`` with the weights that its publisher gave it.

    They are for as many classes as the file: told of another number, timm would not notice that a file lacks layers.
    """
    cfg = timm.get_pretrained_cfg(name)
    shapes = dict(_shapes(file))
    first = next(
        (shapes[f"{layer}.weight"] for layer in _classifiers(cfg.to_dict()) if f"{layer}.weight" in shapes), ()
    )
    classes = first[0] if first else cfg.num_classes
    overlay = {"file": str(file), "num_classes": classes}
    return {"num_classes": classes, "pretrained": True, "pretrained_cfg_overlay": overlay}


def _shapes(file: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    with safe_open(file, "pt") as opened:
        for name in opened.keys():  # noqa: SIM118
            yield name, tuple(opened.get_slice(name).get_shape())


def _classifiers(cfg: Any) -> tuple[str, ...]:
    """Return the names of the last layers in timm's configuration; some models have two."""
    names = cfg.get("classifier") or ()
    return (names,) if isinstance(names, str) else tuple(names)
