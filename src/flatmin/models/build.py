"""Build any model by name, for the images and classes of a dataset."""

import contextlib
import difflib
import inspect
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from flatmin.models.starting import load_as_saved, published
from flatmin.models.stem import rewrite_stem

# importing this module has run the package's __init__, which registers our models with timm
STEMS = ("native", "cifar")

_FROM_THE_DATASET = ("num_classes", "in_chans", "pretrained", "pretrained_cfg_overlay")


def build(
    name: str,
    *,
    stem: str = "native",
    args: Mapping[str, Any] | None = None,
    num_classes: int,
    in_chans: int,
    img_size: int,
    weights: Path | None = None,
) -> nn.Module:
    """Build the model ``name`` through ``timm.create_model``.

    The result depends on the arguments and the state of torch's global random generator alone.

    Args:
        name: any name that timm knows, ours among them; a pretrained tag may follow a dot.
        stem: ``native`` for the model as it is, ``cifar`` to rewrite an ImageNet stem for small images
            (`flatmin.models.stem`, whose `stem_changes` tells what that did).
        args: further arguments of the model.
        num_classes: number of logits.
        in_chans: number of image channels.
        img_size: height and width of the images; passed to models that ask for it, unless ``args`` has an
            ``img_size`` of its own.
        weights: a .safetensors file to start from: one that such a model has saved, or with the names of layers that
            timm or the model's publisher gave. Its classifier is kept where it is one for ``num_classes``, and drawn
            anew elsewhere. A publisher's file is loaded before the stem is rewritten.

    Raises:
        ValueError: unknown model, stem or argument, one that does not fit or that the dataset sets, or weights of
            another model.
    """
    if stem not in STEMS:
        raise ValueError(f"unknown stem {stem!r}: use one of {', '.join(STEMS)}")
    _check_name(name)
    own_args = dict(args or {})
    _check_not_from_dataset(name, own_args)
    create = partial(_create, name, img_size_is_optional="img_size" not in own_args)
    settings = {"img_size": img_size, **own_args, "in_chans": in_chans}
    model = _with_stem(create({**settings, "num_classes": num_classes, "pretrained": False}), stem)
    if weights is None or load_as_saved(model, weights):
        return model
    model = create({**settings, **published(name, weights)})
    if model.num_classes != num_classes:
        model.reset_classifier(num_classes)  # type: ignore[operator]
    return _with_stem(model, stem)


def _with_stem(model: nn.Module, stem: str) -> nn.Module:
    if stem == "cifar":
        rewrite_stem(model)
    return model


def _check_name(name: str) -> None:
    if timm.is_model(name.split(".")[0]):
        return
    near = difflib.get_close_matches(name, timm.list_models(), n=5)
    hint = f"; the nearest names are {', '.join(near)}" if near else ""
    raise ValueError(f"unknown model {name!r}{hint}")


def _check_not_from_dataset(name: str, args: Mapping[str, Any]) -> None:
    for key in _FROM_THE_DATASET:
        if key in args:
            raise ValueError(f"{key} of model {name!r} is set by the dataset or by build itself: take it out of args")


def _create(name: str, kwargs: dict[str, Any], img_size_is_optional: bool) -> nn.Module:
    """Create the model, without ``img_size`` if that is optional and the model takes none.

    Whether a model takes an argument shows only when it is called: timm's entry points forward whatever they get. The
    refusal comes before a weight is drawn; the generator is put back all the same.
    """
    state = torch.get_rng_state()
    try:
        return timm.create_model(name, **kwargs)
    except RuntimeError as error:
        if kwargs["pretrained"]:
            raise ValueError(f"these are not the weights of {name!r} with these arguments: {error}") from error
        raise
    except TypeError as error:
        refused = _refused_argument(error)
        if refused is None:
            raise ValueError(f"model {name!r} cannot be built with {kwargs}: {error}") from error
    if refused == "img_size" and img_size_is_optional:
        torch.set_rng_state(state)
        rest = {key: value for key, value in kwargs.items() if key != "img_size"}
        return _create(name, rest, img_size_is_optional=False)
    raise ValueError(_refusal(name, refused))


def _refused_argument(error: TypeError) -> str | None:
    # Python's words, and those of timm where a model checks for itself
    match = re.search(r"unexpected keyword argument(?:\(s\): \[)? ?'(\w+)'", str(error))
    return match.group(1) if match else None


def _refusal(name: str, refused: str) -> str:
    taken = _arguments(name)
    near = difflib.get_close_matches(refused, taken, n=3)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    listing = f" (it takes {', '.join(taken)})" if taken else ""
    return f"model {name!r} takes no argument {refused!r}{listing}{hint}"


def _arguments(name: str) -> list[str]:
    """Return the arguments of the model's class; none where that cannot be told."""
    # the class is known only from a model; on the meta device a large one costs no memory
    with contextlib.suppress(Exception), torch.device("meta"):
        parameters = inspect.signature(type(timm.create_model(name))).parameters.values()
        return [p.name for p in parameters if p.kind is not p.VAR_KEYWORD and p.name not in ("device", "dtype")]
    return []
