"""One network of every family file, the smallest, with the arguments that make it shallow or narrow.

They leave every kind of layer in it, so that what takes long on a CPU can be done to each family. The last block of the
shaken PyramidNet survives with probability 0.9: at the 0.5 of the paper it needs more than 200 steps for 256 images.
"""

from typing import Any

SMALL_NETWORKS: dict[str, dict[str, Any]] = {
    "cifar_cnn": {},
    "cifar_convnext_atto": {"depths": (1, 1, 2, 1)},
    "cifar_densenet_bc100_12": {"depth": 22},
    "cifar_mixer_nano_patch4": {},
    "cifar_mlp": {},
    "cifar_mobilenetv3_small_100": {},
    "cifar_preact_resnet18": {"width": 16},
    "cifar_pyramidnet110_a270": {"depth": 14, "alpha": 48},
    "cifar_pyramidnet110_a270_sd": {"depth": 14, "alpha": 48, "shakedrop": 0.9},
    "cifar_resnet18": {"channels": (16, 32, 64, 128)},
    "cifar_resnet20": {},
    "cifar_resnext29_32x4d": {"depth": 11, "cardinality": 8},
    "cifar_shake_shake26_2x32d": {"depth": 14, "width": 16},
    "cifar_vgg16_bn": {"convolutions": (1, 1, 1, 1, 1)},
    "cifar_vit_tiny_patch4": {"depth": 2},
    "cifar_wrn16_4": {"width": 1},
}
