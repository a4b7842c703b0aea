"""DenseNets for CIFAR (Huang et al. 2017, "Densely Connected Convolutional Networks", section 3 and table 2).

Every layer of a dense block sees the maps of all layers before it and adds k new ones (the growth rate). A 3x3
convolution with 2k channels, three dense blocks on maps of full, half and quarter size, between them transitions: BN,
ReLU, a 1x1 convolution that keeps a share of the channels (the compression), average pooling. BN, ReLU and global
average pooling end the network. DenseNet-BC has layers with a bottleneck, a 1x1 convolution with 4k channels before the
3x3 one, and compression 0.5. Depth L counts the convolutions and the classifier. Without bottlenecks and compression
the first convolution has 16 channels in the paper, and 2k in the authors' code, which is followed here.

As in the authors' code, convolutions have no bias and are drawn from N(0, 2 / fan_out), batch norms start at scale 1
and shift 0, the classifier has torch's default weights and a zero bias.

DenseNet-121 is the paper's network for ImageNet (table 1) with four dense blocks. The ASAM paper (Kwon et al. 2021)
trains one on CIFAR and does not give its stem. Here it is timm's with the stem rewritten (`flatmin.models.stem`): 3x3
with stride 1, BN, ReLU, no pooling. The form that many copy has no BN after the stem and so 128 parameters less
(6,956,298 for 10 classes). timm draws convolutions from N(0, 2 / fan_in) and leaves all else as above.
"""

from typing import Any

import torch
from timm.models import register_model
from timm.models.densenet import DenseNet as TimmDenseNet
from torch import Tensor, nn

from flatmin.models.classifier import ConvClassifier, conv3x3, he_init
from flatmin.models.registration import create, small_image_cfgs, synonym
from flatmin.models.stem import with_small_stem

DENSE_BLOCKS = 3
BOTTLENECK_FACTOR = 4


class DenseLayer(nn.Module):
    """BN-ReLU-conv3x3 whose new maps are appended to the old ones."""

    def __init__(self, in_channels: int, growth_rate: int, drop_rate: float) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.act1 = nn.ReLU(inplace=True)
        self.conv1 = conv3x3(in_channels, growth_rate)
        self.drop1 = nn.Dropout(drop_rate)

    def forward(self, x: Tensor) -> Tensor:
        """Map [n, in_channels, h, w] to [n, in_channels + growth_rate, h, w]."""
        new = self.drop1(self.conv1(self.act1(self.bn1(x))))
        return torch.cat([x, new], dim=1)


class BottleneckLayer(nn.Module):
    """BN-ReLU-conv1x1-BN-ReLU-conv3x3 whose new maps are appended to the old ones."""

    def __init__(self, in_channels: int, growth_rate: int, drop_rate: float) -> None:
        super().__init__()
        narrow = BOTTLENECK_FACTOR * growth_rate
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.act1 = nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(in_channels, narrow, kernel_size=1, bias=False)
        self.drop1 = nn.Dropout(drop_rate)
        self.bn2 = nn.BatchNorm2d(narrow)
        self.act2 = nn.ReLU(inplace=True)
        self.conv2 = conv3x3(narrow, growth_rate)
        self.drop2 = nn.Dropout(drop_rate)

    def forward(self, x: Tensor) -> Tensor:
        """Map [n, in_channels, h, w] to [n, in_channels + growth_rate, h, w]."""
        narrow = self.drop1(self.conv1(self.act1(self.bn1(x))))
        new = self.drop2(self.conv2(self.act2(self.bn2(narrow))))
        return torch.cat([x, new], dim=1)


class Transition(nn.Sequential):
    """BN-ReLU-conv1x1 and average pooling: [n, in_channels, h, w] to [n, out_channels, h // 2, w // 2]."""

    def __init__(self, in_channels: int, out_channels: int, drop_rate: float) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(in_channels)
        self.act = nn.ReLU(inplace=True)
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size=1, bias=False)
        self.drop = nn.Dropout(drop_rate)
        self.pool = nn.AvgPool2d(kernel_size=2)


