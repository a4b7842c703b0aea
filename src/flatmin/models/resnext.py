"""ResNeXts for CIFAR (Xie et al. 2017, "Aggregated Residual Transformations for Deep Neural Networks", section 5.3).

A 3x3 convolution with 64 channels, three stages of n blocks with 256, 512 and 1024 channels on maps of full, half and
quarter size, global average pooling: depth 9n + 2. A block is a 1x1 convolution, a 3x3 convolution in C groups (the
cardinality) of d, 2d or 4d channels (d the base width, in the three stages), and a 1x1 convolution: form (c) of the
paper's figure 3. Where a block changes the number of channels its shortcut is a 1x1 convolution with batch norm
(option B).

Blocks end in ReLU after the addition, as in the authors' code; its read-me says that the paper's numbers on CIFAR are
of pre-activated blocks, and that the others do better. As in that code, convolutions are drawn from
N(0, 2 / (k^2 * channels)) with all output channels, not those of one group, batch norms start at scale 1 and shift 0,
and the classifier has torch's default weights and a zero bias.
"""

from typing import Any

from timm.models import register_model
from torch import Tensor, nn

from flatmin.models.classifier import ConvClassifier, conv3x3, he_init
from flatmin.models.registration import create, small_image_cfgs, synonym

STEM_CHANNELS = 64
STAGE_CHANNELS = (256, 512, 1024)


class ResNeXtBlock(nn.Module):
    """1x1, grouped 3x3 and 1x1 convolution with batch norm, added to the shortcut before the last ReLU."""

    def __init__(self, in_channels: int, width: int, out_channels: int, cardinality: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, kernel_size=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.act1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, groups=cardinality, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.act2 = nn.ReLU(inplace=True)
        self.conv3 = nn.Conv2d(width, out_channels, kernel_size=1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.shortcut = _projection(in_channels, out_channels, stride) if in_channels != out_channels else nn.Identity()
        self.act3 = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map [n, in_channels, h, w] to [n, out_channels, h / stride, w / stride]."""
        residual = self.act1(self.bn1(self.conv1(x)))
        residual = self.act2(self.bn2(self.conv2(residual)))
        residual = self.bn3(self.conv3(residual))
        return self.act3(residual + self.shortcut(x))


class ResNeXt(ConvClassifier):
    """ResNeXt-depth, cardinality x base_width d, of Xie et al. 2017, section 5.3.

    Args:
        depth: 9n + 2.
        cardinality: C, the number of groups of each 3x3 convolution.
        base_width: d, channels per group in the first stage; they double with every stage.
        num_classes: number of logits.
        in_chans: number of image channels.
        global_pool: pooling before the classifier, in timm's names.
        drop_rate: dropout before the classifier (the paper has none).

    Raises:
        ValueError: ``depth`` is not 9n + 2, or ``cardinality`` or ``base_width`` is less than 1.
    """

    def __init__(
        self,
        depth: int,
        cardinality: int,
        base_width: int,
        num_classes: int = 10,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        if depth < 11 or (depth - 2) % 9:
            raise ValueError(f"a ResNeXt for CIFAR has depth 9n + 2 with n >= 1 (11, 20, 29, ...), not {depth}")
        if cardinality < 1 or base_width < 1:
            raise ValueError(f"cardinality and base_width must be at least 1, not {cardinality} and {base_width}")
        blocks = (depth - 2) // 9
        width = cardinality * base_width
        first, second, third = STAGE_CHANNELS
        self.in_chans = in_chans
        self.conv1 = conv3x3(in_chans, STEM_CHANNELS)
        self.bn1 = nn.BatchNorm2d(STEM_CHANNELS)
        self.act1 = nn.ReLU(inplace=True)
        self.layer1 = _stage(STEM_CHANNELS, width, first, blocks, cardinality, stride=1)
        self.layer2 = _stage(first, 2 * width, second, blocks, cardinality, stride=2)
        self.layer3 = _stage(second, 4 * width, third, blocks, cardinality, stride=2)
        self.add_head(third, num_classes, global_pool, drop_rate)
        he_init(self)

    def forward_features(self, x: Tensor) -> Tensor:
        """Map images [n, in_chans, h, w] to [n, 1024, h / 4, w / 4]."""
        x = self.act1(self.bn1(self.conv1(x)))
        return self.layer3(self.layer2(self.layer1(x)))


def _stage(
    in_channels: int, width: int, out_channels: int, blocks: int, cardinality: int, stride: int
) -> nn.Sequential:
    first = ResNeXtBlock(in_channels, width, out_channels, cardinality, stride)
    rest = (ResNeXtBlock(out_channels, width, out_channels, cardinality, stride=1) for _ in range(blocks - 1))
    return nn.Sequential(first, *rest)


def _projection(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(in_channels, out_channels, kernel_size=1, stride=stride, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(out_channels))


default_cfgs = small_image_cfgs(
    "cifar_resnext29_32x4d", "cifar_resnext29_8x64d", "cifar_resnext29_16x64d", first_conv="conv1"
)


@register_model
@synonym("resnext29_32x4d")
def cifar_resnext29_32x4d(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """ResNeXt-29, 32x4d: 4,775,754 parameters.

    Of the form of Xie et al. 2017, section 5.3, but of another size: that of the ASAM paper (Kwon et al. 2021), whose
    code takes it from homura. A common variant has a 1x1 stem and 1,536 parameters less.
    """
    arguments = {"depth": 29, "cardinality": 32, "base_width": 4, **kwargs}
    return create(ResNeXt, "cifar_resnext29_32x4d", pretrained, arguments)


@register_model
@synonym("resnext29_8x64d")
def cifar_resnext29_8x64d(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """ResNeXt-29, 8x64d (Xie et al. 2017, table 7): 34.4M parameters."""
    arguments = {"depth": 29, "cardinality": 8, "base_width": 64, **kwargs}
    return create(ResNeXt, "cifar_resnext29_8x64d", pretrained, arguments)


@register_model
@synonym("resnext29_16x64d")
def cifar_resnext29_16x64d(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """ResNeXt-29, 16x64d (Xie et al. 2017, table 7): 68.1M parameters (68,155,210 for 10 classes)."""
    arguments = {"depth": 29, "cardinality": 16, "base_width": 64, **kwargs}
    return create(ResNeXt, "cifar_resnext29_16x64d", pretrained, arguments)
