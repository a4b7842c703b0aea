"""ResNets for CIFAR (He et al. 2016, "Deep Residual Learning for Image Recognition", section 4.2).

A 3x3 convolution with 16 channels, three stages of n blocks with 16, 32 and 64 channels on maps of full, half and
quarter size, global average pooling: 6n + 2 weighted layers. These are ResNet-20, 32, 44, 56 and 110. ResNet-18, 34 and
50 are the networks that the paper made for ImageNet, four times as wide and a stage longer, with forty times as many
parameters (ResNet-18 against 20); `flatmin.models.small_stem_resnet` has them.

Where the shape changes, shortcuts have no parameters (option A), which is what the paper uses on CIFAR. It does not say
where the zero channels go: here behind the old ones, as in fb.resnet.torch. Convolutions are drawn from
N(0, 2 / fan_out), batch norms start at scale 1 and shift 0, the classifier has torch's default weights and a zero bias,
as in fb.resnet.torch; the paper names He et al. 2015 and no more.

Weights that others publish load from a file (`our_layers`).
"""

import re
from typing import Any

from timm.models import register_model
from torch import Tensor, nn
from torch.nn import functional

from flatmin.models.classifier import ConvClassifier, check_choice, conv3x3, he_init
from flatmin.models.registration import Weights, create, small_image_cfgs

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


class OptionBShortcut(nn.Sequential):
    """The projection shortcut: a strided 1x1 convolution and batch norm (He et al. 2016, equation 2 and option B)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, kernel_size=1, stride=stride, bias=False),
            nn.BatchNorm2d(out_channels),
        )


_SHORTCUTS = {"A": OptionAShortcut, "B": OptionBShortcut}


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch norm, added to the shortcut before the last ReLU."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, shortcut: str = "A") -> None:
        super().__init__()
        self.conv1 = conv3x3(in_channels, out_channels, stride)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.act1 = nn.ReLU(inplace=True)
        self.conv2 = conv3x3(out_channels, out_channels)
        self.bn2 = nn.BatchNorm2d(out_channels)
        same_shape = stride == 1 and in_channels == out_channels
        self.shortcut = nn.Identity() if same_shape else _SHORTCUTS[shortcut](in_channels, out_channels, stride)
        self.act2 = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map [n, in_channels, h, w] to [n, out_channels, h / stride, w / stride]."""
        residual = self.bn2(self.conv2(self.act1(self.bn1(self.conv1(x)))))
        return self.act2(residual + self.shortcut(x))


