"""The network of a run: its model settings, for the images and classes of its data."""

from pathlib import Path

from torch import Tensor, nn

from flatmin.models.build import build
from flatmin.settings import ModelSpec


def network(spec: ModelSpec, *, classes: int, images: Tensor, weights: Path | None = None) -> nn.Module:
    """Build the model for square images of shape (channels, size, size).

    It is initialised from torch's global generator, or starts from the ``weights`` of a file.
    """
    channels, size = images.shape[1], images.shape[2]
    return build(
        spec.name,
        stem=spec.stem,
        args=spec.args,
        num_classes=classes,
        in_chans=channels,
        img_size=size,
        weights=weights,
    )
