"""MobileNetV3 for CIFAR: timm's, with a stem for small images.

Howard et al. 2019, "Searching for MobileNetV3", tables 1 and 2. The first convolution is 3x3 already and loses its
stride (`flatmin.models.stem`), nothing else: on 32x32 pixels the last map is 2x2, as later layers halve four times.

Initialisation is timm's own: convolutions from N(0, 2 / fan_out), fan_out that of one group, linear layers uniform
within 1 / sqrt(outputs), zero biases.
"""

from typing import Any

from timm.models import mobilenetv3, register_model
from torch import nn

from flatmin.models.registration import create, small_image_cfgs
from flatmin.models.stem import with_small_stem

default_cfgs = small_image_cfgs(
    "cifar_mobilenetv3_small_100", "cifar_mobilenetv3_large_100", first_conv="conv_stem", classifier="classifier"
)


@register_model
def cifar_mobilenetv3_small_100(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """MobileNetV3-Small 1.0 (Howard et al. 2019, table 2): 1,528,106 parameters."""
    small = with_small_stem(mobilenetv3.mobilenetv3_small_100)
    return create(small, "cifar_mobilenetv3_small_100", pretrained, kwargs)


@register_model
def cifar_mobilenetv3_large_100(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """MobileNetV3-Large 1.0 (Howard et al. 2019, table 1): 4,214,842 parameters."""
    large = with_small_stem(mobilenetv3.mobilenetv3_large_100)
    return create(large, "cifar_mobilenetv3_large_100", pretrained, kwargs)
