"""Building by name: sizes, arguments, errors."""

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
    with torch.device("meta"):  # says so in words of its own
        assert build("hrnet_w18_small", **CIFAR).num_classes == 10


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


def test_arguments_of_the_wrong_kind_are_told_with_the_model() -> None:
    with pytest.raises(ValueError, match=r"'mlp' cannot be built with .*'hidden': 3.*not iterable"):
        build("mlp", args={"hidden": 3}, **CIFAR)
