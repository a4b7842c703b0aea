"""How a network of ours becomes one of timm's: its names, its default configuration, and weights from a file."""

import functools
import sys
from collections.abc import Callable
from typing import Any

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn

CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR10_STD = (0.2470, 0.2435, 0.2616)

EntryPoint = Callable[..., nn.Module]
Weights = dict[str, Tensor]

_SOURCES = ("file", "state_dict", "url", "hf_hub_id")
"""What timm can load weights from, as its configurations name it."""


def synonym(name: str) -> Callable[[EntryPoint], EntryPoint]:
    """Register the decorated entry point by a second ``name`` too: the one that papers use.

    All networks of ours have ``cifar`` in their first name, so that ``timm.list_models("*cifar*")`` lists them and none
    is taken for timm's own of the same architecture.
    """

    def register(entry_point: EntryPoint) -> EntryPoint:
        @functools.wraps(entry_point)
        def second(pretrained: bool = False, **kwargs: Any) -> nn.Module:
            return entry_point(pretrained, **kwargs)

        second.__name__ = second.__qualname__ = name
        family = sys.modules[entry_point.__module__]
        setattr(family, name, second)  # timm adds the name to the module's __all__
        family.default_cfgs[name] = family.default_cfgs[entry_point.__name__]
        register_model(second)
        return entry_point

    return register


def small_image_cfgs(
    *names: str, first_conv: str | None, classifier: str = "fc", fixed_input_size: bool = False
) -> dict[str, Any]:
    """Return timm's ``default_cfgs`` for models of 32x32 colour images that have no published weights.

    Args:
        names: the models, as registered.
        first_conv: name of the first convolution, None where there is none.
        classifier: name of the last linear layer.
        fixed_input_size: whether the constructor takes ``img_size``.
    """
    cfg = {
        "num_classes": 10,
        "input_size": (3, 32, 32),
        "fixed_input_size": fixed_input_size,
        "crop_pct": 1.0,
        "mean": CIFAR10_MEAN,
        "std": CIFAR10_STD,
        "first_conv": first_conv,
        "classifier": classifier,
    }
    return generate_default_cfgs({name: dict(cfg) for name in names})


def create(
    model_class: EntryPoint,
    name: str,
    pretrained: bool,
    kwargs: dict[str, Any],
    *,
    renamed: Callable[[Weights], Weights] | None = None,
) -> nn.Module:
    """Build a registered model the way timm does, its standard arguments included.

    Args:
        model_class: what to build: a class, or a function that makes an instance of one.
        name: the registered name.
        pretrained: load weights from the file (or other place) that ``kwargs`` give as timm does:
            ``pretrained_cfg_overlay={"file": path}``. A classifier of another number of classes is left as drawn.
        kwargs: what ``timm.create_model`` passed on.
        renamed: turns the names of layers in files that others publish into ours.

    Raises:
        ValueError: weights are asked for and no place is given; nobody publishes them for this name.
    """
    if pretrained and not _has_source(kwargs):
        raise ValueError(
            f"{name} has no pretrained weights of its own: give a file of yours, "
            "pretrained_cfg_overlay={'file': 'weights.safetensors'}, or build it with pretrained=False and train it"
        )
    if pretrained:
        overlay = kwargs.get("pretrained_cfg_overlay") or {}
        # what timm takes for a change of classes makes it forgive missing layers
        classes = {"num_classes": kwargs.get("num_classes", 10)}
        kwargs = {**kwargs, "pretrained_cfg_overlay": {**overlay, **classes}}
    fitted = functools.partial(_fitted, renamed=renamed)
    model: nn.Module = build_model_with_cfg(model_class, name, pretrained, pretrained_filter_fn=fitted, **kwargs)
    return model


def _has_source(kwargs: dict[str, Any]) -> bool:
    cfgs = (kwargs.get("pretrained_cfg"), kwargs.get("pretrained_cfg_overlay"))
    return any(cfg.get(source) for cfg in cfgs if isinstance(cfg, dict) for source in _SOURCES)


def _fitted(weights: Weights, model: nn.Module, renamed: Callable[[Weights], Weights] | None) -> Weights:
    """Give layers our names; a classifier for another number of classes is replaced by the one just drawn."""
    weights = dict(weights if renamed is None else renamed(weights))
    own = model.state_dict()
    cfg: dict[str, Any] = model.default_cfg  # type: ignore[assignment]
    for name in (f"{cfg['classifier']}.weight", f"{cfg['classifier']}.bias"):
        if name in weights and name not in own:  # the model returns features
            del weights[name]
        elif name in weights and weights[name].shape != own[name].shape:
            weights[name] = own[name]
    return weights
