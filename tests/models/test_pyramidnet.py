"""PyramidNets against the papers' widths, counts and layer lists, with blocks, shortcuts and ShakeDrop by hand."""

import copy
from fractions import Fraction
from math import floor

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

import flatmin.models  # noqa: F401
from flatmin.models.pyramidnet import (
    BasicBlock,
    Bottleneck,
    PyramidBlock,
    ZeroPaddedShortcut,
    linear_decay,
    pyramid_widths,
)
from flatmin.models.shake import Coefficients
from flatmin.models.size import parameter_count


def tiny(shakedrop: float | None = 0.5, **arguments: object) -> nn.Module:
    torch.manual_seed(0)
    arguments = {"depth": 11, "alpha": 5, "bottleneck": True, "shakedrop": shakedrop, **arguments}
    return timm.create_model("cifar_pyramidnet272_a200", **arguments)


def freeze_batch_norms(model: nn.Module) -> None:
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.eval()


def widths_by_fractions(blocks: int, alpha: int, nearest: bool) -> list[int]:
    """Han et al. 2017, equation 2, with exact fractions."""
    exact = [16 + Fraction(alpha * k, blocks) for k in range(1, blocks + 1)]
    return [floor(width + Fraction(1, 2)) if nearest else floor(width) for width in exact]


