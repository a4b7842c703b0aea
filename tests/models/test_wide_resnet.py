"""Wide ResNets against the paper's layer list, and their variant against SAM's code, written apart."""

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

import flatmin.models  # noqa: F401
from flatmin.models.size import parameter_count
from flatmin.models.wide_resnet import PoolAndPad, PreActivationBlock

# Zagoruyko & Komodakis 2016, in millions: tables 4 and 5, but 28-2 table 2 and 40-10 section 3; 16-4 is not printed
PUBLISHED = [
    ("16_4", 2, 4, None, 2_748_890),
    ("16_8", 2, 8, "11.0", 10_961_370),
    ("28_2", 4, 2, "1.5", 1_467_610),
    ("28_10", 4, 10, "36.5", 36_479_194),
    ("40_2", 6, 2, "2.2", 2_243_546),
    ("40_10", 6, 10, "56", 55_841_754),
]


def parameters_by_hand(n: int, k: int, classes: int) -> int:
    """Zagoruyko & Komodakis 2016, table 1, with a 1x1 shortcut where channels change and norms before convolutions."""
    total, before = 9 * 3 * 16, 16
    for channels in (16 * k, 32 * k, 64 * k):
        total += 2 * before + 9 * before * channels + 2 * channels + 9 * channels * channels + before * channels
        total += (n - 1) * 2 * (2 * channels + 9 * channels * channels)
        before = channels
    return total + 2 * before + before * classes + classes


def norms_by_hand(n: int, k: int) -> int:
    """A scale and a shift before every convolution of a block, and after the last block."""
    return 2 * (16 + (2 * n - 1) * 16 * k + 16 * k + (2 * n - 1) * 32 * k + 32 * k + (2 * n - 1) * 64 * k + 64 * k)


@pytest.mark.parametrize(("name", "n", "k", "published", "exact"), PUBLISHED)
def test_parameters(name: str, n: int, k: int, published: str | None, exact: int) -> None:
    with torch.device("meta"):
        counts = {parameter_count(timm.create_model(prefix + name)) for prefix in ("wrn", "cifar_wrn")}
        hundred = parameter_count(timm.create_model(f"wrn{name}", num_classes=100))
    assert counts == {exact}
    assert exact == parameters_by_hand(n, k, 10)
    assert hundred == parameters_by_hand(n, k, 100)
    if published is not None:
        assert f"{exact / 1e6:.{len(published.partition('.')[2])}f}" == published


def test_the_network_of_sams_code_has_no_weights_in_its_shortcuts() -> None:
    with torch.device("meta"):
        model = timm.create_model("wrn28_10_sam")
    assert parameter_count(model) == 36_220_634
    assert parameter_count(model) == parameters_by_hand(4, 10, 10) - (16 * 160 + 160 * 320 + 320 * 640)
    assert sum(isinstance(layer, nn.Conv2d) for layer in model.modules()) == 25
    assert model.default_cfg["architecture"] == "cifar_wrn28_10_sam"


def test_without_norm_the_batch_norms_go_and_nothing_comes() -> None:
    with torch.device("meta"):
        model = timm.create_model("wrn40_10", norm="none")
    assert parameter_count(model) == 55_814_842
    assert parameter_count(model) == parameters_by_hand(6, 10, 10) - norms_by_hand(6, 10)
    assert not list(model.buffers())
    assert {name for name, _ in model.named_parameters() if name.endswith("bias")} == {"fc.bias"}


@pytest.mark.parametrize(("name", "depth"), [("wrn16_4", 16), ("wrn28_10", 28), ("wrn40_2", 40)])
def test_depth_counts_convolutions_and_three_shortcuts(name: str, depth: int) -> None:
    with torch.device("meta"):
        convolutions = [m for m in timm.create_model(name).modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) == depth
    assert sum(convolution.kernel_size == (1, 1) for convolution in convolutions) == 3


