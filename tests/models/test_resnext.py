"""ResNeXts against the paper's table 7, a count from its layer list, and torchvision's block."""

import pytest
import timm
import torch
from torch import nn
from torchvision.models.resnet import Bottleneck

from flatmin.models.resnext import ResNeXtBlock
from flatmin.models.size import parameter_count


def resnext_parameters(n: int, groups: int, width: int, classes: int) -> int:
    """Xie et al. 2017, section 5.3: convolutions have no bias, each is followed by a scale and a shift per channel."""
    total, before = 9 * 3 * 64 + 2 * 64, 64
    for stage, out in enumerate((256, 512, 1024)):
        per_group = width * 2**stage
        inner = groups * per_group
        for _ in range(n):
            total += before * inner + 2 * inner + groups * 9 * per_group**2 + 2 * inner + inner * out + 2 * out
            total += before * out + 2 * out if before != out else 0
            before = out
    return total + 1024 * classes + classes


@pytest.mark.parametrize(
    ("name", "groups", "width", "published", "exact"),
    [
        # osmr/imgclsmob, resnext29_32x4d_cifar10
        ("resnext29_32x4d", 32, 4, None, 4_775_754),
        ("resnext29_8x64d", 8, 64, 34.4, 34_426_698),
        # osmr/imgclsmob, resnext29_16x64d_cifar10; the paper cuts its 68.16 down
        ("resnext29_16x64d", 16, 64, 68.1, 68_155_210),
    ],
)
def test_parameters_are_those_of_the_paper(
    name: str, groups: int, width: int, published: float | None, exact: int
) -> None:
    with torch.device("meta"):
        count = parameter_count(timm.create_model(name))
    assert count == exact == resnext_parameters(3, groups, width, 10)
    if published is not None:
        assert int(count / 1e5) / 10 == published


def test_the_common_variant_with_a_1x1_stem_has_1536_parameters_less() -> None:
    # kuangliu/pytorch-cifar's ResNeXt29_32x4d: 4,774,218
    assert resnext_parameters(3, 32, 4, 10) - (9 - 1) * 3 * 64 == 4_774_218


def test_depth_counts_convolutions_and_the_classifier_but_no_shortcuts() -> None:
    with torch.device("meta"):
        model = timm.create_model("resnext29_32x4d")
    weighted = [name for name, layer in model.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    shortcuts = [name for name in weighted if "shortcut" in name]
    assert len(weighted) - len(shortcuts) == 29
    assert shortcuts == ["layer1.0.shortcut.0", "layer2.0.shortcut.0", "layer3.0.shortcut.0"]


def test_maps_are_32_16_and_8_pixels_wide_and_the_3x3_convolution_has_the_stride() -> None:
    with torch.device("meta"):
        model = timm.create_model("resnext29_32x4d")
        x = model.conv1(torch.zeros(2, 3, 32, 32))
        shapes = [tuple((x := stage(x)).shape) for stage in (model.layer1, model.layer2, model.layer3)]
    assert shapes == [(2, 256, 32, 32), (2, 512, 16, 16), (2, 1024, 8, 8)]
    strided = {name for name, layer in model.named_modules() if getattr(layer, "stride", None) == (2, 2)}
    assert strided == {f"layer{stage}.0.{layer}" for stage in (2, 3) for layer in ("conv2", "shortcut.0")}


@pytest.mark.parametrize(("in_channels", "stride"), [(64, 1), (256, 1), (64, 2)])
def test_a_block_computes_what_torchvisions_block_computes(in_channels: int, stride: int) -> None:
    torch.manual_seed(0)
    ours = ResNeXtBlock(in_channels, width=128, out_channels=256, cardinality=32, stride=stride).eval()
    projection = nn.Sequential(nn.Conv2d(in_channels, 256, 1, stride, bias=False), nn.BatchNorm2d(256))
    theirs = Bottleneck(
        in_channels, 64, stride, projection if in_channels != 256 else None, groups=32, base_width=4
    ).eval()
    theirs.load_state_dict({name.replace("shortcut", "downsample"): w for name, w in ours.state_dict().items()})
    images = torch.randn(2, in_channels, 8, 8)
    torch.testing.assert_close(ours(images), theirs(images))


def test_initialisation_counts_the_output_channels_of_all_groups() -> None:
    torch.manual_seed(0)
    model = timm.create_model("resnext29_32x4d")
    grouped = model.layer3[1].conv2
    assert grouped.weight.shape == (512, 16, 3, 3)
    assert grouped.weight.std().item() == pytest.approx((2 / (9 * 512)) ** 0.5, rel=0.05)
    assert model.layer3[1].conv1.weight.std().item() == pytest.approx((2 / 512) ** 0.5, rel=0.05)
    assert (model.get_classifier().bias == 0).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depth": 28}, r"9n \+ 2 with n >= 1 \(11, 20, 29, \.\.\.\), not 28"),
        ({"depth": 2}, "not 2"),
        ({"cardinality": 0}, "must be at least 1, not 0 and 4"),
        ({"base_width": 0}, "must be at least 1, not 32 and 0"),
    ],
)
def test_impossible_arguments_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        timm.create_model("resnext29_32x4d", **arguments)