def pyramidnet_parameters(depth: int, alpha: int, bottleneck: bool, nearest: bool, classes: int) -> int:
    """Han et al. 2017, table 1 and figure 6d: no biases, a scale and a shift per channel of every batch norm."""
    total, before = 9 * 3 * 16 + 2 * 16, 16
    for d in widths_by_fractions((depth - 2) // 3 if bottleneck else (depth - 2) // 2, alpha, nearest):
        if bottleneck:
            total += 2 * before + before * d + 2 * d + 9 * d * d + 2 * d + 4 * d * d + 2 * 4 * d
            before = 4 * d
        else:
            total += 2 * before + 9 * before * d + 2 * d + 9 * d * d + 2 * d
            before = d
    return total + 2 * before + before * classes + classes


def test_blocks_of_the_depths() -> None:
    with torch.device("meta"):
        for name, blocks, convolutions in [("pyramidnet110_a270", 54, 109), ("pyramidnet272_a200", 90, 271)]:
            model = timm.create_model(name)
            assert sum(isinstance(layer, PyramidBlock) for layer in model.modules()) == blocks
            assert sum(isinstance(layer, nn.Conv2d) for layer in model.modules()) == convolutions


# Published: the authors' README (github.com/jhkim89/PyramidNet), whose table is that of the paper.
# Exact counts of nearest widths: osmr/imgclsmob, which rounds (and counts 10 classes).
PUBLISHED = [
    (110, 48, False, 64, 1.7, 1_772_706),
    (110, 84, False, 100, 3.8, 3_904_446),
    (110, 270, False, 286, 28.3, 28_485_477),
    (164, 270, True, 1144, 27.0, 27_216_021),
    (200, 240, True, 1024, 26.6, 26_752_702),
    (236, 220, True, 944, 26.8, 26_969_046),
    (272, 200, True, 864, 26.0, 26_210_842),
]


@pytest.mark.parametrize(("depth", "alpha", "bottleneck", "features", "published", "nearest"), PUBLISHED)
def test_counts_of_all_published_pyramidnets(
    depth: int, alpha: int, bottleneck: bool, features: int, published: float, nearest: int
) -> None:
    arguments = {"depth": depth, "alpha": alpha, "bottleneck": bottleneck}
    with torch.device("meta"):
        floored = timm.create_model("pyramidnet110_a270", **arguments)
        rounded = timm.create_model("pyramidnet110_a270", widths="round", **arguments)
    assert floored.num_features == rounded.num_features == features
    assert parameter_count(rounded) == nearest == pyramidnet_parameters(depth, alpha, bottleneck, True, 10)
    assert parameter_count(floored) == pyramidnet_parameters(depth, alpha, bottleneck, False, 10)
    # where widths are fractions, rounding down is closer to what the paper prints; 270 gives whole channels both ways
    assert abs(parameter_count(floored) / 1e6 - published) <= (0.22 if alpha == 270 else 0.06)
    if alpha != 270:
        assert abs(parameter_count(floored) / 1e6 - published) < abs(nearest / 1e6 - published)


@pytest.mark.parametrize(("name", "count"), [("pyramidnet110_a270", 28_485_477), ("pyramidnet272_a200", 26_049_562)])
def test_names_and_their_counts(name: str, count: int) -> None:
    with torch.device("meta"):
        for prefix in ("", "cifar_"):
            for suffix in ("", "_sd"):
                model = timm.create_model(f"{prefix}{name}{suffix}")
                assert parameter_count(model) == count
                assert (model.noise is not None) == bool(suffix)
                assert model.default_cfg["architecture"] == f"cifar_{name}{suffix}"


def test_widths_of_equation_2() -> None:
    assert pyramid_widths(54, 270) == [16 + 5 * k for k in range(1, 55)]
    assert pyramid_widths(90, 200)[:9] == [18, 20, 22, 24, 27, 29, 31, 33, 36]
    assert pyramid_widths(90, 200, "round")[:9] == [18, 20, 23, 25, 27, 29, 32, 34, 36]
    for blocks, alpha in [(54, 48), (54, 84), (54, 270), (90, 200), (66, 240), (78, 220), (6, 3)]:
        for widths in ("floor", "round"):
            assert pyramid_widths(blocks, alpha, widths) == widths_by_fractions(blocks, alpha, widths == "round")
            assert pyramid_widths(blocks, alpha, widths)[-1] == 16 + alpha


@pytest.mark.parametrize("name", ["pyramidnet110_a270", "pyramidnet272_a200"])
def test_maps_halve_at_stages_two_and_three_only(name: str) -> None:
    with torch.device("meta"):
        model = timm.create_model(name)
        sizes: dict[str, int] = {}
        for block_name, block in model.named_modules():
            if isinstance(block, PyramidBlock):
                block.register_forward_hook(lambda _, __, out, key=block_name: sizes.__setitem__(key, out.shape[-1]))
        features = model.forward_features(torch.zeros(2, 3, 32, 32))
    assert features.shape == (2, model.num_features, 8, 8)
    expected = {"layer1": 32, "layer2": 16, "layer3": 8}
    assert sizes == {name: expected[name.split(".")[0]] for name in sizes}
    assert len(sizes) == len(model.layer1) + len(model.layer2) + len(model.layer3) == 3 * len(model.layer1)


def test_odd_maps() -> None:
    assert tiny().forward_features(torch.zeros(2, 3, 29, 30)).shape == (2, 84, 8, 8)


def test_shortcut_by_hand() -> None:
    images = torch.randn(2, 3, 5, 4)
    padded = ZeroPaddedShortcut(3, 5, stride=1)(images)
    assert torch.equal(padded[:, :3], images)
    assert not padded[:, 3:].any()
    halved = ZeroPaddedShortcut(3, 5, stride=2)(images)
    assert halved.shape == (2, 5, 3, 2)
    assert not halved[:, 3:].any()
    for i in range(3):
        for j in range(2):
            window = images[:, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
            torch.testing.assert_close(halved[:, :3, i, j], window.mean((2, 3)))
    assert not list(ZeroPaddedShortcut(3, 5, stride=2).parameters())


def basic_branch(block: BasicBlock, x: Tensor, stride: int) -> Tensor:
    x = functional.conv2d(block.bn1(x), block.conv1.weight, stride=stride, padding=1)
    x = functional.conv2d(functional.relu(block.bn2(x)), block.conv2.weight, padding=1)
    return block.bn3(x)


def bottleneck_branch(block: Bottleneck, x: Tensor, stride: int) -> Tensor:
    x = functional.conv2d(block.bn1(x), block.conv1.weight)
    x = functional.conv2d(functional.relu(block.bn2(x)), block.conv2.weight, stride=stride, padding=1)
    x = functional.conv2d(functional.relu(block.bn3(x)), block.conv3.weight)
    return block.bn4(x)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(
    ("block_class", "by_hand", "channels"), [(BasicBlock, basic_branch, 6), (Bottleneck, bottleneck_branch, 24)]
)
def test_block_by_hand(block_class: type, by_hand: object, channels: int, stride: int) -> None:
    block = block_class(4, 6, stride, survival=0.75).double()
    images = torch.randn(3, 4, 6, 6, dtype=torch.float64)
    for layer in block.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.bias)  # so that a ReLU too many shows
    branch = by_hand(block, images, stride)
    through = torch.zeros_like(branch)
    through[:, :4] = functional.avg_pool2d(images, 2) if stride == 2 else images
    assert branch.shape == (3, channels, 6 // stride, 6 // stride)
    torch.testing.assert_close(block(images), 0.75 * branch + through)

    alpha = torch.tensor([1.0, -0.5, 0.25])[:, None, None, None]
    beta = torch.tensor([1.0, 0.5, 0.0])[:, None, None, None]
    out = block(images, Coefficients(alpha, beta))
    torch.testing.assert_close(out, alpha * branch + through)
    last = block.bn4 if block_class is Bottleneck else block.bn3
    weights = torch.randn_like(out)
    (gradient,) = torch.autograd.grad((out * weights).sum(), last.bias)
    torch.testing.assert_close(gradient, (beta * weights).sum((0, 2, 3)))


def test_network_by_hand() -> None:
    model = tiny(None).eval()
    images = torch.randn(2, 3, 8, 8)
    x = model.bn1(functional.conv2d(images, model.conv1.weight, padding=1))
    for (block,), stride in zip((model.layer1, model.layer2, model.layer3), (1, 2, 2), strict=True):
        through = functional.avg_pool2d(x, 2) if stride == 2 else x
        branch = bottleneck_branch(block, x, stride)
        x = branch + torch.cat([through, torch.zeros_like(branch[:, x.shape[1] :])], dim=1)
    pooled = functional.relu(model.norm(x)).mean((2, 3))
    torch.testing.assert_close(model(images), functional.linear(pooled, model.fc.weight, model.fc.bias))


def test_survival_decays_linearly_from_the_first_block_to_p_l() -> None:
    assert linear_decay(4, 0.5) == [0.875, 0.75, 0.625, 0.5]
    assert linear_decay(3, 1.0) == [1.0, 1.0, 1.0]
    with torch.device("meta"):
        model = timm.create_model("pyramidnet272_a200_sd")
    blocks = [block for block in model.modules() if isinstance(block, PyramidBlock)]
    survival = [1 - k / 90 * 0.5 for k in range(1, 91)]
    assert [block.survival for block in blocks] == pytest.approx(survival)
    assert list(model.noise.survival) == pytest.approx(survival)
    # what blocks multiply by in evaluation mode is the mean of what they are given in training
    assert list(model.noise.survival) == pytest.approx(survival)
    assert model.noise.low == -1


def test_blocks_get_their_own_coefficients_in_order() -> None:
    model = tiny()
    images = torch.randn(4, 3, 8, 8)
    given: list[Coefficients] = []
    for block in model.modules():
        if isinstance(block, PyramidBlock):
            block.register_forward_pre_hook(lambda _, inputs: given.append(inputs[1]))
    state = model.noise.generator.get_state()
    model(images)
    model.noise.generator.set_state(state)
    drawn = model.noise(images)
    assert len(given) == len(drawn) == 3
    for own, block in zip(given, drawn, strict=True):
        assert torch.equal(own.forward, block.forward)
        assert torch.equal(own.backward, block.backward)
    given.clear()
    model.eval()(images)
    assert given == [None, None, None]


@pytest.mark.parametrize("bottleneck", [True, False])
def test_the_true_gradient_is_the_loss_s_and_the_shaken_one_is_not(bottleneck: bool) -> None:
    model = tiny(0.0, bottleneck=bottleneck, depth=11 if bottleneck else 8).double()
    images = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    state = model.noise.generator.get_state()
    parameters = list(model.parameters())
    direction = [torch.randn_like(p) for p in parameters]

    def loss() -> Tensor:
        model.noise.generator.set_state(state)
        return model(images).square().mean()

    def derivative(true_gradient: bool) -> float:
        model.noise.true_gradient = true_gradient
        gradients = torch.autograd.grad(loss(), parameters)
        return sum((g * d).sum().item() for g, d in zip(gradients, direction, strict=True))

    true, shaken = derivative(True), derivative(False)
    ends = []
    with torch.no_grad():
        for step in (1e-8, -2e-8):
            for p, d in zip(parameters, direction, strict=True):
                p.add_(step * d)
            ends.append(loss().item())
    difference = (ends[0] - ends[1]) / 2e-8
    assert true == pytest.approx(difference, rel=1e-4)
    assert shaken != pytest.approx(difference, rel=1e-2)


def test_evaluation_is_the_mean_of_training_for_a_linear_block() -> None:
    torch.manual_seed(0)
    block = BasicBlock(4, 4, 1, survival=0.75).double().eval()
    images = torch.randn(1, 4, 5, 5, dtype=torch.float64)
    draws = 4000
    noise = tiny().noise
    noise.survival = (0.75,)
    (coefficients,) = noise(torch.zeros(draws, 1, 1, 1))
    mean = block(images.expand(draws, -1, -1, -1), coefficients).mean(0, keepdim=True)
    spread = block.branch(images).abs()  # no coefficient is further than 1.75 from the mean, and few are
    assert ((mean - block(images)).abs() <= 5 * spread / draws**0.5).all()


def test_images_are_shaken_apart_and_permute_with_their_noise() -> None:
    model = tiny(0.0)
    freeze_batch_norms(model)
    image = torch.randn(1, 3, 8, 8)
    logits = model(image.expand(6, -1, -1, -1))
    assert all(not torch.allclose(logits[0], other, rtol=1e-3) for other in logits[1:])

    images, order = torch.randn(6, 3, 8, 8), torch.tensor([3, 1, 0, 5, 4, 2])
    drawn = model.noise(images)
    model.noise.forward = lambda _: drawn
    logits = model(images)
    permuted = [Coefficients(*(c[order] for c in block)) for block in drawn]
    model.noise.forward = lambda _: permuted
    torch.testing.assert_close(model(images[order]), logits[order])


def test_shakedrop_changes_no_weight_and_none_is_survival_1() -> None:
    images = torch.randn(4, 3, 8, 8)
    plain, shaken, sure = tiny(None), tiny(0.5), tiny(1.0)
    assert plain.noise is sure.noise is None
    for other in (shaken, sure):
        assert all(torch.equal(p, q) for p, q in zip(plain.parameters(), other.parameters(), strict=True))
    assert torch.equal(plain(images), sure(images))
    assert not torch.equal(plain(images), shaken(images))
    plain.load_state_dict(shaken.state_dict())


def test_a_copy_shakes_on_by_itself() -> None:
    model = tiny()
    other = copy.deepcopy(model)
    images = torch.randn(4, 3, 8, 8)
    for _ in range(2):
        assert torch.equal(model(images), other(images))


@pytest.mark.parametrize("train", [True, False])
def test_compiled_network_is_the_same(train: bool) -> None:
    model = tiny().train(train)
    compiled = torch.compile(copy.deepcopy(model), backend="aot_eager", fullgraph=not train)
    images = torch.randn(4, 3, 8, 8)
    for _ in range(2):
        logits, other = model(images), compiled(images)
        torch.testing.assert_close(other, logits, rtol=1e-4, atol=1e-5)
    logits.square().sum().backward()
    other.square().sum().backward()
    for p, q in zip(model.parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-3, atol=1e-4)


def test_initialisation() -> None:
    model = tiny(depth=20, alpha=48)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert (layer.weight == 1).all()
            assert (layer.bias == 0).all()
        elif isinstance(layer, nn.Conv2d) and layer.weight.numel() > 4000:
            fan_out = layer.out_channels * layer.kernel_size[0] * layer.kernel_size[1]
            assert layer.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)
    assert (model.fc.bias == 0).all()
    assert model.fc.weight.abs().max().item() == pytest.approx(256**-0.5, rel=0.02)


def test_head_of_sam_s_code() -> None:
    model = tiny(head_init="classes", num_classes=100)
    assert model.fc.weight.abs().max().item() == pytest.approx(0.1, rel=0.01)
    model.reset_classifier(25)
    assert model.fc.weight.std().item() == pytest.approx(0.2 / 3**0.5, rel=0.05)
    assert (model.fc.bias == 0).all()
    model.reset_classifier(0)
    assert isinstance(model.fc, nn.Identity)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depth": 111}, "bottlenecks has depth 9n \\+ 2.*not 111"),
        ({"depth": 111, "bottleneck": False}, "basic blocks has depth 6n \\+ 2.*not 111"),
        ({"depth": 2}, "depth 9n \\+ 2.*not 2"),
        ({"alpha": -1}, "alpha is.*not -1"),
        ({"shakedrop": 1.5}, "shakedrop is a probability.*not 1.5"),
        ({"widths": "ceil"}, "widths is one of floor, round, not 'ceil'"),
        ({"head_init": "zero"}, "head_init is one of torch, classes, not 'zero'"),
    ],
)
def test_impossible_arguments_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        timm.create_model("pyramidnet272_a200_sd", **arguments)


def test_the_network_of_sams_code() -> None:
    """google-research/sam, sam_jax/models/pyramidnet.py: rounded widths and another classifier."""
    model = timm.create_model("pyramidnet272_a200_sd_sam", num_classes=100)
    assert parameter_count(model) == pyramidnet_parameters(272, 200, bottleneck=True, nearest=True, classes=100)
    assert 0.099 < model.fc.weight.abs().max().item() <= 0.1
    assert model.noise is not None
