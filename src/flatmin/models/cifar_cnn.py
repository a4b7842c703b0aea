"""A small convolutional network for studies on a CPU.

Every stage is conv3x3, 2x2 max-pooling, batch norm, ReLU; the last stage does not pool. What costs time on a CPU at
32x32 is memory traffic on the large maps, not multiplications: so there is one convolution per resolution, few
channels at the first, and pooling comes before the norm and the ReLU, which then touch a quarter of the pixels.
Channels are multiples of 16, the block that vectorised kernels work on. Convolutions are drawn from N(0, 2 / fan_out),
batch norms start at scale 1 and shift 0, the classifier has torch's default weights and a zero bias.
"""

from collections.abc import Sequence
from typing import Any

from timm.models import register_model
from torch import Tensor, nn

from flatmin.models.classifier import ConvClassifier, conv3x3, he_init
from flatmin.models.registration import create, small_image_cfgs


class CifarCNN(ConvClassifier):
    """Stages of conv3x3, max-pooling, batch norm and ReLU, then global pooling and a linear classifier.

    Args:
        widths: channels of the stages; every stage but the last halves the map.
        num_classes: number of logits.
        in_chans: number of image channels.
        global_pool: pooling before the classifier, in timm's names.
        drop_rate: dropout before the classifier.

    Raises:
        ValueError: no stage, or one without channels.
    """

    def __init__(
        self,
        widths: Sequence[int] = (16, 32, 64, 128),
        num_classes: int = 10,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        if not widths or min(widths) < 1:
            raise ValueError(f"cifar_cnn needs at least one stage of at least one channel, got widths={list(widths)}")
        self.in_chans = in_chans
        inputs = (in_chans, *widths[:-1])
        pools = [True] * (len(widths) - 1) + [False]
        self.stages = nn.Sequential(*map(_stage, inputs, widths, pools))
        self.add_head(widths[-1], num_classes, global_pool, drop_rate)
        he_init(self)

    def forward_features(self, x: Tensor) -> Tensor:
        """Map images [n, in_chans, h, w] to [n, widths[-1], h / 2^(k - 1), w / 2^(k - 1)] with k stages."""
        return self.stages(x)


def _stage(in_channels: int, out_channels: int, pool: bool) -> nn.Sequential:
    return nn.Sequential(
        conv3x3(in_channels, out_channels),
        nn.MaxPool2d(2) if pool else nn.Identity(),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


default_cfgs = small_image_cfgs("cifar_cnn", first_conv="stages.0.0")


@register_model
def cifar_cnn(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Small convolutional network of ours, 16-32-64-128 channels by default: 98,970 parameters."""
    return create(CifarCNN, "cifar_cnn", pretrained, kwargs)
