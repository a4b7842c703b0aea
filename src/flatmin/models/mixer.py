"""MLP-Mixers for CIFAR: timm's, with patches of 4x4 pixels.

Tolstikhin et al. 2021, "MLP-Mixer: An all-MLP Architecture for Vision", table 1. 32x32 pixels make 64 patches; the
image size is an argument and fixed at construction, as in timm. SAM on Mixers is the subject of Chen et al. 2022, "When
Vision Transformers Outperform ResNets without Pre-training or Strong Data Augmentations", on ImageNet.

Initialisation is timm's own: the patch embedding from a normal distribution of variance 1 / fan_in, hidden layers
Xavier-uniform with biases of deviation 1e-6, a classifier of zeros, so that the network starts with equal logits.
"""

from typing import Any

from timm.models import register_model
from timm.models.mlp_mixer import MlpMixer
from torch import nn

from flatmin.models.registration import create, small_image_cfgs

default_cfgs = small_image_cfgs(
    "cifar_mixer_nano_patch4",
    "cifar_mixer_s_patch4",
    first_conv="stem.proj",
    classifier="head",
    fixed_input_size=True,
)


@register_model
def cifar_mixer_nano_patch4(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Mixer with 8 blocks of width 128, smaller than any in the paper, for studies on a CPU: 1,132,170 parameters."""
    arguments = {"patch_size": 4, "num_blocks": 8, "embed_dim": 128, **kwargs}
    return create(MlpMixer, "cifar_mixer_nano_patch4", pretrained, arguments)


@register_model
def cifar_mixer_s_patch4(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Mixer-S/4: 8 blocks of width 512 (Tolstikhin et al. 2021, table 1): 17,110,026 parameters."""
    arguments = {"patch_size": 4, "num_blocks": 8, "embed_dim": 512, **kwargs}
    return create(MlpMixer, "cifar_mixer_s_patch4", pretrained, arguments)
