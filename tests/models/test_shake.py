"""Coefficients of shaken branches: where they come from, how they are spread, and what they do in both directions."""

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn

from flatmin.models.shake import Coefficients, ShakeNoise, shaken

SURVIVAL = (0.9, 0.5, 0.0)


def stacked(noise: ShakeNoise, images: int) -> Tensor:
    """Draw once; [2, blocks, images]: the forward and the backward coefficients."""
    blocks = noise(torch.zeros(images, 3, 2, 2))
    return torch.stack([torch.stack([b.forward for b in blocks]), torch.stack([b.backward for b in blocks])]).flatten(2)


def rewound(noise: ShakeNoise, state: Tensor) -> ShakeNoise:
    noise.generator.set_state(state)
    return noise


def column(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)[:, None, None, None]


def test_a_branch_is_multiplied_by_one_coefficient_and_its_gradient_by_the_other() -> None:
    branch = torch.randn(3, 2, 4, 5, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(3, 2, 4, 5, dtype=torch.float64)
    out = shaken(branch, Coefficients(column(-0.5, 0.0, 1.0), column(0.25, 1.0, 0.0)))
    (out * weights).sum().backward()
    assert branch.grad is not None
    for image, (forward, backward) in enumerate([(-0.5, 0.25), (0.0, 1.0), (1.0, 0.0)]):
        assert torch.equal(out[image], forward * branch[image])
        assert torch.equal(branch.grad[image], backward * weights[image])


def test_equal_coefficients_give_the_gradient_and_unequal_ones_another_matrix() -> None:
    branch = torch.randn(2, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    alpha, beta = column(0.25, -0.75), column(0.5, 0.5)
    true = Coefficients(alpha, alpha)
    assert torch.autograd.gradcheck(lambda b: shaken(b, true).pow(3), branch)
    assert torch.autograd.gradgradcheck(lambda b: shaken(b, true).pow(3), branch)
    assert not torch.autograd.gradcheck(lambda b: shaken(b, Coefficients(alpha, beta)), branch, raise_exception=False)


def test_gradients_and_batches_of_functorch() -> None:
    coefficients = Coefficients(column(0.25, -0.75), column(0.5, 1.0))
    branches = torch.randn(4, 2, 3, 2, 2)

    def loss(branch: Tensor) -> Tensor:
        return shaken(branch, coefficients).square().sum()

    gradients = torch.func.vmap(torch.func.grad(loss))(branches)
    expected = 2 * coefficients.forward * branches * coefficients.backward
    torch.testing.assert_close(gradients, expected)


def test_draws_are_those_of_the_definition() -> None:
    noise = ShakeNoise(SURVIVAL, low=-1.0)
    survives, alpha, beta = torch.rand(5, 3, 3, generator=copy.deepcopy(noise.generator)).permute(1, 2, 0)
    forward, backward = stacked(noise, 5)
    for block, p in enumerate(SURVIVAL):
        for image in range(5):
            b = float(survives[block, image] < p)
            a, c = 2 * float(alpha[block, image]) - 1, float(beta[block, image])
            assert forward[block, image].item() == pytest.approx(b + a - b * a, abs=1e-6)
            assert backward[block, image].item() == pytest.approx(b + c - b * c, abs=1e-6)


def test_branches_survive_as_often_as_they_should_and_shaken_ones_are_spread_evenly() -> None:
    noise = ShakeNoise(SURVIVAL, low=-1.0)
    noise.generator.manual_seed(0)
    images = 10_000
    forward, backward = stacked(noise, images)
    assert torch.equal(forward == 1, backward == 1)
    for block, p in enumerate(SURVIVAL):
        shaken_images = forward[block] != 1
        frequency = 1 - shaken_images.double().mean().item()
        assert abs(frequency - p) <= 4 * (p * (1 - p) / images) ** 0.5
        alpha, beta = forward[block][shaken_images], backward[block][shaken_images]
        assert (alpha.min() >= -1, alpha.max() < 1, beta.min() >= 0, beta.max() < 1) == (True,) * 4
        bound = 4 / len(alpha) ** 0.5  # four standard errors of anything whose spread is at most 1
        assert abs(alpha.mean().item()) < bound
        assert abs(alpha.square().mean().item() - 1 / 3) < bound
        assert abs(beta.mean().item() - 1 / 2) < bound
        assert abs(torch.corrcoef(torch.stack([alpha, beta]))[0, 1].item()) < bound
        assert forward[block].mean().item() == pytest.approx(p, abs=4 / images**0.5)  # as alpha's mean is 0


@pytest.mark.parametrize("parts", [(8, 8), (1,) * 16, (5, 11)])
def test_a_batch_in_parts_has_the_coefficients_of_the_whole(parts: tuple[int, ...]) -> None:
    noise = ShakeNoise(SURVIVAL, low=-1.0)
    state = noise.generator.get_state()
    whole, end = stacked(noise, 16), noise.generator.get_state()
    rewound(noise, state)
    assert torch.equal(torch.cat([stacked(noise, part) for part in parts], dim=-1), whole)
    assert torch.equal(noise.generator.get_state(), end)


def test_the_same_state_gives_the_same_noise_batch_by_batch() -> None:
    noise = ShakeNoise(SURVIVAL)
    state = noise.generator.get_state()
    first, second = stacked(noise, 4), stacked(noise, 7)
    assert not torch.equal(first, second[..., :4])
    rewound(noise, state)
    assert torch.equal(stacked(noise, 4), first)
    assert torch.equal(stacked(noise, 7), second)


def test_the_true_gradient_takes_the_forward_coefficients_and_as_many_draws() -> None:
    noise = ShakeNoise(SURVIVAL)
    state = noise.generator.get_state()
    forward, backward = stacked(noise, 4)
    after = noise.generator.get_state()
    assert not torch.equal(forward, backward)
    rewound(noise, state).true_gradient = True
    true = stacked(noise, 4)
    assert torch.equal(true[0], forward)
    assert torch.equal(true[1], forward)
    assert torch.equal(noise.generator.get_state(), after)


def test_own_generator_and_torch_s_leave_each_other_alone() -> None:
    noise = ShakeNoise(SURVIVAL)
    state, default = noise.generator.get_state(), torch.get_rng_state()
    drawn = stacked(noise, 4)
    assert torch.equal(torch.get_rng_state(), default)
    torch.rand(100)
    assert torch.equal(stacked(rewound(noise, state), 4), drawn)


def test_networks_made_from_one_seed_shake_alike_and_from_two_apart() -> None:
    def first(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return stacked(ShakeNoise(SURVIVAL), 4)

    assert torch.equal(first(0), first(0))
    assert not torch.equal(first(0), first(1))
    torch.manual_seed(0)
    assert not torch.equal(stacked(ShakeNoise(SURVIVAL), 4), stacked(ShakeNoise(SURVIVAL), 4))


def test_nothing_is_drawn_in_evaluation_mode() -> None:
    noise = ShakeNoise(SURVIVAL).eval()
    state = noise.generator.get_state()
    assert noise(torch.zeros(4, 3, 2, 2)) == [None, None, None]
    assert torch.equal(noise.generator.get_state(), state)


@pytest.mark.parametrize(
    ("forward_noise", "backward_noise"),
    [(forward, backward) for forward in ("shake", "even") for backward in ("shake", "even", "keep")],
)
@pytest.mark.parametrize("level", ["image", "batch"])
def test_noise_of_gastaldi_table_1(forward_noise: str, backward_noise: str, level: str) -> None:
    noise = ShakeNoise([0.0, 0.0], forward_noise=forward_noise, backward_noise=backward_noise, level=level)
    forward, backward = stacked(noise, 6)
    images = 6 if level == "image" else 1
    assert forward.shape == backward.shape == (2, images)
    assert len(forward.unique()) == (2 * images if forward_noise == "shake" else 1)
    if forward_noise == "even":
        assert (forward == 0.5).all()
    if backward_noise == "shake":
        assert len(backward.unique()) == 2 * images
        assert not torch.isin(backward, forward).any()
    else:
        assert torch.equal(backward, forward if backward_noise == "keep" else torch.full_like(forward, 0.5))


def test_a_copy_goes_on_from_the_same_state_on_its_own() -> None:
    noise = nn.Sequential(ShakeNoise(SURVIVAL))
    copies = [copy.deepcopy(noise), pickle.loads(pickle.dumps(noise))]
    drawn = stacked(noise[0], 4)
    for other in copies:
        assert torch.equal(stacked(other[0], 4), drawn)
    stacked(noise[0], 4)
    assert not torch.equal(copies[0][0].generator.get_state(), noise[0].generator.get_state())


def test_defaults_of_the_caller_change_nothing() -> None:
    noise = ShakeNoise(SURVIVAL)
    state = noise.generator.get_state()
    drawn = stacked(noise, 4)
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(stacked(rewound(noise, state), 4), drawn)
    finally:
        torch.set_default_dtype(torch.float32)
    with torch.device("meta"):
        on_meta = ShakeNoise(SURVIVAL)
        blocks = on_meta(torch.zeros(4, 3, 2, 2))
    assert on_meta.generator.device == torch.device("cpu")
    assert {c.device.type for block in blocks for c in block} == {"meta"}
    with torch.device("meta"):
        blocks = rewound(noise, state)(torch.zeros(4, 3, 2, 2, device="cpu"))
    assert torch.equal(torch.stack([b.forward for b in blocks]).flatten(1), drawn[0])


def test_shaking_is_compiled_without_a_break() -> None:
    branch = torch.randn(2, 3, 4, 4, requires_grad=True)
    coefficients = Coefficients(column(0.25, -0.75), column(0.5, 1.0))
    out = torch.compile(shaken, backend="aot_eager", fullgraph=True)(branch, coefficients)
    out.sum().backward()
    assert torch.equal(out, coefficients.forward * branch)
    assert torch.equal(branch.grad, coefficients.backward.expand_as(branch))


def test_half_precision_and_memory_format_are_those_of_the_branch() -> None:
    branch = torch.randn(2, 3, 4, 4, dtype=torch.bfloat16).to(memory_format=torch.channels_last).requires_grad_()
    out = shaken(branch, Coefficients(column(0.25, -0.75), column(0.5, 1.0)))
    assert out.dtype == torch.bfloat16
    assert out.is_contiguous(memory_format=torch.channels_last)
    out.sum().backward()
    assert branch.grad is not None
    assert branch.grad.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"survival": [0.5, 1.5]}, "survival.*between 0 and 1.*1.5"),
        ({"survival": [0.5], "low": 2.0}, "low is at most 1.*2.0"),
        ({"survival": [0.5], "forward_noise": "keep"}, "forward_noise is one of shake, even, not 'keep'"),
        ({"survival": [0.5], "backward_noise": "odd"}, "backward_noise is one of shake, even, keep, not 'odd'"),
        ({"survival": [0.5], "level": "pixel"}, "level is one of image, batch, not 'pixel'"),
    ],
)
def test_impossible_arguments_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ShakeNoise(**arguments)
