"""Evaluation and sharpness of a trained run against plain torch in float64, from the files alone."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import CNN, IMAGES, SAM, SGD, data, pixels, settings, task, train
from torch import Tensor, nn
from torch.nn import functional

from flatmin.models.network import network
from flatmin.records import verify
from flatmin.settings import EvaluationSpec, RunSettings, SharpnessSpec
from flatmin.work import KINDS, perform
from flatmin.workplace import Workplace

RUN = settings(SAM, CNN, epochs=12, lr=0.1)
SHARPNESS = SharpnessSpec(rho=0.1, steps=3, samples=100)


def perform_on(kind: str, run: RunSettings, prepared: Path, trained: Path, folder: Path, **spec: Any) -> dict[str, Any]:
    workplace = Workplace(folder, "t")
    workplace.take()
    reason = perform(kind, "key", {**task(run, prepared), "run": str(trained), **spec}, workplace, folder / "log")
    assert reason is None, reason
    return verify(workplace.result, KINDS[kind].head)["metrics"]


def evaluated(run: RunSettings, prepared: Path, trained: Path, folder: Path, bins: int = 15) -> dict[str, Any]:
    spec = EvaluationSpec(ece_bins=bins).model_dump(mode="json")
    return perform_on("evaluate", run, prepared, trained, folder, spec=spec)


def sharpness_of(
    run: RunSettings, prepared: Path, trained: Path, folder: Path, spec: SharpnessSpec = SHARPNESS
) -> dict[str, Any]:
    return perform_on("sharpness", run, prepared, trained, folder, spec=spec.model_dump(mode="json"))


@pytest.fixture(scope="session")
def trained(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    result = train(RUN, prepared, tmp_path_factory.mktemp("measured"))
    record = verify(result, "record.json")["result"]
    assert record["best_epoch"] < record["epochs"], "early stopping must be another network than the last epoch's"
    return result


@pytest.fixture(scope="session")
def evaluation(prepared: Path, trained: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return evaluated(RUN, prepared, trained, tmp_path_factory.mktemp("evaluation"))


@pytest.fixture(scope="session")
def sharpness(prepared: Path, trained: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return sharpness_of(RUN, prepared, trained, tmp_path_factory.mktemp("sharpness"))


def exact(run: RunSettings, prepared: Path, weights: Path) -> nn.Module:
    model = network(run.model, classes=10, images=data(run, prepared).test.images)
    model.load_state_dict(load_file(weights))
    return model.double().eval()


# --- evaluation ---------------------------------------------------------------------------------------------------


@pytest.fixture(params=[("test_", "model.safetensors"), ("early_test_", "best.safetensors")], ids=["last", "early"])
def on_test(request: pytest.FixtureRequest, prepared: Path, trained: Path) -> tuple[str, Tensor, Tensor]:
    """The metrics' prefix, and the probabilities and labels of the test images, in float64."""
    prefix, weights = request.param
    loaded = data(RUN, prepared)
    with torch.no_grad():
        probabilities = exact(RUN, prepared, trained / weights)(pixels(loaded.test.images, loaded)).softmax(1)
    return prefix, probabilities, loaded.test.labels


def test_accuracy_is_that_of_the_saved_weights(evaluation: dict[str, Any], on_test: tuple[str, Tensor, Tensor]) -> None:
    prefix, probabilities, labels = on_test
    hits = int((probabilities.argmax(1) == labels).sum())
    assert len(labels) == 600
    assert evaluation[f"{prefix}accuracy"] == hits / 600
    assert evaluation[f"{prefix}error"] == (600 - hits) / 600


def test_nll_is_that_of_the_saved_weights(evaluation: dict[str, Any], on_test: tuple[str, Tensor, Tensor]) -> None:
    prefix, probabilities, labels = on_test
    expected = -probabilities[torch.arange(600), labels].log().mean().item()
    assert evaluation[f"{prefix}nll"] == pytest.approx(expected, rel=1e-5)


def test_calibration_error_is_that_of_the_saved_weights(
    evaluation: dict[str, Any], on_test: tuple[str, Tensor, Tensor]
) -> None:
    prefix, probabilities, labels = on_test
    confidence, predicted = probabilities.max(1)
    expected = 0.0
    for k in range(15):
        inside = (confidence > k / 15) & (confidence <= (k + 1) / 15)
        if inside.any():
            gap = (predicted == labels)[inside].double().mean() - confidence[inside].mean()
            expected += inside.double().mean().item() * abs(gap.item())
    assert evaluation[f"{prefix}ece"] == pytest.approx(expected, rel=1e-4)


def test_last_and_early_weights_are_different_networks(evaluation: dict[str, Any]) -> None:
    assert evaluation["test_nll"] != evaluation["early_test_nll"]


def test_the_bins_of_the_study_are_used(
    prepared: Path, trained: Path, tmp_path: Path, evaluation: dict[str, Any]
) -> None:
    other = evaluated(RUN, prepared, trained, tmp_path, bins=3000)
    assert other["test_ece"] != evaluation["test_ece"]
    assert other["test_nll"] == evaluation["test_nll"]