class CifarResNet(ConvClassifier):
    """The 6n + 2 layer ResNet of He et al. 2016, section 4.2.

    Args:
        blocks_per_stage: n.
        shortcut: what a shortcut does where the shape changes: ``A`` strides and adds zero channels, the paper's choice
            on CIFAR; ``B`` projects by a 1x1 convolution and batch norm.
        zero_init_residual: start the scale of every block's last batch norm at 0, so that blocks start as their
            shortcuts (Goyal et al. 2017, section 5.1).
        num_classes: number of logits.
        in_chans: number of image channels.
        global_pool: pooling before the classifier, in timm's names.
        drop_rate: dropout before the classifier (the paper has none).

    Raises:
        ValueError: ``blocks_per_stage`` is smaller than 1, or there is no such ``shortcut``.
    """

    def __init__(
        self,
        blocks_per_stage: int,
        shortcut: str = "A",
        zero_init_residual: bool = False,
        num_classes: int = 10,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        if blocks_per_stage < 1:
            raise ValueError(f"a ResNet needs at least one block per stage, got blocks_per_stage={blocks_per_stage}")
        check_choice("shortcut", shortcut, tuple(_SHORTCUTS))
        first, second, third = STAGE_CHANNELS
        self.in_chans = in_chans
        self.conv1 = conv3x3(in_chans, first)
        self.bn1 = nn.BatchNorm2d(first)
        self.act1 = nn.ReLU(inplace=True)
        self.layer1 = _stage(first, first, blocks_per_stage, stride=1, shortcut=shortcut)
        self.layer2 = _stage(first, second, blocks_per_stage, stride=2, shortcut=shortcut)
        self.layer3 = _stage(second, third, blocks_per_stage, stride=2, shortcut=shortcut)
        self.add_head(third, num_classes, global_pool, drop_rate)
        he_init(self)
        if zero_init_residual:
            _silence_residuals(self)

    def forward_features(self, x: Tensor) -> Tensor:
        """Map images [n, in_chans, h, w] to [n, 64, h / 4, w / 4]."""
        x = self.act1(self.bn1(self.conv1(x)))
        return self.layer3(self.layer2(self.layer1(x)))


def _stage(in_channels: int, out_channels: int, blocks: int, stride: int, shortcut: str) -> nn.Sequential:
    first = BasicBlock(in_channels, out_channels, stride, shortcut)
    return nn.Sequential(first, *(BasicBlock(out_channels, out_channels, stride=1) for _ in range(blocks - 1)))


def _silence_residuals(model: nn.Module) -> None:
    for block in model.modules():
        if isinstance(block, BasicBlock):
            nn.init.zeros_(block.bn2.weight)


def our_layers(weights: Weights) -> Weights:
    """Give the layers of published weights our names, and their channels our order.

    ==========================  ================================  ==============================
    this file                   akamaster/pytorch_resnet_cifar10  chenyaofo/pytorch-cifar-models
    ==========================  ================================  ==============================
    ``shortcut=``               ``"A"``                           ``"B"``
    ``layer2.0.shortcut.0, 1``  none                              ``layer2.0.downsample.0, 1``
    ``fc``                      ``linear``                        ``fc``
    zero channels               half before, half behind          none
    all other layers            the same, after ``module.``       the same
    mean of pixels              0.485, 0.456, 0.406               0.4914, 0.4822, 0.4465
    their standard deviation    0.229, 0.224, 0.225               0.2023, 0.1994, 0.2010
    ==========================  ================================  ==============================

    The last two rows are how images must be standardised for these weights. Where zero channels lie on both sides, the
    old channels come to lie in the middle; reordering the channels of stages 2 and 3 makes it the same network as ours.

    Args:
        weights: what a file holds: ours, or those of one of these repositories.

    Raises:
        ValueError: it lacks the classifier, whose name tells whose layout a file without projections has.
    """
    has_linear = any("linear." in name for name in weights)
    projects = any("shortcut." in name or "downsample." in name for name in weights)
    if not projects and not has_linear and "fc.weight" not in weights:
        raise ValueError("weights without a classifier (fc or linear) do not tell where their zero channels lie")
    pads_on_both_sides = has_linear and not projects
    weights = {_our_name(name): tensor for name, tensor in weights.items()}
    return _with_old_channels_first(weights) if pads_on_both_sides else weights


def _our_name(name: str) -> str:
    name = name.removeprefix("module.").replace(".downsample.", ".shortcut.")
    return re.sub(r"^linear\.", "fc.", name)


def _with_old_channels_first(weights: Weights) -> Weights:
    first, second, third = STAGE_CHANNELS
    orders = [list(range(first))] * 2  # of the stem, and of the stages
    orders.append(_old_channels_first(orders[1], second))
    orders.append(_old_channels_first(orders[2], third))
    return {name: _reordered(name, tensor, orders) for name, tensor in weights.items()}


def _old_channels_first(order: list[int], channels: int) -> list[int]:
    """Return where our channels lie in a stage that has zero channels on both sides of one in this ``order``."""
    before = (channels - len(order)) // 2
    old = [before + channel for channel in order]
    return old + [channel for channel in range(channels) if channel not in old]


def _reordered(name: str, tensor: Tensor, orders: list[list[int]]) -> Tensor:
    """Reorder the channels that a layer shares with the shortcuts; those between two convolutions stay."""
    if name == "fc.weight":
        return tensor[:, orders[-1]]
    layer = re.fullmatch(r"layer(\d)\.(\d+)\.(conv1|conv2|bn2)\.\w+", name)
    if layer is None or tensor.ndim == 0:
        return tensor
    stage, is_first = int(layer[1]), layer[2] == "0"
    if layer[3] == "conv1":
        return tensor[:, orders[stage - 1 if is_first else stage]]
    return tensor[orders[stage]]


default_cfgs = small_image_cfgs(
    "cifar_resnet8",
    "cifar_resnet20",
    "cifar_resnet32",
    "cifar_resnet44",
    "cifar_resnet56",
    "cifar_resnet110",
    first_conv="conv1",
)


@register_model
def cifar_resnet8(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """ResNet-8 (n = 1): 75,290 parameters. Smaller than any in the paper, for studies on a CPU."""
    return create(CifarResNet, "cifar_resnet8", pretrained, {"blocks_per_stage": 1, **kwargs}, renamed=our_layers)


@register_model
def cifar_resnet20(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """ResNet-20 (He et al. 2016, table 6, n = 3): 0.27M parameters, exactly 269,722."""
    return create(CifarResNet, "cifar_resnet20", pretrained, {"blocks_per_stage": 3, **kwargs}, renamed=our_layers)


@register_model
def cifar_resnet32(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """ResNet-32 (He et al. 2016, table 6, n = 5): 0.46M parameters, exactly 464,154."""
    return create(CifarResNet, "cifar_resnet32", pretrained, {"blocks_per_stage": 5, **kwargs}, renamed=our_layers)


@register_model
def cifar_resnet44(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """ResNet-44 (He et al. 2016, table 6, n = 7): 0.66M parameters, exactly 658,586."""
    return create(CifarResNet, "cifar_resnet44", pretrained, {"blocks_per_stage": 7, **kwargs}, renamed=our_layers)


@register_model
def cifar_resnet56(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """ResNet-56 (He et al. 2016, table 6, n = 9): 0.85M parameters, exactly 853,018."""
    return create(CifarResNet, "cifar_resnet56", pretrained, {"blocks_per_stage": 9, **kwargs}, renamed=our_layers)


@register_model
def cifar_resnet110(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """ResNet-110 (He et al. 2016, table 6, n = 18): 1.7M parameters, exactly 1,727,962.

    The paper finds a learning rate of 0.1 too large at the start: it begins with 0.01, until the training error is
    below 80% (about 400 steps of 128 images), and goes on with 0.1 (section 4.2).
    """
    return create(CifarResNet, "cifar_resnet110", pretrained, {"blocks_per_stage": 18, **kwargs}, renamed=our_layers)
