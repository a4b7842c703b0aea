"""The 6n + 2 layer ResNets against the paper's layer list, and public weights against a network written apart."""

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

import flatmin.models  # noqa: F401
from flatmin.models.cifar_resnet import BasicBlock, OptionAShortcut, our_layers
from flatmin.models.size import parameter_count

# He et al. 2016, table 6, in millions where it prints them
PUBLISHED = [
    ("cifar_resnet8", 1, None, 75_290),
    ("cifar_resnet20", 3, 0.27, 269_722),
    ("cifar_resnet32", 5, 0.46, 464_154),
    ("cifar_resnet44", 7, 0.66, 658_586),
    ("cifar_resnet56", 9, 0.85, 853_018),
    ("cifar_resnet110", 18, 1.7, 1_727_962),
]


def parameters_by_hand(n: int, classes: int) -> int:
    """He et al. 2016, section 4.2: 2n convolutions of 3x3 per stage, a scale and a shift per channel, no shortcuts."""
    stem = 9 * 3 * 16 + 2 * 16
    stage1 = 2 * n * (9 * 16 * 16 + 2 * 16)
    stage2 = 9 * 16 * 32 + 2 * 32 + (2 * n - 1) * (9 * 32 * 32 + 2 * 32)
    stage3 = 9 * 32 * 64 + 2 * 64 + (2 * n - 1) * (9 * 64 * 64 + 2 * 64)
    return stem + stage1 + stage2 + stage3 + 64 * classes + classes


@pytest.mark.parametrize(("name", "n", "published", "exact"), PUBLISHED)
def test_parameters(name: str, n: int, published: float | None, exact: int) -> None:
    with torch.device("meta"):
        count = parameter_count(timm.create_model(name))
    assert count == exact == parameters_by_hand(n, 10)
    if published is not None:
        assert round(count / 1e6, 1 if published > 1 else 2) == published


@pytest.mark.parametrize(("name", "n"), [("cifar_resnet20", 3), ("cifar_resnet110", 18)])
def test_option_b_adds_two_projections(name: str, n: int) -> None:
    with torch.device("meta"):
        count = parameter_count(timm.create_model(name, shortcut="B", num_classes=100))
    assert count == parameters_by_hand(n, 100) + (16 * 32 + 2 * 32) + (32 * 64 + 2 * 64)


@pytest.mark.parametrize(("name", "depth"), [("cifar_resnet20", 20), ("cifar_resnet56", 56), ("cifar_resnet110", 110)])
def test_depth_counts_convolutions_and_the_classifier(name: str, depth: int) -> None:
    with torch.device("meta"):
        model = timm.create_model(name)
    assert sum(isinstance(layer, nn.Conv2d | nn.Linear) for layer in model.modules()) == depth


@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_maps_halve_at_stages_two_and_three_only(shortcut: str) -> None:
    with torch.device("meta"):
        model = timm.create_model("cifar_resnet20", shortcut=shortcut)
        sizes: dict[str, torch.Size] = {}
        for layer_name, layer in model.named_modules():
            if isinstance(layer, nn.Conv2d):
                layer.register_forward_hook(lambda _, __, out, key=layer_name: sizes.__setitem__(key, out.shape))
        model(torch.zeros(2, 3, 32, 32))
    expected = {"conv1": 32, "layer1": 32, "layer2": 16, "layer3": 8}
    assert {name: size[-1] for name, size in sizes.items()} == {name: expected[name.split(".")[0]] for name in sizes}
    strided = {name for name, layer in model.named_modules() if getattr(layer, "stride", 1) in (2, (2, 2))}
    assert {".".join(name.split(".")[:2]) for name in strided} == {"layer2.0", "layer3.0"}


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


def test_option_b_shortcut_by_hand() -> None:
    block = BasicBlock(2, 4, stride=2, shortcut="B").eval()
    nn.init.zeros_(block.bn2.weight)
    images = torch.randn(3, 2, 6, 6)
    convolution, norm = block.shortcut
    norm.running_mean.fill_(0.5)
    projected = torch.einsum("oi,nihw->nohw", convolution.weight[:, :, 0, 0], images[:, :, ::2, ::2])
    torch.testing.assert_close(block(images), ((projected - 0.5) / (1 + norm.eps) ** 0.5).relu())


