"""Wide ResNets for CIFAR (Zagoruyko & Komodakis 2016, "Wide Residual Networks", table 1).

A 3x3 convolution with 16 channels, three stages of n pre-activation blocks with 16k, 32k and 64k channels, batch norm,
ReLU, global average pooling: depth 6n + 4, width k. Where a block changes the shape, its shortcut is a 1x1 convolution
of the pre-activated input; the paper does not say so, the authors' code does. Convolutions are drawn from
N(0, 2 / fan_out), batch norms start at scale 1 and shift 0, the classifier has torch's default weights and a zero bias,
as in that code.

Two variants come from the work on SAM (Foret et al. 2021):

The network of its code (``sam_jax/models/wide_resnet.py``, there WideResnet28x10) is `cifar_wrn28_10_sam`. Where the
shape changes, shortcuts have no parameters: they average-pool and append zero channels. Of these, the very first takes
the activated input, and the others the input as it is. The classifier's weights come from
U(-1 / sqrt(classes), 1 / sqrt(classes)), at 10 classes eight times as wide as torch's. JAX pads the strided
convolutions of even maps behind alone, torch before and behind: the same network of images mirrored in both directions.

The Hessian of section 4.2 and figure 3 is that of a WRN-40-10 "without batch norm"; neither the paper nor its code says
more. With ``norm="none"`` the batch norms go and nothing takes their place: convolutions stay without biases, since in
SAM's code they have none and norms are called in one place, so that this is what taking them out leaves. The last
convolution of each block is then drawn 1 / sqrt(3n) as large, 3n being the number of blocks. That is about the factor
by which batch norm keeps a branch smaller than its shortcut at the start (De & Smith 2020); without it, activations
grow exponentially with depth (Zhang et al. 2019, "Fixup", section 2).
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from timm.models import register_model
from torch import Tensor, nn
from torch.nn import functional

from flatmin.models.classifier import ConvClassifier, check_choice, conv3x3, he_init
from flatmin.models.registration import create, small_image_cfgs, synonym

STEM_CHANNELS = 16
STAGE_CHANNELS = (16, 32, 64)

NORMS = ("batch", "none")
SHORTCUTS = ("conv", "pad")


class PoolAndPad(nn.Module):
    """The parameter-free shortcut of SAM's code: average over ``stride`` x ``stride`` pixels, append zero channels."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        # of an odd map, the last row and column average the pixels that there are
        self.pool = nn.AvgPool2d(stride, ceil_mode=True)
        self.new_channels = out_channels - in_channels

    def forward(self, x: Tensor) -> Tensor:
        """Map [n, c, h, w] to [n, c + new_channels, ceil(h / stride), ceil(w / stride)]."""
        return functional.pad(self.pool(x), (0, 0, 0, 0, 0, self.new_channels))


class PreActivationBlock(nn.Module):
    """BN-ReLU-conv3x3-BN-ReLU-(dropout)-conv3x3 with nothing after the addition.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        stride: stride of the first convolution.
        shortcut: where the shape changes, ``conv`` projects the activated input, ``pad`` pools and pads the input.
        norm: ``batch``, or ``none`` to leave the batch norms out.
        block_drop_rate: dropout between the convolutions.
        opens_network: with ``pad``, let the shortcut take the activated input.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        shortcut: str = "conv",
        norm: str = "batch",
        block_drop_rate: float = 0.0,
        opens_network: bool = False,
    ) -> None:
        super().__init__()
        changes_shape = stride != 1 or in_channels != out_channels
        self.activates_shortcut = changes_shape if shortcut == "conv" else opens_network
        self.bn1 = _norm(norm, in_channels)
        self.act1 = nn.ReLU(inplace=norm == "batch")  # with no norm before it, it would change the shortcut's input
        self.conv1 = conv3x3(in_channels, out_channels, stride)
        self.bn2 = _norm(norm, out_channels)
        self.act2 = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(block_drop_rate)
        self.conv2 = conv3x3(out_channels, out_channels)
        self.shortcut = _shortcut(shortcut, in_channels, out_channels, stride) if changes_shape else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map [n, in_channels, h, w] to [n, out_channels, h / stride, w / stride]."""
        activated = self.act1(self.bn1(x))
        shortcut = self.shortcut(activated if self.activates_shortcut else x)
        residual = self.conv2(self.drop(self.act2(self.bn2(self.conv1(activated)))))
        return residual + shortcut


def _norm(norm: str, channels: int) -> nn.Module:
    return nn.BatchNorm2d(channels) if norm == "batch" else nn.Identity()


def _shortcut(shortcut: str, in_channels: int, out_channels: int, stride: int) -> nn.Module:
    if shortcut == "pad":
        return PoolAndPad(in_channels, out_channels, stride)
    return nn.Conv2d(in_channels, out_channels, kernel_size=1, stride=stride, bias=False)


