"""Shake-Shake networks against the paper's layer list, the authors' shortcut by hand, and what shaking must not be."""

import copy

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

import flatmin.models  # noqa: F401
from flatmin.models.shake import Coefficients
from flatmin.models.shake_shake import ShakeShakeBlock, ShiftedShortcut, mixed
from flatmin.models.size import parameter_count

TINY = {"depth": 8, "width": 4}


def tiny(**arguments: object) -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model("cifar_shake_shake26_2x32d", **TINY, **arguments)


def shake_shake_parameters(n: int, width: int, classes: int) -> int:
    """Gastaldi 2017, section 2: two branches of two convolutions per block; three shortcuts of as many 1x1 weights as
    a whole 1x1 convolution has; a scale and a shift behind every convolution."""
    total = 9 * 3 * 16 + 2 * 16
    for before, channels in ((16, width), (width, 2 * width), (2 * width, 4 * width)):
        first = 9 * before * channels + 9 * channels**2 + 4 * channels
        other = 2 * 9 * channels**2 + 4 * channels
        shortcut = before * channels + 2 * channels
        total += 2 * (first + (n - 1) * other) + shortcut
    return total + 4 * width * classes + classes


# 26.2M: Gastaldi 2017, the table that compares models; 2.9M: Zoph et al. 2018 (NASNet), table 1; 11.7M: nowhere found
@pytest.mark.parametrize(
    ("width", "count", "published"), [(32, 2_923_162, 2.9), (64, 11_653_978, None), (96, 26_192_922, 26.2)]
)
def test_parameters(width: int, count: int, published: float | None) -> None:
    with torch.device("meta"):
        models = [timm.create_model(f"{prefix}shake_shake26_2x{width}d") for prefix in ("cifar_", "")]
    for model in models:
        assert parameter_count(model) == count == shake_shake_parameters(4, width, 10)
        assert model.default_cfg["architecture"] == f"cifar_shake_shake26_2x{width}d"
    if published is not None:
        assert round(count / 1e6, 1) == published


def test_depth_counts_one_branch_and_maps_halve_twice() -> None:
    with torch.device("meta"):
        model = timm.create_model("shake_shake26_2x96d")
        sizes: dict[str, int] = {}
        for name, layer in model.named_modules():
            if isinstance(layer, nn.Conv2d):
                layer.register_forward_hook(lambda _, __, out, key=name: sizes.__setitem__(key, out.shape[-1]))
        assert model.forward_features(torch.zeros(2, 3, 32, 32)).shape == (2, 384, 8, 8)
    counted = [name for name in sizes if "branch2" not in name and "shortcut" not in name]
    assert len(counted) + 1 == 26
    expected = {"conv1": 32, "layer1": 32, "layer2": 16, "layer3": 8}
    assert sizes == {name: expected[name.split(".")[0]] for name in sizes}
    shortcuts = {name.split(".shortcut")[0] for name in sizes if "shortcut" in name}
    assert shortcuts == {"layer1.0", "layer2.0", "layer3.0"}


@pytest.mark.parametrize(("stride", "size"), [(1, 4), (2, 4), (2, 5)])
@pytest.mark.parametrize("shift", [1, -1])
def test_shortcut_by_hand(stride: int, size: int, shift: int) -> None:
    shortcut = ShiftedShortcut(3, 4, stride, shift).eval()
    images = torch.randn(2, 3, size, size)
    first, second = (conv.weight[:, :, 0, 0] for conv in (shortcut.conv1, shortcut.conv2))
    places = range(0, size, stride)
    expected = torch.zeros(2, 4, len(places), len(places))
    for row, i in enumerate(places):
        for col, j in enumerate(places):
            expected[:, :2, row, col] = images[:, :, i, j] @ first.T
            if 0 <= i - shift < size and 0 <= j - shift < size:
                expected[:, 2:, row, col] = images[:, :, i - shift, j - shift] @ second.T
    torch.testing.assert_close(shortcut(images), expected / (1 + shortcut.bn.eps) ** 0.5)


def branch_by_hand(branch: nn.Sequential, x: Tensor) -> Tensor:
    conv1, bn1, _, conv2, bn2 = branch
    stride = conv1.stride
    hidden = functional.relu(bn1(functional.conv2d(functional.relu(x), conv1.weight, stride=stride, padding=1)))
    return bn2(functional.conv2d(hidden, conv2.weight, padding=1))


