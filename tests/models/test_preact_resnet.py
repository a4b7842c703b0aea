"""Pre-activation ResNets at CIFAR size against a layer list by hand and against timm's own."""

import re

import pytest
import timm
import torch
from torch import nn

import flatmin.models  # noqa: F401
from flatmin.models.build import build
from flatmin.models.preact_resnet import PreActivationBlock
from flatmin.models.size import parameter_count


def parameters_by_hand(blocks: tuple[int, ...], classes: int) -> int:
    """Norms before convolutions, 3x3 pairs, a 1x1 shortcut at the head of stages 2 to 4, one norm at the end."""
    total, before = 9 * 3 * 64, 64
    for stage, count in enumerate(blocks):
        channels = 64 * 2**stage
        total += 2 * before + 9 * before * channels + 2 * channels + 9 * channels * channels
        total += before * channels if stage else 0
        total += (count - 1) * 2 * (2 * channels + 9 * channels * channels)
        before = channels
    return total + 2 * before + before * classes + classes


@pytest.mark.parametrize(("depth", "exact"), [(18, 11_172_170), (34, 21_280_330), (50, 23_513_162)])
def test_parameters(depth: int, exact: int) -> None:
    with torch.device("meta"):
        model = timm.create_model(f"preact_resnet{depth}")
    assert parameter_count(model) == exact
    assert model.default_cfg["architecture"] == f"cifar_preact_resnet{depth}"
    if depth < 50:
        assert exact == parameters_by_hand({18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}[depth], 10)


def test_the_last_norm_is_what_kuanglius_port_has_not() -> None:
    with torch.device("meta"):
        model = timm.create_model("preact_resnet18")
    assert parameter_count(model) - parameter_count(model.norm) == 11_171_146
    assert model.norm.num_features == 512


def timms_layer(name: str) -> str:
    """Return what timm's ResNetV2 calls a layer of ours."""
    name = re.sub(r"layer(\d)\.(\d+)", lambda match: f"stages.{int(match[1]) - 1}.blocks.{match[2]}", name)
    name = name.replace(".bn", ".norm").replace("shortcut", "downsample.conv")
    return re.sub(r"^conv1", "stem.conv", re.sub(r"^fc", "head.fc", name))


@pytest.mark.parametrize("depth", [18, 34, 50])
def test_logits_are_those_of_timms_own_with_a_small_stem(depth: int) -> None:
    torch.manual_seed(0)
    ours = timm.create_model(f"preact_resnet{depth}").eval()
    for layer in ours.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.bias, std=0.1)
    theirs = build(f"resnetv2_{depth}", stem="cifar", num_classes=10, in_chans=3, img_size=32).eval()
    weights = {timms_layer(name): tensor for name, tensor in ours.state_dict().items()}
    weights["head.fc.weight"] = weights["head.fc.weight"][:, :, None, None]
    theirs.load_state_dict(weights)
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(ours(images), theirs(images), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("depth", [18, 50])
def test_maps_halve_at_stages_two_to_four(depth: int) -> None:
    with torch.device("meta"):
        model = timm.create_model(f"preact_resnet{depth}")
        x = model.conv1(torch.zeros(2, 3, 32, 32))
        sizes = [(x := stage(x)).shape[-1] for stage in (model.layer1, model.layer2, model.layer3, model.layer4)]
    assert sizes == [32, 16, 8, 4]


@pytest.mark.parametrize(("depth", "layers"), [(18, 18), (34, 34), (50, 50)])
def test_depth_counts_convolutions_and_the_classifier(depth: int, layers: int) -> None:
    with torch.device("meta"):
        model = timm.create_model(f"preact_resnet{depth}")
    counted = [name for name, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert sum("shortcut" not in name for name in counted) == layers


def test_a_block_projects_the_activated_input_where_the_shape_changes() -> None:
    images = torch.randn(2, 4, 6, 6)
    block = PreActivationBlock(4, 8, stride=2).eval()
    nn.init.zeros_(block.conv2.weight)
    activated = block.bn1(images).relu()
    assert torch.allclose(block(images), nn.functional.conv2d(activated, block.shortcut.weight, stride=2))

    block = PreActivationBlock(4, 4, stride=1).eval()
    nn.init.zeros_(block.conv2.weight)
    assert torch.equal(block(images), images)


def test_initialisation() -> None:
    torch.manual_seed(0)
    model = timm.create_model("preact_resnet18", width=16)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert (layer.weight == 1).all()
            assert (layer.bias == 0).all()
        elif isinstance(layer, nn.Conv2d) and layer.weight.numel() > 4000:
            fan_out = layer.out_channels * layer.kernel_size[0] * layer.kernel_size[1]
            assert layer.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)
    assert (model.fc.bias == 0).all()


def test_width_scales_every_stage() -> None:
    model = timm.create_model("preact_resnet18", width=4, in_chans=1)
    assert model.forward_features(torch.randn(2, 1, 17, 9)).shape == (2, 32, 3, 2)


def test_impossible_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="depth is one of 18, 34, 50, not 20"):
        timm.create_model("preact_resnet18", depth=20)
    with pytest.raises(ValueError, match="width is at least 1, not 0"):
        timm.create_model("preact_resnet18", width=0)
