"""ImageNet's ResNets with a small stem against torchvision's, whose layers they have but for the first."""

import pytest
import timm
import torch
import torchvision
from torch import nn

import flatmin.models  # noqa: F401
from flatmin.models.build import build
from flatmin.models.stem import stem_changes

COUNTS = [("resnet18", 11_173_962), ("resnet34", 21_282_122), ("resnet50", 23_520_842)]


@pytest.mark.parametrize(("name", "exact"), COUNTS)
def test_parameters(name: str, exact: int) -> None:
    with torch.device("meta"):
        ours = timm.create_model(f"cifar_{name}")
        theirs = torchvision.models.get_model(name, num_classes=10)
    assert sum(p.numel() for p in ours.parameters()) == exact
    assert exact == sum(p.numel() for p in theirs.parameters()) - 64 * 3 * (7 * 7 - 3 * 3)


@pytest.mark.parametrize("name", [name for name, _ in COUNTS])
def test_torchvisions_weights_give_torchvisions_features_after_the_stem(name: str) -> None:
    torch.manual_seed(0)
    ours, theirs = timm.create_model(f"cifar_{name}"), torchvision.models.get_model(name, num_classes=10)
    weights = theirs.state_dict()
    weights["conv1.weight"] = ours.state_dict()["conv1.weight"]
    ours.load_state_dict(weights)
    theirs.conv1, theirs.maxpool = ours.conv1, nn.Identity()
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(ours.eval()(images), theirs.eval()(images), rtol=1e-4, atol=1e-4)


def test_maps_halve_at_stages_two_to_four() -> None:
    with torch.device("meta"):
        model = timm.create_model("cifar_resnet18")
        x = model.maxpool(model.act1(model.bn1(model.conv1(torch.zeros(2, 3, 32, 32)))))
        sizes = [(x := stage(x)).shape[-1] for stage in (model.layer1, model.layer2, model.layer3, model.layer4)]
    assert sizes == [32, 16, 8, 4]


def test_it_is_timms_model_with_the_stem_that_build_gives_it() -> None:
    torch.manual_seed(0)
    ours = timm.create_model("cifar_resnet18")
    torch.manual_seed(0)
    args = {"zero_init_last": False}
    built = build("resnet18", stem="cifar", args=args, num_classes=10, in_chans=3, img_size=32)
    assert stem_changes(ours) == stem_changes(built)
    weights = built.state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in ours.state_dict().items())


@pytest.mark.parametrize(("arguments", "scale"), [({}, 1), ({"zero_init_last": True}, 0)])
def test_initialisation(arguments: dict[str, bool], scale: int) -> None:
    torch.manual_seed(0)
    model = timm.create_model("cifar_resnet18", **arguments)
    for name, layer in model.named_modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert (layer.weight == (scale if name.endswith("bn2") else 1)).all()
            assert (layer.bias == 0).all()
        elif isinstance(layer, nn.Conv2d):
            fan_out = layer.out_channels * layer.kernel_size[0] * layer.kernel_size[1]
            assert layer.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.06)
    bound = 512**-0.5  # torch's default
    assert 0.95 * bound < model.fc.weight.abs().max().item() <= bound
    assert 0 < model.fc.bias.abs().max().item() <= bound
