"""Shake-Shake networks for CIFAR (Gastaldi 2017, "Shake-Shake regularization", section 2, arXiv 1705.07485).

A 3x3 convolution with 16 channels and batch norm, three stages of n blocks with w, 2w and 4w channels on maps of full,
half and quarter size, ReLU, global average pooling: depth 6n + 2, "2xwd" for two branches of width w. A block adds its
input to a mixture of two branches, ReLU-conv3x3-BN-ReLU-conv3x3-BN each, with coefficients alpha and 1 - alpha. alpha
is uniform in [0, 1], drawn for every image and block; the gradient is mixed by another draw; evaluation mixes evenly.
Where a block changes the number of channels, also in the first stage at stride 1, the shortcut concatenates two 1x1
convolutions of the input after its ReLU, with half of the channels each and both strided; the second sees the map
shifted by one pixel down and right, with zeros at the border. Batch norm follows.

Convolutions are drawn from N(0, 2 / fan_out), batch norms start at scale 1 and shift 0, the classifier has torch's
default weights and a zero bias: all as in the author's Lua code. SAM's code (after AutoAugment's) differs in three
points: its shortcut takes the input without ReLU and shifts it up and left (both by ``shortcut="sam"``), and it draws
the classifier's weights from U(-1 / sqrt(classes), 1 / sqrt(classes)) (``head_init="classes"``).
"""

from typing import Any

import torch
from timm.models import register_model
from torch import Tensor, nn
from torch.nn import functional

from flatmin.models.classifier import ConvClassifier, check_choice, conv3x3, he_init
from flatmin.models.registration import create, small_image_cfgs, synonym
from flatmin.models.shake import Coefficients, ShakeNoise, shaken

STEM_CHANNELS = 16
SHORTCUTS = ("gastaldi", "sam")


class ShiftedShortcut(nn.Module):
    """Two strided 1x1 convolutions, of the map and of the map shifted by one pixel, concatenated before batch norm."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, shift: int) -> None:
        super().__init__()
        self.shift = shift
        self.conv1 = nn.Conv2d(in_channels, out_channels // 2, kernel_size=1, stride=stride, bias=False)
        self.conv2 = nn.Conv2d(in_channels, out_channels // 2, kernel_size=1, stride=stride, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map [n, in_channels, h, w] to [n, out_channels, ceil(h / stride), ceil(w / stride)]."""
        shifted = functional.pad(x, (self.shift, -self.shift, self.shift, -self.shift))
        return self.bn(torch.cat([self.conv1(x), self.conv2(shifted)], dim=1))


