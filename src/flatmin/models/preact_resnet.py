"""ImageNet's ResNets with pre-activation at CIFAR size (He et al. 2016, "Identity Mappings in Deep Residual Networks").

A 3x3 convolution with 64 channels, four stages of pre-activation blocks with 64, 128, 256 and 512 channels on maps of
full, half, quarter and eighth size, batch norm, ReLU, global average pooling. Blocks of depths 18 and 34 have two 3x3
convolutions, those of depth 50 a 3x3 convolution between two 1x1 ones and four times as many channels. Where a block
changes the shape, its shortcut is a 1x1 convolution of the pre-activated input, as in the authors' code
(resnet-1k-layers). Convolutions are drawn from N(0, 2 / fan_out), batch norms start at scale 1 and shift 0, the
classifier has torch's default weights and a zero bias, as there.

The paper's own networks at CIFAR size are of other depths, three stages, and a quarter as wide. This network is what
later papers call PreAct ResNet-18, for instance Andriushchenko & Flammarion 2022, "Towards Understanding
Sharpness-Aware Minimization". Two points differ between sources:

- The batch norm and ReLU after the last block are the paper's (appendix), and in the code of Andriushchenko &
  Flammarion. The port of kuangliu/pytorch-cifar leaves them out, which makes 1,024 parameters less at depth 18.
- The paper lets the first block's shortcut branch off after the first activation (appendix). Both these codes let it
  branch off before where that block keeps the shape, as at depths 18 and 34; so do timm's ResNetV2 and this file.
"""

from typing import Any

from timm.models import register_model
from torch import Tensor, nn

from flatmin.models.classifier import ConvClassifier, conv3x3, he_init
from flatmin.models.registration import create, small_image_cfgs, synonym

STAGE_FACTORS = (1, 2, 4, 8)


