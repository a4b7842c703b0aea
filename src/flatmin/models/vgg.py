"""VGG with batch norm for CIFAR (Simonyan & Zisserman 2015, "Very Deep Convolutional Networks", table 1).

The convolutions are those of the paper's columns D (VGG-16) and E (VGG-19): five stages of 3x3 convolutions with 64,
128, 256, 512 and 512 channels, each stage followed by a 2x2 max pooling. Each convolution has a bias, batch norm and
ReLU. The paper has no batch norm, and two fully connected layers of 4096 units for images of 224x224. On CIFAR, where
one pixel is left, papers mean one of two forms and seldom say which: one linear layer on the 512 features, which is
the default here, or two hidden layers of 512 units with dropout 0.5 before it (``hidden=(512, 512),
hidden_drop_rate=0.5``, as in the code of SWAG).

Convolutions are drawn from N(0, 2 / fan_out) with zero biases, batch norms start at scale 1 and shift 0, the classifier
has torch's default weights and a zero bias. Hidden layers are 1x1 convolutions and drawn like the others; the code of
SWAG leaves them at torch's default.
"""

from collections.abc import Sequence
from typing import Any

from timm.models import register_model
from torch import Tensor, nn

from flatmin.models.classifier import ConvClassifier, he_init
from flatmin.models.registration import create, small_image_cfgs

STAGE_CHANNELS = (64, 128, 256, 512, 512)
VGG16_CONVOLUTIONS = (2, 2, 3, 3, 3)
VGG19_CONVOLUTIONS = (2, 2, 4, 4, 4)


class VGG(ConvClassifier):
    """VGG with batch norm and few or no hidden layers behind the convolutions.

    Args:
        convolutions: how many each of the five stages has.
        hidden: units of the hidden layers, one number per layer.
        hidden_drop_rate: dropout before each hidden layer.
        num_classes: number of logits.
        in_chans: number of image channels.
        global_pool: pooling before the classifier, in timm's names; has nothing to do at 32x32.
        drop_rate: dropout before the classifier.

    Raises:
        ValueError: there are not five stages, a stage has no convolution or a hidden layer no unit; or (in
            ``forward_features``) the images are smaller than 32x32.
    """

    def __init__(
        self,
        convolutions: Sequence[int],
        hidden: Sequence[int] = (),
        hidden_drop_rate: float = 0.0,
        num_classes: int = 10,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        if len(convolutions) != len(STAGE_CHANNELS) or min(convolutions) < 1:
            raise ValueError(f"VGG has five stages of at least one convolution, not convolutions={list(convolutions)}")
        if any(units < 1 for units in hidden):
            raise ValueError(f"hidden layers need at least one unit, got hidden={list(hidden)}")
        self.in_chans = in_chans
        self.features = nn.Sequential()
        channels = in_chans
        for width, count in zip(STAGE_CHANNELS, convolutions, strict=True):
            for _ in range(count):
                self.features.extend(_convolution(channels, width))
                channels = width
            self.features.append(nn.MaxPool2d(kernel_size=2))
        self.hidden = nn.Sequential()
        for units in hidden:
            self.hidden.extend(
                [nn.Dropout(hidden_drop_rate), nn.Conv2d(channels, units, kernel_size=1), nn.ReLU(inplace=True)]
            )
            channels = units
        self.add_head(channels, num_classes, global_pool, drop_rate)
        he_init(self)
        _zero_biases(self)

    def forward_features(self, x: Tensor) -> Tensor:
        """Map images [n, in_chans, h, w] to [n, num_features, h // 32, w // 32]."""
        if min(x.shape[-2:]) < 32:
            raise ValueError(f"VGG halves images five times: they must be at least 32x32, not {tuple(x.shape[-2:])}")
        return self.hidden(self.features(x))


def _convolution(in_channels: int, out_channels: int) -> list[nn.Module]:
    convolution = nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1)
    return [convolution, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)]


def _zero_biases(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.bias is not None:
            nn.init.zeros_(module.bias)


default_cfgs = small_image_cfgs("cifar_vgg16_bn", "cifar_vgg19_bn", first_conv="features.0")


@register_model
def cifar_vgg16_bn(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """VGG-16 (Simonyan & Zisserman 2015, table 1, D) with batch norm and one linear layer: 14,728,266 parameters."""
    return create(VGG, "cifar_vgg16_bn", pretrained, {"convolutions": VGG16_CONVOLUTIONS, **kwargs})


@register_model
def cifar_vgg19_bn(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """VGG-19 (Simonyan & Zisserman 2015, table 1, E) with batch norm and one linear layer: 20,040,522 parameters."""
    return create(VGG, "cifar_vgg19_bn", pretrained, {"convolutions": VGG19_CONVOLUTIONS, **kwargs})