def test_a_diverged_run_is_evaluated_without_nan(prepared: Path, tmp_path: Path) -> None:
    run = settings(SGD, epochs=20, lr=1e30)
    result = train(run, prepared, tmp_path / "run")
    metrics = evaluated(run, prepared, result, tmp_path / "evaluation")
    assert 0 <= metrics["test_accuracy"] <= 1
    assert all(value is None or math.isfinite(value) for value in metrics.values())


def test_a_run_trained_in_bf16_is_evaluated_in_float32(prepared: Path, tmp_path: Path) -> None:
    run = settings(SAM, CNN, precision="bf16", memory_format="channels_last")
    result = train(run, prepared, tmp_path / "run")
    loaded = data(run, prepared)
    with torch.no_grad():
        logits = exact(run, prepared, result / "model.safetensors")(pixels(loaded.test.images, loaded))
    expected = functional.cross_entropy(logits, loaded.test.labels).item()
    metrics = evaluated(run, prepared, result, tmp_path / "evaluation")
    assert metrics["test_nll"] == pytest.approx(expected, rel=1e-5)


# --- sharpness ----------------------------------------------------------------------------------------------------


class Plain:
    """The loss over the first images of the training part, as trained on, and its gradient, in float64."""

    def __init__(self, prepared: Path, weights: Path, samples: int) -> None:
        loaded = data(RUN, prepared)
        self.model = exact(RUN, prepared, weights)
        self.parameters = list(self.model.parameters())
        self.inputs, self.labels = pixels(loaded.train.images[:samples], loaded), loaded.train.labels[:samples]

    def at(self, epsilon: list[Tensor]) -> tuple[float, list[Tensor]]:
        with torch.no_grad():
            torch._foreach_add_(self.parameters, epsilon)
        loss = functional.cross_entropy(self.model(self.inputs), self.labels)
        gradient = list(torch.autograd.grad(loss, self.parameters))
        with torch.no_grad():
            torch._foreach_sub_(self.parameters, epsilon)
        return loss.item(), gradient


def length(tensors: list[Tensor]) -> float:
    return torch.cat([tensor.flatten() for tensor in tensors]).norm().item()


@pytest.fixture(scope="session")
def plain(prepared: Path, trained: Path) -> dict[str, Any]:
    """The sharpness measures by their definition."""
    objective = Plain(prepared, trained / "model.safetensors", SHARPNESS.samples)
    zero = [torch.zeros_like(w) for w in objective.parameters]
    loss, gradient = objective.at(zero)
    norm = length(gradient)
    epsilon, rises = zero, []
    for step in (0.1, 0.05, 0.05):
        epsilon = [e + step * g / length(gradient) for e, g in zip(epsilon, gradient, strict=True)]
        outside = max(1.0, length(epsilon) / 0.1)
        epsilon = [e / outside for e in epsilon]
        value, gradient = objective.at(epsilon)
        rises.append(value - loss)
    return {"loss": loss, "norm": norm, "rises": rises}


def test_the_loss_is_the_training_loss_with_its_noisy_labels(sharpness: dict[str, Any], plain: dict[str, Any]) -> None:
    assert sharpness["sharpness_loss"] == pytest.approx(plain["loss"], rel=1e-6)


def test_the_gradient_norm_is_that_of_the_samples(sharpness: dict[str, Any], plain: dict[str, Any]) -> None:
    assert sharpness["gradient_norm"] == pytest.approx(plain["norm"], rel=1e-5)
    assert sharpness["sharpness_first_order"] == pytest.approx(0.1 * plain["norm"], rel=1e-5)


def test_one_step_is_the_rise_at_sams_own_point(sharpness: dict[str, Any], plain: dict[str, Any]) -> None:
    assert sharpness["sharpness_one_step"] == pytest.approx(plain["rises"][0], rel=1e-4)


def test_n_step_is_the_largest_rise_on_the_way(sharpness: dict[str, Any], plain: dict[str, Any]) -> None:
    assert sharpness["sharpness_n_step"] == pytest.approx(max(plain["rises"]), rel=1e-4)
    assert sharpness["sharpness_n_step"] >= sharpness["sharpness_one_step"] > 0


def test_the_settings_of_a_sharpness_are_beside_it(sharpness: dict[str, Any]) -> None:
    assert (sharpness["sharpness_rho"], sharpness["sharpness_steps"]) == (0.1, 3)


def test_more_samples_than_there_are_means_all_of_them(
    prepared: Path, trained: Path, tmp_path: Path, sharpness: dict[str, Any]
) -> None:
    everything = sharpness_of(RUN, prepared, trained, tmp_path, SharpnessSpec(rho=0.1, steps=1, samples=10_000))
    objective = Plain(prepared, trained / "model.safetensors", IMAGES)
    loss, _ = objective.at([torch.zeros_like(w) for w in objective.parameters])
    assert everything["sharpness_loss"] == pytest.approx(loss, rel=1e-6)
    assert everything["sharpness_loss"] != sharpness["sharpness_loss"]


def test_measuring_changes_no_file_of_the_run(prepared: Path, trained: Path, tmp_path: Path) -> None:
    sharpness_of(RUN, prepared, trained, tmp_path, SharpnessSpec(rho=0.1, steps=1, samples=10))
    verify(trained, "record.json")
