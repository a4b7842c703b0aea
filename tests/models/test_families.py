"""The registered models against the papers' layer lists, parameter counts and a shortcut computed by hand."""

import pytest
import timm
import torch
from torch import Tensor, nn

import flatmin.models  # noqa: F401
from flatmin.catalogue import models as own_models
from flatmin.models.cifar_resnet import OptionAShortcut
from flatmin.models.classifier import ConvClassifier
from flatmin.models.wide_resnet import PreActivationBlock

SMALL = ["cifar_cnn", "cifar_resnet8", "cifar_resnet20", "mlp", "wrn16_4"]


def parameter_count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def resnet_parameters(n: int, classes: int) -> int:
    """He et al. 2016, section 4.2: 2n convolutions of 3x3 per stage, a scale and a shift per channel, no shortcuts."""
    stem = 9 * 3 * 16 + 2 * 16
    stage1 = 2 * n * (9 * 16 * 16 + 2 * 16)
    stage2 = 9 * 16 * 32 + 2 * 32 + (2 * n - 1) * (9 * 32 * 32 + 2 * 32)
    stage3 = 9 * 32 * 64 + 2 * 64 + (2 * n - 1) * (9 * 64 * 64 + 2 * 64)
    return stem + stage1 + stage2 + stage3 + 64 * classes + classes


def wide_resnet_parameters(n: int, k: int, classes: int) -> int:
    """Zagoruyko & Komodakis 2016, table 1, with a 1x1 shortcut where channels change and norms before convolutions."""
    total, before = 9 * 3 * 16, 16
    for channels in (16 * k, 32 * k, 64 * k):
        total += 2 * before + 9 * before * channels + 2 * channels + 9 * channels * channels + before * channels
        total += (n - 1) * 2 * (2 * channels + 9 * channels * channels)
        before = channels
    return total + 2 * before + before * classes + classes


@pytest.mark.parametrize(
    ("name", "n", "published"), [("8", 1, None), ("20", 3, 0.27), ("32", 5, 0.46), ("56", 9, 0.85)]
)
def test_resnet_parameters(name: str, n: int, published: float | None) -> None:
    count = parameter_count(timm.create_model(f"cifar_resnet{name}", num_classes=10, in_chans=3))
    assert count == resnet_parameters(n, 10)
    if published is not None:
        assert round(count / 1e6, 2) == published  # He et al. 2016, table 6


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("cifar_resnet8", 75_290),
        ("cifar_resnet20", 269_722),
        ("cifar_resnet32", 464_154),
        ("cifar_resnet56", 853_018),
        ("wrn16_4", 2_748_890),
        ("wrn28_10", 36_479_194),
        ("mlp", 3072 * 128 + 128 + 128 * 128 + 128 + 128 * 10 + 10),
        ("cifar_cnn", 98_970),
    ],
)
def test_exact_parameter_counts(name: str, count: int) -> None:
    with torch.device("meta"):
        assert parameter_count(timm.create_model(name, num_classes=10, in_chans=3)) == count


@pytest.mark.parametrize(("name", "n", "k", "published"), [("wrn16_4", 2, 4, 2.7), ("wrn28_10", 4, 10, 36.5)])
def test_wide_resnet_parameters_are_those_of_the_paper(name: str, n: int, k: int, published: float) -> None:
    with torch.device("meta"):
        count = parameter_count(timm.create_model(name, num_classes=10, in_chans=3))
    assert count == wide_resnet_parameters(n, k, 10)
    assert round(count / 1e6, 1) == published


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
    assert (cfg["architecture"], cfg["num_classes"], cfg["input_size"]) == (name, 10, (3, 32, 32))
    assert model.get_submodule(cfg["classifier"]) is model.get_classifier()
    if cfg["first_conv"] is not None:
        assert model.get_submodule(cfg["first_conv"]).in_channels == 3
    with pytest.raises(ValueError, match="no pretrained weights"):
        timm.create_model(name, pretrained=True)


