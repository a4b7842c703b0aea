"""DenseNets against the paper's table 2, torchvision's network, and a layer computed by hand."""

import pytest
import timm
import torch
from torch import nn
from torchvision.models import densenet as torchvision_densenet

from flatmin.models.densenet import BottleneckLayer, DenseLayer, Transition
from flatmin.models.size import parameter_count


def bc_parameters(depth: int, k: int, classes: int) -> int:
    """Huang et al. 2017, section 3: n layers per block, each two norms and two convolutions; half the maps go on."""
    n, maps = (depth - 4) // 6, 2 * k
    total = 9 * 3 * maps
    for block in range(3):
        for _ in range(n):
            total += 2 * maps + maps * 4 * k + 2 * 4 * k + 9 * 4 * k * k
            maps += k
        if block < 2:
            total += 2 * maps + maps * (maps // 2)
            maps //= 2
    return total + 2 * maps + maps * classes + classes


@pytest.mark.parametrize(
    ("depth", "growth_rate", "published", "exact"),
    [
        (100, 12, 0.8, 769_162),
        (250, 24, 15.3, 15_324_406),
        (190, 40, 25.6, 25_624_430),
        # from here on: the table of wide networks in the authors' read-me
        (40, 36, 1.5, 1_542_682),
        (40, 48, 2.7, 2_733_130),
        (40, 60, 4.3, 4_261_690),
    ],
)
def test_parameters_of_densenet_bc_are_those_of_the_paper(
    depth: int, growth_rate: int, published: float, exact: int
) -> None:
    with torch.device("meta"):
        count = parameter_count(timm.create_model("densenet_bc100_12", depth=depth, growth_rate=growth_rate))
    assert count == exact == bc_parameters(depth, growth_rate, 10)
    assert round(count / 1e6, 1) == published


def test_parameters_for_100_classes() -> None:
    with torch.device("meta"):
        # 800,032 in osmr/imgclsmob, densenet100_k12_bc_cifar100
        assert parameter_count(timm.create_model("cifar_densenet_bc100_12", num_classes=100)) == 800_032


@pytest.mark.parametrize(("bottleneck", "compression"), [(True, 0.5), (False, 1.0)])
def test_depth_counts_convolutions_and_the_classifier(bottleneck: bool, compression: float) -> None:
    with torch.device("meta"):
        model = timm.create_model("cifar_densenet_bc100_12", depth=40, bottleneck=bottleneck, compression=compression)
    assert sum(isinstance(layer, nn.Conv2d | nn.Linear) for layer in model.modules()) == 40


def test_it_computes_what_torchvisions_network_computes_behind_the_same_stem() -> None:
    torch.manual_seed(0)
    ours = timm.create_model("cifar_densenet_bc100_12", depth=22).eval()
    theirs = torchvision_densenet.DenseNet(
        growth_rate=12, block_config=(3, 3, 3), num_init_features=24, num_classes=10
    ).eval()
    theirs.features.conv0 = nn.Conv2d(3, 24, kernel_size=3, padding=1, bias=False)
    for name in ("norm0", "relu0", "pool0"):
        setattr(theirs.features, name, nn.Identity())
    copied = zip(theirs.state_dict(), ours.state_dict().values(), strict=True)
    theirs.load_state_dict(dict(copied))
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(ours(images), theirs(images))


@pytest.mark.parametrize("layer_class", [DenseLayer, BottleneckLayer])
def test_a_layer_keeps_what_it_gets_and_appends_k_maps(layer_class: type[nn.Module]) -> None:
    layer = layer_class(5, 3, 0.0)
    images = torch.randn(2, 5, 4, 4)
    output = layer(images.clone())
    assert output.shape == (2, 8, 4, 4)
    assert torch.equal(output[:, :5], images)


def test_a_bottleneck_has_four_times_the_growth_rate() -> None:
    layer = BottleneckLayer(5, 3, 0.0)
    assert layer.conv1.weight.shape == (12, 5, 1, 1)
    assert layer.conv2.weight.shape == (3, 12, 3, 3)


def test_a_transition_averages_by_hand() -> None:
    transition = Transition(3, 2, 0.0).eval()
    images = torch.randn(1, 3, 4, 4)
    mixed = torch.einsum("oi,nihw->nohw", transition.conv.weight[:, :, 0, 0], transition.norm(images).relu())
    by_hand = mixed.unfold(2, 2, 2).unfold(3, 2, 2).mean(dim=(-2, -1))
    torch.testing.assert_close(transition(images), by_hand)


def test_maps_are_32_16_and_8_pixels_wide() -> None:
    with torch.device("meta"):
        model = timm.create_model("cifar_densenet_bc100_12")
        sizes: list[torch.Size] = []
        for block in model.blocks:
            block.register_forward_hook(lambda _, __, out: sizes.append(out.shape))
        features = model.forward_features(torch.zeros(2, 3, 32, 32))
    # 24 + 16 * 12 = 216 maps, 108 of them go on; 108 + 192 = 300, 150 of them; 150 + 192 = 342
    assert sizes == [(2, 216, 32, 32), (2, 108, 16, 16), (2, 300, 16, 16), (2, 150, 8, 8), (2, 342, 8, 8)]
    assert features.shape == (2, 342, 8, 8)


def test_dropout_follows_every_convolution_but_the_first() -> None:
    with torch.device("meta"):
        model = timm.create_model("cifar_densenet_bc100_12", block_drop_rate=0.2)
    layers = list(model.modules())
    assert sum(isinstance(layer, nn.Dropout) and layer.p == 0.2 for layer in layers) == 2 * 48 + 2
    assert sum(isinstance(layer, nn.Conv2d) for layer in layers) == 2 * 48 + 2 + 1


def test_initialisation() -> None:
    torch.manual_seed(0)
    model = timm.create_model("cifar_densenet_bc100_12")
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d) and layer.weight.numel() > 4000:
            fan_out = layer.out_channels * layer.kernel_size[0] ** 2
            assert layer.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)
    assert (model.get_classifier().bias == 0).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depth": 99}, r"with bottlenecks has depth 6n \+ 4 with n >= 1, not 99"),
        ({"depth": 4}, "not 4"),
        ({"depth": 42, "bottleneck": False}, r"without bottlenecks has depth 3n \+ 4 with n >= 1, not 42"),
        ({"growth_rate": 0}, "growth_rate must be at least 1, not 0"),
        ({"compression": 0}, "compression must be above 0 and at most 1, not 0"),
        ({"compression": 1.5}, "not 1.5"),
    ],
)
def test_impossible_arguments_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        timm.create_model("cifar_densenet_bc100_12", **arguments)


def test_densenet121_is_torchvisions_with_a_3x3_stem() -> None:
    with torch.device("meta"):
        ours = parameter_count(timm.create_model("cifar_densenet121"))
        theirs = parameter_count(torchvision_densenet.densenet121(num_classes=10))
    assert ours == theirs - (49 - 9) * 3 * 64 == 6_956_426
    # kuangliu/pytorch-cifar's DenseNet121 has no batch norm after the stem and 6,956,298 parameters
    assert ours - 2 * 64 == 6_956_298


def test_densenet121_is_timms_behind_the_stem_for_the_same_seed() -> None:
    torch.manual_seed(0)
    native = timm.create_model("densenet121", num_classes=10).state_dict()
    torch.manual_seed(0)
    small = timm.create_model("cifar_densenet121").state_dict()
    assert small.keys() == native.keys()
    assert {name for name in native if not torch.equal(native[name], small[name])} == {"features.conv0.weight"}
