"""Sharpness of quadratic losses, where every measure and the exact maximum are known, and of small networks.

For L(w) = 1/2 w'Aw: grad L = Aw, L(w + e) - L(w) = e'Aw + 1/2 e'Ae. With A diagonal, the maximiser over ||e|| = rho
solves (mu I - A) e = Aw with mu > lambda_max (the secular equation), found here by bisection.
"""

import json
import math

import pytest
import torch
from torch import Tensor, nn

from flatmin.sharpness.ascent import sharpness
from flatmin.sharpness.objective import Objective, cross_entropy
from flatmin.sharpness.perturbation import norm, perturbed, projected, scaled

EIGENVALUES = torch.tensor([5.0, 3.0, 1.0, 0.2], dtype=torch.float64)
POINT = torch.tensor([0.1, -0.4, 2.0, 1.0], dtype=torch.float64)
ONE_IMAGE = torch.zeros(1, 1, 1, 1, dtype=torch.uint8)
ONE_LABEL = torch.zeros(1, dtype=torch.long)


class Quadratic(nn.Module):
    """Returns 1/2 w'Aw for every image; w is split over two parameters."""

    def __init__(self, point: Tensor) -> None:
        super().__init__()
        self.head, self.tail = nn.Parameter(point[:1].clone()), nn.Parameter(point[1:].clone())

    def forward(self, x: Tensor) -> Tensor:
        w = torch.cat([self.head, self.tail])
        return (0.5 * (EIGENVALUES * w * w).sum()).expand(len(x))


def logits_are_losses(outputs: Tensor, labels: Tensor) -> Tensor:
    return outputs


def of_quadratic(point: Tensor, *, rho: float, steps: int, step_size: float = 0.5) -> dict[str, float]:
    return sharpness(
        Quadratic(point),
        ONE_IMAGE,
        ONE_LABEL,
        rho=rho,
        steps=steps,
        batch_size=1,
        transform=lambda x: x.double(),
        loss=logits_are_losses,
        step_size=step_size,
    )


def exact_maximum(point: Tensor, rho: float) -> float:
    """Maximum of L(w + e) - L(w) over ||e|| <= rho; L is convex, so it lies on the sphere."""
    g = EIGENVALUES * point
    low, high = EIGENVALUES.max().item(), EIGENVALUES.max().item() + g.norm().item() / rho + 1.0
    for _ in range(200):
        mu = (low + high) / 2
        low, high = (mu, high) if (g / (mu - EIGENVALUES)).norm() > rho else (low, mu)
    e = g / (high - EIGENVALUES)
    return (e @ g + 0.5 * e @ (EIGENVALUES * e)).item()


@pytest.mark.parametrize("rho", [0.01, 0.3, 2.0])
def test_closed_forms(rho: float) -> None:
    g = EIGENVALUES * POINT
    result = of_quadratic(POINT, rho=rho, steps=1)
    e = rho * g / g.norm()
    rise = (e @ g + 0.5 * e @ (EIGENVALUES * e)).item()
    assert result["loss"] == pytest.approx((0.5 * POINT @ g).item(), rel=1e-14)
    assert result["gradient_norm"] == pytest.approx(g.norm().item(), rel=1e-14)
    assert result["first_order"] == pytest.approx(rho * g.norm().item(), rel=1e-14)
    assert result["one_step"] == pytest.approx(rise, rel=1e-12)
    assert result["n_step"] == result["one_step"]
    assert (result["rho"], result["steps"], result["step_size"]) == (rho, 1, 0.5)


@pytest.mark.parametrize("rho", [0.05, 0.5, 3.0])
@pytest.mark.parametrize("step_size", [0.25, 0.5, 1.0])
def test_many_steps_reach_the_exact_maximum_and_never_pass_it(rho: float, step_size: float) -> None:
    maximum = exact_maximum(POINT, rho)
    rises = [of_quadratic(POINT, rho=rho, steps=n, step_size=step_size)["n_step"] for n in (1, 2, 3, 5, 20, 300)]
    assert rises == sorted(rises)
    assert all(rise <= maximum * (1 + 1e-12) for rise in rises)
    assert rises[-1] == pytest.approx(maximum, rel=1e-9)
    assert rises[0] < maximum * (1 - 1e-6)


