"""Building by name: sizes, arguments, errors, and stems of ImageNet models at 32x32."""

import re

import pytest
import timm
import torch
from torch import nn

from flatmin.models.build import build
from flatmin.models.stem import stem_changes

CIFAR = {"num_classes": 10, "in_chans": 3, "img_size": 32}


def seeded(name: str, **settings: object) -> nn.Module:
    torch.manual_seed(0)
    return build(name, **{**CIFAR, **settings}).eval()


def changed_entries(first: nn.Module, second: nn.Module) -> set[str]:
    a, b = first.state_dict(), second.state_dict()
    return {k for k in a.keys() | b.keys() if k not in a or k not in b or not torch.equal(a[k], b[k])}


def test_image_size_reaches_the_models_that_need_it() -> None:
    assert build("mlp", num_classes=10, in_chans=1, img_size=8)(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    vit = build("test_vit", args={"patch_size": 4}, **CIFAR)
    assert vit.patch_embed.num_patches == 64
    assert build("test_vit", args={"img_size": 64, "patch_size": 4}, **CIFAR).patch_embed.num_patches == 256


def test_image_size_is_kept_from_the_models_that_take_none() -> None:
    assert build("cifar_resnet8", num_classes=5, in_chans=1, img_size=8)(torch.zeros(2, 1, 8, 8)).shape == (2, 5)
    assert build("test_resnet", **CIFAR)(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


@pytest.mark.parametrize("name", ["cifar_resnet8", "test_resnet", "test_convnext"])
def test_same_weights_as_timm_for_the_same_seed(name: str) -> None:
    torch.manual_seed(0)
    reference = timm.create_model(name, num_classes=10, in_chans=3)
    assert not changed_entries(seeded(name), reference)
    assert stem_changes(seeded(name)) == ()


def test_unknown_model_names_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"unknown model 'cifar_resnet21'.*cifar_resnet20"):
        build("cifar_resnet21", **CIFAR)


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("mlp", {"hiden": [8]}, "'mlp' takes no argument 'hiden'.*did you mean hidden"),
        ("resnet18", {"depth": 3}, "'resnet18' takes no argument 'depth'.*it takes block, layers"),
        ("resnet18", {"img_size": 32}, "'resnet18' takes no argument 'img_size'"),
        ("mlp", {"num_classes": 3}, "num_classes of model 'mlp' is set by the dataset"),
    ],
)
def test_arguments_that_do_not_fit_are_named(name: str, args: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(name, args=args, **CIFAR)


def test_errors_inside_a_model_are_not_taken_for_unknown_arguments() -> None:
    with pytest.raises(TypeError):
        build("mlp", args={"hidden": 3}, **CIFAR)


def test_pretrained_weights_of_our_own_models_do_not_exist() -> None:
    with pytest.raises(ValueError, match="cifar_cnn has no pretrained weights"):
        build("cifar_cnn", pretrained=True, **CIFAR)


def test_resnet18_loses_its_pooling_and_changes_its_first_convolution_only() -> None:
    native, small = seeded("resnet18"), seeded("resnet18", stem="cifar")
    images = torch.randn(1, 3, 32, 32)
    assert native.forward_features(images).shape == (1, 512, 1, 1)
    assert small.forward_features(images).shape == (1, 512, 4, 4)
    assert not [layer for layer in small.modules() if isinstance(layer, nn.MaxPool2d)]
    assert changed_entries(native, small) == {"conv1.weight"}
    assert small.conv1.weight.shape == (64, 3, 3, 3)
    assert small.conv1.weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.1)
    assert sum(p.numel() for p in small.parameters()) == 11_173_962  # the usual "ResNet-18 for CIFAR-10"
    assert stem_changes(small) == (
        "conv1: 7x7 convolution with stride 2 became 3x3 convolution with stride 1, newly drawn",
        "maxpool: MaxPool2d removed",
    )
    assert not changed_entries(small, seeded("resnet18", stem="cifar"))


@pytest.mark.parametrize(
    ("name", "final_size", "changed"),
    [
        ("resnet18d", 4, set()),
        ("test_resnet", 4, set()),
        ("resnetv2_18", 4, {"stem.conv.weight"}),
        ("densenet121", 4, {"features.conv0.weight"}),
        ("convnext_atto", 4, {"stem.0.weight"}),
        ("convnext_atto_ols", 4, set()),
        ("mobilenetv3_small_050", 2, set()),
        ("test_efficientnet", 2, set()),
        ("ghostnet_050", 2, set()),
        ("regnetx_002", 2, set()),
    ],
)
def test_stems_of_other_families(name: str, final_size: int, changed: set[str]) -> None:
    native, small = seeded(name), seeded(name, stem="cifar")
    assert changed_entries(native, small) == changed
    with torch.inference_mode():
        features = small.forward_features(torch.randn(1, 3, 32, 32))
    assert features.shape[-2:] == (final_size, final_size)
    assert stem_changes(small)
    for sentence in stem_changes(small):
        assert re.fullmatch(r"[\w.]+: .*(stride 1, (newly drawn|weights kept)|removed)", sentence)


def test_a_replaced_pooling_goes_with_its_weights() -> None:
    native, small = (
        seeded("resnet18", args={"replace_stem_pool": True}),
        seeded("resnet18", args={"replace_stem_pool": True}, stem="cifar"),
    )
    assert all(key.startswith(("conv1.", "maxpool.")) for key in changed_entries(native, small))


@pytest.mark.parametrize("name", ["vgg11", "cifar_resnet8", "test_vit"])
def test_unknown_stems_are_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(ValueError, match=r"no small-image stem.*ConvNeXt, .*ResNet"):
        build(name, stem="cifar", **CIFAR)


def test_unknown_kind_of_stem() -> None:
    with pytest.raises(ValueError, match="unknown stem 'small': use one of native, cifar"):
        build("resnet18", stem="small", **CIFAR)
