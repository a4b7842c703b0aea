"""Stems of ImageNet models, rewritten for small images.

timm's models start by shrinking a 224x224 image by 2 or 4. On 32x32 that throws away most of the image before the
first block sees it, so results at that size need another stem, and the change must be said. `rewrite_stem` changes the
stem and nothing else: the first convolution becomes 3x3 with stride 1 and the same output channels, the stem's pooling
goes. A convolution that is 3x3 already keeps its weights; a new one is drawn as its model draws its own.

Each model class that is understood has one function here, listed in `_REWRITERS`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from timm.layers import trunc_normal_
from timm.models.convnext import ConvNeXt
from timm.models.densenet import DenseNet
from timm.models.efficientnet import EfficientNet
from timm.models.ghostnet import GhostNet
from timm.models.mobilenetv3 import MobileNetV3
from timm.models.regnet import RegNet
from timm.models.resnet import ResNet
from timm.models.resnetv2 import ResNetV2
from torch import Tensor, nn

Initializer = Callable[[Tensor], object]

_he_fan_out: Initializer = partial(nn.init.kaiming_normal_, mode="fan_out", nonlinearity="relu")
_he_fan_in: Initializer = partial(nn.init.kaiming_normal_, mode="fan_in", nonlinearity="leaky_relu")
_narrow: Initializer = partial(trunc_normal_, std=0.02)

_RECORD = "stem_changes"


def with_small_stem(model_class: type[nn.Module]) -> Callable[..., nn.Module]:
    """Return a function that makes a model of a timm class and rewrites its stem (`rewrite_stem`)."""

    def small(**kwargs: Any) -> nn.Module:
        model = model_class(**kwargs)
        rewrite_stem(model)
        return model

    return small


def stem_changes(model: nn.Module) -> tuple[str, ...]:
    """Return what was changed in a model's stem, one sentence per layer; nothing for a native stem."""
    return getattr(model, _RECORD, ())


def rewrite_stem(model: nn.Module) -> None:
    """Rewrite the stem of a timm model in place for small images; `stem_changes` then says what was changed.

    Args:
        model: a model with its native stem.

    Raises:
        ValueError: the stem of this class of models is not known.
    """
    for model_class, rewrite in _REWRITERS.items():
        if isinstance(model, model_class):
            setattr(model, _RECORD, tuple(rewrite(model)))
            return
    known = ", ".join(sorted(model_class.__name__ for model_class in _REWRITERS))
    raise ValueError(
        f"no small-image stem is known for {type(model).__name__}; known: {known}. "
        "Models that are made for small images keep stem='native'."
    )


def _resnet(model: nn.Module) -> list[str]:
    deep = isinstance(model.conv1, nn.Sequential)
    return [
        _unstride(model, "conv1.0" if deep else "conv1", _he_fan_out),
        _remove(model, "maxpool"),
    ]


def _resnet_v2(model: nn.Module) -> list[str]:
    layers = dict(model.stem.named_children())  # type: ignore[union-attr]
    first = "conv1" if "conv1" in layers else "conv"
    pools = [f"stem.{name}" for name in ("pad", "pool") if name in layers]
    return [_unstride(model, f"stem.{first}", _he_fan_out), *(_remove(model, pool) for pool in pools)]


def _densenet(model: nn.Module) -> list[str]:
    return [_unstride(model, "features.conv0", _he_fan_in), _remove(model, "features.pool0")]


def _conv_stem(model: nn.Module) -> list[str]:
    return [_unstride(model, "conv_stem", _he_fan_out)]


def _regnet(model: nn.Module) -> list[str]:
    return [_unstride(model, "stem" if isinstance(model.stem, nn.Conv2d) else "stem.conv", _he_fan_out)]


def _convnext(model: nn.Module) -> list[str]:
    convolutions = [name for name, layer in model.named_modules() if _is_strided_stem(name, layer)]
    return [_unstride(model, name, _narrow) for name in convolutions]


def _is_strided_stem(name: str, layer: nn.Module) -> bool:
    return name.startswith("stem.") and isinstance(layer, nn.Conv2d) and layer.stride != (1, 1)


_REWRITERS: dict[type[nn.Module], Callable[[nn.Module], list[str]]] = {
    ResNet: _resnet,
    ResNetV2: _resnet_v2,
    DenseNet: _densenet,
    EfficientNet: _conv_stem,
    MobileNetV3: _conv_stem,
    GhostNet: _conv_stem,
    RegNet: _regnet,
    ConvNeXt: _convnext,
}


def _unstride(model: nn.Module, name: str, initialize: Initializer) -> str:
    """Make the convolution called ``name`` a 3x3 one with stride 1, and say what it was."""
    convolution = model.get_submodule(name)
    if not isinstance(convolution, nn.Conv2d):
        raise ValueError(
            f"expected a convolution at {name} of {type(model).__name__}, found {type(convolution).__name__}"
        )
    before = f"{name}: {_describe(convolution)}"
    if convolution.kernel_size == (3, 3):
        convolution.stride = (1, 1)
        return f"{before} became stride 1, weights kept"
    # changed in place: a subclass (standardised weights, its epsilon) stays what it is
    convolution.weight = nn.Parameter(convolution.weight.new_empty(*convolution.weight.shape[:2], 3, 3))
    convolution.kernel_size, convolution.stride, convolution.padding = (3, 3), (1, 1), (1, 1)
    initialize(convolution.weight)
    if convolution.bias is not None:
        nn.init.zeros_(convolution.bias)
    return f"{before} became {_describe(convolution)}, newly drawn"


def _remove(model: nn.Module, name: str) -> str:
    old = model.get_submodule(name)
    model.set_submodule(name, nn.Identity())
    return f"{name}: {type(old).__name__} removed"


def _describe(convolution: nn.Conv2d) -> str:
    height, width = convolution.kernel_size
    return f"{height}x{width} convolution with stride {convolution.stride[0]}"