@pytest.mark.parametrize(
    ("shortcut", "out_channels", "stride"), [("gastaldi", 6, 2), ("sam", 6, 2), ("gastaldi", 4, 1), ("sam", 4, 1)]
)
def test_block_by_hand(shortcut: str, out_channels: int, stride: int) -> None:
    block = ShakeShakeBlock(4, out_channels, stride, shortcut).double().eval()
    images = torch.randn(2, 4, 6, 6, dtype=torch.float64)
    first, second = branch_by_hand(block.branch1, images), branch_by_hand(block.branch2, images)
    if out_channels == 4:
        through = images
    else:
        assert block.shortcut.shift == {"gastaldi": 1, "sam": -1}[shortcut]
        through = block.shortcut(functional.relu(images) if shortcut == "gastaldi" else images)
    torch.testing.assert_close(block(images), through + 0.5 * first + 0.5 * second)

    alpha = torch.tensor([0.25, 1.0], dtype=torch.float64)[:, None, None, None]
    shaken = block(images, Coefficients(alpha, alpha))
    torch.testing.assert_close(shaken, through + alpha * first + (1 - alpha) * second)


@pytest.mark.parametrize("shortcut", ["gastaldi", "sam"])
def test_network_by_hand(shortcut: str) -> None:
    model = tiny(shortcut=shortcut).eval()
    images = torch.randn(2, 3, 8, 8)
    x = model.bn1(functional.conv2d(images, model.conv1.weight, padding=1))
    for (block,) in (model.layer1, model.layer2, model.layer3):
        mean = (branch_by_hand(block.branch1, x) + branch_by_hand(block.branch2, x)) / 2
        x = mean + block.shortcut(functional.relu(x) if shortcut == "gastaldi" else x)
    pooled = functional.relu(x).mean((2, 3))
    torch.testing.assert_close(model(images), functional.linear(pooled, model.fc.weight, model.fc.bias))


def test_gradients_are_mixed_by_the_backward_coefficients() -> None:
    alpha, beta = (torch.tensor(v)[:, None, None, None] for v in ([0.25, 1.0], [0.5, 0.125]))
    first, second = (torch.randn(2, 3, 2, 2, dtype=torch.float64, requires_grad=True) for _ in range(2))
    weights = torch.randn(2, 3, 2, 2, dtype=torch.float64)
    out = mixed(first, second, Coefficients(alpha, beta))
    torch.testing.assert_close(out, alpha * first + (1 - alpha) * second)
    (out * weights).sum().backward()
    torch.testing.assert_close(first.grad, beta * weights)
    torch.testing.assert_close(second.grad, (1 - beta) * weights)


def directional_errors(model: nn.Module, images: Tensor) -> tuple[float, float]:
    """Return the derivative of the loss along a random direction, by backward and by central differences."""
    noise = model.noise
    state = noise.generator.get_state()
    parameters = list(model.parameters())
    direction = [torch.randn_like(p) for p in parameters]

    def loss() -> Tensor:
        noise.generator.set_state(state)
        return model(images).square().mean()

    gradients = torch.autograd.grad(loss(), parameters)
    backward = sum((g * d).sum().item() for g, d in zip(gradients, direction, strict=True))
    ends = []
    with torch.no_grad():
        for step in (1e-8, -2e-8):
            for p, d in zip(parameters, direction, strict=True):
                p.add_(step * d)
            ends.append(loss().item())
    return backward, (ends[0] - ends[1]) / 2e-8


def test_the_true_gradient_is_the_loss_s_and_the_shaken_one_is_not() -> None:
    model = tiny().double()
    images = torch.randn(4, 3, 16, 16, dtype=torch.float64)
    model.noise.true_gradient = True
    backward, difference = directional_errors(copy.deepcopy(model), images)
    assert backward == pytest.approx(difference, rel=1e-4)
    model.noise.true_gradient = False
    backward, difference = directional_errors(model, images)
    assert backward != pytest.approx(difference, rel=1e-2)


def test_images_are_shaken_apart() -> None:
    model = tiny()
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.eval()  # batch statistics would tie the images together
    image = torch.randn(1, 3, 16, 16)
    logits = model(image.expand(6, -1, -1, -1))
    assert all(not torch.allclose(logits[0], other, rtol=1e-3) for other in logits[1:])

    images, order = torch.randn(6, 3, 16, 16), torch.tensor([3, 1, 0, 5, 4, 2])
    drawn = model.noise(images)
    model.noise.forward = lambda _: drawn
    logits = model(images)
    permuted = [Coefficients(*(c[order] for c in block)) for block in drawn]
    model.noise.forward = lambda _: permuted
    torch.testing.assert_close(model(images[order]), logits[order])


def test_initial_weights_and_noise_depend_on_the_seed_alone_and_other_noise_takes_other_draws() -> None:
    images = torch.randn(4, 3, 16, 16)
    assert torch.equal(tiny()(images), tiny()(images))
    model = tiny()
    assert not torch.equal(model(images), model(images))
    even = tiny(forward_noise="even").train()
    assert torch.equal(even(images), even(images))