class WideResNet(ConvClassifier):
    """WRN-depth-width of Zagoruyko & Komodakis 2016.

    Args:
        depth: 6n + 4.
        width: k, the factor on the channels of all three stages.
        shortcut: where the shape changes, ``conv`` for a 1x1 convolution, ``pad`` for pooling and zero channels.
        norm: ``batch``, or ``none`` for a network without batch norm.
        head_init: the classifier's weights are ``torch``'s default, or uniform up to the root of 1 over the number of
            ``classes``.
        block_drop_rate: dropout between the two convolutions of every block (the paper tries 0.3; default none).
        num_classes: number of logits.
        in_chans: number of image channels.
        global_pool: pooling before the classifier, in timm's names.
        drop_rate: dropout before the classifier (the paper has none).

    Raises:
        ValueError: ``depth`` is not 6n + 4, ``width`` is smaller than 1, or there is no such ``shortcut``, ``norm`` or
            ``head_init``.
    """

    def __init__(
        self,
        depth: int,
        width: int,
        shortcut: str = "conv",
        norm: str = "batch",
        head_init: str = "torch",
        block_drop_rate: float = 0.0,
        num_classes: int = 10,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        if depth < 10 or (depth - 4) % 6:
            raise ValueError(f"a wide ResNet has depth 6n + 4 with n >= 1 (10, 16, 22, 28, ...), not {depth}")
        if width < 1:
            raise ValueError(f"a wide ResNet has a width of at least 1, not {width}")
        check_choice("shortcut", shortcut, SHORTCUTS)
        check_choice("norm", norm, NORMS)
        blocks = (depth - 4) // 6
        first, second, third = (width * channels for channels in STAGE_CHANNELS)
        block = partial(PreActivationBlock, shortcut=shortcut, norm=norm, block_drop_rate=block_drop_rate)
        self.in_chans = in_chans
        self.conv1 = conv3x3(in_chans, STEM_CHANNELS)
        self.layer1 = _stage(block, STEM_CHANNELS, first, blocks, stride=1, opens_network=True)
        self.layer2 = _stage(block, first, second, blocks, stride=2)
        self.layer3 = _stage(block, second, third, blocks, stride=2)
        self.norm = _norm(norm, third)
        self.act = nn.ReLU(inplace=True)
        self.add_head(third, num_classes, global_pool, drop_rate, head_init)
        he_init(self)
        if norm == "none":
            _shrink_residuals(self)

    def forward_features(self, x: Tensor) -> Tensor:
        """Map images [n, in_chans, h, w] to [n, 64 * width, h / 4, w / 4]."""
        x = self.layer3(self.layer2(self.layer1(self.conv1(x))))
        return self.act(self.norm(x))


def _stage(
    block: Callable[..., PreActivationBlock],
    in_channels: int,
    out_channels: int,
    blocks: int,
    stride: int,
    opens_network: bool = False,
) -> nn.Sequential:
    first = block(in_channels, out_channels, stride, opens_network=opens_network)
    return nn.Sequential(first, *(block(out_channels, out_channels, stride=1) for _ in range(blocks - 1)))


@torch.no_grad()
def _shrink_residuals(model: nn.Module) -> None:
    blocks = [block for block in model.modules() if isinstance(block, PreActivationBlock)]
    for block in blocks:
        block.conv2.weight.div_(len(blocks) ** 0.5)


default_cfgs = small_image_cfgs(
    "cifar_wrn16_4",
    "cifar_wrn16_8",
    "cifar_wrn28_2",
    "cifar_wrn28_10",
    "cifar_wrn28_10_sam",
    "cifar_wrn40_2",
    "cifar_wrn40_10",
    first_conv="conv1",
)


@register_model
@synonym("wrn16_4")
def cifar_wrn16_4(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """WRN-16-4 (Zagoruyko & Komodakis 2016, table 6): 2,748,890 parameters; the paper does not print its number."""
    return create(WideResNet, "cifar_wrn16_4", pretrained, {"depth": 16, "width": 4, **kwargs})


@register_model
@synonym("wrn16_8")
def cifar_wrn16_8(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """WRN-16-8 (Zagoruyko & Komodakis 2016, tables 4 and 5): 11.0M parameters, exactly 10,961,370."""
    return create(WideResNet, "cifar_wrn16_8", pretrained, {"depth": 16, "width": 8, **kwargs})


@register_model
@synonym("wrn28_2")
def cifar_wrn28_2(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """WRN-28-2 (Zagoruyko & Komodakis 2016, table 2, block B(3, 3)): 1.5M parameters, exactly 1,467,610."""
    return create(WideResNet, "cifar_wrn28_2", pretrained, {"depth": 28, "width": 2, **kwargs})


@register_model
@synonym("wrn28_10")
def cifar_wrn28_10(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """WRN-28-10 (Zagoruyko & Komodakis 2016, tables 4 and 5): 36.5M parameters, exactly 36,479,194."""
    return create(WideResNet, "cifar_wrn28_10", pretrained, {"depth": 28, "width": 10, **kwargs})


@register_model
@synonym("wrn28_10_sam")
def cifar_wrn28_10_sam(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """WRN-28-10 as the code of SAM has it (Foret et al. 2021, table 1): 36,220,634 parameters."""
    variant = {"depth": 28, "width": 10, "shortcut": "pad", "head_init": "classes"}
    return create(WideResNet, "cifar_wrn28_10_sam", pretrained, {**variant, **kwargs})


@register_model
@synonym("wrn40_2")
def cifar_wrn40_2(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """WRN-40-2 (Zagoruyko & Komodakis 2016, tables 3 and 4): 2.2M parameters, exactly 2,243,546."""
    return create(WideResNet, "cifar_wrn40_2", pretrained, {"depth": 40, "width": 2, **kwargs})


@register_model
@synonym("wrn40_10")
def cifar_wrn40_10(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """WRN-40-10 (Zagoruyko & Komodakis 2016, section 3 and table 9): 56M parameters, exactly 55,841,754.

    With ``norm="none"``, of which the SAM paper shows the Hessian, it has 55,814,842.
    """
    return create(WideResNet, "cifar_wrn40_10", pretrained, {"depth": 40, "width": 10, **kwargs})