class ShakeShakeBlock(nn.Module):
    """The shortcut plus a mixture of two ReLU-conv3x3-BN-ReLU-conv3x3-BN branches."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, shortcut: str) -> None:
        super().__init__()
        self.act = nn.ReLU()  # not in place: the shortcut takes the input as it is
        self.branch1 = _branch(in_channels, out_channels, stride)
        self.branch2 = _branch(in_channels, out_channels, stride)
        projects = in_channels != out_channels
        self.activates_shortcut = projects and shortcut == "gastaldi"
        shift = 1 if shortcut == "gastaldi" else -1
        self.shortcut = ShiftedShortcut(in_channels, out_channels, stride, shift) if projects else nn.Identity()

    def forward(self, x: Tensor, coefficients: Coefficients | None = None) -> Tensor:
        """Map [n, in_channels, h, w] to [n, out_channels, ceil(h / stride), ceil(w / stride)].

        Without coefficients the branches are mixed evenly.
        """
        activated = self.act(x)
        shortcut = self.shortcut(activated if self.activates_shortcut else x)
        return shortcut + mixed(self.branch1(activated), self.branch2(activated), coefficients)


def mixed(first: Tensor, second: Tensor, coefficients: Coefficients | None) -> Tensor:
    """Return alpha * first + (1 - alpha) * second for branches [n, c, h, w]; their mean without coefficients."""
    if coefficients is None:
        return (first + second) / 2
    return second + shaken(first - second, coefficients)


class ShakeShake(ConvClassifier):
    """Shake-Shake depth 2xwd of Gastaldi 2017.

    Args:
        depth: 6n + 2.
        width: w, the channels of the first stage.
        forward_noise: coefficients of the forward pass, ``shake`` (drawn) or ``even`` (1/2).
        backward_noise: coefficients of the backward pass, ``shake``, ``even`` or ``keep`` (the forward ones).
        level: ``image`` draws for every image, ``batch`` once for all of a batch.
        shortcut: whose shortcut where channels change, ``gastaldi`` or ``sam`` (see the module's docstring).
        head_init: ``torch`` for torch's default weights of the classifier, ``classes`` for SAM's.
        num_classes: number of logits.
        in_chans: number of image channels.
        global_pool: pooling before the classifier, in timm's names.
        drop_rate: dropout before the classifier (the paper has none).

    Raises:
        ValueError: ``depth`` is not 6n + 2, ``width`` is not even, or another argument is none of the named.
    """

    def __init__(
        self,
        depth: int,
        width: int,
        forward_noise: str = "shake",
        backward_noise: str = "shake",
        level: str = "image",
        shortcut: str = "gastaldi",
        head_init: str = "torch",
        num_classes: int = 10,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        if depth < 8 or (depth - 2) % 6:
            raise ValueError(f"a Shake-Shake network has depth 6n + 2 with n >= 1 (8, 14, 20, 26, ...), not {depth}")
        if width < 2 or width % 2:
            raise ValueError(f"width is even and at least 2, as a shortcut's two convolutions share it, not {width}")
        check_choice("shortcut", shortcut, SHORTCUTS)
        blocks = (depth - 2) // 6
        self.in_chans = in_chans
        self.conv1 = conv3x3(in_chans, STEM_CHANNELS)
        self.bn1 = nn.BatchNorm2d(STEM_CHANNELS)
        self.layer1 = _stage(STEM_CHANNELS, width, blocks, stride=1, shortcut=shortcut)
        self.layer2 = _stage(width, 2 * width, blocks, stride=2, shortcut=shortcut)
        self.layer3 = _stage(2 * width, 4 * width, blocks, stride=2, shortcut=shortcut)
        self.act = nn.ReLU(inplace=True)
        self.add_head(4 * width, num_classes, global_pool, drop_rate, head_init)
        he_init(self)
        self.noise = ShakeNoise(
            [0.0] * 3 * blocks, forward_noise=forward_noise, backward_noise=backward_noise, level=level
        )

    def forward_features(self, x: Tensor) -> Tensor:
        """Map images [n, in_chans, h, w] to [n, 4 * width, h / 4, w / 4]."""
        coefficients = self.noise(x)
        x = self.bn1(self.conv1(x))
        for block, own in zip([*self.layer1, *self.layer2, *self.layer3], coefficients, strict=True):
            x = block(x, own)
        return self.act(x)


def _branch(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    """Return a branch after its first ReLU, which both branches and the shortcut share."""
    return nn.Sequential(
        conv3x3(in_channels, out_channels, stride),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
        conv3x3(out_channels, out_channels),
        nn.BatchNorm2d(out_channels),
    )


def _stage(in_channels: int, out_channels: int, blocks: int, stride: int, shortcut: str) -> nn.ModuleList:
    first = ShakeShakeBlock(in_channels, out_channels, stride, shortcut)
    rest = (ShakeShakeBlock(out_channels, out_channels, 1, shortcut) for _ in range(blocks - 1))
    return nn.ModuleList([first, *rest])


default_cfgs = small_image_cfgs(
    "cifar_shake_shake26_2x32d",
    "cifar_shake_shake26_2x64d",
    "cifar_shake_shake26_2x96d",
    "cifar_shake_shake26_2x96d_sam",
    first_conv="conv1",
)


@register_model
@synonym("shake_shake26_2x32d")
def cifar_shake_shake26_2x32d(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Shake-Shake 26 2x32d (Gastaldi 2017, table 1): 2.92M parameters."""
    return create(ShakeShake, "cifar_shake_shake26_2x32d", pretrained, {"depth": 26, "width": 32, **kwargs})


@register_model
@synonym("shake_shake26_2x64d")
def cifar_shake_shake26_2x64d(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Shake-Shake 26 2x64d (Gastaldi 2017, table 1): 11.65M parameters."""
    return create(ShakeShake, "cifar_shake_shake26_2x64d", pretrained, {"depth": 26, "width": 64, **kwargs})


@register_model
@synonym("shake_shake26_2x96d")
def cifar_shake_shake26_2x96d(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Shake-Shake 26 2x96d (Gastaldi 2017, table 1): 26.2M parameters, SAM's largest Shake-Shake network."""
    return create(ShakeShake, "cifar_shake_shake26_2x96d", pretrained, {"depth": 26, "width": 96, **kwargs})


@register_model
@synonym("shake_shake26_2x96d_sam")
def cifar_shake_shake26_2x96d_sam(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Shake-Shake 26 2x96d as the code of SAM has it (Foret et al. 2021, table 1): 26.2M parameters."""
    variant = {"depth": 26, "width": 96, "shortcut": "sam", "head_init": "classes"}
    return create(ShakeShake, "cifar_shake_shake26_2x96d_sam", pretrained, {**variant, **kwargs})