@pytest.mark.parametrize("name", ["wrn16_4", "wrn28_10", "wrn28_10_sam"])
def test_maps_halve_at_stages_two_and_three_only(name: str) -> None:
    with torch.device("meta"):
        model = timm.create_model(name)
        sizes: dict[str, torch.Size] = {}
        for layer_name, layer in model.named_modules():
            if isinstance(layer, nn.Conv2d | PoolAndPad):
                layer.register_forward_hook(lambda _, __, out, key=layer_name: sizes.__setitem__(key, out.shape))
        model(torch.zeros(2, 3, 32, 32))
    expected = {"conv1": 32, "layer1": 32, "layer2": 16, "layer3": 8}
    assert {name: size[-1] for name, size in sizes.items()} == {name: expected[name.split(".")[0]] for name in sizes}
    strided = {name for name, layer in model.named_modules() if getattr(layer, "stride", 1) in (2, (2, 2))}
    assert {".".join(name.split(".")[:2]) for name in strided} == {"layer2.0", "layer3.0"}


def silent(block: PreActivationBlock) -> PreActivationBlock:
    nn.init.zeros_(block.conv2.weight)
    return block.eval()


def test_a_block_projects_the_activated_input_where_the_shape_changes() -> None:
    images = torch.randn(2, 4, 6, 6)
    block = silent(PreActivationBlock(4, 8, stride=2))
    activated = block.bn1(images).relu()
    assert torch.allclose(block(images), functional.conv2d(activated, block.shortcut.weight, stride=2))
    assert torch.equal(silent(PreActivationBlock(4, 4, stride=1))(images), images)


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_a_padding_block_skips_by_its_input_as_it_is_but_for_the_first(norm: str) -> None:
    images = torch.randn(2, 4, 6, 6)
    for stride, opens_network in [(2, False), (1, False), (1, True)]:
        block = silent(PreActivationBlock(4, 7, stride, shortcut="pad", norm=norm, opens_network=opens_network))
        skipped = block.bn1(images).relu() if opens_network else images
        out = block(images.clone())
        assert torch.equal(out[:, :4], functional.avg_pool2d(skipped, stride))
        assert not out[:, 4:].any()


def test_pool_and_pad_by_hand() -> None:
    images = torch.arange(9.0).reshape(1, 1, 3, 3)
    out = PoolAndPad(1, 2, stride=2)(images)
    assert torch.equal(out[0, 0], torch.tensor([[(0 + 1 + 3 + 4) / 4, (2 + 5) / 2], [(6 + 7) / 2, 8.0]]))
    assert torch.equal(out[0, 1], torch.zeros(2, 2))


def sams_code(weights: dict[str, Tensor], x: Tensor, blocks: int) -> Tensor:
    """Compute what sam_jax/models/wide_resnet.py of google-research/sam does, JAX's padding included."""

    def convolve(name: str, x: Tensor, stride: int = 1) -> Tensor:
        # "SAME": a total of 2 pixels at stride 1, of 1 pixel at stride 2 and even sizes, the smaller half in front
        x = functional.pad(x, (1, 1, 1, 1) if stride == 1 else (0, 1, 0, 1))
        return functional.conv2d(x, weights[f"{name}.weight"], stride=stride)

    def activate(name: str, x: Tensor) -> Tensor:
        statistics = weights[f"{name}.running_mean"], weights[f"{name}.running_var"]
        return functional.batch_norm(x, *statistics, weights[f"{name}.weight"], weights[f"{name}.bias"]).relu()

    def add(residual: Tensor, x: Tensor) -> Tensor:
        stride = x.shape[-1] // residual.shape[-1]
        if residual.shape[1] != x.shape[1]:
            x = functional.avg_pool2d(x, stride)
            zeros = x.new_zeros(len(x), residual.shape[1] - x.shape[1], *x.shape[2:])
            x = torch.cat([x, zeros], 1)
        return residual + x

    x = convolve("conv1", x)
    for stage in (1, 2, 3):
        for block in range(blocks):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            if stage == 1 and block == 0:
                x = residual = activate(f"{name}.bn1", x)
            else:
                residual = activate(f"{name}.bn1", x)
            residual = activate(f"{name}.bn2", convolve(f"{name}.conv1", residual, stride))
            x = add(convolve(f"{name}.conv2", residual), x)
    x = activate("norm", x).mean((2, 3))
    return functional.linear(x, weights["fc.weight"], weights["fc.bias"])


