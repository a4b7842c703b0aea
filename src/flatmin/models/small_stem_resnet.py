"""ImageNet's ResNet-18, 34 and 50 with a stem for small images (He et al. 2016, "Deep Residual Learning", table 1).

These are timm's `ResNet` and its blocks, with two changes (`flatmin.models.stem`): the first convolution is 3x3 with
stride 1 in place of 7x7 with stride 2, and the max pooling after it is gone. Papers that train a "ResNet-18" on CIFAR
mean this network, four stages with 64 to 512 channels. ResNet-20, 32, 44, 56 and 110, which the same paper made for
CIFAR, are of another kind (`flatmin.models.cifar_resnet`): three stages with 16 to 64 channels, and in ResNet-20 a
fortieth of ResNet-18's parameters.

As timm builds them: shortcuts are 1x1 convolutions with batch norm where the shape changes (option B), and the 3x3
convolution strides in the blocks of ResNet-50, where the paper lets the first 1x1 convolution stride. Convolutions are
drawn from N(0, 2 / fan_out), the classifier keeps torch's default weights and bias. Batch norms start at scale 1 and
shift 0, as in the paper and torchvision; ``zero_init_last=True``, timm's default, starts the last one of every block
at scale 0, so that blocks start as their shortcuts (Goyal et al. 2017, section 5.1). All other arguments of timm's
`ResNet` are there too.
"""

from typing import Any

from timm.models import register_model
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from torch import nn

from flatmin.models.registration import create, small_image_cfgs
from flatmin.models.stem import with_small_stem

default_cfgs = small_image_cfgs("cifar_resnet18", "cifar_resnet34", "cifar_resnet50", first_conv="conv1")


@register_model
def cifar_resnet18(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """ResNet-18 (He et al. 2016, table 1) with a small stem: 11,173,962 parameters."""
    variant = {"block": BasicBlock, "layers": (2, 2, 2, 2), "zero_init_last": False}
    return create(with_small_stem(ResNet), "cifar_resnet18", pretrained, {**variant, **kwargs})


@register_model
def cifar_resnet34(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """ResNet-34 (He et al. 2016, table 1) with a small stem: 21,282,122 parameters."""
    variant = {"block": BasicBlock, "layers": (3, 4, 6, 3), "zero_init_last": False}
    return create(with_small_stem(ResNet), "cifar_resnet34", pretrained, {**variant, **kwargs})


@register_model
def cifar_resnet50(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """ResNet-50 (He et al. 2016, table 1) with a small stem: 23,520,842 parameters."""
    variant = {"block": Bottleneck, "layers": (3, 4, 6, 3), "zero_init_last": False}
    return create(with_small_stem(ResNet), "cifar_resnet50", pretrained, {**variant, **kwargs})