class DenseNet(ConvClassifier):
    """The DenseNet with three dense blocks of Huang et al. 2017.

    Args:
        depth: L: 6n + 4 with bottlenecks, 3n + 4 without.
        growth_rate: k, the number of maps that every layer adds.
        compression: theta, the share of channels that a transition keeps, at most 1.
        bottleneck: whether a 1x1 convolution with 4k channels precedes each 3x3 convolution of the dense blocks.
        block_drop_rate: dropout after every convolution but the first (0.2 in the paper's trainings without data
            augmentation; default none).
        num_classes: number of logits.
        in_chans: number of image channels.
        global_pool: pooling before the classifier, in timm's names.
        drop_rate: dropout before the classifier (the paper has none).

    Raises:
        ValueError: ``depth`` is of another form, ``growth_rate`` is less than 1, or ``compression`` is not in (0, 1].
    """

    def __init__(
        self,
        depth: int,
        growth_rate: int,
        compression: float = 0.5,
        bottleneck: bool = True,
        block_drop_rate: float = 0.0,
        num_classes: int = 10,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        layers = _layers_per_block(depth, bottleneck)
        if growth_rate < 1:
            raise ValueError(f"growth_rate must be at least 1, not {growth_rate}")
        if not 0 < compression <= 1:
            raise ValueError(f"compression must be above 0 and at most 1, not {compression}")
        self.in_chans = in_chans
        layer = BottleneckLayer if bottleneck else DenseLayer
        channels = 2 * growth_rate
        self.conv1 = conv3x3(in_chans, channels)
        self.blocks = nn.Sequential()
        for block in range(DENSE_BLOCKS):
            if block > 0:
                kept = int(channels * compression)
                self.blocks.append(Transition(channels, kept, block_drop_rate))
                channels = kept
            inputs = [channels + growth_rate * i for i in range(layers)]
            self.blocks.append(nn.Sequential(*(layer(width, growth_rate, block_drop_rate) for width in inputs)))
            channels += growth_rate * layers
        self.norm = nn.BatchNorm2d(channels)
        self.act = nn.ReLU(inplace=True)
        self.add_head(channels, num_classes, global_pool, drop_rate)
        he_init(self)

    def forward_features(self, x: Tensor) -> Tensor:
        """Map images [n, in_chans, h, w] to [n, num_features, h // 4, w // 4]."""
        return self.act(self.norm(self.blocks(self.conv1(x))))


def _layers_per_block(depth: int, bottleneck: bool) -> int:
    convolutions = 2 * DENSE_BLOCKS if bottleneck else DENSE_BLOCKS
    if depth < convolutions + 4 or (depth - 4) % convolutions:
        kind = "with" if bottleneck else "without"
        raise ValueError(f"a DenseNet {kind} bottlenecks has depth {convolutions}n + 4 with n >= 1, not {depth}")
    return (depth - 4) // convolutions


default_cfgs = {
    **small_image_cfgs("cifar_densenet_bc100_12", first_conv="conv1"),
    **small_image_cfgs("cifar_densenet121", first_conv="features.conv0", classifier="classifier"),
}


@register_model
@synonym("densenet_bc100_12")
def cifar_densenet_bc100_12(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """DenseNet-BC with L = 100, k = 12 (Huang et al. 2017, table 2): 0.8M parameters (769,162)."""
    return create(DenseNet, "cifar_densenet_bc100_12", pretrained, {"depth": 100, "growth_rate": 12, **kwargs})


@register_model
def cifar_densenet121(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """DenseNet-121 (Huang et al. 2017, table 1), timm's, with a stem for small images: 6,956,426 parameters."""
    arguments = {"growth_rate": 32, "block_config": (6, 12, 24, 16), **kwargs}
    return create(with_small_stem(TimmDenseNet), "cifar_densenet121", pretrained, arguments)
