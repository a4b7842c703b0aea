"""Wide ResNets for CIFAR (Zagoruyko & Komodakis 2016, "Wide Residual Networks", table 1).

A 3x3 convolution with 16 channels, three stages of n pre-activation blocks with 16k, 32k and 64k channels, batch norm,
ReLU, global average pooling: depth 6n + 4, width k. Where a block changes the number of channels, its shortcut is a
1x1 convolution of the pre-activated input, as in the authors' code. Convolutions are drawn from N(0, 2 / fan_out),
batch norms start at scale 1 and shift 0, the classifier has torch's default weights and a zero bias.
"""

from typing import Any

from timm.models import register_model
from torch import Tensor, nn

from flatmin.models.classifier import ConvClassifier, conv3x3, he_init
from flatmin.models.registration import create, small_image_cfgs

STEM_CHANNELS = 16
STAGE_CHANNELS = (16, 32, 64)


class PreActivationBlock(nn.Module):
    """BN-ReLU-conv3x3-BN-ReLU-(dropout)-conv3x3 with nothing after the addition."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, block_drop_rate: float) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.act1 = nn.ReLU(inplace=True)
        self.conv1 = conv3x3(in_channels, out_channels, stride)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.act2 = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(block_drop_rate)
        self.conv2 = conv3x3(out_channels, out_channels)
        self.projects = stride != 1 or in_channels != out_channels
        self.shortcut = (
            nn.Conv2d(in_channels, out_channels, kernel_size=1, stride=stride, bias=False)
            if self.projects
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map [n, in_channels, h, w] to [n, out_channels, h / stride, w / stride]."""
        activated = self.act1(self.bn1(x))
        shortcut = self.shortcut(activated if self.projects else x)
        residual = self.conv2(self.drop(self.act2(self.bn2(self.conv1(activated)))))
        return residual + shortcut


class WideResNet(ConvClassifier):
    """WRN-depth-width of Zagoruyko & Komodakis 2016.

    Args:
        depth: 6n + 4.
        width: k, the factor on the channels of all three stages.
        block_drop_rate: dropout between the two convolutions of every block (the paper tries 0.3; default none).
        num_classes: number of logits.
        in_chans: number of image channels.
        global_pool: pooling before the classifier, in timm's names.
        drop_rate: dropout before the classifier (the paper has none).

    Raises:
        ValueError: ``depth`` is not 6n + 4.
    """

    def __init__(
        self,
        depth: int,
        width: int,
        block_drop_rate: float = 0.0,
        num_classes: int = 10,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        if depth < 10 or (depth - 4) % 6:
            raise ValueError(f"a wide ResNet has depth 6n + 4 with n >= 1 (10, 16, 22, 28, ...), not {depth}")
        blocks = (depth - 4) // 6
        first, second, third = (width * channels for channels in STAGE_CHANNELS)
        self.in_chans = in_chans
        self.conv1 = conv3x3(in_chans, STEM_CHANNELS)
        self.layer1 = _stage(STEM_CHANNELS, first, blocks, stride=1, block_drop_rate=block_drop_rate)
        self.layer2 = _stage(first, second, blocks, stride=2, block_drop_rate=block_drop_rate)
        self.layer3 = _stage(second, third, blocks, stride=2, block_drop_rate=block_drop_rate)
        self.norm = nn.BatchNorm2d(third)
        self.act = nn.ReLU(inplace=True)
        self.add_head(third, num_classes, global_pool, drop_rate)
        he_init(self)

    def forward_features(self, x: Tensor) -> Tensor:
        """Map images [n, in_chans, h, w] to [n, 64 * width, h / 4, w / 4]."""
        x = self.layer3(self.layer2(self.layer1(self.conv1(x))))
        return self.act(self.norm(x))


def _stage(in_channels: int, out_channels: int, blocks: int, stride: int, block_drop_rate: float) -> nn.Sequential:
    first = PreActivationBlock(in_channels, out_channels, stride, block_drop_rate)
    rest = (PreActivationBlock(out_channels, out_channels, 1, block_drop_rate) for _ in range(blocks - 1))
    return nn.Sequential(first, *rest)


default_cfgs = small_image_cfgs("wrn16_4", "wrn28_10", first_conv="conv1")


@register_model
def wrn16_4(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """WRN-16-4."""
    return create(WideResNet, "wrn16_4", pretrained, {"depth": 16, "width": 4, **kwargs})


@register_model
def wrn28_10(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """WRN-28-10."""
    return create(WideResNet, "wrn28_10", pretrained, {"depth": 28, "width": 10, **kwargs})
