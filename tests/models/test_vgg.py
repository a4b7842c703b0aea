"""VGG with batch norm against torchvision's convolutions and the counts of both forms that papers mean."""

import pytest
import timm
import torch
from torch import nn
from torchvision.models import vgg as torchvision_vgg

from flatmin.models.size import parameter_count


def vgg_parameters(convolutions: tuple[int, ...], classes: int) -> int:
    """Simonyan & Zisserman 2015, table 1, with biases, a scale and a shift per channel, and one linear layer."""
    total, before = 0, 3
    for channels, count in zip((64, 128, 256, 512, 512), convolutions, strict=True):
        for _ in range(count):
            total += 9 * before * channels + channels + 2 * channels
            before = channels
    return total + 512 * classes + classes


@pytest.mark.parametrize(
    ("depth", "column", "convolutions", "exact"),
    [
        # the exact numbers are those of kuangliu/pytorch-cifar's VGG16 and VGG19
        (16, "D", (2, 2, 3, 3, 3), 14_728_266),
        (19, "E", (2, 2, 4, 4, 4), 20_040_522),
    ],
)
def test_parameters_and_depth(depth: int, column: str, convolutions: tuple[int, ...], exact: int) -> None:
    with torch.device("meta"):
        model = timm.create_model(f"cifar_vgg{depth}_bn")
        theirs = torchvision_vgg.make_layers(torchvision_vgg.cfgs[column], batch_norm=True)
    assert parameter_count(model) == exact == vgg_parameters(convolutions, 10)
    assert parameter_count(model.features) == parameter_count(theirs)
    # the paper's depth counts two fully connected layers more
    assert sum(isinstance(layer, nn.Conv2d | nn.Linear) for layer in model.modules()) == depth - 2


def test_the_convolutions_compute_what_torchvisions_compute() -> None:
    torch.manual_seed(0)
    ours = timm.create_model("cifar_vgg16_bn").eval()
    theirs = torchvision_vgg.make_layers(torchvision_vgg.cfgs["D"], batch_norm=True).eval()
    theirs.load_state_dict(ours.features.state_dict())
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        features = ours.forward_features(images)
        assert features.shape == (2, 512, 1, 1)
        torch.testing.assert_close(features, theirs(images))


def test_two_hidden_layers_make_the_network_of_swag() -> None:
    model = timm.create_model("cifar_vgg16_bn", hidden=(512, 512), hidden_drop_rate=0.5).eval()
    # chenyaofo/pytorch-cifar-models' vgg16_bn; wjmaddox/swa_gaussian's VGG16BN has the same layers
    assert parameter_count(model) == 14_728_266 + 2 * (512 * 512 + 512) == 15_253_578
    assert sum(isinstance(layer, nn.Dropout) and layer.p == 0.5 for layer in model.hidden) == 2

    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        by_hand = model.features(images).flatten(1)
        for layer in (model.hidden[1], model.hidden[4]):
            by_hand = nn.functional.linear(by_hand, layer.weight.flatten(1), layer.bias).relu()
        torch.testing.assert_close(model(images), model.fc(by_hand), rtol=1e-4, atol=1e-5)


def test_hidden_layers_decide_the_length_of_the_features() -> None:
    with torch.device("meta"):
        model = timm.create_model("cifar_vgg16_bn", hidden=[256], global_pool="catavgmax")
        assert (model.num_features, model.head_hidden_size, model.fc.in_features) == (256, 512, 512)
        assert model(torch.zeros(2, 3, 64, 96)).shape == (2, 10)


def test_initialisation() -> None:
    torch.manual_seed(0)
    model = timm.create_model("cifar_vgg16_bn", hidden=(512,))
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            assert (layer.bias == 0).all()
            if layer.weight.numel() > 4000:
                fan_out = layer.out_channels * layer.kernel_size[0] ** 2
                assert layer.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)
    assert (model.get_classifier().bias == 0).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"convolutions": (2, 2, 3, 3)}, r"five stages.*convolutions=\[2, 2, 3, 3\]"),
        ({"convolutions": (2, 2, 3, 3, 0)}, "five stages of at least one"),
        ({"hidden": (512, 0)}, r"at least one unit, got hidden=\[512, 0\]"),
    ],
)
def test_impossible_arguments_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        timm.create_model("cifar_vgg16_bn", **arguments)


def test_images_of_which_no_pixel_would_be_left_are_refused() -> None:
    with torch.device("meta"):
        model = timm.create_model("cifar_vgg16_bn")
        with pytest.raises(ValueError, match=r"at least 32x32, not \(32, 28\)"):
            model(torch.zeros(2, 3, 32, 28))