def test_evaluation_mixes_evenly_and_draws_nothing() -> None:
    images = torch.randn(4, 3, 16, 16)
    model = tiny().eval()
    state = model.noise.generator.get_state()
    logits = model(images)
    assert torch.equal(model(images), logits)
    assert torch.equal(model.noise.generator.get_state(), state)
    even = tiny(forward_noise="even")
    for layer in even.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.eval()
    torch.testing.assert_close(even(images), logits)


def test_evaluation_is_the_mean_of_training_for_a_linear_block() -> None:
    block = ShakeShakeBlock(4, 4, 1, "gastaldi").double().eval()
    images = torch.randn(1, 4, 5, 5, dtype=torch.float64)
    draws = 2000
    noise = tiny().noise
    coefficients = noise(torch.zeros(draws, 1, 1, 1))[0]
    mean = block(images.expand(draws, -1, -1, -1), coefficients).mean(0, keepdim=True)
    spread = (block.branch1(images.relu()) - block.branch2(images.relu())).abs() / 12**0.5  # of alpha's uniform draw
    assert ((mean - block(images)).abs() <= 5 * spread / draws**0.5).all()


@pytest.mark.parametrize("train", [True, False])
def test_compiled_network_is_the_same(train: bool) -> None:
    model = tiny().train(train)
    compiled = torch.compile(copy.deepcopy(model), backend="aot_eager", fullgraph=not train)
    images = torch.randn(4, 3, 16, 16)
    for _ in range(2):
        logits, other = model(images), compiled(images)
        torch.testing.assert_close(other, logits, rtol=1e-4, atol=1e-5)
    logits.square().sum().backward()
    other.square().sum().backward()
    for p, q in zip(model.parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-3, atol=1e-4)


def test_channels_last_and_bf16_autocast() -> None:
    model = tiny().to(memory_format=torch.channels_last)
    state = model.noise.generator.get_state()
    images = torch.randn(8, 3, 16, 16).to(memory_format=torch.channels_last)
    logits = model(images)
    model.noise.generator.set_state(state)
    with torch.autocast("cpu", torch.bfloat16):
        rough = model(images)
    assert rough.dtype == torch.bfloat16
    assert (rough.float() - logits).norm() < 0.1 * logits.norm()
    rough.float().square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_initialisation() -> None:
    torch.manual_seed(0)
    model = timm.create_model("shake_shake26_2x32d")
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert (layer.weight == 1).all()
            assert (layer.bias == 0).all()
        elif isinstance(layer, nn.Conv2d) and layer.weight.numel() > 4000:
            fan_out = layer.out_channels * layer.kernel_size[0] * layer.kernel_size[1]
            assert layer.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)
    assert (model.fc.bias == 0).all()
    assert model.fc.weight.abs().max().item() == pytest.approx(128**-0.5, rel=0.02)


def test_head_of_sam_s_code() -> None:
    model = timm.create_model("shake_shake26_2x32d", head_init="classes", num_classes=100)
    assert model.fc.weight.abs().max().item() == pytest.approx(0.1, rel=0.01)
    model.reset_classifier(25)
    assert model.fc.weight.std().item() == pytest.approx(0.2 / 3**0.5, rel=0.05)
    assert (model.fc.bias == 0).all()
    model.reset_classifier(0)
    assert isinstance(model.fc, nn.Identity)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depth": 25}, "6n \\+ 2.*not 25"),
        ({"depth": 2}, "6n \\+ 2.*not 2"),
        ({"width": 5}, "width is even.*not 5"),
        ({"width": 0}, "width is even.*not 0"),
        ({"shortcut": "A"}, "shortcut is one of gastaldi, sam, not 'A'"),
        ({"head_init": "zero"}, "head_init is one of torch, classes, not 'zero'"),
        ({"level": "pixel"}, "level is one of image, batch"),
    ],
)
def test_impossible_arguments_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        timm.create_model("shake_shake26_2x32d", **arguments)


def test_the_network_of_sams_code() -> None:
    """google-research/sam, sam_jax/models/wide_resnet_shakeshake.py: another shortcut and another classifier."""
    model = timm.create_model("shake_shake26_2x96d_sam", num_classes=100)
    assert parameter_count(model) == shake_shake_parameters(4, 96, 100)
    assert 0.099 < model.fc.weight.abs().max().item() <= 0.1
    shortcuts = [block for block in model.modules() if isinstance(block, ShakeShakeBlock)]
    assert not any(block.activates_shortcut for block in shortcuts)
    assert {block.shortcut.shift for block in shortcuts if isinstance(block.shortcut, ShiftedShortcut)} == {-1}