@pytest.mark.parametrize("name", ["cifar_resnet20", "wrn16_4", "wrn28_10"])
def test_maps_halve_at_stages_two_and_three_only(name: str) -> None:
    with torch.device("meta"):
        model = timm.create_model(name)
        sizes: dict[str, torch.Size] = {}
        for layer_name, layer in model.named_modules():
            if isinstance(layer, nn.Conv2d):
                layer.register_forward_hook(lambda _, __, out, key=layer_name: sizes.__setitem__(key, out.shape))
        model(torch.zeros(2, 3, 32, 32))
    expected = {"conv1": 32, "layer1": 32, "layer2": 16, "layer3": 8}
    assert {name: size[-1] for name, size in sizes.items()} == {name: expected[name.split(".")[0]] for name in sizes}
    strided = {name for name, layer in model.named_modules() if getattr(layer, "stride", 1) in (2, (2, 2))}
    assert {name.rpartition(".")[0] for name in strided} == {"layer2.0", "layer3.0"}


@pytest.mark.parametrize(("name", "depth"), [("cifar_resnet20", 20), ("cifar_resnet56", 56)])
def test_depth_of_a_resnet_counts_convolutions_and_the_classifier(name: str, depth: int) -> None:
    with torch.device("meta"):
        model = timm.create_model(name)
    assert sum(isinstance(layer, nn.Conv2d | nn.Linear) for layer in model.modules()) == depth


@pytest.mark.parametrize(("name", "depth"), [("wrn16_4", 16), ("wrn28_10", 28)])
def test_depth_of_a_wide_resnet_counts_convolutions_and_three_shortcuts(name: str, depth: int) -> None:
    with torch.device("meta"):
        convolutions = [m for m in timm.create_model(name).modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) == depth
    assert sum(convolution.kernel_size == (1, 1) for convolution in convolutions) == 3


def test_option_a_shortcut_by_hand() -> None:
    images = torch.arange(2 * 3 * 5 * 5, dtype=torch.float32).reshape(2, 3, 5, 5)
    expected = torch.zeros(2, 6, 3, 3)
    for n in range(2):
        for c in range(3):
            for i in range(3):
                for j in range(3):
                    expected[n, c, i, j] = images[n, c, 2 * i, 2 * j]
    assert torch.equal(OptionAShortcut(3, 6, stride=2)(images), expected)
    assert not list(OptionAShortcut(3, 6, stride=2).parameters())


def test_resnet_blocks_with_silent_residuals_pass_the_shortcut_on() -> None:
    model = timm.create_model("cifar_resnet20").eval()
    for name, parameter in model.named_parameters():
        if name.endswith("bn2.weight"):
            nn.init.zeros_(parameter)
    images = torch.randn(2, 3, 32, 32)
    stem = model.act1(model.bn1(model.conv1(images)))
    features = model.forward_features(images)
    assert torch.equal(features[:, :16], stem[:, :, ::4, ::4])
    assert not features[:, 16:].any()


def test_wide_block_projects_the_activated_input_where_channels_change() -> None:
    block = PreActivationBlock(4, 8, stride=2, block_drop_rate=0.0).eval()
    nn.init.zeros_(block.conv2.weight)
    images = torch.randn(2, 4, 6, 6)
    activated = block.bn1(images).relu()
    assert torch.allclose(block(images), nn.functional.conv2d(activated, block.shortcut.weight, stride=2))

    block = PreActivationBlock(4, 4, stride=1, block_drop_rate=0.0).eval()
    nn.init.zeros_(block.conv2.weight)
    assert torch.equal(block(images), images)


@pytest.mark.parametrize("name", ["cifar_resnet20", "wrn16_4", "cifar_cnn"])
def test_initialisation(name: str) -> None:
    torch.manual_seed(0)
    model = timm.create_model(name)
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


def test_arguments_of_timm_are_understood() -> None:
    model = timm.create_model("wrn16_4", width=1, drop_rate=0.5, global_pool="max", num_classes=3)
    assert isinstance(model, ConvClassifier)
    assert (model.head_drop.p, model.global_pool.pool_type, model.fc.in_features) == (0.5, "max", 64)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("wrn16_4", {"depth": 17}, "6n \\+ 4"),
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
