"""MixUp and CutMix: lambda's distribution, the pixels, and a loss that is linear in the target."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import beta, kstest
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from flatmin.data.augmentation.mixing import Targets, mix, symmetric_beta
from flatmin.randomness import torch_generator


def generator(seed: int = 0) -> torch.Generator:
    return torch_generator(seed, "mixing")


def batch(count: int = 40, channels: int = 3, height: int = 8, width: int = 12) -> tuple[Tensor, Tensor]:
    inputs = torch.randn(count, channels, height, width, generator=generator(7))
    return inputs, torch.arange(count)  # a label of its own for every image


def mixed(
    inputs: Tensor,
    labels: Tensor,
    *,
    mixup: float = 0.0,
    cutmix: float = 0.0,
    per_image: bool = False,
    seed: int = 0,
) -> tuple[Tensor, Tensor, Tensor]:
    """Mixed inputs, partners' labels, shares."""
    out, targets = mix(
        inputs.clone(), labels, mixup=mixup, cutmix=cutmix, per_image=per_image, generator=generator(seed)
    )
    assert targets.partners is not None
    assert targets.shares is not None
    assert torch.equal(targets.labels, labels)
    return out, targets.partners, targets.shares


@pytest.mark.parametrize("per_image", [False, True])
def test_mixup_is_the_convex_combination_of_image_and_partner(per_image: bool) -> None:
    inputs, labels = batch()
    out, partners, shares = mixed(inputs, labels, mixup=0.4, per_image=per_image)
    weights = shares.double().view(-1, 1, 1, 1)
    expected = weights * inputs.double() + (1 - weights) * inputs[partners].double()
    assert torch.allclose(out.double(), expected, atol=1e-6)
    assert len(shares.unique()) == (len(shares) if per_image else 1)


@pytest.mark.parametrize("per_image", [False, True])
def test_cutmix_has_pixels_of_the_partner_in_a_box_and_counts_them(per_image: bool) -> None:
    inputs, labels = batch()
    for seed in range(10):
        out, partners, shares = mixed(inputs, labels, cutmix=1.0, per_image=per_image, seed=seed)
        own = (out == inputs).all(1)
        other = (out == inputs[partners]).all(1)
        assert bool((own | other).all())
        strangers = partners != labels
        counted = own.double().mean(dim=(1, 2))
        assert torch.allclose(shares[strangers].double(), counted[strangers], atol=1e-6)
        for pixels in other[strangers & (shares < 1)].numpy():
            rows, columns = np.nonzero(pixels.any(1))[0], np.nonzero(pixels.any(0))[0]
            assert pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()


def test_partners_are_a_random_permutation() -> None:
    """An image is its own partner as often as in a uniform permutation: once per batch in the mean, and variance 1."""
    found = [mixed(*batch(40, 1, 2, 2), mixup=1.0, seed=seed)[1] for seed in range(300)]
    assert all(sorted(partners.tolist()) == list(range(40)) for partners in found)
    fixed = [int((partners == torch.arange(40)).sum()) for partners in found]
    assert np.mean(fixed) == pytest.approx(1, abs=4 / 300**0.5)
    assert len({tuple(partners.tolist()) for partners in found}) == 300


@pytest.mark.parametrize("alpha", [0.1, 0.2, 1.0, 2.5])
def test_lambda_has_the_moments_of_beta(alpha: float) -> None:
    """Mean 1 / 2 and variance 1 / (4 (2 alpha + 1)), both ends included."""
    count = 20_000
    inputs, labels = torch.zeros(count, 1, 1, 1), torch.zeros(count, dtype=torch.int64)
    _, _, shares = mixed(inputs, labels, mixup=alpha, per_image=True)
    shares = shares.double()
    variance = 1 / (4 * (2 * alpha + 1))
    assert shares.mean().item() == pytest.approx(0.5, abs=4 * (variance / count) ** 0.5)
    assert shares.var().item() == pytest.approx(variance, rel=0.03)
    below = shares[shares < 0.5].numpy()  # near 1 float32 has no room for what alpha of 0.1 draws
    assert kstest(below, lambda share: 2 * beta(alpha, alpha).cdf(share)).pvalue > 1e-4


def test_lambda_of_cutmix_is_beta_s_but_for_what_is_outside() -> None:
    """A box of share a, around a pixel of the image, has at least a quarter inside, and at most all."""
    inputs, labels = torch.zeros(4000, 1, 64, 64), torch.zeros(4000, dtype=torch.int64)
    _, _, cut = mixed(inputs, labels, cutmix=1.0, per_image=True)
    _, _, drawn = mixed(inputs[..., :1, :1], labels, mixup=1.0, per_image=True)  # the same numbers
    asked, there = 1 - drawn.double(), 1 - cut.double()
    assert bool((there <= asked + 1e-9).all())
    assert bool((there >= asked / 4 - 2 / 64).all())


