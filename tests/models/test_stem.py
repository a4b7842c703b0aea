"""Stems of ImageNet models rewritten for 32x32: what changes, what stays, and who is refused."""

import re

import pytest
import timm
import torch
from torch import nn

from flatmin.models.build import build
from flatmin.models.stem import rewrite_stem, stem_changes, with_small_stem

CIFAR = {"num_classes": 10, "in_chans": 3, "img_size": 32}
SENTENCE = r"[\w.]+: .*(stride 1, (newly drawn|weights kept)|removed)"


def seeded(name: str, **settings: object) -> nn.Module:
    torch.manual_seed(0)
    return build(name, **{**CIFAR, **settings}).eval()


def native_and_small(name: str) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    native = timm.create_model(name, num_classes=10).eval()
    torch.manual_seed(0)
    small = timm.create_model(name, num_classes=10).eval()
    rewrite_stem(small)
    return native, small


def changed_entries(first: nn.Module, second: nn.Module) -> set[str]:
    a, b = first.state_dict(), second.state_dict()
    return {k for k in a.keys() | b.keys() if k not in a or k not in b or not torch.equal(a[k], b[k])}


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
        ("resnest14d", 4, set()),
        ("skresnet18", 4, {"conv1.weight"}),
        ("legacy_seresnet18", 4, {"layer0.conv1.weight"}),
        ("resnetv2_18", 4, {"stem.conv.weight"}),
        ("resnetv2_18d", 4, set()),
        ("densenet121", 4, {"features.conv0.weight"}),
        ("densenetblur121d", 4, set()),
        ("convnext_atto", 4, {"stem.0.weight"}),
        ("convnext_atto_ols", 4, set()),
        ("convnextv2_atto", 4, {"stem.0.weight"}),
        ("inception_next_atto", 4, {"stem.0.weight"}),
        ("edgenext_xx_small", 4, {"stem.0.weight"}),
        ("mobilenetv3_small_050", 2, set()),
        ("tf_mobilenetv3_small_075", 2, set()),
        ("mobilenetv4_conv_small_050", 2, set()),
        ("lcnet_050", 2, set()),
        ("test_efficientnet", 2, set()),
        ("tf_efficientnetv2_b0", 2, set()),
        ("mobilenetv2_035", 2, set()),
        ("ghostnet_050", 2, set()),
        ("repghostnet_050", 2, set()),
        ("rexnet_100", 2, set()),
        ("regnetx_002", 2, set()),
        ("test_byobnet", 2, set()),
        ("repvgg_a0", 2, set()),
        ("mobileone_s0", 2, set()),
        ("gcresnext26ts", 4, set()),
        ("cs3darknet_s", 2, set()),
        ("cs3darknet_focus_s", 2, {"stem.conv1.conv.weight"}),
        ("cspresnet50", 4, {"stem.conv1.conv.weight"}),
        ("ese_vovnet19b_dw", 4, set()),
        ("hrnet_w18_small", 4, set()),
    ],
)
def test_stems_of_other_families(name: str, final_size: int, changed: set[str]) -> None:
    native, small = native_and_small(name)
    assert changed_entries(native, small) == changed
    with torch.inference_mode():
        features = small.forward_features(torch.randn(1, 3, 32, 32))
    assert features.shape[-2:] == (final_size, final_size)
    assert len(stem_changes(small)) >= 1
    for sentence in stem_changes(small):
        assert re.fullmatch(SENTENCE, sentence)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        (
            "repvgg_a0",
            {
                "stem.conv_kxk.conv: 3x3 convolution with stride 2 became stride 1, weights kept",
                "stem.conv_1x1.conv: 1x1 convolution with stride 2 became stride 1, weights kept",
            },
        ),
        (
            "resnetv2_50x1_bit",
            {
                "stem.conv: 7x7 convolution with stride 2 became 3x3 convolution with stride 1, newly drawn",
                "stem.pad: ConstantPad2d removed",
                "stem.pool: MaxPool2d removed",
            },
        ),
        (
            "densenetblur121d",
            {
                "features.conv0: 3x3 convolution with stride 2 became stride 1, weights kept",
                "features.pool0: Sequential removed",
            },
        ),
        ("regnetv_040", {"stem: 3x3 convolution with stride 2 became stride 1, weights kept"}),
        (
            "hrnet_w18_small",
            {
                "conv1: 3x3 convolution with stride 2 became stride 1, weights kept",
                "conv2: 3x3 convolution with stride 2 became stride 1, weights kept",
            },
        ),
    ],
)
def test_the_changes_of_a_stem_are_told(name: str, changes: set[str]) -> None:
    with torch.device("meta"):
        model = timm.create_model(name)
        rewrite_stem(model)
    assert set(stem_changes(model)) == changes


@pytest.mark.parametrize(
    ("name", "layer", "deviation"),
    [
        ("densenet121", "features.conv0", (2 / (3 * 9)) ** 0.5),
        ("cspresnet50", "stem.conv1.conv", (2 / (64 * 9)) ** 0.5),
        ("legacy_seresnet18", "layer0.conv1", (2 / (64 * 9)) ** 0.5),
        ("convnext_atto", "stem.0", 0.02),
    ],
)
def test_a_new_convolution_is_drawn_as_its_model_draws(name: str, layer: str, deviation: float) -> None:
    _, small = native_and_small(name)
    assert small.get_submodule(layer).weight.std().item() == pytest.approx(deviation, rel=0.1)


def test_a_replaced_pooling_goes_with_its_weights() -> None:
    native, small = (
        seeded("resnet18", args={"replace_stem_pool": True}),
        seeded("resnet18", args={"replace_stem_pool": True}, stem="cifar"),
    )
    assert all(key.startswith(("conv1.", "maxpool.")) for key in changed_entries(native, small))


def test_with_small_stem_takes_a_class_and_an_entry_point() -> None:
    makers = (timm.models.densenet.DenseNet, timm.models.densenet.densenet121)
    torch.manual_seed(0)
    first = with_small_stem(makers[0])(num_classes=10)
    torch.manual_seed(0)
    second = with_small_stem(makers[1])(num_classes=10)
    assert not changed_entries(first, second)
    assert stem_changes(first) == stem_changes(second) != ()


@pytest.mark.parametrize("name", ["vgg11", "cifar_resnet8"])
def test_unknown_stems_are_refused_with_the_known_ones(name: str) -> None:
    with (
        torch.device("meta"),
        pytest.raises(ValueError, match=r"no small-image stem.*ConvNeXt, .*ResNet.*keep stem='native'"),
    ):
        build(name, stem="cifar", **CIFAR)


@pytest.mark.parametrize("name", ["test_vit", "cifar_mixer_nano_patch4", "swin_tiny_patch4_window7_224"])
def test_patches_are_no_stem(name: str) -> None:
    with torch.device("meta"), pytest.raises(ValueError, match=r"cuts images into patches.*patch_size"):
        rewrite_stem(timm.create_model(name))


@pytest.mark.parametrize(
    "name", ["darknet17", "cifar_convnext_atto", "cifar_densenet121", "cifar_mobilenetv3_small_100"]
)
def test_stems_that_shrink_nothing_are_refused(name: str) -> None:
    with torch.device("meta"), pytest.raises(ValueError, match="shrinks no image: keep stem='native'"):
        rewrite_stem(timm.create_model(name))