def test_zeroed_residuals_pass_the_shortcut_on() -> None:
    model = timm.create_model("cifar_resnet20", zero_init_residual=True).eval()
    images = torch.randn(2, 3, 32, 32)
    stem = model.act1(model.bn1(model.conv1(images)))
    features = model.forward_features(images)
    assert torch.equal(features[:, :16], stem[:, :, ::4, ::4])
    assert not features[:, 16:].any()


def test_initialisation() -> None:
    torch.manual_seed(0)
    model = timm.create_model("cifar_resnet20", shortcut="B", zero_init_residual=True)
    for name, layer in model.named_modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert (layer.weight == (0 if name.endswith("bn2") else 1)).all()
            assert (layer.bias == 0).all()
        elif isinstance(layer, nn.Conv2d) and layer.weight.numel() > 2000:
            fan_out = layer.out_channels * layer.kernel_size[0] * layer.kernel_size[1]
            assert layer.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.07)
    assert (model.fc.bias == 0).all()
    assert 0.9 / 8 < model.fc.weight.abs().max().item() <= 1 / 8  # torch's default: up to 1 / sqrt(64)


def test_impossible_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="shortcut is one of A, B, not 'C'"):
        timm.create_model("cifar_resnet20", shortcut="C")
    with pytest.raises(ValueError, match="at least one block per stage, got blocks_per_stage=0"):
        timm.create_model("cifar_resnet20", blocks_per_stage=0)


def public_weights(option: str, n: int = 3, classes: int = 10) -> dict[str, Tensor]:
    """Draw weights with the layers of akamaster/pytorch_resnet_cifar10 (option A) or of chenyaofo's (option B)."""
    weights: dict[str, Tensor] = {}

    def convolution(name: str, out_channels: int, in_channels: int, size: int) -> None:
        fan_in = in_channels * size * size
        weights[f"{name}.weight"] = torch.randn(out_channels, in_channels, size, size) * (2 / fan_in) ** 0.5

    def norm(name: str, channels: int) -> None:
        weights[f"{name}.weight"], weights[f"{name}.bias"] = torch.rand(channels) + 0.5, torch.randn(channels) * 0.3
        weights[f"{name}.running_mean"] = torch.randn(channels) * 0.3
        weights[f"{name}.running_var"] = torch.rand(channels) + 0.5

    convolution("conv1", 16, 3, 3)
    norm("bn1", 16)
    before = 16
    for stage, channels in enumerate((16, 32, 64), start=1):
        for block in range(n):
            name = f"layer{stage}.{block}"
            convolution(f"{name}.conv1", channels, before, 3)
            norm(f"{name}.bn1", channels)
            convolution(f"{name}.conv2", channels, channels, 3)
            norm(f"{name}.bn2", channels)
            if option == "B" and before != channels:
                convolution(f"{name}.downsample.0", channels, before, 1)
                norm(f"{name}.downsample.1", channels)
            before = channels
    head = "linear" if option == "A" else "fc"
    weights[f"{head}.weight"], weights[f"{head}.bias"] = torch.randn(classes, 64) / 8, torch.randn(classes)
    return weights


