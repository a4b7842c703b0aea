"""What holds for every registered model, and what for the small ones; the other families have files of their own."""

import pytest
import timm
import torch
from torch import Tensor, nn

import flatmin.models  # noqa: F401
from flatmin.catalogue import models as own_models
from flatmin.models.size import parameter_count

SMALL = ["cifar_cnn", "cifar_resnet8", "cifar_resnet20", "mlp", "wrn16_4"]


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("mlp", 3072 * 128 + 128 + 128 * 128 + 128 + 128 * 10 + 10),
        ("cifar_cnn", 98_970),
    ],
)
def test_exact_parameter_counts(name: str, count: int) -> None:
    with torch.device("meta"):
        assert parameter_count(timm.create_model(name, num_classes=10, in_chans=3)) == count


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize(("channels", "size", "classes"), [(1, 8, 10), (3, 32, 100)])
def test_forward_backward_and_head(name: str, channels: int, size: int, classes: int) -> None:
    extra = {"img_size": size} if name == "mlp" else {}
    model = timm.create_model(name, num_classes=classes, in_chans=channels, **extra)
    images = torch.randn(4, channels, size, size)
    logits = model(images)
    assert logits.shape == (4, classes)
    logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())

    features = model.forward_features(images)
    assert model.forward_head(features, pre_logits=True).shape == (4, model.num_features)
    assert model.get_classifier().out_features == classes
    model.reset_classifier(7)
    assert model(images).shape == (4, 7)
    assert model.num_classes == 7
    model.reset_classifier(0)
    assert model(images).shape == (4, model.num_features)


@pytest.mark.parametrize("name", sorted(own_models()))
def test_default_cfg_names_real_layers_and_no_weights(name: str) -> None:
    with torch.device("meta"):
        model = timm.create_model(name)
    cfg = model.default_cfg
    assert cfg["architecture"] in (name, f"cifar_{name}")  # a synonym builds the model of the longer name
    assert (cfg["num_classes"], cfg["input_size"]) == (10, (3, 32, 32))
    assert model.get_submodule(cfg["classifier"]) is model.get_classifier()
    if cfg["first_conv"] is not None:
        assert model.get_submodule(cfg["first_conv"]).in_channels == 3
    with pytest.raises(ValueError, match="no pretrained weights"):
        timm.create_model(name, pretrained=True)


def test_initialisation_of_the_cnn() -> None:
    torch.manual_seed(0)
    model = timm.create_model("cifar_cnn")
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert (layer.weight == 1).all()
            assert (layer.bias == 0).all()
        elif isinstance(layer, nn.Conv2d) and layer.weight.numel() > 4000:
            fan_out = layer.out_channels * layer.kernel_size[0] * layer.kernel_size[1]
            assert layer.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)
    assert (model.get_classifier().bias == 0).all()


def test_mlp_initialisation_keeps_the_signal_of_a_relu_network() -> None:
    torch.manual_seed(0)
    model = timm.create_model("mlp", hidden=(512,) * 4, img_size=8, in_chans=3)
    features = model.forward_features(torch.randn(256, 3, 8, 8))
    assert features.square().mean().item() == pytest.approx(1.0, rel=0.25)


def test_initial_weights_depend_on_the_seed_alone() -> None:
    def weights(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return torch.cat([p.flatten() for p in timm.create_model("cifar_resnet8").parameters()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


@pytest.mark.parametrize("name", ["cifar_cnn", "cifar_resnet8", "wrn16_4", "mlp"])
def test_channels_last_computes_the_same_and_bf16_autocast_nearly(name: str) -> None:
    torch.manual_seed(0)
    model = timm.create_model(name)
    images = torch.randn(16, 3, 32, 32)
    logits = model(images)
    model.to(memory_format=torch.channels_last)
    images = images.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(model(images), logits, rtol=1e-4, atol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        rough = model(images)
    assert rough.dtype == torch.bfloat16
    assert (rough.float() - logits).norm() < 0.1 * logits.norm()
    rough.float().square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("mlp", {"hidden": (10, 0)}, "at least one unit"),
        ("cifar_cnn", {"widths": ()}, "at least one stage"),
    ],
)
def test_impossible_arguments_are_refused(name: str, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        timm.create_model(name, **arguments)


def test_mlp_takes_lists_and_names_the_images_that_it_cannot_take() -> None:
    model = timm.create_model("mlp", hidden=[16], img_size=8, in_chans=1)
    assert parameter_count(model) == 64 * 16 + 16 + 16 * 10 + 10
    with pytest.raises(ValueError, match=r"\(1, 8, 8\).*got \(3, 32, 32\)"):
        model(torch.zeros(2, 3, 32, 32))
    linear = timm.create_model("mlp", hidden=[], img_size=8, in_chans=1)
    assert parameter_count(linear) == 64 * 10 + 10
