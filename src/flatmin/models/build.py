"""Build any model by name, for the images and classes of a dataset."""

import contextlib
import difflib
import inspect
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import safe_open
from torch import nn

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
        weights: a .safetensors file to start from, with the names that timm or the model's publisher gave to layers.
            Its classifier is kept where it is one for ``num_classes``, and drawn anew elsewhere.

    Raises:
        ValueError: unknown model, stem or argument, an argument that the dataset sets, or weights of another model.
    """
    if stem not in STEMS:
        raise ValueError(f"unknown stem {stem!r}: use one of {', '.join(STEMS)}")
    _check_name(name)
    own_args = dict(args or {})
    _check_not_from_dataset(name, own_args)
    fixed = {"in_chans": in_chans, **_start(name, weights, num_classes)}
    model = _create(name, {"img_size": img_size, **own_args, **fixed}, img_size_is_optional="img_size" not in own_args)
    if model.num_classes != num_classes:
        model.reset_classifier(num_classes)  # type: ignore[operator]
    if stem == "cifar":
        rewrite_stem(model)
    return model


def _start(name: str, weights: Path | None, num_classes: int) -> dict[str, Any]:
    """Return the arguments that say what to start from.

    With weights, the model is first built for as many classes as they are for: told of another number, timm would not
    notice that a file lacks layers.
    """
    if weights is None:
        return {"num_classes": num_classes, "pretrained": False}
    classes = _classes_in(weights, timm.get_pretrained_cfg(name).classifier) or num_classes
    return {
        "num_classes": classes,
        "pretrained": True,
        "pretrained_cfg_overlay": {"file": str(weights), "num_classes": classes},
    }


def _classes_in(weights: Path, classifier: str | Sequence[str] | None) -> int | None:
    """Return the number of classes that a file's weights tell apart; None where its layers have other names."""
    first = classifier if classifier is None or isinstance(classifier, str) else classifier[0]
    with safe_open(weights, "pt") as file:
        name = f"{first}.weight"
        return file.get_slice(name).get_shape()[0] if name in file.keys() else None  # noqa: SIM118


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
        if kwargs["pretrained"] and "state_dict" in str(error):
            raise ValueError(f"these are not the weights of {name!r} with these arguments: {error}") from error
        raise
    except TypeError as error:
        refused = _refused_argument(error)
        if refused is None:
            raise
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
