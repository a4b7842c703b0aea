"""PyramidNets for CIFAR (Han et al. 2017, "Deep Pyramidal Residual Networks", arXiv 1610.02915), with ShakeDrop.

A 3x3 convolution with 16 channels and batch norm, three stages of n blocks on maps of full, half and quarter size,
BN-ReLU, global average pooling. Every block is wider than the one before: of N = 3n blocks, block k has
16 + alpha k / N channels, rounded down (section 2.1, equation 2). A basic block is BN-conv3x3-BN-ReLU-conv3x3-BN, depth
6n + 2; a bottleneck is BN-conv1x1-BN-ReLU-conv3x3-BN-ReLU-conv1x1-BN, where the last convolution has four times the
channels, depth 9n + 2. Shortcuts have no parameters: new channels are zero, and 2x2 average pooling halves the map.
(The paper's maps are even; the last row and column of an odd one are pooled without a partner.)

Convolutions are drawn from N(0, 2 / fan_out), batch norms start at scale 1 and shift 0, the classifier has torch's
default weights and a zero bias, as in the authors' Lua code. Read literally, equation 2 rounds in every block what the
next one builds on; the paper's last widths (286 for alpha = 270, 4 * 216 = 864 for alpha = 200) show that it does not.
The authors' code rounds to the nearest (``widths="round"``), and so does SAM's: 26.21M parameters for PyramidNet-272,
where the paper prints 26.0M and rounding down gives 26.05M. SAM's code (after AutoAugment's) also draws the
classifier's weights from U(-1 / sqrt(classes), 1 / sqrt(classes)) (``head_init="classes"``).

ShakeDrop (Yamada et al. 2019, "ShakeDrop Regularization for Deep Residual Learning", equation 6, arXiv 1802.02375)
multiplies a block's last batch norm by b + alpha - b alpha, and its gradient by b + beta - b beta. b is 1 with
probability 1 - (l / L)(1 - p_L) in block l of L and 0 otherwise, alpha is uniform in [-1, 1], beta in [0, 1]. All are
drawn for every image, as in SAM's code; others draw b once per batch. Evaluation multiplies by the mean.
"""

from typing import Any

from timm.models import register_model
from torch import Tensor, nn
from torch.nn import functional

from flatmin.models.classifier import ConvClassifier, check_choice, conv3x3, he_init
from flatmin.models.registration import create, small_image_cfgs, synonym
from flatmin.models.shake import Coefficients, ShakeNoise, shaken

STEM_CHANNELS = 16
WIDTHS = ("floor", "round")