@pytest.mark.parametrize("width", [1, 2])
def test_the_network_of_sams_code_is_its_own_of_mirrored_images(width: int) -> None:
    torch.manual_seed(0)
    model = timm.create_model("wrn28_10_sam", depth=16, width=width).eval()
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.running_mean)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
            nn.init.normal_(layer.bias)
    mirrored = {name: tensor.flip(2, 3) if tensor.ndim == 4 else tensor for name, tensor in model.state_dict().items()}
    images = torch.randn(4, 3, 32, 32)
    torch.testing.assert_close(model(images.flip(2, 3)), sams_code(mirrored, images, blocks=2), rtol=1e-4, atol=1e-4)


def test_initialisation() -> None:
    torch.manual_seed(0)
    model = timm.create_model("wrn16_4")
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert (layer.weight == 1).all()
            assert (layer.bias == 0).all()
        elif isinstance(layer, nn.Conv2d) and layer.weight.numel() > 4000:
            fan_out = layer.out_channels * layer.kernel_size[0] * layer.kernel_size[1]
            assert layer.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)
    assert (model.fc.bias == 0).all()
    assert 0.9 / 16 < model.fc.weight.abs().max().item() <= 1 / 16  # torch's default: up to 1 / sqrt(256)


def test_head_of_sams_code_is_drawn_by_the_number_of_classes() -> None:
    torch.manual_seed(0)
    model = timm.create_model("wrn28_10_sam", depth=10, width=4)
    for classes in (10, 100):
        model.reset_classifier(classes)
        assert model.fc.weight.std().item() == pytest.approx((3 * classes) ** -0.5, rel=0.05)
        assert 0.95 * classes**-0.5 < model.fc.weight.abs().max().item() <= classes**-0.5
        assert (model.fc.bias == 0).all()
    model.reset_classifier(0)
    assert model(torch.randn(2, 3, 8, 8)).shape == (2, 256)


def test_without_norm_the_last_convolutions_are_smaller_by_the_root_of_the_number_of_blocks() -> None:
    def drawn(norm: str) -> dict[str, Tensor]:
        torch.manual_seed(0)
        return timm.create_model("wrn40_2", norm=norm).state_dict()

    with_norm, without = drawn("batch"), drawn("none")
    for name, weight in without.items():
        factor = 18**0.5 if name.endswith("conv2.weight") else 1
        torch.testing.assert_close(weight * factor, with_norm[name])


@pytest.mark.parametrize("shortcut", ["conv", "pad"])
def test_without_norm_depth_neither_blows_up_nor_silences_an_untrained_network(shortcut: str) -> None:
    torch.manual_seed(0)
    images, labels = torch.randn(16, 3, 32, 32), torch.randint(10, (16,))
    norms = {}
    for depth in (16, 40, 76):
        model = timm.create_model("wrn40_2", depth=depth, norm="none", shortcut=shortcut)
        logits = model(images)
        assert 0.02 < logits.std().item() < 1
        functional.cross_entropy(logits, labels).backward()
        gradients = [parameter.grad for parameter in model.parameters()]
        assert all(gradient is not None and gradient.abs().sum() > 0 for gradient in gradients)
        norms[depth] = torch.cat([gradient.flatten() for gradient in gradients]).norm().item()
    assert max(norms.values()) < 5 * min(norms.values())


@torch.no_grad()
def test_without_norm_and_that_factor_an_untrained_network_blows_up() -> None:
    torch.manual_seed(0)
    model = timm.create_model("wrn40_2", norm="none")
    for name, weight in model.named_parameters():
        if name.endswith("conv2.weight"):
            weight.mul_(18**0.5)
    assert model(torch.randn(4, 3, 32, 32)).std() > 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depth": 17}, r"depth 6n \+ 4"),
        ({"width": 0}, "width of at least 1, not 0"),
        ({"norm": "layer"}, "norm is one of batch, none, not 'layer'"),
        ({"shortcut": "A"}, "shortcut is one of conv, pad, not 'A'"),
        ({"head_init": "zero"}, "head_init is one of torch, classes, not 'zero'"),
    ],
)
def test_impossible_arguments_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        timm.create_model("wrn16_4", **arguments)


def test_arguments_of_timm_are_understood() -> None:
    model = timm.create_model("wrn16_4", width=1, drop_rate=0.5, global_pool="max", num_classes=3, block_drop_rate=0.3)
    assert (model.head_drop.p, model.global_pool.pool_type, model.fc.in_features) == (0.5, "max", 64)
    assert {layer.p for layer in model.layer2.modules() if isinstance(layer, nn.Dropout)} == {0.3}
