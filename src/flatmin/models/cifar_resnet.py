"""ResNets for CIFAR (He et al. 2016, "Deep Residual Learning for Image Recognition", section 4.2).

A 3x3 convolution with 16 channels, three stages of n blocks with 16, 32 and 64 channels on maps of full, half and
quarter size, global average pooling: 6n + 2 weighted layers. Shortcuts have no parameters (option A). Convolutions are
drawn from N(0, 2 / fan_out), batch norms start at scale 1 and shift 0, the classifier has torch's default weights and
a zero bias.
"""

from typing import Any

from timm.models import register_model
from torch import Tensor, nn
from torch.nn import functional

from flatmin.models.classifier import ConvClassifier, conv3x3, he_init
from flatmin.models.registration import create, small_image_cfgs

STAGE_CHANNELS = (16, 32, 64)


class OptionAShortcut(nn.Module):
    """The parameter-free shortcut: keep every ``stride``-th pixel, append zero channels (He et al. 2016, option A)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.new_channels = out_channels - in_channels

    def forward(self, x: Tensor) -> Tensor:
        """Map [n, c, h, w] to [n, c + new_channels, ceil(h / stride), ceil(w / stride)]."""
        return functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.new_channels))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch norm, added to the shortcut before the last ReLU."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(in_channels, out_channels, stride)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.act1 = nn.ReLU(inplace=True)
        self.conv2 = conv3x3(out_channels, out_channels)
        self.bn2 = nn.BatchNorm2d(out_channels)
        same_shape = stride == 1 and in_channels == out_channels
        self.shortcut = nn.Identity() if same_shape else OptionAShortcut(in_channels, out_channels, stride)
        self.act2 = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map [n, in_channels, h, w] to [n, out_channels, h / stride, w / stride]."""
        residual = self.bn2(self.conv2(self.act1(self.bn1(self.conv1(x)))))
        return self.act2(residual + self.shortcut(x))


class CifarResNet(ConvClassifier):
    """The 6n + 2 layer ResNet of He et al. 2016, section 4.2.

    Args:
        blocks_per_stage: n.
        num_classes: number of logits.
        in_chans: number of image channels.
        global_pool: pooling before the classifier, in timm's names.
        drop_rate: dropout before the classifier (the paper has none).
    """

    def __init__(
        self,
        blocks_per_stage: int,
        num_classes: int = 10,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        first, second, third = STAGE_CHANNELS
        self.in_chans = in_chans
        self.conv1 = conv3x3(in_chans, first)
        self.bn1 = nn.BatchNorm2d(first)
        self.act1 = nn.ReLU(inplace=True)
        self.layer1 = _stage(first, first, blocks_per_stage, stride=1)
        self.layer2 = _stage(first, second, blocks_per_stage, stride=2)
        self.layer3 = _stage(second, third, blocks_per_stage, stride=2)
        self.add_head(third, num_classes, global_pool, drop_rate)
        he_init(self)

    def forward_features(self, x: Tensor) -> Tensor:
        """Map images [n, in_chans, h, w] to [n, 64, h / 4, w / 4]."""
        x = self.act1(self.bn1(self.conv1(x)))
        return self.layer3(self.layer2(self.layer1(x)))


def _stage(in_channels: int, out_channels: int, blocks: int, stride: int) -> nn.Sequential:
    first = BasicBlock(in_channels, out_channels, stride)
    return nn.Sequential(first, *(BasicBlock(out_channels, out_channels, stride=1) for _ in range(blocks - 1)))


default_cfgs = small_image_cfgs(
    "cifar_resnet8", "cifar_resnet20", "cifar_resnet32", "cifar_resnet56", first_conv="conv1"
)


@register_model
def cifar_resnet8(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """ResNet-8 (n = 1): smaller than any in the paper, for studies on a CPU."""
    return create(CifarResNet, "cifar_resnet8", pretrained, {"blocks_per_stage": 1, **kwargs})


@register_model
def cifar_resnet20(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """ResNet-20 (n = 3)."""
    return create(CifarResNet, "cifar_resnet20", pretrained, {"blocks_per_stage": 3, **kwargs})


@register_model
def cifar_resnet32(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """ResNet-32 (n = 5)."""
    return create(CifarResNet, "cifar_resnet32", pretrained, {"blocks_per_stage": 5, **kwargs})


@register_model
def cifar_resnet56(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """ResNet-56 (n = 9)."""
    return create(CifarResNet, "cifar_resnet56", pretrained, {"blocks_per_stage": 9, **kwargs})