def test_quantiles_are_those_of_beta() -> None:
    quantiles = torch.linspace(0, 1, 11, dtype=torch.float64)
    assert symmetric_beta(quantiles, torch.full((11,), 1.0, dtype=torch.float64)).numpy() == pytest.approx(
        quantiles.numpy(), abs=1e-12
    )
    arcsine = torch.sin(quantiles * torch.pi / 2) ** 2  # Beta(1/2, 1/2)
    found = symmetric_beta(quantiles, torch.full((11,), 0.5, dtype=torch.float64))
    assert torch.allclose(found, arcsine, atol=1e-12)


@pytest.mark.parametrize("per_image", [False, True])
def test_of_both_a_fair_coin_chooses(per_image: bool) -> None:
    inputs, labels = batch(20, height=4, width=4)
    cut: list[bool] = []
    for seed in range(400 if not per_image else 40):
        out, partners, _ = mixed(inputs, labels, mixup=1.0, cutmix=1.0, per_image=per_image, seed=seed)
        strangers = partners != labels
        from_one = ((out == inputs) | (out == inputs[partners])).flatten(1).all(1)[strangers]
        if not per_image:
            assert len(from_one.unique()) == 1
            cut.append(bool(from_one[0]))
        else:
            cut += from_one.tolist()
    assert np.mean(cut) == pytest.approx(0.5, abs=4 * 0.5 / len(cut) ** 0.5)


def test_the_coin_uses_the_alpha_of_its_side() -> None:
    """Of alphas so different, MixUp's lambda is near 1/2, and half of CutMix's are near 1."""
    count = 3000
    inputs = torch.randn(count, 1, 16, 16, generator=generator(5))
    out, partners, shares = mixed(inputs, torch.arange(count), mixup=500.0, cutmix=0.01, per_image=True)
    blended = ~((out == inputs) | (out == inputs[partners])).flatten(1).all(1)
    assert bool(((shares[blended] - 0.5).abs() < 0.1).all())
    assert 0.45 < (shares[~blended] > 0.95).double().mean().item() < 0.55
    assert 0.45 < blended.double().mean().item() < 0.55


def test_the_last_image_alone_is_mixed_with_itself() -> None:
    inputs, labels = batch(1)
    out, partners, _ = mixed(inputs, labels, mixup=0.2)
    assert torch.allclose(out, inputs, atol=1e-6)
    assert torch.equal(partners, labels)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("part", [slice(None), slice(2, 5), torch.tensor([4, 0, 4])], ids=["whole", "slice", "index"])
def test_the_loss_is_the_cross_entropy_of_mixed_smoothed_one_hot_labels(smoothing: float, part) -> None:
    classes, count = 5, 9
    source = generator()
    logits = torch.randn(count, classes, dtype=torch.float64, generator=source)
    labels, partners = torch.randint(classes, (2, count), generator=source)
    shares = torch.rand(count, dtype=torch.float64, generator=source)
    hard = shares[:, None] * one_hot(labels, classes) + (1 - shares[:, None]) * one_hot(partners, classes)
    soft = (1 - smoothing) * hard + smoothing / classes
    expected = -(soft * logits.log_softmax(1)).sum(1)[part]
    found = Targets(labels, partners, shares).losses(logits[part], part, smoothing)
    assert torch.allclose(found, expected, atol=1e-12)


def test_without_partners_the_loss_is_cross_entropy_to_the_bit() -> None:
    logits, labels = torch.randn(6, 4, generator=generator()), torch.tensor([0, 1, 2, 3, 0, 1])
    found = Targets(labels).losses(logits[:3], slice(0, 3), 0.1)
    assert torch.equal(found, cross_entropy(logits[:3], labels[:3], label_smoothing=0.1, reduction="none"))


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_the_memory_format_stays_and_changes_no_bit(kind: str) -> None:
    inputs, labels = batch()
    last = inputs.contiguous(memory_format=torch.channels_last)
    settings = {"mixup": 0.0, "cutmix": 0.0} | {kind: 1.0}
    one, _ = mix(inputs.clone(), labels, **settings, per_image=False, generator=generator())
    other, _ = mix(last.clone(), labels, **settings, per_image=False, generator=generator())
    assert other.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(one, other)