def test_exact_maximum_itself_against_random_points_of_the_sphere() -> None:
    e = torch.randn(200_000, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    e = 0.5 * e / e.norm(dim=1, keepdim=True)
    rises = e @ (EIGENVALUES * POINT) + 0.5 * (e * e) @ EIGENVALUES
    maximum = exact_maximum(POINT, 0.5)
    assert maximum * 0.9995 < rises.max().item() <= maximum * (1 + 1e-12)


def test_near_a_minimum_many_steps_find_the_top_eigenvalue() -> None:
    # from almost the minimum, max = rho^2 lambda_max / 2, though the gradient points along the second eigenvector
    point = torch.tensor([1e-9, 1e-6, 0.0, 0.0], dtype=torch.float64)
    result = of_quadratic(point, rho=0.2, steps=200)
    assert result["n_step"] == pytest.approx(0.5 * 5.0 * 0.2**2, rel=1e-4)
    assert result["one_step"] == pytest.approx(0.5 * 3.0 * 0.2**2, rel=1e-2)


def test_monotone_in_rho() -> None:
    results = [of_quadratic(POINT, rho=rho, steps=10) for rho in (0.01, 0.05, 0.1, 0.5, 1.0, 2.0)]
    for measure in ("first_order", "one_step", "n_step"):
        values = [result[measure] for result in results]
        assert values == sorted(values)
        assert values[0] > 0


def test_zero_gradient_is_zero_sharpness() -> None:
    result = of_quadratic(torch.zeros(4, dtype=torch.float64), rho=0.1, steps=5)
    assert [result[k] for k in ("loss", "gradient_norm", "first_order", "one_step", "n_step")] == [0.0] * 5


@pytest.mark.parametrize("setting", ["rho", "steps", "step_size"])
@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf])
def test_settings_must_be_positive(setting: str, value: float) -> None:
    settings = {"rho": 0.1, "steps": 2, "step_size": 0.5, setting: value}
    with pytest.raises(ValueError, match=f"{setting} must be positive"):
        of_quadratic(POINT, **settings)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.Tanh(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(384, 5)
    )
    model(torch.randn(32, 3, 8, 8))
    return model


GENERATOR = torch.Generator().manual_seed(1)
IMAGES = torch.randint(256, (50, 3, 8, 8), dtype=torch.uint8, generator=GENERATOR)
LABELS = torch.randint(5, (50,), generator=GENERATOR)


def scale(batch: Tensor) -> Tensor:
    return batch.float() / 127.5 - 1


def scale_double(batch: Tensor) -> Tensor:
    return batch.double() / 127.5 - 1


def test_batch_size_does_not_matter() -> None:
    settings = {"rho": 0.3, "steps": 4, "transform": scale_double}
    model = network().double()
    reference = sharpness(model, IMAGES, LABELS, batch_size=50, **settings)
    for batch_size in (1, 7, 49, 1000):
        result = sharpness(model, IMAGES, LABELS, batch_size=batch_size, **settings)
        assert result == pytest.approx(reference, rel=1e-11)


def test_one_step_of_a_network_against_plain_autograd() -> None:
    model = network().double().eval()
    before = torch.nn.functional.cross_entropy(model(scale_double(IMAGES)), LABELS)
    gradient = torch.autograd.grad(before, list(model.parameters()))
    length = torch.cat([g.flatten() for g in gradient]).norm()
    moved = {
        name: p + 0.2 * g / length for (name, p), g in zip(model.named_parameters(), gradient, strict=True)
    } | dict(model.named_buffers())
    after = torch.nn.functional.cross_entropy(torch.func.functional_call(model, moved, scale_double(IMAGES)), LABELS)
    result = sharpness(model, IMAGES, LABELS, rho=0.2, steps=3, batch_size=8, transform=scale_double)
    assert result["gradient_norm"] == pytest.approx(length.item(), rel=1e-12)
    assert result["one_step"] == pytest.approx((after - before).item(), rel=1e-9)
    assert result["n_step"] is not None
    assert result["n_step"] >= (after - before).item()


def test_no_point_of_the_ball_that_is_tried_at_random_is_worse() -> None:
    model = network().double()
    objective = Objective(model, IMAGES, LABELS, 50, scale_double)
    result = sharpness(model, IMAGES, LABELS, rho=0.5, steps=10, batch_size=50, transform=scale_double)
    assert result["n_step"] is not None
    for seed in range(20):
        torch.manual_seed(seed)
        direction = [torch.randn_like(p) for p in objective.parameters]
        with perturbed(objective.parameters, scaled(direction, 0.5 / norm(direction))):
            assert objective.value() - (result["loss"] or 0.0) < result["n_step"]


