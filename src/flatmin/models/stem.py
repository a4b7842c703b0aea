"""Stems of ImageNet models, rewritten for small images.

timm's models start by shrinking a 224x224 image by 2 or 4. On 32x32 that throws away most of the image before the
first block sees it, so results at that size need another stem, and the change must be said. `rewrite_stem` changes the
stem and nothing else: its convolutions get stride 1, its pooling goes. A convolution that is not larger than 3x3 keeps
its weights; any other becomes 3x3 with the same channels, drawn as its model draws its own. At 32x32 the last feature
map is then 4x4 where the native stem shrinks by 4 (ResNet, ResNetV2, SENet, DenseNet, ConvNeXt, EdgeNeXt, MetaNeXt,
VovNet, HighResolutionNet, some of ByobNet and CspNet) and 2x2 where it shrinks by 2 (the others).

Each model class that is understood has one entry in `_REWRITERS`, which covers all models of the class: ResNet those
of ResNeXt, Wide ResNet, SE-ResNet, ResNeSt, Res2Net and SKNet; EfficientNet those of EfficientNetV2, MobileNetV2,
MNASNet and MixNet; MobileNetV3 those of MobileNetV4 and LCNet; ConvNeXt those of ConvNeXt V2; MetaNeXt those of
InceptionNeXt; ByobNet those of RepVGG, MobileOne, GERNet, RegNetZ-B and MobileViT; CspNet those of CSPResNet and
CS3Darknet.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from timm.layers import PatchEmbed, trunc_normal_
from timm.models.byobnet import ByobNet
from timm.models.convnext import ConvNeXt
from timm.models.cspnet import CspNet
from timm.models.densenet import DenseNet
from timm.models.edgenext import EdgeNeXt
from timm.models.efficientnet import EfficientNet
from timm.models.ghostnet import GhostNet
from timm.models.hrnet import HighResolutionNet
from timm.models.inception_next import MetaNeXt
from timm.models.mobilenetv3 import MobileNetV3
from timm.models.regnet import RegNet
from timm.models.repghost import RepGhostNet
from timm.models.resnet import ResNet
from timm.models.resnetv2 import ResNetV2
from timm.models.rexnet import RexNet
from timm.models.senet import SENet
from timm.models.vovnet import VovNet
from torch import Tensor, nn

Initializer = Callable[[Tensor], object]
Rewriter = Callable[[nn.Module], Iterator[str]]

_he_fan_out: Initializer = partial(nn.init.kaiming_normal_, mode="fan_out", nonlinearity="relu")
_he_fan_in: Initializer = partial(nn.init.kaiming_normal_, mode="fan_in", nonlinearity="leaky_relu")
_narrow: Initializer = partial(trunc_normal_, std=0.02)

_POOLINGS = (nn.MaxPool2d, nn.AvgPool2d)
_RECORD = "stem_changes"


def with_small_stem(make: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """Return a function that makes a model of timm's and rewrites its stem (`rewrite_stem`).

    Args:
        make: a class of timm's, or an entry point.
    """

    def small(**kwargs: Any) -> nn.Module:
        model = make(**kwargs)
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
        ValueError: the stem of this class of models is not known, or does not shrink the image.
    """
    for model_class, rewrite in _REWRITERS.items():
        if isinstance(model, model_class):
            changes = tuple(rewrite(model))
            if not changes:
                raise ValueError(f"the stem of this {model_class.__name__} shrinks no image: keep stem='native'")
            setattr(model, _RECORD, changes)
            return
    raise ValueError(f"no small-image stem is known for {type(model).__name__}; {_advice(model)}")


def _advice(model: nn.Module) -> str:
    if any(isinstance(layer, PatchEmbed) for layer in model.modules()):
        return (
            "it cuts images into patches: keep stem='native' and give patch_size, 4 for 32x32, where it is an argument"
        )
    known = ", ".join(sorted(model_class.__name__ for model_class in _REWRITERS))
    return f"known: {known}. Models that are made for small images, or have no stem (VGG), keep stem='native'."


