"""Vision transformers for CIFAR: timm's, with patches of 4x4 pixels.

Dosovitskiy et al. 2021, "An Image Is Worth 16x16 Words", with the widths that Touvron et al. 2021 (DeiT, table 1) call
tiny and small. 32x32 pixels make 64 patches; the image size is an argument and fixed at construction, as in timm. SAM
on vision transformers is the subject of Chen et al. 2022, "When Vision Transformers Outperform ResNets without
Pre-training or Strong Data Augmentations", on ImageNet with 16x16 patches.

Initialisation is timm's own (``weight_init=""``): linear layers and the position embedding from a normal distribution
of deviation 0.02 that is cut at -2 and 2, zero biases, the class token of deviation 1e-6, the patch embedding as torch
draws a convolution. ``weight_init="jax"`` is that of the paper's code.
"""

from typing import Any

from timm.models import register_model
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from flatmin.models.registration import create, small_image_cfgs

default_cfgs = small_image_cfgs(
    "cifar_vit_tiny_patch4",
    "cifar_vit_small_patch4",
    first_conv="patch_embed.proj",
    classifier="head",
    fixed_input_size=True,
)


@register_model
def cifar_vit_tiny_patch4(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """ViT-Ti/4: 12 blocks of width 192 with 3 heads (Touvron et al. 2021, table 1): 5,362,762 parameters."""
    arguments = {"patch_size": 4, "embed_dim": 192, "depth": 12, "num_heads": 3, **kwargs}
    return create(VisionTransformer, "cifar_vit_tiny_patch4", pretrained, arguments)


@register_model
def cifar_vit_small_patch4(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """ViT-S/4: 12 blocks of width 384 with 6 heads (Touvron et al. 2021, table 1): 21,342,346 parameters."""
    arguments = {"patch_size": 4, "embed_dim": 384, "depth": 12, "num_heads": 6, **kwargs}
    return create(VisionTransformer, "cifar_vit_small_patch4", pretrained, arguments)
