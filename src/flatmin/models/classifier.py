"""What the model families share: the classifier interface that timm expects, convolutions, initialisation."""

from timm.layers import SelectAdaptivePool2d
from torch import Tensor, nn

HEAD_INITS = ("torch", "classes")
"""How a classifier's weights are drawn: as torch does, or from U(-1 / sqrt(classes), 1 / sqrt(classes)) as SAM's code
and AutoAugment's, at 64 features and 10 classes 2.5 times as wide."""


class ConvClassifier(nn.Module):
    """A convolutional network that ends in global pooling, dropout and one linear layer.

    A family defines its layers and ``forward_features``, then calls `add_head` and `init_weights`, in this order.

    Attributes:
        num_classes: number of logits; 0 means that the network returns pooled features.
        in_chans: number of image channels.
        num_features: channels of the last feature map.
        head_hidden_size: length of the vector that the linear layer sees.
    """

    num_classes: int
    in_chans: int
    num_features: int
    head_hidden_size: int
    head_init: str

    def add_head(
        self, num_features: int, num_classes: int, global_pool: str, drop_rate: float, head_init: str = "torch"
    ) -> None:
        """Append global pooling, dropout and the linear classifier.

        Args:
            num_features: channels of the feature map.
            num_classes: number of logits, 0 for none.
            global_pool: ``avg``, ``max``, ``avgmax``, ``catavgmax``, or ``""`` for the feature map as it is.
            drop_rate: probability with which dropout zeroes a pooled feature.
            head_init: how the linear layer's weights are drawn, one of `HEAD_INITS`.

        Raises:
            ValueError: there is no such ``head_init``.
        """
        check_choice("head_init", head_init, HEAD_INITS)
        self.num_features, self.head_init = num_features, head_init
        self.head_drop = nn.Dropout(drop_rate)
        self.reset_classifier(num_classes, global_pool)

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the linear layer by a newly drawn one, and the pooling if another one is named."""
        self.num_classes = num_classes
        if global_pool is not None:
            self.global_pool = SelectAdaptivePool2d(pool_type=global_pool, flatten=bool(global_pool))
        self.head_hidden_size = self.num_features * self.global_pool.feat_mult()
        self.fc = linear_head(self.head_hidden_size, num_classes)
        if self.head_init == "classes" and isinstance(self.fc, nn.Linear):
            bound = num_classes**-0.5
            nn.init.uniform_(self.fc.weight, -bound, bound)

    def get_classifier(self) -> nn.Module:
        """Return the last linear layer."""
        return self.fc

    def forward_features(self, x: Tensor) -> Tensor:
        """Map images [n, c, h, w] to the last feature map [n, num_features, h', w']."""
        raise NotImplementedError

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Map a feature map to logits [n, num_classes], or to pooled features with ``pre_logits``."""
        x = self.head_drop(self.global_pool(x))
        return x if pre_logits else self.fc(x)

    def forward(self, x: Tensor) -> Tensor:
        """Map images [n, c, h, w] to logits [n, num_classes]."""
        return self.forward_head(self.forward_features(x))


def linear_head(in_features: int, num_classes: int) -> nn.Module:
    """Return a linear layer with torch's default weights and a zero bias; the identity for 0 classes."""
    if num_classes == 0:
        return nn.Identity()
    layer = nn.Linear(in_features, num_classes)
    nn.init.zeros_(layer.bias)
    return layer


def check_choice(argument: str, value: str, allowed: tuple[str, ...]) -> None:
    """Refuse a value that is none of the allowed ones.

    Raises:
        ValueError: names the argument, the value and what is allowed.
    """
    if value not in allowed:
        raise ValueError(f"{argument} is one of {', '.join(allowed)}, not {value!r}")


def conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    """Return a 3x3 convolution with padding 1 and no bias."""
    return nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=stride, padding=1, bias=False)


def he_init(model: nn.Module) -> None:
    """Draw every convolution from N(0, 2 / fan_out) and set batch norms to scale 1, shift 0 (He et al. 2015).

    Linear layers are left alone.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