class ZeroPaddedShortcut(nn.Module):
    """The parameter-free shortcut: 2x2 average pooling where the block strides, zeros for new channels."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(2, ceil_mode=True) if stride == 2 else nn.Identity()
        self.new_channels = out_channels - in_channels

    def forward(self, x: Tensor) -> Tensor:
        """Map [n, c, h, w] to [n, c + new_channels, ceil(h / stride), ceil(w / stride)]."""
        return functional.pad(self.pool(x), (0, 0, 0, 0, 0, self.new_channels))


class PyramidBlock(nn.Module):
    """A residual branch, shaken or not, added to the zero-padded shortcut; subclasses define the branch.

    Attributes:
        expansion: output channels per channel of the width.
        survival: probability that a pass leaves the branch as it is; 1 without ShakeDrop.
    """

    expansion: int

    def __init__(self, in_channels: int, width: int, stride: int, survival: float = 1.0) -> None:
        super().__init__()
        self.survival = survival
        self.shortcut = ZeroPaddedShortcut(in_channels, self.expansion * width, stride)

    def branch(self, x: Tensor) -> Tensor:
        """Map [n, in_channels, h, w] to [n, expansion * width, ceil(h / stride), ceil(w / stride)]."""
        raise NotImplementedError

    def forward(self, x: Tensor, coefficients: Coefficients | None = None) -> Tensor:
        """Map [n, in_channels, h, w] to [n, expansion * width, ceil(h / stride), ceil(w / stride)].

        Without coefficients their mean multiplies the branch.
        """
        branch = self.branch(x)
        if coefficients is not None:
            branch = shaken(branch, coefficients)
        elif self.survival != 1:
            branch = self.survival * branch  # the mean coefficient, as alpha's mean is 0
        return branch + self.shortcut(x)


class BasicBlock(PyramidBlock):
    """BN-conv3x3-BN-ReLU-conv3x3-BN (Han et al. 2017, figure 6d)."""

    expansion = 1

    def __init__(self, in_channels: int, width: int, stride: int, survival: float = 1.0) -> None:
        super().__init__(in_channels, width, stride, survival)
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = conv3x3(in_channels, width, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.act2 = nn.ReLU(inplace=True)
        self.conv2 = conv3x3(width, width)
        self.bn3 = nn.BatchNorm2d(width)

    def branch(self, x: Tensor) -> Tensor:
        """Map [n, in_channels, h, w] to [n, width, ceil(h / stride), ceil(w / stride)]."""
        x = self.conv1(self.bn1(x))
        return self.bn3(self.conv2(self.act2(self.bn2(x))))


class Bottleneck(PyramidBlock):
    """BN-conv1x1-BN-ReLU-conv3x3-BN-ReLU-conv1x1-BN with four times the width at the end."""

    expansion = 4

    def __init__(self, in_channels: int, width: int, stride: int, survival: float = 1.0) -> None:
        super().__init__(in_channels, width, stride, survival)
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, width, kernel_size=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.act2 = nn.ReLU(inplace=True)
        self.conv2 = conv3x3(width, width, stride)
        self.bn3 = nn.BatchNorm2d(width)
        self.act3 = nn.ReLU(inplace=True)
        self.conv3 = nn.Conv2d(width, self.expansion * width, kernel_size=1, bias=False)
        self.bn4 = nn.BatchNorm2d(self.expansion * width)

    def branch(self, x: Tensor) -> Tensor:
        """Map [n, in_channels, h, w] to [n, 4 * width, ceil(h / stride), ceil(w / stride)]."""
        x = self.conv1(self.bn1(x))
        x = self.conv2(self.act2(self.bn2(x)))
        return self.bn4(self.conv3(self.act3(self.bn3(x))))


class PyramidNet(ConvClassifier):
    """PyramidNet-depth with widening factor alpha of Han et al. 2017 (the additive one).

    Args:
        depth: 6n + 2, or 9n + 2 with bottlenecks.
        alpha: how many channels the last block's width has more than the stem's 16.
        bottleneck: bottlenecks instead of basic blocks.
        shakedrop: p_L, the probability that the last block's branch is left as it is (0.5 in the paper). None or 1: no
            ShakeDrop.
        widths: what is done with fractions of channels, ``floor`` (the paper) or ``round`` (the authors' code, SAM's).
        head_init: ``torch`` for torch's default weights of the classifier, ``classes`` for SAM's.
        num_classes: number of logits.
        in_chans: number of image channels.
        global_pool: pooling before the classifier, in timm's names.
        drop_rate: dropout before the classifier (the paper has none).

    Raises:
        ValueError: no such depth, ``alpha`` is negative, ``shakedrop`` is no probability, or another argument is none
            of the named.
    """

    def __init__(
        self,
        depth: int,
        alpha: int,
        bottleneck: bool = False,
        shakedrop: float | None = None,
        widths: str = "floor",
        head_init: str = "torch",
        num_classes: int = 10,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        if alpha < 0:
            raise ValueError(f"alpha is the number of channels that the blocks add, at least 0, not {alpha}")
        if shakedrop is not None and not 0 <= shakedrop <= 1:
            raise ValueError(f"shakedrop is a probability between 0 and 1, or None, not {shakedrop}")
        check_choice("widths", widths, WIDTHS)
        block = Bottleneck if bottleneck else BasicBlock
        n = _blocks_per_stage(depth, bottleneck)
        survival = linear_decay(3 * n, 1.0 if shakedrop is None else shakedrop)
        block_widths = pyramid_widths(3 * n, alpha, widths)
        outputs = [block.expansion * width for width in block_widths]
        strides = [1] * n + ([2] + [1] * (n - 1)) * 2
        blocks = list(map(block, [STEM_CHANNELS, *outputs], block_widths, strides, survival))
        self.in_chans = in_chans
        self.conv1 = conv3x3(in_chans, STEM_CHANNELS)
        self.bn1 = nn.BatchNorm2d(STEM_CHANNELS)
        self.layer1 = nn.ModuleList(blocks[:n])
        self.layer2 = nn.ModuleList(blocks[n : 2 * n])
        self.layer3 = nn.ModuleList(blocks[2 * n :])
        self.norm = nn.BatchNorm2d(outputs[-1])
        self.act = nn.ReLU(inplace=True)
        self.add_head(outputs[-1], num_classes, global_pool, drop_rate, head_init)
        he_init(self)
        self.noise = None if survival[-1] == 1 else ShakeNoise(survival, low=-1.0)

    def forward_features(self, x: Tensor) -> Tensor:
        """Map images [n, in_chans, h, w] to [n, num_features, h / 4, w / 4]."""
        blocks = [*self.layer1, *self.layer2, *self.layer3]
        coefficients = [None] * len(blocks) if self.noise is None else self.noise(x)
        x = self.bn1(self.conv1(x))
        for block, own in zip(blocks, coefficients, strict=True):
            x = block(x, own)
        return self.act(self.norm(x))


def pyramid_widths(blocks: int, alpha: int, widths: str = "floor") -> list[int]:
    """Return 16 + alpha k / N for block k = 1, ..., N = ``blocks`` (Han et al. 2017, equation 2), as whole channels.

    ``widths`` is ``floor`` or ``round``, which takes halves up.
    """
    half = blocks if widths == "round" else 0
    return [STEM_CHANNELS + (2 * alpha * k + half) // (2 * blocks) for k in range(1, blocks + 1)]


def linear_decay(blocks: int, last: float) -> list[float]:
    """Return 1 - (l / L)(1 - ``last``) for block l = 1, ..., L = ``blocks`` (Yamada et al. 2019: linear decay)."""
    return [1 - block / blocks * (1 - last) for block in range(1, blocks + 1)]


def _blocks_per_stage(depth: int, bottleneck: bool) -> int:
    layers = 9 if bottleneck else 6
    if depth < layers + 2 or (depth - 2) % layers:
        kind = "bottlenecks" if bottleneck else "basic blocks"
        raise ValueError(f"a PyramidNet of {kind} has depth {layers}n + 2 with n >= 1, not {depth}")
    return (depth - 2) // layers


default_cfgs = small_image_cfgs(
    "cifar_pyramidnet110_a270",
    "cifar_pyramidnet110_a270_sd",
    "cifar_pyramidnet272_a200",
    "cifar_pyramidnet272_a200_sd",
    "cifar_pyramidnet272_a200_sd_sam",
    first_conv="conv1",
)


@register_model
@synonym("pyramidnet110_a270")
def cifar_pyramidnet110_a270(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """PyramidNet-110, alpha 270 (Han et al. 2017, table 4): 28.49M parameters, where the paper prints 28.3M."""
    return create(PyramidNet, "cifar_pyramidnet110_a270", pretrained, {"depth": 110, "alpha": 270, **kwargs})


@register_model
@synonym("pyramidnet110_a270_sd")
def cifar_pyramidnet110_a270_sd(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """PyramidNet-110, alpha 270 (Han et al. 2017, table 4) with ShakeDrop (Yamada et al. 2019): 28.49M parameters."""
    arguments = {"depth": 110, "alpha": 270, "shakedrop": 0.5, **kwargs}
    return create(PyramidNet, "cifar_pyramidnet110_a270_sd", pretrained, arguments)


@register_model
@synonym("pyramidnet272_a200")
def cifar_pyramidnet272_a200(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """PyramidNet-272 of bottlenecks, alpha 200 (Han et al. 2017, table 4): 26.05M parameters."""
    arguments = {"depth": 272, "alpha": 200, "bottleneck": True, **kwargs}
    return create(PyramidNet, "cifar_pyramidnet272_a200", pretrained, arguments)


@register_model
@synonym("pyramidnet272_a200_sd")
def cifar_pyramidnet272_a200_sd(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """PyramidNet-272, alpha 200 (Han et al. 2017, table 4) with ShakeDrop (Yamada et al. 2019): 26.05M parameters."""
    arguments = {"depth": 272, "alpha": 200, "bottleneck": True, "shakedrop": 0.5, **kwargs}
    return create(PyramidNet, "cifar_pyramidnet272_a200_sd", pretrained, arguments)


@register_model
@synonym("pyramidnet272_a200_sd_sam")
def cifar_pyramidnet272_a200_sd_sam(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """PyramidNet-272 with ShakeDrop as the code of SAM has it (Foret et al. 2021, table 1): 26.21M parameters."""
    variant = {"depth": 272, "alpha": 200, "bottleneck": True, "shakedrop": 0.5, "widths": "round"}
    arguments = {**variant, "head_init": "classes", **kwargs}
    return create(PyramidNet, "cifar_pyramidnet272_a200_sd_sam", pretrained, arguments)