@pytest.mark.parametrize("fails", [False, True])
def test_model_comes_back_bit_for_bit(fails: bool) -> None:
    model = network().train()
    model[1].eval()
    gradients = [torch.randn_like(p) for p in model.parameters()]
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        parameter.grad = gradient.clone()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    storages = [p.data_ptr() for p in model.parameters()]
    calls = 0

    def transform(batch: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if fails and calls == 12:  # in the second iterate: the weights are perturbed
            raise RuntimeError("out of memory")
        return scale(batch)

    def measure() -> None:
        sharpness(model, IMAGES, LABELS, rho=0.1, steps=3, batch_size=10, transform=transform)

    if fails:
        with pytest.raises(RuntimeError, match="out of memory"):
            measure()
    else:
        measure()
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert [p.data_ptr() for p in model.parameters()] == storages
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), gradients, strict=True))
    assert [module.training for module in model] == [True, False, True, True, True, True]


def test_autocast_around_the_call_changes_nothing() -> None:
    settings = {"rho": 0.1, "steps": 2, "batch_size": 25, "transform": scale}
    model = network()
    plain = sharpness(model, IMAGES, LABELS, **settings)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        assert sharpness(model, IMAGES, LABELS, **settings) == plain


def test_frozen_and_unused_parameters() -> None:
    model = network()
    model[0].weight.requires_grad_(False)
    model.register_parameter("unused", nn.Parameter(torch.ones(3)))
    objective = Objective(model, IMAGES, LABELS, 50, scale)
    assert all(p is not model[0].weight for p in objective.parameters)
    model.forward = lambda x: nn.Sequential.forward(nn.Sequential(*list(model)), x)
    result = sharpness(model, IMAGES, LABELS, rho=0.1, steps=2, batch_size=50, transform=scale)
    assert result["one_step"] is not None
    assert result["one_step"] > 0


def test_a_diverged_model_has_no_sharpness() -> None:
    model = network()
    with torch.no_grad():
        model[5].bias.fill_(math.nan)
    result = sharpness(model, IMAGES, LABELS, rho=0.1, steps=2, batch_size=50, transform=scale)
    assert [result[k] for k in ("loss", "gradient_norm", "first_order", "one_step", "n_step")] == [None] * 5
    json.dumps(result, allow_nan=False)


def test_gradients_beyond_the_range_of_float32_reciprocals() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(1, 1)).requires_grad_(True)
    result = sharpness(
        model,
        ONE_IMAGE,
        ONE_LABEL,
        rho=0.1,
        steps=2,
        batch_size=1,
        transform=lambda x: x.float(),
        loss=lambda outputs, labels: 1e-42 * outputs[:, 0],
    )
    assert result["one_step"] is not None
    assert result["n_step"] is not None


def test_objective_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="as many labels as images"):
        Objective(network(), IMAGES, LABELS[:3], 10, scale)
    with pytest.raises(ValueError, match="batch_size"):
        Objective(network(), IMAGES, LABELS, 0, scale)
    with pytest.raises(ValueError, match="float32 or float64"):
        Objective(network().bfloat16(), IMAGES, LABELS, 10, scale)
    with pytest.raises(ValueError, match="no parameter"):
        Objective(network().requires_grad_(False), IMAGES, LABELS, 10, scale)
    mean_loss = Objective(network(), IMAGES, LABELS, 10, scale, nn.functional.cross_entropy)
    with pytest.raises(ValueError, match="one value per sample"):
        mean_loss.value()


def test_objective_is_the_mean_over_all_samples_in_evaluation_mode() -> None:
    model = network().double()
    value, gradient = Objective(model, IMAGES, LABELS, 7, scale_double).value_and_gradient()
    loss = cross_entropy(model.eval()(scale_double(IMAGES)), LABELS).mean()
    expected = torch.autograd.grad(loss, list(model.parameters()))
    assert value == pytest.approx(loss.item(), rel=1e-13)
    for got, wanted in zip(gradient, expected, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-13)


def test_projection_on_the_ball() -> None:
    vector = [torch.tensor([3.0]), torch.tensor([0.0, 4.0])]
    assert norm(vector) == 5.0
    assert norm(projected(vector, 2.0)) == pytest.approx(2.0, rel=1e-6)
    assert all(torch.equal(a, b) for a, b in zip(projected(vector, 5.0), vector, strict=True))