class PreActivationBlock(nn.Module):
    """BN-ReLU-conv3x3-BN-ReLU-conv3x3 with nothing after the addition."""

    expansion = 1

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.act1 = nn.ReLU(inplace=True)
        self.conv1 = conv3x3(in_channels, channels, stride)
        self.bn2 = nn.BatchNorm2d(channels)
        self.act2 = nn.ReLU(inplace=True)
        self.conv2 = conv3x3(channels, channels)
        self.shortcut = _projection(in_channels, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map [n, in_channels, h, w] to [n, channels, h / stride, w / stride]."""
        activated = self.act1(self.bn1(x))
        shortcut = x if self.shortcut is None else self.shortcut(activated)
        return self.conv2(self.act2(self.bn2(self.conv1(activated)))) + shortcut


class PreActivationBottleneck(nn.Module):
    """BN-ReLU-conv1x1-BN-ReLU-conv3x3-BN-ReLU-conv1x1 with nothing after the addition; the 3x3 one strides."""

    expansion = 4

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        out_channels = self.expansion * channels
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.act1 = nn.ReLU(inplace=True)
        self.conv1 = _conv1x1(in_channels, channels)
        self.bn2 = nn.BatchNorm2d(channels)
        self.act2 = nn.ReLU(inplace=True)
        self.conv2 = conv3x3(channels, channels, stride)
        self.bn3 = nn.BatchNorm2d(channels)
        self.act3 = nn.ReLU(inplace=True)
        self.conv3 = _conv1x1(channels, out_channels)
        self.shortcut = _projection(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map [n, in_channels, h, w] to [n, 4 * channels, h / stride, w / stride]."""
        activated = self.act1(self.bn1(x))
        shortcut = x if self.shortcut is None else self.shortcut(activated)
        residual = self.conv2(self.act2(self.bn2(self.conv1(activated))))
        return self.conv3(self.act3(self.bn3(residual))) + shortcut


def _conv1x1(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, kernel_size=1, stride=stride, bias=False)


def _projection(in_channels: int, out_channels: int, stride: int) -> nn.Conv2d | None:
    same_shape = stride == 1 and in_channels == out_channels
    return None if same_shape else _conv1x1(in_channels, out_channels, stride)


Block = type[PreActivationBlock] | type[PreActivationBottleneck]

DEPTHS: dict[int, tuple[Block, tuple[int, int, int, int]]] = {
    18: (PreActivationBlock, (2, 2, 2, 2)),
    34: (PreActivationBlock, (3, 4, 6, 3)),
    50: (PreActivationBottleneck, (3, 4, 6, 3)),
}
"""The blocks of every depth, and how many of them the four stages have (He et al. 2016, "Deep Residual Learning for
Image Recognition", table 1)."""


class PreActResNet(ConvClassifier):
    """The pre-activation ResNet of 18, 34 or 50 layers with a stem for small images.

    Args:
        depth: 18, 34 or 50.
        width: channels of the first stage's 3x3 convolutions, which the later stages double.
        num_classes: number of logits.
        in_chans: number of image channels.
        global_pool: pooling before the classifier, in timm's names.
        drop_rate: dropout before the classifier (the paper has none).

    Raises:
        ValueError: there is no such ``depth``, or ``width`` is smaller than 1.
    """

    def __init__(
        self,
        depth: int,
        width: int = 64,
        num_classes: int = 10,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        if depth not in DEPTHS:
            raise ValueError(f"depth is one of {', '.join(map(str, DEPTHS))}, not {depth}")
        if width < 1:
            raise ValueError(f"a width is at least 1, not {width}")
        block, blocks = DEPTHS[depth]
        first, second, third, fourth = (width * factor for factor in STAGE_FACTORS)
        self.in_chans = in_chans
        self.conv1 = conv3x3(in_chans, width)
        self.layer1 = _stage(block, width, first, blocks[0], stride=1)
        self.layer2 = _stage(block, first * block.expansion, second, blocks[1], stride=2)
        self.layer3 = _stage(block, second * block.expansion, third, blocks[2], stride=2)
        self.layer4 = _stage(block, third * block.expansion, fourth, blocks[3], stride=2)
        self.norm = nn.BatchNorm2d(fourth * block.expansion)
        self.act = nn.ReLU(inplace=True)
        self.add_head(fourth * block.expansion, num_classes, global_pool, drop_rate)
        he_init(self)

    def forward_features(self, x: Tensor) -> Tensor:
        """Map images [n, in_chans, h, w] to [n, num_features, h / 8, w / 8]."""
        x = self.layer2(self.layer1(self.conv1(x)))
        x = self.layer4(self.layer3(x))
        return self.act(self.norm(x))


def _stage(block: Block, in_channels: int, channels: int, blocks: int, stride: int) -> nn.Sequential:
    first = block(in_channels, channels, stride)
    rest = (block(channels * block.expansion, channels, stride=1) for _ in range(blocks - 1))
    return nn.Sequential(first, *rest)


default_cfgs = small_image_cfgs(
    "cifar_preact_resnet18", "cifar_preact_resnet34", "cifar_preact_resnet50", first_conv="conv1"
)


@register_model
@synonym("preact_resnet18")
def cifar_preact_resnet18(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """PreAct ResNet-18: 11,172,170 parameters.

    That of Andriushchenko & Flammarion 2022, with blocks as in He et al. 2016, "Deep Residual Learning", table 1.
    """
    return create(PreActResNet, "cifar_preact_resnet18", pretrained, {"depth": 18, **kwargs})


@register_model
@synonym("preact_resnet34")
def cifar_preact_resnet34(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """PreAct ResNet-34 (He et al. 2016, "Deep Residual Learning", table 1, for the blocks): 21,280,330 parameters."""
    return create(PreActResNet, "cifar_preact_resnet34", pretrained, {"depth": 34, **kwargs})


@register_model
@synonym("preact_resnet50")
def cifar_preact_resnet50(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """PreAct ResNet-50 (He et al. 2016, "Deep Residual Learning", table 1, for the blocks): 23,513,162 parameters."""
    return create(PreActResNet, "cifar_preact_resnet50", pretrained, {"depth": 50, **kwargs})