def public_network(weights: dict[str, Tensor], x: Tensor) -> Tensor:
    """Compute what these repositories do, akamaster's zero channels on both sides included."""

    def convolve(name: str, x: Tensor, stride: int) -> Tensor:
        kernel = weights[f"{name}.weight"]
        return functional.conv2d(x, kernel, stride=stride, padding=kernel.shape[-1] // 2)

    def normalise(name: str, x: Tensor) -> Tensor:
        mean, var = weights[f"{name}.running_mean"], weights[f"{name}.running_var"]
        return functional.batch_norm(x, mean, var, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def skip(name: str, x: Tensor, channels: int, stride: int) -> Tensor:
        if x.shape[1] == channels:
            return x
        if f"{name}.downsample.0.weight" in weights:
            return normalise(f"{name}.downsample.1", convolve(f"{name}.downsample.0", x, stride))
        return functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, channels // 4, channels // 4))

    x = normalise("bn1", convolve("conv1", x, 1)).relu()
    for stage, channels in enumerate((16, 32, 64), start=1):
        block = 0
        while (name := f"layer{stage}.{block}") + ".conv1.weight" in weights:
            stride = 2 if stage > 1 and block == 0 else 1
            y = normalise(f"{name}.bn1", convolve(f"{name}.conv1", x, stride)).relu()
            y = normalise(f"{name}.bn2", convolve(f"{name}.conv2", y, 1))
            x = (y + skip(name, x, channels, stride)).relu()
            block += 1
    head = "linear" if "linear.weight" in weights else "fc"
    return functional.linear(x.mean((2, 3)), weights[f"{head}.weight"], weights[f"{head}.bias"])


def saved(weights: dict[str, Tensor], layout: str, path: Path) -> str:
    """Save weights as the named repository does, or as safetensors."""
    if layout == "akamaster":
        torch.save(
            {"state_dict": {f"module.{name}": tensor for name, tensor in weights.items()}, "best_prec1": 91.7}, path
        )
    elif layout == "chenyaofo":
        torch.save(weights, path)
    else:
        save_file({f"module.{name}": tensor for name, tensor in weights.items()}, path)
    return str(path)


@pytest.mark.parametrize(
    ("option", "layout", "file"),
    [
        ("A", "akamaster", "resnet20-12fca82f.th"),
        ("A", "safetensors", "resnet20.safetensors"),
        ("B", "chenyaofo", "cifar10_resnet20-4118986f.pt"),
        ("B", "safetensors", "resnet20.safetensors"),
    ],
)
def test_public_weights_give_the_logits_of_their_network(option: str, layout: str, file: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    weights = public_weights(option)
    overlay = {"file": saved(weights, layout, tmp_path / file)}
    model = timm.create_model("cifar_resnet20", pretrained=True, pretrained_cfg_overlay=overlay, shortcut=option)
    images = torch.randn(4, 3, 32, 32)
    logits = public_network(weights, images)
    assert logits.std() > 0.5
    torch.testing.assert_close(model.eval()(images), logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("option", ["A", "B"])
def test_a_head_of_other_classes_stays_as_drawn_and_the_rest_is_loaded(option: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    weights = public_weights(option, n=1)
    overlay = {"file": saved(weights, "chenyaofo", tmp_path / "weights.pt")}
    arguments = {"num_classes": 100, "shortcut": option}
    torch.manual_seed(1)
    drawn = timm.create_model("cifar_resnet8", **arguments)
    torch.manual_seed(1)
    loaded = timm.create_model("cifar_resnet8", pretrained=True, pretrained_cfg_overlay=overlay, **arguments)
    assert torch.equal(loaded.fc.weight, drawn.fc.weight)
    assert torch.equal(loaded.conv1.weight, weights["conv1.weight"])
    assert torch.equal(loaded.layer3[0].bn2.weight.sort().values, weights["layer3.0.bn2.weight"].sort().values)


@pytest.mark.parametrize("classes", [10, 100])
def test_missing_and_left_over_layers_are_named(classes: int, tmp_path: Path) -> None:
    def load(weights: dict[str, Tensor], **arguments: object) -> None:
        overlay = {"file": saved(weights, "chenyaofo", tmp_path / "weights.pt")}
        timm.create_model(
            "cifar_resnet8", pretrained=True, pretrained_cfg_overlay=overlay, num_classes=classes, **arguments
        )

    weights = public_weights("A", n=1)
    with pytest.raises(RuntimeError, match=r"Missing key.*layer2\.0\.shortcut\.0\.weight"):
        load(weights, shortcut="B")
    with pytest.raises(RuntimeError, match=r"Unexpected key.*layer3\.0\.shortcut\.0\.weight"):
        load(public_weights("B", n=1), shortcut="A")
    with pytest.raises(RuntimeError, match=r"Unexpected key.*layer1\.1\.conv1\.weight"):
        load(public_weights("A", n=2))
    del weights["layer1.0.conv2.weight"]
    with pytest.raises(RuntimeError, match=r"Missing key.*layer1\.0\.conv2\.weight"):
        load(weights)


def test_own_weights_load_as_they_are(tmp_path: Path) -> None:
    model = timm.create_model("cifar_resnet8", shortcut="B")
    weights = model.state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in our_layers(weights).items())
    torch.save({"state_dict": weights}, tmp_path / "own.pt")
    again = timm.create_model(
        "cifar_resnet8", pretrained=True, pretrained_cfg_overlay={"file": str(tmp_path / "own.pt")}, shortcut="B"
    )
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(again.eval()(images), model.eval()(images))
