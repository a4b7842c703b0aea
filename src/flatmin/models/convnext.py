"""ConvNeXts for CIFAR: timm's, with a stem for small images.

Liu et al. 2022, "A ConvNet for the 2020s", where the stem cuts the image into 4x4 patches. Here it is a 3x3 convolution
with stride 1 (`flatmin.models.stem`); the four stages work on maps of full, half, quarter and eighth size.

Initialisation is timm's own, the stem's included: convolutions and linear layers from a normal distribution of
deviation 0.02, zero biases, layer scales of 1e-6.
"""

from typing import Any

from timm.models import register_model
from timm.models.convnext import ConvNeXt
from torch import nn

from flatmin.models.registration import create, small_image_cfgs
from flatmin.models.stem import with_small_stem

default_cfgs = small_image_cfgs("cifar_convnext_atto", "cifar_convnext_tiny", first_conv="stem.0", classifier="head.fc")


@register_model
def cifar_convnext_atto(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """ConvNeXt-Atto with 2, 2, 6 and 2 blocks, a size of timm's own: 3,376,890 parameters."""
    arguments = {"depths": (2, 2, 6, 2), "dims": (40, 80, 160, 320), "conv_mlp": True, **kwargs}
    return create(with_small_stem(ConvNeXt), "cifar_convnext_atto", pretrained, arguments)


@register_model
def cifar_convnext_tiny(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """ConvNeXt-T with 3, 3, 9 and 3 blocks (Liu et al. 2022, section 3): 27,825,802 parameters."""
    arguments = {"depths": (3, 3, 9, 3), "dims": (96, 192, 384, 768), **kwargs}
    return create(with_small_stem(ConvNeXt), "cifar_convnext_tiny", pretrained, arguments)
