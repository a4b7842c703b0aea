"""Fully connected network on flattened pixels.

Hidden weights are drawn from N(0, 2 / fan_in) with zero biases (He et al. 2015, equation 10: the variance that keeps
the signal of a ReLU network); the classifier has torch's default weights and a zero bias.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from timm.models import register_model
from torch import Tensor, nn

from flatmin.models.classifier import linear_head
from flatmin.models.registration import create, small_image_cfgs, synonym


class MLP(nn.Module):
    """Pixels, hidden layers with ReLU, one linear classifier.

    Args:
        hidden: sizes of the hidden layers; none makes a linear classifier.
        img_size: height and width of the images, one number if they are square.
        in_chans: number of image channels.
        num_classes: number of logits, 0 for none.
        drop_rate: dropout before the classifier.

    Raises:
        ValueError: a hidden layer is smaller than 1, or (in ``forward``) the images have another shape.
    """

    def __init__(
        self,
        hidden: Sequence[int] = (128, 128),
        img_size: int | Sequence[int] = 32,
        in_chans: int = 3,
        num_classes: int = 10,
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        if any(size < 1 for size in hidden):
            raise ValueError(f"hidden layers need at least one unit, got hidden={list(hidden)}")
        height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
        self.image_shape = (in_chans, height, width)
        self.in_chans = in_chans
        sizes = (in_chans * height * width, *hidden)
        self.num_features = self.head_hidden_size = sizes[-1]
        self.layers = nn.Sequential(*(_hidden_layer(a, b) for a, b in pairwise(sizes)))
        self.head_drop = nn.Dropout(drop_rate)
        self.reset_classifier(num_classes)

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the classifier by a newly drawn one; ``global_pool`` has no meaning here and is ignored."""
        self.num_classes = num_classes
        self.fc = linear_head(self.num_features, num_classes)

    def get_classifier(self) -> nn.Module:
        """Return the last linear layer."""
        return self.fc

    def forward_features(self, x: Tensor) -> Tensor:
        """Map images [n, in_chans, height, width] to the last hidden layer [n, num_features]."""
        if tuple(x.shape[1:]) != self.image_shape:
            raise ValueError(
                f"this mlp was built for images {self.image_shape} (channels, height, width), got {tuple(x.shape[1:])}"
            )
        return self.layers(x.flatten(1))

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Map the last hidden layer to logits [n, num_classes], or return it with ``pre_logits``."""
        x = self.head_drop(x)
        return x if pre_logits else self.fc(x)

    def forward(self, x: Tensor) -> Tensor:
        """Map images [n, in_chans, height, width] to logits [n, num_classes]."""
        return self.forward_head(self.forward_features(x))


def _hidden_layer(in_features: int, out_features: int) -> nn.Sequential:
    linear = nn.Linear(in_features, out_features)
    nn.init.kaiming_normal_(linear.weight, mode="fan_in", nonlinearity="relu")
    nn.init.zeros_(linear.bias)
    return nn.Sequential(linear, nn.ReLU(inplace=True))


default_cfgs = small_image_cfgs("cifar_mlp", first_conv=None, fixed_input_size=True)


@register_model
@synonym("mlp")
def cifar_mlp(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Fully connected ReLU network of ours; two hidden layers of 128 units by default: 411,146 parameters."""
    return create(MLP, "cifar_mlp", pretrained, kwargs)