def _one_stem(name: str, initialize: Initializer) -> Rewriter:
    """Return a rewriter for models whose stem is one module, called ``name``."""
    return lambda model: _unstride(model, name, initialize)


def _resnet(model: nn.Module) -> Iterator[str]:
    yield from _unstride(model, "conv1", _he_fan_out)
    yield from _remove(model, "maxpool")


def _resnet_v2(model: nn.Module) -> Iterator[str]:
    yield from _unstride(model, "stem", _he_fan_out)
    # the padding that BiT puts before its pooling
    yield from _remove(model, "stem.pad")


def _senet(model: nn.Module) -> Iterator[str]:
    yield from _unstride(model, "layer0", _he_fan_out)
    yield from _remove(model, "pool0")


def _densenet(model: nn.Module) -> Iterator[str]:
    yield from _unstride(model, "features.conv0", _he_fan_in)
    yield from _remove(model, "features.pool0")


def _high_resolution(model: nn.Module) -> Iterator[str]:
    yield from _unstride(model, "conv1", _he_fan_out)
    yield from _unstride(model, "conv2", _he_fan_out)


_REWRITERS: dict[type[nn.Module], Rewriter] = {
    ResNet: _resnet,
    ResNetV2: _resnet_v2,
    SENet: _senet,
    DenseNet: _densenet,
    EfficientNet: _one_stem("conv_stem", _he_fan_out),
    MobileNetV3: _one_stem("conv_stem", _he_fan_out),
    GhostNet: _one_stem("conv_stem", _he_fan_out),
    RepGhostNet: _one_stem("conv_stem", _he_fan_out),
    RexNet: _one_stem("stem", _he_fan_out),
    RegNet: _one_stem("stem", _he_fan_out),
    ByobNet: _one_stem("stem", _he_fan_out),
    CspNet: _one_stem("stem", _he_fan_out),
    VovNet: _one_stem("stem", _he_fan_out),
    HighResolutionNet: _high_resolution,
    ConvNeXt: _one_stem("stem", _narrow),
    EdgeNeXt: _one_stem("stem", _narrow),
    MetaNeXt: _one_stem("stem", _narrow),
}


def _unstride(model: nn.Module, name: str, initialize: Initializer) -> Iterator[str]:
    """Give stride 1 to all convolutions in the module called ``name``, remove its poolings, and say what they were."""
    inside = [(f"{name}.{path}".rstrip("."), layer) for path, layer in model.get_submodule(name).named_modules()]
    for path, layer in inside:
        if isinstance(layer, nn.Conv2d) and layer.stride != (1, 1):
            yield f"{path}: {_unstride_convolution(layer, initialize)}"
        elif isinstance(layer, _POOLINGS):
            yield from _remove(model, path)


def _unstride_convolution(convolution: nn.Conv2d, initialize: Initializer) -> str:
    before = _describe(convolution)
    if convolution.kernel_size in ((1, 1), (3, 3)):
        convolution.stride = (1, 1)
        return f"{before} became stride 1, weights kept"
    # changed in place: a subclass (standardised weights, its epsilon) stays what it is
    convolution.weight = nn.Parameter(convolution.weight.new_empty(*convolution.weight.shape[:2], 3, 3))
    convolution.kernel_size, convolution.stride, convolution.padding = (3, 3), (1, 1), (1, 1)
    initialize(convolution.weight)
    if convolution.bias is not None:
        nn.init.zeros_(convolution.bias)
    return f"{before} became {_describe(convolution)}, newly drawn"


def _remove(model: nn.Module, name: str) -> Iterator[str]:
    """Put the identity in the place of the layer called ``name``, if the model has it, and say what was there."""
    old = dict(model.named_modules()).get(name)
    if old is not None and not isinstance(old, nn.Identity):
        model.set_submodule(name, nn.Identity())
        yield f"{name}: {type(old).__name__} removed"


def _describe(convolution: nn.Conv2d) -> str:
    height, width = convolution.kernel_size
    return f"{height}x{width} convolution with stride {convolution.stride[0]}"
