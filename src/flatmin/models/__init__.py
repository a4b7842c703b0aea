"""Models for small images, registered with timm.

Importing this package makes every model of its family files available to ``timm.create_model``. A model is added by
adding one file with a ``@register_model`` function, and one import below. Family files never import each other: a
run is identified by the code that its own model's file imports.
"""

from flatmin.models import (
    cifar_cnn,
    cifar_resnet,
    convnext,
    densenet,
    mixer,
    mlp,
    mobilenetv3,
    preact_resnet,
    pyramidnet,
    resnext,
    shake_shake,
    small_stem_resnet,
    vgg,
    vit,
    wide_resnet,
)

__all__ = [
    "cifar_cnn",
    "cifar_resnet",
    "convnext",
    "densenet",
    "mixer",
    "mlp",
    "mobilenetv3",
    "preact_resnet",
    "pyramidnet",
    "resnext",
    "shake_shake",
    "small_stem_resnet",
    "vgg",
    "vit",
    "wide_resnet",
]
